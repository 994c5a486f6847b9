//! What a replica cannot but know of etcd, from what its link has told it: the checker blames it for nothing else.

use apisix_etcd_controller::store::{StoreId, txn::Revision};
use std::{collections::BTreeMap, sync::Arc};

/// What a replica cannot but know of the documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// Of which store.
    pub(crate) store: StoreId,
    /// Everything up to here was told to it.
    pub(crate) told: Revision,
    /// Whether something was kept from it, so that what follows does not count.
    pub(crate) gap: bool,
    /// What was told when a key was sent of which the answer is not there yet: what the watch tells of it waits for that.
    pub(crate) sent: BTreeMap<Arc<str>, Revision>,
    /// When a key was written by a transaction that was answered, and in which term. Nobody listens to answers of a term that
    /// is over.
    pub(crate) answered: BTreeMap<Arc<str>, (Revision, Revision)>,
}

impl Known {
    /// The revision whose state of `key` it knows at least, while `leader` is the term of whoever leads.
    pub(crate) fn of(&self, key: &str, leader: Option<Revision>) -> Revision {
        let heard = self.heard(key, leader);
        self.sent.get(key).map_or(heard, |sent| *sent.min(&heard))
    }

    /// The same, if nothing about it were put off.
    pub(crate) fn heard(&self, key: &str, leader: Option<Revision>) -> Revision {
        let answered = self.answered.get(key).filter(|(term, _)| Some(*term) == leader).map(|(_, at)| *at);
        self.told.max(answered.unwrap_or_default())
    }
}
