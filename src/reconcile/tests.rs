//! The loop's state without its inputs: events and answers in, transactions out, at times of the test's choosing.

use super::{Answer, Metrics, Outputs, Settings, State, Statuses, Task};
use crate::model::places::Plane;
use crate::{
    apisix::version::ApisixVersion,
    clock,
    cluster::{
        ClusterEvent, Relist,
        manifests::{File, Manifests},
    },
    leader::{Leadership, Resign, Term},
    model::{
        facts::Change,
        names::{Kind, ObjectName, ObjectRef},
        places::{Directory, WorkId},
        verdicts::Standing,
        versions::CacheVersion,
    },
    plan::order::TxnNumber,
    show::overview::Overview,
    status::{
        events::Notice,
        print::StatusPrint,
        queue::{StatusSink, StatusUpdate},
    },
    store::{
        StoreId,
        audit::Listing,
        control::ControlKeys,
        follow::{PlaneEvent, Snapshot, StoreEvent, control::ControlEvent},
        mirror::Known,
        records::Records,
        txn::{Commit, CommitError, Fence, Revision, Txn},
    },
    translate::{
        desired::{self, Desired},
        planes::PlaneSettings,
    },
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::collections::BTreeSet;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};

const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";

const GATEWAY: &str = include_str!("../../deploy/quickstart/gateway.yaml");
const ROUTE: &str = include_str!("../../deploy/quickstart/route.yaml");
const SERVICE: &str = include_str!("../../deploy/quickstart/service.yaml");

mod certificates;
mod outages;
mod planes;
mod statuses;
mod strangers;
mod strays;
mod terms;

/// Statuses that are written when the test says so, and what was announced.
#[derive(Default)]
struct Said {
    n_published: usize,
    /// Published and not written yet.
    waiting: BTreeMap<ObjectRef, StatusUpdate>,
    notices: Vec<Notice>,
}

impl StatusSink for Said {
    fn publish(&mut self, update: StatusUpdate) {
        self.n_published += 1;
        self.waiting.insert(update.object.clone(), update);
    }

    fn forget(&mut self, object: &ObjectRef) {
        self.waiting.remove(object);
    }

    fn clear(&mut self) -> Vec<ObjectRef> {
        std::mem::take(&mut self.waiting).into_keys().collect()
    }

    fn announce(&mut self, notice: Notice) {
        self.notices.push(notice);
    }
}

/// A loop and an etcd that answers when told to.
struct Table {
    state: State<Said>,
    registry: Registry,
    now: Instant,
    sent: Vec<(TxnNumber, Txn)>,
    revision: i64,
    n_idle: Arc<AtomicUsize>,
    /// What the lanes hold when somebody reads them.
    records: Records,
    asked_lists: mpsc::UnboundedReceiver<Relist>,
    resigned: mpsc::Receiver<Resign>,
}

/// What a follower tells of the only data plane there is.
fn told(event: StoreEvent) -> PlaneEvent {
    PlaneEvent { plane: Plane::default(), event }
}

impl Table {
    /// The quickstart, listed over an empty etcd, and everything written.
    fn settled() -> Self {
        let mut table = Self::standby();
        table.wins(1);
        table.work_off();
        assert_eq!(table.stored(), [1, 1]);
        table
    }

    /// The quickstart, listed at version 10 over an empty etcd, while nobody leads.
    fn standby() -> Self {
        let control = ControlKeys::new("/control".into(), "default".into());
        let settings = Settings::new(control, "replica".into(), CONTROLLER.into());
        let desired = Desired::new(desired::Settings {
            controller_name: CONTROLLER.into(),
            instance: "default".into(),
            plane: PlaneSettings::new(Plane::default(), ApisixVersion::DEFAULT).into(),
        });
        let n_idle = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&n_idle);
        let idle = Box::new(move |_: &Desired, _: &dyn Fn(&WorkId) -> Standing| {
            counted.fetch_add(1, Relaxed);
        });
        let statuses = Statuses { sink: Said::default(), idle };
        let mut registry = Registry::default();
        let (relists, asked_lists) = mpsc::unbounded_channel();
        let (resign, resigned) = mpsc::channel(8);
        let outputs = Outputs {
            relists,
            rereads: Default::default(),
            planes: watch::Sender::new(BTreeSet::new()),
            fit: watch::Sender::new(false),
            resign,
        };
        let state = State::new(settings, outputs, desired, statuses, Metrics::register(&mut registry));
        let (now, sent) = (clock::now(), Vec::new());
        let records = Records::default();
        let mut table = Self { state, registry, now, sent, revision: 1, n_idle, records, asked_lists, resigned };
        table.state.cluster_event(ClusterEvent::Identity("cluster".into()), now);
        table
            .state
            .control_event(ControlEvent::Snapshot { revision: Revision(1), keys: Vec::new(), begins_anew: false }, now);
        for (kind, objects) in read(&[GATEWAY, ROUTE, SERVICE]).objects {
            let version = Some(CacheVersion(10));
            table.state.cluster_event(ClusterEvent::Listed { kind, objects, version, ticket: 0, at: now }, now);
        }
        let snapshot = Snapshot { revision: Revision(1), ..Snapshot::default() };
        table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
        assert!(table.state.fit());
        table
    }

    /// Passes and good answers, until nothing is sent any more.
    fn work_off(&mut self) {
        loop {
            self.pass();
            if self.sent.is_empty() {
                return;
            }
            self.apply_all();
        }
    }

    /// The leader key was created at this revision.
    fn wins(&mut self, created: i64) {
        let term = Term { fence: Fence { key: "/control/default/leader".into(), created: Revision(created) } };
        self.state.leadership(Leadership::Leading(term), self.now);
    }

    /// Passes until there is nothing more to do at once. Lanes are found empty, and an audit finds what is known.
    fn pass(&mut self) {
        let mut tasks = Vec::new();
        loop {
            let more = self.state.pass(self.now, |task| tasks.push(task));
            if tasks.is_empty() && !more {
                return;
            }
            for task in std::mem::take(&mut tasks) {
                match task {
                    Task::Commit(number, txn) => self.sent.push((number, txn)),
                    Task::ReadLanes(term) => {
                        self.state.task_answered(Answer::Lanes(term, Ok(self.records.clone())), self.now);
                    }
                    Task::List(term, planes) => {
                        let listed = planes.into_iter().map(|plane| (plane, Ok((StoreId(0), self.listing(plane)))));
                        self.state.task_answered(Answer::Listed(term, listed.collect()), self.now);
                    }
                }
            }
        }
    }

    /// What the mirror knows of a data plane is what etcd lists.
    fn listing(&self, plane: Plane) -> Listing {
        let mirror = self.state.mirror.of(plane).unwrap();
        let key = |(id, known): (&WorkId, Known)| match known {
            Known::Present(written) => Some((id.clone(), written)),
            Known::Absent(_) => None,
        };
        Listing { revision: mirror.told().unwrap_or_default(), keys: mirror.known().filter_map(key).collect() }
    }

    /// Answers all that was sent: not at all.
    fn fall_silent(&mut self) {
        for (number, txn) in std::mem::take(&mut self.sent) {
            let waited = Duration::from_secs(5);
            let error =
                CommitError::Unanswered { n_operations: txn.n_operations(), waited, source: "no answer".into() };
            self.state.answered(number, Err(error), self.now);
        }
    }

    /// Answers all that was sent: applied.
    fn apply_all(&mut self) {
        for (number, _) in std::mem::take(&mut self.sent) {
            self.revision += 1;
            self.state.answered(number, Ok(Commit::Applied(Revision(self.revision))), self.now);
        }
    }

    fn changed(&mut self, kind: Kind, yaml: &str) {
        for object in read(&[yaml]).objects.remove(&kind).unwrap() {
            let change = Change { kind, name: object.name, observed: Some(object.observed) };
            self.state.cluster_event(
                ClusterEvent::Changed { change, status: object.status, version: None, at: self.now },
                self.now,
            );
        }
    }

    fn route_deleted(&mut self) {
        let change = Change { kind: Kind::TcpRoute, name: ObjectName::new("default", "tcp-app"), observed: None };
        self.state.cluster_event(
            ClusterEvent::Changed { change, status: StatusPrint::default(), version: None, at: self.now },
            self.now,
        );
    }

    /// How many upstreams and stream_routes of ours there are.
    fn stored(&self) -> [usize; 2] {
        [Directory::Upstreams, Directory::StreamRoutes].map(|directory| self.state.mirror.n_ours(directory))
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> Option<f64> {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

fn read(texts: &[&str]) -> Manifests {
    let file = |(n, text): (usize, &&str)| File { path: format!("{n}.yaml").into(), text: (*text).to_owned() };
    let files: Vec<File> = texts.iter().enumerate().map(file).collect();
    Manifests::of(&files, CONTROLLER).unwrap()
}

/// The Service, with another address.
fn endpoints(last: u8) -> String {
    SERVICE.replace("192.0.2.11", &format!("192.0.2.{last}"))
}

#[test]
fn no_pool_is_deleted_while_nobody_tells_who_uses_it() {
    let mut table = Table::settled();
    table.state.store_event(told(StoreEvent::Disconnected), table.now);
    table.route_deleted();
    for _ in 0..5 {
        table.work_off();
        assert_eq!(table.stored(), [1, 0]);
        table.now = table.state.next_wake(table.now).unwrap();
    }
    table.state.store_event(told(StoreEvent::Reconnected), table.now);
    table.work_off();
    assert_eq!(table.stored(), [1, 0], "what happened meanwhile is yet to be told");
    table.now += table.state.settings.pool_linger;
    table.work_off();
    assert_eq!(table.stored(), [0, 0]);
}

#[test]
fn nobody_is_told_that_all_is_said_while_a_status_waits_for_etcd() {
    let mut table = Table::settled();
    let before = table.n_idle.load(Relaxed);
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    table.fall_silent();
    table.pass();
    assert_eq!(table.n_idle.load(Relaxed), before, "a first failure is not said yet");
    // Both the document and the store rest, and not equally long.
    while !table.state.work.settled() {
        table.now = table.state.next_wake(table.now).unwrap();
        table.work_off();
    }
    assert_eq!(table.n_idle.load(Relaxed), before + 1);
}

#[test]
fn a_late_answer_does_not_bring_back_what_a_newer_reading_of_etcd_lacks() {
    let mut table = Table::settled();
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    assert_eq!(table.sent.len(), 1);
    // Everything was deleted after our write, and etcd read anew, before the answer to it came.
    let snapshot = Snapshot { revision: Revision(9), ..Snapshot::default() };
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    table.apply_all();
    assert_eq!(table.stored(), [0, 0], "etcd was read at revision 9, after the answer's {}", table.revision);
    table.revision = 9;
    table.work_off();
    assert_eq!(table.stored(), [1, 1], "and what is wanted is written again");
}

#[test]
fn what_is_shown_is_what_etcd_holds() {
    let mut table = Table::settled();
    let shown = |table: &Table| {
        let settings = desired::Settings {
            controller_name: CONTROLLER.into(),
            instance: "default".into(),
            plane: PlaneSettings::new(Plane::default(), ApisixVersion::DEFAULT).into(),
        };
        Overview::standing(&table.state.desired, &settings, &|id| table.state.standing(id)).documents.len()
    };
    assert_eq!(shown(&table), 2);
    let snapshot = Snapshot { revision: Revision(9), ..Snapshot::default() };
    table.state.store_event(told(StoreEvent::Snapshot(snapshot)), table.now);
    assert_eq!(shown(&table), 0, "wanted, and gone from etcd");
}

#[test]
fn a_change_that_waits_for_a_transaction_in_flight_is_measured_from_its_own_arrival() {
    let mut table = Table::settled();
    let (count, sum) = ("propagation_seconds_count", "propagation_seconds_sum");
    assert_eq!(table.metric(count), Some(0.0), "what was there before us took no time");
    table.changed(Kind::EndpointSlice, &endpoints(101));
    table.pass();
    table.now += Duration::from_secs(1);
    table.changed(Kind::EndpointSlice, &endpoints(102));
    table.now += Duration::from_secs(2);
    table.work_off();
    assert_eq!((table.metric(count), table.metric(sum)), (Some(2.0), Some(3.0 + 2.0)));
    assert!(table.state.changed_at.is_empty());
}
