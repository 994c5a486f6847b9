//! What etcd's errors mean to whoever asked. Pure.
//!
//! In: errors of its client. Out: whether the request was refused for good, whether a revision or a lease is gone. Everything
//! that is not known for sure counts as no answer.

use super::connection::is_token_stale;
use crate::store::{ReadError, txn::Ground};
use etcd_client::Error;

/// How etcd says that a revision is gone (`ErrCompacted` in its `rpctypes`); the status code, OutOfRange, is also that of
/// a revision yet to come.
const COMPACTED: &str = "required revision has been compacted";

/// How etcd says that there is no such lease (`ErrLeaseNotFound` in its `rpctypes`).
const LEASE_NOT_FOUND: &str = "requested lease not found";

/// How the client says so, when it renewed a lease and was answered that no time is left.
const NOT_RENEWED: &str = "lease not found";

/// How etcd says that a lease would last too long (`ErrLeaseTTLTooLarge` in its `rpctypes`).
const TTL_TOO_LARGE: &str = "too large lease TTL";

pub(super) fn read_error(error: Error) -> ReadError {
    if matches!(&error, Error::GRpcStatus(status) if status.message().contains(COMPACTED)) {
        return ReadError::Compacted;
    }
    ReadError::Failed { source: error.into() }
}

/// Whether there is no such lease.
pub(super) fn lease_ended(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains(LEASE_NOT_FOUND))
        || matches!(error, Error::LeaseKeepAliveError(said) if said == NOT_RENEWED)
}

/// How etcd says that its quota is used up (`ErrNoSpace` in its `rpctypes`).
const NO_SPACE: &str = "database space exceeded";

/// Why etcd refused.
pub(super) fn ground(error: &Error) -> Ground {
    let Error::GRpcStatus(status) = error else { return Ground::Other };
    match (status.message().contains(NO_SPACE), i32::from(status.code())) {
        (true, _) => Ground::Full,
        (false, PERMISSION_DENIED) => Ground::Forbidden,
        (false, _) => Ground::Other,
    }
}

/// Whether etcd itself said that it did not and will not do what was asked.
///
/// Whatever else went wrong, even an error status of etcd's (its own timeout, a lost leader), may hide a transaction that
/// was applied or still will be.
pub(super) fn refusal(error: &Error) -> bool {
    if is_token_stale(error) {
        return true;
    }
    matches!(error, Error::GRpcStatus(status) if refuses(status.code().into(), status.message()))
}

const INVALID_ARGUMENT: i32 = 3;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const OUT_OF_RANGE: i32 = 11;
const UNAUTHENTICATED: i32 = 16;

fn refuses(code: i32, message: &str) -> bool {
    match code {
        INVALID_ARGUMENT | PERMISSION_DENIED | UNAUTHENTICATED => true,
        // SUBTLE: the transport gives its own troubles this code too, so only words of etcd's count: no space left, too
        // many requests, a request larger than its limit.
        RESOURCE_EXHAUSTED => {
            ["etcdserver: ", "grpc: received message larger than max"].iter().any(|begin| message.starts_with(begin))
        }
        OUT_OF_RANGE => message.contains(TTL_TOO_LARGE),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: i32 = 5;
    const FAILED_PRECONDITION: i32 = 9;
    const UNAVAILABLE: i32 = 14;

    #[test]
    fn what_etcd_says_before_it_does_anything_is_a_refusal() {
        for (code, message) in [
            (INVALID_ARGUMENT, "etcdserver: too many operations in txn request"),
            (INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request"),
            (INVALID_ARGUMENT, "etcdserver: request is too large"),
            (INVALID_ARGUMENT, "etcdserver: revision of auth store is old"),
            (PERMISSION_DENIED, "etcdserver: permission denied"),
            (UNAUTHENTICATED, "etcdserver: invalid auth token"),
            (RESOURCE_EXHAUSTED, "etcdserver: mvcc: database space exceeded"),
            (RESOURCE_EXHAUSTED, "etcdserver: too many requests"),
            (RESOURCE_EXHAUSTED, "grpc: received message larger than max (2097200 vs. 2097152)"),
            (OUT_OF_RANGE, "etcdserver: too large lease TTL"),
        ] {
            assert!(refuses(code, message), "{message}");
        }
    }

    #[test]
    fn what_may_hide_a_request_that_was_done_is_none() {
        for (code, message) in [
            (UNAVAILABLE, "etcdserver: no leader"),
            (UNAVAILABLE, "etcdserver: leader changed"),
            (UNAVAILABLE, "etcdserver: request timed out"),
            (UNAVAILABLE, "etcdserver: request timed out, possibly due to previous leader failure"),
            (UNAVAILABLE, "etcdserver: server stopped"),
            (FAILED_PRECONDITION, "etcdserver: not leader"),
            (RESOURCE_EXHAUSTED, "h2 protocol error: too many streams"),
            (OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision"),
            (NOT_FOUND, "etcdserver: requested lease not found"),
            (2, "transport error"),
            (4, "context deadline exceeded"),
        ] {
            assert!(!refuses(code, message), "{message}");
        }
    }

    #[test]
    fn a_lease_has_ended_only_when_somebody_said_so() {
        let of_keeper = |said: &str| Error::LeaseKeepAliveError(said.to_owned());
        assert!(lease_ended(&of_keeper("lease not found")));
        assert!(!lease_ended(&of_keeper("channel closed")));
        assert!(!lease_ended(&Error::WatchError("failed to create lease keeper".to_owned())));
    }
}
