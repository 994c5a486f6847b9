//! How far the loop has come, for those who watch it.

use crate::model::names::Kind;
use std::{collections::BTreeMap, sync::Arc};

/// How far the loop has come; what `/readyz` is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is waited for before this replica can lead.
    pub waiting: Waiting,
    /// Whether etcd is being followed right now.
    pub following: bool,
    /// Why this replica does not write until a person has decided, if so.
    pub halted: Option<Arc<str>>,
    /// Whether it writes.
    pub role: Role,
    /// Whether it writes, etcd is as it should be, and nothing is under way or waiting for its time.
    pub settled: bool,
}

/// What is waited for before this replica can lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Kinds that have not been listed yet, in order, with the reason where one is known.
    pub kinds: BTreeMap<Kind, Option<Arc<str>>>,
    /// Whether the cluster has not said which one it is.
    pub identity: bool,
    /// Whether the documents in etcd have not been read yet.
    pub documents: bool,
    /// Whether the controller's own keys in etcd have not been read yet.
    pub control: bool,
}

/// Whether this replica writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another one does, or nobody.
    Standby {
        /// Its name, if known.
        leader: Option<Arc<str>>,
    },
    /// It is about to.
    TakingOver,
    /// It does.
    Leading,
}

impl Default for Role {
    fn default() -> Self {
        Self::Standby { leader: None }
    }
}

impl Progress {
    /// Whether this replica leads, or could at any moment.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.waiting == Waiting::default() && self.halted.is_none()
    }
}
