//! The links that break: between the controller and etcd, between it and Kubernetes, and between two of its own kind.
//!
//! The binary that users run, and real servers; in between a proxy that cuts, delays and swallows, a token that ends, a
//! certificate that is replaced, a cluster that was restored. Each test ends by what every fault must leave behind: the
//! documents that are wanted and no others, foreign keys as they were, and a metric, a condition, a log line or `/readyz` that
//! told.

#![allow(clippy::indexing_slicing, reason = "what a JSON value does not have is null")]

mod support;

// Paths are written out because this file is a crate's root: its modules would be looked for beside it.
#[path = "cluster/claims.rs"]
#[allow(dead_code, reason = "the road's tests use the rest")]
mod claims;
#[path = "cluster/documents.rs"]
#[allow(dead_code, reason = "the road's tests use the rest")]
mod documents;
#[path = "cluster/objects.rs"]
#[allow(dead_code, reason = "the road's tests use the rest")]
mod objects;
#[path = "cluster/scene.rs"]
#[allow(dead_code, reason = "the road's tests use the rest")]
mod scene;

#[path = "links/road.rs"]
mod road;

#[path = "links/holds.rs"]
mod holds;
#[path = "links/kinds.rs"]
mod kinds;
#[path = "links/kubernetes.rs"]
mod kubernetes;
#[path = "links/proxied.rs"]
mod proxied;
#[path = "links/replicas.rs"]
mod replicas;
#[path = "links/restored.rs"]
mod restored;
#[path = "links/secured.rs"]
mod secured;
