//! The store on a real etcd. With its folder, the only place that knows the crate `etcd_client`.
//!
//! Every request has a timeout, because a connection that went away silently would otherwise hold its caller for ever.

mod encode;
mod errors;
mod lease;
mod watch;

pub use watch::EtcdWatch;

use super::{
    BoxError, Content, Page, PagePlace, ReadError, Scope, Store,
    txn::{Commit, CommitError, Revision, Txn},
};
use errors::{read_error, refusal};
use etcd_client::{Client, ConnectOptions, KvClient, LeaseClient, WatchClient, WatchOptions};
use std::{future::Future, time::Duration};

/// Where etcd is and how long to wait for it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// URLs of the cluster's members.
    pub endpoints: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
}

impl EtcdSettings {
    /// etcd answers a request it cannot serve (no leader, a full disk) after 5 s plus twice its election timeout at the
    /// latest; a member that takes longer than 5 s is not one to wait for.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
}

/// The etcd client could not be made: an endpoint is malformed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a client for etcd at {endpoints}")]
pub struct ConnectError {
    /// The endpoints, as given.
    endpoints: String,
    /// What the client said.
    #[source]
    source: BoxError,
}

/// A client of one etcd cluster.
#[derive(Clone)]
pub struct EtcdStore {
    kv: KvClient,
    watch: WatchClient,
    lease: LeaseClient,
    request_timeout: Duration,
}

impl EtcdStore {
    /// Makes a client. Connections are made when first needed: an etcd that is down is no error here.
    pub async fn connect(settings: &EtcdSettings) -> Result<Self, ConnectError> {
        let options = ConnectOptions::new()
            // A peer that vanished without a word is found after 15 s. etcd refuses pings more often than every 5 s, and
            // while nothing is running.
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(settings.request_timeout)
            // A watch on a member that lost its cluster ends instead of falling silent.
            .with_require_leader(true);
        let client = Client::connect(&settings.endpoints, Some(options))
            .await
            .map_err(|source| ConnectError { endpoints: settings.endpoints.join(","), source: source.into() })?;
        Ok(Self {
            // tonic's default of 4 MiB is less than what one transaction's reads or one watch response may come to.
            kv: client.kv_client().max_decoding_message_size(usize::MAX),
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
            request_timeout: settings.request_timeout,
        })
    }

    async fn read<T>(&self, request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, ReadError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(answer) => answer.map_err(read_error),
            Err(_) => Err(ReadError::TimedOut { waited: self.request_timeout }),
        }
    }
}

impl Store for EtcdStore {
    type Watch = EtcdWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        let n_operations = txn.n_operations();
        let waited = self.request_timeout;
        let mut kv = self.kv.clone();
        match tokio::time::timeout(waited, kv.txn(encode::encode(&txn))).await {
            Ok(Ok(response)) => Ok(encode::decode(&txn, &response)),
            Ok(Err(error)) if refusal(&error) => Err(CommitError::Refused { n_operations, source: error.into() }),
            Ok(Err(error)) => Err(CommitError::Unanswered { n_operations, waited, source: error.into() }),
            Err(elapsed) => Err(CommitError::Unanswered { n_operations, waited, source: elapsed.into() }),
        }
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        let pinned = match &place {
            PagePlace::First => None,
            PagePlace::After { at, .. } => Some(*at),
        };
        let (from, options) = encode::page_request(scope, content, place);
        let mut kv = self.kv.clone();
        self.read(kv.get(from, Some(options))).await.map(|response| encode::page(response, pinned))
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<EtcdWatch, ReadError> {
        let (key, end) = encode::range(scope);
        // Progress notifications let an idle prefix resume after a compaction without reading everything anew. Fragments keep
        // what was missed in a long absence from coming as one message of any size.
        let options =
            WatchOptions::new().with_range(end).with_start_revision(from.0).with_progress_notify().with_fragment();
        let mut client = self.watch.clone();
        self.read(client.watch(key, Some(options))).await.map(EtcdWatch::new)
    }
}
