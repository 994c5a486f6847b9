//! Puts what we want to say of an object beside what others wrote there.
//!
//! The object's `.status` as it is and the part of ours as it should be go in; the fields to patch come out, or that there
//! is nothing to do. What others wrote is never dropped, changed or reordered, even where it leaves no room for us.

use super::{
    fields::{self, ANCESTORS, CLASS_TYPES, Entries, GATEWAY_TYPES, LISTENER_TYPES, PARENTS, PLANE_TYPES, ParentKey},
    print::StatusPrint,
    reasons::ConditionType,
};
use crate::model::{facts::ParentRef, names::Kind};
use serde_json::{Map, Value};

/// `maxItems` of every list of conditions.
const CONDITIONS_MAX: usize = 8;

/// The one field of ours that is no list: how many ListenerSets a Gateway has. Absent means none.
const LISTENER_SETS: &str = "attachedListenerSets";

/// An object as it is now, and what we want it to say.
#[derive(Clone, Copy, Debug)]
pub struct Merging<'a> {
    /// The kind of the object.
    pub kind: Kind,
    /// Its `metadata.generation` now; `None` if it has none.
    pub generation: Option<i64>,
    /// Its whole `.status` now; null if it has none.
    pub current: &'a Value,
    /// What [`super::conditions::render`] made.
    pub wanted: &'a Value,
    /// `controllerName` of our entries.
    pub controller_name: &'a str,
    /// Parents or ancestors whose entries of ours are left as they are.
    pub frozen_parents: &'a [ParentRef],
    /// Now, as RFC 3339 in UTC with whole seconds: `lastTransitionTime` of conditions whose status changes.
    pub now: &'a str,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Merge {
    /// The write, if there is one.
    pub write: Write,
    /// Entries or conditions of ours for which others left no room in a list of bounded length.
    pub unplaced: usize,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Nothing: the status says it already, but for times.
    Unchanged,
    /// Nothing: what we know of the object is older than what its status was last computed from, or is of an object of
    /// that name that is gone. A newer wanted status follows when we have seen the newer object.
    Stale,
    /// These fields of `.status`, each as a whole: a JSON merge patch, to be guarded by the version of the object that
    /// `current` was read from.
    Patch(Value),
}

/// Merges what we want to say into what an object's status says. Pure: equal inputs give equal answers.
#[must_use]
pub fn merge(merging: &Merging<'_>) -> Merge {
    let Merging { kind, generation: _, current, wanted, controller_name, frozen_parents, now: _ } = *merging;
    let print = |status| StatusPrint::of(kind, status, controller_name);
    if !print(wanted).differs_from(&print(current), frozen_parents) {
        return Merge { write: Write::Unchanged, unplaced: 0 };
    }
    if is_stale(merging) {
        return Merge { write: Write::Stale, unplaced: 0 };
    }
    let mut unplaced = 0;
    let fields = match kind {
        Kind::DataPlane => {
            vec![("conditions", merge_conditions(current, wanted, Some(PLANE_TYPES), merging.now, &mut unplaced))]
        }
        Kind::GatewayClass => vec![
            ("conditions", merge_conditions(current, wanted, Some(CLASS_TYPES), merging.now, &mut unplaced)),
            ("supportedFeatures", fields::items(wanted, "supportedFeatures").to_vec()),
        ],
        Kind::Gateway | Kind::ListenerSet => vec![
            ("conditions", merge_conditions(current, wanted, Some(GATEWAY_TYPES), merging.now, &mut unplaced)),
            ("listeners", merge_listeners(current, wanted, merging.now, &mut unplaced)),
            // Ours as a whole, and gone where we know of none: what an earlier controller left there claims something.
            ("addresses", fields::items(wanted, "addresses").to_vec()),
        ],
        Kind::TcpRoute | Kind::UdpRoute | Kind::TlsRoute => {
            vec![(PARENTS.field, merge_entries(&PARENTS, merging, &mut unplaced))]
        }
        Kind::BackendTlsPolicy => vec![(ANCESTORS.field, merge_entries(&ANCESTORS, merging, &mut unplaced))],
        Kind::ReferenceGrant | Kind::Namespace | Kind::Secret | Kind::Service | Kind::EndpointSlice => Vec::new(),
    };
    let mut patch: Map<String, Value> = fields
        .into_iter()
        .filter(|(field, items)| fields::items(current, field) != items.as_slice())
        .map(|(field, items)| (field.to_owned(), Value::Array(items)))
        .collect();
    let n_sets = |status: &Value| {
        let n_sets = status.get(LISTENER_SETS).filter(|n_sets| !n_sets.is_null() && n_sets.as_u64() != Some(0));
        n_sets.cloned()
    };
    if kind == Kind::Gateway && n_sets(current) != n_sets(wanted) {
        patch.insert(LISTENER_SETS.to_owned(), n_sets(wanted).unwrap_or_else(|| 0.into()));
    }
    let write = if patch.is_empty() { Write::Unchanged } else { Write::Patch(Value::Object(patch)) };
    Merge { write, unplaced }
}

/// Whether the object is ahead of what `wanted` was computed from.
///
/// SUBTLE: an `observedGeneration` beyond the object's own generation says nothing (it was restored from a backup, or
/// somebody made it up); taking it for the truth would keep us from ever writing again.
fn is_stale(merging: &Merging<'_>) -> bool {
    let Merging { kind: _, generation, current, wanted, controller_name, frozen_parents, now: _ } = *merging;
    let Some(ours) = newest_generation(wanted, |_, _| true, controller_name) else {
        // Nothing is wanted but that entries of ours go, which is right whatever they were computed from.
        return false;
    };
    let counts = |entries: &Entries, entry: &Value| !is_frozen(entries, entry, frozen_parents);
    let theirs = newest_generation(current, counts, controller_name);
    let generation = generation.unwrap_or(i64::MAX);
    generation < ours || theirs.is_some_and(|theirs| ours < theirs && theirs <= generation)
}

/// The greatest `observedGeneration` of the conditions that are ours.
fn newest_generation(status: &Value, counts: impl Fn(&Entries, &Value) -> bool, controller_name: &str) -> Option<i64> {
    let own = fields::items(status, "conditions").iter().filter(|condition| {
        // DataPlanes, GatewayClasses and Gateways share this field; the types of one mean nothing foreign on the other.
        fields::is_of(condition, CLASS_TYPES) || fields::is_of(condition, GATEWAY_TYPES)
    });
    let listeners = fields::items(status, "listeners")
        .iter()
        .flat_map(|listener| fields::items(listener, "conditions"))
        .filter(|condition| fields::is_of(condition, LISTENER_TYPES));
    let entries = [PARENTS, ANCESTORS].into_iter().flat_map(|entries| {
        let ours = fields::items(status, entries.field).iter().filter(|entry| fields::is_ours(entry, controller_name));
        ours.filter(|entry| counts(&entries, entry)).collect::<Vec<_>>()
    });
    own.chain(listeners)
        .chain(entries.flat_map(|entry| fields::items(entry, "conditions")))
        .filter_map(|condition| condition.get("observedGeneration").and_then(Value::as_i64))
        .max()
}

fn is_frozen(entries: &Entries, entry: &Value, frozen_parents: &[ParentRef]) -> bool {
    let key = ParentKey::of_entry(entries, entry);
    frozen_parents.iter().any(|parent| ParentKey::of_ref(parent) == key)
}

/// `conditions` of `current` with those of `wanted` in their places. Types in `owned` that are not wanted go, all others
/// stay; `None` means that every type is ours.
fn merge_conditions(
    current: &Value,
    wanted: &Value,
    owned: Option<&[ConditionType]>,
    now: &str,
    unplaced: &mut usize,
) -> Vec<Value> {
    let mut left: Vec<&Value> = fields::items(wanted, "conditions").iter().collect();
    let mut merged = Vec::new();
    for condition in fields::items(current, "conditions") {
        let is_same = |wanted: &&Value| wanted.get("type") == condition.get("type");
        if let Some(index) = left.iter().position(is_same) {
            merged.push(with_time(left.remove(index), Some(condition), now));
        } else if owned.is_some_and(|types| !fields::is_of(condition, types)) {
            merged.push(condition.clone());
        }
    }
    for condition in left {
        if merged.len() < CONDITIONS_MAX {
            merged.push(with_time(condition, None, now));
        } else {
            *unplaced += 1;
        }
    }
    merged
}

/// `wanted` with the time at which its status last changed.
fn with_time(wanted: &Value, current: Option<&Value>, now: &str) -> Value {
    let kept = current
        .filter(|current| current.get("status") == wanted.get("status"))
        .and_then(|current| fields::text(current, "lastTransitionTime"));
    let mut condition = wanted.clone();
    if let Some(fields) = condition.as_object_mut() {
        fields.insert("lastTransitionTime".to_owned(), kept.unwrap_or(now).into());
    }
    condition
}

/// Exactly the wanted listeners, in their order, each with what others say of it.
fn merge_listeners(current: &Value, wanted: &Value, now: &str, unplaced: &mut usize) -> Vec<Value> {
    fields::items(wanted, "listeners")
        .iter()
        .map(|listener| {
            let before = fields::items(current, "listeners")
                .iter()
                .find(|before| before.get("name") == listener.get("name"))
                .unwrap_or(&Value::Null);
            let conditions = merge_conditions(before, listener, Some(LISTENER_TYPES), now, unplaced);
            overlay(before, listener, conditions)
        })
        .collect()
}

/// Entries of others and of frozen parents or ancestors as they are and where they are, ours brought up to date or taken out, new
/// ones behind them.
fn merge_entries(entries: &Entries, merging: &Merging<'_>, unplaced: &mut usize) -> Vec<Value> {
    let Merging { kind: _, generation: _, current, wanted, controller_name, frozen_parents, now } = *merging;
    let mut left: Vec<&Value> = fields::items(wanted, entries.field).iter().collect();
    let mut merged = Vec::new();
    for entry in fields::items(current, entries.field) {
        if !fields::is_ours(entry, controller_name) {
            merged.push(entry.clone());
            continue;
        }
        let key = ParentKey::of_entry(entries, entry);
        if let Some(index) = left.iter().position(|wanted| ParentKey::of_entry(entries, wanted) == key) {
            let wanted = left.remove(index);
            let conditions = merge_conditions(entry, wanted, None, now, unplaced);
            merged.push(overlay(entry, wanted, conditions));
        } else if is_frozen(entries, entry, frozen_parents) {
            merged.push(entry.clone());
        }
    }
    for wanted in left {
        if merged.len() < entries.max {
            let conditions = merge_conditions(&Value::Null, wanted, None, now, unplaced);
            merged.push(overlay(&Value::Null, wanted, conditions));
        } else {
            *unplaced += 1;
        }
    }
    merged
}

/// `before` with the fields of `wanted` over it and these conditions; fields we know nothing of stay.
fn overlay(before: &Value, wanted: &Value, conditions: Vec<Value>) -> Value {
    let mut merged = before.as_object().cloned().unwrap_or_default();
    for (field, value) in wanted.as_object().into_iter().flatten() {
        merged.insert(field.clone(), value.clone());
    }
    merged.insert("conditions".to_owned(), Value::Array(conditions));
    Value::Object(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::samples::{self, GENERATION, OURS, parent};
    use serde_json::json;

    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const NOW: &str = "2026-11-21T09:00:00Z";

    fn merging<'a>(kind: Kind, current: &'a Value, wanted: &'a Value) -> Merging<'a> {
        let generation = Some(GENERATION);
        Merging { kind, generation, current, wanted, controller_name: OURS, frozen_parents: &[], now: NOW }
    }

    /// What the status is after the write, as a JSON merge patch makes it.
    #[track_caller]
    fn applied(merging: &Merging<'_>) -> Value {
        let Merge { write: Write::Patch(Value::Object(patch)), unplaced: 0 } = merge(merging) else {
            panic!("{:?}", merge(merging))
        };
        let mut status = merging.current.as_object().cloned().unwrap_or_default();
        status.extend(patch);
        Value::Object(status)
    }

    fn their_entry() -> Value {
        json!({
            "conditions": [{"type": "Accepted", "status": "True", "odd": [1, null]}],
            "controllerName": "example.com/other",
            "parentRef": {"name": "gw"},
        })
    }

    /// A status that holds what others may have written, and stale words of ours.
    fn lived_in() -> Value {
        let foreign = json!({"type": "example.com/Scanned", "status": "True", "lastTransitionTime": BEFORE});
        let stale = json!({"type": "Accepted", "status": "Unknown", "reason": "Pending", "lastTransitionTime": BEFORE});
        json!({
            "odd": [{"value": "192.0.2.1"}],
            "conditions": [stale, foreign, {"type": "ResolvedRefs", "status": "False"}],
            "listeners": [{"name": "gone"}, {"name": "a", "conditions": [foreign, stale]}],
            "parents": [
                their_entry(),
                {"controllerName": OURS, "parentRef": {"name": "gone"}, "conditions": [stale]},
                {"controllerName": OURS, "parentRef": {"name": "gw1"}, "conditions": [stale]},
            ],
        })
    }

    #[test]
    fn what_was_merged_prints_as_what_was_wanted_and_needs_no_second_write() {
        for (kind, wanted) in samples::all() {
            for current in [json!(null), lived_in()] {
                let merging = merging(kind, &current, &wanted);
                let status = match merge(&merging).write {
                    Write::Patch(_) => applied(&merging),
                    Write::Unchanged => current.clone(),
                    Write::Stale => panic!("stale: {wanted}"),
                };
                let print = |status| StatusPrint::of(kind, status, OURS);
                assert_eq!(print(&wanted), print(&status), "{status}");
                let again = Merging { current: &status, ..merging };
                assert_eq!(merge(&again), Merge { write: Write::Unchanged, unplaced: 0 });
            }
        }
    }

    #[test]
    fn a_status_that_differs_only_in_times_and_order_is_left_alone() {
        let wanted = samples::gateway(&["a", "b"]);
        let mut current = applied(&merging(Kind::Gateway, &json!(null), &wanted));
        current["conditions"].as_array_mut().unwrap().reverse();
        current["listeners"].as_array_mut().unwrap().reverse();
        current["conditions"][0]["lastTransitionTime"] = json!(BEFORE);
        assert_eq!(merge(&merging(Kind::Gateway, &current, &wanted)).write, Write::Unchanged);
    }

    #[test]
    fn the_number_of_listener_sets_is_written_and_taken_back() {
        let none = samples::gateway(&["a"]);
        let mut two = none.clone();
        two["attachedListenerSets"] = json!(2);
        let status = applied(&merging(Kind::Gateway, &json!(null), &two));
        assert_eq!(status["attachedListenerSets"], 2);
        let Write::Patch(patch) = merge(&merging(Kind::Gateway, &status, &none)).write else { panic!() };
        assert_eq!(patch, json!({"attachedListenerSets": 0}));
        // CRDs that do not know the field drop it, which is none as well.
        for gone in [json!(0), json!(null)] {
            let mut status = status.clone();
            status["attachedListenerSets"] = gone;
            assert_eq!(merge(&merging(Kind::Gateway, &status, &none)).write, Write::Unchanged);
        }
    }

    #[test]
    fn a_time_moves_only_when_the_status_of_its_condition_does() {
        let wanted = samples::gateway(&["a"]);
        let current = json!({"conditions": [
            {"type": "Accepted", "status": "True", "reason": "ListenersNotValid", "lastTransitionTime": BEFORE},
            {"type": "Programmed", "status": "Unknown", "reason": "Pending", "lastTransitionTime": BEFORE},
        ]});
        let status = applied(&merging(Kind::Gateway, &current, &wanted));
        assert_eq!(status["conditions"][0]["lastTransitionTime"], BEFORE);
        assert_eq!(status["conditions"][0]["reason"], "Accepted");
        assert_eq!(status["conditions"][1]["lastTransitionTime"], NOW);
        assert_eq!(status["listeners"][0]["conditions"][0]["lastTransitionTime"], NOW);
    }

    #[test]
    fn condition_types_of_others_stay_where_they_are_and_ours_that_are_not_wanted_go() {
        let (current, wanted) = (lived_in(), samples::gateway(&["a", "b"]));
        let status = applied(&merging(Kind::Gateway, &current, &wanted));
        let types = |of: &Value| -> Vec<String> {
            of["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(types(&status), ["Accepted", "example.com/Scanned", "Programmed"]);
        assert_eq!(status["conditions"][1], current["conditions"][1]);
        assert_eq!(types(&status["listeners"][0]), ["example.com/Scanned", "Accepted", "Programmed", "ResolvedRefs"]);
        let names: Vec<&Value> = status["listeners"].as_array().unwrap().iter().map(|l| &l["name"]).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn addresses_are_replaced_as_a_whole_and_taken_back() {
        let mut wanted = samples::gateway(&["a"]);
        let mut current = applied(&merging(Kind::Gateway, &Value::Null, &wanted));
        assert_eq!(current.get("addresses"), None);
        current["addresses"] = json!([{"value": "192.0.2.1"}]);
        let Write::Patch(patch) = merge(&merging(Kind::Gateway, &current, &wanted)).write else { panic!() };
        assert_eq!(patch, json!({"addresses": []}));
        let addresses = json!([{"type": "IPAddress", "value": "192.0.2.1"}, {"type": "Hostname", "value": "h"}]);
        wanted["addresses"] = addresses.clone();
        let Write::Patch(patch) = merge(&merging(Kind::Gateway, &current, &wanted)).write else { panic!() };
        assert_eq!(patch, json!({"addresses": addresses}));
    }

    #[test]
    fn fields_that_are_not_ours_are_not_in_the_patch() {
        let (current, wanted) = (lived_in(), samples::gateway(&["a"]));
        let Write::Patch(patch) = merge(&merging(Kind::Gateway, &current, &wanted)).write else { panic!() };
        assert_eq!(patch.as_object().unwrap().keys().collect::<Vec<_>>(), ["conditions", "listeners"]);
        let mut current = applied(&merging(Kind::Gateway, &current, &wanted));
        current["listeners"][0]["attachedRoutes"] = json!(99);
        let Write::Patch(patch) = merge(&merging(Kind::Gateway, &current, &wanted)).write else { panic!() };
        assert_eq!(patch.as_object().unwrap().keys().collect::<Vec<_>>(), ["listeners"]);
    }

    #[test]
    fn entries_of_others_stay_byte_for_byte_and_in_order() {
        let mut current = lived_in();
        let last = json!({"controllerName": "example.com/last", "parentRef": {"name": "z"}});
        current["parents"].as_array_mut().unwrap().push(last.clone());
        let wanted = samples::route(&[parent("new"), parent("gw1")]);
        let status = applied(&merging(Kind::TcpRoute, &current, &wanted));
        let parents = status["parents"].as_array().unwrap();
        assert_eq!(parents[0].to_string(), their_entry().to_string());
        assert_eq!(parents[1]["parentRef"]["name"], "gw1");
        assert_eq!(parents[2].to_string(), last.to_string());
        assert_eq!(parents[3]["parentRef"]["name"], "new");
        assert_eq!(parents.len(), 4);
    }

    #[test]
    fn our_entries_go_when_no_parent_is_ours_any_more_and_theirs_stay() {
        let (current, wanted) = (lived_in(), samples::route(&[]));
        assert_eq!(applied(&merging(Kind::TcpRoute, &current, &wanted))["parents"], json!([their_entry()]));
        let theirs = json!({"parents": [their_entry()]});
        assert_eq!(merge(&merging(Kind::TcpRoute, &theirs, &wanted)).write, Write::Unchanged);
        assert_eq!(merge(&merging(Kind::TcpRoute, &json!(null), &wanted)).write, Write::Unchanged);
    }

    #[test]
    fn entries_of_frozen_parents_stay_and_a_second_entry_for_one_parent_goes() {
        let mut current = lived_in();
        let twin = current["parents"][2].clone();
        current["parents"].as_array_mut().unwrap().push(twin);
        let (wanted, frozen) = (samples::route(&[parent("gw1")]), [parent("gone")]);
        let merging = Merging { frozen_parents: &frozen, ..merging(Kind::TcpRoute, &current, &wanted) };
        let status = applied(&merging);
        assert_eq!(status["parents"][1], current["parents"][1]);
        assert_eq!(status["parents"].as_array().unwrap().len(), 3);
        assert_eq!(merge(&Merging { current: &status, ..merging }).write, Write::Unchanged);
    }

    #[test]
    fn a_policys_ancestors_are_merged_as_a_routes_parents_are() {
        let theirs = json!({"controllerName": "example.com/other", "ancestorRef": {"name": "gw"}, "conditions": []});
        let ours = |namespace: &str, name: &str| {
            let ancestor = json!({"namespace": namespace, "name": name});
            json!({"controllerName": OURS, "ancestorRef": ancestor, "conditions": [{"type": "Accepted"}]})
        };
        let current =
            json!({"ancestors": [ours("infra", "gone"), theirs, ours("infra", "frozen"), ours("infra", "gw")]});
        let frozen = [ParentRef { namespace: Some("infra".into()), ..parent("frozen") }];
        let wanted = samples::policy(&["gw", "new"]);
        let merging = Merging { frozen_parents: &frozen, ..merging(Kind::BackendTlsPolicy, &current, &wanted) };
        let status = applied(&merging);
        let ancestors = status["ancestors"].as_array().unwrap();
        assert_eq!(ancestors[0].to_string(), theirs.to_string());
        assert_eq!(ancestors[1], current["ancestors"][2]);
        let named: Vec<&Value> = ancestors[2..].iter().map(|entry| &entry["ancestorRef"]["name"]).collect();
        assert_eq!(named, ["gw", "new"]);
        assert_eq!(ancestors[2]["conditions"][0]["reason"], "Invalid");
        assert_eq!(merge(&Merging { current: &status, ..merging }).write, Write::Unchanged);
    }

    #[test]
    fn a_policy_has_at_most_sixteen_ancestors_and_those_of_others_stay() {
        let wanted = samples::policy(&["a", "b"]);
        for (n_theirs, n_placed) in [(14, 2), (15, 1), (16, 0)] {
            let theirs =
                (0..n_theirs).map(|n| json!({"controllerName": "example.com/other", "ancestorRef": {"name": n}}));
            let current = json!({"ancestors": theirs.collect::<Vec<_>>()});
            let Merge { write, unplaced } = merge(&merging(Kind::BackendTlsPolicy, &current, &wanted));
            assert_eq!(unplaced, 2 - n_placed);
            match write {
                Write::Patch(patch) => {
                    let ancestors = patch["ancestors"].as_array().unwrap();
                    assert_eq!(ancestors.len(), n_theirs + n_placed);
                    assert_eq!(ancestors[..n_theirs], *current["ancestors"].as_array().unwrap());
                }
                Write::Unchanged => assert_eq!(n_placed, 0),
                Write::Stale => panic!("nothing is stale here"),
            }
        }
    }

    fn crowded(n_theirs: usize) -> Value {
        let theirs = (0..n_theirs).map(|n| json!({"controllerName": "example.com/other", "parentRef": {"name": n}}));
        json!({"parents": theirs.collect::<Vec<_>>()})
    }

    #[test]
    fn entries_of_others_are_never_dropped_to_make_room() {
        let wanted = samples::route(&[parent("a"), parent("b")]);
        for (n_theirs, n_placed) in [(30, 2), (31, 1), (32, 0)] {
            let current = crowded(n_theirs);
            let Merge { write, unplaced } = merge(&merging(Kind::TcpRoute, &current, &wanted));
            assert_eq!(unplaced, 2 - n_placed);
            match write {
                Write::Patch(patch) => {
                    let parents = patch["parents"].as_array().unwrap();
                    assert_eq!(parents.len(), n_theirs + n_placed);
                    assert_eq!(parents[..n_theirs], *current["parents"].as_array().unwrap());
                }
                Write::Unchanged => assert_eq!(n_placed, 0),
                Write::Stale => panic!("nothing is stale here"),
            }
        }
    }

    #[test]
    fn condition_types_of_others_are_never_dropped_to_make_room() {
        let wanted = samples::gateway(&[]);
        for (n_theirs, n_unplaced) in [(6, 0), (7, 1), (8, 2)] {
            let theirs = (0..n_theirs).map(|n| json!({"type": format!("example.com/{n}")}));
            let current = json!({"conditions": theirs.collect::<Vec<_>>()});
            let Merge { write, unplaced } = merge(&merging(Kind::Gateway, &current, &wanted));
            assert_eq!(unplaced, n_unplaced);
            if let Write::Patch(patch) = write {
                assert_eq!(patch["conditions"].as_array().unwrap().len(), 8);
            } else {
                assert_eq!((write, n_theirs), (Write::Unchanged, 8));
            }
        }
    }

    #[track_caller]
    fn check_generations(object: i64, observed: i64, want_stale: bool) {
        let condition = json!({"type": "Accepted", "status": "True", "observedGeneration": observed});
        for (kind, current, wanted) in [
            (Kind::GatewayClass, json!({"conditions": [condition]}), samples::all().swap_remove(0).1),
            (Kind::Gateway, json!({"conditions": [condition]}), samples::gateway(&["a"])),
            (Kind::Gateway, json!({"listeners": [{"name": "a", "conditions": [condition]}]}), samples::gateway(&["a"])),
            (
                Kind::TcpRoute,
                json!({"parents": [{"controllerName": OURS, "parentRef": {"name": "x"}, "conditions": [condition]}]}),
                samples::route(&[parent("gw")]),
            ),
            (
                Kind::BackendTlsPolicy,
                json!({"ancestors": [{"controllerName": OURS, "ancestorRef": {"name": "x"}, "conditions": [condition]}]}),
                samples::policy(&["gw"]),
            ),
        ] {
            let merging = Merging { generation: Some(object), ..merging(kind, &current, &wanted) };
            assert_eq!(merge(&merging).write == Write::Stale, want_stale, "{kind} {object} {observed}");
        }
    }

    #[test]
    fn nothing_is_written_over_a_status_of_a_newer_generation() {
        check_generations(GENERATION + 1, GENERATION + 1, true);
        check_generations(GENERATION + 1, GENERATION, false);
        check_generations(GENERATION, GENERATION - 1, false);
    }

    #[test]
    fn nothing_is_written_to_a_namesake_that_came_after_the_object() {
        check_generations(GENERATION - 1, 0, true);
    }

    #[test]
    fn a_generation_the_object_never_had_does_not_keep_us_out() {
        check_generations(GENERATION, GENERATION + 1, false);
    }

    #[test]
    fn generations_in_entries_of_others_and_of_frozen_parents_are_nobodys_truth() {
        let condition = json!({"type": "Accepted", "status": "True", "observedGeneration": GENERATION + 1});
        let current = json!({"parents": [
            {"controllerName": "example.com/other", "parentRef": {"name": "gw"}, "conditions": [condition]},
            {"controllerName": OURS, "parentRef": {"name": "frozen"}, "conditions": [condition]},
        ]});
        let (wanted, frozen) = (samples::route(&[parent("gw")]), [parent("frozen")]);
        let merging = Merging {
            generation: Some(GENERATION + 1),
            frozen_parents: &frozen,
            ..merging(Kind::TcpRoute, &current, &wanted)
        };
        assert_eq!(applied(&merging)["parents"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn shapes_that_no_schema_allows_are_overwritten_where_ours_and_never_fail() {
        for odd in
            [json!(1), json!("x"), json!([]), json!({"conditions": 1, "listeners": {}, "parents": [1, null, []]})]
        {
            for (kind, wanted) in samples::all() {
                let _ = merge(&merging(kind, &odd, &wanted));
            }
        }
    }
}
