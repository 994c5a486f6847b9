//! Kubernetes in: objects become facts here, from an API server or from a folder of manifests.
//!
//! `kube`, `k8s_openapi` and `gateway_api` types stop in this room (and in [`crate::status`]'s writer).

mod convert;
mod decode;
mod discovery;
pub mod failure;
pub mod folder;
mod frames;
pub mod kinds;
mod list;
pub mod manifests;
pub mod metrics;
pub mod watch;
mod wire;
mod yaml;

use crate::{
    model::{
        facts::{Change, Observed},
        names::{Kind, ObjectName},
        verdicts::Served,
    },
    status::print::StatusPrint,
};
use std::time::Instant;

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
    /// What the source serves, at start and whenever that changes.
    Served(Served),
    /// A kind is not served (its CRD is not installed), said once at start so that nobody waits for its list. If it
    /// appears later, a `Listed` follows.
    NotServed(Kind),
    /// A complete, consistent list of a kind; what is not in it is gone.
    Listed {
        /// The kind.
        kind: Kind,
        /// Every object of the kind.
        objects: Vec<ListedObject>,
        /// When it arrived.
        at: Instant,
    },
    /// One object changed.
    Changed {
        /// The change.
        change: Change,
        /// What the object's status says of us now; empty when it is gone.
        status: StatusPrint,
        /// When it arrived.
        at: Instant,
    },
}
