//! Whether a replica decides on a guess: its transactions and their answers go in; out comes a breach when one relies on what
//! became of an earlier one that nobody answered.
//!
//! A transaction without an answer may be applied at any time, until its lane is settled: until then nothing of the same term
//! may write what it writes, or rely on it, and nothing else may travel in its lane.

use super::{PREFIX, checker::Breach};
use apisix_etcd_controller::store::txn::{Commit, CommitError, Revision, Txn};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Transactions of one replica that have no answer, by the keys of their lanes.
#[derive(Default)]
pub(crate) struct Guesses(BTreeMap<Arc<str>, Open>);

struct Open {
    term: Revision,
    documents: BTreeSet<Arc<str>>,
}

fn is_document(key: &str) -> bool {
    key.starts_with(PREFIX)
}

impl Guesses {
    /// A transaction leaves; says what is wrong with that.
    pub(crate) fn sent(&mut self, txn: &Txn) -> Option<Breach> {
        // What an earlier term sent is fenced.
        self.0.retain(|_, open| open.term == txn.fence.created);
        let keys =
            txn.writes.iter().map(|write| &write.key).chain(txn.conditions.iter().map(|condition| &condition.key));
        let mut guessed = keys.filter(|key| self.0.values().any(|open| open.documents.contains(*key)));
        let lane = &txn.writes.last()?.key;
        let in_its_lane = txn.writes.len() > 1 && self.0.contains_key(lane);
        if let Some(key) = guessed.next() {
            return Some(format!(
                "decided on a guess: {key} is relied on, and a transaction that writes it has no answer"
            ));
        }
        in_its_lane.then(|| format!("decided on a guess: {lane} is not settled, and carries another transaction"))
    }

    /// What the replica was told of a transaction of `term` that writes `keys`, its lane last.
    pub(crate) fn answered(&mut self, term: Revision, keys: &[Arc<str>], answer: &Result<Commit, CommitError>) {
        let Some(lane) = keys.last() else { return };
        match answer {
            Ok(_) => drop(self.0.remove(lane)),
            Err(CommitError::Unanswered { .. }) => {
                let documents = || keys.iter().filter(|key| is_document(key)).cloned().collect();
                self.0.entry(lane.clone()).or_insert_with(|| Open { term, documents: documents() });
            }
            // Said of a settling it says nothing of the transaction.
            Err(CommitError::Refused { .. }) => {}
        }
    }
}
