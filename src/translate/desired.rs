//! `Desired`: what etcd and the statuses should be, kept up to date change by change.

use crate::{
    apisix::version::ApisixVersion,
    model::{
        facts::{Change, Observed},
        names::{Kind, ObjectName, ObjectRef},
        places::WorkId,
        verdicts::{Served, Verdict},
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// What translation needs to know besides the objects.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `spec.controllerName` of the GatewayClasses that are ours.
    pub controller_name: Arc<str>,
    /// The instance named in every seal.
    pub instance: Arc<str>,
    /// The prefix in etcd, without a trailing slash; part of what a seal covers.
    pub prefix: Arc<str>,
    /// The oldest APISIX that reads the prefix.
    pub version: ApisixVersion,
}

/// What a document should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Not there.
    Absent,
    /// There, with these bytes.
    Document(Document),
    /// As it is in etcd, neither written nor deleted, because an object it is computed over cannot be read or its class is
    /// absent. Where etcd holds nothing, `otherwise` is what to put, if anything.
    Kept {
        /// What to put if etcd holds nothing.
        otherwise: Option<Document>,
    },
    /// It would be refused by a data plane of the configured version; leave what is there alone.
    Refused(Arc<str>),
}

/// One document as it should stand in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The exact value.
    pub bytes: Arc<[u8]>,
    /// The pool a slot names: it must be in etcd before the slot and outlive it.
    pub pool: Option<WorkId>,
}

/// What a change touched. An id may be listed although nothing about it differs; nothing that differs is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Documents whose [`Desired::wanted`] may have changed.
    pub documents: BTreeSet<WorkId>,
    /// Objects whose [`Desired::verdict`] may have changed, or that are gone.
    pub verdicts: BTreeSet<ObjectRef>,
}

/// What etcd and the statuses should be.
#[derive(Debug)]
pub struct Desired {
    settings: Settings,
}

impl Desired {
    /// Of a cluster without objects.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Takes in single changes, in any order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Affected {
        drop(changes.into_iter());
        todo!()
    }

    /// Takes in a complete list of a kind: what is not in it is gone.
    pub fn replace(&mut self, kind: Kind, objects: Vec<(ObjectName, Observed)>) -> Affected {
        let _ = (kind, objects);
        todo!()
    }

    /// Takes in what the source serves.
    pub fn set_served(&mut self, served: Served) -> Affected {
        let _ = served;
        todo!()
    }

    /// Takes in whether the data plane runs `traffic-split` in stream mode, as the key `{prefix}/plugins` says;
    /// `None` when there is no such key: then the version's default holds.
    pub fn set_traffic_split(&mut self, enabled: Option<bool>) -> Affected {
        let _ = enabled;
        todo!()
    }

    /// What one document should be.
    #[must_use]
    pub fn wanted(&self, id: &WorkId) -> Wanted {
        let _ = id;
        todo!()
    }

    /// Every document that is wanted or kept, in order.
    #[must_use]
    pub fn documents(&self) -> BTreeSet<WorkId> {
        todo!()
    }

    /// What is said of one object; `None` if it does not exist or no status of ours belongs on it.
    #[must_use]
    pub fn verdict(&self, object: &ObjectRef) -> Option<Verdict> {
        let _ = object;
        todo!()
    }

    /// Every object with a verdict, in order.
    #[must_use]
    pub fn verdicts(&self) -> BTreeSet<ObjectRef> {
        todo!()
    }

    /// The routes whose `Programmed` depends on how this document stands in etcd.
    #[must_use]
    pub fn users(&self, id: &WorkId) -> Vec<ObjectRef> {
        let _ = id;
        todo!()
    }

    /// How many objects of a kind are known.
    #[must_use]
    pub fn object_count(&self, kind: Kind) -> usize {
        let _ = (kind, &self.settings);
        todo!()
    }
}
