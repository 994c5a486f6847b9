//! Plans: what should be and what is go in, transactions come out. Pure.
//!
//! [`step`] decides for one document, [`order`] says what must travel together and what must wait, [`pack`] keeps
//! transactions within the store's limits. Nothing here looks further ahead than the next transaction: what must wait is
//! asked again when what it waits for has happened, so that no plan can be outrun by events.

pub mod order;
pub mod pack;
pub mod step;

use crate::{
    model::places::WorkId,
    store::txn::{Action, Revision},
};

/// One document to be written, and what must still be there when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentWrite {
    /// The document.
    pub id: WorkId,
    /// The revision it is expected at; [`Revision::ABSENT`] if it must not exist.
    pub expected: Revision,
    /// What to do.
    pub action: Action,
    /// For the put of a slot: its pool, and its certificate if it needs one.
    pub needs: Vec<Need>,
}

/// What a slot needs when it is put: its pool, or its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The pool or certificate.
    pub id: WorkId,
    /// The revision at which it is expected, unless the same transaction puts it.
    pub expected: Option<Revision>,
}

impl Need {
    /// What has to be compared for it: nothing if the same transaction puts it.
    #[must_use]
    pub fn condition(&self) -> Option<(&WorkId, Revision)> {
        self.expected.map(|expected| (&self.id, expected))
    }
}
