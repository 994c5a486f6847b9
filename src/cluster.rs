//! Kubernetes in: objects become facts here, from an API server or from a folder of manifests.
//!
//! `kube`, `k8s_openapi` and `gateway_api` types stop in this room (and in [`crate::status`]'s writer).

mod certificates;
mod convert;
pub mod data_plane;
mod decode;
mod discovery;
pub mod failure;
pub mod folder;
mod frames;
mod identity;
pub mod kinds;
mod list;
pub mod manifests;
pub mod metrics;
mod relists;
pub mod watch;
mod wire;
mod yaml;

use crate::{
    model::{
        facts::{Change, Observed},
        names::{Kind, ObjectName},
        verdicts::Served,
        versions::CacheVersion,
    },
    status::print::StatusPrint,
};
use std::{sync::Arc, time::Instant};

/// One object of a complete list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// Its name.
    pub name: ObjectName,
    /// What it is.
    pub observed: Observed,
    /// What its status says of us now.
    pub status: StatusPrint,
}

/// What a source of objects tells the reconcile loop.
#[derive(Clone, Debug)]
pub enum ClusterEvent {
    /// Which cluster this is: the UID of its namespace `kube-system`, or `folder`. Said first of all, and again should it
    /// turn out to be another.
    Identity(Arc<str>),
    /// What the source serves, at start and whenever that changes.
    Served(Served),
    /// A kind is not served (its CRD is not installed), or it may not be read and is one that the others do without: said so
    /// that nobody waits for its list, never after one. If it can be read later, a `Listed` follows.
    NotServed(Kind),
    /// A kind cannot be read at the moment, or not before discovery works. Said once for each distinct reason; the next
    /// `Listed`, `Changed` or `Reached` of the kind says that it can be read again. What was told of it stays true meanwhile.
    Waiting {
        /// The kind.
        kind: Kind,
        /// Why, for people: what was asked, what came back, and which right is missing if that is it.
        reason: Arc<str>,
    },
    /// A complete, consistent list of a kind; what is not in it is gone.
    Listed {
        /// The kind.
        kind: Kind,
        /// Every object of the kind.
        objects: Vec<ListedObject>,
        /// The version the list stands at; `None` where the source has no versions that can be compared. It may be older
        /// than what was told before: the cluster was then restored from a backup.
        version: Option<CacheVersion>,
        /// The latest [`Relist`] of this kind that this list was begun after; 0 if none was asked for.
        ticket: u64,
        /// When it arrived.
        at: Instant,
    },
    /// One object changed.
    Changed {
        /// The change.
        change: Change,
        /// What the object's status says of us now; empty when it is gone.
        status: StatusPrint,
        /// Up to here the kind has now been told: the object's own version.
        version: Option<CacheVersion>,
        /// When it arrived.
        at: Instant,
    },
    /// Nothing changed, and the kind has now been told up to here.
    Reached {
        /// The kind.
        kind: Kind,
        /// Up to here.
        version: CacheVersion,
    },
}

/// Asks a source to list a kind anew, from a state no older than this request. A kind that is not served, or cannot be
/// read, is listed as soon as it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relist {
    /// The kind.
    pub kind: Kind,
    /// Growing with each request; the list that answers carries it.
    pub ticket: u64,
}
