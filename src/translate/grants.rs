//! Who may refer to what in another namespace: ReferenceGrants there decide (Gateway API, `ReferenceGrant`).

use super::known::Known;
use crate::model::names::{Kind, ObjectName, RouteRef};
use std::sync::Arc;

/// Who refers to an object.
#[derive(Clone, Copy, Debug)]
pub struct Referrer<'a> {
    /// What kind of object it is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a Arc<str>,
}

impl<'a> From<&'a RouteRef> for Referrer<'a> {
    fn from(route: &'a RouteRef) -> Self {
        Self { kind: route.kind, namespace: &route.name.namespace }
    }
}

/// Whether `from` may refer to `object`: in its own namespace always, elsewhere by a ReferenceGrant there.
#[must_use]
pub fn permitted(from: Referrer<'_>, kind: Kind, object: &ObjectName, known: &Known) -> bool {
    *from.namespace == object.namespace
        || known.grants.readable_in(&object.namespace).any(|grant| {
            let from = grant.from.iter().any(|allowed| {
                &*allowed.group == from.kind.group()
                    && &*allowed.kind == from.kind.as_str()
                    && allowed.namespace == *from.namespace
            });
            let to = grant.to.iter().any(|to| {
                &*to.group == kind.group()
                    && &*to.kind == kind.as_str()
                    && to.name.as_ref().is_none_or(|name| name.is_empty() || *name == object.name)
            });
            from && to
        })
}
