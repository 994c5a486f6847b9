//! The words everything else is written in: names, facts, places and verdicts.
//!
//! Plain values only: nothing here reads a clock, talks to a server or knows Kubernetes' or APISIX's wire types.

pub mod addresses;
pub mod certificates;
pub mod facts;
pub mod link;
pub mod names;
pub mod opaque;
pub mod places;
pub mod sockets;
pub mod verdicts;
pub mod versions;
