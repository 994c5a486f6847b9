//! What the controller's own keys in etcd say: who wrote which prefix, and what a person wants let go. Pure.

use crate::{
    model::places::Plane,
    store::{
        checkpoint::{Checkpoint, CheckpointError, judge::newest},
        control::{ControlKey, Purpose},
        follow::control::ControlEvent,
        txn::Revision,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A request to let a held change go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release {
    /// What.
    pub(super) name: Arc<str>,
    /// The key's revision.
    pub(super) revision: Revision,
}

/// The controller's own keys, as far as they have been told.
#[derive(Debug)]
pub(super) struct Control {
    instance: Arc<str>,
    whole: bool,
    /// At which revision all of them were last read.
    read_at: Revision,
    lanes: BTreeMap<(Arc<str>, u32), Result<Checkpoint, CheckpointError>>,
    releases: BTreeMap<Arc<str>, Revision>,
}

/// To whom documents without an intact seal belong, as far as checkpoints tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// This instance has written the prefix.
    pub(super) ours: bool,
    /// Another instance has.
    pub(super) others: bool,
}

impl Control {
    /// Nothing told yet.
    pub(super) fn new(instance: Arc<str>) -> Self {
        Self { instance, whole: false, read_at: Revision::ABSENT, lanes: BTreeMap::new(), releases: BTreeMap::new() }
    }

    /// Takes in what was told.
    pub(super) fn take(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Snapshot { revision, keys, begins_anew: _ } => {
                self.read_at = revision;
                (self.whole, self.lanes, self.releases) = (true, BTreeMap::new(), BTreeMap::new());
                for (key, revision, value) in keys {
                    self.learn(key, revision, Some(&value));
                }
            }
            ControlEvent::Changed { revision: _, changes } => {
                for (key, revision, value) in changes {
                    self.learn(key, revision, value.as_deref());
                }
            }
            ControlEvent::Disconnected | ControlEvent::Reconnected => {}
        }
    }

    fn learn(&mut self, key: ControlKey, revision: Revision, value: Option<&[u8]>) {
        let ControlKey { instance, purpose } = key;
        match (purpose, value) {
            (Purpose::Lane(number), Some(value)) => {
                self.lanes.insert((instance, number), Checkpoint::decode(value));
            }
            (Purpose::Lane(number), None) => {
                self.lanes.remove(&(instance, number));
            }
            (Purpose::Release(name), Some(_)) if instance == self.instance => {
                self.releases.insert(name, revision);
            }
            (Purpose::Release(name), None) if instance == self.instance => {
                self.releases.remove(&name);
            }
            (Purpose::Leader | Purpose::Release(_), _) => {}
        }
    }

    /// Whether everything has been told once.
    pub(super) fn whole(&self) -> bool {
        self.whole
    }

    /// At which revision all of them were last read; what the watch has told since may lack something.
    pub(super) fn read_at(&self) -> Revision {
        self.read_at
    }

    /// What was read is of an etcd that was wiped or restored since.
    pub(super) fn outdated(&mut self) {
        self.read_at = Revision::ABSENT;
    }

    /// This instance's newest record.
    pub(super) fn newest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let ours = self.lanes.iter().filter(|((instance, _), _)| *instance == self.instance);
        newest(ours.map(|(_, record)| record.clone()))
    }

    /// Who has written the prefix of a data plane.
    pub(super) fn claims(&self, plane: Plane) -> Claims {
        let mut claims = Claims::default();
        for ((instance, _), record) in &self.lanes {
            // A record that cannot be read may be about any prefix.
            let about = record.as_ref().map_or(true, |record| record.prefixes.contains_key(plane.prefix()));
            if *instance == self.instance {
                claims.ours |= about;
            } else {
                claims.others |= about;
            }
        }
        claims
    }

    /// What is to be let go, in order.
    pub(super) fn releases(&self) -> BTreeSet<Release> {
        let release = |(name, revision): (&Arc<str>, &Revision)| Release { name: name.clone(), revision: *revision };
        self.releases.iter().map(release).collect()
    }
}
