//! How long documents stay edited when somebody edits them by hand: one, and 10,000 in one go.
//!
//! From the answer to the edit until every document is as it was and every status rendered. The floor beside each: a bare
//! loader that writes the same documents over the same edits and knows of them without being told.
#![allow(missing_docs, reason = "criterion's macros make items without")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that cannot go on may stop")]

mod bare;
mod fleet;
mod replicas;
#[path = "../tests/support.rs"]
mod support;

use apisix_etcd_controller::{clock, store::txn::Revision};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use etcd_client::{Txn, TxnOp};
use replicas::{LONG_LEASE, Running, connect, documents, fresh_prefix, lists};
use std::{sync::Arc, time::Duration};
use support::{
    binaries::Binary,
    etcd::{Etcd, Setup},
};
use tokio::runtime::Runtime;

/// Two documents each.
const ROUTES: usize = 5_000;
const EDITED: [usize; 2] = [1, 2 * ROUTES];

type Documents = [(Arc<str>, Arc<[u8]>)];

/// Puts the same over all these keys at one revision, as a script with one transaction would.
async fn edit(etcd: &Etcd, documents: &Documents) -> Revision {
    let puts: Vec<_> = documents.iter().map(|(key, _)| TxnOp::put(&**key, "{}", None)).collect();
    let response = etcd.client().await.unwrap().txn(Txn::new().and_then(puts)).await.unwrap();
    Revision(response.header().unwrap().revision())
}

async fn as_it_was(etcd: &Etcd, prefix: &str, documents: &Documents) {
    let held = etcd.under(&format!("{prefix}/")).await.unwrap();
    for (key, value) in documents {
        assert_eq!(held[&**key].value.as_bytes(), &**value, "{key}");
    }
}

fn repair(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    // All edits in one go are more than etcd allows by default.
    let setup = Setup { arguments: vec![format!("--max-txn-ops={}", 2 * ROUTES)], ..Setup::default() };
    let etcd = runtime.block_on(Etcd::start_as(Binary::Etcd36, &setup)).unwrap();
    let prefix = fresh_prefix();
    let of_ours = documents(&prefix, ROUTES);
    let mut running = runtime.block_on(async {
        let store = connect(&etcd).await;
        let mut running = Running::start(&store, &prefix, "replica", LONG_LEASE, lists(ROUTES)).await;
        running.settled().await;
        running
    });
    let mut group = criterion.benchmark_group("repair");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for edited in EDITED {
        group.throughput(Throughput::Elements(edited as u64));
        group.bench_function(BenchmarkId::from_parameter(edited), |bench| {
            bench.iter_custom(|iterations| {
                let mut repair = async || {
                    running.settled().await;
                    edit(&etcd, &of_ours[..edited]).await;
                    let begun = clock::now();
                    running.idle().await;
                    begun.elapsed()
                };
                (0..iterations).map(|_| runtime.block_on(repair())).sum()
            });
        });
        runtime.block_on(as_it_was(&etcd, &prefix, &of_ours));
        group.bench_function(BenchmarkId::new("floor-bare-loader", edited), |bench| {
            bench.iter_custom(|iterations| {
                let load = async || {
                    let documents = documents(&fresh_prefix(), ROUTES);
                    let at = edit(&etcd, &documents[..edited]).await;
                    bare::load(&etcd, &documents[..edited], at).await
                };
                (0..iterations).map(|_| runtime.block_on(load())).sum()
            });
        });
    }
    group.finish();
    runtime.block_on(running.stopped());
}

criterion_group!(benches, repair);
criterion_main!(benches);
