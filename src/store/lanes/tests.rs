//! Lanes against a model of etcd whose answers get lost, and whose unanswered transactions are applied now, later or never.

use super::*;
use crate::store::{
    checkpoint::tests::sample,
    txn::{Condition, Ground},
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

fn keys() -> ControlKeys {
    ControlKeys::new("/control".into(), "blue".into())
}

fn record(sequence: u64) -> Vec<u8> {
    sample(sequence).encode()
}

fn sequence(value: &[u8]) -> u64 {
    Checkpoint::decode(value).unwrap().sequence
}

fn lanes(n: u32, found: &[(u32, Revision)], sequence: u64) -> Lanes {
    Lanes::new(&keys(), n.try_into().unwrap(), found, sequence)
}

fn refused() -> CommitError {
    CommitError::Refused { n_operations: 2, ground: Ground::Other, source: "no".into() }
}

fn unanswered() -> CommitError {
    CommitError::Unanswered { n_operations: 2, waited: Duration::ZERO, source: "silence".into() }
}

/// One lane whose key is at revision 5, and a transaction in it, with sequence 11.
fn one_sent() -> Lanes {
    let mut lanes = lanes(1, &[(0, Revision(5))], 10);
    let (lane, write) = lanes.begin(record).unwrap();
    assert_eq!((lane, write.expected, &*write.key), (LaneId(0), Revision(5), "/control/blue/lanes/0"));
    assert_eq!(write.action, Action::Put(record(11).into()));
    lanes
}

/// The same, without an answer, and one settling on its way, with sequence 12.
fn one_settling() -> Lanes {
    let mut lanes = one_sent();
    assert!(matches!(lanes.answered(LaneId(0), Err(unanswered())), LaneAnswer::Open(_)));
    let write = lanes.settle(LaneId(0), record).unwrap();
    assert_eq!((write.expected, write.action), (Revision(5), Action::Put(record(12).into())));
    lanes
}

fn own(revision: i64, value: Vec<u8>) -> Current {
    Current { key: keys().lane(0), value: Some((Revision(revision), value)) }
}

fn lost(current: Vec<Current>) -> Commit {
    Commit::Conflicted { at: Revision(99), current }
}

fn document() -> Current {
    Current { key: "/p/a".into(), value: None }
}

/// The next transaction in the only lane expects its key at this revision.
#[track_caller]
fn free_at(lanes: &mut Lanes, revision: i64) {
    assert_eq!(lanes.begin(record).unwrap().1.expected, Revision(revision));
}

#[track_caller]
fn over(lanes: &mut Lanes) {
    assert_eq!((lanes.n_free(), lanes.begin(record), lanes.settle(LaneId(0), record)), (0, None, None));
}

#[test]
fn a_lane_goes_on_from_the_revision_of_its_last_transaction() {
    let mut lanes = one_sent();
    assert_eq!((lanes.n_free(), lanes.begin(record)), (0, None));
    assert!(matches!(lanes.answered(LaneId(0), Ok(Commit::Applied(Revision(8)))), LaneAnswer::Applied(Revision(8))));
    assert_eq!(lanes.sequence(), 11);
    free_at(&mut lanes, 8);
}

#[test]
fn a_lane_without_a_key_begins_with_its_absence() {
    let mut lanes = lanes(2, &[(1, Revision(3))], 4);
    let expected = [lanes.begin(record), lanes.begin(record)].map(|begun| begun.unwrap().1.expected);
    assert_eq!((expected, lanes.sequence()), ([Revision::ABSENT, Revision(3)], 6));
}

#[test]
fn a_lost_race_about_documents_leaves_the_lane_as_it_was() {
    let mut lanes = one_sent();
    let answer = lanes.answered(LaneId(0), Ok(lost(vec![document(), own(5, record(10))])));
    let LaneAnswer::Conflicted { at: Revision(99), current } = answer else { panic!("{answer:?}") };
    assert_eq!(current, [document()]);
    free_at(&mut lanes, 5);
}

#[test]
fn what_etcd_refuses_leaves_the_lane_as_it_was() {
    let mut lanes = one_sent();
    assert!(matches!(lanes.answered(LaneId(0), Err(refused())), LaneAnswer::Refused(_)));
    free_at(&mut lanes, 5);
}

#[test]
fn a_lane_lost_without_a_lost_answer_is_stolen() {
    let stolen = [own(7, record(99)), own(7, b"x".to_vec()), Current { key: keys().lane(0), value: None }, document()];
    for current in stolen {
        let mut lanes = one_sent();
        let answer = lanes.answered(LaneId(0), Ok(lost(vec![current])));
        assert!(matches!(answer, LaneAnswer::Stolen), "{answer:?}");
        over(&mut lanes);
    }
}

#[test]
fn a_transaction_that_was_delivered_twice_was_applied() {
    let mut lanes = one_sent();
    let answer = lanes.answered(LaneId(0), Ok(lost(vec![own(7, record(11))])));
    assert!(matches!(answer, LaneAnswer::Applied(Revision(7))), "{answer:?}");
    free_at(&mut lanes, 7);
    let mut lanes = one_settling();
    let answer = lanes.answered(LaneId(0), Ok(lost(vec![own(7, record(12))])));
    assert!(matches!(answer, LaneAnswer::Void), "{answer:?}");
    free_at(&mut lanes, 7);
}

#[test]
fn whoever_is_fenced_sends_nothing_more() {
    for mut lanes in [one_sent(), one_settling()] {
        assert!(matches!(lanes.answered(LaneId(0), Ok(Commit::Fenced)), LaneAnswer::Fenced));
        over(&mut lanes);
    }
}

#[test]
fn a_settling_that_wins_voids_the_lost_transaction() {
    let mut lanes = one_settling();
    assert!(matches!(lanes.answered(LaneId(0), Ok(Commit::Applied(Revision(9)))), LaneAnswer::Void));
    free_at(&mut lanes, 9);
}

#[test]
fn a_settling_that_loses_finds_the_lost_transaction() {
    let mut lanes = one_settling();
    let answer = lanes.answered(LaneId(0), Ok(lost(vec![own(6, record(11))])));
    assert!(matches!(answer, LaneAnswer::Applied(Revision(6))), "{answer:?}");
    free_at(&mut lanes, 6);
}

#[test]
fn a_settling_that_loses_may_find_an_earlier_one_without_answer() {
    for (found, void) in [(11, false), (12, true), (13, true)] {
        let mut lanes = one_settling();
        for _ in 0..2 {
            assert!(matches!(lanes.answered(LaneId(0), Err(unanswered())), LaneAnswer::Open(_)));
            assert_eq!(lanes.settle(LaneId(0), record).unwrap().expected, Revision(5));
        }
        let answer = lanes.answered(LaneId(0), Ok(lost(vec![own(7, record(found))])));
        assert!(matches!(answer, LaneAnswer::Void) == void, "{found}: {answer:?}");
        assert!(matches!(answer, LaneAnswer::Applied(Revision(7))) != void, "{found}: {answer:?}");
        free_at(&mut lanes, 7);
    }
}

#[test]
fn a_settling_that_is_refused_leaves_the_lane_open() {
    let mut lanes = one_settling();
    assert!(matches!(lanes.answered(LaneId(0), Err(refused())), LaneAnswer::Open(_)));
    assert_eq!(lanes.n_free(), 0);
    // It cannot have been applied, so its sequence in the lane is somebody else's.
    lanes.settle(LaneId(0), record).unwrap();
    assert!(matches!(lanes.answered(LaneId(0), Ok(lost(vec![own(7, record(12))]))), LaneAnswer::Stolen));
}

#[test]
fn a_settling_that_finds_a_stranger_is_stolen() {
    let strangers =
        [own(7, record(99)), own(5, record(10)), own(7, vec![]), Current { key: keys().lane(0), value: None }];
    for current in strangers {
        let mut lanes = one_settling();
        let answer = lanes.answered(LaneId(0), Ok(lost(vec![current])));
        assert!(matches!(answer, LaneAnswer::Stolen), "{answer:?}");
        over(&mut lanes);
    }
}

#[test]
fn only_an_open_lane_is_settled_and_one_settling_at_a_time() {
    let mut lanes = one_sent();
    assert_eq!(lanes.settle(LaneId(0), record), None);
    assert_eq!(lanes.settle(LaneId(7), record), None);
    let mut lanes = one_settling();
    assert_eq!(lanes.settle(LaneId(0), record), None);
}

#[test]
fn keys_beyond_the_number_of_lanes_go_once_a_newer_record_is_there() {
    let mut lanes = lanes(1, &[(0, Revision(5)), (2, Revision(6)), (1, Revision(4))], 10);
    assert_eq!(lanes.surplus(), []);
    let (lane, _) = lanes.begin(record).unwrap();
    assert_eq!(lanes.surplus(), []);
    let _ = lanes.answered(lane, Ok(lost(vec![own(5, record(10))])));
    assert_eq!(lanes.surplus(), []);
    let (lane, _) = lanes.begin(record).unwrap();
    let _ = lanes.answered(lane, Ok(Commit::Applied(Revision(9))));
    let delete = |number, at| Write { key: keys().lane(number), expected: Revision(at), action: Action::Delete };
    assert_eq!(lanes.surplus(), [delete(2, 6), delete(1, 4)]);
    lanes.surplus_gone();
    assert_eq!(lanes.surplus(), []);
}

#[test]
fn a_settling_that_wins_is_a_newer_record_too() {
    let mut lanes = lanes(1, &[(3, Revision(6))], 10);
    let (lane, _) = lanes.begin(record).unwrap();
    let _ = lanes.answered(lane, Err(unanswered()));
    lanes.settle(lane, record).unwrap();
    let _ = lanes.answered(lane, Ok(Commit::Applied(Revision(9))));
    assert_eq!(lanes.surplus().len(), 1);
}

#[test]
fn surplus_keys_go_in_transactions_that_etcd_takes() {
    let found: Vec<_> = (0..100).map(|number| (number, Revision(5))).collect();
    let mut lanes = lanes(1, &found, 10);
    let (lane, _) = lanes.begin(record).unwrap();
    let _ = lanes.answered(lane, Ok(Commit::Applied(Revision(9))));
    let mut gone = BTreeSet::new();
    while !lanes.surplus().is_empty() {
        assert!(lanes.surplus().len() <= SURPLUS_MAX);
        gone.extend(lanes.surplus().into_iter().map(|write| write.key));
        lanes.surplus_gone();
    }
    assert_eq!(gone, (1..100).map(|number| keys().lane(number)).collect());
}

// --- Against a model ---------------------------------------------------------------------------------------------------

/// What the model does with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Carried out, and the answer is lost.
    Silent,
    /// Carried out later, if ever; there is no answer.
    Late,
    /// Never carried out; there is no answer.
    Dropped,
    Refused,
}

const FATES: [Fate; 5] = [Fate::Answered, Fate::Silent, Fate::Late, Fate::Dropped, Fate::Refused];

/// A transaction as the model knows it: its writes, and the term it was sent in.
#[derive(Clone, Debug)]
struct Sent {
    term: u32,
    conditions: Vec<Condition>,
    writes: Vec<Write>,
}

/// etcd, and everything sent to it that it may still carry out.
#[derive(Clone, Debug)]
struct Model {
    revision: i64,
    term: u32,
    kvs: BTreeMap<Arc<str>, (Revision, Vec<u8>)>,
    late: Vec<Sent>,
}

impl Model {
    fn at(&self, key: &str) -> Revision {
        self.kvs.get(key).map_or(Revision::ABSENT, |(at, _)| *at)
    }

    fn carry_out(&mut self, sent: &Sent) -> Commit {
        if sent.term != self.term {
            return Commit::Fenced;
        }
        let written = sent.writes.iter().map(|write| (&write.key, write.expected));
        let compared: Vec<_> =
            written.chain(sent.conditions.iter().map(|condition| (&condition.key, condition.expected))).collect();
        if compared.iter().any(|(key, expected)| self.at(key) != *expected) {
            let current =
                |(key, _): &(&Arc<str>, Revision)| Current { key: Arc::clone(key), value: self.kvs.get(*key).cloned() };
            return Commit::Conflicted { at: Revision(self.revision), current: compared.iter().map(current).collect() };
        }
        self.revision += 1;
        for write in &sent.writes {
            match &write.action {
                Action::Put(value) => {
                    let earlier = self.kvs.insert(Arc::clone(&write.key), (Revision(self.revision), value.to_vec()));
                    if let (true, Some((_, earlier))) = (write.key.contains("/lanes/"), earlier) {
                        assert!(sequence(&earlier) < sequence(value), "a lane goes back");
                    }
                }
                Action::Delete => drop(self.kvs.remove(&write.key)),
            }
        }
        Commit::Applied(Revision(self.revision))
    }

    fn send(&mut self, sent: Sent, fate: Fate) -> Result<Commit, CommitError> {
        match fate {
            Fate::Answered => Ok(self.carry_out(&sent)),
            Fate::Silent => {
                self.carry_out(&sent);
                Err(unanswered())
            }
            Fate::Late => {
                self.late.push(sent);
                Err(unanswered())
            }
            Fate::Dropped => Err(unanswered()),
            Fate::Refused => Err(refused()),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A transaction; it loses about its document if `loses`.
    Begin { fate: Fate, loses: bool },
    /// The settling of this lane, if it is open.
    Settle { lane: u32, fate: Fate },
    /// What was late is carried out: this one of them.
    Deliver(usize),
    /// Surplus lanes are deleted.
    Tidy(Fate),
    /// Another leads, with so many lanes.
    Lead(u32),
}

/// Lanes that are used, the etcd they are used on, and what was said about each transaction.
#[derive(Clone, Debug)]
struct World {
    model: Model,
    lanes: Lanes,
    /// The transaction in each lane; each writes a document of its own.
    in_lane: BTreeMap<LaneId, Arc<str>>,
    n_sent: u32,
    /// Documents said to be written, with the revision.
    applied: BTreeMap<Arc<str>, Revision>,
    /// Documents said not to be.
    not_applied: BTreeSet<Arc<str>>,
    /// The highest sequence of all that was carried out.
    highest: u64,
}

impl World {
    fn new(n: u32) -> Self {
        Self {
            model: Model { revision: 1, term: 0, kvs: BTreeMap::new(), late: Vec::new() },
            lanes: lanes(n, &[], 0),
            in_lane: BTreeMap::new(),
            n_sent: 0,
            applied: BTreeMap::new(),
            not_applied: BTreeSet::new(),
            highest: 0,
        }
    }

    fn sent(&self, conditions: Vec<Condition>, writes: Vec<Write>) -> Sent {
        Sent { term: self.model.term, conditions, writes }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Begin { fate, loses } => {
                let Some((lane, write)) = self.lanes.begin(record) else { return };
                self.n_sent += 1;
                let document: Arc<str> = format!("/p/{}", self.n_sent).into();
                let put =
                    Write { key: Arc::clone(&document), expected: Revision::ABSENT, action: Action::Put([].into()) };
                let other = Condition { key: "/p/other".into(), expected: Revision(i64::from(*loses)) };
                self.in_lane.insert(lane, document);
                let answer = self.model.send(self.sent(vec![other], vec![put, write]), *fate);
                self.answered(lane, answer);
            }
            Step::Settle { lane, fate } => {
                let Some(write) = self.lanes.settle(LaneId(*lane), record) else { return };
                let answer = self.model.send(self.sent(vec![], vec![write]), *fate);
                self.answered(LaneId(*lane), answer);
            }
            Step::Deliver(which) => {
                if !self.model.late.is_empty() {
                    let sent = self.model.late.remove(which % self.model.late.len());
                    self.model.carry_out(&sent);
                }
            }
            Step::Tidy(fate) => {
                let writes = self.lanes.surplus();
                if !writes.is_empty() {
                    match self.model.send(self.sent(vec![], writes), *fate) {
                        Ok(Commit::Applied(_)) => self.lanes.surplus_gone(),
                        Ok(Commit::Conflicted { current, .. }) => {
                            assert!(current.iter().all(|current| current.value.is_none()));
                            self.lanes.surplus_gone();
                        }
                        Ok(Commit::Fenced) => panic!("nobody else leads"),
                        Err(_) => {}
                    }
                }
            }
            Step::Lead(n) => self.lead(*n),
        }
        self.check();
    }

    fn lead(&mut self, n: u32) {
        self.model.term += 1;
        self.in_lane.clear();
        let read = |(key, (at, value)): (&Arc<str>, &(Revision, Vec<u8>))| {
            let number = key.strip_prefix("/control/blue/lanes/")?.parse().unwrap();
            Some((number, *at, sequence(value)))
        };
        let found: Vec<(u32, Revision, u64)> = self.model.kvs.iter().filter_map(read).collect();
        let highest = found.iter().map(|(_, _, sequence)| *sequence).max().unwrap_or(0);
        assert_eq!(highest, self.highest, "the checkpoint is the record with the highest sequence ever carried out");
        let found: Vec<_> = found.into_iter().map(|(number, at, _)| (number, at)).collect();
        self.lanes = lanes(n, &found, highest);
    }

    fn answered(&mut self, lane: LaneId, answer: Result<Commit, CommitError>) {
        let document = Arc::clone(&self.in_lane[&lane]);
        match self.lanes.answered(lane, answer) {
            LaneAnswer::Applied(at) => {
                assert_eq!(self.model.at(&document), at, "{document} is where it was said to be");
                self.applied.insert(document, at);
            }
            LaneAnswer::Conflicted { current, .. } => {
                assert!(current.iter().all(|current| !current.key.contains("/lanes/")));
                self.not_applied.insert(document);
            }
            LaneAnswer::Refused(_) | LaneAnswer::Void => {
                self.not_applied.insert(document);
            }
            LaneAnswer::Open(_) => return,
            answer @ (LaneAnswer::Fenced | LaneAnswer::Stolen) => panic!("nobody else is here: {answer:?}"),
        }
        self.in_lane.remove(&lane);
    }

    fn check(&mut self) {
        for document in &self.not_applied {
            assert_eq!(self.model.at(document), Revision::ABSENT, "{document} was said not to be written");
        }
        for (document, at) in &self.applied {
            assert_eq!(self.model.at(document), *at, "{document} was said to be written");
        }
        let lanes = self.model.kvs.iter().filter(|(key, _)| key.contains("/lanes/"));
        let highest = lanes.map(|(_, (_, value))| sequence(value)).max().unwrap_or(0);
        assert!(self.highest <= highest, "the newest record was lost");
        self.highest = highest;
    }

    /// Whatever is still on its way comes at last, and every lane can be settled.
    fn end(mut self) {
        let n_lanes = u32::try_from(self.lanes.all.len()).unwrap();
        let mut delivered = self.clone();
        while !delivered.model.late.is_empty() {
            delivered.step(&Step::Deliver(0));
        }
        for world in [&mut self, &mut delivered] {
            for lane in 0..n_lanes {
                world.step(&Step::Settle { lane, fate: Fate::Answered });
            }
            assert_eq!((world.lanes.n_free(), world.in_lane.len()), (usize::try_from(n_lanes).unwrap(), 0));
        }
        while !self.model.late.is_empty() {
            self.step(&Step::Deliver(0));
        }
    }
}

/// Every history of one lane of so many steps.
fn exhaust(world: &World, n_steps: usize, n_ended: &mut u64) {
    if n_steps == 0 {
        *n_ended += 1;
        world.clone().end();
        return;
    }
    let mut steps: Vec<Step> = Vec::new();
    if world.lanes.n_free() > 0 {
        steps.extend(FATES.map(|fate| Step::Begin { fate, loses: false }));
        steps.extend([Fate::Answered, Fate::Late].map(|fate| Step::Begin { fate, loses: true }));
    } else {
        steps.extend(FATES.map(|fate| Step::Settle { lane: 0, fate }));
    }
    match world.model.late.len() {
        0 => {}
        1 => steps.push(Step::Deliver(0)),
        n => steps.extend([Step::Deliver(0), Step::Deliver(n - 1)]),
    }
    for step in steps {
        let mut world = world.clone();
        world.step(&step);
        exhaust(&world, n_steps - 1, n_ended);
    }
}

#[test]
fn in_every_short_history_of_one_lane_each_answer_is_true_and_stays_true() {
    let mut n_ended = 0;
    exhaust(&World::new(1), 5, &mut n_ended);
    assert!(n_ended > 10_000, "{n_ended}");
}

fn step() -> impl Strategy<Value = Step> {
    let fate = || select(FATES.to_vec());
    prop_oneof![
        4 => (fate(), any::<bool>()).prop_map(|(fate, loses)| Step::Begin { fate, loses }),
        4 => (0..4_u32, fate()).prop_map(|(lane, fate)| Step::Settle { lane, fate }),
        3 => any::<usize>().prop_map(Step::Deliver),
        1 => fate().prop_map(Step::Tidy),
        1 => (1..5_u32).prop_map(Step::Lead),
    ]
}

proptest! {
    #[test]
    fn in_long_histories_of_several_lanes_and_leaders_each_answer_is_true_and_stays_true(
        steps in vec(step(), 1..60),
    ) {
        let mut world = World::new(3);
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}
