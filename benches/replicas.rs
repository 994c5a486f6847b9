//! Whole replicas over one etcd, as `run` wires them: a store and a prefix go in; events of the cluster go in later, and
//! "there is nothing more to do" comes out.
#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may stop")]

use super::{fleet, support::etcd::Etcd};
use apisix_etcd_controller::{
    clock,
    cluster::{ClusterEvent, ListedObject},
    leader,
    model::{
        facts::Change,
        names::{Kind, ObjectRef},
        versions::CacheVersion,
    },
    reconcile::{Metrics, Progress, Settings, Statuses},
    replica::{self, Replica},
    status::{
        print::StatusPrint,
        queue::{StatusSink, StatusUpdate},
    },
    store::{
        control::ControlKeys,
        etcd::{EtcdSettings, EtcdStore},
    },
    translate::desired::{Desired, Wanted},
};
use prometheus_client::registry::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// As long as the one in the settings' defaults, so that nothing is renewed while a bench measures something else.
pub(crate) const LONG_LEASE: Duration = Duration::from_secs(15);

/// Versions as a cluster of some age has them: their digits are written with every transaction.
const VERSION: CacheVersion = CacheVersion(100_000_000);

/// Statuses are another bench's business.
struct NoStatuses;

impl StatusSink for NoStatuses {
    fn publish(&mut self, _: StatusUpdate) {}
    fn forget(&mut self, _: &ObjectRef) {}
}

/// A running replica. Dropping it stops it without giving its lease back.
pub(crate) struct Running {
    cluster: mpsc::Sender<ClusterEvent>,
    idle: mpsc::UnboundedReceiver<()>,
    progress: watch::Receiver<Progress>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// A client of its own for each replica, as separate processes would have.
pub(crate) async fn connect(etcd: &Etcd) -> Arc<EtcdStore> {
    Arc::new(EtcdStore::connect(&EtcdSettings::at(etcd.endpoint())).await.unwrap())
}

/// A prefix that nothing was written to yet.
pub(crate) fn fresh_prefix() -> Arc<str> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("/bench-{}", NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

/// Control keys of a prefix's own, so that no run follows what another one wrote.
pub(crate) fn control(prefix: &Arc<str>) -> ControlKeys {
    ControlKeys::new(format!("/control{prefix}").into(), fleet::settings(prefix).instance)
}

impl Running {
    /// Starts one and tells it of a whole cluster.
    pub(crate) async fn start(
        store: &Arc<EtcdStore>,
        prefix: &Arc<str>,
        holder: &str,
        lease_ttl: Duration,
        lists: Vec<ClusterEvent>,
    ) -> Self {
        let translation = fleet::settings(prefix);
        let reconcile = Settings::new(control(prefix), holder.into(), Arc::clone(&translation.controller_name));
        let (tell_idle, idle) = mpsc::unbounded_channel();
        let statuses =
            Statuses { sink: NoStatuses, idle: Box::new(move |_, _| tell_idle.send(()).unwrap_or_default()) };
        let mut registry = Registry::default();
        let metrics = replica::Metrics {
            reconcile: Metrics::register(&mut registry),
            leader: leader::Metrics::register(&mut registry),
        };
        let stop = CancellationToken::new();
        let settings = replica::Settings { reconcile, lease_ttl };
        let Replica { cluster, relists: _, progress, tasks } =
            replica::wire(settings, Desired::new(translation), store, statuses, metrics, &stop);
        let mut running = Self { cluster, idle, progress, stop, tasks: JoinSet::new() };
        for (_, task) in tasks {
            running.tasks.spawn(task);
        }
        running.tell(ClusterEvent::Identity("bench".into())).await;
        for list in lists {
            running.tell(list).await;
        }
        running
    }

    async fn tell(&self, event: ClusterEvent) {
        self.cluster.send(event).await.unwrap();
    }

    /// Waits until it has written everything, and rendered every status.
    pub(crate) async fn idle(&mut self) {
        self.idle.recv().await.unwrap();
    }

    /// Waits until it leads and nothing is under way or waiting for its time, and forgets what it told until then.
    pub(crate) async fn settled(&mut self) {
        self.progress.wait_for(|progress| progress.settled).await.unwrap();
        while self.idle.try_recv().is_ok() {}
    }

    /// Waits until it could lead at any moment.
    pub(crate) async fn fit(&mut self) {
        self.progress.wait_for(Progress::fit).await.unwrap();
    }

    /// An object has changed.
    pub(crate) async fn changed(&self, change: Change) {
        let status = StatusPrint::default();
        self.tell(ClusterEvent::Changed { change, status, version: Some(VERSION), at: clock::now() }).await;
    }

    /// Asks it to end, and waits for that.
    pub(crate) async fn stopped(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }

    /// What is cancelled to ask it to end.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Ends it where it is, as SIGKILL would: its lease is not given back.
    pub(crate) fn kill(&mut self) {
        self.tasks.abort_all();
    }
}

/// A complete list of every kind.
pub(crate) fn lists(routes: usize) -> Vec<ClusterEvent> {
    let objects = fleet::objects(routes);
    let of_kind = |kind| {
        let listed = objects.iter().filter(|change| change.kind == kind).filter_map(|change| {
            let observed = change.observed.clone()?;
            Some(ListedObject { name: change.name.clone(), observed, status: StatusPrint::default() })
        });
        ClusterEvent::Listed { kind, objects: listed.collect(), version: Some(VERSION), ticket: 0, at: clock::now() }
    };
    Kind::ALL.into_iter().map(of_kind).collect()
}

/// What such a cluster comes to: every key with its value.
pub(crate) fn documents(prefix: &str, routes: usize) -> Vec<(Arc<str>, Arc<[u8]>)> {
    let mut desired = Desired::new(fleet::settings(prefix));
    desired.apply(fleet::objects(routes));
    let value = |id| match desired.wanted(id) {
        Wanted::Document(document) => Some((id.key().into(), document.bytes)),
        Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_) => None,
    };
    desired.documents().iter().filter_map(value).collect()
}
