//! Waiting for a state, under a deadline.
//!
//! In: what is awaited and how to look. Out: what was found, or an error that says what was seen last. Never waits for a
//! fixed time to be right: the pause between two looks only spares the servers.

use std::time::Duration;

/// Enough for anything a healthy machine does in these tests, with other work beside them; small enough to wait for when it
/// fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

const BETWEEN_LOOKS: Duration = Duration::from_millis(15);

/// Looks again and again until `look` returns `Ok`; its error says what was seen instead.
///
/// `what` completes "waited for …". The error after `deadline` has `what` and the last look's error. Dropping it half-way
/// drops the look in progress and nothing else.
pub(crate) async fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut last = None;
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    match tokio::time::timeout(deadline, looking).await {
        Ok(found) => Ok(found),
        Err(_elapsed) => {
            let last = last.unwrap_or_else(|| anyhow::anyhow!("the first look never came back"));
            Err(last.context(format!("waited {deadline:?} for {what}; seen last")))
        }
    }
}
