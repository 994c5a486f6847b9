//! What is said to etcd and what it answers, in the words of its client. Pure.
//!
//! In: our transactions and scopes, and the client's responses. Out: the client's requests, and our answers. It never talks to
//! anybody.

use crate::store::{
    Content, KeyChange, KeyValue, PAGE_KEYS, Page, PagePlace, Scope, StoreId,
    txn::{Action, Commit, Current, Revision, Txn},
};
use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, PutOptions, ResponseHeader, TxnOp, TxnOpResponse, TxnResponse,
    proto::PbEvent,
};
use std::sync::Arc;

/// The first key of `scope`, and the first key after it: `0` follows `/` in ASCII.
pub(super) fn range(scope: &Scope) -> (Vec<u8>, Vec<u8>) {
    match scope {
        Scope::Below(prefix) => (format!("{prefix}/").into_bytes(), format!("{prefix}0").into_bytes()),
        Scope::Key(key) => (key.as_bytes().to_vec(), [key.as_bytes(), b"\0"].concat()),
    }
}

/// The revision of the whole store when it answered.
pub(super) fn revision(header: Option<&ResponseHeader>) -> Revision {
    Revision(header.map_or(0, ResponseHeader::revision))
}

/// The first key of the page, and how to read on from there.
pub(super) fn page_request(scope: &Scope, content: Content, place: PagePlace) -> (Vec<u8>, GetOptions) {
    let (from, end) = range(scope);
    let options = GetOptions::new().with_range(end).with_limit(i64::try_from(PAGE_KEYS).unwrap_or(i64::MAX));
    let options = match content {
        Content::Values => options,
        Content::KeysOnly => options.with_keys_only(),
    };
    match place {
        PagePlace::First => (from, options),
        PagePlace::After { mut key, at } => {
            // The next possible key.
            key.push(0);
            (key, options.with_revision(at.0))
        }
    }
}

/// The page that was answered; `pinned` is the revision that was asked for, if one was.
pub(super) fn page(mut response: GetResponse, pinned: Option<Revision>) -> Page {
    // A pinned read's header still tells the newest revision.
    let revision = pinned.unwrap_or_else(|| revision(response.header()));
    let store = StoreId(response.header().map_or(0, ResponseHeader::cluster_id));
    let more = response.more();
    let entries: Vec<KeyValue> = response.take_kvs().into_iter().map(key_value).collect();
    let next = entries.last().filter(|_| more).map(|last| PagePlace::After { key: last.key.clone(), at: revision });
    Page { store, revision, entries, next }
}

/// Every key of a transaction but the fence's, in the order of its compares and of the reads that follow a lost compare.
fn keys(txn: &Txn) -> impl Iterator<Item = &Arc<str>> {
    txn.writes.iter().map(|write| &write.key).chain(txn.conditions.iter().map(|condition| &condition.key))
}

pub(super) fn encode(txn: &Txn) -> etcd_client::Txn {
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

/// What etcd answered to `txn`.
pub(super) fn decode(txn: &Txn, response: &TxnResponse) -> Commit {
    let at = revision(response.header());
    if response.succeeded() {
        return Commit::Applied(at);
    }
    let mut read = response.op_responses().into_iter();
    if read.next().map_or(Revision::ABSENT, created) != txn.fence.created {
        return Commit::Fenced;
    }
    Commit::Conflicted { at, current: read_back(keys(txn), read) }
}

/// When the key of this read was created; absent if it is not there.
fn created(answer: TxnOpResponse) -> Revision {
    match answer {
        TxnOpResponse::Get(got) => got.kvs().first().map_or(Revision::ABSENT, |kv| Revision(kv.create_revision())),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => Revision::ABSENT,
    }
}

fn read_back<'a>(
    keys: impl Iterator<Item = &'a Arc<str>>,
    answers: impl Iterator<Item = TxnOpResponse>,
) -> Vec<Current> {
    keys.zip(answers)
        .filter_map(|(key, answer)| match answer {
            TxnOpResponse::Get(mut got) => {
                let value = got.take_kvs().into_iter().next().map(|kv| {
                    let KeyValue { key: _, mod_revision, value } = key_value(kv);
                    (mod_revision, value)
                });
                Some(Current { key: Arc::clone(key), value })
            }
            // Only reads were asked for.
            TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
        })
        .collect()
}

fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    let mod_revision = Revision(kv.mod_revision());
    let (key, value) = kv.into_key_value();
    KeyValue { key, mod_revision, value }
}

/// Whether an event is a deletion: its type is `DELETE` in `mvccpb.Event`.
const DELETE: i32 = 1;

pub(super) fn key_change(event: PbEvent) -> Option<KeyChange> {
    let kv = event.kv?;
    let value = (event.r#type != DELETE).then_some(kv.value);
    Some(KeyChange { key: kv.key, revision: Revision(kv.mod_revision), value })
}
