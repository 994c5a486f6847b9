//! What etcd tells of slots and certificates that is not as it was left.

use super::*;
use crate::store::txn::Current;

#[test]
fn whoever_reads_etcd_anew_knows_from_slots_alone_which_certificates_they_need() {
    let mut table = Table::standby();
    // A Gateway whose class is absent: its slots are kept, and translation wants no certificate.
    table.listens(&[WIDE]);
    let class = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("apisix"));
    table.becomes(&class, None);
    let (slot, needed, unused) = (slot(1), wide(), certificate("unused.example"));
    let pool = pool();
    let to = To { pool: &pool, certificate: Some(&needed), split: None, passthrough: false };
    let value = documents::stream_route(INSTANCE, &slot, &place(1), to, "TLSRoute default/tls-app").unwrap();
    let other = |id: &WorkId| documents::upstream(INSTANCE, id, documents::Scheme::Tcp, &[], "x").unwrap();
    let values = [(slot.clone(), value), (needed.clone(), other(&needed)), (unused.clone(), other(&unused))];
    let documents = values.map(|(id, value)| {
        let found = inspect(&id, &id.key(), value.as_bytes());
        (id, Revision(3), found)
    });
    let snapshot = Snapshot { revision: Revision(5), documents: documents.into(), ..Snapshot::default() };
    table.revision = 5;
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    table.wins(6);
    table.work_off();
    for _ in 0..5 {
        table.linger();
        table.work_off();
    }
    assert!(table.has(&slot) && table.has(&needed) && !table.has(&unused));
}

#[test]
fn a_certificate_deleted_by_hand_is_put_again_and_its_slot_left_alone() {
    let mut table = Table::secured(1);
    table.by_hand(&wide(), None);
    assert_eq!(table.state.standing(&wide()), Standing::Pending);
    assert_eq!(table.sends(), only(&[&wide()], &[]));
    table.work_off();
    assert!(table.state.work.settled() && table.has(&wide()));
    assert_eq!(table.metric("drift_detected_total{what=\"deleted\"}"), Some(1.0));
}

#[test]
fn a_slot_that_lost_its_certificate_in_flight_waits_for_it() {
    let mut table = Table::secured(1);
    table.routes(2);
    table.pass();
    let (number, txn) = table.sent.pop().unwrap();
    let keys = txn.writes.iter().map(|write| &write.key).chain(txn.conditions.iter().map(|condition| &condition.key));
    let current = |key: Arc<str>| {
        let value = match &*key {
            key if key.contains("/upstreams/") => {
                let expected = txn.conditions.iter().find(|condition| *condition.key == *key).unwrap().expected;
                Some((expected, Vec::new()))
            }
            key if key.contains("/lanes/") => Some((txn.writes[1].expected, Vec::new())),
            _ => None,
        };
        Current { key, value }
    };
    let answer = Commit::Conflicted { at: Revision(90), current: keys.cloned().map(current).collect() };
    table.state.task_answered(Answer::Committed(number, Ok(answer)), table.now);
    table.revision = 90;
    assert_eq!(table.sends(), only(&[&wide()], &[]));
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(2)], &[&pool(), &wide()]));
}

#[test]
fn with_a_certificate_the_slots_that_are_to_need_it_are_looked_at_and_so_are_gateway_and_route() {
    let mut table = Table::unwritten(1, pair("short"));
    table.work_off();
    assert!(!table.has(&slot(1)) && !table.state.work.due(&slot(1)));
    assert!(!table.state.report.is_due(&route()) && !table.state.report.is_due(&gateway()));
    table.state.add(wide());
    assert!(table.state.work.due(&slot(1)));
    table.state.touch_users(&wide());
    assert!(table.state.report.is_due(&route()) && table.state.report.is_due(&gateway()));
}
