//! What is known of the leader key: events of its follower and answers to claims in, who holds it out.
//!
//! Later revisions win, whoever tells them; an answer to a claim is as fresh as can be.

use crate::store::{
    control::{ControlKey, Purpose},
    follow::control::ControlEvent,
    txn::Revision,
};
use std::{future::pending, sync::Arc};
use tokio::sync::mpsc;

/// The leader key, as far as known.
pub(super) struct LeaderKey {
    events: mpsc::Receiver<ControlEvent>,
    seen: Option<Seen>,
}

/// The key at one revision.
struct Seen {
    at: Revision,
    holder: Option<Holder>,
}

/// Who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    /// When the key was last written: for one that nobody meddled with, when it was created.
    pub(super) written: Revision,
    /// The name in it.
    pub(super) name: Arc<str>,
}

/// What an event was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The key, which may or may not have changed.
    Key,
    /// The store: it was wiped, or restored from a backup. The key may look as before, but what was written since is gone.
    StoreReplaced,
}

impl LeaderKey {
    /// Nothing is known yet; `events` are its follower's.
    pub(super) fn new(events: mpsc::Receiver<ControlEvent>) -> Self {
        Self { events, seen: None }
    }

    /// Whether it is known that nobody holds it.
    pub(super) fn vacant(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.holder.is_none())
    }

    /// Who holds it, as far as known.
    pub(super) fn holder(&self) -> Option<&Holder> {
        self.seen.as_ref()?.holder.as_ref()
    }

    /// Takes in what the answer to a claim says. Nothing may have been heard since the claim was sent.
    pub(super) fn answered(&mut self, at: Revision, written: Revision, name: &[u8]) {
        self.seen = Some(Seen { at, holder: Some(Holder::new(written, name)) });
    }

    /// Waits for one event of the follower and takes it in. Dropping it half-way loses nothing.
    pub(super) async fn heard(&mut self) -> Heard {
        match self.events.recv().await {
            Some(event) => self.take(event),
            // The follower ends only with the campaign.
            None => pending().await,
        }
    }

    fn take(&mut self, event: ControlEvent) -> Heard {
        match event {
            ControlEvent::Snapshot { revision, keys, begins_anew } => {
                // One that was read before a claim was answered knows less than the answer.
                if begins_anew || self.seen.as_ref().is_none_or(|seen| seen.at <= revision) {
                    let holder = keys
                        .into_iter()
                        .find(|(key, ..)| is_leader(key))
                        .map(|(_, written, name)| Holder::new(written, &name));
                    self.seen = Some(Seen { at: revision, holder });
                }
                if begins_anew { Heard::StoreReplaced } else { Heard::Key }
            }
            ControlEvent::Changed { revision: _, changes } => {
                for (key, revision, name) in changes {
                    if let Some(seen) = self.seen.as_mut().filter(|seen| is_leader(&key) && revision > seen.at) {
                        *seen = Seen { at: revision, holder: name.map(|name| Holder::new(revision, &name)) };
                    }
                }
                Heard::Key
            }
            // What was known is as good as before; a claim or a renewal finds out.
            ControlEvent::Disconnected | ControlEvent::Reconnected => Heard::Key,
        }
    }
}

impl Holder {
    fn new(written: Revision, name: &[u8]) -> Self {
        Self { written, name: String::from_utf8_lossy(name).into() }
    }
}

fn is_leader(key: &ControlKey) -> bool {
    match key.purpose {
        Purpose::Leader => true,
        Purpose::Lane(_) | Purpose::Release(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LeaderKey {
        LeaderKey::new(mpsc::channel(1).1)
    }

    fn leader() -> ControlKey {
        ControlKey { instance: "us".into(), purpose: Purpose::Leader }
    }

    fn snapshot(at: i64, holder: Option<(i64, &str)>, begins_anew: bool) -> ControlEvent {
        let keys = holder.map(|(written, name)| (leader(), Revision(written), name.into()));
        ControlEvent::Snapshot { revision: Revision(at), keys: keys.into_iter().collect(), begins_anew }
    }

    fn change(at: i64, name: Option<&str>) -> ControlEvent {
        let changes = vec![(leader(), Revision(at), name.map(Into::into))];
        ControlEvent::Changed { revision: Revision(at), changes }
    }

    fn written(key: &LeaderKey) -> Option<i64> {
        key.holder().map(|holder| holder.written.0)
    }

    #[test]
    fn nothing_is_vacant_before_it_was_read() {
        let mut key = key();
        assert!(!key.vacant());
        key.take(change(3, None));
        assert!(!key.vacant());
        key.take(snapshot(4, None, false));
        assert!(key.vacant());
    }

    #[test]
    fn what_was_read_before_an_answer_does_not_undo_it() {
        let mut key = key();
        key.take(snapshot(4, None, false));
        key.answered(Revision(9), Revision(9), b"us");
        key.take(snapshot(8, None, false));
        key.take(change(7, Some("them")));
        key.take(change(8, None));
        key.take(change(9, Some("us")));
        assert_eq!(written(&key), Some(9));
        key.take(change(10, None));
        assert!(key.vacant());
    }

    #[test]
    fn a_key_written_again_has_another_revision() {
        let mut key = key();
        key.answered(Revision(9), Revision(9), b"us");
        key.take(ControlEvent::Changed {
            revision: Revision(11),
            changes: vec![
                (leader(), Revision(10), None),
                (ControlKey { instance: "us".into(), purpose: Purpose::Lane(1) }, Revision(11), None),
                (leader(), Revision(11), Some(b"them".to_vec())),
            ],
        });
        assert_eq!(key.holder(), Some(&Holder { written: Revision(11), name: "them".into() }));
    }

    #[test]
    fn a_store_that_begins_anew_is_believed_whatever_was_known() {
        let mut key = key();
        key.answered(Revision(90), Revision(90), b"us");
        assert_eq!(key.take(snapshot(4, Some((3, "them")), true)), Heard::StoreReplaced);
        assert_eq!(written(&key), Some(3));
    }
}
