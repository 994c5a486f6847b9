//! What one cause would stop at once is held, and the certificates of held slots with it.

use super::*;

/// The pool of a route that has nothing but the slots of a crowd.
fn crowded() -> WorkId {
    WorkId::new(Directory::Upstreams, "gateway-api.crowded")
}

fn crowd_of(name: char) -> impl Iterator<Item = (WorkId, Wanted)> {
    let document = move |n| {
        let (pool, certificate) = (crowded(), certificate(name));
        let to = To { pool: &pool, certificate: Some(&certificate), split: None, passthrough: false };
        let value = documents::stream_route(SEALING, &slot(n), &place(n), to, "");
        Document { bytes: value.unwrap().into_bytes().into(), pool: Some(pool), certificate: Some(certificate) }
    };
    (1..=120).map(move |n| (slot(n), Wanted::Document(document(n))))
}

/// More slots than one cause may stop without a question, each with certificate `a`.
fn crowd() -> Table {
    let mut table = Table::settled();
    table.wish_certificate('a', "first");
    let value = documents::upstream(SEALING, &crowded(), documents::Scheme::Tcp, &[], "").unwrap();
    let pool = Document { bytes: value.into_bytes().into(), pool: None, certificate: None };
    table.wish(crowded(), Wanted::Document(pool));
    for (id, wanted) in crowd_of('a') {
        table.wish(id, wanted);
    }
    table.work_off();
    assert!((1..=120).all(|n| table.has(&slot(n))));
    table
}

/// All these become wanted otherwise between two terms: what the second one finds different is one cause.
fn begins_with(table: &mut Table, wishes: impl IntoIterator<Item = (WorkId, Wanted)>) {
    table.state.leadership(Leadership::Standby { leader: None }, table.now);
    for (id, wanted) in wishes {
        table.wish(id, wanted);
    }
    table.wins(table.revision + 1);
    table.work_off();
    for _ in 0..3 {
        table.linger();
        table.work_off();
    }
}

#[test]
fn the_certificate_of_held_slots_is_held_with_them_and_renewed_all_the_same() {
    let mut table = crowd();
    let gone = crowd_of('a').map(|(id, _)| (id, Wanted::Absent)).chain([(certificate('a'), Wanted::Absent)]);
    begins_with(&mut table, gone);
    assert!(table.has(&slot(1)) && table.has(&slot(120)) && table.has(&certificate('a')));
    assert_eq!(table.state.standing(&certificate('a')), Standing::Held { name: "start".into() });
    assert_eq!(table.metric("slots_held"), Some(120.0), "slots are counted, not certificates");

    table.wish_certificate('a', "second");
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    table.work_off();
    assert_eq!(table.state.standing(&certificate('a')), Standing::Programmed);
    table.by_hand(&certificate('a'), None);
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    table.work_off();
    table.wish(certificate('a'), Wanted::Refused("bad key".into()));
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&certificate('a')));

    table.wish(certificate('a'), Wanted::Absent);
    table.now += table.state.settings.hold_time.unwrap();
    table.work_off();
    assert!(!table.has(&slot(1)) && table.has(&certificate('a')));
    table.linger();
    table.work_off();
    assert!(!table.has(&certificate('a')));
}

#[test]
fn slots_that_would_go_because_their_certificate_cannot_be_put_are_held() {
    let mut table = crowd();
    begins_with(&mut table, crowd_of('b').chain([(certificate('b'), Wanted::Refused("bad key".into()))]));
    assert!(table.has(&slot(1)) && table.has(&slot(120)));
    assert_eq!(table.metric("slots_held"), Some(120.0));
    assert_eq!(table.state.mirror.users(&certificate('a')).count(), 120);
    // Good again, it is what they get.
    table.wish_certificate('b', "next");
    table.state.reconsider(&[certificate('b')].into(), table.now);
    table.work_off();
    assert_eq!(table.state.mirror.users(&certificate('b')).count(), 120);
    assert_eq!(table.metric("slots_held"), Some(0.0));
}
