//! What must hold after every revision and of every status, looked up in a history. The history goes in, the first breach
//! comes out.
//!
//! A replica cannot react to what it was not told yet. What it could know is in the history, too, so that it is blamed for
//! nothing else.

use super::{
    INSTANCE, PREFIX,
    history::{Event, History, Written},
    known::Known,
};
use apisix_etcd_controller::{
    apisix::{
        ids::{self, SlotPlace},
        routing::Reach,
        stored::{Inspected, Seal, inspect},
    },
    model::{
        names::Kind,
        places::{Directory, Plane, WorkId},
    },
    status::queue::StatusUpdate,
    store::{
        KeyChange, StoreId,
        checkpoint::Checkpoint,
        control::{ControlKeys, Purpose},
        mirror::written_by,
        txn::{Action, Revision, Txn, Write},
    },
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What breaks, as a sentence.
pub(crate) type Breach = String;

/// A stored document.
#[derive(Clone)]
struct Document {
    revision: Revision,
    inspected: Inspected,
    /// Written by a replica.
    replicas: bool,
}

/// A time in which a document was in etcd as we wrote it.
struct Stay {
    /// The first revision without it.
    to: Option<Revision>,
    /// The pool it named.
    pool: Option<WorkId>,
}

/// What records say of all terms before one.
#[derive(Clone, Default)]
struct Floor {
    versions: BTreeMap<Arc<str>, u64>,
    sequence: u64,
}

impl Floor {
    fn take(&mut self, record: &Checkpoint) {
        self.sequence = self.sequence.max(record.sequence);
        for (resource, version) in &record.versions {
            let known = self.versions.entry(resource.clone()).or_default();
            *known = version.0.max(*known);
        }
    }
}

#[derive(Default)]
struct Checker {
    store: u64,
    documents: BTreeMap<WorkId, Document>,
    /// When each key was last written.
    keys: BTreeMap<Vec<u8>, Revision>,
    stays: BTreeMap<WorkId, Vec<Stay>>,
    leader: Option<Revision>,
    /// Records in lanes, by number.
    lanes: BTreeMap<u32, Checkpoint>,
    claimed: bool,
    /// Since when another instance has a record.
    others: Option<Revision>,
    floor: Floor,
    /// The term that writes, and what it has reached.
    term: (Revision, Floor),
    sequences: BTreeSet<u64>,
}

/// The first breach, and which event it is at.
pub(crate) fn check(history: &History) -> Result<(), (usize, Breach)> {
    let mut checker = Checker { store: 1, ..Checker::default() };
    for (n, (_, event)) in history.events().iter().enumerate() {
        checker.event(event).map_err(|breach| (n, breach))?;
    }
    Ok(())
}

fn control() -> ControlKeys {
    ControlKeys::new("/control".into(), INSTANCE.into())
}

fn id_of(key: &[u8]) -> Option<WorkId> {
    WorkId::from_key(Plane::of(PREFIX), std::str::from_utf8(key).ok()?)
}

fn ours(inspected: &Inspected) -> bool {
    written_by(&inspected.seal, INSTANCE)
}

fn in_own_place(id: &WorkId, reach: Reach) -> bool {
    reach.only().is_some_and(|place| SlotPlace::of(id) == Some(place))
}

impl Checker {
    fn event(&mut self, event: &Event) -> Result<(), Breach> {
        match event {
            Event::Revision { revision, changes, by: None } => {
                self.somebody(*revision, changes);
                Ok(())
            }
            Event::Revision { revision, changes, by: Some(written) } => self.replica(*revision, changes, written),
            Event::Status { replica: _, update, known } => self.status(update, known),
            Event::StoreRestored => {
                let store = self.store + 1;
                *self = Self { store, ..Self::default() };
                Ok(())
            }
            Event::Reset => {
                self.floor.versions.clear();
                self.term.1.versions.clear();
                Ok(())
            }
            Event::Breach(what) => Err(what.clone()),
            Event::Done(_) => Ok(()),
        }
    }

    fn somebody(&mut self, revision: Revision, changes: &[KeyChange]) {
        for change in changes {
            if let Some(Purpose::Lane(_)) = Self::purpose(&change.key) {
                // A person's reset, what a backup held, or somebody's hand: what was recorded before is of no matter.
                (self.floor, self.term.1) = (Floor::default(), Floor::default());
                self.sequences.clear();
            }
            self.apply(revision, change, false);
        }
    }

    fn purpose(key: &[u8]) -> Option<Purpose> {
        control().read(key).filter(|key| *key.instance == *INSTANCE).map(|key| key.purpose)
    }

    fn apply(&mut self, revision: Revision, change: &KeyChange, replicas: bool) {
        match &change.value {
            Some(_) => drop(self.keys.insert(change.key.clone(), revision)),
            None => drop(self.keys.remove(&change.key)),
        }
        match (Self::purpose(&change.key), &change.value) {
            (Some(Purpose::Leader), Some(_)) => self.leader = Some(revision),
            (Some(Purpose::Leader), None) => self.leader = None,
            (Some(Purpose::Lane(number)), Some(value)) => {
                self.claimed = true;
                if let Ok(record) = Checkpoint::decode(value) {
                    self.lanes.insert(number, record);
                }
            }
            (Some(Purpose::Lane(number)), None) => drop(self.lanes.remove(&number)),
            (Some(Purpose::Release(_)) | None, _) => {}
        }
        if let Some(other) = control().read(&change.key)
            && *other.instance != *INSTANCE
            && matches!(other.purpose, Purpose::Lane(_))
        {
            self.others = change.value.is_some().then(|| self.others.unwrap_or(revision));
        }
        let Some(id) = id_of(&change.key) else { return };
        let key = String::from_utf8_lossy(&change.key);
        let inspected = change.value.as_deref().map(|value| inspect(&id, &key, value));
        let stays = self.stays.entry(id.clone()).or_default();
        if let Some(last) = stays.last_mut().filter(|last| last.to.is_none()) {
            last.to = Some(revision);
        }
        if let Some(inspected) = inspected.as_ref().filter(|inspected| ours(inspected)) {
            stays.push(Stay { to: None, pool: inspected.pool.clone() });
        }
        match inspected {
            Some(inspected) => drop(self.documents.insert(id, Document { revision, inspected, replicas })),
            None => drop(self.documents.remove(&id)),
        }
    }

    fn replica(&mut self, revision: Revision, changes: &[KeyChange], written: &Written) -> Result<(), Breach> {
        let Written { replica: _, txn, known } = written;
        if self.leader != Some(txn.fence.created) {
            return Err(format!("one writes at a time: term {} wrote when it did not lead", txn.fence.created));
        }
        for write in &txn.writes {
            let before = self.keys.get(write.key.as_bytes()).copied().unwrap_or_default();
            if before != write.expected {
                return Err(format!("invariant 4: {} was written without looking", write.key));
            }
            self.right(write).map_err(|why| format!("invariant 5: {} was written: {why}", write.key))?;
        }
        // What it knew of another store says nothing.
        let known = (known.store == StoreId(self.store)).then_some(known);
        let created: Vec<WorkId> = self.created(&txn.writes);
        for change in changes {
            self.record(change, txn.fence.created)?;
            self.apply(revision, change, true);
        }
        self.alone(&created, known)?;
        self.pools(txn, known)
    }

    /// Whether a replica may write this.
    fn right(&self, write: &Write) -> Result<(), Breach> {
        if let Some(key) = control().read(write.key.as_bytes()) {
            let lanes_and_releases = matches!(key.purpose, Purpose::Lane(_) | Purpose::Release(_));
            return if *key.instance == *INSTANCE && lanes_and_releases { Ok(()) } else { Err("not ours".into()) };
        }
        let Some(id) = id_of(write.key.as_bytes()) else { return Err("it is in no directory of ours".into()) };
        if id.is_placeholder() {
            let created = write.expected == Revision::ABSENT && matches!(write.action, Action::Put(_));
            return if created { Ok(()) } else { Err("a placeholder is only created".into()) };
        }
        if !ids::is_our_shape(&id.id) {
            return Err("its id is not of our shape".into());
        }
        let Some(document) = self.documents.get(&id) else { return Ok(()) };
        let deleted = matches!(write.action, Action::Delete);
        match &document.inspected.seal {
            Seal::Intact { instance } if **instance != *INSTANCE => Err(format!("it is of instance {instance}")),
            Seal::Broken if !self.claimed => Err("it has no seal, and we have no checkpoint".into()),
            // Whoever deletes a stray has read who writes here since somebody last wrote it, whatever its watch has told.
            Seal::Broken if deleted && self.others.is_some_and(|since| since < document.revision) => {
                Err("it was deleted without a seal, and may be another instance's".into())
            }
            Seal::Intact { .. } | Seal::Broken => Ok(()),
        }
    }

    fn created(&self, writes: &[Write]) -> Vec<WorkId> {
        let puts = writes.iter().filter(|write| matches!(write.action, Action::Put(_)));
        let ids = puts.filter_map(|write| id_of(write.key.as_bytes()));
        ids.filter(|id| id.directory == Directory::StreamRoutes && !self.documents.contains_key(id)).collect()
    }

    /// No connection can match two stream_routes of ours; one of somebody else only if that came later.
    fn alone(&self, created: &[WorkId], known: Option<&Known>) -> Result<(), Breach> {
        let slots = self.documents.iter().filter(|(id, _)| id.directory == Directory::StreamRoutes);
        for (id, document) in slots {
            if ours(&document.inspected) && !in_own_place(id, document.inspected.reach) {
                return Err(format!("invariant 3: {id} takes connections of another slot"));
            }
            if ours(&document.inspected) || in_own_place(id, document.inspected.reach) {
                continue;
            }
            let meets = |slot: &&WorkId| {
                SlotPlace::of(slot).is_some_and(|place| Reach::into(place).contains(&document.inspected.reach))
            };
            let was_known = known.is_some_and(|known| document.revision <= known.told);
            if let Some(slot) = created.iter().find(meets).filter(|_| was_known) {
                return Err(format!("invariant 3: {slot} was put although {id} was there first and known"));
            }
        }
        Ok(())
    }

    /// No transaction leaves a slot without its pool. Whoever deletes one has listed everything since its term began, whatever
    /// its watch has told or not.
    fn pools(&self, txn: &Txn, known: Option<&Known>) -> Result<(), Breach> {
        for write in &txn.writes {
            let Some(id) = id_of(write.key.as_bytes()).filter(|id| !id.is_placeholder()) else { continue };
            match (&write.action, id.directory) {
                (Action::Put(_), Directory::StreamRoutes) => {
                    let pool = self.documents.get(&id).and_then(|document| document.inspected.pool.as_ref());
                    if let Some(pool) = pool.filter(|pool| !self.documents.contains_key(pool)) {
                        return Err(format!("invariant 6: {id} was put, and its pool {pool} does not exist"));
                    }
                }
                (Action::Delete, Directory::Upstreams) => {
                    let uses = |document: &Document| document.inspected.pool.as_ref() == Some(&id);
                    let knew = |document: &Document| {
                        let listed = document.revision <= txn.fence.created;
                        known.is_some_and(|known| document.replicas || listed || document.revision <= known.told)
                    };
                    let user = self.documents.iter().find(|(_, document)| uses(document) && knew(document));
                    if let Some((slot, _)) = user {
                        return Err(format!("invariant 6: {id} was deleted, and {slot} names it"));
                    }
                }
                (Action::Put(_), Directory::Upstreams)
                | (Action::Delete, Directory::StreamRoutes)
                | (_, Directory::Ssls) => {}
            }
        }
        Ok(())
    }

    /// A lane was written.
    fn record(&mut self, change: &KeyChange, term: Revision) -> Result<(), Breach> {
        let (Some(Purpose::Lane(_)), Some(value)) = (Self::purpose(&change.key), &change.value) else { return Ok(()) };
        let record = Checkpoint::decode(value).map_err(|error| format!("invariant 7: {error}"))?;
        if self.term.0 != term {
            let (_, reached) = std::mem::take(&mut self.term);
            for (resource, version) in reached.versions {
                let floor = self.floor.versions.entry(resource).or_default();
                *floor = version.max(*floor);
            }
            self.floor.sequence = self.floor.sequence.max(reached.sequence);
            for record in self.lanes.values() {
                self.floor.take(record);
            }
            self.term.0 = term;
        }
        for (resource, floor) in &self.floor.versions {
            let version = record.versions.get(resource).map(|version| version.0);
            if version.is_none_or(|version| version < *floor) {
                return Err(format!(
                    "invariant 7: {resource} was known up to {version:?}, and another leader wrote from {floor} before"
                ));
            }
        }
        if record.sequence <= self.floor.sequence {
            let before = self.floor.sequence;
            return Err(format!("invariant 7: sequence {} after {before} of another leader", record.sequence));
        }
        if !self.sequences.insert(record.sequence) {
            return Err(format!("invariant 7: sequence {} twice", record.sequence));
        }
        self.term.1.take(&record);
        Ok(())
    }

    /// Programmed is said only of what etcd holds as we wrote it, as far as the replica could know.
    fn status(&self, update: &StatusUpdate, known: &Known) -> Result<(), Breach> {
        if update.object.kind != Kind::TcpRoute || known.store != StoreId(self.store) {
            return Ok(());
        }
        let pool = ids::pool(Plane::of(PREFIX), INSTANCE, Kind::TcpRoute, &update.object.name);
        for parent in update.status.get("parents").and_then(Value::as_array).into_iter().flatten() {
            let conditions = parent.get("conditions").and_then(Value::as_array);
            let programmed = conditions.into_iter().flatten().any(|condition| {
                condition.get("type").is_some_and(|kind| kind == "apisix-etcd.io/Programmed")
                    && condition.get("status").is_some_and(|status| status == "True")
            });
            let section = parent.pointer("/parentRef/sectionName").and_then(Value::as_str);
            let port = section.and_then(|section| section.strip_prefix('p')).and_then(|port| port.parse().ok());
            let Some(slot) = port.map(|of| ids::port_slot(Plane::of(PREFIX), of)).filter(|_| programmed) else {
                continue;
            };
            let since = |id: &WorkId| known.of(&id.key(), self.leader);
            let was_there = |id: &WorkId, names: Option<&WorkId>| {
                let stays = self.stays.get(id).map_or(&[][..], Vec::as_slice);
                stays.iter().any(|stay| {
                    stay.to.is_none_or(|to| to > since(id)) && (names.is_none() || stay.pool.as_ref() == names)
                })
            };
            for (id, names) in [(&slot, Some(&pool)), (&pool, None)] {
                if !was_there(id, names) {
                    return Err(format!(
                        "invariant 8: {} was called programmed at {slot}, and {id} was not there since {}",
                        update.object,
                        since(id)
                    ));
                }
            }
        }
        Ok(())
    }
}
