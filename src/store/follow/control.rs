//! Following the controller's own keys: readings and changes of leader keys, lanes and releases out, with their values.
//!
//! Keys below the control prefix that are none of ours are left out. It never judges what it tells.

use super::{
    Reread,
    follower::{Follower, Reading, Telling},
};
use crate::{
    retry::RetryLimits,
    store::{
        KeyChange, KeyValue, Scope, Store,
        control::{ControlKey, ControlKeys},
        txn::Revision,
    },
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What following the control keys tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// All of them, at one revision. The first thing said; said again when the watch could not be resumed.
    Snapshot {
        /// The revision.
        revision: Revision,
        /// Every key, when it was last written, and its value.
        keys: Vec<(ControlKey, Revision, Vec<u8>)>,
        /// Whether the store has lost what was told before: nothing of it holds any more.
        begins_anew: bool,
    },
    /// What changed since, revision by revision. A change may be told again after the watch was resumed.
    Changed {
        /// Everything up to this revision, inclusive, has now been told.
        revision: Revision,
        /// Which key was written or deleted, when, and its value; `None` when it was deleted. Empty when only time went by.
        changes: Vec<(ControlKey, Revision, Option<Vec<u8>>)>,
    },
    /// The store cannot be followed for now; said once for each outage.
    Disconnected,
    /// The watch goes on where it was; said once after each `Disconnected`, unless a `Snapshot` is said instead.
    Reconnected,
}

/// Follows the control keys of `scope` until `stop`, or until nobody receives any more.
///
/// `scope` is one of those that `keys` gives: everyone's, or a single key. When the receiver does not keep up, this waits, and
/// etcd keeps what is to come: nothing is lost. Dropping it half-way is safe.
pub async fn follow_control<S: Store>(
    store: Arc<S>,
    keys: ControlKeys,
    scope: Scope,
    events: mpsc::Sender<ControlEvent>,
    reread: Reread,
    limits: RetryLimits,
    stop: CancellationToken,
) {
    let mut follower = Follower::new(store, scope, Control { keys }, events, reread, limits);
    stop.run_until_cancelled(follower.run()).await;
}

struct Control {
    keys: ControlKeys,
}

impl Telling for Control {
    type Event = ControlEvent;
    type Whole = Vec<(ControlKey, Revision, Vec<u8>)>;

    fn gather(&self, whole: &mut Self::Whole, entry: KeyValue) {
        let KeyValue { key, mod_revision, value } = entry;
        whole.extend(self.keys.read(&key).map(|key| (key, mod_revision, value)));
    }

    fn snapshot(&self, reading: Reading, whole: Self::Whole) -> ControlEvent {
        let Reading { store: _, revision, begins_anew } = reading;
        ControlEvent::Snapshot { revision, keys: whole, begins_anew }
    }

    fn changed(&self, revision: Revision, changes: Vec<KeyChange>) -> ControlEvent {
        let change = |change| {
            let KeyChange { key, revision, value } = change;
            Some((self.keys.read(&key)?, revision, value))
        };
        ControlEvent::Changed { revision, changes: changes.into_iter().filter_map(change).collect() }
    }

    fn disconnected(&self) -> ControlEvent {
        ControlEvent::Disconnected
    }

    fn reconnected(&self) -> ControlEvent {
        ControlEvent::Reconnected
    }
}
