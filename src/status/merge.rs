//! Puts what we want to say of an object beside what others wrote there.
//!
//! The object's `.status` as it is and the part of ours as it should be go in; the fields to patch come out, or that there
//! is nothing to do. What others wrote is never dropped, changed or reordered, even where it leaves no room for us.

use super::{
    fields::{self, CLASS_TYPES, GATEWAY_TYPES, LISTENER_TYPES, ParentKey},
    print::StatusPrint,
    reasons::ConditionType,
};
use crate::model::{facts::ParentRef, names::Kind};
use serde_json::{Map, Value};

/// `maxItems` of a route's `status.parents`.
const PARENTS_MAX: usize = 32;

/// `maxItems` of every list of conditions.
const CONDITIONS_MAX: usize = 8;

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
    /// Parents whose entries of ours are left as they are.
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
        Kind::GatewayClass => vec![
            ("conditions", merge_conditions(current, wanted, Some(CLASS_TYPES), merging.now, &mut unplaced)),
            ("supportedFeatures", fields::items(wanted, "supportedFeatures").to_vec()),
        ],
        Kind::Gateway => vec![
            ("conditions", merge_conditions(current, wanted, Some(GATEWAY_TYPES), merging.now, &mut unplaced)),
            ("listeners", merge_listeners(current, wanted, merging.now, &mut unplaced)),
        ],
        Kind::TcpRoute => vec![("parents", merge_parents(merging, &mut unplaced))],
        Kind::ReferenceGrant | Kind::Namespace | Kind::Service | Kind::EndpointSlice => Vec::new(),
    };
    let patch: Map<String, Value> = fields
        .into_iter()
        .filter(|(field, items)| fields::items(current, field) != items.as_slice())
        .map(|(field, items)| (field.to_owned(), Value::Array(items)))
        .collect();
    let write = if patch.is_empty() { Write::Unchanged } else { Write::Patch(Value::Object(patch)) };
    Merge { write, unplaced }
}

/// Whether the object is ahead of what `wanted` was computed from.
///
/// SUBTLE: an `observedGeneration` beyond the object's own generation says nothing (it was restored from a backup, or
/// somebody made it up); taking it for the truth would keep us from ever writing again.
fn is_stale(merging: &Merging<'_>) -> bool {
    let Merging { kind: _, generation, current, wanted, controller_name, frozen_parents, now: _ } = *merging;
    let Some(ours) = newest_generation(wanted, |_| true, controller_name) else {
        // Nothing is wanted but that entries of ours go, which is right whatever they were computed from.
        return false;
    };
    let frozen = |entry: &Value| is_frozen(entry, frozen_parents);
    let theirs = newest_generation(current, |entry| !frozen(entry), controller_name);
    let generation = generation.unwrap_or(i64::MAX);
    generation < ours || theirs.is_some_and(|theirs| ours < theirs && theirs <= generation)
}

/// The greatest `observedGeneration` of the conditions that are ours.
fn newest_generation(status: &Value, counts: impl Fn(&Value) -> bool, controller_name: &str) -> Option<i64> {
    let own = fields::items(status, "conditions").iter().filter(|condition| {
        // GatewayClasses and Gateways share this field; the types of one mean nothing foreign on the other.
        fields::is_of(condition, CLASS_TYPES) || fields::is_of(condition, GATEWAY_TYPES)
    });
    let listeners = fields::items(status, "listeners")
        .iter()
        .flat_map(|listener| fields::items(listener, "conditions"))
        .filter(|condition| fields::is_of(condition, LISTENER_TYPES));
    let parents = fields::items(status, "parents")
        .iter()
        .filter(|entry| fields::is_ours(entry, controller_name) && counts(entry))
        .flat_map(|entry| fields::items(entry, "conditions"));
    own.chain(listeners)
        .chain(parents)
        .filter_map(|condition| condition.get("observedGeneration").and_then(Value::as_i64))
        .max()
}

fn is_frozen(entry: &Value, frozen_parents: &[ParentRef]) -> bool {
    let key = ParentKey::of_entry(entry);
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

/// Entries of others and of frozen parents as they are and where they are, ours brought up to date or taken out, new
/// ones behind them.
fn merge_parents(merging: &Merging<'_>, unplaced: &mut usize) -> Vec<Value> {
    let Merging { kind: _, generation: _, current, wanted, controller_name, frozen_parents, now } = *merging;
    let mut left: Vec<&Value> = fields::items(wanted, "parents").iter().collect();
    let mut merged = Vec::new();
    for entry in fields::items(current, "parents") {
        if !fields::is_ours(entry, controller_name) {
            merged.push(entry.clone());
            continue;
        }
        let key = ParentKey::of_entry(entry);
        if let Some(index) = left.iter().position(|wanted| ParentKey::of_entry(wanted) == key) {
            let wanted = left.remove(index);
            let conditions = merge_conditions(entry, wanted, None, now, unplaced);
            merged.push(overlay(entry, wanted, conditions));
        } else if is_frozen(entry, frozen_parents) {
            merged.push(entry.clone());
        }
    }
    for wanted in left {
        if merged.len() < PARENTS_MAX {
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
