//! Prints of the part of a status that is ours: small enough to hold for every object, exact enough to tell whether there
//! is anything to write.
//!
//! A `.status` goes in, as arbitrary as JSON can be; hashes come out. What is wanted and what an object shows are printed by
//! the same code, so equal prints mean that nothing is to be written. Hashes are 64 bits of BLAKE3 over fields with their
//! lengths: two different statuses of one object would have to collide there for a write to be missed.

use super::{
    fields::{self, ANCESTORS, CLASS_TYPES, Entries, GATEWAY_TYPES, LISTENER_TYPES, PARENTS, PLANE_TYPES, ParentKey},
    reasons::ConditionType,
};
use crate::model::{
    facts::ParentRef,
    names::{GATEWAY_GROUP, Kind},
};
use serde_json::Value;

/// What a status says of us, by part (a route's parent entry, a policy's ancestor, a Gateway's listener, a
/// condition): part hash to content hash.
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
            Kind::DataPlane => condition_parts(status, PLANE_TYPES),
            Kind::GatewayClass => class_parts(status),
            Kind::Gateway | Kind::ListenerSet => gateway_parts(status),
            Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => entry_parts(&PARENTS, status, controller_name),
            Kind::BackendTlsPolicy => entry_parts(&ANCESTORS, status, controller_name),
            Kind::ReferenceGrant | Kind::Namespace | Kind::Secret | Kind::Service | Kind::EndpointSlice => Vec::new(),
        };
        parts.sort_unstable();
        Self { parts: parts.into_boxed_slice() }
    }

    /// The print of an object that carries the finalizer of a GatewayClass in use, or is to; which is no part of its
    /// status, but is written and put right like it.
    #[must_use]
    pub fn with_finalizer(mut self, carried: bool) -> Self {
        if carried {
            let mut parts = self.parts.into_vec();
            parts.push((Digest::new("finalizer").finish(), Digest::new("finalizer carried").finish()));
            parts.sort_unstable();
            self.parts = parts.into_boxed_slice();
        }
        self
    }

    /// Whether an object whose status prints as `seen` must be written to say what `self` says. Entries seen of `frozen`
    /// parents or ancestors are left as they are and do not count, unless `self` has something to say of that parent after all.
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
    let addresses = fields::items(status, "addresses");
    if !addresses.is_empty() {
        let mut content = Digest::new("addresses content");
        for address in addresses {
            content.text(fields::text(address, "type").unwrap_or("IPAddress")).field(address.get("value"));
        }
        parts.push((Digest::new("addresses").finish(), content.finish()));
    }
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
    // None is as good as absent.
    let n_sets = status.get("attachedListenerSets").filter(|n_sets| !n_sets.is_null() && n_sets.as_u64() != Some(0));
    if n_sets.is_some() {
        let mut content = Digest::new("sets");
        content.field(n_sets);
        parts.push((Digest::new("attachedListenerSets").finish(), content.finish()));
    }
    parts
}

fn entry_parts(entries: &Entries, status: &Value, controller_name: &str) -> Vec<(u64, u64)> {
    fields::items(status, entries.field)
        .iter()
        .filter(|entry| fields::is_ours(entry, controller_name))
        .map(|entry| {
            let mut content = Digest::new("parent content");
            // An entry with our controller name is ours as a whole, whatever types of condition it holds.
            content.conditions(fields::items(entry, "conditions").iter());
            (parent_part(&ParentKey::of_entry(entries, entry)), content.finish())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::samples::{self, OURS, parent};
    use serde_json::json;

    #[track_caller]
    fn check_differs(kind: Kind, status: &Value, spoil: impl FnOnce(&mut Value)) {
        let mut spoiled = status.clone();
        spoil(&mut spoiled);
        let (wanted, seen) = (StatusPrint::of(kind, status, OURS), StatusPrint::of(kind, &spoiled, OURS));
        assert!(wanted.differs_from(&seen, &[]), "{spoiled}");
    }

    #[test]
    fn no_two_samples_print_alike() {
        let samples = samples::all();
        for (n, (kind, status)) in samples.iter().enumerate() {
            let print = StatusPrint::of(*kind, status, OURS);
            for (other_kind, other) in &samples[..n] {
                assert_ne!(print, StatusPrint::of(*other_kind, other, OURS), "{status} {other}");
            }
        }
    }

    #[test]
    fn every_field_of_a_condition_shows_but_its_time() {
        let status = samples::route(&[parent("gw")]);
        for (field, value) in [
            ("type", json!("x")),
            ("status", json!("False")),
            ("reason", json!("x")),
            ("message", json!("x")),
            ("observedGeneration", json!(4)),
        ] {
            check_differs(Kind::TcpRoute, &status, |s| s["parents"][0]["conditions"][0][field] = value);
        }
        let print = StatusPrint::of(Kind::TcpRoute, &status, OURS);
        let mut timed = status;
        timed["parents"][0]["conditions"][0]["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(print, StatusPrint::of(Kind::TcpRoute, &timed, OURS));
    }

    #[test]
    fn the_order_of_conditions_and_listeners_does_not_show() {
        let mut status = samples::gateway(&["a", "b"]);
        let print = StatusPrint::of(Kind::Gateway, &status, OURS);
        status["conditions"].as_array_mut().unwrap().reverse();
        status["listeners"].as_array_mut().unwrap().reverse();
        status["listeners"][0]["conditions"].as_array_mut().unwrap().reverse();
        assert_eq!(print, StatusPrint::of(Kind::Gateway, &status, OURS));
    }

    #[test]
    fn every_field_of_a_listener_shows() {
        let status = samples::gateway(&["a"]);
        check_differs(Kind::Gateway, &status, |s| s["listeners"][0]["name"] = json!("b"));
        check_differs(Kind::Gateway, &status, |s| s["listeners"][0]["attachedRoutes"] = json!(4));
        check_differs(Kind::Gateway, &status, |s| s["listeners"][0]["supportedKinds"] = json!([]));
        check_differs(Kind::Gateway, &status, |s| s["listeners"][0]["supportedKinds"][0]["kind"] = json!("UDPRoute"));
        check_differs(Kind::Gateway, &status, |s| s["listeners"][0]["conditions"][0]["reason"] = json!("Invalid"));
        check_differs(Kind::Gateway, &status, |s| s["listeners"] = json!([]));
        check_differs(Kind::Gateway, &status, |s| {
            let stray = s["listeners"][0].clone();
            s["listeners"].as_array_mut().unwrap().push(stray);
        });
    }

    #[test]
    fn conditions_of_ours_that_are_no_longer_wanted_show() {
        let stray = json!({"type": "ResolvedRefs", "status": "True"});
        check_differs(Kind::Gateway, &samples::gateway(&["a"]), |s| {
            s["conditions"].as_array_mut().unwrap().push(stray);
        });
        let stray = json!({"type": "Conflicted", "status": "False", "reason": "NoConflicts"});
        check_differs(Kind::Gateway, &samples::gateway(&["a"]), |s| {
            s["listeners"][0]["conditions"].as_array_mut().unwrap().push(stray);
        });
    }

    #[test]
    fn defaults_that_the_api_server_fills_in_differ_from_all_we_write() {
        let (kind, status) = samples::all().into_iter().find(|(kind, _)| *kind == Kind::Gateway).unwrap();
        let defaults = json!({"conditions": [
            {"type": "Accepted", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
                "lastTransitionTime": "1970-01-01T00:00:00Z"},
            {"type": "Programmed", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller",
                "lastTransitionTime": "1970-01-01T00:00:00Z"}]});
        assert!(StatusPrint::of(kind, &status, OURS).differs_from(&StatusPrint::of(kind, &defaults, OURS), &[]));
    }

    #[test]
    fn what_others_wrote_leaves_no_trace() {
        let mut status = samples::route(&[parent("gw")]);
        let print = StatusPrint::of(Kind::TcpRoute, &status, OURS);
        let mut theirs = status["parents"][0].clone();
        theirs["controllerName"] = json!("example.com/other");
        status["parents"].as_array_mut().unwrap().insert(0, theirs);
        assert_eq!(print, StatusPrint::of(Kind::TcpRoute, &status, OURS));

        let mut status = samples::gateway(&["a"]);
        let print = StatusPrint::of(Kind::Gateway, &status, OURS);
        let foreign = json!({"type": "example.com/Scanned", "status": "True"});
        status["conditions"].as_array_mut().unwrap().push(foreign.clone());
        status["listeners"][0]["conditions"].as_array_mut().unwrap().insert(0, foreign);
        assert_eq!(print, StatusPrint::of(Kind::Gateway, &status, OURS));
    }

    #[test]
    fn addresses_are_ours_and_no_addresses_are_an_empty_list_of_them() {
        let mut status = samples::gateway(&["a"]);
        let without = StatusPrint::of(Kind::Gateway, &status, OURS);
        status["addresses"] = json!([]);
        assert_eq!(without, StatusPrint::of(Kind::Gateway, &status, OURS));
        status["addresses"] = json!([{"value": "192.0.2.1"}, {"type": "Hostname", "value": "h"}]);
        let print = StatusPrint::of(Kind::Gateway, &status, OURS);
        assert_ne!(print, without);
        check_differs(Kind::Gateway, &status, |s| s["addresses"][1]["type"] = json!("IPAddress"));
        check_differs(Kind::Gateway, &status, |s| s["addresses"].as_array_mut().unwrap().reverse());
        status["addresses"][0]["type"] = json!("IPAddress");
        assert_eq!(print, StatusPrint::of(Kind::Gateway, &status, OURS), "the default is filled in");
    }

    #[test]
    fn a_finalizer_is_part_of_what_a_class_says() {
        let print = || StatusPrint::of(Kind::GatewayClass, &samples::all()[0].1, OURS);
        assert!(print().with_finalizer(true).differs_from(&print(), &[]));
        assert!(print().differs_from(&print().with_finalizer(true), &[]));
        assert_eq!(print().with_finalizer(false), print());
        assert_eq!(print().with_finalizer(true), print().with_finalizer(true));
        assert!(!StatusPrint::default().with_finalizer(true).is_empty());
    }

    #[test]
    fn a_parent_is_the_same_with_and_without_its_defaults() {
        let mut status = samples::route(&[parent("gw")]);
        let print = StatusPrint::of(Kind::TcpRoute, &status, OURS);
        status["parents"][0]["parentRef"] = json!({"name": "gw"});
        assert_eq!(print, StatusPrint::of(Kind::TcpRoute, &status, OURS));
        for other in [
            json!({"name": "gw", "namespace": "default"}),
            json!({"name": "gw", "sectionName": "a"}),
            json!({"name": "gw", "port": 1}),
            json!({"name": "gw", "kind": "ListenerSet"}),
            json!({"name": "gw", "group": ""}),
        ] {
            check_differs(Kind::TcpRoute, &status, |s| s["parents"][0]["parentRef"] = other);
        }
    }

    #[test]
    fn entries_of_frozen_parents_do_not_count_as_differences() {
        let print = |parents: &[ParentRef]| StatusPrint::of(Kind::TcpRoute, &samples::route(parents), OURS);
        let (wanted, seen) = (print(&[parent("live")]), print(&[parent("live"), parent("frozen")]));
        assert!(wanted.differs_from(&seen, &[]));
        assert!(!wanted.differs_from(&seen, &[parent("frozen")]));
        assert!(wanted.differs_from(&print(&[parent("frozen")]), &[parent("frozen")]));
        assert!(!wanted.differs_from(&wanted, &[parent("frozen")]));
        assert!(!wanted.differs_from(&wanted, &[parent("live")]), "wanted after all");
    }

    #[test]
    fn a_status_that_says_nothing_of_us_is_empty() {
        for kind in Kind::ALL {
            for status in [json!(null), json!({}), json!({"parents": [], "conditions": [], "listeners": []})] {
                assert!(StatusPrint::of(kind, &status, OURS).is_empty(), "{kind} {status}");
            }
        }
        assert!(!StatusPrint::of(Kind::TcpRoute, &samples::route(&[parent("gw")]), OURS).is_empty());
    }

    #[test]
    fn shapes_that_no_schema_allows_are_taken() {
        let odd = [
            json!(null),
            json!(1),
            json!("x"),
            json!(true),
            json!([]),
            json!([null, 1, [[]], {"name": {}}]),
            json!({}),
        ];
        for kind in Kind::ALL {
            for value in &odd {
                for field in ["conditions", "listeners", "parents", "supportedFeatures"] {
                    let _ = StatusPrint::of(kind, &json!({ field: value }), OURS);
                }
                let condition = json!([{"type": "Accepted", "status": value, "observedGeneration": value}]);
                let status = json!({
                    "conditions": condition,
                    "listeners": [{"name": value, "supportedKinds": [value], "attachedRoutes": value, "conditions": value}],
                    "parents": [{"controllerName": OURS, "parentRef": value, "conditions": condition}],
                });
                let _ = StatusPrint::of(kind, &status, OURS);
                let _ = StatusPrint::of(kind, value, OURS);
            }
        }
    }
}
