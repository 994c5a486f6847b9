//! The order over tables of what is wanted and stored.

mod certificates;
mod worlds;

use super::*;
use crate::{
    apisix::{
        routing::Reach,
        stored::{Inspected, Seal, ValueHash},
    },
    clock,
    model::places::Plane,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A cluster and a store in a few words: `"p"` is pool `gateway-api.p`, `"9100"` slot `gateway-api.9100`.
struct Table {
    unsealed: Unsealed,
    drift: DriftPolicy,
    overlaps: BTreeMap<WorkId, WorkId>,
    wanted: BTreeMap<WorkId, Wanted>,
    stored: BTreeMap<WorkId, (Revision, Inspected)>,
    holds: BTreeMap<WorkId, Hold>,
    due: BTreeSet<WorkId>,
    lingers: BTreeMap<WorkId, Instant>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            unsealed: Unsealed::Ours,
            drift: DriftPolicy::Repair,
            overlaps: BTreeMap::new(),
            wanted: BTreeMap::new(),
            stored: BTreeMap::new(),
            holds: BTreeMap::new(),
            due: BTreeSet::new(),
            lingers: BTreeMap::new(),
        }
    }
}

const SETTLED: Next = Next::Settled { starved_by: None, left: None };

impl Scene for Table {
    fn instance(&self) -> &'static str {
        "us"
    }

    fn unsealed(&self, _: Plane) -> Unsealed {
        self.unsealed
    }

    fn drift_policy(&self, _: &WorkId) -> DriftPolicy {
        self.drift
    }

    fn overlap(&self, slot: &WorkId) -> Option<WorkId> {
        self.overlaps.get(slot).cloned()
    }

    fn wanted(&self, id: &WorkId) -> Wanted {
        self.wanted.get(id).cloned().unwrap_or(Wanted::Absent)
    }

    fn stored(&self, id: &WorkId) -> Option<Stored<'_>> {
        self.stored.get(id).map(|(revision, inspected)| Stored { revision: *revision, inspected })
    }

    fn users(&self, pool: &WorkId) -> Vec<WorkId> {
        let names = |(id, (_, doc)): (&WorkId, &(Revision, Inspected))| {
            doc.needs().any(|need| need == pool).then(|| id.clone())
        };
        self.stored.iter().filter_map(names).collect()
    }

    fn hold(&self, id: &WorkId) -> Hold {
        self.holds.get(id).copied().unwrap_or(Hold::Free)
    }

    fn due(&self, id: &WorkId) -> bool {
        self.due.contains(id)
    }

    fn lingers_until(&self, pool: &WorkId) -> Option<Instant> {
        self.lingers.get(pool).copied()
    }
}

fn pool(name: &str) -> WorkId {
    WorkId::new(Plane::default(), Directory::Upstreams, &format!("gateway-api.{name}"))
}

fn slot(name: &str) -> WorkId {
    WorkId::new(Plane::default(), Directory::StreamRoutes, &format!("gateway-api.{name}"))
}

fn doc(content: &str, pool: Option<WorkId>) -> Document {
    Document { bytes: content.as_bytes().into(), pool, certificate: None }
}

impl Table {
    fn want_pool(mut self, name: &str, content: &str) -> Self {
        self.wanted.insert(pool(name), Wanted::Document(doc(content, None)));
        self
    }

    fn want_slot(mut self, name: &str, content: &str, of: &str) -> Self {
        self.wanted.insert(slot(name), Wanted::Document(doc(content, Some(pool(of)))));
        self
    }

    fn want(mut self, id: WorkId, wanted: Wanted) -> Self {
        self.wanted.insert(id, wanted);
        self
    }

    fn has(mut self, id: WorkId, content: &str, of: Option<&str>, at: i64) -> Self {
        let seal = Seal::Intact { instance: "us".into() };
        let hash = ValueHash::of(content.as_bytes());
        let doc =
            Inspected { seal, hash, sealed_as: None, pool: of.map(pool), certificate: None, reach: Reach::Nothing };
        self.stored.insert(id, (Revision(at), doc));
        self
    }

    fn sealed_by(mut self, id: &WorkId, instance: &str) -> Self {
        self.stored.get_mut(id).unwrap().1.seal = Seal::Intact { instance: instance.into() };
        self
    }

    fn edited(mut self, id: &WorkId) -> Self {
        self.stored.get_mut(id).unwrap().1.seal = Seal::Broken;
        self
    }

    fn hold(mut self, id: WorkId, hold: Hold) -> Self {
        self.holds.insert(id, hold);
        self
    }

    fn due(mut self, id: WorkId) -> Self {
        self.due.insert(id);
        self
    }
}

fn puts(id: &WorkId, content: &str, expected: i64) -> DocumentWrite {
    put(id, doc(content, None), Revision(expected))
}

fn puts_slot(name: &str, content: &str, expected: i64, of: &str, pool_at: Option<i64>) -> DocumentWrite {
    put_slot(&slot(name), doc(content, Some(pool(of))), Revision(expected), pool_at.map(Revision), None)
}

#[track_caller]
fn check(table: &Table, id: &WorkId, want: &Next) {
    assert_eq!(next(id, table), *want);
}

const TXN: TxnNumber = TxnNumber(5);

fn moment() -> Instant {
    clock::now()
}

#[test]
fn a_new_slot_travels_with_its_new_pool() {
    let table = Table::default().want_pool("p", "a").want_slot("9100", "s", "p");
    let want = vec![puts(&pool("p"), "a", 0), puts_slot("9100", "s", 0, "p", None)];
    check(&table, &slot("9100"), &Next::Write(want));
    check(&table, &pool("p"), &Next::Write(vec![puts(&pool("p"), "a", 0)]));
}

#[test]
fn a_slot_whose_pool_stands_relies_on_it() {
    let table = Table::default().want_pool("p", "a").want_slot("9100", "s", "p").has(pool("p"), "a", None, 4);
    check(&table, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 0, "p", Some(4))]));
    check(&table, &pool("p"), &SETTLED);
}

#[test]
fn a_slot_that_serves_gets_another_pool_only_once_that_is_in_etcd() {
    let table = Table::default()
        .want_pool("new", "b")
        .want_slot("9100", "t", "new")
        .has(slot("9100"), "s", Some("old"), 6)
        .has(pool("old"), "a", None, 5);
    check(&table, &slot("9100"), &Next::Write(vec![puts(&pool("new"), "b", 0)]));
    let table = table.hold(pool("new"), Hold::Exclusive(TXN));
    check(&table, &slot("9100"), &Next::After(TXN));
    check(&table, &pool("old"), &SETTLED);
    let table = table.hold(pool("new"), Hold::Free).has(pool("new"), "b", None, 8);
    check(&table, &slot("9100"), &Next::Write(vec![puts_slot("9100", "t", 6, "new", Some(8))]));
    let table = table.has(slot("9100"), "t", Some("new"), 9);
    let delete = vec![delete(&pool("old"), Revision(5))];
    check(&table, &pool("old"), &Next::Write(delete));
}

#[test]
fn a_pool_update_touches_no_slot() {
    let table = Table::default()
        .want_pool("p", "b")
        .want_slot("9100", "s", "p")
        .has(pool("p"), "a", None, 4)
        .has(slot("9100"), "s", Some("p"), 4)
        .due(slot("9100"));
    check(&table, &pool("p"), &Next::Write(vec![puts(&pool("p"), "b", 4)]));
    check(&table, &slot("9100"), &SETTLED);
}

#[test]
fn a_pool_and_its_slots_are_rewritten_together_when_both_are_due() {
    let table = Table::default()
        .want_pool("p", "b")
        .want_slot("1", "t1", "p")
        .want_slot("2", "t2", "p")
        .want_slot("3", "t3", "p")
        .has(pool("p"), "a", None, 4)
        .has(slot("1"), "s1", Some("p"), 4)
        .has(slot("2"), "s2", Some("p"), 4)
        .has(slot("3"), "s3", Some("p"), 4)
        .has(WorkId::new(Plane::default(), Directory::StreamRoutes, "foreign"), "f", Some("p"), 2)
        .due(slot("1"))
        .due(slot("2"));
    let (first, second) = (puts_slot("1", "t1", 4, "p", None), puts_slot("2", "t2", 4, "p", None));
    let p = puts(&pool("p"), "b", 4);
    check(&table, &pool("p"), &Next::Write(vec![p.clone(), first.clone(), second.clone()]));
    check(&table, &slot("2"), &Next::Write(vec![p, second, first]));
}

#[test]
fn a_pool_deleted_by_hand_comes_back_with_the_slots_that_name_it() {
    let table = Table::default().want_pool("p", "a").want_slot("9100", "t", "p").has(slot("9100"), "s", Some("p"), 4);
    let want = vec![puts(&pool("p"), "a", 0), puts_slot("9100", "t", 4, "p", None)];
    check(&table, &slot("9100"), &Next::Write(want));
}

#[test]
fn a_pool_is_deleted_a_while_after_its_last_user_ours_or_foreign() {
    let foreign = WorkId::new(Plane::default(), Directory::StreamRoutes, "foreign");
    let mut table = Table::default().has(pool("p"), "a", None, 4).has(foreign.clone(), "f", Some("p"), 5);
    check(&table, &pool("p"), &SETTLED);
    table.stored.remove(&foreign);
    let later = clock::now() + Duration::from_secs(1);
    table.lingers.insert(pool("p"), later);
    check(&table, &pool("p"), &Next::NotBefore(later));
    table.lingers.clear();
    check(&table, &pool("p"), &Next::Write(vec![delete(&pool("p"), Revision(4))]));
    let table = table.hold(pool("p"), Hold::Shared(TXN));
    check(&table, &pool("p"), &Next::After(TXN));
}

#[test]
fn an_unwanted_slot_is_deleted_at_once_and_its_pool_is_not() {
    let table = Table::default().has(pool("p"), "a", None, 4).has(slot("9100"), "s", Some("p"), 5);
    check(&table, &slot("9100"), &Next::Write(vec![delete(&slot("9100"), Revision(5))]));
    check(&table, &pool("p"), &SETTLED);
}

#[test]
fn an_unwanted_slot_of_a_kept_pool_is_kept() {
    let table = Table::default().want(pool("p"), Wanted::Kept { otherwise: None }).has(pool("p"), "a", None, 4).has(
        slot("9100"),
        "s",
        Some("p"),
        5,
    );
    check(&table, &slot("9100"), &SETTLED);
    check(&table, &pool("p"), &SETTLED);
}

#[test]
fn whoever_is_being_written_or_relied_on_is_waited_for() {
    let table = Table::default().want_pool("p", "b").want_slot("9100", "s", "p").has(pool("p"), "a", None, 4);
    let written = table.hold(pool("p"), Hold::Exclusive(TXN));
    check(&written, &pool("p"), &Next::After(TXN));
    check(&written, &slot("9100"), &Next::After(TXN));
    let relied_on = written.hold(pool("p"), Hold::Shared(TXN));
    check(&relied_on, &pool("p"), &Next::After(TXN));
    check(&relied_on, &slot("9100"), &Next::After(TXN));
    let slot_written = relied_on.hold(pool("p"), Hold::Free).hold(slot("9100"), Hold::Exclusive(TXN));
    check(&slot_written, &slot("9100"), &Next::After(TXN));
}

#[test]
fn a_pool_that_stands_can_be_relied_on_by_several() {
    let table = Table::default()
        .want_pool("p", "a")
        .want_slot("9100", "s", "p")
        .has(pool("p"), "a", None, 4)
        .hold(pool("p"), Hold::Shared(TXN));
    check(&table, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 0, "p", Some(4))]));
}

#[test]
fn a_slot_relies_on_the_older_state_of_a_pool_that_rests_or_waits_for_a_first_one() {
    let until = clock::now();
    let table = Table::default().want_pool("p", "b").want_slot("9100", "s", "p").hold(pool("p"), Hold::Resting(until));
    check(&table, &slot("9100"), &Next::NotBefore(until));
    check(&table, &pool("p"), &Next::NotBefore(until));
    let table = table.has(pool("p"), "a", None, 4);
    check(&table, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 0, "p", Some(4))]));
}

#[test]
fn a_slot_whose_pool_cannot_be_put_is_not_wanted() {
    let starved = Next::Settled { starved_by: Some(pool("p")), left: None };
    let refused = Table::default().want(pool("p"), Wanted::Refused("why".into())).want_slot("9100", "s", "p");
    check(&refused, &slot("9100"), &starved);
    check(&refused, &pool("p"), &SETTLED);
    let serving = refused.has(slot("9100"), "old", Some("old"), 5);
    check(&serving, &slot("9100"), &Next::Write(vec![delete(&slot("9100"), Revision(5))]));
    let older = serving.has(pool("p"), "a", None, 4);
    check(&older, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 5, "p", Some(4))]));
    let occupied = Table::default()
        .want_pool("p", "a")
        .want_slot("9100", "s", "p")
        .has(pool("p"), "x", None, 4)
        .sealed_by(&pool("p"), "them");
    check(&occupied, &slot("9100"), &starved);
}

#[test]
fn an_edited_pool_that_is_left_exists_for_its_slots() {
    let mut table = Table::default()
        .want_pool("p", "a")
        .want_slot("9100", "s", "p")
        .has(pool("p"), "x", None, 4)
        .edited(&pool("p"));
    table.drift = DriftPolicy::Report;
    check(&table, &pool("p"), &Next::Settled { starved_by: None, left: Some(Left::Edited) });
    check(&table, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 0, "p", Some(4))]));
    let table = table.has(slot("9100"), "x", Some("p"), 5).edited(&slot("9100"));
    check(&table, &slot("9100"), &Next::Settled { starved_by: None, left: Some(Left::Edited) });
    let mut table = table.want(slot("9100"), Wanted::Absent);
    check(&table, &slot("9100"), &Next::Write(vec![delete(&slot("9100"), Revision(5))]));
    table.unsealed = Unsealed::IfWanted;
    check(&table, &slot("9100"), &Next::Settled { starved_by: None, left: Some(Left::Stray) });
}

#[test]
fn a_slot_whose_pool_is_somebody_elses_is_not_wanted() {
    let mut table = Table::default()
        .want_pool("p", "a")
        .want_slot("9100", "s", "p")
        .has(pool("p"), "x", None, 4)
        .edited(&pool("p"));
    table.unsealed = Unsealed::Foreign;
    let starved = Next::Settled { starved_by: Some(pool("p")), left: None };
    check(&table, &pool("p"), &SETTLED);
    check(&table, &slot("9100"), &starved);
    let table = table.has(slot("9100"), "older", Some("old"), 5);
    check(&table, &slot("9100"), &Next::Write(vec![delete(&slot("9100"), Revision(5))]));
}

#[test]
fn a_slot_with_an_overlap_is_not_put_before_that_is_gone_and_stays_if_it_came_later() {
    let mut table = Table::default().want_pool("p", "a").want_slot("9100", "s", "p").has(pool("p"), "a", None, 4);
    table.overlaps.insert(slot("9100"), WorkId::new(Plane::default(), Directory::StreamRoutes, "1"));
    check(&table, &slot("9100"), &SETTLED);
    let served = table.has(slot("9100"), "older", Some("p"), 5);
    check(&served, &slot("9100"), &Next::Write(vec![puts_slot("9100", "s", 5, "p", Some(4))]));
}

#[test]
fn a_placeholder_is_put_where_it_is_missing() {
    let id = WorkId::placeholder(Plane::default(), Directory::StreamRoutes);
    let wanted = Wanted::Kept { otherwise: Some(doc("init_dir", None)) };
    let table = Table::default().want(id.clone(), wanted);
    check(&table, &id, &Next::Write(vec![puts(&id, "init_dir", 0)]));
    check(&table.has(id.clone(), "init_dir", None, 3), &id, &SETTLED);
}
