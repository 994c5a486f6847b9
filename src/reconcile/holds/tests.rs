//! Each sentence of the mass hold, over data planes of a few hundred slots.

use super::*;
use crate::{
    apisix::{
        routing::Reach,
        stored::{Seal, ValueHash},
    },
    clock,
    model::{names::ObjectName, places::Plane},
};
use std::{cell::Cell, ops::Range};

const TIME: Duration = Duration::from_hours(1);

/// What etcd holds and what is wanted: slot 7 is `slot(7)`, and its route's pool, unless it is said otherwise, `pool(7)`.
#[derive(Default)]
struct Table {
    stored: BTreeMap<WorkId, Inspected>,
    /// What each slot is to do, and for which pool.
    wanted: BTreeMap<WorkId, (Serves, Option<WorkId>)>,
    as_wanted: BTreeSet<WorkId>,
    n_looks: Cell<usize>,
}

impl HoldScene for Table {
    fn n_stored(&self) -> usize {
        self.stored.len()
    }

    fn stored(&self, slot: &WorkId) -> Option<&Inspected> {
        self.stored.get(slot)
    }

    fn stored_slots(&self, pool: &WorkId) -> Vec<WorkId> {
        self.n_looks.set(self.n_looks.get() + 1);
        self.stored
            .iter()
            .filter(|(_, stored)| stored.needs().any(|need| need == pool))
            .map(|(slot, _)| slot.clone())
            .collect()
    }

    fn wanted_slots(&self, pool: &WorkId) -> Vec<WorkId> {
        self.wanted.iter().filter(|(_, (_, of))| of.as_ref() == Some(pool)).map(|(slot, _)| slot.clone()).collect()
    }

    fn slots_of_route(&self, pool: &WorkId) -> Vec<WorkId> {
        self.wanted_slots(pool)
    }

    fn serves(&self, slot: &WorkId) -> Serves {
        self.wanted.get(slot).map_or(Serves::Absent, |(serves, _)| *serves)
    }

    fn as_wanted(&self, slot: &WorkId) -> bool {
        self.as_wanted.contains(slot)
    }
}

fn slot(n: usize) -> WorkId {
    WorkId::new(Plane::default(), Directory::StreamRoutes, &format!("gateway-api.{n:05}"))
}

fn pool(n: usize) -> WorkId {
    WorkId::new(Plane::default(), Directory::Upstreams, &format!("gateway-api.{n:05}"))
}

fn slots(range: Range<usize>) -> BTreeSet<WorkId> {
    range.map(slot).collect()
}

fn naming(pool: Option<WorkId>) -> Inspected {
    Inspected {
        seal: Seal::Intact { instance: "us".into() },
        hash: ValueHash::of(b""),
        sealed_as: None,
        pool,
        certificate: None,
        reach: Reach::Nothing,
    }
}

fn edge() -> Cause {
    Cause::Object(ObjectRef::new(Kind::Gateway, ObjectName::new("default", "edge")))
}

impl Table {
    /// `n` routes with a slot each, in etcd and wanted.
    fn of(n: usize) -> Self {
        let mut table = Self::default();
        for n in 0..n {
            table.store(n, n);
            table.want(n, Serves::Nodes(1), n);
        }
        table
    }

    fn store(&mut self, at: usize, of: usize) {
        self.stored.insert(slot(at), naming(Some(pool(of))));
    }

    fn want(&mut self, at: usize, serves: Serves, of: usize) {
        self.wanted.insert(slot(at), (serves, Some(pool(of))));
    }

    fn drop(mut self, range: Range<usize>) -> Self {
        for n in range {
            self.wanted.remove(&slot(n));
        }
        self
    }
}

/// A data plane with one thing held: what `cause` stopped of `n` slots, in `range`.
fn held(n: usize, range: Range<usize>) -> (Table, Holds, Instant) {
    let (table, mut holds, now) = (Table::of(n).drop(range.clone()), Holds::new(TIME), clock::now());
    let n_slots = range.len();
    let considered = holds.consider(&edge(), &slots(range), &table, now);
    let hold = Hold { name: "gateway/default/edge".into(), n_slots, n_stored: n, until: now + TIME };
    assert_eq!(considered, Considered { hold: Some(hold), let_go: BTreeSet::new() });
    (table, holds, now)
}

/// How many slots of `table` are held when `affected` is considered; `None` when nothing is.
#[track_caller]
fn consider(table: &Table, affected: &BTreeSet<WorkId>) -> Option<usize> {
    let mut holds = Holds::new(TIME);
    let n_slots = holds.consider(&edge(), affected, table, clock::now()).hold.map(|hold| hold.n_slots);
    let summary: Vec<usize> = holds.summary().map(|summary| summary.n_slots).collect();
    assert_eq!(summary, n_slots.into_iter().collect::<Vec<_>>());
    n_slots
}

#[test]
fn a_hundred_may_stop_and_one_more_may_not() {
    assert_eq!(consider(&Table::of(100).drop(0..100), &slots(0..100)), None);
    assert_eq!(consider(&Table::of(101).drop(0..101), &slots(0..101)), Some(101));
}

#[test]
fn half_may_stop_and_one_more_may_not() {
    assert_eq!(consider(&Table::of(400).drop(0..200), &slots(0..400)), None);
    assert_eq!(consider(&Table::of(400).drop(0..201), &slots(0..400)), Some(201));
    assert_eq!(consider(&Table::of(401).drop(0..200), &slots(0..401)), None);
    assert_eq!(consider(&Table::of(401).drop(0..201), &slots(0..401)), Some(201));
}

#[test]
fn only_what_the_cause_affects_is_counted() {
    assert_eq!(consider(&Table::of(150).drop(0..150), &slots(0..100)), None);
    assert_eq!(consider(&Table::of(150).drop(0..150), &slots(0..101)), Some(101));
}

#[test]
fn a_slot_stops_that_would_be_deleted_refused_or_left_without_nodes() {
    let mut table = Table::of(150).drop(0..50);
    for n in 50..100 {
        table.want(n, Serves::Refused, n);
        table.want(n + 50, Serves::NoNodes, n + 50);
    }
    assert_eq!(consider(&table, &slots(0..150)), Some(150));
}

#[test]
fn a_slot_does_not_stop_that_is_kept_or_given_to_a_route_with_nodes() {
    let mut table = Table::of(150);
    for n in 0..75 {
        table.want(n, Serves::Kept, n);
        table.want(n + 75, Serves::Nodes(1), n);
    }
    assert_eq!(consider(&table, &slots(0..150)), None);
}

#[test]
fn a_slot_does_not_stop_that_was_without_nodes_before() {
    let mut table = Table::of(150);
    for n in 0..150 {
        table.want(n, Serves::NoNodes, n);
    }
    assert_eq!(consider(&table, &slots(0..150)), Some(150));
    table.as_wanted = slots(0..50);
    assert_eq!(consider(&table, &slots(0..150)), None);
    table.as_wanted = slots(0..49);
    assert_eq!(consider(&table, &slots(0..150)), Some(101));
}

#[test]
fn slots_that_are_not_in_etcd_are_not_counted() {
    let mut table = Table::of(100).drop(0..100);
    assert_eq!(consider(&table, &slots(0..300)), None);
    table.store(100, 100);
    assert_eq!(consider(&table, &slots(0..300)), Some(101));
}

#[test]
fn slots_are_found_by_the_pools_they_name_and_those_they_are_to_name() {
    let mut table = Table::of(150);
    for n in 0..150 {
        // Every other one is about to be given to a route that has no nodes.
        let of = if n % 2 == 0 { n } else { n + 1_000 };
        table.want(n, Serves::NoNodes, of);
    }
    let named: BTreeSet<WorkId> = (0..150).step_by(2).map(pool).collect();
    assert_eq!(consider(&table, &named), None);
    let to_name = (1..150).step_by(2).map(|n| pool(n + 1_000));
    assert_eq!(consider(&table, &named.into_iter().chain(to_name).collect()), Some(150));
}

#[test]
fn a_slot_whose_route_has_another_or_gets_one_is_not_counted() {
    let mut table = Table::of(150).drop(0..150);
    // Already in etcd, and stays; still to come; in etcd, and kept.
    table.store(1_000, 0);
    table.want(1_000, Serves::Nodes(1), 0);
    table.want(1_001, Serves::Nodes(1), 1);
    table.store(1_002, 2);
    table.wanted.insert(slot(1_002), (Serves::Kept, None));
    assert_eq!(consider(&table, &slots(0..150)), Some(147));
}

#[test]
fn a_slot_is_counted_whose_route_gets_only_slots_that_do_not_serve() {
    let mut table = Table::of(150).drop(0..150);
    table.want(1_000, Serves::NoNodes, 0);
    // In etcd, and about to be given to somebody else.
    table.store(1_001, 1);
    table.want(1_001, Serves::Nodes(1), 9_999);
    assert_eq!(consider(&table, &slots(0..150)), Some(150));
}

#[test]
fn a_route_that_loses_all_its_slots_counts_with_each() {
    let mut table = Table::default();
    for n in 0..101 {
        table.store(n, 0);
    }
    assert_eq!(consider(&table, &slots(0..101)), Some(101));
}

#[test]
fn a_route_of_many_slots_is_looked_at_once() {
    let mut table = Table::default();
    for n in 0..500 {
        table.store(n, 0);
    }
    assert_eq!(consider(&table, &slots(0..500)), Some(500));
    assert_eq!(table.n_looks.get(), 1);
}

fn certificate(n: usize) -> WorkId {
    WorkId::new(Plane::default(), Directory::Ssls, &format!("gateway-api.{n:05}"))
}

impl Table {
    /// In etcd, these slots need this certificate.
    fn secure(&mut self, range: Range<usize>, n: usize) {
        for slot in slots(range) {
            self.stored.get_mut(&slot).unwrap().certificate = Some(certificate(n));
        }
    }
}

#[test]
fn slots_are_found_by_the_certificate_they_need_and_counted_instead_of_it() {
    let mut table = Table::of(150);
    table.secure(0..150, 7);
    for n in 0..150 {
        table.want(n, Serves::Refused, n);
    }
    assert_eq!(consider(&table, &[certificate(7)].into()), Some(150));
    assert_eq!(consider(&table, &[certificate(8)].into()), None);
}

#[test]
fn the_certificate_of_held_slots_is_held_until_none_of_them_needs_it() {
    let mut table = Table::of(200).drop(0..200);
    table.secure(0..200, 7);
    table.secure(1..200, 8);
    let (mut holds, now) = (Holds::new(TIME), clock::now());
    let hold = holds.consider(&Cause::Start, &slots(0..200), &table, now).hold.unwrap();
    assert_eq!((hold.n_slots, hold.n_stored), (200, 200));
    assert_eq!([7, 8, 9].map(|n| holds.held(&certificate(n)).is_some()), [true, true, false]);
    table.want(0, Serves::Nodes(1), 0);
    assert_eq!(holds.wanted_again(&slots(0..2), &table), [slot(0), pool(0), certificate(7)].into());
    assert_eq!([7, 8].map(|n| holds.held(&certificate(n)).is_some()), [false, true]);
    // A late answer gave one of them another.
    let moved = Inspected { certificate: Some(certificate(9)), ..naming(Some(pool(1))) };
    assert_eq!(holds.stored(&slot(1), Some(&moved)), [pool(1)].into());
    assert!([8, 9].iter().all(|n| holds.held(&certificate(*n)).is_some()) && holds.held(&pool(1)).is_some());
    assert_eq!(holds.release("start").len(), 199 * 2 + 2);
}

#[test]
fn a_slot_that_names_no_pool_is_counted_and_held() {
    let mut table = Table::of(150).drop(0..150);
    table.stored.insert(slot(0), naming(None));
    let mut holds = Holds::new(TIME);
    assert!(holds.consider(&Cause::Start, &slots(0..150), &table, clock::now()).hold.is_some());
    assert!(holds.held(&slot(0)).is_some() && holds.held(&pool(0)).is_none());
}

#[test]
fn deletes_of_single_objects_one_after_another_are_not_held() {
    let (mut table, mut holds) = (Table::of(300), Holds::new(TIME));
    for n in 0..300 {
        table.wanted.remove(&slot(n));
        let route = Cause::Object(ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", &n.to_string())));
        let considered = holds.consider(&route, &[slot(n), pool(n)].into(), &table, clock::now());
        assert_eq!(considered, Considered::default());
    }
    assert!(holds.is_empty());
    assert_eq!(holds.wanted_again(&slots(0..300), &table), BTreeSet::new());
    assert!(holds.is_empty());
}

#[test]
fn what_is_held_are_those_slots_and_the_pools_they_name_in_etcd_and_nothing_else() {
    let (_, holds, now) = held(300, 0..200);
    for n in 0..300 {
        let name = (n < 200).then(|| Arc::from("gateway/default/edge"));
        assert_eq!((holds.held(&slot(n)), holds.held(&pool(n))), (name.as_ref(), name.as_ref()), "{n}");
    }
    let summary = Summary { name: "gateway/default/edge".into(), n_slots: 200, since: now, until: now + TIME };
    assert_eq!(holds.summary().collect::<Vec<_>>(), [summary]);
    assert_eq!(holds.slots_of("gateway/default/edge").cloned().collect::<BTreeSet<_>>(), slots(0..200));
    assert_eq!(holds.slots_of("start").count(), 0);
}

#[test]
fn what_is_wanted_again_is_let_go_and_the_rest_stays() {
    let (mut table, mut holds, now) = held(300, 0..200);
    table.want(0, Serves::Nodes(1), 0);
    table.want(1, Serves::Nodes(1), 9_999);
    table.want(2, Serves::NoNodes, 2);
    table.want(3, Serves::Kept, 3);
    let again = [slot(0), pool(0), slot(1), pool(1), slot(3), pool(3)];
    assert_eq!(holds.wanted_again(&slots(0..10), &table), again.into());
    assert!(holds.held(&slot(0)).is_none() && holds.held(&pool(0)).is_none() && holds.held(&slot(2)).is_some());
    assert_eq!(holds.summary().map(|summary| summary.n_slots).collect::<Vec<_>>(), [197]);

    for n in 4..200 {
        table.want(n, Serves::Nodes(1), n);
    }
    table.want(2, Serves::Nodes(1), 2);
    let pools = (0..200).map(pool).collect();
    let considered = holds.consider(&edge(), &pools, &table, now);
    assert_eq!((considered.hold, considered.let_go.len()), (None, 2 * 197));
    assert!(holds.is_empty() && holds.next_wake().is_none());
}

#[test]
fn a_slot_is_let_go_when_its_route_gets_another() {
    let (mut table, mut holds, _) = held(300, 0..200);
    table.want(1_000, Serves::Nodes(1), 0);
    assert_eq!(holds.wanted_again(&[slot(1_000), pool(0)].into(), &table), [slot(0), pool(0)].into());
}

#[test]
fn a_hold_is_released_by_its_name() {
    let (_, mut holds, _) = held(300, 0..200);
    assert_eq!(holds.release("gateway/default/other"), BTreeSet::new());
    let again: BTreeSet<WorkId> = (0..200).flat_map(|n| [slot(n), pool(n)]).collect();
    assert_eq!(holds.release("gateway/default/edge"), again);
    assert!(holds.is_empty() && holds.held(&slot(0)).is_none() && holds.held(&pool(0)).is_none());
    assert_eq!(holds.release("gateway/default/edge"), BTreeSet::new());
}

#[test]
fn a_hold_ends_when_its_time_is_over() {
    let (_, mut holds, now) = held(300, 0..200);
    assert_eq!(holds.next_wake(), Some(now + TIME));
    assert_eq!(holds.expire(now + TIME.saturating_sub(Duration::from_millis(1))), []);
    let over = holds.expire(now + TIME);
    assert_eq!(over.len(), 1);
    assert_eq!((&*over[0].0, over[0].1.len()), ("gateway/default/edge", 400));
    assert!(holds.is_empty() && holds.next_wake().is_none());
}

#[test]
fn two_holds_stand_side_by_side_and_the_first_keeps_what_it_has() {
    let (table, mut holds, now) = held(300, 0..160);
    let (list, later) = (Cause::List(Kind::TcpRoute), now + TIME / 2);
    let mut table = table.drop(0..300);
    assert_eq!(holds.consider(&list, &slots(100..300), &table, later).hold, None, "140 more of 300 are not half");

    for n in 300..600 {
        table.store(n, n);
    }
    let hold = holds.consider(&list, &slots(100..600), &table, later).hold.unwrap();
    assert_eq!((&*hold.name, hold.n_slots, hold.n_stored), ("list/tcproutes.gateway.networking.k8s.io", 440, 600));
    let counts: Vec<_> = holds.summary().map(|summary| (summary.n_slots, summary.until)).collect();
    assert_eq!(counts, [(160, now + TIME), (440, later + TIME)]);

    assert_eq!(holds.next_wake(), Some(now + TIME));
    assert_eq!(holds.expire(now + TIME).len(), 1);
    assert!(holds.held(&slot(159)).is_none() && holds.held(&slot(160)).is_some());
    assert_eq!(holds.next_wake(), Some(later + TIME));
    assert_eq!(holds.release(&hold.name).len(), 2 * 440);
    assert!(holds.is_empty());
}

#[test]
fn what_the_same_cause_stops_later_joins_its_hold_with_its_whole_time() {
    let (mut table, mut holds, now) = held(210, 0..110);
    for n in 300..600 {
        table.store(n, n);
    }
    let later = now + TIME / 2;
    let hold = holds.consider(&edge(), &slots(300..600), &table, later).hold.unwrap();
    assert_eq!((hold.n_slots, hold.until), (300, later + TIME));
    let summary: Vec<_> = holds.summary().map(|summary| (summary.n_slots, summary.since, summary.until)).collect();
    assert_eq!(summary, [(410, now, later + TIME)]);
}

#[test]
fn a_pool_is_held_as_long_as_one_held_slot_names_it() {
    let mut table = Table::of(200).drop(0..200);
    table.store(1, 0);
    let (mut holds, now) = (Holds::new(TIME), clock::now());
    assert!(holds.consider(&Cause::Start, &slots(0..200), &table, now).hold.is_some());
    table.want(1, Serves::Nodes(1), 7);
    assert_eq!(holds.wanted_again(&slots(0..2), &table), [slot(1)].into());
    assert_eq!(holds.held(&pool(0)).map(|name| &**name), Some("start"));
    table.want(0, Serves::Nodes(1), 8);
    assert_eq!(holds.wanted_again(&slots(0..2), &table), [slot(0), pool(0)].into());
}

#[test]
fn a_held_slot_that_a_late_answer_gave_another_pool_holds_that_pool() {
    let (_, mut holds, _) = held(300, 0..200);
    assert_eq!(holds.stored(&slot(0), Some(&naming(Some(pool(0))))), BTreeSet::new());
    assert_eq!(holds.stored(&slot(0), Some(&naming(Some(pool(7_000))))), [pool(0)].into());
    assert!(holds.held(&slot(0)).is_some() && holds.held(&pool(7_000)).is_some() && holds.held(&pool(0)).is_none());
    assert_eq!(holds.stored(&slot(250), Some(&naming(Some(pool(7_000))))), BTreeSet::new());
    assert!(holds.held(&slot(250)).is_none());
    assert_eq!(holds.release("gateway/default/edge").len(), 400);
}

#[test]
fn a_held_slot_that_is_gone_from_etcd_is_held_no_more() {
    let (_, mut holds, _) = held(300, 0..200);
    for n in 0..200 {
        assert_eq!(holds.stored(&slot(n), None), [slot(n), pool(n)].into());
    }
    assert!(holds.is_empty());
}

#[test]
fn without_a_hold_time_nothing_is_held() {
    let (table, mut holds) = (Table::of(300).drop(0..300), Holds::new(Duration::ZERO));
    assert_eq!(holds.consider(&Cause::Start, &slots(0..300), &table, clock::now()), Considered::default());
    assert!(holds.is_empty());
}

#[test]
fn holds_are_named_after_their_cause() {
    assert_eq!(edge().to_string(), "gateway/default/edge");
    let class = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("apisix"));
    assert_eq!(Cause::Object(class).to_string(), "gatewayclass/apisix");
    assert_eq!(Cause::List(Kind::TcpRoute).to_string(), "list/tcproutes.gateway.networking.k8s.io");
    assert_eq!(Cause::List(Kind::Service).to_string(), "list/services");
    assert_eq!(Cause::Start.to_string(), "start");
}
