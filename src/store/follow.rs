//! Following the store: a data plane in, snapshots and changes of documents out, in the order of their revisions.
//!
//! Values are inspected here and dropped. How a scope is followed is the follower's business, which is the same for the
//! controller's own keys. It never gives up and never writes.

pub mod control;
mod follower;
pub mod list;
pub mod planes;
#[cfg(test)]
mod tests;

use super::{KeyChange, KeyValue, Scope, Store, StoreId, txn::Revision};
use crate::{
    apisix::{
        plugins,
        stored::{Inspected, inspect},
    },
    model::places::{Plane, WorkId},
    retry::RetryLimits,
};
use follower::{Follower, Reading, Telling};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// What following a data plane tells the reconcile loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneEvent {
    /// The data plane.
    pub plane: Plane,
    /// What is told of it.
    pub event: StoreEvent,
}

/// What following the store tells of one data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Everything that matters below the prefix, at one revision. The first thing said; said again when the watch could not
    /// be resumed.
    Snapshot(Snapshot),
    /// What changed since, revision by revision. A change may be told again after the watch was resumed.
    Changed {
        /// Everything up to this revision, inclusive, has now been told.
        revision: Revision,
        /// The changes; empty when only time went by.
        events: Vec<KeyEvent>,
    },
    /// The store cannot be followed for now; said once for each outage.
    Disconnected,
    /// The watch goes on where it was; said once after each `Disconnected`, unless a `Snapshot` is said instead.
    Reconnected,
}

/// Everything that matters below the prefix, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The store that was read.
    pub store: StoreId,
    /// The revision.
    pub revision: Revision,
    /// Whether the store has lost what was told before (it was wiped, or restored from a backup): it is another one, or its
    /// revision is below what was told. Nothing that was known holds any more.
    pub begins_anew: bool,
    /// Every document in our directories, whoever wrote it, with the revision of its last change.
    pub documents: Vec<(WorkId, Revision, Inspected)>,
    /// Whether `{prefix}/plugins` lists the stream plugin `traffic-split`; `None` if there is no such key.
    pub traffic_split: Option<bool>,
}

/// One change below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// Of a document.
    Document {
        /// Which.
        id: WorkId,
        /// When.
        revision: Revision,
        /// What it is now; `None` when it was deleted.
        stored: Option<Inspected>,
    },
    /// Of `{prefix}/plugins`: whether it lists the stream plugin `traffic-split`; `None` when it was deleted.
    TrafficSplit(Option<bool>),
}

/// Asks a follower to read everything anew: for whoever has reason to doubt what it told.
#[derive(Clone, Debug, Default)]
pub struct Reread(Arc<Notify>);

impl Reread {
    /// Asks. The answer is a snapshot; asking again before it comes changes nothing. While the store cannot be followed, the
    /// wish is kept.
    pub fn ask(&self) {
        self.0.notify_one();
    }

    /// Whether somebody has asked since the last time.
    #[cfg(test)]
    pub(crate) fn was_asked(&self) -> bool {
        futures::FutureExt::now_or_never(self.0.notified()).is_some()
    }
}

/// Follows everything below the prefix of a data plane until `stop`, or until nobody receives any more.
///
/// When the receiver does not keep up, this waits, and etcd keeps what is to come: nothing is lost.
pub async fn follow<S: Store>(
    store: Arc<S>,
    plane: Plane,
    events: mpsc::Sender<PlaneEvent>,
    reread: Reread,
    limits: RetryLimits,
    stop: CancellationToken,
) {
    let scope = Scope::Below(plane.prefix().into());
    let mut follower = Follower::new(store, scope, Documents { plane }, events, reread, limits);
    // Dropping a read or a watch half-way is safe, so the token may cut in anywhere.
    stop.run_until_cancelled(follower.run()).await;
}

struct Documents {
    plane: Plane,
}

impl Documents {
    fn told(&self, event: StoreEvent) -> PlaneEvent {
        PlaneEvent { plane: self.plane, event }
    }
}

impl Telling for Documents {
    type Event = PlaneEvent;
    type Whole = Snapshot;

    fn gather(&self, whole: &mut Snapshot, entry: KeyValue) {
        let KeyValue { key, mod_revision, value } = entry;
        match key_event(self.plane, &KeyChange { key, revision: mod_revision, value: Some(value) }) {
            Some(KeyEvent::Document { id, revision, stored: Some(stored) }) => {
                whole.documents.push((id, revision, stored));
            }
            Some(KeyEvent::TrafficSplit(listed)) => whole.traffic_split = listed,
            Some(KeyEvent::Document { stored: None, .. }) | None => {}
        }
    }

    fn snapshot(&self, reading: Reading, whole: Snapshot) -> PlaneEvent {
        let Reading { store, revision, begins_anew } = reading;
        self.told(StoreEvent::Snapshot(Snapshot { store, revision, begins_anew, ..whole }))
    }

    fn changed(&self, revision: Revision, changes: Vec<KeyChange>) -> PlaneEvent {
        let events = changes.iter().filter_map(|change| key_event(self.plane, change)).collect();
        self.told(StoreEvent::Changed { revision, events })
    }

    fn disconnected(&self) -> PlaneEvent {
        self.told(StoreEvent::Disconnected)
    }

    fn reconnected(&self) -> PlaneEvent {
        self.told(StoreEvent::Reconnected)
    }
}

/// What a change means to us; `None` for keys that do not matter, those that are no text among them.
fn key_event(plane: Plane, change: &KeyChange) -> Option<KeyEvent> {
    let key = std::str::from_utf8(&change.key).ok()?;
    if key.strip_prefix(plane.prefix()) == Some("/plugins") {
        return Some(KeyEvent::TrafficSplit(change.value.as_deref().map(plugins::lists_stream_traffic_split)));
    }
    let id = WorkId::from_key(plane, key)?;
    let stored = change.value.as_deref().map(|value| inspect(&id, key, value));
    Some(KeyEvent::Document { id, revision: change.revision, stored })
}
