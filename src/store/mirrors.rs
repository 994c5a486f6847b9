//! The mirrors of all data planes that are followed, as one. Pure.

use super::{
    follow::Snapshot,
    mirror::{Known, Mirror, News, Stored},
    txn::Revision,
};
use crate::{
    apisix::{ids::SlotPlace, stored::Inspected},
    model::places::{Directory, Plane, WorkId},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Our copies of what etcd holds, by data plane.
#[derive(Debug)]
pub struct Mirrors {
    instance: Arc<str>,
    planes: BTreeMap<Plane, Mirror>,
    /// Changes of overlaps on data planes that are not followed any more, so that the number never shrinks.
    n_overlap_changes: u64,
}

impl Mirrors {
    /// Of no data plane yet. `instance` is the one whose documents are counted.
    #[must_use]
    pub fn new(instance: Arc<str>) -> Self {
        Self { instance, planes: BTreeMap::new(), n_overlap_changes: 0 }
    }

    /// Keeps a mirror of each of these data planes, and of no others. What was known of those that are left is forgotten.
    pub fn follow(&mut self, planes: &BTreeSet<Plane>) {
        let gone: Vec<Plane> = self.planes.keys().filter(|plane| !planes.contains(plane)).copied().collect();
        for mirror in gone.iter().filter_map(|plane| self.planes.remove(plane)) {
            self.n_overlap_changes += mirror.n_overlap_changes() + 1;
        }
        for plane in planes {
            self.planes.entry(*plane).or_insert_with(|| Mirror::new(*plane, self.instance.clone()));
        }
    }

    /// The mirror of a data plane that is followed.
    #[must_use]
    pub fn of(&self, plane: Plane) -> Option<&Mirror> {
        self.planes.get(&plane)
    }

    /// Whether there has been a snapshot of a data plane.
    #[must_use]
    pub fn whole(&self, plane: Plane) -> bool {
        self.of(plane).is_some_and(Mirror::whole)
    }

    /// The data planes that are followed, in order.
    pub fn planes(&self) -> impl Iterator<Item = Plane> {
        self.planes.keys().copied()
    }

    /// Up to which revision each data plane has been told.
    #[must_use]
    pub fn told(&self) -> BTreeMap<Plane, Revision> {
        self.planes.iter().filter_map(|(plane, mirror)| Some((*plane, mirror.told()?))).collect()
    }

    /// See [`Mirror::stored`].
    #[must_use]
    pub fn stored(&self, id: &WorkId) -> Option<Stored<'_>> {
        self.of(id.plane)?.stored(id)
    }

    /// See [`Mirror::known`].
    pub fn known(&self) -> impl Iterator<Item = (&WorkId, Known)> {
        self.planes.values().flat_map(Mirror::known)
    }

    /// See [`Mirror::users`].
    pub fn users(&self, id: &WorkId) -> impl Iterator<Item = &WorkId> {
        self.of(id.plane).into_iter().flat_map(|mirror| mirror.users(id))
    }

    /// See [`Mirror::overlapping`].
    #[must_use]
    pub fn overlapping(&self, slot: &WorkId) -> Option<&WorkId> {
        self.of(slot.plane)?.overlapping(slot)
    }

    /// See [`Mirror::n_overlapped`].
    #[must_use]
    pub fn n_overlapped(&self) -> usize {
        self.planes.values().map(Mirror::n_overlapped).sum()
    }

    /// See [`Mirror::overlaps`].
    pub fn overlaps(&self) -> impl Iterator<Item = (&WorkId, Option<SlotPlace>)> {
        self.planes.values().flat_map(Mirror::overlaps)
    }

    /// See [`Mirror::n_overlap_changes`].
    #[must_use]
    pub fn n_overlap_changes(&self) -> u64 {
        self.n_overlap_changes + self.planes.values().map(Mirror::n_overlap_changes).sum::<u64>()
    }

    /// See [`Mirror::unsealed`].
    pub fn unsealed(&self) -> impl Iterator<Item = &WorkId> {
        self.planes.values().flat_map(Mirror::unsealed)
    }

    /// How many documents of a directory are as this instance wrote them, on all data planes.
    #[must_use]
    pub fn n_ours(&self, directory: Directory) -> usize {
        self.planes.values().map(|mirror| mirror.n_ours(directory)).sum()
    }

    /// See [`Mirror::take_snapshot`]; `None` of a data plane that is not followed any more.
    pub fn take_snapshot(&mut self, plane: Plane, snapshot: Snapshot) -> Option<Vec<News>> {
        Some(self.planes.get_mut(&plane)?.take_snapshot(snapshot))
    }

    /// See [`Mirror::learn`].
    pub fn learn(&mut self, id: WorkId, revision: Revision, inspected: Option<Inspected>) -> Option<News> {
        self.planes.get_mut(&id.plane)?.learn(id, revision, inspected)
    }

    /// See [`Mirror::learn_read`].
    pub fn learn_read(&mut self, id: WorkId, revision: Revision, inspected: Option<Inspected>) -> Option<News> {
        self.planes.get_mut(&id.plane)?.learn_read(id, revision, inspected)
    }

    /// See [`Mirror::passed`].
    pub fn passed(&mut self, plane: Plane, revision: Revision) {
        if let Some(mirror) = self.planes.get_mut(&plane) {
            mirror.passed(revision);
        }
    }
}
