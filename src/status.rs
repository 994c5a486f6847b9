//! Status out: verdicts become Kubernetes conditions, written back where they differ.
//!
//! [`conditions`] renders what we want to say of an object, [`mod@print`] tells from a watch event whether the object says it
//! already, [`merge`] puts it beside what others wrote there, [`queue`] holds the newest truth for each object, and
//! [`writer`] carries it to the API server. Only [`writer`] talks to anyone; statuses never hold up documents.

pub mod conditions;
pub mod events;
mod fields;
pub mod merge;
pub mod metrics;
pub mod print;
pub mod queue;
pub mod reasons;
#[cfg(test)]
mod samples;
pub mod writer;
