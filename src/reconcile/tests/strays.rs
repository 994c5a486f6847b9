//! Strays, and when it can be said whose they are.

use super::*;
use crate::{
    apisix::{
        routing::Reach,
        stored::{Inspected, Seal, ValueHash},
    },
    plan::order::Left,
    store::{
        checkpoint::{Checkpoint, tests::sample},
        control::{ControlKey, Purpose},
        follow::KeyEvent,
        txn::Action,
    },
};

fn stray() -> WorkId {
    WorkId::new(Plane::default(), Directory::StreamRoutes, "gateway-api.9300")
}

impl Table {
    /// Somebody leaves a document without a seal, that nobody wants, at an id of ours.
    fn stray_comes(&mut self) {
        self.revision += 1;
        let revision = Revision(self.revision);
        let hash = ValueHash::of(revision.to_string().as_bytes());
        let reach = Reach::Port(9300.try_into().unwrap());
        let stored = Inspected { seal: Seal::Broken, hash, sealed_as: None, pool: None, certificate: None, reach };
        let events = vec![KeyEvent::Document { id: stray(), revision, stored: Some(stored) }];
        self.state.store_event(told(StoreEvent::Changed { revision, events }), self.now);
    }

    /// What is sent that deletes it.
    fn deletions(&mut self) -> usize {
        self.pass();
        let key = stray().key();
        let deletes = |(_, txn): &&(TxnNumber, Txn)| {
            txn.writes.iter().any(|write| *write.key == *key && write.action == Action::Delete)
        };
        self.sent.iter().filter(deletes).count()
    }

    /// The control keys are read: our record, and perhaps that of another instance.
    fn control_is_read(&mut self, at: Revision, others: bool) {
        let record = |instance: &str| {
            let prefixes = [("/apisix".into(), "".into())].into();
            let record = Checkpoint { prefixes, cluster: "cluster".into(), ..sample(1) };
            (ControlKey { instance: instance.into(), purpose: Purpose::Lane(0) }, Revision(2), record.encode())
        };
        let keys = ["default", "another"].into_iter().take(1 + usize::from(others)).map(record).collect();
        self.state.control_event(ControlEvent::Snapshot { revision: at, keys, begins_anew: false }, self.now);
    }

    fn control_is_told(&mut self, revision: Revision) {
        self.state.control_event(ControlEvent::Changed { revision, changes: Vec::new() }, self.now);
    }

    /// Whether somebody asked for the control keys since the last time.
    fn asks(&self) -> bool {
        let [_, control] = &self.state.outputs.rereads;
        control.was_asked()
    }
}

#[test]
fn a_stray_is_deleted_once_the_control_keys_have_been_read_since_it_came() {
    let mut table = Table::settled();
    table.stray_comes();
    let at = Revision(table.revision);
    assert_eq!((table.deletions(), table.asks()), (0, true));
    assert!(!table.state.progress().settled);
    table.control_is_told(at);
    assert_eq!(table.deletions(), 0, "a watch may lack something");
    table.control_is_read(Revision(at.0 - 1), false);
    assert_eq!((table.deletions(), table.asks()), (0, true), "an instance may have begun since");
    table.control_is_read(at, false);
    assert_eq!((table.deletions(), table.asks()), (1, false));
}

#[test]
fn a_stray_stays_when_that_reading_shows_another_instance() {
    let mut table = Table::settled();
    table.stray_comes();
    assert_eq!(table.deletions(), 0);
    table.control_is_read(Revision(table.revision), true);
    assert_eq!(table.deletions(), 0);
    assert_eq!(table.state.left.get(&stray()), Some(&Left::Stray));
    assert!(table.state.progress().settled);
}

#[test]
fn a_stray_that_is_written_again_is_judged_again() {
    let mut table = Table::settled();
    table.stray_comes();
    table.control_is_read(Revision(table.revision), false);
    table.stray_comes();
    assert_eq!(table.deletions(), 0);
    table.control_is_read(Revision(table.revision), false);
    assert_eq!(table.deletions(), 1);
}

#[test]
fn what_was_read_of_an_etcd_that_was_replaced_says_nothing() {
    let mut table = Table::settled();
    table.control_is_read(Revision(100), false);
    let snapshot = Snapshot { revision: Revision(9), begins_anew: true, ..Snapshot::default() };
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    table.revision = 9;
    table.wins(10);
    table.work_off();
    table.stray_comes();
    assert_eq!(table.deletions(), 0);
    table.control_is_read(Revision(table.revision), false);
    assert_eq!(table.deletions(), 1);
}

#[test]
fn the_control_keys_are_read_with_each_audit() {
    let mut table = Table::settled();
    assert!(table.asks(), "a term begins with one");
    table.work_off();
    assert!(!table.asks());
    table.now += table.state.settings.audit_interval;
    table.work_off();
    assert!(table.asks());
}
