//! Transactions: compares in, an answer out. Pure.
//!
//! A lost race is an answer ([`Commit::Conflicted`], [`Commit::Fenced`]); an error says what the caller may do next. A
//! transaction that touches a key without comparing it, or that nobody leads, cannot be expressed.

use super::BoxError;
use crate::model::opaque::Opaque;
use std::{fmt, sync::Arc, time::Duration};

/// A revision of the store; the one of a key is when it was last written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub i64);

impl Revision {
    /// Of a key that does not exist.
    pub const ABSENT: Self = Self(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes sure that whoever writes still leads: the leader key, as it was created for this leader.
///
/// A leader that was paused, or cut off, finds the key gone or created anew, whatever its own clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The leader key.
    pub key: Arc<str>,
    /// Its creation revision.
    pub created: Revision,
}

/// One transaction: if the fence stands, every condition holds and every key to be written is still as expected, all writes
/// happen at one revision; otherwise nothing happens and the same keys are read.
///
/// No key may occur twice, among fence, conditions and writes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Who must be leading.
    pub fence: Fence,
    /// Keys that must be as expected although they are not written.
    pub conditions: Vec<Condition>,
    /// Keys to write.
    pub writes: Vec<Write>,
}

/// A key that must be as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The full key.
    pub key: Arc<str>,
    /// Its modification revision; [`Revision::ABSENT`] if it must not exist.
    pub expected: Revision,
}

/// A key to be written, if it is as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The full key.
    pub key: Arc<str>,
    /// Its modification revision; [`Revision::ABSENT`] if it must not exist.
    pub expected: Revision,
    /// What to do with it.
    pub action: Action,
}

/// What to do with a key. Its `Debug` leaves the value out, in which there may be a private key.
#[derive(Clone, PartialEq, Eq)]
pub enum Action {
    /// Put this value.
    Put(Arc<[u8]>),
    /// Delete it.
    Delete,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(value) => f.debug_tuple("Put").field(&Opaque(value)).finish(),
            Self::Delete => f.write_str("Delete"),
        }
    }
}

/// What a compare costs as encoded, besides its key. Field tags and lengths (at most 4 bytes each, three of them nested),
/// target, result and a revision of at most 10 bytes come to 25; the rest is margin.
const COMPARE_BYTES: usize = 40;
/// What a put, a delete or a read costs as encoded, besides key and value, reckoned the same way.
const OPERATION_BYTES: usize = 32;

/// What the fence adds to a transaction, as encoded: a compare and a read.
#[must_use]
pub fn fence_bytes(key: &str) -> usize {
    condition_bytes(key)
}

/// What one condition adds to a transaction, as encoded: a compare and a read.
#[must_use]
pub fn condition_bytes(key: &str) -> usize {
    2 * key.len() + COMPARE_BYTES + OPERATION_BYTES
}

/// What one write adds to a transaction, as encoded: a compare, a put or delete, and a read.
#[must_use]
pub fn write_bytes(key: &str, action: &Action) -> usize {
    let value = match action {
        Action::Put(bytes) => bytes.len(),
        Action::Delete => 0,
    };
    3 * key.len() + value + COMPARE_BYTES + 2 * OPERATION_BYTES
}

impl Txn {
    /// The number that etcd's limit is about: the longest of compares, writes and reads.
    #[must_use]
    pub fn n_operations(&self) -> usize {
        let compares = 1 + self.conditions.len() + self.writes.len();
        let reads = compares;
        compares.max(self.writes.len()).max(reads)
    }

    /// An upper bound of the transaction's size as encoded.
    #[must_use]
    pub fn n_bytes(&self) -> usize {
        let Self { fence, conditions, writes } = self;
        fence_bytes(&fence.key)
            + conditions.iter().map(|condition| condition_bytes(&condition.key)).sum::<usize>()
            + writes.iter().map(|write| write_bytes(&write.key, &write.action)).sum::<usize>()
    }
}

/// What the store answered to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Every compare held; all writes are visible at this revision.
    Applied(Revision),
    /// Somebody else leads, or nobody; nothing was written, and nothing more under this fence ever will be.
    Fenced,
    /// A compare other than the fence's did not hold; nothing was written.
    Conflicted {
        /// The revision at which the keys were read.
        at: Revision,
        /// Every key of the transaction as it is now: the written ones first, each part in its own order.
        current: Vec<Current>,
    },
}

/// A key as it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Current {
    /// The full key.
    pub key: Arc<str>,
    /// Its modification revision and value; `None` if it does not exist.
    pub value: Option<(Revision, Vec<u8>)>,
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        let value = value.as_ref().map(|(revision, value)| (revision, Opaque(value)));
        f.debug_struct("Current").field("key", key).field("value", &value).finish()
    }
}

impl Current {
    /// The key's modification revision, [`Revision::ABSENT`] if it does not exist.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.value.as_ref().map_or(Revision::ABSENT, |(revision, _)| *revision)
    }
}

/// Why a store refuses a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// It is full, and refuses every write until somebody has made room and disarmed its alarm.
    Full,
    /// We may not write one of the keys.
    Forbidden,
    /// Anything else.
    Other,
}

/// The store gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Not applied, and it will not be. Safe to send again as it is, when the reason is gone.
    #[error("the store refused a transaction of {n_operations} operations")]
    Refused {
        /// How many operations it had.
        n_operations: usize,
        /// Why.
        ground: Ground,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// Perhaps applied, perhaps yet to be. Safe to send again: its compares settle it.
    #[error("no answer to a transaction of {n_operations} operations after {waited:?}")]
    Unanswered {
        /// How many operations it had.
        n_operations: usize,
        /// How long was waited.
        waited: Duration,
        /// What the client said.
        #[source]
        source: BoxError,
    },
}

impl CommitError {
    /// Whether the store is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ground() == Some(Ground::Full)
    }

    /// Why it was refused, if it was.
    #[must_use]
    pub fn ground(&self) -> Option<Ground> {
        match self {
            Self::Refused { ground, .. } => Some(*ground),
            Self::Unanswered { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, n_bytes: usize) -> Write {
        Write { key: key.into(), expected: Revision(7), action: Action::Put(vec![b'x'; n_bytes].into()) }
    }

    #[test]
    fn operations_are_the_longest_of_the_three_lists() {
        let condition = Condition { key: "/p/a".into(), expected: Revision(3) };
        let fence = || Fence { key: "/c/leader".into(), created: Revision(2) };
        assert_eq!(Txn { fence: fence(), conditions: vec![condition.clone()], writes: vec![] }.n_operations(), 2);
        let writes = vec![write("/p/b", 1), write("/p/c", 1)];
        assert_eq!(Txn { fence: fence(), conditions: vec![condition], writes }.n_operations(), 4);
    }

    #[test]
    fn a_transaction_is_as_large_as_its_parts() {
        let txn = Txn {
            fence: Fence { key: "/c/leader".into(), created: Revision(2) },
            conditions: vec![Condition { key: "/p/a".into(), expected: Revision(3) }],
            writes: vec![
                write("/p/b", 100),
                Write { key: "/p/c".into(), expected: Revision(1), action: Action::Delete },
            ],
        };
        let parts = fence_bytes("/c/leader")
            + condition_bytes("/p/a")
            + write_bytes("/p/b", &Action::Put(vec![0; 100].into()))
            + write_bytes("/p/c", &Action::Delete);
        assert_eq!(txn.n_bytes(), parts);
    }

    #[test]
    fn a_key_that_does_not_exist_has_revision_zero() {
        assert_eq!(Current { key: "/p/a".into(), value: None }.revision(), Revision::ABSENT);
        assert_eq!(Current { key: "/p/a".into(), value: Some((Revision(9), vec![])) }.revision(), Revision(9));
    }
}
