//! Who of several replicas writes: one key in etcd, created with a lease, and the fence made from it.
//!
//! Settings and the question whether this replica is fit come in; [`Leadership`] comes out. What is done with it, and what
//! else must be known before anything is written, is the reconcile loop's business.

pub mod campaign;
mod key;
mod metrics;
#[cfg(test)]
mod tests;

use crate::store::txn::{Fence, Revision};
pub use metrics::Metrics;
use std::sync::Arc;

/// Where this replica stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// It does not lead.
    Standby {
        /// Who does, as far as known.
        leader: Option<Arc<str>>,
    },
    /// It leads, as far as it knows: only the fence knows for sure.
    Leading(Term),
}

impl Default for Leadership {
    fn default() -> Self {
        Self::Standby { leader: None }
    }
}

/// One time of leading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What every transaction of this term carries.
    pub fence: Fence,
}

impl Term {
    /// The revision at which it began: the creation of the leader key.
    #[must_use]
    pub fn began(&self) -> Revision {
        self.fence.created
    }
}

/// The loop gives leading up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resign {
    /// The term it is about; one that has ended already is no matter.
    pub term: Term,
    /// When to try again.
    pub again: Again,
}

/// When to campaign again after resigning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// At once, with a new lease.
    AtOnce,
    /// After the lease's whole time, so that another replica has its turn.
    Later,
}
