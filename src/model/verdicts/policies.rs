//! Of a BackendTLSPolicy: what each Gateway says of it where TLS is ended for the backends that it is about.

use crate::model::{
    facts::ParentRef,
    names::{GATEWAY_GROUP, Kind, ObjectName},
};
use std::sync::Arc;

/// Of a BackendTLSPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// One for each Gateway of ours that it concerns, by name.
    pub ancestors: Vec<AncestorVerdict>,
    /// Gateways that it may concern and that are frozen: entries of ours there are left as they are.
    pub frozen_ancestors: Vec<ParentRef>,
}

/// Of a BackendTLSPolicy at one Gateway. None is ever accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AncestorVerdict {
    /// The Gateway, also where its ListenerSet takes the route.
    pub gateway: ObjectName,
    /// Why it is not accepted.
    pub refusal: PolicyRefusal,
}

/// Why a BackendTLSPolicy is not accepted at a Gateway that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyRefusal {
    /// It demands what the data plane cannot do. What it is about is refused.
    CannotVerify,
    /// Another one of the same namespace, older or as old and first by name, has every target of it.
    Conflicted {
        /// One that has.
        winner: ObjectName,
    },
    /// The Service has no port of this name, so it is about nothing.
    NoSuchPort {
        /// The Service.
        service: ObjectName,
        /// The name.
        port: Arc<str>,
    },
}

/// A Gateway as policies refer to one in their status.
#[must_use]
pub fn ancestor_ref(gateway: &ObjectName) -> ParentRef {
    ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: Kind::Gateway.as_str().into(),
        namespace: Some(Arc::clone(&gateway.namespace)),
        name: Arc::clone(&gateway.name),
        section_name: None,
        port: None,
    }
}
