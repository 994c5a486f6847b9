//! What is read of a ReferenceGrant. Whether it permits a reference is for `translate/grants.rs` to say.

use std::sync::Arc;

/// Of a ReferenceGrant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceGrantFacts {
    /// `spec.from`: who may refer.
    pub from: Vec<GrantFrom>,
    /// `spec.to`: to what in the grant's own namespace.
    pub to: Vec<GrantTo>,
}

/// One `from` of a ReferenceGrant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFrom {
    /// `group`.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `namespace`.
    pub namespace: Arc<str>,
}

/// One `to` of a ReferenceGrant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTo {
    /// `group`, empty for the core group.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
    /// `name`; `None` or empty means every object of the kind.
    pub name: Option<Arc<str>>,
}
