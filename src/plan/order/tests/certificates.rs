//! Slots that need a certificate: `"c"` is certificate `gateway-api.c`.

use super::*;
use crate::model::places::Plane;

fn certificate(name: &str) -> WorkId {
    WorkId::new(Plane::default(), Directory::Ssls, &format!("gateway-api.{name}"))
}

fn needing(content: &str, of: &str, certificate_name: &str) -> Document {
    Document { certificate: Some(certificate(certificate_name)), ..doc(content, Some(pool(of))) }
}

/// The put of a slot of `p` that needs a certificate, which stands at a revision.
fn puts_secured(content: &str, expected: i64, pool_at: Option<i64>, name: &str, at: i64) -> DocumentWrite {
    put_slot(&slot("1"), needing(content, "p", name), Revision(expected), pool_at.map(Revision), Some(Revision(at)))
}

impl Table {
    fn want_certificate(self, name: &str, content: &str) -> Self {
        self.want(certificate(name), Wanted::Document(doc(content, None)))
    }

    /// Slot `1` is to have pool `p` and a certificate.
    fn want_secured(self, content: &str, name: &str) -> Self {
        self.want(slot("1"), Wanted::Document(needing(content, "p", name)))
    }

    fn has_certificate(self, name: &str, content: &str, at: i64) -> Self {
        self.has(certificate(name), content, None, at)
    }

    /// Slot `1` is in etcd with pool `p` and a certificate.
    fn has_secured(self, content: &str, name: &str, at: i64) -> Self {
        let mut table = self.has(slot("1"), content, Some("p"), at);
        table.stored.get_mut(&slot("1")).unwrap().1.certificate = Some(certificate(name));
        table
    }
}

/// Pool `p` is in etcd at 4, and slot `1` is to have it and certificate `c`, which is to be there.
fn wanting() -> Table {
    Table::default().want_pool("p", "a").has(pool("p"), "a", None, 4).want_secured("s", "c").want_certificate("c", "k")
}

#[test]
fn a_new_slot_waits_for_its_certificate_and_then_relies_on_it_and_its_pool() {
    let table = wanting();
    let first = Next::Write(vec![puts(&certificate("c"), "k", 0)]);
    check(&table, &slot("1"), &first);
    check(&table, &certificate("c"), &first);
    let table = table.hold(certificate("c"), Hold::Exclusive(TXN));
    check(&table, &slot("1"), &Next::After(TXN));
    check(&table, &certificate("c"), &Next::After(TXN));
    let table = table.hold(certificate("c"), Hold::Free).has_certificate("c", "k", 8);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 8)]));
    check(&table, &certificate("c"), &SETTLED);
    check(&table.has_secured("s", "c", 9), &slot("1"), &SETTLED);
}

#[test]
fn a_new_pool_travels_with_a_slot_whose_certificate_stands() {
    let mut table = wanting();
    table.stored.remove(&pool("p"));
    check(&table, &slot("1"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
    let table = table.has_certificate("c", "k", 8);
    let want = vec![puts(&pool("p"), "a", 0), puts_secured("s", 0, None, "c", 8)];
    check(&table, &slot("1"), &Next::Write(want));
}

#[test]
fn a_slot_that_serves_gets_another_certificate_once_that_is_in_etcd_and_the_old_one_goes_after() {
    let table = wanting().has_secured("old", "b", 6).has_certificate("b", "j", 5);
    check(&table, &slot("1"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
    check(&table, &certificate("b"), &SETTLED);
    let mut table = table.has_certificate("c", "k", 8);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 6, Some(4), "c", 8)]));
    check(&table, &certificate("b"), &SETTLED);
    let later = moment() + Duration::from_secs(1);
    table.lingers.insert(certificate("b"), later);
    let table = table.has_secured("s", "c", 9);
    check(&table, &certificate("b"), &Next::NotBefore(later));
    let mut table = table.hold(certificate("b"), Hold::Shared(TXN));
    check(&table, &certificate("b"), &Next::After(TXN));
    (table.lingers, table.holds) = (BTreeMap::new(), BTreeMap::new());
    check(&table, &certificate("b"), &Next::Write(vec![delete(&certificate("b"), Revision(5))]));
    check(&table, &slot("1"), &SETTLED);
}

#[test]
fn a_slot_that_serves_gets_certificate_then_pool_then_both() {
    let table = Table::default()
        .want_pool("p", "a")
        .want_certificate("c", "k")
        .want_secured("s", "c")
        .has(slot("1"), "old", Some("q"), 6)
        .has(pool("q"), "z", None, 5);
    check(&table, &slot("1"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
    let table = table.has_certificate("c", "k", 7);
    check(&table, &slot("1"), &Next::Write(vec![puts(&pool("p"), "a", 0)]));
    let table = table.has(pool("p"), "a", None, 8);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 6, Some(8), "c", 7)]));
}

#[test]
fn a_certificate_is_renewed_alone() {
    let table = wanting().has_certificate("c", "older", 3).has_secured("s", "c", 5).due(slot("1"));
    check(&table, &certificate("c"), &Next::Write(vec![puts(&certificate("c"), "k", 3)]));
    check(&table, &slot("1"), &SETTLED);
    // Not even a rewrite of the slot that is due at the same time goes along.
    let table = table.has_secured("t", "c", 5);
    check(&table, &certificate("c"), &Next::Write(vec![puts(&certificate("c"), "k", 3)]));
    check(&table, &slot("1"), &Next::Write(vec![puts(&certificate("c"), "k", 3)]));
}

#[test]
fn a_slot_relies_on_the_older_state_of_a_certificate_that_rests_or_waits_for_a_first_one() {
    let until = moment();
    let table = wanting().hold(certificate("c"), Hold::Resting(until));
    check(&table, &slot("1"), &Next::NotBefore(until));
    check(&table, &certificate("c"), &Next::NotBefore(until));
    let table = table.has_certificate("c", "older", 3);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 3)]));
}

#[test]
fn several_slots_rely_on_one_certificate_which_waits_for_them() {
    let table = wanting().has_certificate("c", "k", 8).hold(certificate("c"), Hold::Shared(TXN));
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 8)]));
    let table = table.want_certificate("c", "newer");
    check(&table, &certificate("c"), &Next::After(TXN));
    check(&table, &slot("1"), &Next::After(TXN));
}

#[test]
fn slots_in_step_with_their_pool_rely_on_their_certificates_and_stay_behind_where_that_has_to_come_first() {
    let secured = |content: &str, name: &str| needing(content, "p", name);
    let table = wanting()
        .want_pool("p", "b")
        .want(slot("2"), Wanted::Document(secured("t2", "d")))
        .want_certificate("d", "l")
        .has_certificate("c", "k", 3)
        .has_secured("old", "c", 5)
        .has(slot("2"), "s2", Some("p"), 5)
        .due(slot("1"))
        .due(slot("2"));
    let p = puts(&pool("p"), "b", 4);
    let first = puts_secured("s", 5, None, "c", 3);
    check(&table, &pool("p"), &Next::Write(vec![p.clone(), first.clone()]));
    check(&table, &slot("2"), &Next::Write(vec![puts(&certificate("d"), "l", 0)]));
    let table = table.has_certificate("d", "l", 7);
    let second = put_slot(&slot("2"), secured("t2", "d"), Revision(5), None, Some(Revision(7)));
    check(&table, &pool("p"), &Next::Write(vec![p.clone(), first.clone(), second.clone()]));
    check(&table, &slot("2"), &Next::Write(vec![p, second, first]));
}

#[test]
fn a_slot_whose_certificate_cannot_be_put_is_not_wanted() {
    let starved = Next::Settled { starved_by: Some(certificate("c")), left: None };
    for never in [Wanted::Refused("why".into()), Wanted::Absent, Wanted::Kept { otherwise: None }] {
        let table = wanting().want(certificate("c"), never);
        check(&table, &slot("1"), &starved);
        check(&table, &certificate("c"), &SETTLED);
        let serving = table.has_secured("s", "c", 5);
        check(&serving, &slot("1"), &Next::Write(vec![delete(&slot("1"), Revision(5))]));
    }
    let occupied = wanting().has_certificate("c", "x", 4).sealed_by(&certificate("c"), "them");
    check(&occupied, &slot("1"), &starved);
    check(&occupied, &certificate("c"), &SETTLED);
    let mut foreign = wanting().has_certificate("c", "x", 4).edited(&certificate("c"));
    foreign.unsealed = Unsealed::Foreign;
    check(&foreign, &slot("1"), &starved);
}

#[test]
fn a_refused_certificate_serves_on_as_it_is() {
    let table = wanting().want(certificate("c"), Wanted::Refused("why".into())).has_certificate("c", "older", 3);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 3)]));
    let table = table.has_secured("s", "c", 5);
    check(&table, &slot("1"), &SETTLED);
    check(&table, &certificate("c"), &SETTLED);
}

#[test]
fn a_slot_is_not_given_a_certificate_that_is_about_to_be_deleted() {
    let starved = Next::Settled { starved_by: Some(certificate("c")), left: None };
    let table = wanting().want(certificate("c"), Wanted::Absent).has_certificate("c", "k", 3);
    check(&table, &slot("1"), &starved);
    check(&table, &certificate("c"), &Next::Write(vec![delete(&certificate("c"), Revision(3))]));
}

#[test]
fn a_slot_starves_by_its_pool_as_well_and_brings_no_certificate_then() {
    let table = Table::default()
        .want(pool("p"), Wanted::Refused("why".into()))
        .want_secured("s", "c")
        .want_certificate("c", "k");
    check(&table, &slot("1"), &Next::Settled { starved_by: Some(pool("p")), left: None });
    check(&table, &certificate("c"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
}

#[test]
fn a_certificate_is_deleted_only_when_no_slot_needs_it_whoever_wrote_that() {
    let table = Table::default().has_certificate("c", "k", 4).has_secured("s", "c", 5).sealed_by(&slot("1"), "them");
    check(&table, &certificate("c"), &SETTLED);
    check(
        &table.has(slot("1"), "s", Some("p"), 6),
        &certificate("c"),
        &Next::Write(vec![delete(&certificate("c"), Revision(4))]),
    );
}

#[test]
fn an_unwanted_slot_is_deleted_at_once_and_its_certificate_is_not() {
    let table = Table::default().has_certificate("c", "k", 4).has_secured("s", "c", 5);
    check(&table, &slot("1"), &Next::Write(vec![delete(&slot("1"), Revision(5))]));
    check(&table, &certificate("c"), &SETTLED);
}

#[test]
fn a_certificate_deleted_by_hand_comes_back_and_its_slot_is_left_alone() {
    let table = wanting().has_secured("s", "c", 5);
    check(&table, &certificate("c"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
    check(&table, &slot("1"), &SETTLED);
    let table = table.has_secured("older", "c", 5);
    check(&table, &slot("1"), &Next::Write(vec![puts(&certificate("c"), "k", 0)]));
}

#[test]
fn an_edited_certificate_that_is_left_exists_for_its_slots() {
    let mut table = wanting().has_certificate("c", "x", 8).edited(&certificate("c"));
    check(&table, &certificate("c"), &Next::Write(vec![puts(&certificate("c"), "k", 8)]));
    table.drift = DriftPolicy::Report;
    check(&table, &certificate("c"), &Next::Settled { starved_by: None, left: Some(Left::Edited) });
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 8)]));
}

#[test]
fn a_kept_certificate_is_relied_on_as_it_is() {
    let table = wanting().want(certificate("c"), Wanted::Kept { otherwise: None }).has_certificate("c", "x", 8);
    check(&table, &certificate("c"), &SETTLED);
    check(&table, &slot("1"), &Next::Write(vec![puts_secured("s", 0, Some(4), "c", 8)]));
}
