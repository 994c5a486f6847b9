//! What the store answered: answers in, mirror and work set brought up to date.

use super::{
    Outage, State,
    tidy::Tidied,
    work::{Heard, InFlight, Mishap},
};
use crate::{
    apisix::stored::inspect,
    leader::Again,
    model::places::WorkId,
    plan::{order::TxnNumber, pack::Packet},
    status::queue::StatusSink,
    store::{
        lanes::LaneAnswer,
        mirror::News,
        txn::{Action, Commit, CommitError, Current, Revision},
    },
};
use std::{collections::BTreeSet, error::Error, time::Instant};

impl<K: StatusSink> State<K> {
    /// Takes in the answer to a transaction, or to what settles it. What an earlier term sent is no matter: the watch tells
    /// what became of it.
    pub(super) fn answered(&mut self, number: TxnNumber, answer: Result<Commit, CommitError>, now: Instant) {
        let Some((lane, recorded)) = self.leading().and_then(|leading| leading.in_lane.get(&number).cloned()) else {
            return;
        };
        self.metrics.answered(&answer);
        let Some(leading) = self.leading_mut() else { return };
        match leading.lanes.answered(lane, answer) {
            LaneAnswer::Applied(revision) => {
                leading.claimed.extend(recorded);
                self.recovered();
                let flight = self.land(number, Some(Tidied::Applied));
                for changed_at in flight.changed_at.into_values() {
                    self.metrics.propagated(now.saturating_duration_since(changed_at));
                }
                self.applied(&flight.packet, revision, now);
                self.recorded();
                self.planes_answered(&flight.packet);
                self.tell_heard(flight.heard, now);
            }
            LaneAnswer::Conflicted { at, current } => {
                self.recovered();
                let flight = self.land(number, Some(Tidied::Lost));
                self.changed_at.extend(flight.changed_at);
                self.conflicted(&flight.packet, at, &current, now);
                self.tell_heard(flight.heard, now);
            }
            LaneAnswer::Void => {
                self.recovered();
                tracing::info!("a transaction without an answer was not applied, and never will be; trying again");
                self.did_not_go(number, Mishap::Unanswered, now);
            }
            LaneAnswer::Refused(error) if self.rests_a_plane(number, &error, now) => {
                let flight = self.land(number, None);
                self.changed_at.extend(flight.changed_at);
                for write in flight.packet.writes {
                    self.work.add(write.id);
                }
                self.tell_heard(flight.heard, now);
            }
            LaneAnswer::Refused(error) => {
                self.out_of_order(&error, now);
                self.did_not_go(number, Mishap::Refused, now);
            }
            LaneAnswer::Open(error) => {
                self.out_of_order(&error, now);
                if let Some(leading) = self.leading_mut() {
                    leading.open.insert(number);
                }
            }
            LaneAnswer::Fenced => self.fenced(now),
            LaneAnswer::Stolen => {
                tracing::error!("somebody else writes the controller's own keys; beginning anew");
                self.reread();
                self.resign(Again::AtOnce, now);
            }
        }
        self.count_documents();
    }

    /// A transaction is answered for good: its lane is free.
    fn land(&mut self, number: TxnNumber, tidied: Option<Tidied>) -> InFlight {
        if let Some(leading) = self.leading_mut() {
            leading.in_lane.remove(&number);
            leading.open.remove(&number);
            if leading.tidying.as_ref().is_some_and(|tidying| tidying.number == number) {
                self.tidied(tidied);
            }
        }
        self.work.landed(number)
    }

    fn tell_heard(&mut self, heard: Vec<Heard>, now: Instant) {
        for heard in heard {
            self.learn(heard, now);
        }
    }

    /// A transaction was not applied, and will not be; each of its documents goes again.
    fn did_not_go(&mut self, number: TxnNumber, mishap: Mishap, now: Instant) {
        let flight = self.land(number, None);
        self.changed_at.extend(flight.changed_at);
        for write in &flight.packet.writes {
            self.work.failed(&write.id, mishap, now);
            self.touch_users(&write.id);
        }
        self.tell_heard(flight.heard, now);
    }

    fn applied(&mut self, packet: &Packet, revision: Revision, now: Instant) {
        let mut n_deletes = 0;
        for write in &packet.writes {
            let key = write.id.key();
            let stored = match &write.action {
                Action::Put(bytes) => Some(inspect(&write.id, &key, bytes)),
                Action::Delete => {
                    n_deletes += 1;
                    None
                }
            };
            tracing::debug!(key, deleted = stored.is_none(), %revision, "wrote");
            // No news to react to, as it is what we wanted, but for what it leaves and whom it makes room for.
            if let Some(News { id, before: _, left, freed, taken }) =
                self.mirror.learn(write.id.clone(), revision, stored)
            {
                self.reached_by_others(&id, freed, taken);
                self.mind_holds(&id);
                for unneeded in left {
                    self.left(unneeded, now);
                }
            }
            if self.drifted.remove(&write.id) {
                self.metrics.drift_repaired();
                tracing::info!(key = write.id.key(), "put right");
            }
            // Looked at once more, as it may be wanted otherwise by now; as a rule this finds nothing to do.
            self.work.add(write.id.clone());
        }
        tracing::info!(%revision, n_puts = packet.writes.len() - n_deletes, n_deletes, "committed");
    }

    fn conflicted(&mut self, packet: &Packet, at: Revision, current: &[Current], now: Instant) {
        // Events of keys that are only relied on have not waited for this answer.
        let writes = packet.writes.iter().map(|write| (&write.id, write.expected, true));
        let conditions = packet.conditions.iter().map(|(id, expected)| (id, *expected, false));
        let mut lost: BTreeSet<&WorkId> = BTreeSet::new();
        for ((id, expected, events_wait), current) in writes.chain(conditions).zip(current) {
            if current.revision() != expected {
                lost.insert(id);
            }
            let (revision, stored) = match &current.value {
                Some((revision, bytes)) => (*revision, Some(inspect(id, &current.key, bytes))),
                None => (at, None),
            };
            let news = if events_wait {
                self.mirror.learn(id.clone(), revision, stored)
            } else {
                self.mirror.learn_read(id.clone(), revision, stored)
            };
            if let Some(news) = news {
                self.react(news, now);
            }
        }
        tracing::info!(
            n_writes = packet.writes.len(),
            n_lost = lost.len(),
            "lost a transaction to somebody else's write"
        );
        for write in &packet.writes {
            if lost.contains(&write.id) || write.needs.iter().any(|need| lost.contains(&need.id)) {
                self.work.failed(&write.id, Mishap::Lost, now);
                self.touch_users(&write.id);
            } else {
                self.work.add(write.id.clone());
            }
        }
    }

    /// The store refuses, or does not answer.
    fn out_of_order(&mut self, error: &CommitError, now: Instant) {
        let (full, what) = match error {
            CommitError::Refused { .. } if error.is_full() => {
                (true, "etcd refused a transaction, as it is full; trying again")
            }
            CommitError::Refused { .. } => (false, "etcd refused a transaction; trying again"),
            CommitError::Unanswered { .. } => (false, "etcd does not answer; trying again"),
        };
        let limits = self.settings.retry;
        let outage = self.outage.get_or_insert_with(|| Outage::begun(limits, now));
        let reason: &dyn Error = error;
        // Once an outage: every retry says the same, for as long as it lasts.
        if outage.said.insert(what) {
            tracing::warn!(error = reason, "{what}");
        } else {
            tracing::debug!(error = reason, "{what}");
        }
        outage.goes_on(now);
        if outage.retry.n_tries() > 1 {
            self.report.stop_waiting();
        }
        self.metrics.store_full(full);
        if let Some(leading) = self.leading_mut() {
            // Another leader could not write into a full etcd either.
            leading.stalled_since = if full { None } else { leading.stalled_since.or(Some(now)) };
        }
    }

    fn recovered(&mut self) {
        if let Some(leading) = self.leading_mut() {
            leading.stalled_since = None;
        }
        if self.outage.take().is_some() {
            self.metrics.store_full(false);
            tracing::info!("etcd takes writes again");
        }
    }
}
