//! A Kubernetes Gateway API controller that writes Apache APISIX's etcd directly.
//!
//! The road of one route: [`cluster`] turns watch events into facts ([`model`]); [`translate`] says what etcd should hold
//! and what each object's verdict is; [`reconcile`] compares that with the mirror of etcd and lets [`plan`] cut the
//! difference into transactions, which [`store`] commits by compare-and-swap; [`status`] tells users. [`apisix`] knows what
//! a data plane reads. [`app`] wires the rooms together, [`command`] is the command line.

pub mod admin;
pub mod apisix;
pub mod app;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod config;
pub mod leader;
pub mod metrics;
pub mod model;
pub mod plan;
mod proto;
pub mod readiness;
pub mod reconcile;
pub mod replica;
pub mod retry;
pub mod show;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod translate;
