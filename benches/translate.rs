//! What translation costs: a whole cluster from nothing, and one change in a cluster that stands.
//!
//! The floor beside each: rendering the same documents' bytes and nothing else.
#![allow(missing_docs, reason = "criterion's macros make items without")]

mod fleet;

use apisix_etcd_controller::translate::desired::Desired;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const ROUTES: [usize; 2] = [1_000, 10_000];

fn whole_cluster(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translate/whole-cluster");
    group.sample_size(10);
    for routes in ROUTES {
        let objects = fleet::objects(routes);
        group.throughput(Throughput::Elements(routes as u64));
        group.bench_function(BenchmarkId::from_parameter(routes), |bench| {
            bench.iter_batched(
                || (Desired::new(fleet::settings("/apisix")), objects.clone()),
                |(mut desired, objects)| {
                    let affected = desired.apply(objects);
                    render(&desired, affected.documents.iter());
                    desired
                },
                BatchSize::PerIteration,
            );
        });
        let mut desired = Desired::new(fleet::settings("/apisix"));
        let documents = desired.apply(objects).documents;
        group.bench_function(BenchmarkId::new("floor-render", routes), |bench| {
            bench.iter(|| render(&desired, documents.iter()));
        });
    }
    group.finish();
}

fn one_endpoint_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translate/one-endpoint-change");
    for routes in ROUTES {
        let mut desired = Desired::new(fleet::settings("/apisix"));
        desired.apply(fleet::objects(routes));
        let mut generation = 0;
        group.bench_function(BenchmarkId::from_parameter(routes), |bench| {
            bench.iter(|| {
                generation += 1;
                let affected = desired.apply([fleet::endpoints(routes / 2, generation)]);
                render(&desired, affected.documents.iter());
            });
        });
        let changed = desired.apply([fleet::endpoints(routes / 2, generation + 1)]).documents;
        group.bench_function(BenchmarkId::new("floor-render", routes), |bench| {
            bench.iter(|| render(&desired, changed.iter()));
        });
    }
    group.finish();
}

fn render<'a>(desired: &Desired, ids: impl Iterator<Item = &'a apisix_etcd_controller::model::places::WorkId>) {
    for id in ids {
        black_box(desired.wanted(id));
    }
}

criterion_group!(benches, whole_cluster, one_endpoint_change);
criterion_main!(benches);
