//! Certificates: in etcd before the first slot that needs them, renewed alone, and gone after the last slot.

mod crowds;
mod readings;

use super::*;
use crate::{
    apisix::{
        documents::{self, To},
        ids,
        stored::inspect,
    },
    model::{
        certificates::{KeyPair, SecretFacts, Validity},
        facts::{Facts, Observed},
        places::{Plane, Port, ServerName, Slot},
        verdicts::Occupant,
    },
    store::{follow::KeyEvent, txn::Action},
};

const INSTANCE: &str = "default";

/// The hostname of the listener: APISIX finds its certificate for every `s1.example`.
const WIDE: &str = "*.example";

fn place(n: u16) -> Slot {
    Slot { port: Port::new(9443).unwrap(), name: ServerName::of(&format!("s{n}.example")) }
}

fn slot(n: u16) -> WorkId {
    ids::slot(Plane::default(), &place(n))
}

fn certificate(name: &str) -> WorkId {
    ids::certificate(Plane::default(), &ServerName::of(name).unwrap())
}

fn wide() -> WorkId {
    certificate(WIDE)
}

fn route() -> ObjectRef {
    ObjectRef::new(Kind::TlsRoute, ObjectName::new("default", "tls-app"))
}

fn gateway() -> ObjectRef {
    ObjectRef::new(Kind::Gateway, ObjectName::new("default", "tls"))
}

fn pool() -> WorkId {
    ids::pool(Plane::default(), "default", Kind::TlsRoute, &route().name)
}

/// A pair that is told from others by its text. Of fewer than 128 letters it is one that no data plane takes.
fn pair(text: &str) -> Arc<KeyPair> {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{text}\n").repeat(8);
    Arc::new(KeyPair::new(text, &key, Validity { not_before: 0, not_after: 1 }))
}

fn good(text: &str) -> Arc<KeyPair> {
    pair(&text.repeat(128))
}

impl Table {
    fn becomes(&mut self, object: &ObjectRef, facts: Option<Facts>) {
        let change = Change { kind: object.kind, name: object.name.clone(), observed: facts.map(Observed::Facts) };
        let status = StatusPrint::default();
        self.state.cluster_event(ClusterEvent::Changed { change, status, version: None, at: self.now }, self.now);
    }

    fn secret(&mut self, pair: Option<Arc<KeyPair>>) {
        let secret = ObjectRef::new(Kind::Secret, ObjectName::new("default", "tls"));
        self.becomes(&secret, pair.map(|pair| Facts::Secret(SecretFacts { pair: Ok(pair) })));
    }

    /// A Gateway that ends TLS for these hostnames, the first of which may be none, all with one Secret.
    fn listens(&mut self, hostnames: &[&str]) {
        let listener = |(n, hostname): (usize, &&str)| {
            let hostname = if hostname.is_empty() { String::new() } else { format!(", hostname: '{hostname}'") };
            format!(
                "  - {{name: l{n}, port: 9443, protocol: TLS{hostname}, tls: {{certificateRefs: [{{name: tls}}]}}}}\n"
            )
        };
        let listeners: String = hostnames.iter().enumerate().map(listener).collect();
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: tls, namespace: default}}\n\
             spec:\n  gatewayClassName: apisix\n  listeners:\n{listeners}"
        );
        self.changed(Kind::Gateway, &gateway);
    }

    /// A route for the slots up to `n`.
    fn routes(&mut self, n: u16) {
        let names: Vec<String> = (1..=n).map(|n| format!("s{n}.example")).collect();
        let route = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: tls-app, namespace: default}}\n\
             spec:\n  parentRefs: [{{name: tls}}]\n  hostnames: [{}]\n  rules: [{{backendRefs: [{{name: tcp-service, port: 8080}}]}}]\n",
            names.join(", ")
        );
        self.changed(Kind::TlsRoute, &route);
    }

    /// Everything that `n` slots are, nothing of it written, and everything else written.
    fn unwritten(n: u16, pair: Arc<KeyPair>) -> Self {
        let mut table = Self::settled();
        table.secret(Some(pair));
        table.listens(&[WIDE]);
        table.routes(n);
        table
    }

    /// Slots up to `n` with one certificate, written.
    fn secured(n: u16) -> Self {
        let mut table = Self::unwritten(n, good("a"));
        table.work_off();
        assert!((1..=n).all(|n| table.has(&slot(n))) && table.has(&wide()));
        table
    }

    fn has(&self, id: &WorkId) -> bool {
        self.state.mirror.stored(id).is_some()
    }

    /// What is said of the Gateway as a whole.
    fn programmed(&mut self) -> String {
        let status = &self.state.report.sink().waiting[&gateway()].status;
        status["conditions"][1]["reason"].as_str().unwrap().to_owned()
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
        let stored = value.map(|value| inspect(id, &id.key(), value));
        let event = KeyEvent::Document { id: id.clone(), revision: Revision(self.revision), stored };
        let event = StoreEvent::Changed { revision: Revision(self.revision), events: vec![event] };
        self.state.store_event(told(event), self.now);
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
    let mut table = Table::unwritten(1, good("a"));
    assert_eq!(table.sends(), only(&[&wide(), &pool()], &[]));
    assert_eq!(table.state.standing(&slot(1)), Standing::Pending);
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(1)], &[&pool(), &wide()]));
    table.work_off();
    assert_eq!(table.state.mirror.users(&wide()).collect::<Vec<_>>(), [&slot(1)]);
    assert_eq!([slot(1), wide()].map(|id| table.state.standing(&id)), [Standing::Programmed, Standing::Programmed]);
    assert_eq!(table.programmed(), "Programmed");
    assert!(table.state.work.settled());
}

#[test]
fn slots_that_need_one_certificate_travel_together_and_it_is_compared_once() {
    let mut table = Table::unwritten(6, good("a"));
    table.pass();
    table.apply_all();
    let sent = table.sends();
    let [(writes, conditions)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!((writes.len(), conditions.len()), (6, 2), "{sent:?}");
}

#[test]
fn a_renewed_certificate_touches_nothing_else() {
    let mut table = Table::secured(2);
    table.secret(Some(good("b")));
    assert_eq!(table.sends(), only(&[&wide()], &[]));
    assert_eq!(table.state.standing(&wide()), Standing::Programmed, "the older one serves meanwhile");
    table.apply_all();
    assert_eq!(table.sends(), []);
    assert!(table.state.work.settled());
}

#[test]
fn no_listener_is_called_programmed_before_its_certificate_stands() {
    let mut table = Table::settled();
    table.listens(&[WIDE]);
    table.work_off();
    assert_eq!(table.programmed(), "Invalid", "there is no Secret");
    table.secret(Some(good("a")));
    table.pass();
    assert_eq!(table.programmed(), "Invalid", "it is about to be written");
    table.fall_silent();
    while table.programmed() != "Pending" {
        table.now = table.state.next_wake(table.now).unwrap();
        table.pass();
        table.fall_silent();
    }
    while !table.has(&wide()) {
        table.now = table.state.next_wake(table.now).unwrap();
        table.work_off();
    }
    assert_eq!(table.programmed(), "Programmed");
    table.by_hand(&wide(), None);
    table.state.store_event(told(StoreEvent::Disconnected), table.now);
    table.pass();
    assert!(!table.sent.is_empty());
}

#[test]
fn a_slot_whose_certificate_is_refused_is_not_put_until_it_is_not_and_says_why() {
    let mut table = Table::unwritten(1, pair("short"));
    table.work_off();
    assert!(!table.has(&slot(1)) && !table.has(&wide()) && table.state.work.settled());
    assert!(matches!(table.state.standing(&wide()), Standing::Refused(why) if why.contains("cert is 5 bytes")));
    assert_eq!(table.programmed(), "Invalid");
    table.secret(Some(good("a")));
    table.work_off();
    assert!(table.has(&slot(1)));
    assert_eq!((table.state.standing(&wide()), &*table.programmed()), (Standing::Programmed, "Programmed"));
}

#[test]
fn a_certificate_that_comes_to_be_refused_serves_on_as_it_is() {
    let mut table = Table::secured(1);
    table.secret(Some(pair("short")));
    table.work_off();
    assert!(table.has(&slot(1)) && table.has(&wide()));
    assert!(matches!(table.state.standing(&wide()), Standing::Refused(_)));
    // Gone, it cannot be put again, and a slot is nothing without it.
    table.by_hand(&wide(), None);
    table.work_off();
    assert!(!table.has(&slot(1)));
}

#[test]
fn a_slot_waits_for_another_instances_certificate_to_go() {
    let mut table = Table::settled();
    let value = documents::upstream("them", &wide(), documents::Scheme::Tcp, &[], "theirs").unwrap();
    table.by_hand(&wide(), Some(value.as_bytes()));
    table.secret(Some(good("a")));
    table.listens(&[WIDE]);
    table.routes(1);
    table.work_off();
    assert!(!table.has(&slot(1)));
    let occupied = Standing::Occupied { by: Occupant::Instance("them".into()) };
    assert_eq!((table.state.standing(&wide()), &*table.programmed()), (occupied, "Invalid"));
    table.by_hand(&wide(), None);
    table.work_off();
    assert!(table.has(&slot(1)));
}

#[test]
fn a_slot_gets_another_certificate_in_three_transactions() {
    let mut table = Table::secured(1);
    table.listens(&["s1.example"]);
    let narrow = certificate("s1.example");
    assert_eq!(table.sends(), only(&[&narrow], &[]));
    table.apply_all();
    assert_eq!(table.sends(), only(&[&slot(1)], &[&pool(), &narrow]));
    table.apply_all();
    assert_eq!(table.sends(), [], "data planes may not have heard of it yet");
    table.linger();
    assert_eq!(table.sends(), deleted(&wide()));
    table.work_off();
    assert!(table.state.work.settled());
}

#[test]
fn a_certificate_goes_a_while_after_its_last_slot() {
    let mut table = Table::secured(1);
    table.secret(None);
    assert_eq!(table.sends(), deleted(&slot(1)));
    table.apply_all();
    assert_eq!(table.sends(), []);
    table.linger();
    let sent = table.sends();
    assert!(sent.iter().flat_map(|(writes, _)| writes).any(|write| *write == format!("-{}", wide())), "{sent:?}");
}

#[test]
fn no_certificate_is_deleted_while_nobody_tells_who_needs_it() {
    let mut table = Table::secured(1);
    table.state.store_event(told(StoreEvent::Disconnected), table.now);
    table.secret(None);
    for _ in 0..5 {
        table.work_off();
        assert!(table.has(&wide()) && !table.has(&slot(1)));
        table.now = table.state.next_wake(table.now).unwrap();
    }
    table.state.store_event(told(StoreEvent::Reconnected), table.now);
    table.linger();
    table.work_off();
    assert!(!table.has(&wide()));
}

#[test]
fn a_new_leader_goes_on_where_the_last_one_died_between_slot_and_certificate() {
    let mut table = Table::secured(1);
    table.secret(None);
    table.pass();
    table.apply_all();
    table.state.leadership(Leadership::Standby { leader: None }, table.now);
    table.wins(50);
    table.work_off();
    while table.has(&wide()) {
        table.now = table.state.next_wake(table.now).unwrap();
        table.work_off();
    }
    assert!(table.state.work.settled());
}
