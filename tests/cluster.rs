//! The whole road: objects in a real kube-apiserver, documents in a real etcd, statuses back, by the binary that users run.
//!
//! Every test has its own namespaces, GatewayClass, controller name, etcd prefix and controller, in servers that all share,
//! or in servers of its own where it changes them. A test waits for what it expects under a deadline. That something is not
//! written is shown with a fence: a later change is awaited, and etcd's history up to it holds nothing else.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

mod support;

// Paths are written out because this file is a crate's root: its modules would be looked for beside it.
#[path = "cluster/claims.rs"]
mod claims;
#[path = "cluster/documents.rs"]
mod documents;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/scene.rs"]
mod scene;

#[path = "cluster/addresses.rs"]
mod addresses;
#[path = "cluster/data_planes.rs"]
mod data_planes;
#[path = "cluster/drift.rs"]
mod drift;
#[path = "cluster/listener_sets.rs"]
mod listener_sets;
#[path = "cluster/outages.rs"]
mod outages;
#[path = "cluster/policies.rs"]
mod policies;
#[path = "cluster/references.rs"]
mod references;
#[path = "cluster/removal.rs"]
mod removal;
#[path = "cluster/rollout.rs"]
mod rollout;
#[path = "cluster/serving.rs"]
mod serving;
#[path = "cluster/statuses.rs"]
mod statuses;
#[path = "cluster/tls.rs"]
mod tls;
#[path = "cluster/udp.rs"]
mod udp;
#[path = "cluster/versions.rs"]
mod versions;
