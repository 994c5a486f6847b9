//! A ListenerSet's verdict as its conditions; those of its listeners are made in `gateway.rs`.

use super::{
    Condition,
    gateway::{conditions_of, none_programmed, render_listeners},
    listeners_named, render_all,
};
use crate::{
    model::{
        names::Kind,
        places::WorkId,
        verdicts::{ListenerSetVerdict, Reception, Standing},
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn render(verdict: &ListenerSetVerdict, standing: &dyn Fn(&WorkId) -> Standing) -> Value {
    let ListenerSetVerdict { generation, reception, listeners } = verdict;
    let accepted = accepted(verdict);
    let refused = match reception {
        Reception::NotAllowed => Some(Kind::ListenerSet),
        Reception::ParentNotAccepted => Some(Kind::Gateway),
        Reception::ParentNotProgrammed | Reception::Taken => None,
    };
    let of_listeners = conditions_of(listeners, Kind::ListenerSet, refused, standing);
    let programmed = programmed(*reception, &accepted, &of_listeners);
    json!({
        "conditions": render_all([accepted, programmed], *generation),
        "listeners": render_listeners(listeners, of_listeners, *generation),
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
    let refused: Vec<&Arc<str>> = listeners.iter().filter(|l| !l.is_valid()).map(|l| &l.name).collect();
    if listeners.is_empty() {
        return fails(Reason::ListenersNotValid, "The ListenerSet has no listeners: add one.");
    }
    if refused.is_empty() {
        let message = "The ListenerSet and all of its listeners are accepted.";
        return Condition::holds(ConditionType::Accepted, Reason::Accepted, message);
    }
    let message = format!("Not valid: {}. The listener's own conditions say why.", listeners_named(&refused));
    if verdict.is_accepted() {
        Condition::holds(ConditionType::Accepted, Reason::ListenersNotValid, message)
    } else {
        fails(Reason::ListenersNotValid, &message)
    }
}

/// As of a Gateway, it does not wait for routes. The conformance suite wants the reason that the set is not accepted here, too,
/// unless that is the Gateway's.
fn programmed(reception: Reception, accepted: &Condition, listeners: &[Vec<Condition>]) -> Condition {
    let fails = |reason, message: &str| Condition::fails(ConditionType::Programmed, reason, message);
    match (reception, accepted.is_true()) {
        (Reception::NotAllowed, _) => fails(Reason::NotAllowed, "The ListenerSet is not accepted."),
        (Reception::ParentNotAccepted, _) => fails(Reason::ParentNotProgrammed, "The Gateway is not accepted."),
        (_, false) => fails(Reason::ListenersNotValid, "None of the listeners is valid."),
        (Reception::ParentNotProgrammed, true) => {
            fails(Reason::ParentNotProgrammed, "The Gateway is not programmed: its own condition says why.")
        }
        (Reception::Taken, true) => none_programmed(listeners).unwrap_or_else(|| {
            let message = "The ListenerSet is ready to take routes.";
            Condition::holds(ConditionType::Programmed, Reason::Programmed, message)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        sockets::Footing,
        verdicts::{Clash, ListenerRefusal, ListenerVerdict},
    };

    fn listener(name: &str, refusal: Option<ListenerRefusal>) -> ListenerVerdict {
        ListenerVerdict {
            name: name.into(),
            mapped: None,
            refusal,
            footing: Footing::Listening,
            supported_kinds: Vec::new(),
            invalid_kinds: Vec::new(),
            attached_routes: 1,
            certificates: None,
            overlap: None,
        }
    }

    /// `Type=Status/Reason` of each condition, in order.
    fn summary(part: &Value) -> String {
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
        let said = |c: &Value| format!("{}={}/{}", text(c, "type"), text(c, "status"), text(c, "reason"));
        part["conditions"].as_array().unwrap().iter().map(said).collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn check(reception: Reception, listeners: &[ListenerVerdict], want: &str) -> Value {
        let verdict = ListenerSetVerdict { generation: 4, reception, listeners: listeners.to_vec() };
        let status = render(&verdict, &|_| Standing::Programmed);
        assert_eq!(summary(&status), want);
        assert_eq!(status["conditions"][0]["observedGeneration"], 4);
        assert_eq!(verdict.is_accepted(), want.starts_with("Accepted=True"));
        status
    }

    #[test]
    fn what_its_gateway_makes_of_it_comes_before_its_listeners() {
        let good = [listener("a", None)];
        check(Reception::NotAllowed, &[], "Accepted=False/NotAllowed Programmed=False/NotAllowed");
        let fallen = check(
            Reception::ParentNotAccepted,
            &good,
            "Accepted=False/ParentNotAccepted Programmed=False/ParentNotProgrammed",
        );
        let listener = &fallen["listeners"][0];
        assert_eq!(summary(listener), "Accepted=True/Accepted Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs");
        assert_eq!(listener["conditions"][1]["message"], "The Gateway is not accepted.");
        check(Reception::ParentNotProgrammed, &good, "Accepted=True/Accepted Programmed=False/ParentNotProgrammed");
        check(Reception::Taken, &good, "Accepted=True/Accepted Programmed=True/Programmed");
    }

    #[test]
    fn some_bad_listeners_are_named_and_only_bad_ones_or_none_leave_it_unaccepted() {
        let bad = listener("bad", Some(ListenerRefusal::PortOutOfRange(0)));
        let both = [listener("good", None), bad.clone()];
        let status = check(Reception::Taken, &both, "Accepted=True/ListenersNotValid Programmed=True/Programmed");
        assert!(status["conditions"][0]["message"].as_str().unwrap().contains("listener bad."));
        let none = "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid";
        for reception in [Reception::Taken, Reception::ParentNotProgrammed] {
            check(reception, std::slice::from_ref(&bad), none);
            check(reception, &[], none);
        }
    }

    #[test]
    fn each_clash_with_an_earlier_listener_has_its_reason_and_names_nobody() {
        for (clash, reason) in [
            (Clash::Protocol, "ProtocolConflict"),
            (Clash::Hostname, "HostnameConflict"),
            (Clash::Listener, "ListenerConflict"),
        ] {
            let refused = listener("a", Some(ListenerRefusal::Earlier(clash)));
            let status = check(
                Reception::Taken,
                &[refused],
                "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid",
            );
            let entry = &status["listeners"][0];
            let want = format!(
                "Accepted=False/{reason} Programmed=False/{reason} Conflicted=True/{reason} ResolvedRefs=True/ResolvedRefs"
            );
            assert_eq!(summary(entry), want);
            assert!(entry["conditions"][0]["message"].as_str().unwrap().starts_with("A listener that comes first"));
        }
    }

    #[test]
    fn conflicts_of_a_set_with_itself_are_said_of_the_set() {
        let refused = listener("a", Some(ListenerRefusal::ProtocolConflict));
        let status =
            check(Reception::Taken, &[refused], "Accepted=False/ListenersNotValid Programmed=False/ListenersNotValid");
        let message = status["listeners"][0]["conditions"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("Another listener of this ListenerSet"), "{message}");
    }
}
