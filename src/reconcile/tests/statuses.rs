//! What is said of objects: what their statuses are known to say, and what is said anew when that is known no more.

use super::{terms::record, *};
use crate::store::control::Purpose;

fn route() -> ObjectRef {
    ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", "tcp-app"))
}

impl Table {
    /// What waits to be written is written; the cluster has told nothing of it yet.
    fn statuses_written(&mut self) -> BTreeMap<ObjectRef, StatusPrint> {
        let written = std::mem::take(&mut self.state.report.sink().waiting);
        let print = |(object, update): (ObjectRef, StatusUpdate)| {
            let print = update.print(CONTROLLER);
            (object, print)
        };
        written.into_iter().map(print).collect()
    }

    /// The cluster tells of the route, with what its status says now.
    fn route_seen(&mut self, print: &StatusPrint) {
        self.route_seen_as(ROUTE, print);
    }

    fn route_seen_as(&mut self, yaml: &str, print: &StatusPrint) {
        for object in read(&[yaml]).objects.remove(&Kind::TcpRoute).unwrap() {
            let change = Change { kind: Kind::TcpRoute, name: object.name, observed: Some(object.observed) };
            let event = ClusterEvent::Changed { change, status: print.clone(), version: None, at: self.now };
            self.state.cluster_event(event, self.now);
        }
        self.work_off();
    }

    /// TCPRoutes are listed anew, with nothing of ours in any status.
    fn routes_listed_without_statuses(&mut self) {
        let objects = read(&[ROUTE]).objects.remove(&Kind::TcpRoute).unwrap();
        let event = ClusterEvent::Listed { kind: Kind::TcpRoute, objects, version: None, ticket: 0, at: self.now };
        self.state.cluster_event(event, self.now);
        self.work_off();
    }

    /// Whether the route's status waits to be written.
    fn route_said(&mut self) -> bool {
        self.state.report.sink().waiting.contains_key(&route())
    }

    /// What the route's status was last to say of `Programmed`.
    fn route_programmed(&mut self) -> String {
        let status = &self.state.report.sink().waiting[&route()].status;
        let conditions = status["parents"][0]["conditions"].as_array().unwrap();
        let programmed = conditions.iter().find(|condition| condition["type"] == "apisix-etcd.io/Programmed").unwrap();
        format!("{}/{}", programmed["status"].as_str().unwrap(), programmed["reason"].as_str().unwrap())
    }

    fn stands_down(&mut self) {
        self.state.leadership(Leadership::Standby { leader: None }, self.now);
    }
}

#[test]
fn a_status_that_is_as_it_should_be_is_not_said_again_and_one_that_was_spoiled_is() {
    let mut table = Table::settled();
    let ours = table.statuses_written().remove(&route()).unwrap();
    table.route_seen(&ours);
    assert!(!table.route_said(), "it came back as it was written");
    table.route_seen(&StatusPrint::default());
    assert!(table.route_said(), "somebody removed it");
    assert_eq!(table.statuses_written().remove(&route()), Some(ours.clone()));
    table.route_seen(&ours);
    assert!(!table.route_said());
}

#[test]
fn a_list_that_shows_nothing_of_ours_where_something_was_known_has_it_said_again() {
    let mut table = Table::settled();
    table.statuses_written();
    table.routes_listed_without_statuses();
    assert!(table.route_said(), "the status was lost with a restored cluster, or by hand while nobody watched");
}

#[test]
fn what_was_to_be_written_when_a_term_ended_is_said_again_in_the_next_unless_the_object_says_it() {
    let mut table = Table::settled();
    let waited = table.state.report.sink().waiting.clone();
    assert!(waited.contains_key(&route()));
    table.stands_down();
    assert!(table.state.report.sink().waiting.is_empty(), "nobody but the leader writes");
    table.wins(9);
    table.work_off();
    assert_eq!(table.state.report.sink().waiting, waited, "nobody knows whether it was written");

    let ours = table.statuses_written().remove(&route()).unwrap();
    table.stands_down();
    table.route_seen(&ours);
    table.wins(12);
    table.work_off();
    assert!(!table.route_said(), "it was, and the cluster has told so");
}

#[test]
fn what_was_to_be_taken_back_when_a_term_ended_is_taken_back_in_the_next() {
    let mut table = Table::settled();
    let ours = table.statuses_written().remove(&route()).unwrap();
    table.route_seen_as(&ROUTE.replace("tcp-gateway", "elsewhere"), &ours);
    let parents = |table: &mut Table| table.state.report.sink().waiting[&route()].status["parents"].clone();
    assert_eq!(parents(&mut table), serde_json::json!([]));
    table.stands_down();
    table.wins(9);
    table.work_off();
    assert!(table.route_said(), "that nothing is to be said of it is no sign that nothing is");
    assert_eq!(parents(&mut table), serde_json::json!([]));
}

#[test]
fn what_was_dropped_unwritten_when_a_class_went_is_said_again_when_it_is_back() {
    let mut table = Table::settled();
    let gateway = |table: &mut Table| {
        let waiting = &table.state.report.sink().waiting;
        waiting.iter().find(|(object, _)| object.kind == Kind::Gateway).map(|(_, update)| update.status.clone())
    };
    let said = gateway(&mut table);
    assert!(said.is_some(), "published, and not written yet");
    let class = read(&[GATEWAY]).objects.remove(&Kind::GatewayClass).unwrap().remove(0);
    let change = |observed| Change { kind: Kind::GatewayClass, name: class.name.clone(), observed };
    for (observed, expected) in [(None, None), (Some(class.observed.clone()), said)] {
        let status = StatusPrint::default();
        let event = ClusterEvent::Changed { change: change(observed), status, version: None, at: table.now };
        table.state.cluster_event(event, table.now);
        table.work_off();
        assert_eq!(gateway(&mut table), expected);
    }
}

#[test]
fn a_class_is_told_whether_a_gateway_uses_it_and_a_finalizer_that_is_taken_away_comes_back() {
    let mut table = Table::settled();
    let class = read(&[GATEWAY]).objects.remove(&Kind::GatewayClass).unwrap().remove(0);
    let object = ObjectRef::new(Kind::GatewayClass, class.name.clone());
    let gateway = read(&[GATEWAY]).objects.remove(&Kind::Gateway).unwrap().remove(0);
    let said = |table: &mut Table| table.state.report.sink().waiting.get(&object).map(|update| update.finalizer);
    let seen = |table: &mut Table, print: StatusPrint| {
        let change =
            Change { kind: Kind::GatewayClass, name: class.name.clone(), observed: Some(class.observed.clone()) };
        let event = ClusterEvent::Changed { change, status: print, version: None, at: table.now };
        table.state.cluster_event(event, table.now);
        table.work_off();
    };
    assert_eq!(said(&mut table), Some(true));
    let update = table.state.report.sink().waiting[&object].clone();
    let written = table.statuses_written().remove(&object).unwrap();
    seen(&mut table, written);
    assert_eq!(said(&mut table), None, "it came back as it was written");
    seen(&mut table, StatusUpdate { finalizer: false, ..update }.print(CONTROLLER));
    assert_eq!(said(&mut table), Some(true), "somebody took the finalizer away");

    let change = Change { kind: Kind::Gateway, name: gateway.name, observed: None };
    let event = ClusterEvent::Changed { change, status: StatusPrint::default(), version: None, at: table.now };
    table.state.cluster_event(event, table.now);
    table.work_off();
    assert_eq!(said(&mut table), Some(false), "no Gateway uses it any more");
}

#[test]
fn of_an_object_that_was_to_be_written_and_is_gone_nothing_is_said() {
    let mut table = Table::settled();
    table.stands_down();
    table.route_deleted();
    table.wins(9);
    table.work_off();
    table.now += table.state.settings.pool_linger;
    table.work_off();
    assert!(!table.route_said());
}

#[test]
fn a_route_that_its_parent_refuses_says_that_it_still_serves_while_a_guard_keeps_its_slot() {
    let missing = "gateway.networking.k8s.io/httproutes";
    let mut table = Table::standby();
    let mut record = record("cluster", 10);
    record.versions.insert(missing.into(), CacheVersion(10));
    table.lanes_hold(&record);
    table.wins(5);
    table.work_off();
    assert_eq!((table.stored(), table.route_programmed()), ([1, 1], "True/Programmed".to_owned()));

    let nobody = "allowedRoutes:\n        namespaces: {from: Selector, selector: {matchLabels: {a: b}}}";
    table.changed(Kind::Gateway, &GATEWAY.replace("allowedRoutes:", nobody));
    table.work_off();
    assert_eq!((table.stored(), table.route_programmed()), ([1, 1], "False/Held".to_owned()));

    table.control_tells(Purpose::Release(format!("kind/{missing}").into()), 90, b"".to_vec());
    table.work_off();
    table.now += table.state.settings.pool_linger;
    table.work_off();
    assert_eq!((table.stored(), table.route_programmed()), ([0, 0], "False/NotAccepted".to_owned()));
}
