//! Following the store: a prefix in, snapshots and changes out, in the order of their revisions.
//!
//! Everything below the prefix is read once, page by page at one pinned revision, then watched from the next one on. A
//! watch that ends is resumed where it was; when that revision is compacted, everything is read anew. Values are inspected
//! here and dropped. It never gives up and never writes.

use super::{Content, KeyChange, PagePlace, ReadError, Scope, Store, Watch, WatchBatch, txn::Revision};
use crate::{
    apisix::{
        plugins,
        stored::{Inspected, inspect},
    },
    model::places::WorkId,
    retry::{Retry, RetryLimits},
};
use std::{convert::Infallible, error::Error, sync::Arc};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What following the store tells the reconcile loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Everything that matters below the prefix, at one revision. The first thing said; said again when the watch could not
    /// be resumed.
    Snapshot(Snapshot),
    /// What changed since, revision by revision. A change may be told again after the watch was resumed.
    Changed {
        /// Everything up to this revision, inclusive, has now been told.
        revision: Revision,
        /// The changes; empty when only time went by.
        events: Vec<KeyEvent>,
    },
    /// The store cannot be followed for now; said once for each outage.
    Disconnected,
    /// The watch goes on where it was; said once after each `Disconnected`, unless a `Snapshot` is said instead.
    Reconnected,
}

/// Everything that matters below the prefix, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision.
    pub revision: Revision,
    /// Every document in our directories, whoever wrote it, with the revision of its last change.
    pub documents: Vec<(WorkId, Revision, Inspected)>,
    /// Whether `{prefix}/plugins` lists the stream plugin `traffic-split`; `None` if there is no such key.
    pub traffic_split: Option<bool>,
}

/// One change below the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// Of a document.
    Document {
        /// Which.
        id: WorkId,
        /// When.
        revision: Revision,
        /// What it is now; `None` when it was deleted.
        stored: Option<Inspected>,
    },
    /// Of `{prefix}/plugins`: whether it lists the stream plugin `traffic-split`; `None` when it was deleted.
    TrafficSplit(Option<bool>),
}

/// Follows everything below `prefix` until `stop`, or until nobody receives any more.
///
/// When the receiver does not keep up, this waits, and etcd keeps what is to come: nothing is lost.
pub async fn follow<S: Store>(
    store: Arc<S>,
    prefix: Arc<str>,
    events: mpsc::Sender<StoreEvent>,
    limits: RetryLimits,
    stop: CancellationToken,
) {
    let mut follower = Follower { store, prefix, events, resume: None, connected: true, retry: Retry::new(limits) };
    // Dropping a read or a watch half-way is safe, so the token may cut in anywhere.
    stop.run_until_cancelled(follower.run()).await;
}

struct Follower<S> {
    store: Arc<S>,
    prefix: Arc<str>,
    events: mpsc::Sender<StoreEvent>,
    /// Where to watch from; `None` while everything is to be read.
    resume: Option<Revision>,
    connected: bool,
    retry: Retry,
}

/// Why following came to an end.
enum Ended {
    /// The store gave nothing.
    Read(ReadError),
    /// Nobody receives any more.
    Unheard,
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Not inside the loop: a task that waits cannot hold on to a `dyn Error`.
fn unreachable_for_now(prefix: &str, error: &(dyn Error + 'static)) {
    tracing::warn!(prefix, error, "etcd cannot be followed; trying again");
}

impl<S: Store> Follower<S> {
    async fn run(&mut self) {
        loop {
            let ended = match self.connect().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            };
            let error = match ended {
                Ended::Unheard => return,
                Ended::Read(ReadError::Compacted) => {
                    tracing::info!(prefix = %self.prefix, "etcd was compacted past our watch; reading everything anew");
                    self.resume = None;
                    continue;
                }
                Ended::Read(error @ (ReadError::Failed { .. } | ReadError::TimedOut { .. })) => error,
            };
            if self.connected {
                unreachable_for_now(&self.prefix, &error);
                self.connected = false;
                if self.tell(StoreEvent::Disconnected).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(self.retry.next_delay()).await;
        }
    }

    /// Reads everything if needed, then watches for as long as it lasts.
    async fn connect(&mut self) -> Result<Infallible, Ended> {
        if !self.connected && self.behind().await? {
            tracing::error!(prefix = %self.prefix, "etcd has lost revisions (wiped, or restored from a backup?); beginning anew");
            self.resume = None;
        }
        let from = if let Some(revision) = self.resume {
            revision
        } else {
            let snapshot = self.read().await?;
            let next = Revision(snapshot.revision.0 + 1);
            self.resume = Some(next);
            self.recovered();
            self.tell(StoreEvent::Snapshot(snapshot)).await?;
            next
        };
        let mut watch = self.store.watch(&self.scope(), from).await?;
        if !self.connected {
            self.recovered();
            self.tell(StoreEvent::Reconnected).await?;
        }
        loop {
            let WatchBatch { revision, changes } = watch.next().await?;
            self.retry.reset();
            let events = changes.iter().filter_map(|change| key_event(&self.prefix, change)).collect();
            self.tell(StoreEvent::Changed { revision, events }).await?;
            // Inclusive: hearing a change twice is harmless, and no reasoning is needed about what was heard to its end.
            self.resume = self.resume.max(Some(revision));
        }
    }

    /// Whether the store is older than what it told before: then a watch would wait silently for revisions yet to come.
    async fn behind(&self) -> Result<bool, ReadError> {
        let Some(resume) = self.resume else { return Ok(false) };
        let page = self.store.page(&self.scope(), Content::KeysOnly, PagePlace::First).await?;
        Ok(page.revision.0 + 1 < resume.0)
    }

    async fn read(&self) -> Result<Snapshot, ReadError> {
        let mut snapshot = Snapshot::default();
        let mut place = PagePlace::First;
        loop {
            let page = self.store.page(&self.scope(), Content::Values, place).await?;
            snapshot.revision = page.revision;
            for entry in page.entries {
                let change = KeyChange { key: entry.key, revision: entry.mod_revision, value: Some(entry.value) };
                match key_event(&self.prefix, &change) {
                    Some(KeyEvent::Document { id, revision, stored: Some(stored) }) => {
                        snapshot.documents.push((id, revision, stored));
                    }
                    Some(KeyEvent::TrafficSplit(listed)) => snapshot.traffic_split = listed,
                    Some(KeyEvent::Document { stored: None, .. }) | None => {}
                }
            }
            match page.next {
                Some(next) => place = next,
                None => return Ok(snapshot),
            }
        }
    }

    fn scope(&self) -> Scope {
        Scope::Below(Arc::clone(&self.prefix))
    }

    fn recovered(&mut self) {
        if !self.connected {
            tracing::info!(prefix = %self.prefix, "etcd is followed again");
            self.connected = true;
        }
    }

    async fn tell(&self, event: StoreEvent) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended::Unheard)
    }
}

/// What a change means to us; `None` for keys that do not matter, those that are no text among them.
fn key_event(prefix: &str, change: &KeyChange) -> Option<KeyEvent> {
    let key = std::str::from_utf8(&change.key).ok()?;
    if key.strip_prefix(prefix) == Some("/plugins") {
        return Some(KeyEvent::TrafficSplit(change.value.as_deref().map(plugins::lists_stream_traffic_split)));
    }
    let id = WorkId::from_key(prefix, key)?;
    let stored = change.value.as_deref().map(|value| inspect(&id, key, value));
    Some(KeyEvent::Document { id, revision: change.revision, stored })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Directory;

    fn event(key: &[u8], value: Option<&str>) -> Option<KeyEvent> {
        let change = KeyChange { key: key.to_vec(), revision: Revision(5), value: value.map(Into::into) };
        key_event("/apisix", &change)
    }

    #[test]
    fn documents_of_our_directories_are_inspected_whoever_wrote_them() {
        let id = WorkId::new(Directory::Upstreams, "theirs");
        let stored = inspect(&id, "/apisix/upstreams/theirs", b"{}");
        assert_eq!(
            event(b"/apisix/upstreams/theirs", Some("{}")),
            Some(KeyEvent::Document { id: id.clone(), revision: Revision(5), stored: Some(stored) })
        );
        assert_eq!(
            event(b"/apisix/upstreams/theirs", None),
            Some(KeyEvent::Document { id, revision: Revision(5), stored: None })
        );
    }

    #[test]
    fn the_list_of_plugins_is_told_as_one_fact() {
        let listed = r#"[{"name": "traffic-split", "stream": true}]"#;
        assert_eq!(event(b"/apisix/plugins", Some(listed)), Some(KeyEvent::TrafficSplit(Some(true))));
        assert_eq!(event(b"/apisix/plugins", Some("[]")), Some(KeyEvent::TrafficSplit(Some(false))));
        assert_eq!(event(b"/apisix/plugins", None), Some(KeyEvent::TrafficSplit(None)));
    }

    #[test]
    fn other_keys_do_not_matter() {
        for key in [&b"/apisix/routes/1"[..], b"/apisix/plugins/1", b"/apisix/upstreams", b"/apisix/upstreams/\xff"] {
            assert_eq!(event(key, Some("{}")), None, "{key:?}");
        }
    }
}
