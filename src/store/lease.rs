//! Leases: keys of the store that live only as long as their owner keeps saying so.

use super::{BoxError, txn::Revision};
use std::{future::Future, time::Duration};

/// A lease of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A store that grants leases.
pub trait Leases: Send + Sync + 'static {
    /// A new lease that ends `ttl` from now unless it is renewed; whole seconds, at least one. Dropping the future may leave a
    /// lease behind, which then ends by itself.
    fn grant(&self, ttl: Duration) -> impl Future<Output = Result<LeaseId, LeaseError>> + Send;

    /// Puts the end of a lease off to its whole time from now. Dropping the future is safe.
    fn renew(&self, lease: LeaseId) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Ends a lease, and with it every key that hangs on it. Ending one that is gone is no error.
    fn revoke(&self, lease: LeaseId) -> impl Future<Output = Result<(), LeaseError>> + Send;

    /// Creates `key` on `lease`, if nobody holds it. Dropping the future leaves it unknown whether it was created: the lease
    /// must then be given up.
    fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> impl Future<Output = Result<Claim, LeaseError>> + Send;
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The key is ours, created at this revision.
    Won(Revision),
    /// Somebody holds it.
    Held {
        /// The revision at which it was read.
        at: Revision,
        /// When it was created.
        created: Revision,
        /// Its value.
        value: Vec<u8>,
    },
}

/// A lease was not granted, kept, ended or used.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease (any more). What hung on it is gone.
    #[error("the lease has ended")]
    Ended,
    /// Not done, and it will not be. Try again later.
    #[error("the store refused a lease")]
    Refused {
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// Perhaps done. After a claim, give the lease up and begin with another; anything else may be tried again.
    #[error("no answer about a lease after {waited:?}")]
    Unanswered {
        /// How long was waited.
        waited: Duration,
        /// What the client said.
        #[source]
        source: BoxError,
    },
}
