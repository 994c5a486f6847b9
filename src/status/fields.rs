//! The fields of a `.status` that concern us, read from arbitrary JSON: which entries and condition types are ours, and
//! which parent or ancestor an entry is about. Shared by [`super::print`] and [`super::merge`], which must never disagree on it.

use super::reasons::ConditionType;
use crate::model::{facts::ParentRef, names::GATEWAY_GROUP};
use serde_json::Value;

/// Condition types of a DataPlane that only its controller sets.
pub(super) const PLANE_TYPES: &[ConditionType] = &[ConditionType::Accepted];

/// Condition types of a GatewayClass that only its controller sets.
pub(super) const CLASS_TYPES: &[ConditionType] = &[ConditionType::Accepted, ConditionType::SupportedVersion];

/// Condition types of a Gateway or a ListenerSet that only its controller sets. `ResolvedRefs` is not said yet, but one left behind by an
/// earlier controller would go on claiming something.
pub(super) const GATEWAY_TYPES: &[ConditionType] =
    &[ConditionType::Accepted, ConditionType::Programmed, ConditionType::ResolvedRefs];

/// Condition types of a listener that only its Gateway's controller sets.
pub(super) const LISTENER_TYPES: &[ConditionType] = &[
    ConditionType::Accepted,
    ConditionType::Programmed,
    ConditionType::ResolvedRefs,
    ConditionType::Conflicted,
    ConditionType::OverlappingTlsConfig,
];

/// A list of a status in which every controller has entries of its own, one for each object that the status is about.
#[derive(Debug)]
pub(super) struct Entries {
    /// The field it is in.
    pub(super) field: &'static str,
    /// The field of an entry that names the object.
    pub(super) reference: &'static str,
    /// `maxItems` of the list.
    pub(super) max: usize,
}

/// `status.parents` of a route.
pub(super) const PARENTS: Entries = Entries { field: "parents", reference: "parentRef", max: 32 };

/// `status.ancestors` of a policy.
pub(super) const ANCESTORS: Entries = Entries { field: "ancestors", reference: "ancestorRef", max: 16 };

/// The elements of an array field; none where it is absent or something else.
pub(super) fn items<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text field; `None` where it is absent or something else.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

/// Whether a condition is of one of these types.
pub(super) fn is_of(condition: &Value, types: &[ConditionType]) -> bool {
    text(condition, "type").is_some_and(|found| types.iter().any(|r#type| r#type.as_str() == found))
}

/// Whether an entry of a route's `parents`, or of a policy's `ancestors`, is ours.
pub(super) fn is_ours(entry: &Value, controller_name: &str) -> bool {
    text(entry, "controllerName") == Some(controller_name)
}

/// Which parent an entry is about, with the defaults of group and kind filled in: what a spec and a status mean, however
/// they are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ParentKey<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) name: Option<&'a str>,
    pub(super) section_name: Option<&'a str>,
    pub(super) port: Option<i64>,
}

impl<'a> ParentKey<'a> {
    /// Of an entry of such a list.
    pub(super) fn of_entry(entries: &Entries, entry: &'a Value) -> Self {
        let parent = entry.get(entries.reference).unwrap_or(&Value::Null);
        Self {
            group: text(parent, "group").unwrap_or(GATEWAY_GROUP),
            kind: text(parent, "kind").unwrap_or("Gateway"),
            namespace: text(parent, "namespace"),
            name: text(parent, "name"),
            section_name: text(parent, "sectionName"),
            port: parent.get("port").and_then(Value::as_i64),
        }
    }

    /// Of a parentRef of a spec.
    pub(super) fn of_ref(parent: &'a ParentRef) -> Self {
        let ParentRef { group, kind, namespace, name, section_name, port } = parent;
        Self {
            group,
            kind,
            namespace: namespace.as_deref(),
            name: Some(name),
            section_name: section_name.as_deref(),
            port: *port,
        }
    }
}
