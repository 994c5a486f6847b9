//! A BackendTLSPolicy's verdict as one entry for each Gateway that it concerns.

use super::{Condition, render_all, route::render_parent};
use crate::{
    model::verdicts::{AncestorVerdict, PolicyRefusal, PolicyVerdict, ancestor_ref},
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};

/// `Accepted` alone: what a policy that is not honoured refers to is not looked at, so nothing can be said of it.
pub(super) fn render(verdict: &PolicyVerdict, controller_name: &str) -> Value {
    // Entries of frozen ancestors are not ours to write now; whoever writes the rest leaves them alone.
    let PolicyVerdict { generation, ancestors, frozen_ancestors: _ } = verdict;
    let entry = |AncestorVerdict { gateway, refusal }: &AncestorVerdict| {
        json!({
            "ancestorRef": render_parent(&ancestor_ref(gateway)),
            "controllerName": controller_name,
            "conditions": render_all([accepted(refusal)], *generation),
        })
    };
    json!({ "ancestors": ancestors.iter().map(entry).collect::<Vec<_>>() })
}

fn accepted(refusal: &PolicyRefusal) -> Condition {
    let (reason, message) = match refusal {
        PolicyRefusal::CannotVerify => (
            Reason::Invalid,
            "APISIX does not verify the certificates of layer-4 backends, so where this Gateway ends TLS, connections to this \
             backend are refused: attach its routes to a listener of mode Passthrough, or remove the policy to have it \
             connected to without TLS."
                .to_owned(),
        ),
        PolicyRefusal::Conflicted { winner } => (
            Reason::Conflicted,
            format!(
                "BackendTLSPolicy {winner} has the same target, and is older, or as old and first by name: remove one of them."
            ),
        ),
        PolicyRefusal::NoSuchPort { service, port } => (
            Reason::TargetNotFound,
            format!(
                "Service {service} has no port named {port}, so this policy is about nothing: correct sectionName in \
                 targetRefs."
            ),
        ),
    };
    Condition::fails(ConditionType::Accepted, reason, message)
}
