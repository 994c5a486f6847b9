//! Overlaps: stream_routes of somebody else that came later than slots of ours and take connections of the same ports. What
//! overlaps comes in; each is told of once, in the log and as an Event. Nothing is done about it: ours stay, and others'
//! documents are not ours to touch.

use super::State;
use crate::{
    apisix::ids::{SlotPlace, is_our_shape},
    model::{names::ObjectRef, places::WorkId},
    status::{
        events::{Notice, Severity},
        queue::StatusSink,
    },
};
use std::collections::BTreeSet;

/// How many are told of one by one when many come at once, as by a script.
const TOLD_MAX: usize = 10;

/// What was told of overlaps.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    /// Up to which change of the mirror they were looked at.
    n_changes: u64,
    /// Those that were told of and still are.
    told: BTreeSet<Overlap>,
}

/// A stream_route of somebody else, and the place of the slot it is beside; `None`: it may be beside every slot.
type Overlap = (WorkId, Option<SlotPlace>);

impl<K: StatusSink> State<K> {
    /// Tells of overlaps that have come since the last time.
    pub(super) fn tell_overlaps(&mut self) {
        let n_changes = self.mirror.n_overlap_changes();
        if std::mem::replace(&mut self.overlaps.n_changes, n_changes) == n_changes {
            return;
        }
        // At an id of ours it is an edit, which drift is about.
        let others = self.mirror.overlaps().filter(|(id, _)| !is_our_shape(&id.id));
        let found: BTreeSet<Overlap> = others.map(|(id, place)| (id.clone(), place)).collect();
        let told = std::mem::replace(&mut self.overlaps.told, found.clone());
        for (id, place) in told.difference(&found) {
            let key = id.key();
            tracing::info!(
                key,
                port = place.map(|place| place.port().get()),
                "takes connections of slots of ours no longer"
            );
        }
        let fresh: Vec<&Overlap> = found.difference(&told).collect();
        for (id, place) in fresh.iter().take(TOLD_MAX) {
            self.tell_overlap(id, *place);
        }
        if let Some(n_more @ 1..) = fresh.len().checked_sub(TOLD_MAX) {
            tracing::warn!(n_more, "so many more stream_routes of somebody else take connections of slots of ours");
        }
    }

    fn tell_overlap(&mut self, id: &WorkId, place: Option<SlotPlace>) {
        let key = id.key();
        tracing::warn!(
            key,
            port = place.map(|place| place.port().get()),
            "a stream_route of somebody else takes connections of a slot of ours too; both are left as they are"
        );
        let (about, what): (Vec<ObjectRef>, String) = match place {
            Some(place) => (self.desired.users(&place.id(id.plane)), format!("connections of port {}", place.port())),
            None => (self.desired.gateway_classes(), "connections of every port".to_owned()),
        };
        let note = format!(
            "{key} in etcd, which the controller did not write, takes {what} too. Both are left as they are, and a connection may \
             be served by either: delete it, or give it a port of its own"
        );
        for about in about {
            let notice = Notice { about, reason: "Overlapped", note: note.clone(), severity: Severity::Warning };
            self.report.announce(notice);
        }
    }
}
