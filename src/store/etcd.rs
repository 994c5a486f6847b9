//! The store on a real etcd. Only this file and its parts know the crate `etcd_client`.
//!
//! Every request has a timeout, because a connection that went away silently would otherwise hold its caller for ever.

mod connection;
pub mod files;

use super::{
    BoxError, Content, KeyChange, KeyValue, PAGE_KEYS, Page, PagePlace, ReadError, Scope, Store, StoreId, Watch,
    WatchBatch,
    lease::{Claim, LeaseError, LeaseId, Leases},
    txn::{Action, Commit, CommitError, Current, Revision, Txn},
};
use crate::model::link::{Login, TlsFiles};
use connection::Connection;
use etcd_client::{
    Compare, CompareOp, EventType, GetOptions, GetResponse, PutOptions, TxnOp, TxnOpResponse, WatchClient,
    WatchOptions, WatchStream,
};
use files::FileError;
use std::{future::Future, sync::Arc, time::Duration};

/// Where etcd is, how to show it who we are, and how long to wait for it.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// URLs of the cluster's members.
    pub endpoints: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Who to be there, if anyone.
    pub login: Option<Login>,
    /// For https endpoints: whom to trust, and what to show.
    pub tls: Option<TlsFiles>,
}

impl EtcdSettings {
    /// etcd answers a request it cannot serve (no leader, a full disk) after 5 s plus twice its election timeout at the
    /// latest; a member that takes longer than 5 s is not one to wait for.
    pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

    /// One endpoint, nobody in particular, no TLS.
    #[must_use]
    pub fn at(endpoint: &str) -> Self {
        let endpoints = vec![endpoint.to_owned()];
        Self { endpoints, request_timeout: Self::REQUEST_TIMEOUT, login: None, tls: None }
    }
}

/// A client of etcd could not be made. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// An endpoint is malformed.
    #[error("cannot make a client for etcd at {endpoints}")]
    Endpoints {
        /// The endpoints, as given.
        endpoints: String,
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A client of one etcd cluster. Clones share its connections.
#[derive(Clone)]
pub struct EtcdStore {
    connection: Connection,
    request_timeout: Duration,
}

impl EtcdStore {
    /// Reads the files and makes a client. Connections are made when first needed: an etcd that is down is no error here.
    pub async fn connect(settings: &EtcdSettings) -> Result<Self, ConnectError> {
        let connection = Connection::new(settings).await?;
        Ok(Self { connection, request_timeout: settings.request_timeout })
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
        let keys: Vec<Arc<str>> = keys(&txn).cloned().collect();
        let request = self.connection.send(|mut clients| {
            let txn = encode(&txn);
            async move { clients.kv.txn(txn).await }
        });
        let answer = tokio::time::timeout(self.request_timeout, request).await;
        let unanswered = |source| CommitError::Unanswered { n_operations, waited: self.request_timeout, source };
        match answer {
            Err(elapsed) => Err(unanswered(elapsed.into())),
            Ok(Err(error)) if refusal(&error) => Err(CommitError::Refused { n_operations, source: error.into() }),
            Ok(Err(error)) => Err(unanswered(error.into())),
            Ok(Ok(response)) => {
                let at = Revision(response.header().map_or(0, etcd_client::ResponseHeader::revision));
                if response.succeeded() {
                    return Ok(Commit::Applied(at));
                }
                let mut read = response.op_responses().into_iter();
                let created = read.next().map_or(Revision::ABSENT, created);
                if created != txn.fence.created {
                    return Ok(Commit::Fenced);
                }
                Ok(Commit::Conflicted { at, current: read_back(keys, read) })
            }
        }
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        let (from, end) = range(scope);
        let options = GetOptions::new().with_range(end).with_limit(i64::try_from(PAGE_KEYS).unwrap_or(i64::MAX));
        let options = match content {
            Content::Values => options,
            Content::KeysOnly => options.with_keys_only(),
        };
        let (from, options, pinned) = match place {
            PagePlace::First => (from, options, None),
            PagePlace::After { mut key, at } => {
                // The next possible key.
                key.push(0);
                (key, options.with_revision(at.0), Some(at))
            }
        };
        let request = self.connection.send(|mut clients| {
            let (from, options) = (from.clone(), options.clone());
            async move { clients.kv.get(from, Some(options)).await }
        });
        let mut response = self.read(request).await?;
        // A pinned read's header still tells the newest revision.
        let revision = pinned.unwrap_or_else(|| revision_of(&response));
        let store = StoreId(response.header().map_or(0, etcd_client::ResponseHeader::cluster_id));
        let more = response.more();
        let entries: Vec<KeyValue> = response.take_kvs().into_iter().map(key_value).collect();
        let next = entries.last().filter(|_| more).map(|last| PagePlace::After { key: last.key.clone(), at: revision });
        Ok(Page { store, revision, entries, next })
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<EtcdWatch, ReadError> {
        let (key, end) = range(scope);
        // No fragments: without them etcd never parts the changes of one revision, and the decode limit is lifted.
        // Progress notifications let an idle prefix resume after a compaction without reading everything anew.
        let options = WatchOptions::new().with_range(end).with_start_revision(from.0).with_progress_notify();
        let request = self.connection.begin(|mut clients| {
            let (key, options) = (key.clone(), options.clone());
            async move {
                let stream = clients.watch.watch(key, Some(options)).await?;
                Ok(EtcdWatch { stream, _connection: clients.watch })
            }
        });
        self.read(request).await
    }
}

impl Leases for EtcdStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = self.connection.send(|mut clients| async move { clients.lease.grant(seconds, None).await });
        self.about_lease(request).await.map(|granted| LeaseId(granted.id()))
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let renewed = self.connection.send(|mut clients| async move {
            let (mut keeper, mut answers) = clients.lease.keep_alive(lease.0).await?;
            keeper.keep_alive().await?;
            answers.message().await
        });
        // An answer without time left is etcd's way of saying that there is no such lease.
        match self.about_lease(renewed).await? {
            Some(answer) if answer.ttl() > 0 => Ok(()),
            Some(_) | None => Err(LeaseError::Ended),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let request = self.connection.send(|mut clients| async move { clients.lease.revoke(lease.0).await });
        match self.about_lease(request).await {
            Ok(_) | Err(LeaseError::Ended) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        let absent = Compare::create_revision(key, CompareOp::Equal, 0);
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease.0)));
        let txn = etcd_client::Txn::new().when([absent]).and_then([put]).or_else([TxnOp::get(key, None)]);
        let request = self.connection.send(|mut clients| {
            let txn = txn.clone();
            async move { clients.kv.txn(txn).await }
        });
        let response = self.about_lease(request).await?;
        let at = Revision(response.header().map_or(0, etcd_client::ResponseHeader::revision));
        if response.succeeded() {
            return Ok(Claim::Won(at));
        }
        let mut held = Claim::Held { at, created: Revision::ABSENT, value: Vec::new() };
        if let Some(TxnOpResponse::Get(got)) = response.op_responses().into_iter().next()
            && let Some(kv) = got.kvs().first()
        {
            held = Claim::Held { at, created: Revision(kv.create_revision()), value: kv.value().to_vec() };
        }
        Ok(held)
    }
}

impl EtcdStore {
    async fn about_lease<T>(
        &self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, LeaseError> {
        match tokio::time::timeout(self.request_timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if lease_ended(&error) => Err(LeaseError::Ended),
            Ok(Err(error)) if refusal(&error) => Err(LeaseError::Refused { source: error.into() }),
            Ok(Err(error)) => Err(LeaseError::Unanswered { waited: self.request_timeout, source: error.into() }),
            Err(elapsed) => Err(LeaseError::Unanswered { waited: self.request_timeout, source: elapsed.into() }),
        }
    }
}

/// A running watch on etcd.
pub struct EtcdWatch {
    stream: WatchStream,
    /// Keeps the connection that the stream is on, after another one has taken its place.
    _connection: WatchClient,
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        loop {
            let Some(response) = self.stream.message().await.map_err(read_error)? else {
                return Err(ReadError::Failed { source: "the watch was closed".into() });
            };
            if response.compact_revision() != 0 {
                return Err(ReadError::Compacted);
            }
            if response.canceled() {
                return Err(ReadError::Failed { source: response.cancel_reason().into() });
            }
            let changes: Vec<KeyChange> = response.events().iter().filter_map(key_change).collect();
            let revision = match changes.last() {
                Some(last) => last.revision,
                // SUBTLE: the answer that the watch was created carries the store's revision too, but says nothing about
                // how far the watch has come.
                None if response.created() => continue,
                None => Revision(response.header().map_or(0, etcd_client::ResponseHeader::revision)),
            };
            return Ok(WatchBatch { revision, changes });
        }
    }
}

/// The first key of `scope`, and the first key after it: `0` follows `/` in ASCII.
fn range(scope: &Scope) -> (Vec<u8>, Vec<u8>) {
    match scope {
        Scope::Below(prefix) => (format!("{prefix}/").into_bytes(), format!("{prefix}0").into_bytes()),
        Scope::Key(key) => (key.as_bytes().to_vec(), [key.as_bytes(), b"\0"].concat()),
    }
}

/// Every key of a transaction but the fence's, in the order of its compares and of the reads that follow a lost compare.
fn keys(txn: &Txn) -> impl Iterator<Item = &Arc<str>> {
    txn.writes.iter().map(|write| &write.key).chain(txn.conditions.iter().map(|condition| &condition.key))
}

fn encode(txn: &Txn) -> etcd_client::Txn {
    let compare = |key: &str, expected: Revision| Compare::mod_revision(key, CompareOp::Equal, expected.0);
    let fence = Compare::create_revision(&*txn.fence.key, CompareOp::Equal, txn.fence.created.0);
    let written = txn.writes.iter().map(|write| compare(&write.key, write.expected));
    let compares: Vec<Compare> = std::iter::once(fence)
        .chain(written)
        .chain(txn.conditions.iter().map(|condition| compare(&condition.key, condition.expected)))
        .collect();
    let writes: Vec<TxnOp> = txn
        .writes
        .iter()
        .map(|write| match &write.action {
            Action::Put(bytes) => TxnOp::put(&*write.key, &**bytes, None::<PutOptions>),
            Action::Delete => TxnOp::delete(&*write.key, None),
        })
        .collect();
    let fence = std::iter::once(TxnOp::get(&*txn.fence.key, Some(GetOptions::new().with_keys_only())));
    let reads: Vec<TxnOp> = fence.chain(keys(txn).map(|key| TxnOp::get(&**key, None))).collect();
    etcd_client::Txn::new().when(compares).and_then(writes).or_else(reads)
}

/// When the key of this read was created; absent if it is not there.
fn created(answer: TxnOpResponse) -> Revision {
    match answer {
        TxnOpResponse::Get(got) => got.kvs().first().map_or(Revision::ABSENT, |kv| Revision(kv.create_revision())),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Revision::ABSENT,
    }
}

fn read_back(keys: Vec<Arc<str>>, answers: impl Iterator<Item = TxnOpResponse>) -> Vec<Current> {
    keys.into_iter()
        .zip(answers)
        .filter_map(|(key, answer)| match answer {
            TxnOpResponse::Get(mut got) => {
                let value = got.take_kvs().into_iter().next().map(|kv| {
                    let KeyValue { key: _, mod_revision, value } = key_value(kv);
                    (mod_revision, value)
                });
                Some(Current { key, value })
            }
            // Only reads were asked for.
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        })
        .collect()
}

fn revision_of(response: &GetResponse) -> Revision {
    Revision(response.header().map_or(0, etcd_client::ResponseHeader::revision))
}

fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let mod_revision = Revision(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    KeyValue { key, mod_revision, value }
}

fn key_change(event: &etcd_client::Event) -> Option<KeyChange> {
    let kv = event.kv()?;
    let value = match event.event_type() {
        EventType::Put => Some(kv.value().to_vec()),
        EventType::Delete => None,
    };
    Some(KeyChange { key: kv.key().to_vec(), revision: Revision(kv.mod_revision()), value })
}

fn read_error(error: etcd_client::Error) -> ReadError {
    if let etcd_client::Error::GRpcStatus(status) = &error
        && status.message().contains(COMPACTED)
    {
        return ReadError::Compacted;
    }
    ReadError::Failed { source: error.into() }
}

/// How etcd says that a revision is gone (`ErrCompacted` in its `rpctypes`); the status code, OutOfRange, is also that of
/// a revision yet to come.
const COMPACTED: &str = "required revision has been compacted";

/// How etcd says that there is no such lease (`ErrLeaseNotFound` in its `rpctypes`).
const LEASE_NOT_FOUND: &str = "requested lease not found";

fn lease_ended(error: &etcd_client::Error) -> bool {
    matches!(error, etcd_client::Error::GRpcStatus(status) if status.message().contains(LEASE_NOT_FOUND))
}

const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAUTHENTICATED: i32 = 16;

/// Whether etcd itself said that it did not and will not apply a request.
///
/// Whatever else went wrong, even an error status of etcd's (its own timeout, a lost leader), may hide a transaction that
/// was applied or still will be.
fn refusal(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    if connection::is_token_stale(error) {
        return true;
    }
    match i32::from(status.code()) {
        INVALID_ARGUMENT | PERMISSION_DENIED | UNAUTHENTICATED => true,
        // SUBTLE: the transport gives its own troubles this code too, so only words of etcd's count: no space left, too
        // many requests, a request larger than its limit.
        RESOURCE_EXHAUSTED => ["etcdserver: ", "grpc: received message larger than max"]
            .iter()
            .any(|begin| status.message().starts_with(begin)),
        _ => false,
    }
}
