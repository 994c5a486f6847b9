//! What tests stand on: real servers, started for a test binary and gone after it.
//!
//! In: names of the servers wanted. Out: a real etcd, a real kube-apiserver, the controller's own binary, each with its own
//! folder and ports, all on 127.0.0.1. Nothing here panics, sleeps to be right, or knows what the controller should do.
//!
//! Everything is an error with its reason, so that tests return `anyhow::Result<()>` and use `?`.

// Paths are written out because `run_kubernetes.rs` includes this file from another folder.
#![allow(dead_code, reason = "every test binary uses its own part of this")]

#[path = "support/apiserver.rs"]
pub(crate) mod apiserver;
#[path = "support/binaries.rs"]
pub(crate) mod binaries;
#[path = "support/certificates.rs"]
pub(crate) mod certificates;
#[path = "support/controller.rs"]
pub(crate) mod controller;
#[path = "support/deployment.rs"]
pub(crate) mod deployment;
#[path = "support/etcd.rs"]
pub(crate) mod etcd;
#[path = "support/etcd_cluster.rs"]
pub(crate) mod etcd_cluster;
#[path = "support/kubernetes.rs"]
pub(crate) mod kubernetes;
#[path = "support/manifests.rs"]
pub(crate) mod manifests;
#[path = "support/pages_only.rs"]
pub(crate) mod pages_only;
#[path = "support/process.rs"]
pub(crate) mod process;
#[path = "support/proxy.rs"]
pub(crate) mod proxy;
#[path = "support/servers.rs"]
pub(crate) mod servers;
#[path = "support/wait.rs"]
pub(crate) mod wait;
