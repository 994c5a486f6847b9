//! Leases on etcd. Every request has a timeout, as in the parent.

use super::{
    EtcdStore,
    encode::revision,
    errors::{lease_ended, refusal},
};
use crate::store::{
    lease::{Claim, LeaseError, LeaseId, Leases},
    txn::Revision,
};
use etcd_client::{Compare, CompareOp, Error, PutOptions, Txn, TxnOp, TxnOpResponse};
use std::{future::Future, time::Duration};

impl Leases for EtcdStore {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        // A cluster that may take long to elect a leader makes it longer: 2 s at least with its defaults.
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = self.connection.send(|mut clients| async move { clients.lease.grant(seconds, None).await });
        self.about_lease(request).await.map(|granted| LeaseId(granted.id()))
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        // SUBTLE: making the stream renews the lease once and waits for the answer, and no more is wanted of it. A stream of
        // its own for each renewal cannot bring a late answer to an earlier one, and ends with its two halves here.
        let request = self.connection.send(|mut clients| async move { clients.lease.keep_alive(lease.0).await });
        self.about_lease(request).await.map(drop)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        let request = self.connection.send(|mut clients| async move { clients.lease.revoke(lease.0).await });
        match self.about_lease(request).await {
            Ok(_) | Err(LeaseError::Ended) => Ok(()),
            Err(error @ (LeaseError::Refused { .. } | LeaseError::Unanswered { .. })) => Err(error),
        }
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        let absent = Compare::create_revision(key, CompareOp::Equal, 0);
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease.0)));
        let txn = Txn::new().when([absent]).and_then([put]).or_else([TxnOp::get(key, None)]);
        let request = self.connection.send(|mut clients| {
            let txn = txn.clone();
            async move { clients.kv.txn(txn).await }
        });
        let response = self.about_lease(request).await?;
        let at = revision(response.header());
        if response.succeeded() {
            return Ok(Claim::Won(at));
        }
        let mut held = Claim::Held { at, created: Revision::ABSENT, value: Vec::new() };
        if let Some(TxnOpResponse::Get(got)) = response.op_responses().into_iter().next()
            && let Some(kv) = got.kvs().first()
        {
            held = Claim::Held { at, created: Revision(kv.create_revision()), value: kv.value().to_vec() };
        }
        Ok(held)
    }
}

impl EtcdStore {
    async fn about_lease<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, LeaseError> {
        let waited = self.request_timeout;
        match tokio::time::timeout(waited, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if lease_ended(&error) => Err(LeaseError::Ended),
            Ok(Err(error)) if refusal(&error) => Err(LeaseError::Refused { source: error.into() }),
            Ok(Err(error)) => Err(LeaseError::Unanswered { waited, source: error.into() }),
            Err(elapsed) => Err(LeaseError::Unanswered { waited, source: elapsed.into() }),
        }
    }
}
