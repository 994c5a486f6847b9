//! The follower: a scope in, readings and changes out, in the order of their revisions, whatever the keys mean.
//!
//! Everything in the scope is read once, page by page at one pinned revision, then watched from there on. A watch that ends is
//! resumed where it was; when that revision is compacted, when somebody asks, or when the store is another than before,
//! everything is read anew. It never gives up and never writes.

use super::Reread;
use crate::{
    retry::{Retry, RetryLimits},
    store::{
        Content, KeyChange, KeyValue, Page, PagePlace, ReadError, Scope, Store, StoreId, Watch, WatchBatch,
        txn::Revision,
    },
};
use futures::FutureExt as _;
use std::{convert::Infallible, error::Error, sync::Arc};
use tokio::sync::mpsc;

/// What is made of what the follower reads and hears.
pub(super) trait Telling: Send + 'static {
    /// What is told.
    type Event: Send;
    /// What is kept of the keys of one reading, so that their values need not be.
    type Whole: Default + Send;

    /// Takes in one key of a reading.
    fn gather(&self, whole: &mut Self::Whole, entry: KeyValue);

    /// A reading is whole.
    fn snapshot(&self, reading: Reading, whole: Self::Whole) -> Self::Event;

    /// Keys have changed.
    fn changed(&self, revision: Revision, changes: Vec<KeyChange>) -> Self::Event;

    /// The store cannot be followed for now.
    fn disconnected(&self) -> Self::Event;

    /// The watch goes on where it was.
    fn reconnected(&self) -> Self::Event;
}

/// Where and when everything was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// The store that answered.
    pub(super) store: StoreId,
    /// At which revision.
    pub(super) revision: Revision,
    /// Whether that store has lost what was told before.
    pub(super) begins_anew: bool,
}

/// Follows one scope.
pub(super) struct Follower<S, T: Telling> {
    store: Arc<S>,
    scope: Scope,
    telling: T,
    events: mpsc::Sender<T::Event>,
    reread: Reread,
    /// Where to watch from; `None` while everything is to be read.
    resume: Option<Revision>,
    /// Which store has told what up to which revision; `None` before the first reading. Only linearizable reads say which
    /// store it is: what a watch says of itself is its member's, which may lag behind.
    told: Option<(StoreId, Revision)>,
    /// A key and the revision at which it was put: what a store must agree to that is the one followed before. The id alone
    /// does not tell, because etcd makes it from its members' names and addresses: after a wipe it often is the same.
    witness: Option<(Vec<u8>, Revision)>,
    /// Whether the store was found to have lost what was told, and nobody was told so yet.
    replaced: bool,
    connected: bool,
    retry: Retry,
}

/// Why following came to an end.
enum Ended {
    /// The store gave nothing.
    Read(ReadError),
    /// Somebody asked for everything to be read anew.
    Asked,
    /// Nobody receives any more.
    Unheard,
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Not inside the loop: a task that waits cannot hold on to a `dyn Error`.
fn unreachable_for_now(scope: &Scope, error: &(dyn Error + 'static)) {
    tracing::warn!(keys = name(scope), error, "etcd cannot be followed; trying again");
}

/// The greatest key before `key` that anybody may use: a read that goes on after it finds `key` first.
fn just_before(key: &[u8]) -> Vec<u8> {
    match key.split_last() {
        Some((0, rest)) => rest.to_vec(),
        Some((last, rest)) => [rest, &[last - 1, u8::MAX]].concat(),
        None => Vec::new(),
    }
}

fn name(scope: &Scope) -> &str {
    match scope {
        Scope::Below(key) | Scope::Key(key) => key,
    }
}

impl<S: Store, T: Telling> Follower<S, T> {
    pub(super) fn new(
        store: Arc<S>,
        scope: Scope,
        telling: T,
        events: mpsc::Sender<T::Event>,
        reread: Reread,
        limits: RetryLimits,
    ) -> Self {
        let retry = Retry::new(limits);
        Self {
            store,
            scope,
            telling,
            events,
            reread,
            resume: None,
            told: None,
            witness: None,
            replaced: false,
            connected: true,
            retry,
        }
    }

    /// Goes on until nobody receives any more. Dropping it half-way is safe.
    pub(super) async fn run(&mut self) {
        loop {
            let ended = match self.connect().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            let error = match ended {
                Ended::Unheard => return,
                Ended::Asked => {
                    self.resume = None;
                    continue;
                }
                Ended::Read(ReadError::Compacted) => {
                    tracing::info!(
                        keys = name(&self.scope),
                        "etcd was compacted past our watch; reading everything anew"
                    );
                    self.resume = None;
                    continue;
                }
                Ended::Read(error @ (ReadError::Failed { .. } | ReadError::TimedOut { .. })) => error,
            };
            if self.connected {
                unreachable_for_now(&self.scope, &error);
                self.connected = false;
                if self.tell(self.telling.disconnected()).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(self.retry.next_delay()).await;
        }
    }

    /// Reads everything if needed, then watches for as long as it lasts.
    async fn connect(&mut self) -> Result<Infallible, Ended> {
        match self.same_store().await {
            Ok(true) => {}
            Ok(false) => {
                self.resume = None;
                self.replaced = true;
            }
            // Nobody can tell; reading everything anew is right in either case.
            Err(ReadError::Compacted) => self.resume = None,
            Err(error @ (ReadError::Failed { .. } | ReadError::TimedOut { .. })) => return Err(error.into()),
        }
        let from = match self.resume {
            Some(revision) => revision,
            None => self.begin().await?,
        };
        let mut watch = self.store.watch(&self.scope, from).await?;
        if !self.connected {
            self.recovered();
            self.tell(self.telling.reconnected()).await?;
        }
        loop {
            let WatchBatch { revision, changes } = tokio::select! {
                biased;
                () = self.reread.0.notified() => return Err(Ended::Asked),
                batch = watch.next() => batch?,
            };
            self.retry.reset();
            if let Some(put) = changes.iter().rev().find(|change| change.value.is_some()) {
                self.witness = Some((put.key.clone(), put.revision));
            }
            self.tell(self.telling.changed(revision, changes)).await?;
            // Inclusive: hearing a change twice is harmless, and no reasoning is needed about what was heard to its end.
            self.resume = self.resume.max(Some(revision));
            self.told = self.told.map(|(store, told)| (store, told.max(revision)));
        }
    }

    /// Reads everything and tells it; gives back where to watch from.
    async fn begin(&mut self) -> Result<Revision, Ended> {
        // Whoever has asked until now is answered by this reading.
        self.reread.0.notified().now_or_never();
        let (reading, witness, whole) = self.read().await?;
        // SUBTLE: inclusive, although it is known. etcd before 3.5.16 forgets a deletion that the revision of a compaction made; a
        // watch from the next revision might never hear of it, and one from here is told that it is too late.
        let from = reading.revision;
        self.resume = Some(from);
        self.told = Some((reading.store, reading.revision));
        self.witness = witness;
        self.replaced = false;
        self.recovered();
        if reading.begins_anew {
            tracing::error!(
                keys = name(&self.scope),
                "etcd has lost revisions (wiped, or restored from a backup?); beginning anew"
            );
        }
        self.tell(self.telling.snapshot(reading, whole)).await?;
        Ok(from)
    }

    /// Whether the store still has what it told before. One that has not would let a watch wait silently for revisions yet to
    /// come, or go on from a past that is not its own.
    async fn same_store(&self) -> Result<bool, ReadError> {
        if self.told.is_none() {
            return Ok(true);
        }
        let scope = match &self.witness {
            // A key that is no text cannot be asked for by itself.
            Some((key, _)) => std::str::from_utf8(key).ok().map(|key| Scope::Key(key.into())),
            None => None,
        };
        let now = self.store.page(scope.as_ref().unwrap_or(&self.scope), Content::KeysOnly, PagePlace::First).await?;
        if self.lost(now.store, now.revision) {
            return Ok(false);
        }
        let (Some((key, put)), Some(scope)) = (&self.witness, scope) else { return Ok(true) };
        let agrees = |page: &Page| page.entries.iter().any(|entry| entry.key == *key && entry.mod_revision == *put);
        if agrees(&now) {
            return Ok(true);
        }
        // It was written since, or never.
        let then = PagePlace::After { key: just_before(key), at: *put };
        Ok(agrees(&self.store.page(&scope, Content::KeysOnly, then).await?))
    }

    fn lost(&self, store: StoreId, revision: Revision) -> bool {
        self.told.is_some_and(|(known, told)| known != store || revision < told)
    }

    async fn read(&self) -> Result<(Reading, Option<(Vec<u8>, Revision)>, T::Whole), ReadError> {
        let mut whole = T::Whole::default();
        let mut witness: Option<(Vec<u8>, Revision)> = None;
        let first = self.store.page(&self.scope, Content::Values, PagePlace::First).await?;
        let (store, revision) = (first.store, first.revision);
        let mut page = first;
        loop {
            if let Some(newest) = page.entries.iter().max_by_key(|entry| entry.mod_revision)
                && witness.as_ref().is_none_or(|(_, put)| *put < newest.mod_revision)
            {
                witness = Some((newest.key.clone(), newest.mod_revision));
            }
            for entry in page.entries {
                self.telling.gather(&mut whole, entry);
            }
            let Some(next) = page.next else { break };
            page = self.store.page(&self.scope, Content::Values, next).await?;
            if page.store != store {
                return Err(ReadError::Failed { source: "the store was replaced between two pages".into() });
            }
        }
        let begins_anew = self.replaced || self.lost(store, revision);
        Ok((Reading { store, revision, begins_anew }, witness, whole))
    }

    fn recovered(&mut self) {
        if !self.connected {
            tracing::info!(keys = name(&self.scope), "etcd is followed again");
            self.connected = true;
        }
    }

    async fn tell(&self, event: T::Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Unheard)
    }
}
