//! The work set: ids that may need work, who writes what, and who has to wait. Pure.
//!
//! Level-triggered: an id can be added any number of times at any moment, and comes out until nothing is to be done about
//! it. One writer per id: what a transaction in flight writes is held exclusively, what it relies on is shared.

use crate::{
    apisix::stored::Inspected,
    model::places::{Plane, WorkId},
    plan::{
        order::{Hold, TxnNumber},
        pack::Packet,
    },
    retry::{Retry, RetryLimits},
    store::txn::Revision,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    time::Instant,
};

/// How often writing an id may go wrong before statuses stop waiting for it.
const TRIES_BEFORE_PENDING: u32 = 2;
/// How often an id may lose before it counts as contended: the second loss, since the first is anybody's bad luck.
const LOSSES_BEFORE_CONTENDED: u32 = 2;

/// Ids that may need work.
#[derive(Debug)]
pub(super) struct Work {
    limits: RetryLimits,
    due: BTreeSet<WorkId>,
    /// Added and not settled since.
    unsettled: HashSet<WorkId>,
    /// How many of these each data plane has that has any.
    n_unsettled: BTreeMap<Plane, usize>,
    /// When to look at an id again.
    wakes: BTreeSet<(Instant, WorkId)>,
    in_flight: BTreeMap<TxnNumber, InFlight>,
    writing: HashMap<WorkId, TxnNumber>,
    relied_on: HashMap<WorkId, BTreeSet<TxnNumber>>,
    troubles: HashMap<WorkId, Trouble>,
    /// Pool or certificate to slots that are not put because it cannot be.
    starved: HashMap<WorkId, BTreeSet<WorkId>>,
    n_sent: u64,
}

/// A transaction that is not answered yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// What it writes and relies on.
    pub(super) packet: Packet,
    /// When the earliest change came that each of its documents answers to, where there was one.
    pub(super) changed_at: HashMap<WorkId, Instant>,
    /// What the watch told of ids it writes, in the order of telling.
    pub(super) heard: Vec<Heard>,
    /// Ids to be looked at again when it is answered.
    parked: BTreeSet<WorkId>,
}

/// What was kept with transactions that were abandoned.
#[derive(Debug, Default)]
pub(super) struct Abandoned {
    /// When the earliest change came that each of their documents answers to, where there was one.
    pub(super) changed_at: HashMap<WorkId, Instant>,
    /// What the watch told of ids they wrote.
    pub(super) heard: Vec<Heard>,
}

/// What the watch told of one document.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    /// Which.
    pub(super) id: WorkId,
    /// When it was written or deleted.
    pub(super) revision: Revision,
    /// What it is now; `None` when it was deleted.
    pub(super) stored: Option<Inspected>,
}

/// What went wrong with writing an id, until it goes right.
#[derive(Debug)]
struct Trouble {
    retry: Retry,
    n_tries: u32,
    n_losses: u32,
    n_refusals: u32,
    resting_until: Option<Instant>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mishap {
    /// A compare did not hold.
    Lost,
    /// The store refused the transaction.
    Refused,
    /// The store did not answer, and has not applied it.
    Unanswered,
}

impl Work {
    pub(super) fn new(limits: RetryLimits) -> Self {
        Self {
            limits,
            due: BTreeSet::new(),
            unsettled: HashSet::new(),
            n_unsettled: BTreeMap::new(),
            wakes: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            writing: HashMap::new(),
            relied_on: HashMap::new(),
            troubles: HashMap::new(),
            starved: HashMap::new(),
            n_sent: 0,
        }
    }

    /// `id` may need work. One that rests is looked at when its rest is over, whoever asks.
    pub(super) fn add(&mut self, id: WorkId) {
        for slot in self.starved.remove(&id).unwrap_or_default() {
            self.add(slot);
        }
        if self.unsettled.insert(id.clone()) {
            *self.n_unsettled.entry(id.plane).or_default() += 1;
        }
        if self.resting_until(&id).is_none() {
            self.due.insert(id);
        }
    }

    /// Takes out the next id: slots first, as each brings its pool and certificate along.
    pub(super) fn pop(&mut self) -> Option<WorkId> {
        self.due.pop_last()
    }

    /// Nothing is to be done about `id` any more.
    pub(super) fn settle(&mut self, id: &WorkId, starved_by: Option<WorkId>) {
        if self.unsettled.remove(id)
            && let Some(n_unsettled) = self.n_unsettled.get_mut(&id.plane)
        {
            *n_unsettled -= 1;
            if *n_unsettled == 0 {
                self.n_unsettled.remove(&id.plane);
            }
        }
        self.troubles.remove(id);
        if let Some(need) = starved_by {
            self.starved.entry(need).or_default().insert(id.clone());
        }
    }

    /// `id` is to be looked at again when `txn` is answered.
    pub(super) fn park(&mut self, id: WorkId, txn: TxnNumber) {
        self.in_flight.entry(txn).or_default().parked.insert(id);
    }

    /// `id` is to be looked at again at `at`.
    pub(super) fn wake_at(&mut self, id: WorkId, at: Instant) {
        self.wakes.insert((at, id));
    }

    /// The number of the next transaction.
    pub(super) fn next_txn(&mut self) -> TxnNumber {
        self.n_sent += 1;
        TxnNumber(self.n_sent)
    }

    /// `txn` is going to write `id`.
    pub(super) fn hold(&mut self, id: &WorkId, txn: TxnNumber) {
        self.due.remove(id);
        self.writing.insert(id.clone(), txn);
    }

    /// `txn` is going to put a slot that needs `id`.
    pub(super) fn rely(&mut self, id: WorkId, txn: TxnNumber) {
        self.relied_on.entry(id).or_default().insert(txn);
    }

    /// `txn` leaves.
    pub(super) fn sent(&mut self, txn: TxnNumber, packet: Packet, changed_at: HashMap<WorkId, Instant>) {
        let flight = self.in_flight.entry(txn).or_default();
        (flight.packet, flight.changed_at) = (packet, changed_at);
    }

    /// Nothing that is in flight concerns us any more: all of it is free and due again.
    pub(super) fn abandon(&mut self) -> Abandoned {
        let mut abandoned = Abandoned::default();
        for txn in self.in_flight.keys().copied().collect::<Vec<_>>() {
            let flight = self.landed(txn);
            for write in flight.packet.writes {
                self.add(write.id);
            }
            abandoned.changed_at.extend(flight.changed_at);
            abandoned.heard.extend(flight.heard);
        }
        for id in std::mem::take(&mut self.troubles).into_keys() {
            self.add(id);
        }
        abandoned
    }

    /// `txn` is answered: what it held is free, what waited for it is due.
    pub(super) fn landed(&mut self, txn: TxnNumber) -> InFlight {
        let mut flight = self.in_flight.remove(&txn).unwrap_or_default();
        for write in &flight.packet.writes {
            self.writing.remove(&write.id);
        }
        for need in flight.packet.conditions.keys() {
            if let Some(txns) = self.relied_on.get_mut(need) {
                txns.remove(&txn);
                if txns.is_empty() {
                    self.relied_on.remove(need);
                }
            }
        }
        for id in std::mem::take(&mut flight.parked) {
            self.add(id);
        }
        flight
    }

    /// Keeps what the watch told of an id that is in flight until its answer; gives it back if it is not.
    pub(super) fn hear(&mut self, heard: Heard) -> Option<Heard> {
        let flight = self.writing.get(&heard.id).and_then(|txn| self.in_flight.get_mut(txn));
        match flight {
            Some(flight) => {
                flight.heard.push(heard);
                None
            }
            None => Some(heard),
        }
    }

    /// Writing `id` went wrong: it goes again at once after a first loss, and rests after anything else.
    pub(super) fn failed(&mut self, id: &WorkId, mishap: Mishap, now: Instant) {
        let limits = self.limits;
        let trouble = self.troubles.entry(id.clone()).or_insert_with(|| Trouble::new(limits));
        trouble.n_tries = trouble.n_tries.saturating_add(1);
        match mishap {
            Mishap::Lost => trouble.n_losses = trouble.n_losses.saturating_add(1),
            Mishap::Refused => trouble.n_refusals = trouble.n_refusals.saturating_add(1),
            Mishap::Unanswered => {}
        }
        if mishap != Mishap::Lost || trouble.n_losses >= LOSSES_BEFORE_CONTENDED {
            let until = now + trouble.retry.next_delay();
            trouble.resting_until = Some(until);
            self.due.remove(id);
            self.wakes.insert((until, id.clone()));
        }
        self.add(id.clone());
    }

    /// Makes due what was to be looked at by now.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some((at, id)) = self.wakes.first().cloned() {
            if at > now {
                return;
            }
            self.wakes.pop_first();
            if let Some(trouble) = self.troubles.get_mut(&id) {
                trouble.resting_until = trouble.resting_until.filter(|until| *until > now);
            }
            self.add(id);
        }
    }

    /// When to wake next.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Whether `id` can be written now.
    pub(super) fn hold_of(&self, id: &WorkId) -> Hold {
        if let Some(&txn) = self.writing.get(id) {
            return Hold::Exclusive(txn);
        }
        if let Some(until) = self.resting_until(id) {
            return Hold::Resting(until);
        }
        self.relied_on.get(id).and_then(BTreeSet::last).map_or(Hold::Free, |&txn| Hold::Shared(txn))
    }

    /// Whether `id` is waiting to be taken out.
    pub(super) fn due(&self, id: &WorkId) -> bool {
        self.due.contains(id)
    }

    /// Whether anything is waiting to be taken out.
    pub(super) fn any_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// How many transactions are not answered yet.
    pub(super) fn n_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing is to be done about any id.
    pub(super) fn settled(&self) -> bool {
        self.unsettled.is_empty()
    }

    /// Whether it is too early to say of `id` that it is not in etcd yet: it is about to be.
    pub(super) fn young(&self, id: &WorkId) -> bool {
        self.unsettled.contains(id) && !self.troubled(id)
    }

    /// Whether something may be to be done about a document of a data plane that is not contended.
    pub(super) fn any_unsettled_on(&self, plane: Plane) -> bool {
        let Some(&n_unsettled) = self.n_unsettled.get(&plane) else { return false };
        let contended = self.troubles.keys().filter(|id| id.plane == plane && self.contended(id));
        n_unsettled > contended.count()
    }

    /// The data plane that a transaction in flight writes; each writes one.
    pub(super) fn plane_of(&self, txn: TxnNumber) -> Option<Plane> {
        self.in_flight.get(&txn)?.packet.writes.first().map(|write| write.id.plane)
    }

    /// Whether writing it goes wrong for longer than a moment.
    pub(super) fn troubled(&self, id: &WorkId) -> bool {
        self.troubles.get(id).is_some_and(|trouble| trouble.n_tries >= TRIES_BEFORE_PENDING)
    }

    /// The documents that transactions in flight write.
    pub(super) fn writing(&self) -> impl Iterator<Item = &WorkId> {
        self.writing.keys()
    }

    /// Whether `id` keeps being changed under our hands.
    pub(super) fn contended(&self, id: &WorkId) -> bool {
        self.troubles.get(id).is_some_and(|trouble| trouble.n_losses >= LOSSES_BEFORE_CONTENDED)
    }

    /// Whether `id` must not take others down with it once more.
    pub(super) fn travels_alone(&self, id: &WorkId) -> bool {
        self.contended(id) || self.troubles.get(id).is_some_and(|trouble| trouble.n_refusals >= 2)
    }

    fn resting_until(&self, id: &WorkId) -> Option<Instant> {
        self.troubles.get(id).and_then(|trouble| trouble.resting_until)
    }
}

impl Trouble {
    fn new(limits: RetryLimits) -> Self {
        let retry = Retry::new(limits);
        Self { retry, n_tries: 0, n_losses: 0, n_refusals: 0, resting_until: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock,
        model::places::{Directory, Plane},
        plan::DocumentWrite,
        store::txn::Action,
    };
    use std::time::Duration;

    const LIMITS: RetryLimits = RetryLimits::new(Duration::from_millis(100), Duration::from_secs(5));

    fn slot(name: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::StreamRoutes, name)
    }

    fn pool(name: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, name)
    }

    fn work(ids: &[WorkId]) -> Work {
        let mut work = Work::new(LIMITS);
        for id in ids {
            work.add(id.clone());
        }
        work
    }

    /// Sends a transaction that writes `ids` and relies on `pools`.
    fn send(work: &mut Work, ids: &[WorkId], pools: &[WorkId]) -> TxnNumber {
        let txn = work.next_txn();
        for id in ids {
            work.hold(id, txn);
        }
        for pool in pools {
            work.rely(pool.clone(), txn);
        }
        let write = |id: &WorkId| DocumentWrite {
            id: id.clone(),
            expected: Revision::ABSENT,
            action: Action::Delete,
            needs: Vec::new(),
        };
        let conditions = pools.iter().map(|pool| (pool.clone(), Revision(1))).collect();
        work.sent(txn, Packet { writes: ids.iter().map(write).collect(), conditions }, HashMap::new());
        txn
    }

    fn heard(id: &WorkId) -> Heard {
        Heard { id: id.clone(), revision: Revision(9), stored: None }
    }

    #[test]
    fn slots_come_out_before_pools_and_each_id_once() {
        let mut work = work(&[pool("p"), slot("a"), slot("b"), slot("a")]);
        let order: Vec<_> = std::iter::from_fn(|| work.pop()).collect();
        assert_eq!(order, [slot("b"), slot("a"), pool("p")]);
        assert!(!work.settled());
        for id in &order {
            work.settle(id, None);
        }
        assert!(work.settled());
    }

    #[test]
    fn what_a_transaction_writes_is_exclusive_and_what_it_relies_on_is_shared() {
        let mut work = work(&[slot("a")]);
        let first = send(&mut work, &[slot("a")], &[pool("p")]);
        let second = send(&mut work, &[slot("b")], &[pool("p")]);
        assert_eq!(work.hold_of(&slot("a")), Hold::Exclusive(first));
        assert_eq!(work.hold_of(&pool("p")), Hold::Shared(second));
        work.landed(second);
        assert_eq!(work.hold_of(&pool("p")), Hold::Shared(first));
        work.landed(first);
        assert_eq!((work.hold_of(&pool("p")), work.hold_of(&slot("a"))), (Hold::Free, Hold::Free));
        assert_eq!(work.n_in_flight(), 0);
    }

    #[test]
    fn what_waits_for_a_transaction_is_due_when_it_lands() {
        let mut work = work(&[slot("a")]);
        let txn = send(&mut work, &[pool("p")], &[]);
        let id = work.pop().unwrap();
        work.park(id, txn);
        assert!(!work.any_due() && work.young(&slot("a")));
        work.landed(txn);
        assert!(work.due(&slot("a")));
    }

    #[test]
    fn what_the_watch_tells_of_an_id_in_flight_waits_for_the_answer() {
        let mut work = work(&[slot("a")]);
        assert!(work.hear(heard(&slot("a"))).is_some());
        let txn = send(&mut work, &[slot("a")], &[]);
        assert!(work.hear(heard(&slot("a"))).is_none());
        assert!(work.hear(heard(&slot("b"))).is_some());
        assert_eq!(work.landed(txn).heard.len(), 1);
    }

    #[test]
    fn a_first_loss_goes_again_at_once_and_a_second_one_rests_alone_as_contended() {
        let (mut work, now) = (work(&[slot("a")]), clock::now());
        work.failed(&slot("a"), Mishap::Lost, now);
        assert!(work.due(&slot("a")) && !work.contended(&slot("a")) && work.young(&slot("a")));
        work.failed(&slot("a"), Mishap::Lost, now);
        assert!(!work.due(&slot("a")) && work.contended(&slot("a")) && work.travels_alone(&slot("a")));
        assert!(!work.young(&slot("a")), "statuses wait no longer");
        work.settle(&slot("a"), None);
        assert!(!work.contended(&slot("a")));
    }

    #[test]
    fn a_rest_is_kept_whoever_asks_and_ends_by_itself() {
        let (mut work, now) = (work(&[]), clock::now());
        work.failed(&slot("a"), Mishap::Refused, now);
        work.add(slot("a"));
        assert!(!work.any_due());
        let until = work.next_wake().unwrap();
        assert_eq!(work.hold_of(&slot("a")), Hold::Resting(until));
        assert!(until >= now + LIMITS.first * 7 / 10 && until <= now + LIMITS.first * 14 / 10);
        work.wake(now);
        assert!(!work.any_due());
        work.wake(until);
        assert!(work.due(&slot("a")));
        assert_eq!((work.hold_of(&slot("a")), work.next_wake()), (Hold::Free, None));
    }

    #[test]
    fn what_is_abandoned_is_free_and_due_again_with_all_that_was_told_of_it() {
        let mut work = work(&[slot("a")]);
        let txn = send(&mut work, &[slot("a")], &[pool("p")]);
        work.park(slot("b"), txn);
        assert!(work.hear(heard(&slot("a"))).is_none());
        work.failed(&slot("c"), Mishap::Refused, clock::now());
        assert_eq!(work.abandon().heard.len(), 1);
        assert_eq!(
            (work.n_in_flight(), work.hold_of(&slot("a")), work.hold_of(&pool("p"))),
            (0, Hold::Free, Hold::Free)
        );
        assert!(work.due(&slot("a")) && work.due(&slot("b")) && work.due(&slot("c")));
    }

    #[test]
    fn a_starved_slot_is_looked_at_when_its_pool_is() {
        let mut work = work(&[slot("a")]);
        work.pop();
        work.settle(&slot("a"), Some(pool("p")));
        assert!(work.settled());
        work.add(pool("p"));
        assert!(work.due(&slot("a")) && work.due(&pool("p")));
    }
}
