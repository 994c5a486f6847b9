//! What we say of an object: its verdict as the part of `.status` that is ours.
//!
//! A verdict and how documents stand in etcd go in; a JSON value without times comes out, the same for the same input.
//! Nothing here knows what the object's status says now, and no message carries what can change while its meaning does
//! not (no revisions, no endpoint counts): every new message is a write to the API server.

mod addresses;
mod backends;
mod certificates;
mod data_plane;
mod gateway;
mod gateway_class;
mod listener_set;
mod policy;
mod route;

use super::reasons::{ConditionStatus, ConditionType, Reason};
use crate::model::{
    names::ObjectRef,
    places::WorkId,
    verdicts::{Standing, Verdict},
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Names spelled out in one message; more are counted.
const NAMES_MAX: usize = 10;

/// Characters of a message: `maxLength` of `conditions[].message` in the CRDs.
const MESSAGE_CHARS_MAX: usize = 32_768;

/// The part of `object`'s `.status` that is ours: all of its conditions at once, each with the generation the verdict was
/// computed from and without `lastTransitionTime`, which [`super::merge`] adds.
///
/// - DataPlane: `{conditions}`
/// - GatewayClass: `{conditions, supportedFeatures}`
/// - Gateway: `{conditions, listeners}`, the listeners in the order of the spec; `attachedListenerSets` where it is not 0
/// - ListenerSet: `{conditions, listeners}`, as of a Gateway
/// - route: `{parents}`, in the order of the spec; empty when no parent is ours
/// - BackendTLSPolicy: `{ancestors}`, in the order of the Gateways' names; empty when it concerns none of ours
///
/// `standing` is asked only for the documents a route's claims or a listener's certificates name.
#[must_use]
pub fn render(
    object: &ObjectRef,
    verdict: &Verdict,
    controller_name: &str,
    standing: &dyn Fn(&WorkId) -> Standing,
) -> Value {
    render_held(object, verdict, controller_name, standing, None)
}

/// The same, where etcd may still hold slots of a route which it is to have no more: `held` is the name by which the guard
/// that keeps them is released.
#[must_use]
pub fn render_held(
    object: &ObjectRef,
    verdict: &Verdict,
    controller_name: &str,
    standing: &dyn Fn(&WorkId) -> Standing,
    held: Option<&str>,
) -> Value {
    match verdict {
        Verdict::DataPlane(plane) => data_plane::render(plane),
        Verdict::GatewayClass(class) => gateway_class::render(class),
        Verdict::Gateway(gateway) => gateway::render(gateway, standing),
        Verdict::ListenerSet(set) => listener_set::render(set, standing),
        Verdict::Policy(policy) => policy::render(policy, controller_name),
        Verdict::Route(route) => route::render(object, route, controller_name, standing, held),
    }
}

/// One condition, before it becomes JSON.
struct Condition {
    r#type: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

impl Condition {
    fn holds(r#type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::True, reason, message: message.into() }
    }

    fn fails(r#type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::False, reason, message: message.into() }
    }

    fn unknown(r#type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { r#type, status: ConditionStatus::Unknown, reason, message: message.into() }
    }

    fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    fn render(self, generation: i64) -> Value {
        let Self { r#type, status, reason, message } = self;
        json!({
            "type": r#type.as_str(),
            "status": status.as_str(),
            "observedGeneration": generation,
            "reason": reason.as_str(),
            "message": clip(message),
        })
    }
}

/// Renders conditions in their order.
fn render_all(conditions: impl IntoIterator<Item = Condition>, generation: i64) -> Value {
    conditions.into_iter().map(|condition| condition.render(generation)).collect()
}

/// Cuts a message to what the CRDs take. A Service's name has no bound in a manifest read from a folder, and the reason
/// of a refusal quotes what it refuses.
fn clip(message: String) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => message,
        Some(_) => message.chars().take(MESSAGE_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

/// `a, b and c`; beyond [`NAMES_MAX`], `a, …, j and 3 more`.
fn enumerate<T: AsRef<str>>(names: &[T]) -> String {
    let shown = if names.len() > NAMES_MAX { NAMES_MAX } else { names.len().saturating_sub(1) };
    let (head, tail) = names.split_at(shown);
    let mut text = head.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    let last = match tail {
        [] => return text,
        [last] if names.len() <= NAMES_MAX => last.as_ref().to_owned(),
        rest => format!("{} more", rest.len()),
    };
    if !text.is_empty() {
        text.push_str(" and ");
    }
    text.push_str(&last);
    text
}

/// `listener a` or `listeners a, b and c`.
fn listeners_named<T: AsRef<str>>(names: &[T]) -> String {
    format!("{} {}", if names.len() == 1 { "listener" } else { "listeners" }, enumerate(names))
}

/// Adds a sentence to a message.
fn add_sentence(message: &mut String, sentence: std::fmt::Arguments<'_>) {
    if !message.is_empty() {
        message.push(' ');
    }
    // Writing to a String cannot fail.
    let _ = message.write_fmt(sentence);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_out_up_to_ten_and_counted_beyond() {
        let names: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
        assert_eq!(enumerate(&names[..0]), "");
        assert_eq!(enumerate(&names[..1]), "n0");
        assert_eq!(enumerate(&names[..2]), "n0 and n1");
        assert_eq!(enumerate(&names[..10]), "n0, n1, n2, n3, n4, n5, n6, n7, n8 and n9");
        assert_eq!(enumerate(&names[..11]), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 1 more");
        assert_eq!(enumerate(&names), "n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more");
    }

    #[test]
    fn a_message_is_cut_to_what_the_crds_take() {
        assert_eq!(clip("ü".repeat(32_768)).chars().count(), 32_768);
        let cut = clip("ü".repeat(32_769));
        assert_eq!(cut.chars().count(), 32_768);
        assert!(cut.ends_with("ü…"));
    }
}
