//! What a user waits for, on a real etcd: one endpoint change from its watch event to the revision that holds it, and a
//! whole cluster written into an empty etcd.
//!
//! The floors beside each: a bare put under one compare, the same put in a transaction with a fence and a lane as ours, and a
//! loader that writes the same values in full transactions.
#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may stop")]

mod bare;
mod fleet;
mod replicas;
#[path = "../tests/support.rs"]
mod support;

use apisix_etcd_controller::{
    clock,
    store::{etcd::EtcdStore, txn::Revision},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use replicas::{LONG_LEASE, Running, connect, documents, fresh_prefix, lists};
use std::{sync::Arc, time::Duration};
use support::{binaries::Binary, etcd::Etcd};
use tokio::runtime::Runtime;

const ROUTES: [usize; 2] = [1_000, 10_000];

struct Stage {
    runtime: Runtime,
    etcd: Etcd,
    store: Arc<EtcdStore>,
}

fn stage() -> Stage {
    let runtime = Runtime::new().unwrap();
    let (etcd, store) = runtime.block_on(async {
        let etcd = Etcd::start(Binary::Etcd36).await.unwrap();
        let store = connect(&etcd).await;
        (etcd, store)
    });
    Stage { runtime, etcd, store }
}

fn one_endpoint_change(criterion: &mut Criterion) {
    let stage = stage();
    let mut group = criterion.benchmark_group("sync/one-endpoint-change");
    for routes in ROUTES {
        let mut running = stage.runtime.block_on(async {
            let mut running = Running::start(&stage.store, &fresh_prefix(), "replica", LONG_LEASE, lists(routes)).await;
            running.settled().await;
            running
        });
        let mut generation = 0;
        group.bench_function(BenchmarkId::from_parameter(routes), |bench| {
            bench.iter(|| {
                generation += 1;
                stage.runtime.block_on(async {
                    running.changed(fleet::endpoints(routes / 2, generation)).await;
                    running.idle().await;
                });
            });
        });
        // Followed by nobody, and with nobody who works beside them.
        stage.runtime.block_on(running.stopped());
        let (key, value) = an_upstream();
        let mut fenced = stage.runtime.block_on(bare::Fenced::new(&stage.store, &fresh_prefix()));
        let mut expected = Revision::ABSENT;
        group.bench_function(BenchmarkId::new("floor-fence-and-lane", routes), |bench| {
            bench.iter(|| expected = stage.runtime.block_on(fenced.put(&key, expected, &value)));
        });
        let (key, value) = an_upstream();
        let client = stage.runtime.block_on(stage.etcd.client()).unwrap();
        let mut expected = Revision::ABSENT;
        group.bench_function(BenchmarkId::new("floor-one-compare", routes), |bench| {
            bench.iter(|| expected = stage.runtime.block_on(bare::put(&client, &key, expected, &value)));
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
                    let mut running = Running::start(&stage.store, &fresh_prefix(), "replica", LONG_LEASE, lists).await;
                    running.idle().await;
                    let took = begun.elapsed();
                    running.stopped().await;
                    took
                };
                (0..iterations).map(|_| stage.runtime.block_on(sync(lists(routes)))).sum()
            });
        });
        group.bench_function(BenchmarkId::new("floor-bare-loader", routes), |bench| {
            bench.iter_custom(|iterations| {
                let load = |_| {
                    let documents = documents(&fresh_prefix(), routes);
                    stage.runtime.block_on(bare::load(&stage.etcd, &documents, Revision::ABSENT))
                };
                (0..iterations).map(load).sum()
            });
        });
    }
    group.finish();
}

/// A key that nothing was written to yet, and the value of an upstream.
fn an_upstream() -> (Arc<str>, Arc<[u8]>) {
    documents(&fresh_prefix(), 1).into_iter().find(|(key, _)| key.contains("/upstreams/")).unwrap()
}

criterion_group!(benches, one_endpoint_change, whole_cluster);
criterion_main!(benches);
