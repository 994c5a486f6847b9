//! The checkpoint: from which state of which cluster the store was last written. Pure.
//!
//! Every transaction rewrites its lane's key with it; the record with the highest sequence is the newest.

use crate::model::versions::CacheVersion;
use std::{collections::BTreeMap, sync::Arc};

/// What is known of the last transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Who wrote it: the instance named in its seals.
    pub instance: Arc<str>,
    /// Which cluster it was computed from: the UID of namespace `kube-system`, or `folder`.
    pub cluster: Arc<str>,
    /// Every prefix that holds documents of the instance, with the name of its data plane (empty: the one of the settings).
    pub prefixes: BTreeMap<Arc<str>, Arc<str>>,
    /// Up to which version each resource (`group/resource`) was known. Resources that are not served any more are carried on.
    pub versions: BTreeMap<Arc<str>, CacheVersion>,
    /// Grows with each record of the instance, whoever leads and in whatever lane.
    pub sequence: u64,
    /// The replica that wrote it.
    pub holder: Arc<str>,
    /// When, in seconds since the Unix epoch. For people; nothing is decided by it.
    pub written_at: i64,
}

/// A record cannot be used. Nothing may be written until a person has looked at it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Written by a newer controller.
    #[error("the checkpoint has format {found}, and this controller knows formats up to {known}")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest known here.
        known: u32,
    },
    /// No record of ours.
    #[error("the checkpoint is broken: {reason}")]
    Broken {
        /// What reading it said.
        reason: Arc<str>,
    },
}
