//! Status out: verdicts become Kubernetes conditions, written back where they differ.

pub mod print;
