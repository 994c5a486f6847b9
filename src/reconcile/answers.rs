//! What the store answered: answers in, mirror and work set brought up to date.

use super::{Outage, State, work::Mishap};
use crate::{
    apisix::stored::inspect,
    model::places::WorkId,
    plan::{order::TxnNumber, pack::Packet},
    retry::Retry,
    status::queue::StatusSink,
    store::txn::{Action, Commit, CommitError, Current, Revision},
};
use std::{collections::BTreeSet, error::Error, time::Instant};

impl<K: StatusSink> State<K> {
    pub(super) fn answered(&mut self, number: TxnNumber, answer: Result<Commit, CommitError>, now: Instant) {
        self.metrics.answered(&answer);
        let flight = self.work.landed(number);
        match answer {
            Ok(Commit::Applied(revision)) => {
                self.recovered();
                for changed_at in flight.changed_at.into_values() {
                    self.metrics.propagated(now.saturating_duration_since(changed_at));
                }
                self.applied(&flight.packet, revision, now);
            }
            Ok(Commit::Fenced) => {}
            Ok(Commit::Conflicted { at, current }) => {
                self.recovered();
                self.changed_at.extend(flight.changed_at);
                self.conflicted(&flight.packet, at, &current, now);
            }
            Err(error) => {
                self.changed_at.extend(flight.changed_at);
                self.failed(&flight.packet, &error, now);
            }
        }
        for heard in flight.heard {
            self.learn(heard, now);
        }
        self.count_documents();
    }

    fn applied(&mut self, packet: &Packet, revision: Revision, now: Instant) {
        let mut n_deletes = 0;
        for write in &packet.writes {
            let key = write.id.key(&self.settings.prefix);
            let stored = match &write.action {
                Action::Put(bytes) => Some(inspect(&write.id, &key, bytes)),
                Action::Delete => {
                    n_deletes += 1;
                    None
                }
            };
            tracing::debug!(key, deleted = stored.is_none(), %revision, "wrote");
            // No news to react to: it is what we wanted, but for a pool that was left.
            let news = self.mirror.learn(write.id.clone(), revision, stored);
            if let Some(pool) = news.and_then(|news| news.left) {
                self.left(pool, now);
            }
            if self.drifted.remove(&write.id) {
                self.metrics.drift_repaired();
                tracing::info!(key = write.id.key(&self.settings.prefix), "put right");
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
            let pool_lost = write.pool.as_ref().is_some_and(|pool| lost.contains(&pool.id));
            if lost.contains(&write.id) || pool_lost {
                self.work.failed(&write.id, Mishap::Lost, now);
                self.touch_users(&write.id);
            } else {
                self.work.add(write.id.clone());
            }
        }
    }

    fn failed(&mut self, packet: &Packet, error: &CommitError, now: Instant) {
        let reason: &dyn Error = error;
        let mishap = match error {
            CommitError::Refused { .. } => {
                tracing::warn!(error = reason, "etcd refused a transaction; trying again");
                Mishap::Refused
            }
            CommitError::Unanswered { .. } if self.outage.is_none() => {
                tracing::warn!(error = reason, "etcd does not answer; trying again");
                Mishap::Unanswered
            }
            CommitError::Unanswered { .. } => Mishap::Unanswered,
        };
        for write in &packet.writes {
            self.work.failed(&write.id, mishap, now);
            self.touch_users(&write.id);
        }
        let limits = self.settings.retry;
        let outage = self.outage.get_or_insert_with(|| Outage { retry: Retry::new(limits), until: now });
        // What was in flight together fails together: that is one failure.
        if outage.until <= now {
            outage.until = now + outage.retry.next_delay();
        }
        if outage.retry.n_tries() > 1 {
            self.report.stop_waiting();
        }
    }

    fn recovered(&mut self) {
        if self.outage.take().is_some() {
            tracing::info!("etcd answers again");
        }
    }
}
