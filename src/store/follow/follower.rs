//! The follower: a scope in, readings and changes out, in the order of their revisions, whatever the keys mean.
//!
//! Everything in the scope is read once, page by page at one pinned revision, then watched from the next one on. A watch that
//! ends is resumed where it was; when that revision is compacted, when somebody asks, or when the store is another than
//! before, everything is read anew. It never gives up and never writes.

use super::Reread;
use crate::{
    retry::{Retry, RetryLimits},
    store::{
        Content, KeyChange, KeyValue, PagePlace, ReadError, Scope, Store, StoreId, Watch, WatchBatch, txn::Revision,
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
        Self { store, scope, telling, events, reread, resume: None, told: None, connected: true, retry }
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
        if !self.connected && self.resume.is_some() && self.replaced().await? {
            self.resume = None;
        }
        let from = if let Some(revision) = self.resume {
            revision
        } else {
            // Whoever has asked until now is answered by this reading.
            self.reread.0.notified().now_or_never();
            let (reading, whole) = self.read().await?;
            let next = Revision(reading.revision.0 + 1);
            self.resume = Some(next);
            self.told = Some((reading.store, reading.revision));
            self.recovered();
            if reading.begins_anew {
                tracing::error!(
                    keys = name(&self.scope),
                    "etcd has lost revisions (wiped, or restored from a backup?); beginning anew"
                );
            }
            self.tell(self.telling.snapshot(reading, whole)).await?;
            next
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
            self.tell(self.telling.changed(revision, changes)).await?;
            // Inclusive: hearing a change twice is harmless, and no reasoning is needed about what was heard to its end.
            self.resume = self.resume.max(Some(revision));
            self.told = self.told.map(|(store, told)| (store, told.max(revision)));
        }
    }

    /// Whether the store has lost what it told before: then a watch would wait silently for revisions yet to come.
    async fn replaced(&self) -> Result<bool, ReadError> {
        let page = self.store.page(&self.scope, Content::KeysOnly, PagePlace::First).await?;
        Ok(self.lost(page.store, page.revision))
    }

    fn lost(&self, store: StoreId, revision: Revision) -> bool {
        self.told.is_some_and(|(known, told)| known != store || revision < told)
    }

    async fn read(&self) -> Result<(Reading, T::Whole), ReadError> {
        let mut whole = T::Whole::default();
        let first = self.store.page(&self.scope, Content::Values, PagePlace::First).await?;
        let (store, revision) = (first.store, first.revision);
        let mut page = first;
        loop {
            for entry in page.entries {
                self.telling.gather(&mut whole, entry);
            }
            let Some(next) = page.next else { break };
            page = self.store.page(&self.scope, Content::Values, next).await?;
            if page.store != store {
                return Err(ReadError::Failed { source: "the store was replaced between two pages".into() });
            }
        }
        Ok((Reading { store, revision, begins_anew: self.lost(store, revision) }, whole))
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
