//! The store on a real etcd. The only file that knows the crate `etcd_client`.
//!
//! Every request has a timeout, because a connection that went away silently would otherwise hold its caller for ever.

use super::{
    BoxError, KeyChange, KeyValue, PAGE_KEYS, Page, PagePlace, ReadError, Store, Watch, WatchBatch,
    txn::{Action, Commit, CommitError, Current, Revision, Txn},
};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, EventType, GetOptions, GetResponse, KvClient, PutOptions, TxnOp,
    TxnOpResponse, WatchClient, WatchOptions, WatchStream,
};
use std::{future::Future, sync::Arc, time::Duration};

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
        let keys: Vec<Arc<str>> = keys(&txn).cloned().collect();
        let mut kv = self.kv.clone();
        let answer = tokio::time::timeout(self.request_timeout, kv.txn(encode(&txn))).await;
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
                Ok(Commit::Conflicted { at, current: read_back(keys, response.op_responses()) })
            }
        }
    }

    async fn page(&self, prefix: &str, place: PagePlace) -> Result<Page, ReadError> {
        let (from, end) = range(prefix);
        let options = GetOptions::new().with_range(end).with_limit(i64::try_from(PAGE_KEYS).unwrap_or(i64::MAX));
        let (from, options, pinned) = match place {
            PagePlace::First => (from, options, None),
            PagePlace::After { mut key, at } => {
                // The next possible key.
                key.push(0);
                (key, options.with_revision(at.0), Some(at))
            }
        };
        let mut kv = self.kv.clone();
        let mut response = self.read(kv.get(from, Some(options))).await?;
        // A pinned read's header still tells the newest revision.
        let revision = pinned.unwrap_or_else(|| revision_of(&response));
        let more = response.more();
        let entries: Vec<KeyValue> = response.take_kvs().into_iter().map(key_value).collect();
        let next = entries.last().filter(|_| more).map(|last| PagePlace::After { key: last.key.clone(), at: revision });
        Ok(Page { revision, entries, next })
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<EtcdWatch, ReadError> {
        let (key, end) = range(prefix);
        // No fragments: without them etcd never parts the changes of one revision, and the decode limit is lifted.
        // Progress notifications let an idle prefix resume after a compaction without reading everything anew.
        let options = WatchOptions::new().with_range(end).with_start_revision(from.0).with_progress_notify();
        let mut client = self.watch.clone();
        let stream = self.read(client.watch(key, Some(options))).await?;
        Ok(EtcdWatch { stream })
    }
}

/// A running watch on etcd.
pub struct EtcdWatch {
    stream: WatchStream,
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

/// First key below `prefix` and a slash, and the first key after them: `0` follows `/` in ASCII.
fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
    (format!("{prefix}/").into_bytes(), format!("{prefix}0").into_bytes())
}

/// Every key of a transaction, in the order of its compares and of the reads that follow a lost compare.
fn keys(txn: &Txn) -> impl Iterator<Item = &Arc<str>> {
    txn.writes.iter().map(|write| &write.key).chain(txn.conditions.iter().map(|condition| &condition.key))
}

fn encode(txn: &Txn) -> etcd_client::Txn {
    let compare = |key: &str, expected: Revision| Compare::mod_revision(key, CompareOp::Equal, expected.0);
    let compares: Vec<Compare> = txn
        .writes
        .iter()
        .map(|write| compare(&write.key, write.expected))
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
    let reads: Vec<TxnOp> = keys(txn).map(|key| TxnOp::get(&**key, None)).collect();
    etcd_client::Txn::new().when(compares).and_then(writes).or_else(reads)
}

fn read_back(keys: Vec<Arc<str>>, answers: Vec<TxnOpResponse>) -> Vec<Current> {
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
