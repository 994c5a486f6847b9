//! What to say of failures that repeat: each new one once, with everything it was caused by.

use std::error::Error;

/// How many failures are remembered: two ways of listing that fail by turns say two things by turns, and a third may come
/// between.
const SAID_MAX: usize = 4;

/// Says each new failure once, however often it repeats, also when several take turns.
#[derive(Debug, Default)]
pub(super) struct Failure {
    /// The latest last.
    said: Vec<String>,
}

impl Failure {
    /// The whole chain of `error`, if that was not said lately.
    pub(super) fn news(&mut self, error: &dyn Error) -> Option<&str> {
        let text = chain(error);
        if self.said.contains(&text) {
            return None;
        }
        if self.said.len() >= SAID_MAX {
            self.said.remove(0);
        }
        self.said.push(text);
        self.said.last().map(String::as_str)
    }

    /// It works again: whether a failure had been said.
    pub(super) fn over(&mut self) -> bool {
        !std::mem::take(&mut self.said).is_empty()
    }
}

/// What an error and its sources say, outermost first. A source whose text its parent repeats is left out: kube's errors
/// print their sources themselves.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
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
        assert_eq!(failure.news(&refused()), None);
        assert!(failure.over());
        assert!(!failure.over());
        assert!(failure.news(&refused()).is_some());
    }

    #[test]
    fn only_so_many_failures_are_remembered() {
        let mut failure = Failure::default();
        let failed = |number: usize| Listing(std::io::Error::other(number.to_string()));
        for number in 0..=SAID_MAX {
            assert!(failure.news(&failed(number)).is_some());
        }
        for number in 1..=SAID_MAX {
            assert_eq!(failure.news(&failed(number)), None, "{number}");
        }
        assert!(failure.news(&failed(0)).is_some());
    }
}
