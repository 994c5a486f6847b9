//! The mirror: our copy of what etcd holds of one data plane in our directories. Snapshots, watch events and answers in, news out. Pure.
//!
//! Per key the newer revision wins, so that the order in which the same things are told can never matter. It holds no
//! values, only whose a document is, a hash of it, and what it names.

use super::{follow::Snapshot, txn::Revision};
use crate::{
    apisix::{
        ids::{self, SlotPlace},
        routing::Reach,
        stored::{Inspected, Seal},
    },
    model::places::{Directory, Plane, WorkId},
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
    /// The pool and the certificate that lost their last users by this change, if they did.
    pub left: Vec<WorkId>,
    /// The slots whose connections a stream_route that is not ours has stopped taking: those that gave way to it may be free.
    pub freed: Reach,
    /// The slots whose connections a stream_route that is not ours has begun to take.
    pub taken: Reach,
}

/// Our copy of what etcd holds of one data plane.
#[derive(Debug)]
pub struct Mirror {
    plane: Plane,
    instance: Arc<str>,
    entries: HashMap<WorkId, Entry>,
    /// Pool to the stream_routes that name it, ours and foreign alike, and certificate to those that need it.
    users: HashMap<WorkId, BTreeSet<WorkId>>,
    /// Stream_routes that are not as this instance wrote them, by the slots they can take connections from; nearly always few.
    strangers: BTreeMap<Reach, BTreeSet<WorkId>>,
    /// Ports whose slot is as this instance wrote it and has a stranger of that port beside it.
    overlapped: BTreeSet<SlotPlace>,
    n_overlap_changes: u64,
    tombstones: BTreeMap<Revision, Vec<WorkId>>,
    n_ours: BTreeMap<Directory, usize>,
    /// Everything up to this revision has been told; `None` before the first snapshot.
    told: Option<Revision>,
}

impl Mirror {
    /// Of a data plane of which nothing is known yet. `instance` is the one whose documents are counted.
    #[must_use]
    pub fn new(plane: Plane, instance: Arc<str>) -> Self {
        Self {
            plane,
            instance,
            entries: HashMap::new(),
            users: HashMap::new(),
            strangers: BTreeMap::new(),
            overlapped: BTreeSet::new(),
            n_overlap_changes: 0,
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

    /// The stream_routes that name a pool, ours and foreign alike, or that need a certificate, in order.
    pub fn users(&self, id: &WorkId) -> impl Iterator<Item = &WorkId> {
        self.users.get(id).into_iter().flatten()
    }

    /// A stored stream_route elsewhere that can take connections of `slot` and is not as this instance wrote it; the first
    /// of them by id. Before `slot` is put, it keeps `slot` away; beside one that is there it came later.
    #[must_use]
    pub fn overlapping(&self, slot: &WorkId) -> Option<&WorkId> {
        let of = |reach: Reach| self.strangers.get(&reach).into_iter().flatten().find(|id| *id != slot);
        Reach::into(SlotPlace::of(slot)?).into_iter().filter_map(of).min()
    }

    /// How many slots that are as this instance wrote them have a stream_route beside them as [`Mirror::overlapping`] finds.
    #[must_use]
    pub fn n_overlapped(&self) -> usize {
        if self.strangers.keys().any(|reach| reaches_everywhere(*reach)) {
            return self.n_ours(Directory::StreamRoutes);
        }
        self.overlapped.len()
    }

    /// The stream_routes that [`Mirror::n_overlapped`] is about, each once: with the place of the slot it is beside, or `None`
    /// where it may be beside every slot. Costs what overlaps, not what there is.
    pub fn overlaps(&self) -> impl Iterator<Item = (&WorkId, Option<SlotPlace>)> {
        let one = |place: &SlotPlace| {
            let place = *place;
            let [alone, _] = Reach::into(place);
            self.strangers.get(&alone).into_iter().flatten().map(move |id| (id, Some(place)))
        };
        let any = self.n_ours(Directory::StreamRoutes) > 0;
        let everywhere = self.strangers.iter().filter(move |(reach, _)| any && reaches_everywhere(**reach));
        let beside_all = everywhere.flat_map(|(_, ids)| ids).map(|id| (id, None));
        self.overlapped.iter().flat_map(one).chain(beside_all)
    }

    /// Grows whenever [`Mirror::overlaps`] may have become another.
    #[must_use]
    pub fn n_overlap_changes(&self) -> u64 {
        self.n_overlap_changes
    }

    /// Whether there is a document that this instance wrote, or that may have been its own before somebody edited it.
    #[must_use]
    pub fn holds_ours(&self) -> bool {
        self.n_ours.values().any(|n_ours| *n_ours > 0) || self.unsealed().next().is_some()
    }

    /// Documents of our shape without an intact seal: those whose owner hangs on who has a checkpoint. Looks at every entry.
    pub fn unsealed(&self) -> impl Iterator<Item = &WorkId> {
        let unsealed = |(id, entry): &(&WorkId, &Entry)| ids::is_our_shape(&id.id) && entry.state.is_unsealed();
        self.entries.iter().filter(unsealed).map(|(id, _)| id)
    }

    /// Everything up to this revision has been told; `None` before the first snapshot.
    #[must_use]
    pub fn told(&self) -> Option<Revision> {
        self.told
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
        let turned = self.count(id.directory, before.as_ref(), after.as_ref());
        let left = self.index(&id, before.as_ref(), after.as_ref());
        let (freed, taken) = self.index_stranger(&id, before.as_ref(), after.as_ref());
        self.index_overlaps(turned.then_some(&id), freed, taken);
        Some(News { id, before, left, freed, taken })
    }

    /// Keeps `strangers`; gives what this one has stopped to take and what it has begun to take.
    fn index_stranger(&mut self, id: &WorkId, before: Option<&Inspected>, after: Option<&Inspected>) -> (Reach, Reach) {
        let reach = |inspected: Option<&Inspected>| match inspected {
            Some(Inspected { seal, reach, .. }) if !written_by(seal, &self.instance) && !is_own_place(id, *reach) => {
                *reach
            }
            Some(_) | None => Reach::Nothing,
        };
        let (before, after) = (reach(before), reach(after));
        if before == after {
            return (Reach::Nothing, Reach::Nothing);
        }
        if let Some(ids) = self.strangers.get_mut(&before) {
            ids.remove(id);
            if ids.is_empty() {
                self.strangers.remove(&before);
            }
        }
        if after != Reach::Nothing {
            self.strangers.entry(after).or_default().insert(id.clone());
        }
        (before, after)
    }

    /// Keeps `overlapped`, when `turned` has become or ceased to be ours and strangers have freed and taken connections.
    fn index_overlaps(&mut self, turned: Option<&WorkId>, freed: Reach, taken: Reach) {
        let strangers_turned = (freed, taken) != (Reach::Nothing, Reach::Nothing);
        if !strangers_turned && (turned.is_none() || self.strangers.is_empty()) {
            return;
        }
        self.n_overlap_changes += 1;
        let places = [turned.and_then(SlotPlace::of), freed.only(), taken.only()];
        for place in places.into_iter().flatten() {
            let ours =
                self.stored(&place.id(self.plane)).is_some_and(|slot| written_by(&slot.inspected.seal, &self.instance));
            let [alone, _] = Reach::into(place);
            if ours && self.strangers.contains_key(&alone) {
                self.overlapped.insert(place);
            } else {
                self.overlapped.remove(&place);
            }
        }
    }

    /// Keeps `n_ours`; gives whether the document has become or ceased to be ours.
    fn count(&mut self, directory: Directory, before: Option<&Inspected>, after: Option<&Inspected>) -> bool {
        let ours = |inspected: Option<&Inspected>| {
            inspected.is_some_and(|inspected| written_by(&inspected.seal, &self.instance))
        };
        let (before, after) = (ours(before), ours(after));
        let n_ours = self.n_ours.entry(directory).or_default();
        *n_ours = (*n_ours + usize::from(after)).saturating_sub(usize::from(before));
        before != after
    }

    /// Moves `id` from the users of what it needed to those of what it needs; gives what nobody uses any more.
    fn index(&mut self, id: &WorkId, before: Option<&Inspected>, after: Option<&Inspected>) -> Vec<WorkId> {
        let (before, after) = (needs(before), needs(after));
        if before == after {
            return Vec::new();
        }
        for new in after.difference(&before) {
            self.users.entry((*new).clone()).or_default().insert(id.clone());
        }
        let mut left = Vec::new();
        for old in before.difference(&after) {
            if let Some(users) = self.users.get_mut(*old) {
                users.remove(id);
                if users.is_empty() {
                    self.users.remove(*old);
                    left.push((*old).clone());
                }
            }
        }
        left
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

impl State {
    fn is_unsealed(&self) -> bool {
        match self {
            Self::Present(inspected) => inspected.seal == Seal::Broken,
            Self::Absent => false,
        }
    }
}

fn needs(inspected: Option<&Inspected>) -> BTreeSet<&WorkId> {
    inspected.into_iter().flat_map(Inspected::needs).collect()
}

/// Whether a document at `id` takes connections of no slot but the one that belongs there.
fn is_own_place(id: &WorkId, reach: Reach) -> bool {
    reach.only().is_some_and(|place| SlotPlace::of(id) == Some(place))
}

/// Whether a stream_route may take connections of more than one slot.
fn reaches_everywhere(reach: Reach) -> bool {
    reach != Reach::Nothing && reach.only().is_none()
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
    use crate::{apisix::stored::ValueHash, model::places::Plane};

    fn slot(id: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::StreamRoutes, id)
    }

    fn pool(id: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, id)
    }

    fn ours(content: &str, pool: Option<WorkId>) -> Inspected {
        let (seal, hash) = (Seal::Intact { instance: "us".into() }, ValueHash::of(content.as_bytes()));
        Inspected { seal, hash, sealed_as: None, pool, certificate: None, reach: Reach::Nothing }
    }

    fn theirs(content: &str, pool: Option<WorkId>) -> Inspected {
        Inspected { seal: Seal::Broken, ..ours(content, pool) }
    }

    fn snapshot(revision: i64, documents: Vec<(WorkId, i64, Inspected)>) -> Snapshot {
        let documents = documents.into_iter().map(|(id, revision, doc)| (id, Revision(revision), doc)).collect();
        Snapshot { revision: Revision(revision), documents, ..Snapshot::default() }
    }

    fn mirror(at: i64, documents: Vec<(WorkId, i64, Inspected)>) -> Mirror {
        let mut mirror = Mirror::new(Plane::default(), "us".into());
        mirror.take_snapshot(snapshot(at, documents));
        mirror
    }

    fn revision(mirror: &Mirror, id: &WorkId) -> Option<i64> {
        mirror.stored(id).map(|stored| stored.revision.0)
    }

    #[test]
    fn it_is_whole_with_the_first_snapshot() {
        assert!(!Mirror::new(Plane::default(), "us".into()).whole());
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
        assert_eq!((news.before.unwrap().pool, news.left), (p, Vec::new()));
        let news = mirror.learn(slot("foreign"), Revision(7), None).unwrap();
        assert_eq!(news.left, [pool("p")]);
        assert_eq!(mirror.users(&pool("p")).count(), 0);
        assert_eq!(mirror.users(&pool("q")).count(), 1);
    }

    fn certificate(id: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Ssls, id)
    }

    fn secured(content: &str, pool: &WorkId, certificate: &WorkId) -> Inspected {
        Inspected { certificate: Some(certificate.clone()), ..ours(content, Some(pool.clone())) }
    }

    #[test]
    fn users_of_a_certificate_are_the_slots_that_need_it_and_whoever_is_left_is_told_pool_and_certificate_alike() {
        let ([p, q], [c, d]) = (["p", "q"].map(pool), ["c", "d"].map(certificate));
        let mut mirror = mirror(5, vec![(slot("s"), 2, secured("a", &p, &c)), (slot("t"), 3, secured("b", &p, &c))]);
        assert_eq!(mirror.users(&c).cloned().collect::<Vec<_>>(), [slot("s"), slot("t")]);
        let left =
            |mirror: &mut Mirror, at, id: &str, stored| mirror.learn(slot(id), Revision(at), stored).unwrap().left;
        assert_eq!(left(&mut mirror, 6, "s", Some(secured("a2", &p, &d))), []);
        assert_eq!(mirror.users(&d).cloned().collect::<Vec<_>>(), [slot("s")]);
        assert_eq!(left(&mut mirror, 7, "t", Some(secured("b2", &p, &d))), std::slice::from_ref(&c));
        assert_eq!(left(&mut mirror, 8, "t", None), []);
        assert_eq!(left(&mut mirror, 9, "s", Some(secured("a3", &q, &d))), std::slice::from_ref(&p));
        assert_eq!(left(&mut mirror, 10, "s", None), [q, d]);
        assert!(mirror.users.is_empty());
    }

    #[test]
    fn an_edit_of_a_slot_leaves_its_certificate_and_not_its_pool() {
        let (p, c) = (pool("p"), certificate("c"));
        let mut mirror = mirror(5, vec![(slot("s"), 2, secured("a", &p, &c)), (c.clone(), 1, ours("c", None))]);
        assert_eq!((mirror.n_ours(Directory::Ssls), mirror.n_ours(Directory::StreamRoutes)), (1, 1));
        let news = mirror.learn(slot("s"), Revision(6), Some(theirs("x", Some(p.clone())))).unwrap();
        assert_eq!(
            (news.left, mirror.users(&p).count(), mirror.n_ours(Directory::StreamRoutes)),
            (vec![c.clone()], 1, 0)
        );
        mirror.learn(slot("s"), Revision(7), Some(secured("a", &p, &c)));
        assert_eq!((mirror.users(&c).count(), mirror.users(&p).count()), (1, 1));
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

    fn reaching(reach: Reach) -> Inspected {
        Inspected { reach, ..theirs(&format!("{reach:?}"), None) }
    }

    fn port(port: u16) -> Reach {
        Reach::Port(port.try_into().unwrap())
    }

    #[test]
    fn a_stream_route_that_takes_a_slots_connections_is_found_whoever_wrote_it_unless_we_did() {
        let them = Inspected { seal: Seal::Intact { instance: "them".into() }, ..reaching(port(9300)) };
        let mut mirror = mirror(
            5,
            vec![
                (slot("1"), 1, reaching(port(9100))),
                (slot("2"), 1, reaching(Reach::Nothing)),
                (slot("gateway-api.9200"), 2, reaching(port(9201))),
                (slot("gateway-api.later"), 3, them),
                (slot("gateway-api.9400"), 4, reaching(port(9400))),
                (slot("gateway-api.9500"), 4, Inspected { reach: port(9501), ..ours("mine", None) }),
            ],
        );
        let found = |mirror: &Mirror, name: &str| mirror.overlapping(&slot(name)).map(|id| id.id.to_string());
        let one = |name: &str| Some(name.to_owned());
        assert_eq!(found(&mirror, "gateway-api.9100"), one("1"));
        assert_eq!(found(&mirror, "gateway-api.9201"), one("gateway-api.9200"));
        assert_eq!(found(&mirror, "gateway-api.9300"), one("gateway-api.later"));
        for slot in ["gateway-api.9400", "gateway-api.9501", "gateway-api.9200", "gateway-api.later", "9100"] {
            assert_eq!(found(&mirror, slot), None, "{slot}");
        }

        mirror.learn(slot("0"), Revision(6), Some(reaching(Reach::EveryPort)));
        for at in ["gateway-api.9100", "gateway-api.9400"] {
            assert_eq!(found(&mirror, at), one("0"), "{at}");
        }
        assert_eq!(mirror.overlapping(&pool("gateway-api.9100")), None);
    }

    #[test]
    fn an_edited_slot_of_ours_that_takes_everything_is_beside_all_others_but_not_beside_itself() {
        let mirror = mirror(5, vec![(slot("gateway-api.9100"), 1, reaching(Reach::EveryPort))]);
        assert_eq!(mirror.overlapping(&slot("gateway-api.9100")), None);
        assert_eq!(mirror.overlapping(&slot("gateway-api.9101")), Some(&slot("gateway-api.9100")));
    }

    #[test]
    fn what_a_stranger_takes_and_frees_is_told_and_nothing_is_kept_of_those_that_are_gone() {
        let mut mirror = mirror(5, vec![]);
        let mut learn = |revision, stored| {
            let news = mirror.learn(slot("1"), Revision(revision), stored).unwrap();
            (news.freed, news.taken)
        };
        assert_eq!(learn(6, Some(reaching(port(9100)))), (Reach::Nothing, port(9100)));
        let rewritten = Inspected { hash: ValueHash::of(b"other"), ..reaching(port(9100)) };
        assert_eq!(learn(7, Some(rewritten)), (Reach::Nothing, Reach::Nothing));
        assert_eq!(learn(8, Some(reaching(Reach::EveryPort))), (port(9100), Reach::EveryPort));
        assert_eq!(learn(9, Some(reaching(Reach::Nothing))), (Reach::EveryPort, Reach::Nothing));
        assert_eq!(learn(10, Some(reaching(port(1)))), (Reach::Nothing, port(1)));
        assert_eq!(learn(11, None), (port(1), Reach::Nothing));
        assert!(mirror.strangers.is_empty());
    }

    #[test]
    fn a_document_of_ours_that_was_put_right_frees_what_its_edit_took() {
        let mut mirror = mirror(5, vec![(slot("gateway-api.9100"), 4, reaching(port(9101)))]);
        let news = mirror.learn(slot("gateway-api.9100"), Revision(6), Some(ours("a", None))).unwrap();
        assert_eq!((news.freed, news.taken), (port(9101), Reach::Nothing));
        assert!(mirror.strangers.is_empty());
    }

    #[test]
    fn a_slot_that_somebody_edited_in_its_own_place_is_in_nobodys_way() {
        let mut mirror = mirror(5, vec![(slot("gateway-api.9100"), 4, reaching(port(9100)))]);
        assert!(mirror.strangers.is_empty());
        let news = mirror.learn(slot("gateway-api.9100"), Revision(6), None).unwrap();
        assert_eq!((news.freed, news.taken), (Reach::Nothing, Reach::Nothing));
    }

    #[test]
    fn slots_of_ours_with_a_stranger_beside_them_are_counted() {
        let mut mirror = mirror(
            5,
            vec![
                (slot("gateway-api.9100"), 1, ours("a", None)),
                (slot("gateway-api.9200"), 1, ours("b", None)),
                (slot("1"), 1, reaching(port(9100))),
                (slot("2"), 1, reaching(port(9100))),
                (slot("3"), 1, reaching(port(9300))),
            ],
        );
        let found = |mirror: &Mirror| {
            let overlaps = mirror
                .overlaps()
                .map(|(id, place)| format!("{}: {}", id.id, place.map_or(0, |place| place.port().get())));
            (mirror.n_overlapped(), overlaps.collect::<Vec<_>>())
        };
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(found(&mirror), (1, texts(&["1: 9100", "2: 9100"])));
        let before = mirror.n_overlap_changes();
        mirror.learn(slot("3"), Revision(6), Some(reaching(Reach::EveryPort)));
        assert_eq!(found(&mirror), (2, texts(&["1: 9100", "2: 9100", "3: 0"])));
        mirror.learn(slot("3"), Revision(7), None);
        mirror.learn(slot("1"), Revision(8), Some(reaching(port(9200))));
        assert_eq!(found(&mirror), (2, texts(&["2: 9100", "1: 9200"])));
        assert_eq!(mirror.n_overlap_changes(), before + 3);
        mirror.learn(slot("gateway-api.9100"), Revision(9), None);
        assert_eq!(found(&mirror), (1, texts(&["1: 9200"])));
        mirror.learn(slot("gateway-api.9100"), Revision(10), Some(ours("a", None)));
        mirror.learn(slot("1"), Revision(11), None);
        assert_eq!(found(&mirror), (1, texts(&["2: 9100"])));
        mirror.learn(slot("2"), Revision(12), None);
        assert_eq!((found(&mirror), mirror.overlapped.len()), ((0, texts(&[])), 0));
        let before = mirror.n_overlap_changes();
        mirror.learn(slot("gateway-api.9300"), Revision(13), Some(ours("c", None)));
        assert_eq!(mirror.n_overlap_changes(), before, "nobody is there to overlap");
    }

    #[test]
    fn documents_of_our_shape_without_a_seal_are_found() {
        let mirror = mirror(
            5,
            vec![
                (slot("gateway-api.9100"), 1, theirs("a", None)),
                (slot("gateway-api.9200"), 1, ours("b", None)),
                (slot("1"), 1, theirs("c", None)),
            ],
        );
        assert_eq!(mirror.unsealed().collect::<Vec<_>>(), [&slot("gateway-api.9100")]);
    }
}
