//! Stream_routes of somebody else that can take connections of our slots.

use super::*;
use crate::{
    apisix::{
        ids,
        routing::Reach,
        stored::{Inspected, Seal, ValueHash},
    },
    model::places::{Plane, Port},
    store::follow::KeyEvent,
};

fn slot() -> WorkId {
    ids::port_slot(Plane::default(), Port::new(9100).unwrap())
}

impl Table {
    /// Somebody writes these stream_routes, with these values, or deletes them, in one go.
    fn somebody_writes(&mut self, routes: &[(&str, Option<(Reach, &str)>)]) {
        self.revision += 1;
        let revision = Revision(self.revision);
        let inspected = |(reach, value): (Reach, &str)| {
            let hash = ValueHash::of(format!("{reach:?} {value}").as_bytes());
            Inspected { seal: Seal::Broken, hash, sealed_as: None, pool: None, certificate: None, reach }
        };
        let event = |(name, value): &(&str, Option<(Reach, &str)>)| {
            let id = WorkId::new(Plane::default(), Directory::StreamRoutes, name);
            KeyEvent::Document { id, revision, stored: value.map(inspected) }
        };
        let events = routes.iter().map(event).collect();
        self.state.store_event(told(StoreEvent::Changed { revision, events }), self.now);
    }

    fn notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.state.report.sink().notices).iter().map(Notice::to_string).collect()
    }
}

const EVERYWHERE: Option<(Reach, &str)> = Some((Reach::EveryPort, ""));

fn on(port: u16) -> (Reach, &'static str) {
    (Reach::Port(port.try_into().unwrap()), "")
}

#[test]
fn a_stream_route_of_somebody_else_that_came_later_is_told_of_once_and_counted_while_it_is_there() {
    let mut table = Table::settled();
    let overlapped = |table: &Table| table.metric("slots_overlapped").unwrap();
    table.somebody_writes(&[("1", Some(on(9200)))]);
    table.work_off();
    assert_eq!((overlapped(&table), table.notes().len()), (0.0, 0), "another port");
    table.somebody_writes(&[("1", Some(on(9100)))]);
    table.work_off();
    assert_eq!((overlapped(&table), table.stored()), (1.0, [1, 1]), "ours stays");
    let notes = table.notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    let said = "TCPRoute default/tcp-app: Warning (Overlapped): /apisix/stream_routes/1 in etcd, which the controller did not write, \
                takes connections of port 9100 too.";
    assert!(notes[0].starts_with(said), "{notes:?}");

    // Rewritten, and beside another one that comes: only what has come is told.
    table.somebody_writes(&[("1", Some((on(9100).0, "other"))), ("all", EVERYWHERE)]);
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.work_off();
    let notes = table.notes();
    assert_eq!((overlapped(&table), notes.len()), (1.0, 1), "{notes:?}");
    assert!(notes[0].starts_with("GatewayClass apisix: Warning (Overlapped): /apisix/stream_routes/all "), "{notes:?}");

    table.somebody_writes(&[("1", None), ("all", None)]);
    table.work_off();
    assert_eq!((overlapped(&table), table.notes().len()), (0.0, 0));
    table.somebody_writes(&[("1", Some(on(9100)))]);
    table.work_off();
    assert_eq!((overlapped(&table), table.notes().len()), (1.0, 1), "again");
}

#[test]
fn only_the_leader_tells_of_what_overlaps_and_of_many_only_some_one_by_one() {
    let mut table = Table::settled();
    table.state.leadership(Leadership::Standby { leader: None }, table.now);
    let names: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let values: Vec<_> = names.iter().map(|name| (name.as_str(), Some(on(9100)))).collect();
    table.somebody_writes(&values);
    table.pass();
    assert_eq!((table.metric("slots_overlapped"), table.notes().len()), (Some(1.0), 0));
    table.wins(9);
    table.work_off();
    assert_eq!(table.notes().len(), 10);
}

#[test]
fn a_slot_that_a_stranger_on_every_port_keeps_away_is_written_once_it_is_gone() {
    let mut table = Table::standby();
    table.somebody_writes(&[("all", EVERYWHERE), ("also", EVERYWHERE)]);
    table.wins(1);
    table.work_off();
    assert_eq!(table.stored()[1], 0, "it was there first");
    assert!(matches!(table.state.standing(&slot()), Standing::Occupied { .. }));
    table.somebody_writes(&[("all", None)]);
    table.work_off();
    assert_eq!(table.stored()[1], 0, "so was the other one");
    table.somebody_writes(&[("also", Some(on(9200)))]);
    table.work_off();
    assert_eq!(table.stored(), [1, 1]);
    assert!(!table.state.reached_everywhere);
}
