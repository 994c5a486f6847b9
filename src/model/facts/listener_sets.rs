//! Facts of ListenerSets: plain values, as those of Gateways.

use super::{ListenerFacts, ParentRef};
use crate::model::names::Created;

/// Of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSetFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Created,
    /// `spec.parentRef`, without `sectionName` and `port`.
    pub parent: ParentRef,
    /// `spec.listeners`, in their order.
    pub listeners: Vec<ListenerFacts>,
}
