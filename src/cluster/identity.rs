//! Which cluster an API server belongs to: the UID of its namespace `kube-system`.
//!
//! One request out, one UID in. Every cluster has that namespace, nobody can delete it, and a cluster that is set up anew
//! gets another UID, while one restored from a backup keeps it.

use kube::{
    Client,
    core::{PartialObjectMeta, Request, params::GetParams},
};
use std::sync::Arc;

const NAMESPACES: &str = "/api/v1/namespaces";
const NAMESPACE: &str = "kube-system";

/// The API server did not say which cluster it belongs to; ask again.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    /// A person must grant a right.
    #[error("reading namespace {NAMESPACE}, whose UID tells clusters apart, is forbidden: allow get on namespaces")]
    Forbidden(#[source] Box<kube::core::Status>),
    /// The namespace came without a UID.
    #[error("namespace {NAMESPACE}, whose UID tells clusters apart, has no UID")]
    WithoutUid,
    /// Anything else.
    #[error("reading namespace {NAMESPACE}, whose UID tells clusters apart, failed")]
    Asking(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Asks which cluster this is. May be dropped at any moment.
pub(super) async fn read(client: &Client) -> Result<Arc<str>, IdentityError> {
    let request = Request::new(NAMESPACES)
        .get_metadata(NAMESPACE, &GetParams::default())
        .map_err(|error| IdentityError::Asking(error.into()))?;
    match client.request::<PartialObjectMeta>(request).await {
        Ok(namespace) => match namespace.metadata.uid {
            Some(uid) if !uid.is_empty() => Ok(uid.into()),
            Some(_) | None => Err(IdentityError::WithoutUid),
        },
        Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => Err(IdentityError::Forbidden(status)),
        // kube's own error repeats the status twice over in its text; the status alone says it once.
        Err(kube::Error::Api(status)) => Err(IdentityError::Asking(status)),
        Err(error) => Err(IdentityError::Asking(error.into())),
    }
}
