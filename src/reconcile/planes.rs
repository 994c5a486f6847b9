//! Which data planes are followed: those whose documents are wanted, and those on which documents of this instance may be left.
//! What is known of data planes comes in; ids that may need work come out, once their data plane has been read.
//!
//! A data plane that is left is emptied, and one that has moved to another prefix only once its documents are there.

use super::State;
use crate::{
    model::places::{Directory, Plane, WorkId},
    status::queue::StatusSink,
    store::checkpoint::Checkpoint,
    translate::desired::Wanted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

impl<K: StatusSink> State<K> {
    /// Follows the data planes there are. To be called when these may have changed.
    pub(super) fn follow_planes(&mut self) {
        let planes: BTreeSet<Plane> = self.desired.planes().chain(self.recorded.keys().copied()).collect();
        let before: BTreeSet<Plane> = self.mirror.planes().collect();
        if planes == before {
            return;
        }
        self.mirror.follow(&planes);
        self.following_since.retain(|plane, _| planes.contains(plane));
        for plane in planes.difference(&before) {
            tracing::info!(%plane, "following a data plane");
        }
        for plane in before.difference(&planes) {
            tracing::info!(%plane, "following a data plane no longer");
        }
        let wanted: Vec<Plane> = self.desired.planes().filter(|plane| !before.contains(plane)).collect();
        for plane in wanted {
            for directory in Directory::ALL {
                self.work.add(WorkId::placeholder(plane, directory));
            }
        }
        for id in std::mem::take(&mut self.unread) {
            self.work.add(id);
        }
        self.outputs.planes.send_replace(planes);
        self.claim();
    }

    /// Takes in which data planes this instance has recorded in etcd, with the name of each: on these there may be documents of ours,
    /// also where nobody names them any more.
    pub(super) fn recorded(&mut self) {
        let own = self.leading().and_then(|leading| leading.record.clone());
        let record = own.or_else(|| self.control.newest().ok().flatten());
        let Some(Checkpoint { prefixes, .. }) = record else { return };
        let recorded: BTreeMap<Plane, Arc<str>> =
            prefixes.into_iter().map(|(prefix, name)| (Plane::of(&prefix), name)).collect();
        if recorded != self.recorded {
            self.recorded.clone_from(&recorded);
            let affected = self.desired.set_recorded(recorded);
            self.affected(affected, None);
            self.follow_planes();
        }
    }

    /// What the next record says of prefixes: every data plane whose documents are wanted, and every other one that holds
    /// documents of this instance still, or may.
    pub(super) fn prefixes(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let wanted: BTreeMap<Plane, Arc<str>> = self.desired.named_planes().collect();
        let holds = |plane: Plane| self.mirror.of(plane).is_none_or(|mirror| !mirror.whole() || mirror.holds_ours());
        let carried = self.leading().and_then(|leading| leading.record.as_ref()).map(|record| &record.prefixes);
        let carried = carried.into_iter().flatten().map(|(prefix, name)| (Plane::of(prefix), name));
        let left = carried.filter(|(plane, _)| !wanted.contains_key(plane) && holds(*plane));
        let left: Vec<_> = left.map(|(plane, name)| (plane, Arc::clone(name))).collect();
        wanted.into_iter().chain(left).map(|(plane, name)| (plane.prefix().into(), name)).collect()
    }

    /// A data plane has been read for the first time.
    pub(super) fn plane_read(&mut self, plane: Plane, now: Instant) {
        let (due, left) = std::mem::take(&mut self.unread).into_iter().partition(|id| id.plane == plane);
        self.unread = left;
        let due: BTreeSet<WorkId> = due;
        for id in due {
            self.work.add(id);
        }
        if self.leading().is_some() {
            // As when a term begins, which did not know of this one.
            self.look_at_unsealed();
            self.settle_changes(now);
            self.hold_what_the_start_would_stop(plane, now);
            self.audit_soon(now);
        }
    }

    /// Whether `id` has to wait: its data plane has not been read yet, or has moved and is not served elsewhere yet.
    pub(super) fn waits_for_its_plane(&mut self, id: &WorkId) -> bool {
        if self.mirror.of(id.plane).is_none() {
            // Nobody follows it any more: there is nothing to do about it.
            self.settle(id, None);
            return true;
        }
        if !self.mirror.whole(id.plane) {
            self.unread.insert(id.clone());
            return true;
        }
        if self.mirror.stored(id).is_some() && self.is_moving(id.plane) && self.wanted(id) == Wanted::Absent {
            self.leaving.insert(id.clone());
            return true;
        }
        false
    }

    /// Looks again at what waits to be deleted from a data plane that has moved, when that has come to be served.
    pub(super) fn leave_planes(&mut self) {
        let planes: BTreeSet<Plane> = self.leaving.iter().map(|id| id.plane).collect();
        for plane in planes.into_iter().filter(|plane| !self.is_moving(*plane)).collect::<Vec<_>>() {
            tracing::info!(%plane, "its data plane is served elsewhere; emptying it");
            let (due, left) = std::mem::take(&mut self.leaving).into_iter().partition(|id| id.plane == plane);
            self.leaving = left;
            for id in due {
                self.work.add(id);
            }
        }
    }

    /// Whether a data plane has moved, and not every document that is wanted in its new place is there, as far as that can be.
    fn is_moving(&self, plane: Plane) -> bool {
        let Some(to) = self.desired.moved_to(plane) else { return false };
        !self.mirror.whole(to) || self.work.any_young_on(to) || self.unread.iter().any(|id| id.plane == to)
    }
}
