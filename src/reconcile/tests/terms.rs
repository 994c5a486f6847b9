//! Leading: what has to be known before the first write, what ends a term, and what becomes of transactions without an answer.

use super::*;
use crate::{
    leader::Again,
    plan::step::Unsealed,
    reconcile::progress::Role,
    store::{
        checkpoint::{Checkpoint, judge::Stop},
        control::{ControlKey, Purpose},
        records::LaneRecord,
        txn::{Action, Current, Ground},
    },
};
use std::collections::BTreeMap;

/// The record of another leader, that knew every kind up to `version`.
pub(super) fn record(cluster: &str, version: u64) -> Checkpoint {
    let versions: BTreeMap<Arc<str>, CacheVersion> =
        Kind::ALL.into_iter().map(|kind| (kind.resource().into(), CacheVersion(version))).collect();
    Checkpoint {
        instance: "default".into(),
        cluster: cluster.into(),
        prefixes: [("/apisix".into(), "".into())].into(),
        versions: if cluster.is_empty() { BTreeMap::new() } else { versions },
        sequence: 40,
        holder: "other".into(),
        written_at: 0,
    }
}

impl Table {
    pub(super) fn lanes_hold(&mut self, record: &Checkpoint) {
        let lane = |number| LaneRecord { number, mod_revision: Revision(1), record: Ok(record.clone()) };
        self.records = Records { revision: Revision(1), lanes: vec![lane(0), lane(7)], strangers: Vec::new() };
    }

    pub(super) fn control_tells(&mut self, purpose: Purpose, revision: i64, value: Vec<u8>) {
        let key = ControlKey { instance: "default".into(), purpose };
        let changes = vec![(key, Revision(revision), Some(value))];
        self.state.control_event(ControlEvent::Changed { revision: Revision(revision), changes }, self.now);
    }

    /// Every kind is listed anew, at a version, in answer to a request or not.
    fn listed_again(&mut self, version: u64, ticket: u64) {
        for (kind, objects) in read(&[GATEWAY, ROUTE, SERVICE]).objects {
            let version = Some(CacheVersion(version));
            let event = ClusterEvent::Listed { kind, objects, version, ticket, at: self.now };
            self.state.cluster_event(event, self.now);
        }
    }

    fn role(&self) -> Role {
        self.state.progress().role
    }

    fn resignation(&mut self) -> Option<Again> {
        self.resigned.try_recv().ok().map(|resign| resign.again)
    }
}

/// The record that a transaction puts into its lane.
fn record_of(txn: &Txn) -> Checkpoint {
    let lane = txn.writes.iter().find(|write| write.key.contains("/lanes/")).unwrap();
    let Action::Put(bytes) = &lane.action else { panic!("a lane is deleted") };
    Checkpoint::decode(bytes).unwrap()
}

#[test]
fn a_standby_writes_nothing_and_says_nothing() {
    let mut table = Table::standby();
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    assert!(table.sent.is_empty());
    assert_eq!(table.state.report.sink().n_published, 0);
    assert_eq!(table.role(), Role::Standby { leader: None });
    table.wins(5);
    table.work_off();
    assert_eq!((table.stored(), table.role()), ([1, 1], Role::Leading));
    assert!(table.state.report.sink().n_published > 0);
}

#[test]
fn every_transaction_carries_the_fence_a_lane_and_what_was_known() {
    let mut table = Table::standby();
    table.wins(5);
    table.pass();
    assert!(!table.sent.is_empty());
    for (_, txn) in &table.sent {
        assert_eq!(txn.fence.created, Revision(5));
        let record = record_of(txn);
        assert_eq!((&*record.cluster, &*record.holder), ("cluster", "replica"));
        assert_eq!(record.versions[&*Kind::TcpRoute.resource()], CacheVersion(10));
    }
}

#[test]
fn a_fenced_leader_stops_at_once_and_begins_anew() {
    let mut table = Table::settled();
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    let (number, _) = table.sent.pop().unwrap();
    table.state.task_answered(Answer::Committed(number, Ok(Commit::Fenced)), table.now);
    table.pass();
    assert!(table.sent.is_empty() && table.role() == Role::Standby { leader: None });
    assert_eq!(table.resignation(), Some(Again::AtOnce));
    table.wins(9);
    table.pass();
    assert_eq!(table.sent.len(), 1, "what was in flight goes again");
}

#[test]
fn an_answer_of_an_earlier_term_is_no_matter() {
    let mut table = Table::settled();
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    let (number, _) = table.sent.pop().unwrap();
    table.state.leadership(Leadership::Standby { leader: Some("other".into()) }, table.now);
    table.state.task_answered(Answer::Committed(number, Ok(Commit::Applied(Revision(30)))), table.now);
    table.wins(9);
    table.pass();
    assert_eq!(table.sent.len(), 1, "whether it was applied only the watch can tell");
}

#[test]
fn a_leader_behind_the_record_lists_anew_before_it_writes() {
    let mut table = Table::standby();
    table.lanes_hold(&record("cluster", 25));
    table.wins(5);
    table.pass();
    assert!(table.sent.is_empty() && table.role() == Role::TakingOver);
    let asked: Vec<Relist> = std::iter::from_fn(|| table.asked_lists.try_recv().ok()).collect();
    assert_eq!(asked.len(), Kind::ALL.len());
    table.listed_again(25, asked.iter().map(|relist| relist.ticket).max().unwrap());
    table.pass();
    assert!(table.role() == Role::Leading && !table.sent.is_empty());
    assert_eq!(record_of(&table.sent[0].1).sequence, 41, "the sequence goes on");
}

#[test]
fn a_cluster_whose_newest_list_is_older_than_the_record_was_restored() {
    let mut table = Table::standby();
    table.lanes_hold(&record("cluster", 25));
    table.control_tells(Purpose::Lane(0), 20, record("cluster", 25).encode());
    table.wins(5);
    table.pass();
    table.listed_again(12, 0);
    assert_eq!(table.role(), Role::TakingOver, "this list may have been begun earlier");
    table.listed_again(12, u64::MAX);
    table.pass();
    assert!(matches!(table.state.halted, Some(Stop::Restored { .. })), "{:?}", table.state.halted);
    assert!(table.sent.is_empty() && !table.state.fit());
    assert_eq!((table.resignation(), table.metric("halted")), (Some(Again::AtOnce), Some(1.0)));
    table.control_tells(Purpose::Lane(0), 30, record("", 0).encode());
    assert!(table.state.fit(), "a person accepted the cluster");
    assert_eq!(table.metric("halted"), Some(0.0));
}

#[test]
fn a_list_older_than_what_was_written_from_stops_a_leader() {
    let mut table = Table::settled();
    table.listed_again(9, 0);
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    assert!(table.sent.is_empty() && table.role() != Role::Leading);
    assert_eq!(table.resignation(), Some(Again::AtOnce));
}

#[test]
fn the_record_of_another_cluster_stops_whoever_finds_it() {
    let mut table = Table::standby();
    table.lanes_hold(&record("elsewhere", 3));
    table.wins(5);
    table.pass();
    assert!(matches!(table.state.halted, Some(Stop::OtherCluster { .. })), "{:?}", table.state.halted);
    assert!(table.sent.is_empty() && !table.state.fit());
    let mut standby = Table::standby();
    standby.control_tells(Purpose::Lane(0), 30, record("elsewhere", 3).encode());
    assert!(!standby.state.fit(), "nor does it campaign");
    standby.control_tells(Purpose::Lane(0), 31, b"nonsense".to_vec());
    assert!(matches!(standby.state.halted, Some(Stop::Broken { .. })), "{:?}", standby.state.halted);
}

#[test]
fn what_a_leader_has_written_is_claimed_before_the_watch_tells_of_it() {
    let mut table = Table::settled();
    assert!(!table.state.claims[&Plane::default()].ours, "the watch has not told");
    assert_eq!(table.state.unsealed(Plane::default()), Unsealed::Ours);
    table.control_tells(Purpose::Lane(0), 20, record("cluster", 10).encode());
    let gone = vec![(ControlKey { instance: "default".into(), purpose: Purpose::Lane(0) }, Revision(21), None)];
    table.state.control_event(ControlEvent::Changed { revision: Revision(21), changes: gone }, table.now);
    assert_eq!(table.state.unsealed(Plane::default()), Unsealed::Foreign, "somebody has taken the record away");
}

#[test]
fn nonsense_in_a_lane_that_is_not_used_stops_a_leader_too() {
    let mut table = Table::settled();
    table.control_tells(Purpose::Lane(7), 30, b"nonsense".to_vec());
    assert!(matches!(table.state.halted, Some(Stop::Broken { .. })), "{:?}", table.state.halted);
    assert_eq!((table.role() == Role::Leading, table.resignation()), (false, Some(Again::AtOnce)));
    table.control_tells(Purpose::Lane(7), 31, record("", 30).encode());
    assert!(table.state.fit(), "a person has replaced it");
}

#[test]
fn a_transaction_without_an_answer_is_settled_before_its_documents_go_again() {
    for applied in [false, true] {
        let mut table = Table::settled();
        table.changed(Kind::EndpointSlice, &endpoints(101));
        table.pass();
        let lost = table.sent[0].1.clone();
        table.fall_silent();
        table.changed(Kind::EndpointSlice, &endpoints(102));
        table.pass();
        assert!(table.sent.is_empty(), "nothing goes while it is not known what became of the first");
        table.now = table.state.next_wake(table.now).unwrap();
        table.pass();
        assert_eq!(table.sent.len(), 1);
        let (number, settling) = table.sent.pop().unwrap();
        let lane = lost.writes.last().unwrap();
        assert_eq!(settling.writes.len(), 1, "the lane alone: {settling:?}");
        assert_eq!((&settling.writes[0].key, settling.writes[0].expected), (&lane.key, lane.expected));
        let answer = if applied {
            let Action::Put(bytes) = &lane.action else { panic!("a lane is deleted") };
            let value = Some((Revision(70), bytes.to_vec()));
            Commit::Conflicted { at: Revision(71), current: vec![Current { key: lane.key.clone(), value }] }
        } else {
            Commit::Applied(Revision(70))
        };
        table.state.task_answered(Answer::Committed(number, Ok(answer)), table.now);
        table.pass();
        while table.sent.is_empty() {
            table.now = table.state.next_wake(table.now).unwrap();
            table.pass();
        }
        let pool = &table.sent[0].1.writes[0];
        let expected = if applied { Revision(70) } else { lost.writes[0].expected };
        assert_eq!(pool.expected, expected, "what is known of the pool after settling, applied: {applied}");
    }
}

#[test]
fn somebody_elses_write_to_a_lane_ends_the_term() {
    let mut table = Table::settled();
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    let (number, txn) = table.sent.pop().unwrap();
    let value = Some((Revision(99), b"{}".to_vec()));
    let current = txn.writes.iter().map(|write| Current { key: write.key.clone(), value: value.clone() });
    let answer = Commit::Conflicted { at: Revision(99), current: current.collect() };
    table.state.task_answered(Answer::Committed(number, Ok(answer)), table.now);
    assert_eq!((table.role(), table.resignation()), (Role::Standby { leader: None }, Some(Again::AtOnce)));
}

#[test]
fn a_leader_that_cannot_write_gives_way_unless_etcd_is_full() {
    for full in [false, true] {
        let mut table = Table::settled();
        table.changed(Kind::EndpointSlice, &endpoints(101));
        let end = table.now + table.state.settings.write_stall * 2;
        while table.now < end && table.role() == Role::Leading {
            table.pass();
            for (number, txn) in std::mem::take(&mut table.sent) {
                let error = CommitError::Refused {
                    n_operations: txn.n_operations(),
                    ground: if full { Ground::Full } else { Ground::Other },
                    source: "no".into(),
                };
                table.state.task_answered(Answer::Committed(number, Err(error)), table.now);
            }
            table.now = table.state.next_wake(table.now).unwrap_or(end);
        }
        assert_eq!(table.resignation(), if full { None } else { Some(Again::Later) }, "full: {full}");
        assert_eq!(table.metric("store_full"), Some(if full { 1.0 } else { 0.0 }));
    }
}

#[test]
fn lanes_that_are_not_used_any_more_go_once_a_newer_record_is_there() {
    let mut table = Table::standby();
    table.lanes_hold(&record("cluster", 10));
    table.wins(5);
    table.pass();
    let lanes_deleted = |table: &Table| {
        let writes = table.sent.iter().flat_map(|(_, txn)| &txn.writes);
        writes.filter(|write| write.action == Action::Delete).map(|write| write.key.to_string()).collect::<Vec<_>>()
    };
    assert!(!table.sent.is_empty() && lanes_deleted(&table).is_empty(), "it may hold the newest record");
    table.apply_all();
    table.pass();
    assert_eq!(lanes_deleted(&table), ["/control/default/lanes/7"]);
    table.work_off();
    assert!(table.state.work.settled());
}

#[test]
fn a_release_that_was_cleared_is_remembered_until_the_watch_says_so() {
    let mut table = Table::settled();
    for n in 0..3 {
        table.control_tells(Purpose::Release("start".into()), 100 + n, b"".to_vec());
        table.work_off();
        assert_eq!(table.state.cleared.len(), 1, "etcd's word is still to come");
        table.pass();
        assert!(table.sent.is_empty(), "it is not cleared twice");
        let key = ControlKey { instance: "default".into(), purpose: Purpose::Release("start".into()) };
        let revision = Revision(200 + n);
        let gone = ControlEvent::Changed { revision, changes: vec![(key, revision, None)] };
        table.state.control_event(gone, table.now);
        assert!(table.state.cleared.is_empty());
    }
    // The watch may be faster than the answer.
    table.control_tells(Purpose::Release("start".into()), 300, b"".to_vec());
    table.pass();
    let nothing = ControlEvent::Snapshot { revision: Revision(301), keys: Vec::new(), begins_anew: false };
    table.state.control_event(nothing, table.now);
    table.work_off();
    table.apply_all();
    assert!(table.state.cleared.is_empty());
}

#[test]
fn an_etcd_found_to_be_another_is_read_anew_before_anybody_leads_on_it() {
    let mut table = Table::settled();
    let term = table.state.term().cloned().unwrap();
    let listing = Listing { revision: Revision(50), keys: Vec::new() };
    table.state.task_answered(Answer::Listed(term, vec![(Plane::default(), Ok((StoreId(7), listing)))]), table.now);
    assert_eq!((table.role(), table.resignation()), (Role::Standby { leader: None }, Some(Again::AtOnce)));
    assert!(!table.state.fit());
    let snapshot = Snapshot { store: StoreId(7), revision: Revision(50), begins_anew: true, ..Snapshot::default() };
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    assert!(table.state.fit());
}

#[test]
fn an_etcd_that_begins_anew_ends_the_term() {
    let mut table = Table::settled();
    let snapshot = Snapshot { revision: Revision(1), begins_anew: true, ..Snapshot::default() };
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    assert_eq!((table.role(), table.resignation()), (Role::Standby { leader: None }, Some(Again::AtOnce)));
}

#[test]
fn what_a_guard_kept_in_one_term_is_looked_at_again_in_the_next() {
    let mut table = Table::settled();
    let stands_by = Leadership::Standby { leader: None };
    table.state.leadership(stands_by.clone(), table.now);
    table.state.cluster_event(ClusterEvent::NotServed(Kind::Service), table.now);
    table.lanes_hold(&record("cluster", 10));
    table.wins(21);
    table.work_off();
    table.route_deleted();
    table.work_off();
    assert_eq!(table.stored(), [1, 1], "the Services may be all that speaks against it");

    table.state.leadership(stands_by, table.now);
    // What there was to know was known already.
    let objects = read(&[GATEWAY, ROUTE, SERVICE]).objects.remove(&Kind::Service).unwrap();
    let version = Some(CacheVersion(10));
    let listed = ClusterEvent::Listed { kind: Kind::Service, objects, version, ticket: 0, at: table.now };
    table.state.cluster_event(listed, table.now);
    table.wins(31);
    table.work_off();
    assert_eq!(table.stored()[1], 0);
}
