//! The floors: the same writes to the same etcd by whoever has nothing else to do.
//!
//! Two kinds: a put guarded by one compare, straight through etcd's client; and a transaction as ours, with the compares of a
//! fence and of a lane and the lane's put, through the same store as a replica's.
#![allow(dead_code, reason = "each bench uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot go on may stop")]

use super::{
    replicas::{LONG_LEASE, control},
    support::etcd::Etcd,
};
use apisix_etcd_controller::{
    clock,
    model::{names::Kind, versions::CacheVersion},
    store::{
        Store as _,
        checkpoint::Checkpoint,
        control::ControlKeys,
        etcd::EtcdStore,
        lease::{Claim, Leases as _},
        txn::{Action, Commit, Fence, Revision, Txn, Write},
    },
};
use etcd_client::{Client, Compare, CompareOp, Txn as BareTxn, TxnOp};
use futures::{StreamExt as _, stream};
use std::{sync::Arc, time::Duration};

/// What etcd allows in one transaction by default, and how many of ours travel at once.
const OPERATIONS_MAX: usize = 128;
const IN_FLIGHT: usize = 4;

/// Puts one key, if it is as expected; gives its revision.
pub(crate) async fn put(client: &Client, key: &str, expected: Revision, value: &[u8]) -> Revision {
    let txn = BareTxn::new()
        .when([Compare::mod_revision(key, CompareOp::Equal, expected.0)])
        .and_then([TxnOp::put(key, value, None)])
        .or_else([TxnOp::get(key, None)]);
    let response = client.kv_client().txn(txn).await.unwrap();
    assert!(response.succeeded(), "nobody else writes {key}");
    Revision(response.header().unwrap().revision())
}

/// Puts these keys that are as expected, in full transactions, as many in flight as ours; gives how long that took.
pub(crate) async fn load(etcd: &Etcd, documents: &[(Arc<str>, Arc<[u8]>)], expected: Revision) -> Duration {
    let mut client = etcd.client().await.unwrap();
    // A connection is made with the first request.
    client.get("connected", None).await.unwrap();
    let begun = clock::now();
    stream::iter(documents.chunks(OPERATIONS_MAX))
        .map(|chunk| async {
            let compares = chunk.iter().map(|(key, _)| Compare::mod_revision(&**key, CompareOp::Equal, expected.0));
            let puts = chunk.iter().map(|(key, value)| TxnOp::put(&**key, &**value, None));
            let txn = BareTxn::new().when(compares.collect::<Vec<_>>()).and_then(puts.collect::<Vec<_>>());
            let response = client.kv_client().txn(txn).await.unwrap();
            assert!(response.succeeded(), "nobody else writes these keys");
        })
        .buffer_unordered(IN_FLIGHT)
        .for_each(async |()| ())
        .await;
    begun.elapsed()
}

/// Who leads and has one lane, and makes nothing of it.
pub(crate) struct Fenced {
    store: Arc<EtcdStore>,
    keys: ControlKeys,
    fence: Fence,
    lane: Revision,
    sequence: u64,
}

impl Fenced {
    pub(crate) async fn new(store: &Arc<EtcdStore>, prefix: &Arc<str>) -> Self {
        let keys = control(prefix);
        let lease = store.grant(LONG_LEASE * 100).await.unwrap();
        let Claim::Won(created) = store.claim(&keys.leader(), b"bench", lease).await.unwrap() else {
            panic!("somebody leads")
        };
        let fence = Fence { key: keys.leader(), created };
        Self { store: Arc::clone(store), keys, fence, lane: Revision::ABSENT, sequence: 0 }
    }

    /// Puts one key, if it is as expected and we lead; gives its revision.
    pub(crate) async fn put(&mut self, key: &Arc<str>, expected: Revision, value: &Arc<[u8]>) -> Revision {
        self.sequence += 1;
        let record = record(&self.keys, self.sequence).encode();
        let writes = vec![
            Write { key: Arc::clone(key), expected, action: Action::Put(Arc::clone(value)) },
            Write { key: self.keys.lane(0), expected: self.lane, action: Action::Put(record.into()) },
        ];
        let txn = Txn { fence: self.fence.clone(), conditions: vec![], writes };
        let Commit::Applied(revision) = self.store.commit(txn).await.unwrap() else { panic!("nobody else writes") };
        self.lane = revision;
        revision
    }
}

/// As large as a replica's.
fn record(keys: &ControlKeys, sequence: u64) -> Checkpoint {
    let version = |kind: Kind| (kind.resource().into(), CacheVersion(100_000_000));
    Checkpoint {
        instance: Arc::clone(keys.instance()),
        cluster: "bench".into(),
        prefixes: [("/bench-0".into(), "".into())].into(),
        versions: Kind::ALL.into_iter().map(version).collect(),
        sequence,
        holder: "replica".into(),
        written_at: clock::unix_seconds(),
    }
}
