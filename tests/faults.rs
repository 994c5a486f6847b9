//! Real faults on real servers: the binary that users run, real etcds, and replicas and servers that are killed, paused, cut
//! off, filled up, compacted and edited behind the controller's back.
//!
//! Where the cluster does not matter, replicas follow folders of manifests. Every test ends with the documents compared with
//! what `translate` makes of the manifests, foreign keys as they were, and etcd's whole history judged: who wrote while who
//! led, and whether anything old came after anything newer.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

mod support;

// Paths are written out because this file is a crate's root: its modules would be looked for beside it.
#[path = "cluster/claims.rs"]
#[allow(dead_code, reason = "shared with tests/cluster.rs, which uses all of it")]
mod claims;
#[path = "cluster/documents.rs"]
#[allow(dead_code, reason = "shared with tests/cluster.rs, which uses all of it")]
mod documents;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/scene.rs"]
#[allow(dead_code, reason = "shared with tests/cluster.rs, which uses all of it")]
mod scene;

#[path = "faults/chronicle.rs"]
mod chronicle;
#[path = "faults/fleet.rs"]
mod fleet;
#[path = "faults/stage.rs"]
mod stage;

#[path = "faults/edits.rs"]
mod edits;
#[path = "faults/leaders.rs"]
mod leaders;
#[path = "faults/outages.rs"]
mod outages;
#[path = "faults/space.rs"]
mod space;
#[path = "faults/two_clusters.rs"]
mod two_clusters;
