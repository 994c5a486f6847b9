//! What is read of a BackendTLSPolicy: whom it is about. How it wants a backend to be verified is not, because nothing here could
//! have a data plane do it; what follows from that is for `translate/policies.rs` to say.

use crate::model::names::Created;
use std::sync::Arc;

/// Of a BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTlsPolicyFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `metadata.creationTimestamp`: decides between policies with one target.
    pub created: Created,
    /// `spec.targetRefs`, in their order.
    pub targets: Vec<PolicyTarget>,
}

/// One `targetRefs` entry; what it names is in the policy's own namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTarget {
    /// `group`, empty for the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`.
    pub name: Arc<str>,
    /// `sectionName`, of a Service the name of a port; `None` where absent or empty, for all of it.
    pub section_name: Option<Arc<str>>,
}
