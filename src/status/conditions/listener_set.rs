//! A ListenerSet's verdict as its conditions; those of its listeners are made in `gateway.rs`.

use super::{Condition, gateway::render_listeners, listeners_named, render_all};
use crate::{
    model::{
        names::Kind,
        verdicts::{ListenerSetVerdict, Reception},
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn render(verdict: &ListenerSetVerdict) -> Value {
    let ListenerSetVerdict { generation, reception, listeners } = verdict;
    let accepted = accepted(verdict);
    let programmed = programmed(*reception, &accepted);
    let refused = match reception {
        Reception::NotAllowed => Some(Kind::ListenerSet),
        Reception::ParentNotAccepted => Some(Kind::Gateway),
        Reception::ParentNotProgrammed | Reception::Taken => None,
    };
    json!({
        "conditions": render_all([accepted, programmed], *generation),
        "listeners": render_listeners(listeners, Kind::ListenerSet, refused, *generation),
    })
}

fn accepted(verdict: &ListenerSetVerdict) -> Condition {
    let fails = |reason, message: &str| Condition::fails(ConditionType::Accepted, reason, message);
    match verdict.reception {
        Reception::NotAllowed => {
            return fails(
                Reason::NotAllowed,
                "The Gateway allows no ListenerSet from this namespace: see its allowedListeners.",
            );
        }
        Reception::ParentNotAccepted => {
            return fails(
                Reason::ParentNotAccepted,
                "The Gateway is not accepted: its own conditions and those of its own listeners say why.",
            );
        }
        Reception::ParentNotProgrammed | Reception::Taken => {}
    }
    let listeners = &verdict.listeners;
    let refused: Vec<&Arc<str>> = listeners.iter().filter(|l| l.refusal.is_some()).map(|l| &l.name).collect();
    if listeners.is_empty() {
        return fails(Reason::ListenersNotValid, "The ListenerSet has no listeners: add one.");
    }
    if refused.is_empty() {
        let message = "The ListenerSet and all of its listeners are accepted.";
        return Condition::holds(ConditionType::Accepted, Reason::Accepted, message);
    }
    let message = format!("Not accepted: {}. The listener's own conditions say why.", listeners_named(&refused));
    if verdict.is_accepted() {
        Condition::holds(ConditionType::Accepted, Reason::ListenersNotValid, message)
    } else {
        fails(Reason::ListenersNotValid, &message)
    }
}

/// As of a Gateway, it does not wait for routes. The conformance suite wants the reason that the set is not accepted here, too,
/// unless that is the Gateway's.
fn programmed(reception: Reception, accepted: &Condition) -> Condition {
    let fails = |reason, message: &str| Condition::fails(ConditionType::Programmed, reason, message);
    match (reception, accepted.is_true()) {
        (Reception::NotAllowed, _) => fails(Reason::NotAllowed, "The ListenerSet is not accepted."),
        (Reception::ParentNotAccepted, _) => fails(Reason::ParentNotProgrammed, "The Gateway is not accepted."),
        (_, false) => fails(Reason::ListenersNotValid, "None of the listeners is accepted."),
        (Reception::ParentNotProgrammed, true) => {
            fails(Reason::ParentNotProgrammed, "The Gateway is not programmed: its own condition says why.")
        }
        (Reception::Taken, true) => {
            let message = "The ListenerSet is ready to take routes.";
            Condition::holds(ConditionType::Programmed, Reason::Programmed, message)
        }
    }
}
