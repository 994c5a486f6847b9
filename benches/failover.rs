//! How long nothing is written when the leader goes: from its end until the next one's first transaction is in etcd.
//!
//! Two replicas with warm caches of the same cluster; the standby has one change to write that the leader was not told of.
//! A leader that is asked to end stands beside a bare put, one that is killed beside its lease. Prints a table by itself: what
//! is measured takes seconds and is spread over the time between two renewals, so each try is one number and no loop.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on may stop")]

mod bare;
mod fleet;
mod replicas;
#[path = "../tests/support.rs"]
mod support;

use apisix_etcd_controller::{clock, store::txn::Revision};
use etcd_client::WatchOptions;
use replicas::{Running, connect, documents, fresh_prefix, lists};
use std::time::Duration;
use support::{binaries::Binary, etcd::Etcd};

const ROUTES: usize = 1_000;
const LEASE: Duration = Duration::from_secs(2);
/// A lease is renewed three times while it lasts: the leader is killed at any moment between two renewals.
const RENEWAL: Duration = Duration::from_millis(667);

/// How a leader ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It is asked to, and gives its lease back.
    Asked,
    /// Without another word.
    Killed,
}

fn main() {
    let flag = |flag: &str| std::env::args().any(|argument| argument == flag);
    let tries = match (flag("--bench"), flag("--quick")) {
        (false, _) => 1,
        (true, true) => 5,
        (true, false) => 20,
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let etcd = Etcd::start(Binary::Etcd36).await.unwrap();
        let put = median(&mut bare_puts(&etcd).await);
        println!("{ROUTES} routes, a lease of {LEASE:?}, {tries} tries; a bare put takes {put:?}");
        for (end, floor, name) in [(End::Asked, put, "bare put"), (End::Killed, LEASE, "lease")] {
            let mut took = Vec::new();
            for _ in 0..tries {
                took.push(failover(&etcd, end).await);
            }
            let median = median(&mut took);
            let ratio = median.as_secs_f64() / floor.as_secs_f64();
            let (least, most) = (took.first().unwrap(), took.last().unwrap());
            println!("{end:?}: {median:.1?} ({least:.1?} to {most:.1?}), {ratio:.2} x the {name}");
        }
    });
}

async fn failover(etcd: &Etcd, end: End) -> Duration {
    let prefix = fresh_prefix();
    let (store, stores_next) = (connect(etcd).await, connect(etcd).await);
    let mut leader = Running::start(&store, &prefix, "leader", LEASE, lists(ROUTES)).await;
    leader.settled().await;
    let mut next = Running::start(&stores_next, &prefix, "next", LEASE, lists(ROUTES)).await;
    next.fit().await;
    next.changed(fleet::endpoints(0, 1)).await;
    let mut watch = {
        let key = format!("{prefix}/upstreams/");
        let from = etcd.revision().await.unwrap() + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        etcd.client().await.unwrap().watch(key, Some(options)).await.unwrap()
    };
    tokio::time::sleep(RENEWAL.mul_f64(fastrand::f64())).await;
    let begun = clock::now();
    match end {
        End::Asked => leader.stop().cancel(),
        End::Killed => leader.kill(),
    }
    while watch.message().await.unwrap().unwrap().events().is_empty() {}
    let took = begun.elapsed();
    leader.stopped().await;
    next.stopped().await;
    took
}

async fn bare_puts(etcd: &Etcd) -> Vec<Duration> {
    let client = etcd.client().await.unwrap();
    let (mut took, mut expected) = (Vec::new(), Revision::ABSENT);
    let documents = documents(&fresh_prefix(), 1);
    let (key, value) = documents.first().unwrap();
    for _ in 0..200 {
        let begun = clock::now();
        expected = bare::put(&client, key, expected, value).await;
        took.push(begun.elapsed());
    }
    took
}

/// The one in the middle; leaves them sorted.
fn median(took: &mut [Duration]) -> Duration {
    took.sort();
    *took.get(took.len() / 2).unwrap()
}
