//! The mirror: our copy of what etcd holds in our directories. Snapshots, watch events and answers in, news out. Pure.
//!
//! Per key the newer revision wins, so that the order in which the same things are told can never matter. It holds no
//! values, only whose a document is, a hash of it, and what it names.

use super::{follow::Snapshot, txn::Revision};
use crate::{
    apisix::stored::{Inspected, Seal},
    model::places::{Directory, WorkId},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    revision: Revision,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Present(Inspected),
    /// Deleted at that revision. Kept until the watch has passed it: an older change that is told late must not bring the
    /// key back.
    Absent,
}

/// A stored document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// When it was last written.
    pub revision: Revision,
    /// What it is.
    pub inspected: &'a Inspected,
}

/// What is known of one key, for comparing it with a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is there, last written at this revision.
    Present(Revision),
    /// It was deleted at this revision, or not there then.
    Absent(Revision),
}

/// A key is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The document.
    pub id: WorkId,
    /// What it was; `None` if it was not there.
    pub before: Option<Inspected>,
    /// The pool that lost its last user by this change, if one did.
    pub left: Option<WorkId>,
}

/// Our copy of what etcd holds.
#[derive(Debug)]
pub struct Mirror {
    instance: Arc<str>,
    entries: HashMap<WorkId, Entry>,
    /// Pool to the stream_routes that name it, ours and foreign alike.
    users: HashMap<WorkId, BTreeSet<WorkId>>,
    tombstones: BTreeMap<Revision, Vec<WorkId>>,
    n_ours: BTreeMap<Directory, usize>,
    /// Everything up to this revision has been told; `None` before the first snapshot.
    told: Option<Revision>,
}

impl Mirror {
    /// Of a store of which nothing is known yet. `instance` is the one whose documents are counted.
    #[must_use]
    pub fn new(instance: Arc<str>) -> Self {
        Self {
            instance,
            entries: HashMap::new(),
            users: HashMap::new(),
            tombstones: BTreeMap::new(),
            n_ours: BTreeMap::new(),
            told: None,
        }
    }

    /// Whether there has been a snapshot.
    #[must_use]
    pub fn whole(&self) -> bool {
        self.told.is_some()
    }

    /// One document, if etcd holds it.
    #[must_use]
    pub fn stored(&self, id: &WorkId) -> Option<Stored<'_>> {
        let Entry { revision, state } = self.entries.get(id)?;
        match state {
            State::Present(inspected) => Some(Stored { revision: *revision, inspected }),
            State::Absent => None,
        }
    }

    /// Everything that is known, in no order. Of a key that is gone there is nothing once the watch has passed its deletion.
    pub fn known(&self) -> impl Iterator<Item = (&WorkId, Known)> {
        self.entries.iter().map(|(id, Entry { revision, state })| {
            let known = match state {
                State::Present(_) => Known::Present(*revision),
                State::Absent => Known::Absent(*revision),
            };
            (id, known)
        })
    }

    /// The stream_routes that name `pool`, ours and foreign alike, in order.
    pub fn users(&self, pool: &WorkId) -> impl Iterator<Item = &WorkId> {
        self.users.get(pool).into_iter().flatten()
    }

    /// How many documents of a directory are as this instance wrote them.
    #[must_use]
    pub fn n_ours(&self, directory: Directory) -> usize {
        self.n_ours.get(&directory).copied().unwrap_or(0)
    }

    /// Takes in a snapshot: what is not in it, and not written since, is gone.
    ///
    /// One that begins anew is of an etcd that was wiped or restored from a backup: then nothing that was known holds any
    /// more.
    pub fn take_snapshot(&mut self, snapshot: Snapshot) -> Vec<News> {
        let Snapshot { store: _, revision: at, begins_anew, documents, traffic_split: _ } = snapshot;
        let mut gone: BTreeSet<WorkId> = self.entries.keys().cloned().collect();
        let mut news = Vec::new();
        for (id, revision, inspected) in documents {
            gone.remove(&id);
            // What was known of that revision or an earlier one is what the snapshot says, even if that has an earlier date: an
            // etcd may have been replaced without anybody noticing.
            if let Some(entry) = self.entries.get_mut(&id).filter(|entry| begins_anew || entry.revision <= at) {
                entry.revision = Revision::ABSENT;
            }
            news.extend(self.learn(id, revision, Some(inspected)));
        }
        for id in gone {
            let newer = self.entries.get(&id).is_some_and(|entry| entry.revision > at);
            if !newer || begins_anew {
                news.extend(self.set(id.clone(), at, State::Absent));
            }
        }
        self.told = Some(at);
        self.forget_passed(at);
        news
    }

    /// Takes in what one key is (`None`: not there) as of `revision`: a watch event, an own write, or an answer to a lost
    /// compare. Gives news if that is both newer than what was known and different from it.
    pub fn learn(&mut self, id: WorkId, revision: Revision, inspected: Option<Inspected>) -> Option<News> {
        if self.entries.get(&id).is_some_and(|entry| entry.revision >= revision) {
            return None;
        }
        let news = self.set(id, revision, inspected.map_or(State::Absent, State::Present));
        if let Some(told) = self.told {
            self.forget_passed(told);
        }
        news
    }

    /// Takes in what a lost compare found a key to be, whose events do not wait for that answer. When the watch is ahead of
    /// the answer, a key that is not known here is one that it told to be gone since.
    pub fn learn_read(&mut self, id: WorkId, revision: Revision, inspected: Option<Inspected>) -> Option<News> {
        let overtaken = self.told.is_some_and(|told| revision <= told) && !self.entries.contains_key(&id);
        if overtaken { None } else { self.learn(id, revision, inspected) }
    }

    /// Takes in that everything up to `revision` has been told.
    pub fn passed(&mut self, revision: Revision) {
        if self.told.is_some_and(|told| told < revision) {
            self.told = Some(revision);
            self.forget_passed(revision);
        }
    }

    fn set(&mut self, id: WorkId, revision: Revision, state: State) -> Option<News> {
        let after = match &state {
            State::Present(inspected) => Some(inspected.clone()),
            State::Absent => {
                self.tombstones.entry(revision).or_default().push(id.clone());
                None
            }
        };
        let before = match self.entries.insert(id.clone(), Entry { revision, state }).map(|entry| entry.state) {
            Some(State::Present(inspected)) => Some(inspected),
            Some(State::Absent) | None => None,
        };
        if before == after {
            return None;
        }
        self.count(id.directory, before.as_ref(), after.as_ref());
        let left = self.index(&id, before.as_ref(), after.as_ref());
        Some(News { id, before, left })
    }

    fn count(&mut self, directory: Directory, before: Option<&Inspected>, after: Option<&Inspected>) {
        let ours = |inspected: Option<&Inspected>| {
            inspected.is_some_and(|inspected| written_by(&inspected.seal, &self.instance))
        };
        let (before, after) = (ours(before), ours(after));
        let n_ours = self.n_ours.entry(directory).or_default();
        *n_ours = (*n_ours + usize::from(after)).saturating_sub(usize::from(before));
    }

    /// Moves `id` from the users of its old pool to those of its new one; gives the old one if nobody uses it any more.
    fn index(&mut self, id: &WorkId, before: Option<&Inspected>, after: Option<&Inspected>) -> Option<WorkId> {
        let old = before.and_then(|inspected| inspected.pool.clone());
        let new = after.and_then(|inspected| inspected.pool.clone());
        if old == new {
            return None;
        }
        if let Some(new) = new {
            self.users.entry(new).or_default().insert(id.clone());
        }
        let old = old?;
        let users = self.users.get_mut(&old)?;
        users.remove(id);
        if !users.is_empty() {
            return None;
        }
        self.users.remove(&old);
        Some(old)
    }

    fn forget_passed(&mut self, told: Revision) {
        while let Some(first) = self.tombstones.first_entry() {
            if *first.key() > told {
                return;
            }
            let (revision, ids) = first.remove_entry();
            for id in ids {
                if self.entries.get(&id).is_some_and(|e| e.revision == revision && e.state == State::Absent) {
                    self.entries.remove(&id);
                }
            }
        }
    }
}

/// Whether a seal is whole and names `instance`.
#[must_use]
pub fn written_by(seal: &Seal, instance: &str) -> bool {
    match seal {
        Seal::Intact { instance: writer } => **writer == *instance,
        Seal::Broken => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apisix::stored::ValueHash;

    fn slot(id: &str) -> WorkId {
        WorkId::new(Directory::StreamRoutes, id)
    }

    fn pool(id: &str) -> WorkId {
        WorkId::new(Directory::Upstreams, id)
    }

    fn ours(content: &str, pool: Option<WorkId>) -> Inspected {
        Inspected { seal: Seal::Intact { instance: "us".into() }, hash: ValueHash::of(content.as_bytes()), pool }
    }

    fn theirs(content: &str, pool: Option<WorkId>) -> Inspected {
        Inspected { seal: Seal::Broken, ..ours(content, pool) }
    }

    fn snapshot(revision: i64, documents: Vec<(WorkId, i64, Inspected)>) -> Snapshot {
        let documents = documents.into_iter().map(|(id, revision, doc)| (id, Revision(revision), doc)).collect();
        Snapshot { revision: Revision(revision), documents, ..Snapshot::default() }
    }

    fn mirror(at: i64, documents: Vec<(WorkId, i64, Inspected)>) -> Mirror {
        let mut mirror = Mirror::new("us".into());
        mirror.take_snapshot(snapshot(at, documents));
        mirror
    }

    fn revision(mirror: &Mirror, id: &WorkId) -> Option<i64> {
        mirror.stored(id).map(|stored| stored.revision.0)
    }

    #[test]
    fn it_is_whole_with_the_first_snapshot() {
        assert!(!Mirror::new("us".into()).whole());
        assert!(mirror(1, vec![]).whole());
    }

    #[test]
    fn the_newer_revision_wins_whatever_comes_first() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        assert!(mirror.learn(pool("p"), Revision(8), Some(ours("c", None))).is_some());
        assert_eq!(mirror.learn(pool("p"), Revision(7), Some(ours("b", None))), None);
        assert_eq!(mirror.learn(pool("p"), Revision(8), Some(ours("c", None))), None);
        assert_eq!(revision(&mirror, &pool("p")), Some(8));
    }

    #[test]
    fn a_rewrite_with_the_same_value_is_no_news_but_its_revision_counts() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        assert_eq!(mirror.learn(pool("p"), Revision(6), Some(ours("a", None))), None);
        assert_eq!(revision(&mirror, &pool("p")), Some(6));
    }

    #[test]
    fn a_late_change_does_not_bring_a_deleted_key_back() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        assert!(mirror.learn(pool("p"), Revision(9), None).is_some());
        assert_eq!(mirror.learn(pool("p"), Revision(7), Some(theirs("b", None))), None);
        assert_eq!(revision(&mirror, &pool("p")), None);
    }

    #[test]
    fn a_deleted_key_is_forgotten_once_the_watch_has_passed_it() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        mirror.learn(pool("p"), Revision(9), None);
        mirror.passed(Revision(8));
        assert_eq!(mirror.entries.len(), 1);
        mirror.passed(Revision(9));
        assert!(mirror.entries.is_empty() && mirror.tombstones.is_empty());
        mirror.learn(pool("q"), Revision(9), None);
        assert!(mirror.entries.is_empty(), "what is deleted behind the watch needs no trace");
    }

    #[test]
    fn an_answer_that_the_watch_has_overtaken_does_not_bring_a_deleted_key_back() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        mirror.learn(pool("p"), Revision(9), None);
        mirror.passed(Revision(9));
        assert_eq!(mirror.learn_read(pool("p"), Revision(7), Some(theirs("b", None))), None);
        assert_eq!(revision(&mirror, &pool("p")), None);
        assert!(mirror.learn_read(pool("p"), Revision(12), Some(theirs("c", None))).is_some());
        assert!(mirror.learn_read(pool("p"), Revision(13), Some(theirs("d", None))).is_some());
    }

    #[test]
    fn a_key_put_again_outlives_its_tombstone() {
        let mut mirror = mirror(5, vec![(pool("p"), 4, ours("a", None))]);
        mirror.learn(pool("p"), Revision(9), None);
        mirror.learn(pool("p"), Revision(11), Some(ours("b", None)));
        mirror.passed(Revision(20));
        assert_eq!(revision(&mirror, &pool("p")), Some(11));
    }

    #[test]
    fn a_second_snapshot_tells_what_changed_and_spares_what_was_written_since() {
        let mut mirror = mirror(
            5,
            vec![
                (pool("same"), 1, ours("a", None)),
                (pool("gone"), 2, ours("b", None)),
                (pool("edited"), 3, ours("c", None)),
            ],
        );
        mirror.learn(pool("written"), Revision(12), Some(ours("d", None)));
        let news = mirror.take_snapshot(snapshot(
            10,
            vec![
                (pool("same"), 1, ours("a", None)),
                (pool("edited"), 8, theirs("x", None)),
                (pool("new"), 9, ours("y", None)),
            ],
        ));
        let ids: Vec<&str> = news.iter().map(|news| &*news.id.id).collect();
        assert_eq!(ids, ["edited", "new", "gone"]);
        assert_eq!(revision(&mirror, &pool("written")), Some(12));
        assert_eq!(revision(&mirror, &pool("gone")), None);
    }

    #[test]
    fn a_snapshot_that_begins_anew_replaces_everything() {
        let mut mirror = mirror(50, vec![(pool("p"), 40, ours("a", None)), (pool("q"), 45, ours("b", None))]);
        let snapshot = snapshot(7, vec![(pool("p"), 3, ours("old", None))]);
        let news = mirror.take_snapshot(Snapshot { begins_anew: true, ..snapshot });
        assert_eq!(news.len(), 2);
        assert_eq!((revision(&mirror, &pool("p")), revision(&mirror, &pool("q"))), (Some(3), None));
        assert!(mirror.learn(pool("p"), Revision(8), Some(ours("new", None))).is_some());
    }

    #[test]
    fn a_snapshot_is_believed_also_where_it_goes_back() {
        let mut mirror = mirror(50, vec![(pool("p"), 40, ours("a", None)), (pool("q"), 45, ours("b", None))]);
        mirror.learn(pool("q"), Revision(70), Some(ours("c", None)));
        let documents = vec![(pool("p"), 30, theirs("x", None)), (pool("q"), 31, theirs("y", None))];
        let news = mirror.take_snapshot(snapshot(60, documents));
        assert_eq!(news.into_iter().map(|news| news.id).collect::<Vec<_>>(), [pool("p")]);
        assert_eq!((revision(&mirror, &pool("p")), revision(&mirror, &pool("q"))), (Some(30), Some(70)));
    }

    #[test]
    fn users_of_a_pool_are_ours_and_foreign_and_the_last_to_leave_is_told() {
        let p = Some(pool("p"));
        let mut mirror =
            mirror(5, vec![(slot("s"), 2, ours("a", p.clone())), (slot("foreign"), 3, theirs("b", p.clone()))]);
        assert_eq!(mirror.users(&pool("p")).cloned().collect::<Vec<_>>(), [slot("foreign"), slot("s")]);
        let news = mirror.learn(slot("s"), Revision(6), Some(ours("a", Some(pool("q"))))).unwrap();
        assert_eq!((news.before.unwrap().pool, news.left), (p, None));
        let news = mirror.learn(slot("foreign"), Revision(7), None).unwrap();
        assert_eq!(news.left, Some(pool("p")));
        assert_eq!(mirror.users(&pool("p")).count(), 0);
        assert_eq!(mirror.users(&pool("q")).count(), 1);
    }

    #[test]
    fn only_intact_documents_of_this_instance_are_counted() {
        let other = Inspected { seal: Seal::Intact { instance: "them".into() }, ..ours("c", None) };
        let mut mirror = mirror(
            5,
            vec![
                (pool("a"), 1, ours("a", None)),
                (pool("b"), 2, theirs("b", None)),
                (pool("c"), 3, other),
                (slot("s"), 4, ours("d", None)),
            ],
        );
        assert_eq!((mirror.n_ours(Directory::Upstreams), mirror.n_ours(Directory::StreamRoutes)), (1, 1));
        mirror.learn(pool("a"), Revision(6), Some(theirs("edited", None)));
        mirror.learn(slot("s"), Revision(7), None);
        assert_eq!((mirror.n_ours(Directory::Upstreams), mirror.n_ours(Directory::StreamRoutes)), (0, 0));
    }
}
