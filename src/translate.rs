//! Translation: facts in, wanted documents and verdicts out. Pure and incremental; never fails.

pub mod desired;
