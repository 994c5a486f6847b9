//! What one cause would stop at once is held, and the certificates of held slots with it.

use super::*;

const CROWD: u16 = 120;

/// Between two terms the cluster becomes another: what the second one finds different is one cause.
fn begins_with(table: &mut Table, becomes: impl FnOnce(&mut Table)) {
    table.state.leadership(Leadership::Standby { leader: None }, table.now);
    becomes(table);
    table.wins(table.revision + 1);
    table.work_off();
    for _ in 0..3 {
        table.linger();
        table.work_off();
    }
}

#[test]
fn the_certificate_of_held_slots_is_held_with_them_and_renewed_all_the_same() {
    let mut table = Table::secured(CROWD);
    begins_with(&mut table, |table| table.becomes(&route(), None));
    assert!(table.has(&slot(1)) && table.has(&slot(CROWD)) && table.has(&wide()));
    assert_eq!(table.metric("slots_held"), Some(120.0), "slots are counted, not certificates");

    table.secret(Some(good("b")));
    assert_eq!(table.sends(), only(&[&wide()], &[]));
    table.work_off();
    assert_eq!(table.state.standing(&wide()), Standing::Programmed);
    table.by_hand(&wide(), None);
    assert_eq!(table.sends(), only(&[&wide()], &[]));
    table.work_off();
    table.secret(Some(pair("short")));
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&wide()));

    table.secret(None);
    table.work_off();
    table.linger();
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&wide()), "the slots are still held");
    table.now += table.state.settings.hold_time.unwrap();
    table.work_off();
    assert!(!table.has(&slot(1)) && table.has(&wide()));
    table.linger();
    table.work_off();
    assert!(!table.has(&wide()));
}

#[test]
fn a_secret_that_goes_is_a_cause_that_would_stop_many() {
    let mut table = Table::secured(CROWD);
    table.secret(None);
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&slot(CROWD)) && table.has(&wide()));
    assert_eq!(table.metric("slots_held"), Some(120.0));
    table.secret(Some(good("a")));
    table.work_off();
    assert_eq!(table.metric("slots_held"), Some(0.0));
}

#[test]
fn slots_that_would_go_because_their_certificate_cannot_be_put_are_held() {
    let mut table = Table::secured(CROWD);
    // Without a hostname each slot needs a certificate of its own.
    begins_with(&mut table, |table| {
        table.listens(&[""]);
        table.secret(Some(pair("short")));
    });
    assert!(table.has(&slot(1)) && table.has(&slot(CROWD)));
    assert_eq!(table.metric("slots_held"), Some(120.0));
    assert_eq!(table.state.mirror.users(&wide()).count(), 120);
    // Good again, they are what the slots get.
    table.secret(Some(good("b")));
    table.work_off();
    assert_eq!(table.metric("slots_held"), Some(0.0));
    assert_eq!(table.state.mirror.users(&wide()).count(), 0);
    assert!((1..=CROWD).all(|n| table.state.mirror.users(&certificate(&format!("s{n}.example"))).count() == 1));
}
