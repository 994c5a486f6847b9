//! The only reader of time: everything else is given it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Now, for measuring how long things take.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub fn now() -> Instant {
    // SUBTLE: the runtime's clock, so that a test can let hours pass; outside a paused runtime it is the machine's.
    tokio::time::Instant::now().into_std()
}

/// Now in whole seconds since the Unix epoch, for `lastTransitionTime`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that may")]
pub fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
