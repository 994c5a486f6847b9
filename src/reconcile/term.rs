//! Leading: from winning the leader key to the first write, and how it ends.
//!
//! Whoever has won reads every lane of its instance, which says from which state of which cluster etcd was last written. It
//! writes nothing before its own state is at least as new. What must not be decided without a person ends in
//! [`State::halt`].

use super::{Answer, State, Task, audit::Audit, tidy::Tidying};
use crate::{
    clock,
    cluster::Relist,
    leader::{Again, Leadership, Resign, Term},
    model::{
        names::Kind,
        places::{Plane, WorkId},
        versions::CacheVersion,
    },
    plan::order::TxnNumber,
    retry::Retry,
    status::queue::StatusSink,
    store::{
        ReadError,
        checkpoint::{Checkpoint, judge::Stop},
        lanes::{LaneId, Lanes},
        records::Records,
        txn::{Action, Revision, fence_bytes, write_bytes},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    sync::Arc,
    time::Instant,
};

/// Whether this replica writes.
#[derive(Debug)]
pub(super) enum Phase {
    /// It does not lead. Everything is kept up to date, nothing is written, no status is said.
    Standby {
        /// Who leads, as far as known.
        leader: Option<Arc<str>>,
    },
    /// It leads, and finds out where the last leader was.
    TakingOver(Box<TakingOver>),
    /// It writes.
    Leading(Box<Leading>),
}

/// What is known of the last leader.
#[derive(Debug)]
pub(super) struct TakingOver {
    pub(super) term: Term,
    /// What the lanes hold; `None` while they are being read.
    found: Option<Found>,
    /// When to read them; `None` while that is under way.
    read_at: Option<Instant>,
    retry: Retry,
}

#[derive(Debug)]
struct Found {
    lanes: Vec<(u32, Revision)>,
    record: Option<Checkpoint>,
    /// Kinds that were behind the record, and the lists that were asked for because of it.
    asked: BTreeMap<Kind, u64>,
}

/// A term in which this replica writes.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) term: Term,
    pub(super) lanes: Lanes,
    /// The lane of each transaction that is not answered, and the data planes that its record names.
    pub(super) in_lane: BTreeMap<TxnNumber, (LaneId, BTreeSet<Plane>)>,
    /// Transactions without an answer that wait to be settled.
    pub(super) open: BTreeSet<TxnNumber>,
    /// The transaction that writes control keys alone, if one is under way.
    pub(super) tidying: Option<Tidying>,
    /// The newest record: the last leader's, then our own. What is not served any more is carried on.
    pub(super) record: Option<Checkpoint>,
    /// The data planes about which etcd is known to hold a record of ours.
    pub(super) claimed: BTreeSet<Plane>,
    /// What the envelope of a transaction takes at most.
    pub(super) envelope_bytes: usize,
    pub(super) audit: Audit,
    /// Since when nothing could be written although there was something to write.
    pub(super) stalled_since: Option<Instant>,
}

/// Sequences and versions grow by digits from one record to the next, and kinds appear.
const ENVELOPE_MARGIN: usize = 1_024;

impl<K: StatusSink> State<K> {
    /// Whether this replica may campaign.
    pub(super) fn fit(&self) -> bool {
        self.warm() && !self.doubted && self.control.whole() && self.identity.is_some() && self.halted.is_none()
    }

    /// Takes in where the campaign stands.
    pub(super) fn leadership(&mut self, leadership: Leadership, now: Instant) {
        match leadership {
            Leadership::Standby { leader } => {
                self.stand_down(now);
                self.phase = Phase::Standby { leader };
            }
            Leadership::Leading(term) if self.term() == Some(&term) => {}
            Leadership::Leading(term) => {
                self.stand_down(now);
                let retry = Retry::new(self.settings.retry);
                self.phase = Phase::TakingOver(Box::new(TakingOver { term, found: None, read_at: Some(now), retry }));
            }
        }
    }

    pub(super) fn term(&self) -> Option<&Term> {
        match &self.phase {
            Phase::Standby { .. } => None,
            Phase::TakingOver(taking) => Some(&taking.term),
            Phase::Leading(leading) => Some(&leading.term),
        }
    }

    pub(super) fn leading(&self) -> Option<&Leading> {
        match &self.phase {
            Phase::Standby { .. } | Phase::TakingOver(_) => None,
            Phase::Leading(leading) => Some(leading),
        }
    }

    pub(super) fn leading_mut(&mut self) -> Option<&mut Leading> {
        match &mut self.phase {
            Phase::Standby { .. } | Phase::TakingOver(_) => None,
            Phase::Leading(leading) => Some(leading),
        }
    }

    /// Writes nothing any more. What is in flight is fenced, or in a lane, where the next leader finds it.
    fn stand_down(&mut self, now: Instant) {
        if self.term().is_none() {
            return;
        }
        self.phase = Phase::Standby { leader: None };
        self.outage = None;
        let abandoned = self.work.abandon();
        self.changed_at.extend(abandoned.changed_at);
        for heard in abandoned.heard {
            self.learn(heard, now);
        }
        self.report.stand_down();
        self.stop_guarding();
        self.told_idle = false;
    }

    /// Gives leading up.
    pub(super) fn resign(&mut self, again: Again, now: Instant) {
        if let Some(term) = self.term().cloned() {
            // Full only if nobody campaigns any more, and then there is nothing to give up.
            let _ = self.outputs.resign.try_send(Resign { term, again });
            self.stand_down(now);
        }
    }

    /// Somebody else may lead: what this term sends from here on is refused.
    pub(super) fn fenced(&mut self, now: Instant) {
        tracing::warn!("another replica leads, or the leader key is gone; beginning anew");
        self.resign(Again::AtOnce, now);
    }

    /// Stops on purpose, until a person has decided.
    pub(super) fn halt(&mut self, stop: Stop, now: Instant) {
        if self.halted.as_ref() != Some(&stop) {
            let error: &dyn Error = &stop;
            tracing::error!(error, "stopped writing; this needs a person");
        }
        self.metrics.halted(true);
        self.halted = Some(stop);
        self.resign(Again::AtOnce, now);
    }

    /// Looks at whether a person has to decide, as far as that can be told without leading.
    pub(super) fn judge(&mut self, now: Instant) {
        let Some(cluster) = self.identity.clone().filter(|_| self.control.whole()) else { return };
        let stop = match self.leading() {
            // The newest record is our own, and may be newer than what has been told. One that cannot be read is not.
            Some(leading) => {
                let own = leading.record.as_ref().and_then(|record| record.acceptable(&cluster).err());
                own.or_else(|| self.control.newest().err().map(Stop::from))
            }
            None => match self.control.newest() {
                Err(error) => Some(Stop::from(error)),
                Ok(None) => None,
                Ok(Some(record)) => record.acceptable(&cluster).err().or_else(|| self.still_restored(&record)),
            },
        };
        match stop {
            Some(stop) => self.halt(stop, now),
            None => {
                if self.halted.take().is_some() {
                    self.metrics.halted(false);
                    tracing::info!("what stopped this replica is over");
                }
            }
        }
    }

    /// The cluster was found restored, and is still behind the record.
    fn still_restored(&self, record: &Checkpoint) -> Option<Stop> {
        let Some(Stop::Restored { kind, .. }) = &self.halted else { return None };
        let behind = record.behind(&self.versions).into_iter().any(|(behind, _)| behind == *kind);
        self.halted.clone().filter(|_| behind)
    }

    /// A kind was listed. While leading, a list older than what was last written from means a restored cluster.
    pub(super) fn check_list(&mut self, kind: Kind, now: Instant) {
        let record = self.leading().and_then(|leading| leading.record.as_ref());
        if let Some(Err(stop)) = record.map(|record| record.not_restored(&only(kind, &self.versions))) {
            self.halt(stop, now);
        }
    }

    /// The next step of taking over.
    pub(super) fn take_over(&mut self, now: Instant, mut send: impl FnMut(Task)) {
        let Phase::TakingOver(taking) = &mut self.phase else { return };
        let Some(found) = &mut taking.found else {
            if taking.read_at.is_some_and(|at| at <= now) {
                taking.read_at = None;
                send(Task::ReadLanes(taking.term.clone()));
            }
            return;
        };
        let Some(record) = &found.record else { return self.begin(now) };
        let behind = record.behind(&self.versions);
        for &(kind, recorded) in &behind {
            let asked = *found.asked.entry(kind).or_insert_with(|| {
                self.next_ticket += 1;
                tracing::info!(%kind, %recorded, "what is known is older than what was written last; listing anew");
                // Nobody receives any more only when everything ends.
                let _ = self.outputs.relists.send(Relist { kind, ticket: self.next_ticket });
                self.next_ticket
            });
            let answered = self.tickets.get(&kind).is_some_and(|answered| *answered >= asked);
            if answered && let Err(stop) = record.not_restored(&only(kind, &self.versions)) {
                return self.halt(stop, now);
            }
        }
        if behind.is_empty() {
            self.begin(now);
        }
    }

    /// When to read the lanes again.
    pub(super) fn take_over_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::TakingOver(taking) => taking.read_at,
            Phase::Standby { .. } | Phase::Leading(_) => None,
        }
    }

    /// Takes in what the lanes hold.
    pub(super) fn lanes_read(&mut self, term: &Term, answer: Result<Records, ReadError>, now: Instant) {
        let Phase::TakingOver(taking) = &mut self.phase else { return };
        if taking.term != *term {
            return;
        }
        let records = match answer {
            Ok(records) => records,
            Err(error) => {
                let reason: &dyn Error = &error;
                tracing::warn!(error = reason, "the lanes cannot be read; trying again");
                taking.read_at = Some(now + taking.retry.next_delay());
                return;
            }
        };
        for stranger in &records.strangers {
            tracing::warn!(key = %stranger, "this is no lane's key; left alone");
        }
        let stop = match records.newest() {
            Err(error) => Some(Stop::from(error)),
            Ok(record) => {
                let cluster = self.identity.as_deref().unwrap_or_default();
                let stop = record.as_ref().and_then(|record| record.acceptable(cluster).err());
                taking.found = Some(Found { lanes: records.found(), record, asked: BTreeMap::new() });
                stop
            }
        };
        if let Some(stop) = stop {
            self.halt(stop, now);
        }
    }

    /// Everything is known that has to be: from here on this replica writes.
    fn begin(&mut self, now: Instant) {
        let Phase::TakingOver(taking) = std::mem::replace(&mut self.phase, Phase::Standby { leader: None }) else {
            return;
        };
        let TakingOver { term, found, read_at: _, retry: _ } = *taking;
        let Some(Found { lanes, record, asked: _ }) = found else { return };
        let sequence = record.as_ref().map_or(0, |record| record.sequence);
        let prefixes = record.iter().flat_map(|record| record.prefixes.keys());
        let claimed = prefixes.map(|prefix| Plane::of(prefix)).collect();
        tracing::info!(sequence, holder = record.as_ref().map(|record| &*record.holder), "took over");
        let lanes = Lanes::new(&self.settings.control, self.settings.in_flight_max, &lanes, sequence);
        self.phase = Phase::Leading(Box::new(Leading {
            term,
            lanes,
            in_lane: BTreeMap::new(),
            open: BTreeSet::new(),
            tidying: None,
            record,
            claimed,
            envelope_bytes: 0,
            audit: Audit::begun(now),
            stalled_since: None,
        }));
        self.recorded();
        self.remember_envelope();
        self.look_at_unsealed();
        self.guard_missing_kinds();
        self.released();
        for plane in self.mirror.planes().collect::<Vec<_>>() {
            self.hold_what_the_start_would_stop(plane, now);
        }
    }

    /// Edits made while nobody looked.
    pub(super) fn look_at_unsealed(&mut self) {
        for id in self.mirror.unsealed().cloned().collect::<Vec<WorkId>>() {
            self.look_for_drift(&id, None);
            self.add(id);
        }
    }

    /// Who has written the prefix may have changed, and with it whose the documents without a seal are.
    pub(super) fn control_told(&mut self, now: Instant) {
        self.recorded();
        self.claim();
        self.released();
        self.judge(now);
    }

    /// Whose documents without a seal are, as far as has been told.
    pub(super) fn claim(&mut self) {
        let claims = self.mirror.planes().map(|plane| (plane, self.control.claims(plane))).collect();
        if claims != self.claims {
            let before = std::mem::replace(&mut self.claims, claims);
            let ours = |plane: &Plane| self.claims.get(plane).is_some_and(|claims| claims.ours);
            let taken_away: Vec<Plane> = before
                .into_iter()
                .filter(|(plane, claims)| claims.ours && !ours(plane))
                .map(|(plane, _)| plane)
                .collect();
            if let Some(leading) = self.leading_mut() {
                leading.claimed.retain(|plane| !taken_away.contains(plane));
            }
            self.look_at_unsealed();
        }
    }

    /// The record of a transaction that leaves next; the lane gives it its sequence.
    pub(super) fn checkpoint(&self) -> Checkpoint {
        let carried = self.leading().and_then(|leading| leading.record.as_ref());
        let mut versions = carried.map(|record| record.versions.clone()).unwrap_or_default();
        versions.retain(|resource, _| self.guard.carries(resource));
        versions.extend(self.versions.iter().map(|(kind, version)| (kind.resource().into(), *version)));
        Checkpoint {
            instance: self.settings.instance.clone(),
            cluster: self.identity.clone().unwrap_or_default(),
            prefixes: self.prefixes(),
            versions,
            sequence: 0,
            holder: self.settings.holder.clone(),
            written_at: clock::unix_seconds(),
        }
    }

    /// What the next envelopes take.
    pub(super) fn remember_envelope(&mut self) {
        let record = self.checkpoint().encode();
        let lane = self.settings.control.lane(u32::MAX);
        let fence = self.settings.control.leader();
        let n_bytes = fence_bytes(&fence) + write_bytes(&lane, &Action::Put(record.into())) + ENVELOPE_MARGIN;
        if let Some(leading) = self.leading_mut() {
            leading.envelope_bytes = n_bytes;
        }
    }

    /// What a task of this term came to.
    pub(super) fn task_answered(&mut self, answer: Answer, now: Instant) {
        match answer {
            Answer::Committed(number, answer) => self.answered(number, answer, now),
            Answer::Lanes(term, answer) => self.lanes_read(&term, answer, now),
            Answer::Listed(term, answer) => self.audited(&term, answer, now),
        }
    }
}

/// The version of one kind.
fn only(kind: Kind, versions: &BTreeMap<Kind, CacheVersion>) -> BTreeMap<Kind, CacheVersion> {
    versions.get(&kind).map(|version| (kind, *version)).into_iter().collect()
}
