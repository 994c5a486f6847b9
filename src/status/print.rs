//! Prints of the part of a status that is ours: small enough to hold for every object, exact enough to tell whether there
//! is anything to write.
//!
//! A `.status` goes in, as arbitrary as JSON can be; hashes come out. What is wanted and what an object shows are printed by
//! the same code, so equal prints mean that nothing is to be written. Hashes are 64 bits of BLAKE3 over fields with their
//! lengths: two different statuses of one object would have to collide there for a write to be missed.

use super::{
    fields::{self, CLASS_TYPES, GATEWAY_TYPES, LISTENER_TYPES, ParentKey},
    reasons::ConditionType,
};
use crate::model::{
    facts::ParentRef,
    names::{GATEWAY_GROUP, Kind},
};
use serde_json::Value;

/// What a status says of us, by part (a route's parent entry, a Gateway's listener, a condition): part hash to content hash.
/// Times and what other controllers wrote leave no trace in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusPrint {
    /// Sorted.
    parts: Box<[(u64, u64)]>,
}

impl StatusPrint {
    /// The print of `status` (an object's whole `.status`, or the part of ours that is wanted there) of an object of `kind`.
    ///
    /// Never fails: whatever has not the shape Gateway API gives it counts as absent, or as different from all we write.
    /// Kinds that carry no status of ours have an empty print.
    #[must_use]
    pub fn of(kind: Kind, status: &Value, controller_name: &str) -> Self {
        let mut parts = match kind {
            Kind::GatewayClass => class_parts(status),
            Kind::Gateway => gateway_parts(status),
            Kind::TcpRoute => route_parts(status, controller_name),
            Kind::ReferenceGrant | Kind::Namespace | Kind::Service | Kind::EndpointSlice => Vec::new(),
        };
        parts.sort_unstable();
        Self { parts: parts.into_boxed_slice() }
    }

    /// Whether an object whose status prints as `seen` must be written to say what `self` says. Entries seen of `frozen`
    /// parents are left as they are and do not count, unless `self` has something to say of that parent after all.
    #[must_use]
    pub fn differs_from(&self, seen: &Self, frozen: &[ParentRef]) -> bool {
        if frozen.is_empty() {
            return self != seen;
        }
        let frozen: Vec<u64> = frozen.iter().map(|parent| parent_part(&ParentKey::of_ref(parent))).collect();
        let wants = |part: u64| self.parts.iter().any(|(wanted, _)| *wanted == part);
        let seen = seen.parts.iter().filter(|(part, _)| !frozen.contains(part) || wants(*part));
        !self.parts.iter().eq(seen)
    }

    /// Whether the status says nothing of us.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}

fn class_parts(status: &Value) -> Vec<(u64, u64)> {
    let mut parts = condition_parts(status, CLASS_TYPES);
    if let Some(features) = status.get("supportedFeatures") {
        let mut content = Digest::new("features");
        for feature in features.as_array().into_iter().flatten() {
            content.field(feature.get("name"));
        }
        parts.push((Digest::new("supportedFeatures").finish(), content.finish()));
    }
    parts
}

fn gateway_parts(status: &Value) -> Vec<(u64, u64)> {
    let mut parts = condition_parts(status, GATEWAY_TYPES);
    for listener in fields::items(status, "listeners") {
        let mut part = Digest::new("listener");
        part.field(listener.get("name"));
        let mut content = Digest::new("listener content");
        for kind in fields::items(listener, "supportedKinds") {
            content.text(fields::text(kind, "group").unwrap_or(GATEWAY_GROUP)).field(kind.get("kind"));
        }
        content.field(listener.get("attachedRoutes"));
        let conditions = fields::items(listener, "conditions");
        content.conditions(conditions.iter().filter(|condition| fields::is_of(condition, LISTENER_TYPES)));
        parts.push((part.finish(), content.finish()));
    }
    parts
}

fn route_parts(status: &Value, controller_name: &str) -> Vec<(u64, u64)> {
    fields::items(status, "parents")
        .iter()
        .filter(|entry| fields::is_ours(entry, controller_name))
        .map(|entry| {
            let mut content = Digest::new("parent content");
            // An entry with our controller name is ours as a whole, whatever types of condition it holds.
            content.conditions(fields::items(entry, "conditions").iter());
            (parent_part(&ParentKey::of_entry(entry)), content.finish())
        })
        .collect()
}

fn condition_parts(status: &Value, types: &[ConditionType]) -> Vec<(u64, u64)> {
    fields::items(status, "conditions")
        .iter()
        .filter(|condition| fields::is_of(condition, types))
        .map(|condition| {
            let mut part = Digest::new("condition");
            part.field(condition.get("type"));
            (part.finish(), condition_hash(condition))
        })
        .collect()
}

fn parent_part(key: &ParentKey<'_>) -> u64 {
    let ParentKey { group, kind, namespace, name, section_name, port } = *key;
    let mut digest = Digest::new("parent");
    digest.text(group).text(kind).optional(namespace).optional(name).optional(section_name);
    match port {
        None => digest.optional(None),
        Some(port) => digest.text(&port.to_string()),
    };
    digest.finish()
}

/// Of everything a condition says but `lastTransitionTime`.
fn condition_hash(condition: &Value) -> u64 {
    let mut content = Digest::new("condition content");
    for field in ["type", "status", "reason", "message", "observedGeneration"] {
        content.field(condition.get(field));
    }
    content.finish()
}

/// A hash over fields, each with its length, so that no two lists of fields run together.
struct Digest(blake3::Hasher);

impl Digest {
    fn new(what: &str) -> Self {
        let mut digest = Self(blake3::Hasher::new());
        digest.text(what);
        digest
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) -> &mut Self {
        self.0.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.tagged(b's', text.as_bytes())
    }

    fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.tagged(b'-', &[]),
            Some(text) => self.text(text),
        }
    }

    /// A field of any shape; null is the same as absent, as it is to the API server.
    fn field(&mut self, value: Option<&Value>) -> &mut Self {
        match value {
            None | Some(Value::Null) => self.optional(None),
            Some(Value::String(text)) => self.text(text),
            Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
                self.tagged(b'j', other.to_string().as_bytes())
            }
        }
    }

    /// Conditions, in whatever order: they are a map by type.
    fn conditions<'a>(&mut self, conditions: impl Iterator<Item = &'a Value>) -> &mut Self {
        let mut hashes: Vec<u64> = conditions.map(condition_hash).collect();
        hashes.sort_unstable();
        for hash in hashes {
            self.tagged(b'c', &hash.to_le_bytes());
        }
        self
    }

    fn finish(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
