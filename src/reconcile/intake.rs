//! What the cluster and the store tell: events in, ids that may need work out. Nothing is written here.

use super::{State, holds::Cause, metrics::Drift, work::Heard};
use crate::{
    apisix::{
        ids::{SlotPlace, is_our_shape},
        routing::Reach,
        stored::{Inspected, Seal},
    },
    cluster::{ClusterEvent, ListedObject},
    leader::Again,
    model::{
        names::{Kind, ObjectName, ObjectRef},
        places::{Directory, Plane, WorkId},
        versions::CacheVersion,
    },
    plan::step::Unsealed,
    status::queue::StatusSink,
    store::{
        follow::{KeyEvent, PlaneEvent, Snapshot, StoreEvent, control::ControlEvent},
        mirror::{News, written_by},
    },
    translate::desired::{Affected, Wanted},
};
use std::time::Instant;

impl<K: StatusSink> State<K> {
    pub(super) fn cluster_event(&mut self, event: ClusterEvent, now: Instant) {
        match event {
            ClusterEvent::Identity(cluster) => {
                self.identity = Some(cluster);
                self.judge(now);
            }
            ClusterEvent::Served(served) => {
                self.report.served(&served);
                let affected = self.desired.set_served(served);
                self.affected(affected, None);
            }
            ClusterEvent::NotServed(kind) => {
                tracing::info!(%kind, "not served; it is not waited for");
                self.waiting_for.remove(&kind);
                self.not_served.insert(kind);
            }
            ClusterEvent::Waiting { kind, reason } => {
                if let Some(why) = self.waiting_for.get_mut(&kind) {
                    *why = Some(reason);
                }
            }
            ClusterEvent::Reached { kind, version } => self.reached(kind, Some(version), now),
            ClusterEvent::Listed { kind, objects, version, ticket, at } => {
                self.listed(kind, objects, at, now);
                self.list_stands_at(kind, version, ticket, now);
            }
            ClusterEvent::Changed { change, status, version, at } => {
                let kind = change.kind;
                self.reached(kind, version, now);
                let object = ObjectRef::new(kind, change.name.clone());
                self.report.seen(object, change.observed.is_some().then_some(status));
                self.note(change, at, now);
                self.metrics.objects_known(kind, self.desired.object_count(kind));
            }
        }
    }

    fn listed(&mut self, kind: Kind, objects: Vec<ListedObject>, at: Instant, now: Instant) {
        self.settle_changes(now);
        // What was there before us is no change that took its time.
        if self.warm() {
            self.noted(at);
        }
        self.waiting_for.remove(&kind);
        self.not_served.remove(&kind);
        self.report.forget(kind);
        let mut listed: Vec<(ObjectName, _)> = Vec::with_capacity(objects.len());
        for ListedObject { name, observed, status } in objects {
            self.report.seen(ObjectRef::new(kind, name.clone()), Some(status));
            listed.push((name, observed));
        }
        tracing::debug!(%kind, n_objects = listed.len(), "took in a list");
        self.desired.note_list(kind, listed);
        self.settle_as(Some(&Cause::List(kind)), now);
        self.unguard(kind);
        self.metrics.objects_known(kind, self.desired.object_count(kind));
    }

    /// The kind has been told up to `version`.
    fn reached(&mut self, kind: Kind, version: Option<CacheVersion>, now: Instant) {
        let Some(version) = version else { return };
        let known = self.versions.entry(kind).or_insert(version);
        *known = version.max(*known);
        // It may have been what stopped this replica that it was behind.
        if self.halted.is_some() {
            self.judge(now);
        }
    }

    fn list_stands_at(&mut self, kind: Kind, version: Option<CacheVersion>, ticket: u64, now: Instant) {
        match version {
            // As it is: a list of a restored cluster is older than what was known.
            Some(version) => drop(self.versions.insert(kind, version)),
            None => drop(self.versions.remove(&kind)),
        }
        let answered = self.tickets.entry(kind).or_default();
        *answered = ticket.max(*answered);
        self.check_list(kind, now);
        self.judge(now);
    }

    pub(super) fn control_event(&mut self, event: ControlEvent, now: Instant) {
        self.judge_strays(&event);
        self.control.take(event);
        self.forget_cleared();
        self.control_told(now);
    }

    pub(super) fn noted(&mut self, at: Instant) {
        self.noted_since = Some(self.noted_since.map_or(at, |since| since.min(at)));
    }

    pub(super) fn affected(&mut self, affected: Affected, at: Option<Instant>) {
        let Affected { documents, planes, verdicts } = affected;
        for id in documents {
            if let Some(at) = at {
                self.changed_at.entry(id.clone()).or_insert(at);
            }
            self.add(id);
        }
        for plane in planes {
            self.look_at_all_of(plane);
        }
        for object in verdicts {
            self.report.touch(object);
        }
    }

    /// `id` may need work, and with a pool or certificate the slots that need it: whether they can be put, or stay, hangs on
    /// it.
    pub(super) fn add(&mut self, id: WorkId) {
        match id.directory {
            Directory::Upstreams | Directory::Ssls => {
                for slot in self.mirror.users(&id).filter(|slot| is_our_shape(&slot.id)) {
                    self.work.add(slot.clone());
                }
            }
            Directory::StreamRoutes => {}
        }
        match id.directory {
            // Slots that are not in etcd yet; those of a pool change with their route.
            Directory::Ssls => {
                for slot in self.desired.slots_needing(&id) {
                    self.work.add(slot);
                }
            }
            Directory::Upstreams | Directory::StreamRoutes => {}
        }
        self.work.add(id);
    }

    pub(super) fn store_event(&mut self, event: PlaneEvent, now: Instant) {
        let PlaneEvent { plane, event } = event;
        if self.mirror.of(plane).is_none() {
            return;
        }
        // Whether an edit is drift hangs on what is wanted now.
        self.settle_changes(now);
        match event {
            StoreEvent::Snapshot(snapshot) => self.snapshot(plane, snapshot, now),
            StoreEvent::Changed { revision, events } => {
                for event in events {
                    match event {
                        KeyEvent::Document { id, revision, stored } => {
                            if let Some(heard) = self.work.hear(Heard { id, revision, stored }) {
                                self.learn(heard, now);
                            }
                        }
                        KeyEvent::TrafficSplit(listed) => self.desired.note_traffic_split(plane, listed),
                    }
                }
                self.mirror.passed(plane, revision);
                self.count_documents();
            }
            StoreEvent::Disconnected => {
                self.following_since.remove(&plane);
                self.unreachable.insert(plane);
                if !self.mirror.whole(plane) {
                    // Nobody knows when its documents can be written.
                    self.report.stop_waiting();
                }
            }
            StoreEvent::Reconnected => {
                self.following_since.insert(plane, now);
                self.unreachable.remove(&plane);
            }
        }
    }

    fn snapshot(&mut self, plane: Plane, snapshot: Snapshot, now: Instant) {
        let first = !self.mirror.whole(plane);
        let (revision, n_documents) = (snapshot.revision, snapshot.documents.len());
        self.store_id = Some(snapshot.store);
        self.doubted = false;
        if snapshot.begins_anew {
            // Nothing is left of what our term, or anybody's, was built on.
            self.control.outdated();
            self.resign(Again::AtOnce, now);
        }
        let listed = snapshot.traffic_split;
        let news = self.mirror.take_snapshot(plane, snapshot).unwrap_or_default();
        // An answer that is still to come may be older than the snapshot, and must not bring back what that lacks.
        let lacks = |id: &&WorkId| id.plane == plane && self.mirror.stored(id).is_none();
        let lacking: Vec<WorkId> = self.work.writing().filter(lacks).cloned().collect();
        for id in lacking {
            self.work.hear(Heard { id, revision, stored: None });
        }
        tracing::info!(%plane, %revision, n_documents, n_different = news.len(), "read etcd");
        self.following_since.insert(plane, now);
        self.unreachable.remove(&plane);
        for news in news {
            if first {
                self.add(news.id);
            } else {
                self.react(news, now);
            }
        }
        self.desired.note_traffic_split(plane, listed);
        self.count_documents();
        if first {
            self.plane_read(plane, now);
        }
    }

    /// Takes what the watch or an answer told of a document into the mirror, and what is new about it into account.
    pub(super) fn learn(&mut self, heard: Heard, now: Instant) {
        let Heard { id, revision, stored } = heard;
        if let Some(news) = self.mirror.learn(id, revision, stored) {
            self.react(news, now);
        }
    }

    pub(super) fn react(&mut self, news: News, now: Instant) {
        let News { id, before, left, freed, taken } = news;
        self.reached_by_others(&id, freed, taken);
        self.mind_holds(&id);
        for unneeded in left {
            self.left(unneeded, now);
        }
        if !is_our_shape(&id.id) && !id.is_placeholder() {
            return;
        }
        if self.leading().is_some() {
            self.look_for_drift(&id, before.as_ref());
        }
        self.add(id);
    }

    /// A stream_route that is not ours stopped, or began, to take connections of these slots: who gave way to it may be
    /// written, who is not written yet has to give way.
    pub(super) fn reached_by_others(&mut self, id: &WorkId, freed: Reach, taken: Reach) {
        for reach in [freed, taken] {
            match reach {
                Reach::Nothing => {}
                Reach::Port(port) => self.work.add(SlotPlace::Port(port).id(id.plane)),
                Reach::Name(port, name) => self.work.add(SlotPlace::Name(port, name).id(id.plane)),
                Reach::EveryPort | Reach::NameOnEveryPort(_) => self.reached_everywhere = true,
            }
        }
        if taken != Reach::Nothing && !is_our_shape(&id.id) {
            tracing::debug!(key = id.key(), "a stream_route of somebody else may take connections");
        }
    }

    /// Looks at every slot that a stream_route of any port may keep away: those that are not in etcd, for what is there was
    /// there first. Once for all that was told since the last time, as a script may edit thousands in one go.
    pub(super) fn look_where_others_reach(&mut self) {
        if !std::mem::take(&mut self.reached_everywhere) {
            return;
        }
        for slot in self.desired.held_slots().filter(|slot| self.mirror.stored(slot).is_none()) {
            self.work.add(slot);
        }
    }

    /// A pool or certificate has lost its last user: if it is not wanted, its time has come, after a while.
    pub(super) fn left(&mut self, id: WorkId, now: Instant) {
        self.departures.left(id.clone(), now, self.settings.pool_linger);
        self.work.add(id);
    }

    /// Drift is judged by content: a whole seal of ours is an older translation, and an unwanted document that is gone is
    /// no loss, whoever did it.
    pub(super) fn look_for_drift(&mut self, id: &WorkId, before: Option<&Inspected>) {
        let ours = |inspected: &Inspected| written_by(&inspected.seal, &self.settings.instance);
        let drift = match self.mirror.stored(id).map(|stored| stored.inspected) {
            Some(now) if ours(now) || id.is_placeholder() => return,
            Some(now) => match (&now.seal, self.unsealed(id.plane)) {
                // Another instance took an id that was not ours: its good right.
                (Seal::Intact { .. }, _) if !before.is_some_and(ours) => return,
                (Seal::Broken, Unsealed::Foreign) => return,
                (Seal::Intact { .. } | Seal::Broken, _) => Drift::Edited,
            },
            None if before.is_none() => return,
            None => match self.wanted(id) {
                Wanted::Document(_) | Wanted::Kept { otherwise: Some(_) } => Drift::Deleted,
                Wanted::Absent | Wanted::Kept { otherwise: None } | Wanted::Refused(_) => return,
            },
        };
        tracing::info!(key = id.key(), what = ?drift, "found a document changed behind our back");
        self.metrics.drift_detected(drift);
        self.drifted.insert(id.clone());
    }

    pub(super) fn count_documents(&self) {
        for directory in Directory::ALL {
            self.metrics.documents_stored(directory, self.mirror.n_ours(directory));
        }
        self.metrics.slots_overlapped(self.mirror.n_overlapped());
    }
}
