//! How long to wait before something that failed is tried again: longer each time, never longer than a bound, without end.
//!
//! The only user of the `backoff` crate in this room; it waits for nothing itself.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use std::{error::Error, time::Duration};

/// The first delay: a restarted API server or a lost connection is most often back at once.
const DELAY_FIRST: Duration = Duration::from_millis(200);

/// The longest delay, jitter excluded. A user who repairs permissions or the network waits at most this long to see it;
/// seven kinds asking every 15 s are no load on an API server that is down.
const DELAY_MAX: Duration = Duration::from_secs(15);

/// Delays between tries, with jitter so that kinds that failed together do not come back together.
#[derive(Debug)]
pub(super) struct Retry {
    backoff: ExponentialBackoff,
}

impl Retry {
    /// Delays from the beginning.
    pub(super) fn new() -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(DELAY_FIRST)
            .with_max_interval(DELAY_MAX)
            .with_max_elapsed_time(None)
            .build();
        Self { backoff }
    }

    /// It worked: the next failure waits the first delay again.
    pub(super) fn reset(&mut self) {
        self.backoff.reset();
    }

    /// It failed: how long to wait now.
    pub(super) fn next_delay(&mut self) -> Duration {
        self.backoff.next_backoff().unwrap_or(DELAY_MAX)
    }
}

/// Says each new failure once, however often it repeats.
#[derive(Debug, Default)]
pub(super) struct Failure {
    said: Option<String>,
}

impl Failure {
    /// The whole chain of `error`, if that is not what was said last.
    pub(super) fn news(&mut self, error: &dyn Error) -> Option<&str> {
        let text = chain(error);
        if self.said.as_ref() == Some(&text) {
            return None;
        }
        Some(self.said.insert(text))
    }

    /// It works again: whether a failure had been said.
    pub(super) fn over(&mut self) -> bool {
        self.said.take().is_some()
    }
}

/// What an error and its sources say, outermost first. A source whose text its parent repeats is left out: kube's errors
/// print their sources themselves.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_never_end() {
        let mut retry = Retry::new();
        // Jitter is half of the delay to either side.
        assert!(retry.next_delay() <= DELAY_FIRST * 3 / 2 + Duration::from_millis(1));
        let late = (0..100).map(|_| retry.next_delay()).last().unwrap();
        assert!(late >= DELAY_MAX / 3 && late <= DELAY_MAX * 2, "{late:?}");
        retry.reset();
        assert!(retry.next_delay() <= DELAY_FIRST * 3 / 2 + Duration::from_millis(1));
    }

    #[derive(Debug, thiserror::Error)]
    #[error("listing failed")]
    struct Listing(#[source] std::io::Error);

    #[test]
    fn a_failure_is_said_once_until_it_changes_or_ends() {
        let mut failure = Failure::default();
        let refused = || Listing(std::io::Error::other("refused"));
        assert_eq!(failure.news(&refused()), Some("listing failed: refused"));
        assert_eq!(failure.news(&refused()), None);
        assert_eq!(failure.news(&Listing(std::io::Error::other("reset"))), Some("listing failed: reset"));
        assert!(failure.over());
        assert!(!failure.over());
        assert!(failure.news(&refused()).is_some());
    }
}
