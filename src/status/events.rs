//! Notices: what is said once of an object, because it happened, beside the statuses that say how things stand.
//!
//! Notices go in at any pace and never block; whoever carries them on ([`writer`], or a terminal) takes them out at its own.
//! They are a service, nothing rests on them: of too many that wait, the oldest are lost, and one that was said a moment ago
//! is not said again.

pub mod writer;

use crate::model::names::ObjectRef;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Notices that may wait. They are rare, and worth little once there are many.
pub const NOTICES_WAITING: usize = 64;

/// For how long a notice is not said again in the same words. Kubernetes keeps Events for an hour.
pub const QUIET: Duration = Duration::from_mins(10);

/// Notices that are remembered as said. With more than that, one may be said again too soon.
const NOTICES_REMEMBERED: usize = 256;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// To what.
    pub about: ObjectRef,
    /// In one word, in CamelCase, from a closed set; at most 128 letters.
    pub reason: &'static str,
    /// In a sentence. No secret belongs here: everybody who may read Events of the namespace reads it.
    pub note: String,
    /// Whether somebody should look.
    pub severity: Severity,
}

/// Whether somebody should look; `type` of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is good to know.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    /// As Events spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { about, reason, note, severity } = self;
        write!(f, "{about}: {} ({reason}): {note}", severity.as_str())
    }
}

/// A queue of notices. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct NoticeQueue {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    pushed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Notice>,
    /// What was said and when, oldest first.
    said: VecDeque<(Instant, Notice)>,
}

impl NoticeQueue {
    /// Adds a notice, unless it was said a moment ago; the oldest goes when too many wait.
    pub fn push(&self, notice: Notice, now: Instant) {
        let mut state = self.shared.state.lock();
        let over = |(at, _): &(Instant, Notice)| now.saturating_duration_since(*at) >= QUIET;
        while state.said.front().is_some_and(over) || state.said.len() >= NOTICES_REMEMBERED {
            state.said.pop_front();
        }
        if state.said.iter().any(|(_, said)| *said == notice) {
            return;
        }
        state.said.push_back((now, notice.clone()));
        if state.waiting.len() >= NOTICES_WAITING {
            state.waiting.pop_front();
        }
        state.waiting.push_back(notice);
        drop(state);
        self.shared.pushed.notify_one();
    }

    /// How many wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.state.lock().waiting.len()
    }

    /// The notice that has waited longest, once there is one. Dropping the future half-way loses nothing.
    async fn next(&self) -> Notice {
        loop {
            let next = self.shared.state.lock().waiting.pop_front();
            match next {
                Some(notice) => return notice,
                None => self.shared.pushed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        model::names::{Kind, ObjectName},
    };
    use futures::FutureExt as _;

    fn notice(n: usize) -> Notice {
        Notice {
            about: ObjectRef::new(Kind::Gateway, ObjectName::new("ns", "edge")),
            reason: "Tested",
            note: format!("It happened {n} times."),
            severity: Severity::Warning,
        }
    }

    fn taken(queue: &NoticeQueue) -> Vec<Notice> {
        std::iter::from_fn(|| queue.next().now_or_never()).collect()
    }

    #[test]
    fn notices_come_out_in_order_and_say_what_happened() {
        let (queue, now) = (NoticeQueue::default(), clock::now());
        queue.push(notice(1), now);
        queue.push(notice(2), now);
        assert_eq!(queue.depth(), 2);
        let taken = taken(&queue);
        assert_eq!(taken, [notice(1), notice(2)]);
        assert_eq!(taken[0].to_string(), "Gateway ns/edge: Warning (Tested): It happened 1 times.");
    }

    #[test]
    fn of_too_many_the_newest_stay() {
        let (queue, now) = (NoticeQueue::default(), clock::now());
        for n in 0..NOTICES_WAITING {
            queue.push(notice(n), now);
        }
        assert_eq!(queue.depth(), NOTICES_WAITING);
        queue.push(notice(NOTICES_WAITING), now);
        let taken = taken(&queue);
        assert_eq!((taken.len(), &taken[0]), (NOTICES_WAITING, &notice(1)));
        assert_eq!(taken.last(), Some(&notice(NOTICES_WAITING)));
    }

    #[test]
    fn what_was_just_said_is_not_said_again_until_it_is_quiet() {
        let (queue, now) = (NoticeQueue::default(), clock::now());
        queue.push(notice(1), now);
        queue.push(notice(1), now + QUIET.saturating_sub(Duration::from_millis(1)));
        queue.push(notice(2), now + QUIET.saturating_sub(Duration::from_millis(1)));
        assert_eq!(taken(&queue), [notice(1), notice(2)]);
        queue.push(notice(1), now + QUIET);
        queue.push(notice(2), now + QUIET);
        assert_eq!(taken(&queue), [notice(1)]);
    }

    #[test]
    fn only_so_much_is_remembered() {
        let (queue, now) = (NoticeQueue::default(), clock::now());
        for n in 0..2 * NOTICES_REMEMBERED {
            queue.push(notice(n), now);
        }
        assert_eq!(queue.shared.state.lock().said.len(), NOTICES_REMEMBERED);
    }

    #[tokio::test]
    async fn a_waiting_taker_is_woken() {
        let queue = NoticeQueue::default();
        let taking = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        queue.push(notice(1), clock::now());
        assert_eq!(taking.await.unwrap(), notice(1));
    }
}
