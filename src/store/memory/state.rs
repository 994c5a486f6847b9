//! What the store in memory holds: keys with all their versions, what changed at each revision, leases. Pure.
//!
//! In: requests, with the time. Out: etcd's answers to them. It never forgets a version: compaction only hides the older
//! ones, so that a checker can still read all of history.

use crate::{
    model::opaque::Opaque,
    store::{
        Content, KeyChange, KeyValue, PAGE_KEYS, Page, PagePlace, ReadError, Scope, StoreId,
        lease::{Claim, LeaseId},
        txn::{Action, Commit, Current, Revision, Txn},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

type Bytes = Arc<[u8]>;

/// How many revisions a watch that lags behind is told at once; etcd's `watchBatchMaxRevs`.
const BATCH_REVISIONS: usize = 1_000;

/// Everything there is.
pub(super) struct State {
    pub(super) contents: Contents,
    pub(super) store: StoreId,
    /// Whether there is no space left.
    pub(super) full: bool,
    /// Counts how often all watches were ended.
    pub(super) epoch: u64,
    last_lease: i64,
}

/// What a backup holds.
#[derive(Clone)]
pub(super) struct Contents {
    revision: Revision,
    compacted: Revision,
    /// Every version of every key, oldest first.
    keys: BTreeMap<Bytes, Vec<Version>>,
    log: Vec<Logged>,
    leases: BTreeMap<i64, Lease>,
}

#[derive(Clone)]
struct Version {
    revision: Revision,
    created: Revision,
    /// How often the key was written since it was created.
    n_writes: u64,
    /// `None` if it was deleted.
    value: Option<Bytes>,
    lease: Option<i64>,
}

#[derive(Clone)]
struct Logged {
    revision: Revision,
    changes: Vec<(Bytes, Option<Bytes>)>,
}

#[derive(Clone)]
struct Lease {
    ttl: Duration,
    ends: Instant,
    keys: BTreeSet<Bytes>,
}

/// A key as it is held. Its `Debug` leaves the value out, in which there may be a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// The value.
    pub value: Vec<u8>,
    /// When it was created.
    pub created: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// How often it was written since it was created; 1 after its creation.
    pub version: u64,
    /// The lease it hangs on.
    pub lease: Option<LeaseId>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, created, mod_revision, version, lease } = self;
        f.debug_struct("Held")
            .field("value", &Opaque(value))
            .field("created", created)
            .field("mod_revision", mod_revision)
            .field("version", version)
            .field("lease", lease)
            .finish()
    }
}

/// One write: a key, its value (`None`: delete it) and the lease it is to hang on.
pub(super) struct Put {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
    pub(super) lease: Option<LeaseId>,
}

/// What of the store differs when somebody who waits should look again.
pub(super) type Mark = (Revision, u64, Option<Instant>);

impl State {
    pub(super) fn new() -> Self {
        Self { contents: Contents::default(), store: StoreId(1), full: false, epoch: 0, last_lease: 0 }
    }

    pub(super) fn mark(&self) -> Mark {
        (self.contents.revision, self.epoch, self.contents.first_end())
    }

    /// Everything is as in `contents`, in a store of another id, and leases have their whole time again, as after etcd was
    /// restored and has elected a leader.
    pub(super) fn restore(&mut self, contents: Contents, now: Instant) {
        self.contents = contents;
        for lease in self.contents.leases.values_mut() {
            lease.ends = now + lease.ttl;
        }
        self.store = StoreId(self.store.0 + 1);
        self.full = false;
        self.epoch += 1;
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        self.last_lease += 1;
        self.contents.leases.insert(self.last_lease, Lease { ttl, ends: now + ttl, keys: BTreeSet::new() });
        LeaseId(self.last_lease)
    }
}

impl Default for Contents {
    fn default() -> Self {
        Self {
            // As in an etcd that nothing was ever written to.
            revision: Revision(1),
            compacted: Revision(0),
            keys: BTreeMap::new(),
            log: Vec::new(),
            leases: BTreeMap::new(),
        }
    }
}

impl Contents {
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn held(&self, key: &[u8]) -> Option<Held> {
        let (version, value) = self.current(key)?;
        Some(Held {
            value: value.to_vec(),
            created: version.created,
            mod_revision: version.revision,
            version: version.n_writes,
            lease: version.lease.map(LeaseId),
        })
    }

    fn current(&self, key: &[u8]) -> Option<(&Version, &Bytes)> {
        let version = self.keys.get(key)?.last()?;
        Some((version, version.value.as_ref()?))
    }

    fn created(&self, key: &[u8]) -> Revision {
        self.current(key).map_or(Revision::ABSENT, |(version, _)| version.created)
    }

    /// Writes everything at one revision, which is returned. Deleting what does not exist changes nothing; if nothing
    /// changes, there is no new revision.
    pub(super) fn write(&mut self, puts: impl IntoIterator<Item = Put>) -> Revision {
        let revision = Revision(self.revision.0 + 1);
        let mut changes = Vec::new();
        for Put { key, value, lease } in puts {
            let lease = lease.map(|LeaseId(lease)| lease);
            let (before, hung_on) = match self.current(&key) {
                Some((version, _)) => (Some((version.created, version.n_writes)), version.lease),
                None => (None, None),
            };
            if value.is_none() && before.is_none() {
                continue;
            }
            if let Some(lease) = hung_on.and_then(|lease| self.leases.get_mut(&lease)) {
                lease.keys.remove(&key);
            }
            if let Some(lease) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
                lease.keys.insert(Arc::clone(&key));
            }
            let (created, n_writes) = before.map_or((revision, 1), |(created, n_writes)| (created, n_writes + 1));
            let version = Version { revision, created, n_writes, value: value.clone(), lease };
            self.keys.entry(Arc::clone(&key)).or_default().push(version);
            changes.push((key, value));
        }
        if !changes.is_empty() {
            self.revision = revision;
            self.log.push(Logged { revision, changes });
        }
        self.revision
    }

    pub(super) fn commit(&mut self, txn: &Txn) -> Commit {
        let Txn { fence, conditions, writes } = txn;
        if self.created(fence.key.as_bytes()) != fence.created {
            return Commit::Fenced;
        }
        let touched = || {
            let written = writes.iter().map(|write| (&write.key, write.expected));
            written.chain(conditions.iter().map(|condition| (&condition.key, condition.expected)))
        };
        let read = |key: &Arc<str>| {
            let value = self.current(key.as_bytes()).map(|(version, value)| (version.revision, value.to_vec()));
            Current { key: Arc::clone(key), value }
        };
        if touched().any(|(key, expected)| {
            self.current(key.as_bytes()).map_or(Revision::ABSENT, |(version, _)| version.revision) != expected
        }) {
            return Commit::Conflicted { at: self.revision, current: touched().map(|(key, _)| read(key)).collect() };
        }
        Commit::Applied(self.write(writes.iter().map(|write| {
            let value = match &write.action {
                Action::Put(bytes) => Some(Arc::clone(bytes)),
                Action::Delete => None,
            };
            Put { key: write.key.as_bytes().into(), value, lease: None }
        })))
    }

    pub(super) fn page(
        &self,
        store: StoreId,
        scope: &Scope,
        content: Content,
        place: &PagePlace,
    ) -> Result<Page, ReadError> {
        let (revision, after) = match place {
            PagePlace::First => (self.revision, None),
            PagePlace::After { at, .. } if *at < self.compacted => return Err(ReadError::Compacted),
            PagePlace::After { at, .. } if *at > self.revision => {
                return Err(ReadError::Failed { source: "the revision asked for is yet to come".into() });
            }
            PagePlace::After { key, at } => (*at, Some(key.as_slice())),
        };
        let mut found = self.below(scope, after).filter_map(|(key, versions)| {
            let n_known = versions.partition_point(|version| version.revision <= revision);
            let version = versions.get(..n_known)?.last()?;
            let value = version.value.as_ref()?;
            let value = match content {
                Content::Values => value.to_vec(),
                Content::KeysOnly => Vec::new(),
            };
            Some(KeyValue { key: key.to_vec(), mod_revision: version.revision, value })
        });
        let entries: Vec<KeyValue> = found.by_ref().take(PAGE_KEYS).collect();
        let more = found.next().is_some();
        let next = entries.last().filter(|_| more).map(|last| PagePlace::After { key: last.key.clone(), at: revision });
        Ok(Page { store, revision, entries, next })
    }

    /// The keys of `scope` that come after `after`, with their versions.
    fn below<'a>(
        &'a self,
        scope: &'a Scope,
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = (&'a Bytes, &'a Vec<Version>)> {
        let first = match scope {
            Scope::Below(prefix) => format!("{prefix}/").into_bytes(),
            Scope::Key(key) => key.as_bytes().to_vec(),
        };
        let from = match after {
            Some(after) if *after >= *first => Bound::Excluded(after),
            Some(_) | None => Bound::Included(first.as_slice()),
        };
        self.keys.range::<[u8], _>((from, Bound::Unbounded)).take_while(|(key, _)| holds(scope, key))
    }

    /// Everything up to `at` is gone for readers, except for what is still there then.
    pub(super) fn compact(&mut self, at: Revision) {
        self.compacted = self.compacted.max(at.min(self.revision));
    }

    pub(super) fn compacted(&self) -> Revision {
        self.compacted
    }

    /// What changed in `scope` from revision `from` on, as much as is told at once, and from where to go on. Deletions at
    /// `forgotten` are left out.
    pub(super) fn changes(&self, scope: &Scope, from: Revision, forgotten: Revision) -> (Vec<KeyChange>, Revision) {
        let mut changes = Vec::new();
        let mut n_revisions = 0;
        for Logged { revision, changes: logged } in self.log_from(from) {
            let of_scope =
                logged.iter().filter(|(key, value)| holds(scope, key) && (value.is_some() || *revision != forgotten));
            let n_before = changes.len();
            changes.extend(of_scope.map(|change| key_change(*revision, change)));
            n_revisions += usize::from(changes.len() > n_before);
            if n_revisions == BATCH_REVISIONS {
                return (changes, Revision(revision.0 + 1));
            }
        }
        (changes, from.max(Revision(self.revision.0 + 1)))
    }

    pub(super) fn history(&self, from: Revision) -> Vec<(Revision, Vec<KeyChange>)> {
        self.log_from(from)
            .map(|Logged { revision, changes }| {
                (*revision, changes.iter().map(|change| key_change(*revision, change)).collect())
            })
            .collect()
    }

    fn log_from(&self, from: Revision) -> impl Iterator<Item = &Logged> {
        let n_told = self.log.partition_point(|logged| logged.revision < from);
        self.log.iter().skip(n_told)
    }

    pub(super) fn has_lease(&self, LeaseId(lease): LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.keys().copied().map(LeaseId)
    }

    /// Whether there is such a lease to renew.
    pub(super) fn renew(&mut self, LeaseId(lease): LeaseId, now: Instant) -> bool {
        self.leases.get_mut(&lease).map(|lease| lease.ends = now + lease.ttl).is_some()
    }

    /// Ends a lease: what hangs on it is deleted at one revision.
    pub(super) fn end(&mut self, LeaseId(lease): LeaseId) {
        if let Some(Lease { keys, .. }) = self.leases.remove(&lease) {
            self.write(keys.into_iter().map(|key| Put { key, value: None, lease: None }));
        }
    }

    /// Ends every lease whose time is over, in the order of their ends.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some((_, lease)) =
            self.leases.iter().map(|(id, lease)| (lease.ends, *id)).min().filter(|(ends, _)| *ends <= now)
        {
            self.end(LeaseId(lease));
        }
    }

    pub(super) fn first_end(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// Creates a key on a lease; `None` if there is no such lease.
    pub(super) fn claim(&mut self, key: &str, value: &[u8], lease: LeaseId) -> Option<Claim> {
        let at = self.revision;
        if let Some(Held { value, created, .. }) = self.held(key.as_bytes()) {
            return Some(Claim::Held { at, created, value });
        }
        if !self.has_lease(lease) {
            return None;
        }
        let put = Put { key: key.as_bytes().into(), value: Some(value.into()), lease: Some(lease) };
        Some(Claim::Won(self.write([put])))
    }
}

fn holds(scope: &Scope, key: &[u8]) -> bool {
    match scope {
        Scope::Below(prefix) => key.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.starts_with(b"/")),
        Scope::Key(only) => key == only.as_bytes(),
    }
}

fn key_change(revision: Revision, (key, value): &(Bytes, Option<Bytes>)) -> KeyChange {
    KeyChange { key: key.to_vec(), revision, value: value.as_deref().map(<[u8]>::to_vec) }
}
