//! What a user waits for, on a real etcd: one endpoint change from its watch event to the revision that holds it, and a
//! whole cluster written into an empty etcd.
//!
//! The floor beside each: bare transactions that write the same values to the same etcd, with the same compares.
#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on may stop")]

mod fleet;
#[path = "../tests/support.rs"]
mod support;

use apisix_etcd_controller::{
    clock,
    cluster::{ClusterEvent, ListedObject},
    model::{facts::Change, names::Kind},
    reconcile::{Inputs, Metrics, Progress, Reconciler, Settings, Statuses},
    retry::RetryLimits,
    status::{
        print::StatusPrint,
        queue::{StatusSink, StatusUpdate},
    },
    store::{
        Store as _,
        etcd::{EtcdSettings, EtcdStore},
        follow::follow,
        txn::{Action, Commit, Revision, Txn, Write},
    },
    translate::desired::{Desired, Wanted},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::{StreamExt as _, stream};
use prometheus_client::registry::Registry;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use support::{binaries::Binary, etcd::Etcd};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

const ROUTES: [usize; 2] = [1_000, 10_000];

/// Statuses are another bench's business.
struct NoStatuses;

impl StatusSink for NoStatuses {
    fn publish(&mut self, _: StatusUpdate) {}
    fn forget(&mut self, _: &apisix_etcd_controller::model::names::ObjectRef) {}
}

/// A running loop over a prefix of its own.
struct Loop {
    cluster: mpsc::Sender<ClusterEvent>,
    idle: mpsc::UnboundedReceiver<()>,
    stop: CancellationToken,
}

impl Loop {
    async fn start(store: &EtcdStore, prefix: &str, lists: Vec<ClusterEvent>) -> Self {
        let prefix: Arc<str> = prefix.into();
        let stop = CancellationToken::new();
        let (cluster, from_cluster) = mpsc::channel(1_024);
        let (to_loop, from_store) = mpsc::channel(1_024);
        let (tell_idle, idle) = mpsc::unbounded_channel();
        let store = Arc::new(store.clone());
        tokio::spawn(follow(Arc::clone(&store), Arc::clone(&prefix), to_loop, RetryLimits::STORE, stop.clone()));
        let translation = fleet::settings(&prefix);
        let settings =
            Settings::new(prefix, Arc::clone(&translation.instance), Arc::clone(&translation.controller_name));
        let statuses =
            Statuses { sink: NoStatuses, idle: Box::new(move |_, _| tell_idle.send(()).unwrap_or_default()) };
        let observers = (Metrics::register(&mut Registry::default()), watch::Sender::new(Progress::default()));
        let inputs = Inputs { cluster: from_cluster, store: from_store };
        let reconciler = Reconciler::new(settings, Desired::new(translation), store, inputs, statuses, observers);
        tokio::spawn(reconciler.run(stop.clone()));
        let running = Self { cluster, idle, stop };
        for list in lists {
            running.cluster.send(list).await.unwrap();
        }
        running
    }

    async fn settled(&mut self) {
        self.idle.recv().await.unwrap();
    }

    async fn change(&mut self, change: Change) {
        let event = ClusterEvent::Changed { change, status: StatusPrint::default(), version: None, at: clock::now() };
        self.cluster.send(event).await.unwrap();
        self.settled().await;
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A complete list of every kind.
fn lists(routes: usize) -> Vec<ClusterEvent> {
    let objects = fleet::objects(routes);
    let of_kind = |kind| {
        let listed = objects.iter().filter(|change| change.kind == kind).filter_map(|change| {
            let observed = change.observed.clone()?;
            Some(ListedObject { name: change.name.clone(), observed, status: StatusPrint::default() })
        });
        ClusterEvent::Listed { kind, objects: listed.collect(), version: None, ticket: 0, at: clock::now() }
    };
    Kind::ALL.into_iter().map(of_kind).collect()
}

/// A prefix that nothing was written to yet.
fn fresh_prefix() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("/bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

struct Stage {
    runtime: Runtime,
    _etcd: Etcd,
    store: EtcdStore,
}

fn stage() -> Stage {
    let runtime = Runtime::new().unwrap();
    let (etcd, store) = runtime.block_on(async {
        let etcd = Etcd::start(Binary::Etcd36).await.unwrap();
        let store = EtcdStore::connect(&EtcdSettings::at(etcd.endpoint())).await.unwrap();
        (etcd, store)
    });
    Stage { runtime, _etcd: etcd, store }
}

fn one_endpoint_change(criterion: &mut Criterion) {
    let stage = stage();
    let mut group = criterion.benchmark_group("sync/one-endpoint-change");
    for routes in ROUTES {
        let mut running = stage.runtime.block_on(async {
            let mut running = Loop::start(&stage.store, &fresh_prefix(), lists(routes)).await;
            running.settled().await;
            running
        });
        let mut generation = 0;
        group.bench_function(BenchmarkId::from_parameter(routes), |bench| {
            bench.iter(|| {
                generation += 1;
                stage.runtime.block_on(running.change(fleet::endpoints(routes / 2, generation)));
            });
        });
        let (key, value) = an_upstream();
        let mut expected = Revision::ABSENT;
        group.bench_function(BenchmarkId::new("floor-bare-transaction", routes), |bench| {
            bench.iter(|| {
                let write = Write { key: Arc::clone(&key), expected, action: Action::Put(Arc::clone(&value)) };
                expected = stage.runtime.block_on(apply(&stage.store, vec![write]));
            });
        });
    }
    group.finish();
}

fn whole_cluster(criterion: &mut Criterion) {
    let stage = stage();
    let mut group = criterion.benchmark_group("sync/whole-cluster");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for routes in ROUTES {
        group.throughput(Throughput::Elements(routes as u64));
        group.bench_function(BenchmarkId::from_parameter(routes), |bench| {
            bench.iter_custom(|iterations| {
                let sync = async |lists| {
                    let begun = clock::now();
                    Loop::start(&stage.store, &fresh_prefix(), lists).await.settled().await;
                    begun.elapsed()
                };
                (0..iterations).map(|_| stage.runtime.block_on(sync(lists(routes)))).sum()
            });
        });
        group.bench_function(BenchmarkId::new("floor-bare-loader", routes), |bench| {
            bench.iter_custom(|iterations| {
                (0..iterations).map(|_| stage.runtime.block_on(load(&stage.store, routes))).sum()
            });
        });
    }
    group.finish();
}

/// Writes the same documents in full transactions, four in flight, and nothing else.
async fn load(store: &EtcdStore, routes: usize) -> Duration {
    let prefix = fresh_prefix();
    let writes: Vec<Write> = documents(&prefix, routes)
        .into_iter()
        .map(|(key, value)| Write { key, expected: Revision::ABSENT, action: Action::Put(value) })
        .collect();
    let begun: Instant = clock::now();
    stream::iter(writes.chunks(128))
        .map(|chunk| apply(store, chunk.to_vec()))
        .buffer_unordered(4)
        .for_each(async |_| ())
        .await;
    begun.elapsed()
}

async fn apply(store: &EtcdStore, writes: Vec<Write>) -> Revision {
    match store.commit(Txn { conditions: vec![], writes }).await.unwrap() {
        Commit::Applied(revision) => revision,
        Commit::Conflicted { .. } => panic!("nobody else writes these keys"),
    }
}

fn documents(prefix: &str, routes: usize) -> Vec<(Arc<str>, Arc<[u8]>)> {
    let mut desired = Desired::new(fleet::settings(prefix));
    desired.apply(fleet::objects(routes));
    let value = |id| match desired.wanted(id) {
        Wanted::Document(document) => Some((id.key(prefix).into(), document.bytes)),
        Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_) => None,
    };
    desired.documents().iter().filter_map(value).collect()
}

/// A key that nothing was written to yet, and the value of an upstream.
fn an_upstream() -> (Arc<str>, Arc<[u8]>) {
    let prefix = fresh_prefix();
    documents(&prefix, 1).into_iter().find(|(key, _)| key.contains("/upstreams/")).unwrap()
}

criterion_group!(benches, one_endpoint_change, whole_cluster);
criterion_main!(benches);
