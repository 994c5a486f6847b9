//! The last look at a document before it may reach etcd: there is no Admin API behind us to refuse it.
//!
//! Two checks. `stream_route`, `upstream` and `ssl` look at what the types of `apisix::wire` can express wrongly; they
//! stand before every document that this controller writes, and cost next to nothing. [`json`] knows every rule that a
//! data plane of a given version holds a document to, and takes any JSON: it is the command `validate`, and tests hold
//! the first check to it.
//!
//! Neither accepts what a data plane refuses. Where a check refuses more, the reason that it gives says why.

pub mod certificates;
mod fields;
mod forms;
pub mod json;
mod meaning;
pub mod release;
mod rule;
mod written;

pub(super) use written::{PEM_BYTES_MIN, ssl, stream_route, upstream};

/// Why a document of ours is not written.
pub type Refused = written::Refused;
