//! Delays between tries: growing, bounded, scattered, without an end. The only file that knows the crate `backoff`.

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use std::{fmt, time::Duration};

/// How delays grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLimits {
    /// The first delay.
    pub first: Duration,
    /// The longest delay.
    pub longest: Duration,
    /// Whether delays are scattered, so that those who failed together do not come back together.
    pub scattered: bool,
}

impl RetryLimits {
    /// From `first` to `longest`, scattered.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, scattered: true }
    }

    /// From `first` to `longest` without any chance, for a run that must go the same way again.
    #[must_use]
    pub const fn exactly(first: Duration, longest: Duration) -> Self {
        Self { first, longest, scattered: false }
    }

    /// For talking to etcd: 100 ms is longer than a leader's hiccup and shorter than anybody's patience; after 5 s, one try
    /// every 5 s costs nobody anything.
    pub const STORE: Self = Self::new(Duration::from_millis(100), Duration::from_secs(5));

    /// For reading from an API server. A restarted one is most often back at once; a user who repairs permissions or the
    /// network waits at most 15 s to see it, and seven kinds asking that often are no load on one that is down.
    pub const CLUSTER: Self = Self::new(Duration::from_millis(200), Duration::from_secs(15));

    /// For writing one object's status: nobody waits for it as for documents, and there may be many of them.
    pub const STATUS: Self = Self::new(Duration::from_millis(200), Duration::from_mins(1));
}

/// The delays of one thing that is tried again and again.
pub struct Retry {
    backoff: ExponentialBackoff,
    n_tries: u32,
    longest: Duration,
}

impl Retry {
    /// Nothing tried yet.
    #[must_use]
    pub fn new(limits: RetryLimits) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(limits.first)
            .with_max_interval(limits.longest)
            .with_multiplier(2.0)
            .with_randomization_factor(if limits.scattered { 0.3 } else { 0.0 })
            // Tries have no end; only their distance is bounded.
            .with_max_elapsed_time(None)
            .build();
        Self { backoff, n_tries: 0, longest: limits.longest }
    }

    /// How long to wait after one more failure. Up to 30 % more or less than the plain doubling, so that replicas that
    /// failed together do not come back together.
    pub fn next_delay(&mut self) -> Duration {
        self.n_tries = self.n_tries.saturating_add(1);
        self.backoff.next_backoff().unwrap_or(self.longest)
    }

    /// It worked: the next failure waits the first delay again.
    pub fn reset(&mut self) {
        self.n_tries = 0;
        self.backoff.reset();
    }

    /// How often it has failed.
    #[must_use]
    pub fn n_tries(&self) -> u32 {
        self.n_tries
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry").field("n_tries", &self.n_tries).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_never_end() {
        let limits = RetryLimits::new(Duration::from_millis(10), Duration::from_millis(500));
        let mut retry = Retry::new(limits);
        let delays: Vec<_> = (0..100).map(|_| retry.next_delay()).collect();
        assert!(delays[0] <= Duration::from_millis(14), "{:?}", delays[0]);
        assert!(delays[99] >= Duration::from_millis(350), "{:?}", delays[99]);
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(651)), "{delays:?}");
        assert_eq!(retry.n_tries(), 100);
        retry.reset();
        assert_eq!(retry.n_tries(), 0);
        assert!(retry.next_delay() <= Duration::from_millis(14));
    }
}
