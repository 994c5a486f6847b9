//! Several data planes: which are followed, when they are written, and what becomes of one that is left.

use super::*;
use crate::{
    reconcile::tests::terms::record,
    store::{
        checkpoint::Checkpoint,
        txn::{Action, Ground},
    },
};

const CLASS: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: apisix, generation: 2}\nspec: \
                     {controllerName: apisix-etcd.io/gateway-controller, parametersRef: {group: apisix-etcd.io, kind: DataPlane, name: edge}}";

fn edge() -> Plane {
    Plane::of("/edge")
}

fn west() -> Plane {
    Plane::of("/west")
}

impl Table {
    /// The class of the quickstart is on the data plane `edge`, and that is served.
    fn on_edge() -> Self {
        let mut table = Self::standby();
        table.reads("/edge");
        table.changed(Kind::GatewayClass, CLASS);
        table.wins(1);
        table.work_off();
        table.is_read(edge());
        table.work_off();
        assert_eq!(table.documents(), [(edge(), [1, 1])]);
        table
    }

    /// The DataPlane `edge` reads a prefix.
    fn reads(&mut self, prefix: &str) {
        let plane = format!(
            "apiVersion: apisix-etcd.io/v1alpha1\nkind: DataPlane\nmetadata: {{name: edge}}\nspec: {{etcdPrefix: {prefix}}}"
        );
        self.changed(Kind::DataPlane, &plane);
    }

    fn data_plane_deleted(&mut self) {
        let change = Change { kind: Kind::DataPlane, name: ObjectName::cluster("edge"), observed: None };
        let event = ClusterEvent::Changed { change, status: StatusPrint::default(), version: None, at: self.now };
        self.state.cluster_event(event, self.now);
    }

    /// What etcd holds of a data plane is read for the first time: nothing.
    fn is_read(&mut self, plane: Plane) {
        let snapshot = Snapshot { revision: Revision(self.revision), ..Snapshot::default() };
        let event = StoreEvent::Snapshot(snapshot);
        self.state.store_event(PlaneEvent { plane, event }, self.now);
    }

    /// How many upstreams and stream_routes of ours each data plane has that has any.
    fn documents(&self) -> Vec<(Plane, [usize; 2])> {
        let of = |plane| {
            let mirror = self.state.mirror.of(plane).unwrap();
            (plane, [Directory::Upstreams, Directory::StreamRoutes].map(|directory| mirror.n_ours(directory)))
        };
        self.state.mirror.planes().map(of).filter(|(_, n)| *n != [0, 0]).collect()
    }

    /// The data planes that the followers are asked to follow.
    fn followed(&self) -> Vec<Plane> {
        self.state.outputs.planes.borrow().iter().copied().collect()
    }

    /// The keys that are sent to be put or deleted, but for lanes and placeholders.
    fn sent_keys(&self, deleted: bool) -> Vec<String> {
        let writes = self.sent.iter().flat_map(|(_, txn)| &txn.writes);
        let of = writes.filter(|write| (write.action == Action::Delete) == deleted);
        let keys = of.map(|write| write.key.to_string());
        keys.filter(|key| !key.starts_with("/control") && !key.ends_with('/')).collect()
    }

    /// Answers all that was sent: it may not be written.
    fn forbid_all(&mut self) {
        for (number, txn) in std::mem::take(&mut self.sent) {
            let answer = if txn.writes.iter().any(|write| write.key.starts_with("/west/")) {
                let (n_operations, ground) = (txn.n_operations(), Ground::Forbidden);
                Err(CommitError::Refused { n_operations, ground, source: "no right".into() })
            } else {
                self.revision += 1;
                Ok(Commit::Applied(Revision(self.revision)))
            };
            self.state.answered(number, answer, self.now);
        }
    }

    /// Everything that is to be done is done, also what waits for its time.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.work_off();
            self.wait();
        }
    }

    /// Time enough for pools that are left.
    fn wait(&mut self) {
        self.now += Duration::from_mins(1);
    }
}

#[test]
fn a_data_plane_is_written_once_it_has_been_read() {
    let mut table = Table::standby();
    table.reads("/edge");
    table.changed(Kind::GatewayClass, CLASS);
    table.wins(1);
    table.work_off();
    assert_eq!(table.followed(), [Plane::default(), edge()]);
    assert_eq!(table.documents(), []);
    table.is_read(edge());
    table.work_off();
    assert_eq!(table.documents(), [(edge(), [1, 1])]);
}

#[test]
fn nothing_is_deleted_where_a_data_plane_was_before_everything_is_where_it_is() {
    let mut table = Table::on_edge();
    table.reads("/west");
    table.pass();
    assert_eq!(table.followed(), [Plane::default(), edge(), west()]);
    assert_eq!(table.sent_keys(true), Vec::<String>::new(), "the new place has not been read");
    table.apply_all();
    table.is_read(west());
    table.pass();
    assert_eq!((table.sent_keys(false).len(), table.sent_keys(true)), (2, vec![]));
    table.pass();
    assert_eq!(table.sent_keys(true), Vec::<String>::new(), "nobody knows yet what became of the puts");
    table.apply_all();
    table.settle();
    assert_eq!(table.documents(), [(west(), [1, 1])]);
}

#[test]
fn an_emptied_data_plane_is_in_no_record_any_more_and_not_followed() {
    let mut table = Table::on_edge();
    table.reads("/west");
    table.work_off();
    table.is_read(west());
    table.settle();
    let prefixes = table.state.prefixes();
    assert_eq!(prefixes.keys().map(|prefix| &**prefix).collect::<Vec<_>>(), ["/apisix", "/west"]);
    assert_eq!(table.followed(), [Plane::default(), west()]);
}

#[test]
fn what_a_data_plane_holds_that_moved_while_nobody_looked_is_found_by_the_record() {
    let mut table = Table::standby();
    table.reads("/west");
    table.changed(Kind::GatewayClass, CLASS);
    let prefixes = [("/apisix".into(), "".into()), ("/edge".into(), "edge".into())];
    table.lanes_hold(&Checkpoint { prefixes: prefixes.into(), ..record("cluster", 10) });
    table.wins(1);
    table.work_off();
    assert_eq!(table.followed(), [Plane::default(), edge(), west()]);
    let kept = table.state.prefixes();
    assert_eq!(kept.get("/edge").map(|name| &**name), Some("edge"), "nobody knows yet that there is nothing");
}

#[test]
fn documents_of_a_data_plane_that_is_missing_stay_and_are_not_written_again_when_it_is_back() {
    let mut table = Table::on_edge();
    table.data_plane_deleted();
    table.work_off();
    table.wait();
    table.work_off();
    assert_eq!(table.documents(), [(edge(), [1, 1])]);
    table.reads("/edge");
    table.pass();
    assert_eq!((table.sent_keys(false), table.sent_keys(true)), (vec![], vec![]));
    assert_eq!(table.documents(), [(edge(), [1, 1])]);
}

#[test]
fn a_data_plane_that_no_class_names_is_emptied() {
    let mut table = Table::on_edge();
    table.changed(Kind::GatewayClass, GATEWAY);
    table.settle();
    assert_eq!(table.documents(), [(Plane::default(), [1, 1])]);
}

#[test]
fn nothing_is_deleted_where_a_data_plane_was_while_the_new_place_may_not_be_written() {
    let mut table = Table::on_edge();
    table.reads("/west");
    table.work_off();
    table.is_read(west());
    for _ in 0..5 {
        table.pass();
        assert_eq!(table.sent_keys(true), Vec::<String>::new());
        table.forbid_all();
        assert!(table.state.outage.is_none(), "other data planes do not wait");
        table.now += Duration::from_secs(10);
    }
    assert_eq!(table.documents(), [(edge(), [1, 1])]);
    table.settle();
    assert_eq!(table.documents(), [(west(), [1, 1])]);
}

#[test]
fn of_a_data_plane_that_may_not_be_written_little_is_tried_at_once() {
    let mut table = Table::on_edge();
    table.reads("/west");
    table.work_off();
    table.is_read(west());
    table.pass();
    assert!(!table.sent.is_empty());
    table.forbid_all();
    table.pass();
    assert!(table.sent.is_empty(), "it rests");
    assert!(table.state.next_wake(table.now).is_some(), "and is tried again");
}

#[test]
fn no_transaction_writes_two_data_planes() {
    let mut table = Table::settled();
    table.reads("/edge");
    table.changed(Kind::GatewayClass, &CLASS.replace("name: apisix,", "name: edge,"));
    table.work_off();
    table.is_read(edge());
    // Everything of one is new, and everything of the other has another endpoint.
    table.changed(Kind::Gateway, &GATEWAY.replace("gatewayClassName: apisix", "gatewayClassName: edge"));
    table.pass();
    assert!(!table.sent.is_empty());
    for (_, txn) in &table.sent {
        let of = |prefix: &str| txn.writes.iter().any(|write| write.key.starts_with(prefix));
        assert!(!(of("/apisix/") && of("/edge/")), "{txn:?}");
    }
}

#[test]
fn a_route_whose_data_plane_cannot_be_read_is_told_so() {
    let mut table = Table::on_edge();
    let route = ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", "tcp-app"));
    table.state.report.sink().waiting.clear();
    table.reads("/west");
    table.work_off();
    assert!(!table.state.report.sink().waiting.contains_key(&route), "it may be read in a moment");
    let event = StoreEvent::Disconnected;
    table.state.store_event(PlaneEvent { plane: west(), event }, table.now);
    table.work_off();
    let update = table.state.report.sink().waiting[&route].clone();
    assert!(update.status.to_string().contains("\"reason\":\"Pending\""), "{}", update.status);
}

#[test]
fn a_data_plane_that_cannot_be_read_keeps_nobody_else_waiting() {
    let mut table = Table::settled();
    table.reads("/edge");
    let other = CLASS.replace("name: apisix,", "name: edge,");
    table.changed(Kind::GatewayClass, &other);
    table.work_off();
    assert_eq!(table.followed(), [Plane::default(), edge()]);
    table.route_deleted();
    table.work_off();
    table.wait();
    table.work_off();
    assert_eq!(table.documents(), []);
    assert!(table.state.fit());
}
