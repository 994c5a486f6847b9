//! Certificates: in etcd before the first slot that needs them, renewed alone, and gone after the last slot.
//!
//! What is wanted of slots and certificates is wished here; the quickstart's pool and everything else is translated.

mod crowds;

use super::*;
use crate::{
    apisix::{
        documents::{self, Sealing, To},
        ids,
        stored::inspect,
    },
    model::{
        places::{Port, ServerName, Slot},
        verdicts::Occupant,
    },
    store::{
        follow::KeyEvent,
        txn::{Action, Current},
    },
    translate::desired::{Document, Wanted},
};

const SEALING: Sealing<'static> = Sealing { prefix: "/apisix", instance: "default" };

fn place(n: u16) -> Slot {
    Slot { port: Port::new(9443).unwrap(), name: ServerName::of(&format!("s{n}.example")) }
}

fn slot(n: u16) -> WorkId {
    ids::slot(&place(n))
}

fn certificate(name: char) -> WorkId {
    WorkId::new(Directory::Ssls, &format!("gateway-api.{}", name.to_string().repeat(26)))
}

fn pool() -> WorkId {
    ids::pool("default", Kind::TcpRoute, &ObjectName::new("default", "tcp-app"))
}

/// The document of slot `n`, which needs a certificate.
fn secured(n: u16, name: char) -> Document {
    let (pool, certificate) = (pool(), certificate(name));
    let to = To { pool: &pool, certificate: Some(&certificate), split: None, passthrough: false };
    let value = documents::stream_route(SEALING, &slot(n), &place(n), to, "TLSRoute default/app");
    Document { bytes: value.unwrap().into_bytes().into(), pool: Some(pool), certificate: Some(certificate) }
}

/// A document of ours in the place of a certificate: what is in it is nobody's business here.
fn key_pair(name: char, text: &str) -> Document {
    let value = documents::upstream(SEALING, &certificate(name), documents::Scheme::Tcp, &[], text).unwrap();
    Document { bytes: value.into_bytes().into(), pool: None, certificate: None }
}

impl Table {
    /// Everything written that the quickstart is, and nothing more.
    fn wish(&mut self, id: WorkId, wanted: Wanted) {
        self.state.desired.wishes.insert(id.clone(), wanted);
        self.state.add(id);
    }

    fn wish_slot(&mut self, n: u16, name: char) {
        self.wish(slot(n), Wanted::Document(secured(n, name)));
    }

    fn wish_certificate(&mut self, name: char, text: &str) {
        self.wish(certificate(name), Wanted::Document(key_pair(name, text)));
    }

    /// Slot 1 with certificate `a`, written.
    fn secured() -> Self {
        let mut table = Self::settled();
        table.wish_certificate('a', "first");
        table.wish_slot(1, 'a');
        table.work_off();
        assert!(table.has(&slot(1)) && table.has(&certificate('a')));
        table
    }

    fn has(&self, id: &WorkId) -> bool {
        self.state.mirror.stored(id).is_some()
    }

    /// Passes, and gives what each transaction that is under way writes and relies on, lanes and leader left out.
    fn sends(&mut self) -> Vec<(Vec<String>, Vec<String>)> {
        self.pass();
        let name = |key: &str| key.strip_prefix("/apisix/").map(str::to_owned);
        let txn = |(_, txn): &(TxnNumber, Txn)| {
            let writes = txn.writes.iter().filter_map(|write| {
                let deletes = if write.action == Action::Delete { "-" } else { "" };
                Some(format!("{deletes}{}", name(&write.key)?))
            });
            let conditions = txn.conditions.iter().filter_map(|condition| name(&condition.key));
            (writes.collect(), conditions.collect())
        };
        self.sent.iter().map(txn).collect()
    }

    /// The watch tells that a key was written or deleted by hand.
    fn by_hand(&mut self, id: &WorkId, value: Option<&[u8]>) {
        self.revision += 1;
        let stored = value.map(|value| inspect(id, &id.key("/apisix"), value));
        let event = KeyEvent::Document { id: id.clone(), revision: Revision(self.revision), stored };
        let event = StoreEvent::Changed { revision: Revision(self.revision), events: vec![event] };
        self.state.store_event(event, self.now);
    }

    fn linger(&mut self) {
        self.now += self.state.settings.pool_linger;
    }
}

fn only(writes: &[&WorkId], conditions: &[&WorkId]) -> Vec<(Vec<String>, Vec<String>)> {
    let names = |ids: &[&WorkId]| ids.iter().map(ToString::to_string).collect();
    vec![(names(writes), names(conditions))]
}

fn deleted(id: &WorkId) -> Vec<(Vec<String>, Vec<String>)> {
    vec![(vec![format!("-{id}")], Vec::new())]
}

#[test]
fn a_certificate_goes_first_and_its_slot_follows_once_it_is_applied() {
    let mut table = Table::settled();
    table.wish_slot(1, 'a');
    table.wish_certificate('a', "first");
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    assert_eq!(table.state.standing(&slot(1)), Standing::Pending);
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(1)], &[&pool(), &certificate('a')]));
    table.work_off();
    assert_eq!(table.state.mirror.users(&certificate('a')).collect::<Vec<_>>(), [&slot(1)]);
    assert_eq!(
        [slot(1), certificate('a')].map(|id| table.state.standing(&id)),
        [Standing::Programmed, Standing::Programmed]
    );
    assert!(table.state.work.settled());
}

#[test]
fn certificates_of_many_slots_travel_together_and_each_is_compared_once() {
    let mut table = Table::settled();
    for n in 1..=6 {
        table.wish_slot(n, if n % 2 == 0 { 'a' } else { 'b' });
    }
    table.wish_certificate('a', "first");
    table.wish_certificate('b', "first");
    let sent = table.sends();
    let [(writes, conditions)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((writes.len(), conditions.len()), (2, 0), "{sent:?}");
    table.apply_all();
    let sent = table.sends();
    let [(writes, conditions)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((writes.len(), conditions.len()), (6, 3), "{sent:?}");
}

#[test]
fn a_renewed_certificate_touches_nothing_else() {
    let mut table = Table::secured();
    table.wish_certificate('a', "second");
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    assert_eq!(table.state.standing(&certificate('a')), Standing::Programmed, "the older one serves meanwhile");
    table.apply_all();
    assert_eq!(table.sends(), []);
    assert!(table.state.work.settled());
}

#[test]
fn a_slot_whose_certificate_is_refused_is_not_put_until_it_is_not_and_says_why() {
    let mut table = Table::settled();
    table.wish(certificate('a'), Wanted::Refused("bad key".into()));
    table.wish_slot(1, 'a');
    table.work_off();
    assert!(!table.has(&slot(1)) && !table.has(&certificate('a')) && table.state.work.settled());
    assert_eq!(table.state.standing(&certificate('a')), Standing::Refused("bad key".into()));
    table.wish_certificate('a', "good");
    table.work_off();
    assert!(table.has(&slot(1)));
    assert_eq!(table.state.standing(&certificate('a')), Standing::Programmed);
}

#[test]
fn a_certificate_that_comes_to_be_refused_serves_on_as_it_is() {
    let mut table = Table::secured();
    table.wish(certificate('a'), Wanted::Refused("bad key".into()));
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&certificate('a')));
    assert_eq!(table.state.standing(&certificate('a')), Standing::Refused("bad key".into()));
    // Gone, it cannot be put again, and a slot is nothing without it.
    table.by_hand(&certificate('a'), None);
    table.work_off();
    assert!(!table.has(&slot(1)));
}

#[test]
fn a_slot_waits_for_another_instances_certificate_to_go() {
    let mut table = Table::settled();
    let theirs = Sealing { instance: "them", ..SEALING };
    let value = documents::upstream(theirs, &certificate('a'), documents::Scheme::Tcp, &[], "theirs").unwrap();
    table.by_hand(&certificate('a'), Some(value.as_bytes()));
    table.wish_certificate('a', "ours");
    table.wish_slot(1, 'a');
    table.work_off();
    assert!(!table.has(&slot(1)));
    let occupied = Standing::Occupied { by: Occupant::Instance("them".into()) };
    assert_eq!(table.state.standing(&certificate('a')), occupied);
    table.by_hand(&certificate('a'), None);
    table.work_off();
    assert!(table.has(&slot(1)));
}

#[test]
fn a_slot_gets_another_certificate_in_three_transactions() {
    let mut table = Table::secured();
    table.wish_certificate('b', "next");
    table.wish(certificate('a'), Wanted::Absent);
    table.wish_slot(1, 'b');
    assert_eq!(table.sends(), only(&[&certificate('b')], &[]));
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(1)], &[&pool(), &certificate('b')]));
    table.apply_all();
    assert_eq!(table.sends(), [], "data planes may not have heard of it yet");
    table.linger();
    assert_eq!(table.sends(), deleted(&certificate('a')));
    table.work_off();
    assert!(table.state.work.settled());
}

#[test]
fn a_certificate_goes_a_while_after_its_last_slot() {
    let mut table = Table::secured();
    table.wish_slot(2, 'a');
    table.work_off();
    for id in [slot(1), certificate('a')] {
        table.wish(id, Wanted::Absent);
    }
    assert_eq!(table.sends(), deleted(&slot(1)));
    table.apply_all();
    table.linger();
    assert_eq!(table.sends(), [], "the other one needs it");
    table.wish(slot(2), Wanted::Absent);
    assert_eq!(table.sends(), deleted(&slot(2)));
    table.apply_all();
    assert_eq!(table.sends(), []);
    table.linger();
    assert_eq!(table.sends(), deleted(&certificate('a')));
}

#[test]
fn no_certificate_is_deleted_while_nobody_tells_who_needs_it() {
    let mut table = Table::secured();
    table.state.store_event(StoreEvent::Disconnected, table.now);
    for id in [slot(1), certificate('a')] {
        table.wish(id, Wanted::Absent);
    }
    for _ in 0..5 {
        table.work_off();
        assert!(table.has(&certificate('a')) && !table.has(&slot(1)));
        table.now = table.state.next_wake(table.now).unwrap();
    }
    table.state.store_event(StoreEvent::Reconnected, table.now);
    table.linger();
    table.work_off();
    assert!(!table.has(&certificate('a')));
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_died_between_slot_and_certificate() {
    let mut table = Table::secured();
    for id in [slot(1), certificate('a')] {
        table.wish(id, Wanted::Absent);
    }
    table.pass();
    table.apply_all();
    table.state.leadership(Leadership::Standby { leader: None }, table.now);
    table.wins(50);
    table.work_off();
    while table.has(&certificate('a')) {
        table.now = table.state.next_wake(table.now).unwrap();
        table.work_off();
    }
    assert!(table.state.work.settled());
}

#[test]
fn whoever_reads_etcd_anew_knows_from_slots_alone_which_certificates_they_need() {
    let mut table = Table::standby();
    let (slot, unused) = (slot(1), certificate('b'));
    let (desired, certificate) = (secured(1, 'a'), certificate('a'));
    let documents = [(&slot, &desired), (&certificate, &key_pair('a', "x")), (&unused, &key_pair('b', "x"))];
    let documents =
        documents.map(|(id, document)| (id.clone(), Revision(3), inspect(id, &id.key("/apisix"), &document.bytes)));
    let snapshot = Snapshot { revision: Revision(5), documents: documents.into(), ..Snapshot::default() };
    table.revision = 5;
    table.state.store_event(StoreEvent::Snapshot(snapshot), table.now);
    // Translation wants neither certificate; the slot is kept, as that of a frozen Gateway is.
    table.wish(slot.clone(), Wanted::Kept { otherwise: None });
    table.wins(6);
    table.work_off();
    for _ in 0..5 {
        table.linger();
        table.work_off();
    }
    assert!(table.has(&slot) && table.has(&certificate) && !table.has(&unused));
}

#[test]
fn a_certificate_deleted_by_hand_is_put_again_and_its_slot_left_alone() {
    let mut table = Table::secured();
    table.by_hand(&certificate('a'), None);
    assert_eq!(table.state.standing(&certificate('a')), Standing::Pending);
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    table.work_off();
    assert!(table.state.work.settled() && table.has(&certificate('a')));
    assert_eq!(table.metric("drift_detected_total{what=\"deleted\"}"), Some(1.0));
}

#[test]
fn a_slot_that_lost_its_certificate_in_flight_waits_for_it() {
    let mut table = Table::secured();
    table.wish_slot(2, 'a');
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
    assert_eq!(table.sends(), only(&[&certificate('a')], &[]));
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(2)], &[&pool(), &certificate('a')]));
}

#[test]
fn with_a_certificate_the_slots_that_are_to_need_it_are_looked_at_and_so_are_their_routes() {
    let mut table = Table::settled();
    // It is not there for want of a pool, so that nothing but what is wanted leads from the certificate to it.
    let nowhere = WorkId::new(Directory::Upstreams, "gateway-api.nowhere");
    let port = ids::port_slot(Port::new(9100).unwrap());
    let route = ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", "tcp-app"));
    table.wish(port.clone(), Wanted::Document(Document { pool: Some(nowhere.clone()), ..secured(1, 'a') }));
    table.wish(nowhere, Wanted::Refused("too large".into()));
    table.work_off();
    assert!(!table.state.work.due(&port) && !table.state.report.is_due(&route));
    table.state.add(certificate('a'));
    assert!(table.state.work.due(&port));
    table.state.touch_users(&certificate('a'));
    assert!(table.state.report.is_due(&route));
}
