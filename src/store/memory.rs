//! The store in memory: etcd's behaviour without etcd, for tests and simulations.
//!
//! In: what any [`Store`] is asked, and what a test does to it by hand. Out: the answers etcd would give: both are held to the
//! same contract. It never draws lots: the same requests in the same order have the same answers, and time is the
//! runtime's, so that a test may let it pass. It never fails by itself: losing requests and answers is the business of
//! whoever stands in between.

mod state;

pub use state::Held;

use super::{
    Content, KeyChange, Page, PagePlace, ReadError, Scope, Store, Watch, WatchBatch,
    lease::{Claim, LeaseError, LeaseId, Leases},
    txn::{Action, Commit, CommitError, Ground, Revision, Txn},
};
use crate::clock;
use parking_lot::Mutex;
use state::{Contents, Put, State};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// How many operations a transaction may have; etcd's `--max-txn-ops`.
pub const OPERATIONS_MAX: usize = 128;

/// How large a transaction may be; etcd's `--max-request-bytes`.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// How many seconds a lease may last; etcd's `MaxLeaseTTL`.
const TTL_SECONDS_MAX: u64 = 9_000_000_000;

/// A store in memory. Clones are handles of the same store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Rung whenever somebody who waits should look again. Waiters wake in the order in which they came.
    bell: Notify,
}

/// A backup: everything that a store held at one time, leases and history among it. The default is an empty store.
#[derive(Clone, Default)]
pub struct Image(Contents);

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty one, at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::new(State::new()), bell: Notify::new() }) }
    }

    /// Looks at, or changes, the state as it is at this moment, and wakes whoever waits for what changed.
    fn with<T>(&self, ask: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = clock::now();
        let mut state = self.shared.state.lock();
        let before = state.mark();
        state.contents.settle(now);
        let answer = ask(&mut state, now);
        let rings = state.mark() != before;
        drop(state);
        if rings {
            self.shared.bell.notify_waiters();
        }
        answer
    }

    /// Puts a key by hand, without a lease, and returns its revision. It is done although the store is full.
    pub fn put(&self, key: &str, value: impl AsRef<[u8]>) -> Revision {
        let put = Put { key: key.as_bytes().into(), value: Some(value.as_ref().into()), lease: None };
        self.with(|state, _| state.contents.write([put]))
    }

    /// Deletes a key by hand, and returns the revision at which it was deleted; the one of the store if there was no such
    /// key.
    #[expect(clippy::must_use_candidate, reason = "it is deleted whether or not somebody asks when")]
    pub fn delete(&self, key: &str) -> Revision {
        let put = Put { key: key.as_bytes().into(), value: None, lease: None };
        self.with(|state, _| state.contents.write([put]))
    }

    /// A key as it is held.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Held> {
        self.with(|state, _| state.contents.held(key.as_bytes()))
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.with(|state, _| state.contents.revision())
    }

    /// Makes everything before `at` unreadable; a watch that runs already goes on. Nothing happens if that was so already; a
    /// revision yet to come counts as the newest. As in etcd before 3.5.16, what `at` itself deleted is not
    /// told to a watch that begins there later.
    pub fn compact(&self, at: Revision) {
        self.with(|state, _| state.contents.compact(at));
    }

    /// What happened at every revision, in order, changes of one revision in the order of its writes. All of it, whatever was
    /// compacted. After [`MemoryStore::restore`] it is the history of the image: what happened in between must be read
    /// before.
    #[must_use]
    pub fn history(&self) -> Vec<(Revision, Vec<KeyChange>)> {
        self.history_from(Revision::ABSENT)
    }

    /// As [`MemoryStore::history`], from revision `from` on, inclusive.
    #[must_use]
    pub fn history_from(&self, from: Revision) -> Vec<(Revision, Vec<KeyChange>)> {
        self.with(|state, _| state.contents.history(from))
    }

    /// The leases that have not ended, oldest first.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseId> {
        self.with(|state, _| state.contents.leases().collect())
    }

    /// Lets a lease end as if its time were over. Nothing happens if it has ended already.
    pub fn expire(&self, lease: LeaseId) {
        self.with(|state, _| state.contents.end(lease));
    }

    /// Lets all leases end as if their time were over, oldest first.
    pub fn expire_all(&self) {
        self.with(|state, _| {
            for lease in state.contents.leases().collect::<Vec<_>>() {
                state.contents.end(lease);
            }
        });
    }

    /// A backup.
    #[must_use]
    pub fn image(&self) -> Image {
        self.with(|state, _| Image(state.contents.clone()))
    }

    /// Puts a backup back: the store has another id, its revisions go on from the image's, its leases have their whole time
    /// again, and every watch ends with an error. A default image is an etcd that was wiped and set up anew.
    pub fn restore(&self, image: Image) {
        self.with(|state, now| state.restore(image.0, now));
    }

    /// Whether there is no space left: until it is said to be over, leases and every transaction with a put in it are refused.
    /// Deletes, reads, renewing and revoking go on, as in etcd under the alarm NOSPACE.
    pub fn full(&self, full: bool) {
        self.with(|state, _| state.full = full);
    }

    /// Ends every running watch with an error, as a lost connection would.
    pub fn end_watches(&self) {
        self.with(|state, _| state.epoch += 1);
    }
}

/// Why a store refuses a transaction whatever it holds.
fn refusal(txn: &Txn, full: bool) -> Option<&'static str> {
    let mut put = BTreeSet::new();
    let mut twice = false;
    for write in &txn.writes {
        twice |= match &write.action {
            Action::Put(_) => !put.insert(&write.key),
            Action::Delete => false,
        };
    }
    let deleted = |write: &&super::txn::Write| matches!(write.action, Action::Delete);
    if txn.n_operations() > OPERATIONS_MAX {
        Some("too many operations in txn request")
    } else if twice || txn.writes.iter().filter(deleted).any(|write| put.contains(&write.key)) {
        Some("duplicate key given in txn request")
    } else if txn.n_bytes() > REQUEST_BYTES_MAX {
        Some("request is too large")
    } else if full && !put.is_empty() {
        Some(NO_SPACE)
    } else {
        None
    }
}

const NO_SPACE: &str = "database space exceeded";

impl Store for MemoryStore {
    type Watch = MemoryWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        self.with(|state, _| match refusal(&txn, state.full) {
            Some(reason) => Err(CommitError::Refused {
                n_operations: txn.n_operations(),
                ground: if reason == NO_SPACE { Ground::Full } else { Ground::Other },
                source: reason.into(),
            }),
            None => Ok(state.contents.commit(&txn)),
        })
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        self.with(|state, _| state.contents.page(state.store, scope, content, &place))
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<MemoryWatch, ReadError> {
        Ok(self.with(|state, _| MemoryWatch {
            store: self.clone(),
            scope: scope.clone(),
            next: from,
            epoch: state.epoch,
            compacted: state.contents.compacted(),
            too_late: from < state.contents.compacted(),
        }))
    }
}

impl Leases for MemoryStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.with(|state, now| {
            if state.full {
                return Err(LeaseError::Refused { source: NO_SPACE.into() });
            }
            if ttl.as_secs() > TTL_SECONDS_MAX {
                return Err(LeaseError::Refused { source: "too large lease TTL".into() });
            }
            Ok(state.grant(Duration::from_secs(ttl.as_secs().max(1)), now))
        })
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.with(|state, now| if state.contents.renew(lease, now) { Ok(()) } else { Err(LeaseError::Ended) })
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.with(|state, _| state.contents.end(lease));
        Ok(())
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        self.with(|state, _| {
            if state.full {
                return Err(LeaseError::Refused { source: NO_SPACE.into() });
            }
            state.contents.claim(key, value, lease).ok_or(LeaseError::Ended)
        })
    }
}

/// A running watch on a store in memory.
pub struct MemoryWatch {
    store: MemoryStore,
    scope: Scope,
    /// The first revision that was not told.
    next: Revision,
    /// In which epoch of the store it began.
    epoch: u64,
    /// Up to where everything was compacted when it began.
    compacted: Revision,
    /// Whether it was to begin at a revision that is gone.
    too_late: bool,
}

impl MemoryWatch {
    /// What is to be told, or when a lease ends next.
    fn look(&mut self) -> Result<Result<WatchBatch, Option<Instant>>, ReadError> {
        let store = self.store.clone();
        store.with(|state, _| {
            if self.epoch != state.epoch {
                return Err(ReadError::Failed { source: "the watch was closed".into() });
            }
            if self.too_late {
                return Err(ReadError::Compacted);
            }
            let (changes, next) = state.contents.changes(&self.scope, self.next, self.compacted);
            self.next = next;
            Ok(match changes.last() {
                Some(last) => Ok(WatchBatch { revision: last.revision, changes }),
                None => Err(state.contents.first_end()),
            })
        })
    }
}

impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        loop {
            let shared = Arc::clone(&self.store.shared);
            // Before looking, so that nothing is missed in between.
            let bell = shared.bell.notified();
            match self.look()? {
                Ok(batch) => return Ok(batch),
                Err(None) => bell.await,
                // Leases end when somebody looks: whoever waits looks when the next one is due.
                Err(Some(ends)) => {
                    let due = ends.saturating_duration_since(clock::now());
                    tokio::time::timeout(due, bell).await.unwrap_or_default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{StoreId, txn::Fence};

    const TTL: Duration = Duration::from_secs(15);

    fn all() -> Scope {
        Scope::Below("/p".into())
    }

    async fn id(store: &MemoryStore) -> StoreId {
        store.page(&all(), Content::KeysOnly, PagePlace::First).await.unwrap().store
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_hears_of_a_lease_that_nobody_renews_at_its_end() {
        let store = MemoryStore::new();
        let mut watch = store.watch(&all(), Revision(3)).await.unwrap();
        let waiting = tokio::spawn(async move { (watch.next().await.unwrap(), clock::now()) });
        tokio::task::yield_now().await;
        let began = clock::now();
        let lease = store.grant(TTL).await.unwrap();
        let won = store.claim("/p/leader", b"a", lease).await.unwrap();
        assert_eq!(won, Claim::Won(Revision(2)));
        tokio::time::sleep(TTL / 3).await;
        store.renew(lease).await.unwrap();
        let (batch, at) = waiting.await.unwrap();
        assert_eq!(at - began, TTL / 3 + TTL);
        let gone = KeyChange { key: b"/p/leader".to_vec(), revision: Revision(3), value: None };
        assert_eq!(batch, WatchBatch { revision: Revision(3), changes: vec![gone] });
        assert!(matches!(store.renew(lease).await, Err(LeaseError::Ended)));
    }

    #[tokio::test(start_paused = true)]
    async fn leases_end_in_the_order_of_their_ends_each_at_its_own_revision() {
        let store = MemoryStore::new();
        let (later, sooner) = (store.grant(TTL * 2).await.unwrap(), store.grant(TTL).await.unwrap());
        for (key, lease) in [("/p/c", later), ("/p/b", sooner), ("/p/a", sooner)] {
            store.claim(key, b"", lease).await.unwrap();
        }
        tokio::time::sleep(TTL * 3).await;
        let ended: Vec<Vec<Vec<u8>>> = store
            .history_from(Revision(5))
            .into_iter()
            .map(|(_, changes)| changes.into_iter().map(|change| change.key).collect())
            .collect();
        assert_eq!(ended, [vec![b"/p/a".to_vec(), b"/p/b".to_vec()], vec![b"/p/c".to_vec()]]);
        assert_eq!((store.revision(), store.leases()), (Revision(6), vec![]));
    }

    #[tokio::test]
    async fn history_survives_compaction() {
        let store = MemoryStore::new();
        let (first, second) = (store.put("/p/a", "1"), store.put("/p/a", "2"));
        let third = store.delete("/p/a");
        store.compact(third);
        let told: Vec<Revision> = store.history().into_iter().map(|(revision, _)| revision).collect();
        assert_eq!(told, [first, second, third]);
        assert_eq!((store.get("/p/a"), store.delete("/p/a")), (None, third));
    }

    #[tokio::test]
    async fn a_running_watch_goes_on_after_a_compaction() {
        let store = MemoryStore::new();
        let from = Revision(store.revision().0 + 1);
        let mut watch = store.watch(&all(), from).await.unwrap();
        store.put("/q/a", "1");
        let at = store.put("/p/a", "1");
        store.compact(at);
        assert_eq!(watch.next().await.unwrap().revision, at);
    }

    #[tokio::test]
    async fn what_the_revision_of_a_compaction_deleted_is_told_only_to_who_watched_before() {
        let store = MemoryStore::new();
        store.put("/p/a", "1");
        let gone = store.delete("/p/a");
        let mut before = store.watch(&all(), gone).await.unwrap();
        store.compact(gone);
        let mut after = store.watch(&all(), gone).await.unwrap();
        let put = store.put("/p/b", "1");
        let told = |batch: WatchBatch| batch.changes.iter().map(|change| change.revision).collect::<Vec<_>>();
        assert_eq!(told(before.next().await.unwrap()), [gone, put]);
        assert_eq!(told(after.next().await.unwrap()), [put]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_store_is_another_one_that_goes_on_from_its_backup() {
        let store = MemoryStore::new();
        let lease = store.grant(TTL).await.unwrap();
        let Claim::Won(created) = store.claim("/p/leader", b"a", lease).await.unwrap() else { panic!("held") };
        let image = store.image();
        let lost = store.put("/p/a", "lost");
        let (before, mut watch) = (id(&store).await, store.watch(&all(), Revision(9)).await.unwrap());
        tokio::time::sleep(TTL * 2).await;
        store.restore(image);
        assert_ne!(id(&store).await, before);
        assert!(matches!(watch.next().await, Err(ReadError::Failed { .. })));
        assert_eq!((store.get("/p/a"), store.put("/p/b", "new")), (None, lost));
        assert_eq!(store.get("/p/leader").unwrap().created, created);
        tokio::time::sleep(TTL).await;
        assert_eq!(store.get("/p/leader"), None, "its lease began anew, and is over");

        store.restore(Image::default());
        assert_eq!((store.revision(), store.history()), (Revision(1), vec![]));
        assert_ne!(store.grant(TTL).await.unwrap(), lease);
    }

    #[tokio::test]
    async fn watches_that_are_ended_say_so_and_others_may_begin() {
        let store = MemoryStore::new();
        let mut watch = store.watch(&all(), Revision(2)).await.unwrap();
        store.end_watches();
        for _ in 0..2 {
            assert!(matches!(watch.next().await, Err(ReadError::Failed { .. })));
        }
        let mut watch = store.watch(&all(), Revision(2)).await.unwrap();
        let at = store.put("/p/a", "1");
        assert_eq!(watch.next().await.unwrap().revision, at);
    }

    #[tokio::test]
    async fn a_key_put_by_hand_no_longer_hangs_on_its_lease() {
        let store = MemoryStore::new();
        let lease = store.grant(TTL).await.unwrap();
        store.claim("/p/leader", b"a", lease).await.unwrap();
        store.put("/p/leader", "b");
        store.expire_all();
        let held = store.get("/p/leader").unwrap();
        assert_eq!((held.value.as_slice(), held.version, held.lease), (&b"b"[..], 2, None));
        let fence = Fence { key: "/p/leader".into(), created: held.created };
        let txn = Txn { fence, conditions: vec![], writes: vec![] };
        assert_eq!(store.commit(txn).await.unwrap(), Commit::Applied(held.mod_revision));
    }
}
