//! Which data planes are followed: those whose documents are wanted, and those on which documents of this instance may be left.
//! What is known of data planes comes in; ids that may need work come out, once their data plane has been read.
//!
//! A data plane that is left is emptied, and one that has moved to another prefix only once its documents are there.

use super::{Outage, State};
use crate::{
    model::places::{Directory, Plane, WorkId},
    plan::{order::TxnNumber, pack::Packet},
    status::queue::StatusSink,
    store::{
        checkpoint::Checkpoint,
        txn::{CommitError, Ground},
    },
    translate::desired::Wanted,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
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
        self.unreachable.retain(|plane| planes.contains(plane));
        self.resting.retain(|plane, _| planes.contains(plane));
        if let Some(leading) = self.leading_mut() {
            leading.audit.follow(&planes);
        }
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
        let planes = |record: &Checkpoint| -> BTreeMap<Plane, Arc<str>> {
            record.prefixes.iter().map(|(prefix, name)| (Plane::of(prefix), Arc::clone(name))).collect()
        };
        let own = self.leading().and_then(|leading| leading.record.as_ref()).map(planes);
        let newest = || self.control.newest().ok().flatten().as_ref().map(planes);
        let Some(recorded) = own.or_else(newest) else { return };
        if recorded != self.recorded {
            self.recorded.clone_from(&recorded);
            let affected = self.desired.set_recorded(recorded);
            self.affected(affected, None);
            self.follow_planes();
            self.remember_envelope();
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

    /// Whether `id` has to wait: its data plane has not been read yet or may not be written, or has moved and is not served elsewhere yet.
    pub(super) fn waits_for_its_plane(&mut self, id: &WorkId, now: Instant) -> bool {
        if self.mirror.of(id.plane).is_none() {
            // Nobody follows it any more: there is nothing to do about it.
            self.settle(id, None);
            return true;
        }
        if !self.mirror.whole(id.plane) {
            self.unread.insert(id.clone());
            return true;
        }
        if let Some(until) = self.resting.get(&id.plane).map(|outage| outage.until).filter(|until| *until > now) {
            self.work.wake_at(id.clone(), until);
            return true;
        }
        if self.mirror.stored(id).is_some() && self.is_moving(id.plane) && self.wanted(id) == Wanted::Absent {
            self.leaving.insert(id.clone());
            return true;
        }
        false
    }

    /// Whether a transaction was refused because its data plane may not be written, of which there are others: then that one rests, and the
    /// others go on. Of the one of the settings nobody can say more than that writing goes wrong.
    pub(super) fn rests_a_plane(&mut self, number: TxnNumber, error: &CommitError, now: Instant) -> bool {
        let forbidden = error.ground() == Some(Ground::Forbidden);
        let plane = self.work.plane_of(number).filter(|plane| forbidden && *plane != self.desired.default_plane());
        let Some(plane) = plane else { return false };
        let limits = self.settings.retry;
        let outage = self.resting.entry(plane).or_insert_with(|| Outage::begun(limits, now));
        if outage.said.insert("forbidden") {
            let reason: &dyn Error = error;
            tracing::error!(%plane, error = reason, "etcd does not let us write this data plane; the others go on, and it is tried again");
        }
        outage.goes_on(now);
        self.report.stop_waiting();
        true
    }

    /// A transaction was applied: whatever it wrote may be written.
    pub(super) fn planes_answered(&mut self, packet: &Packet) {
        if let Some(plane) = packet.writes.first().map(|write| write.id.plane) {
            self.resting.remove(&plane);
        }
    }

    /// Whether nobody knows when documents of a data plane can be written.
    pub(super) fn in_trouble(&self, plane: Plane) -> bool {
        self.resting.contains_key(&plane) || self.unreachable.contains(&plane) && !self.mirror.whole(plane)
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
        !self.mirror.whole(to) || self.work.any_unsettled_on(to)
    }
}
