//! The store: etcd as transactions in, and as a stream of what changed out.
//!
//! [`Store`] is the boundary: everything above it speaks of keys, values and revisions, never of etcd's client. What it
//! never does: decide what to write.

pub mod audit;
pub mod checkpoint;
pub mod control;
pub mod etcd;
pub mod follow;
pub mod lanes;
pub mod lease;
pub mod memory;
pub mod mirror;
pub mod mirrors;
pub mod records;
pub mod txn;

use crate::model::opaque::Opaque;
use std::{fmt, future::Future, sync::Arc, time::Duration};
use txn::{Commit, CommitError, Revision, Txn};

/// Any error of a client library, kept for the log line of whoever handles it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A key-value store with etcd's revisions and transactions.
pub trait Store: Send + Sync + 'static {
    /// A running watch of this store.
    type Watch: Watch;

    /// Sends one transaction. Dropping the future half-way leaves it unknown whether it was applied: treat that as
    /// [`CommitError::Unanswered`].
    fn commit(&self, txn: Txn) -> impl Future<Output = Result<Commit, CommitError>> + Send;

    /// Reads up to [`PAGE_KEYS`] keys of `scope`, in key order; linearizable. Dropping it is safe.
    fn page(
        &self,
        scope: &Scope,
        content: Content,
        place: PagePlace,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send;

    /// Watches every key of `scope`, from revision `from` on, inclusive. Dropping it is safe.
    fn watch(&self, scope: &Scope, from: Revision) -> impl Future<Output = Result<Self::Watch, ReadError>> + Send;
}

/// Which keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every key that begins with this and a slash.
    Below(Arc<str>),
    /// This one.
    Key(Arc<str>),
}

/// What is read of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Everything.
    Values,
    /// Key and revision; values come empty.
    KeysOnly,
}

/// Which etcd this is: its cluster id. Another id is another etcd; the same id may be one that was wiped or restored, as etcd
/// makes it from its members' names and addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StoreId(pub u64);

/// A running watch.
pub trait Watch: Send {
    /// The next changes, in the order of their revisions; every change of one revision comes in one batch. After an error
    /// the watch is over. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<WatchBatch, ReadError>> + Send;
}

/// How many keys a page holds. Our documents are below 1 KiB and an upstream with 1,000 endpoints below 100 KiB, so a page
/// is a few hundred kilobytes as a rule, and one round trip is paid per thousand keys.
pub const PAGE_KEYS: usize = 1_000;

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PagePlace {
    /// At the first key, at the newest revision.
    First,
    /// After an earlier page, at the revision that was read then.
    After {
        /// The last key of the earlier page.
        key: Vec<u8>,
        /// The revision of the first page.
        at: Revision,
    },
}

/// One page of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Who answered.
    pub store: StoreId,
    /// The revision of the whole store that was read.
    pub revision: Revision,
    /// The keys, in order.
    pub entries: Vec<KeyValue>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<PagePlace>,
}

/// A key and its value, as stored. Its `Debug` leaves the value out, in which there may be a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The full key.
    pub key: Vec<u8>,
    /// When it was last written.
    pub mod_revision: Revision,
    /// The value.
    pub value: Vec<u8>,
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, mod_revision, value } = self;
        let key = String::from_utf8_lossy(key);
        f.debug_struct("KeyValue")
            .field("key", &key)
            .field("mod_revision", mod_revision)
            .field("value", &Opaque(value))
            .finish()
    }
}

/// What a watch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to this revision, inclusive, has now been told.
    pub revision: Revision,
    /// The changes; empty when only time went by.
    pub changes: Vec<KeyChange>,
}

/// One change of one key. Its `Debug` leaves the value out, in which there may be a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The full key.
    pub key: Vec<u8>,
    /// When it was written or deleted.
    pub revision: Revision,
    /// The new value; `None` when it was deleted.
    pub value: Option<Vec<u8>>,
}

impl fmt::Debug for KeyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, revision, value } = self;
        let key = String::from_utf8_lossy(key);
        f.debug_struct("KeyChange")
            .field("key", &key)
            .field("revision", revision)
            .field("value", &value.as_deref().map(Opaque))
            .finish()
    }
}

/// A read or a watch gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The revision asked for is gone. Read everything anew.
    #[error("the store has compacted the revision asked for")]
    Compacted,
    /// Anything else. Try again later.
    #[error("reading from the store failed")]
    Failed {
        /// What the client said.
        #[source]
        source: BoxError,
    },
    /// No answer in time. Try again later.
    #[error("the store did not answer within {waited:?}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
    },
}
