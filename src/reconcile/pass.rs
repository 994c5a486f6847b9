//! One pass: the work set in, transactions out, until as many are in flight as may be.

use super::{
    State, Task,
    control::Claims,
    standing::{Hindrance, standing},
    term::Leading,
};
use crate::{
    leader::Again,
    model::{
        facts::DriftPolicy,
        places::{Directory, Plane, WorkId},
        verdicts::Standing,
    },
    plan::{
        DocumentWrite, Need,
        order::{self, Hold, Left, Next, Scene, TxnNumber},
        pack::{Packed, Packer, Packet},
        step::{Ours, Unsealed},
    },
    status::queue::StatusSink,
    store::{
        mirror::Stored,
        txn::{Action, write_bytes},
    },
    translate::desired::{Document, Wanted},
};
use std::time::Instant;

/// How many ids are looked at before the loop listens again: some ten milliseconds of work.
const IDS_PER_PASS: usize = 4_096;

/// What the order is decided over, at one moment.
struct View<'a, K> {
    state: &'a State<K>,
    now: Instant,
}

impl<K: StatusSink> Scene for View<'_, K> {
    fn instance(&self) -> &str {
        &self.state.settings.instance
    }

    fn unsealed(&self, plane: Plane) -> Unsealed {
        self.state.unsealed(plane)
    }

    fn drift_policy(&self, id: &WorkId) -> DriftPolicy {
        self.state.drift_policy(id)
    }

    fn overlap(&self, slot: &WorkId) -> Option<WorkId> {
        self.state.mirror.overlapping(slot).cloned()
    }

    fn wanted(&self, id: &WorkId) -> Wanted {
        self.state.wanted(id)
    }

    fn stored(&self, id: &WorkId) -> Option<Stored<'_>> {
        self.state.mirror.stored(id)
    }

    fn users(&self, id: &WorkId) -> Vec<WorkId> {
        self.state.mirror.users(id).cloned().collect()
    }

    fn hold(&self, id: &WorkId) -> Hold {
        self.state.work.hold_of(id)
    }

    fn due(&self, id: &WorkId) -> bool {
        self.state.work.due(id)
    }

    fn lingers_until(&self, id: &WorkId) -> Option<Instant> {
        if self.state.leading().is_none_or(|leading| !leading.audit.agreed(id.plane)) {
            // A stream_route that needs it may have come without our being told.
            return Some(self.now + self.state.settings.audit_grace);
        }
        let since = match self.state.following_since.get(&id.plane).copied() {
            // Who left while nobody told us may have left just now, and who came is being told.
            Some(following_since) => self.state.departures.at(id).max(Some(following_since))?,
            // Somebody may have put a stream_route that needs it, and nobody would have told us.
            None => self.now,
        };
        Some(since + self.state.settings.pool_linger).filter(|until| *until > self.now)
    }
}

impl<K: StatusSink> State<K> {
    /// Looks at ids that are due, hands transactions to `send`, and publishes statuses. Gives whether there is more to do
    /// at once.
    pub(super) fn pass(&mut self, now: Instant, mut send: impl FnMut(Task)) -> bool {
        self.work.wake(now);
        if !self.warm() {
            return false;
        }
        self.settle_changes(now);
        self.look_where_others_reach();
        self.expire_holds(now);
        self.leave_planes();
        self.take_over(now, &mut send);
        self.give_way(now);
        if self.leading().is_none() {
            return false;
        }
        self.tell_overlaps();
        self.audit(now, &mut send);
        self.settle_open(now, &mut send);
        if let Some((number, txn)) = self.tidy() {
            send(Task::Commit(number, txn));
        }
        let mut budget = IDS_PER_PASS;
        while budget > 0 && self.may_send(now) {
            let Some((number, packet)) = self.fill(now, &mut budget) else { break };
            // A free lane is what made it possible to send.
            let Some(envelope) = self.envelope(number) else { break };
            let txn = packet.txn(envelope);
            self.metrics.sent(txn.n_operations());
            let ids = packet.writes.iter().map(|write| &write.id);
            let changed_at = ids.filter_map(|id| self.changed_at.remove_entry(id)).collect();
            self.work.sent(number, packet, changed_at);
            send(Task::Commit(number, txn));
        }
        let more_statuses = self.publish();
        let said = !more_statuses && !self.report.waits();
        let idle = !self.work.any_due() && self.work.n_in_flight() == 0 && said;
        if idle && !self.told_idle {
            self.tell_idle();
        }
        self.told_idle = idle;
        more_statuses || (self.work.any_due() && self.may_send(now))
    }

    /// When there is something to do although nobody tells anything.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let Some(leading) = self.leading() else { return self.take_over_at() };
        let waits = self.work.any_due() || !leading.open.is_empty();
        let outage = self.outage.as_ref().map(|outage| outage.until).filter(|until| *until > now && waits);
        let stalled = self.gives_way_at();
        [self.work.next_wake(), outage, stalled, leading.audit.next(), self.holds.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }

    fn may_send(&self, now: Instant) -> bool {
        match &self.outage {
            None => self.leading().is_some_and(|leading| leading.lanes.n_free() > 0),
            Some(outage) => self.work.n_in_flight() == 0 && outage.until <= now,
        }
    }

    /// Settles what was not answered: one at a time while the store is silent, as with everything else.
    fn settle_open(&mut self, now: Instant, send: &mut impl FnMut(Task)) {
        loop {
            let due = self.outage.as_ref().is_none_or(|outage| outage.until <= now);
            let Some(leading) = self.leading() else { return };
            let alone = leading.in_lane.len() == leading.open.len();
            let Some(&number) = leading.open.first().filter(|_| due && (self.outage.is_none() || alone)) else {
                return;
            };
            let Some(txn) = self.settling(number) else { return };
            send(Task::Commit(number, txn));
        }
    }

    /// When a leader that could not write lets another one try, if it has work.
    fn gives_way_at(&self) -> Option<Instant> {
        let waits = |leading: &&Leading| !leading.open.is_empty() || !self.work.settled();
        let stalled_since = self.leading().filter(waits)?.stalled_since?;
        Some(stalled_since + self.settings.write_stall)
    }

    /// A leader that has work and cannot write lets another one try.
    fn give_way(&mut self, now: Instant) {
        if self.gives_way_at().is_some_and(|at| at <= now) {
            tracing::error!(after = ?self.settings.write_stall, "nothing could be written for too long; giving way");
            self.resign(Again::Later, now);
        }
    }

    /// Fills one transaction with what is due; `None` if nothing can be written now.
    fn fill(&mut self, now: Instant, budget: &mut usize) -> Option<(TxnNumber, Packet)> {
        let number = self.work.next_txn();
        let envelope_bytes = self.leading().map_or(0, |leading| leading.envelope_bytes);
        let mut packer = Packer::new(self.settings.limits, envelope_bytes);
        while *budget > 0 {
            let Some(id) = self.work.pop() else { break };
            *budget -= 1;
            if self.waits_for_its_plane(&id, now) {
                continue;
            }
            let alone = self.work.travels_alone(&id);
            // One data plane that cannot be written must not take the others down with it.
            if !packer.is_empty() && (alone || packer.plane() != Some(id.plane)) {
                self.work.add(id);
                break;
            }
            match order::next(&id, &View { state: self, now }) {
                Next::Settled { starved_by, left } => {
                    self.settle(&id, starved_by);
                    self.leave(&id, left);
                }
                Next::After(txn) => self.work.park(id, txn),
                Next::NotBefore(at) => self.work.wake_at(id, at),
                Next::Write(writes) if self.unjudged(&writes) => self.judge_when_read(id),
                Next::Write(writes) => {
                    let writes = if alone { without_company(&id, writes) } else { writes };
                    if !self.pack(&mut packer, number, id, writes) || alone {
                        break;
                    }
                }
            }
        }
        packer.finish().map(|packet| (number, packet))
    }

    /// Puts what `id` came to into the transaction; gives whether there may be room for more.
    fn pack(&mut self, packer: &mut Packer, number: TxnNumber, id: WorkId, writes: Vec<DocumentWrite>) -> bool {
        let relied_on: Vec<(WorkId, WorkId)> = writes.iter().flat_map(relied_on).collect();
        match packer.add(writes) {
            Packed::In(ids) => {
                for id in &ids {
                    self.work.hold(id, number);
                }
                for (slot, need) in relied_on {
                    if ids.contains(&slot) {
                        self.work.rely(need, number);
                    }
                }
                // A slot whose pool or certificate went first waits for it.
                if !ids.contains(&id) {
                    self.work.add(id);
                }
                true
            }
            Packed::Full => {
                self.work.add(id);
                false
            }
            Packed::TooLarge(large) => {
                tracing::error!(key = large.key(), "fits into no transaction; it is not written");
                if large != id {
                    self.work.settle(&id, Some(large.clone()));
                }
                self.settle(&large, None);
                true
            }
        }
    }

    /// A document is not as it is wanted, and left so.
    fn leave(&mut self, id: &WorkId, left: Option<Left>) {
        let before = self.left.get(id).copied();
        if before == left {
            return;
        }
        match left {
            Some(left) => {
                let key = id.key();
                match left {
                    Left::Edited => tracing::warn!(key, "somebody edited this; left, as the drift policy says"),
                    Left::Stray => {
                        tracing::warn!(key, "nobody's document at an id of ours; left, as others write here too");
                    }
                }
                self.left.insert(id.clone(), left);
            }
            None => drop(self.left.remove(id)),
        }
        self.metrics.documents_left(self.left.values());
    }

    /// Nothing is to be done about `id` any more.
    pub(super) fn settle(&mut self, id: &WorkId, starved_by: Option<WorkId>) {
        self.work.settle(id, starved_by);
        self.changed_at.remove(id);
        self.drifted.remove(id);
        self.touch_users(id);
    }

    /// The routes that hang on how `id` stands may have another status now.
    pub(super) fn touch_users(&mut self, id: &WorkId) {
        match id.directory {
            Directory::Ssls => {
                for slot in self.desired.slots_needing(id) {
                    self.report.touch_all(self.desired.users(&slot));
                }
            }
            // A pool is its route's, and so is a slot.
            Directory::Upstreams | Directory::StreamRoutes => {}
        }
        self.report.touch_all(self.desired.users(id));
    }

    /// What a document should be, the limits of transactions included.
    pub(super) fn wanted(&self, id: &WorkId) -> Wanted {
        let wanted = self.wanted_freely(id);
        if self.kept_by_a_guard(id, &wanted) { Wanted::Kept { otherwise: None } } else { wanted }
    }

    /// The same, whatever guards hold back.
    pub(super) fn wanted_freely(&self, id: &WorkId) -> Wanted {
        let wanted = self.desired.wanted(id);
        let bytes_max = self.settings.limits.bytes_max;
        match &wanted {
            // Keys are short beside a document that is worth measuring.
            Wanted::Document(Document { bytes, .. }) if bytes.len() > bytes_max / 2 => {
                let envelope_bytes = self.leading().map_or(0, |leading| leading.envelope_bytes);
                let n_bytes = write_bytes(&id.key(), &Action::Put(bytes.clone()));
                if n_bytes + envelope_bytes > bytes_max {
                    let reason = format!("{} bytes are more than fit into one transaction of etcd", bytes.len());
                    return Wanted::Refused(reason.into());
                }
                wanted
            }
            Wanted::Document(_) | Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_) => wanted,
        }
    }

    /// How a document stands in etcd.
    pub(super) fn standing(&self, id: &WorkId) -> Standing {
        let held = self.held(id).or_else(|| self.guarded_from(id));
        let wanted = if held.is_some() { self.wanted_freely(id) } else { self.wanted(id) };
        let stored = self.mirror.stored(id);
        let ours = Ours {
            instance: &self.settings.instance,
            unsealed: self.unsealed(id.plane),
            pool_kept: &|| false,
            overlap: &|| self.mirror.overlapping(id).cloned(),
            drift: &|| self.drift_policy(id),
        };
        let hindrance = Hindrance { contended: self.work.contended(id), held };
        standing(id, &wanted, stored, ours, &hindrance)
    }

    /// What becomes of the document when somebody edits it: what its route says, else what the settings say.
    fn drift_policy(&self, id: &WorkId) -> DriftPolicy {
        self.desired.drift_policy(id).unwrap_or(self.settings.drift)
    }

    /// Whose a document of our shape is that has no intact seal, on a data plane.
    pub(super) fn unsealed(&self, plane: Plane) -> Unsealed {
        // What this term has read and written itself, the watch may have yet to tell.
        let claimed = self.leading().is_some_and(|leading| leading.claimed.contains(&plane));
        let claims = self.claims.get(&plane).copied().unwrap_or_default();
        match (Claims { ours: claims.ours || claimed, ..claims }) {
            Claims { ours: false, others: _ } => Unsealed::Foreign,
            Claims { ours: true, others: false } => Unsealed::Ours,
            Claims { ours: true, others: true } => Unsealed::IfWanted,
        }
    }
}

/// A slot's put with each pool and certificate it relies on that the same transaction does not put.
fn relied_on(write: &DocumentWrite) -> impl Iterator<Item = (WorkId, WorkId)> {
    write.needs.iter().filter_map(Need::condition).map(|(need, _)| (write.id.clone(), need.clone()))
}

/// Only the write of `id`, and what comes before it: the first, where that is of the pool or certificate it needs.
fn without_company(id: &WorkId, writes: Vec<DocumentWrite>) -> Vec<DocumentWrite> {
    let first = writes.first().map(|write| write.id.clone());
    let needed = |write: &DocumentWrite| write.id == *id || Some(&write.id) == first.as_ref();
    writes.into_iter().filter(needed).collect()
}
