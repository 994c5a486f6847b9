//! A Gateway's verdict as its conditions and those of its listeners; a ListenerSet's listeners are said the same of.

use super::{Condition, add_sentence, addresses, certificates, listeners_named, render_all};
use crate::{
    model::{
        facts::RouteKind,
        names::Kind,
        places::{Port, WorkId},
        sockets::{Footing, Need, Socket, SocketFault},
        verdicts::{Clash, GatewayRefusal, GatewayVerdict, ListenerRefusal, ListenerVerdict, Overlap, Standing},
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn render(verdict: &GatewayVerdict, standing: &dyn Fn(&WorkId) -> Standing) -> Value {
    let GatewayVerdict { generation, refusal, addresses: have, address: _, listeners, listener_sets } = verdict;
    let accepted = accepted(verdict);
    let refused = refusal.is_some().then_some(Kind::Gateway);
    let of_listeners = conditions_of(listeners, Kind::Gateway, refused, standing);
    let programmed = programmed(verdict, &accepted, &of_listeners);
    let mut status = Map::new();
    let mut say = |field: &str, value| status.insert(field.to_owned(), value);
    say("conditions", render_all([accepted, programmed], *generation));
    say("listeners", render_listeners(listeners, of_listeners, *generation).into());
    // Also while no listener is accepted: that comes and goes, and with it the names that point there. Left out rather than
    // empty: merging takes both for the same.
    if refused.is_none() && !have.is_empty() {
        say("addresses", addresses::render(have));
    }
    // Absent means none, and CRDs of releases without ListenerSets do not know the field.
    if *listener_sets > 0 {
        say("attachedListenerSets", json!(listener_sets));
    }
    status.into()
}

fn accepted(verdict: &GatewayVerdict) -> Condition {
    match &verdict.refusal {
        Some(GatewayRefusal::Parameters(parameters)) => {
            return Condition::fails(
                ConditionType::Accepted,
                Reason::InvalidParameters,
                format!("This controller takes no parameters: remove infrastructure.parametersRef {parameters}."),
            );
        }
        Some(GatewayRefusal::AddressType(r#type)) => {
            return Condition::fails(
                ConditionType::Accepted,
                Reason::UnsupportedAddress,
                format!(
                    "An address of type {type} cannot be asked for: remove it from spec.addresses, or ask for one of type IPAddress or Hostname."
                ),
            );
        }
        None => {}
    }
    let refused: Vec<&Arc<str>> = verdict.listeners.iter().filter(|l| l.refusal.is_some()).map(|l| &l.name).collect();
    if verdict.listeners.is_empty() {
        Condition::fails(ConditionType::Accepted, Reason::ListenersNotValid, "The Gateway has no listeners: add one.")
    } else if refused.is_empty() {
        Condition::holds(
            ConditionType::Accepted,
            Reason::Accepted,
            "The Gateway and all of its listeners are accepted.",
        )
    } else {
        let message = format!("Not accepted: {}. The listener's own conditions say why.", listeners_named(&refused));
        if refused.len() < verdict.listeners.len() {
            Condition::holds(ConditionType::Accepted, Reason::ListenersNotValid, message)
        } else {
            Condition::fails(ConditionType::Accepted, Reason::ListenersNotValid, message)
        }
    }
}

/// A Gateway does not wait for routes: it is programmed when it is accepted, at least one listener is programmed, and it has
/// every address it asked for, and one where the data plane should have any.
fn programmed(verdict: &GatewayVerdict, accepted: &Condition, listeners: &[Vec<Condition>]) -> Condition {
    if !accepted.is_true() {
        return Condition::fails(ConditionType::Programmed, Reason::Invalid, "The Gateway is not accepted.");
    }
    if let Some(none) = none_programmed(listeners) {
        return none;
    }
    match &verdict.address {
        Some(problem) => addresses::missing(problem),
        None => Condition::holds(ConditionType::Programmed, Reason::Programmed, "The Gateway is ready to take routes."),
    }
}

/// `Programmed` of an object of whose listeners none is.
pub(super) fn none_programmed(listeners: &[Vec<Condition>]) -> Option<Condition> {
    let of_listeners = || listeners.iter().flatten().filter(|condition| condition.r#type == ConditionType::Programmed);
    if of_listeners().any(Condition::is_true) {
        return None;
    }
    let pending = of_listeners().any(|condition| condition.reason == Reason::Pending);
    let reason = if pending { Reason::Pending } else { Reason::Invalid };
    let message = "No listener is programmed. The listeners' own conditions say why.";
    Some(Condition::fails(ConditionType::Programmed, reason, message))
}

/// What is said of each listener of an object of kind `of`. `refused` is the kind of the object that is not accepted, so that none of them is
/// programmed.
pub(super) fn conditions_of(
    listeners: &[ListenerVerdict],
    of: Kind,
    refused: Option<Kind>,
    standing: &dyn Fn(&WorkId) -> Standing,
) -> Vec<Vec<Condition>> {
    listeners.iter().map(|listener| listener_conditions(listener, of, refused, standing)).collect()
}

/// The listeners of an object, with their conditions.
pub(super) fn render_listeners(
    listeners: &[ListenerVerdict],
    conditions: Vec<Vec<Condition>>,
    generation: i64,
) -> Vec<Value> {
    let with_conditions = listeners.iter().zip(conditions);
    with_conditions.map(|(listener, conditions)| render_listener(listener, conditions, generation)).collect()
}

fn render_listener(verdict: &ListenerVerdict, conditions: Vec<Condition>, generation: i64) -> Value {
    json!({
        "name": verdict.name.as_ref(),
        "supportedKinds": verdict.supported_kinds.iter().map(render_kind).collect::<Vec<_>>(),
        "attachedRoutes": verdict.attached_routes,
        "conditions": render_all(conditions, generation),
    })
}

fn listener_conditions(
    verdict: &ListenerVerdict,
    of: Kind,
    refused: Option<Kind>,
    standing: &dyn Fn(&WorkId) -> Standing,
) -> Vec<Condition> {
    let ListenerVerdict {
        name: _,
        mapped,
        refusal,
        footing,
        supported_kinds: _,
        invalid_kinds,
        attached_routes: _,
        certificates,
        overlap,
    } = verdict;
    let mut conditions = match refusal {
        Some(refusal) => of_refused(refusal, *mapped, of),
        None => vec![
            Condition::holds(
                ConditionType::Accepted,
                Reason::Accepted,
                with_mapped("The listener is accepted.".to_owned(), *mapped),
            ),
            match refused {
                Some(kind) => {
                    Condition::fails(ConditionType::Programmed, Reason::Invalid, format!("The {kind} is not accepted."))
                }
                None => {
                    certificates.as_ref().and_then(|verdict| certificates::obstacle(verdict, standing)).unwrap_or_else(
                        || Condition::holds(ConditionType::Programmed, Reason::Programmed, ready(*footing)),
                    )
                }
            },
        ],
    };
    let resolved_refs = resolved_refs(invalid_kinds);
    conditions.push(match certificates {
        Some(certificates) => certificates::resolved(certificates, resolved_refs),
        None => resolved_refs,
    });
    conditions.extend(overlap.as_ref().map(overlapping));
    conditions
}

/// Only while it holds, as Gateway API wants it.
fn overlapping(overlap: &Overlap) -> Condition {
    let Overlap { own, others } = overlap;
    let with = match (own.is_empty(), *others) {
        (false, false) => listeners_named(own),
        (false, true) => format!("{}, and with others at the Gateway", listeners_named(own)),
        (true, _) => "another listener at the Gateway".to_owned(),
    };
    Condition::holds(
        ConditionType::OverlappingTlsConfig,
        Reason::OverlappingHostnames,
        format!(
            "The hostname overlaps with that of {with}, on the same port: connections get to the most specific listener's \
             routes alone."
        ),
    )
}

/// What is said of an accepted listener, with what the data plane does at its port as far as that is known.
fn ready(footing: Footing) -> String {
    let mut message = "The listener is ready to take routes.".to_owned();
    match footing {
        Footing::Listening => {}
        Footing::OnTrust => {
            add_sentence(&mut message, format_args!("That APISIX listens on its port is taken on trust."));
        }
        Footing::ListeningForBoth => add_sentence(
            &mut message,
            format_args!(
                "APISIX listens there for both TCP and UDP and cannot tell them apart: its routes get what comes by either."
            ),
        ),
    }
    message
}

/// A message about a listener, with the port of APISIX that is meant where that is another one.
fn with_mapped(mut message: String, mapped: Option<Port>) -> String {
    if let Some(port) = mapped {
        add_sentence(&mut message, format_args!("The data plane maps its port to port {port} of APISIX."));
    }
    message
}

/// `Accepted` and `Programmed` of a listener that is not accepted, and `Conflicted` where that is why.
fn of_refused(refusal: &ListenerRefusal, mapped: Option<Port>, of: Kind) -> Vec<Condition> {
    let (reason, message, conflict) = why(refusal, of);
    let message = with_mapped(message, mapped);
    // The conformance suite wants the conflict itself as the reason of Programmed.
    let programmed_reason = if conflict { reason } else { Reason::Invalid };
    let mut conditions = vec![
        Condition::fails(ConditionType::Accepted, reason, message.clone()),
        Condition::fails(ConditionType::Programmed, programmed_reason, "The listener is not accepted."),
    ];
    if conflict {
        conditions.push(Condition::holds(ConditionType::Conflicted, reason, message));
    }
    conditions
}

/// The reason of a refusal, the message, and whether it is a conflict with another listener.
fn why(refusal: &ListenerRefusal, of: Kind) -> (Reason, String, bool) {
    match refusal {
        ListenerRefusal::UnsupportedProtocol(protocol) => {
            (Reason::UnsupportedProtocol, format!("Protocol {protocol} is not served: use TCP, UDP or TLS."), false)
        }
        ListenerRefusal::PortOutOfRange(port) => {
            (Reason::PortUnavailable, format!("Port {port} does not exist: use one from 1 to 65535."), false)
        }
        ListenerRefusal::PortTaken(port) => (
            Reason::PortUnavailable,
            format!(
                "Port {port} is held by another Gateway of the data plane, older or as old and first by name: use another \
                 port."
            ),
            false,
        ),
        ListenerRefusal::PortOfOtherTransport { port, listener } => {
            let who = match listener {
                Some(listener) => format!("Listener {listener}"),
                None => "A listener that comes first at the Gateway".to_owned(),
            };
            (
                Reason::PortUnavailable,
                format!("{who} has port {port}, and APISIX cannot tell TCP from UDP on one port: use another port."),
                false,
            )
        }
        ListenerRefusal::NoSocket { port, need, fault } => {
            (Reason::PortUnavailable, no_socket(*port, *need, fault), false)
        }
        ListenerRefusal::TlsMode(mode) => {
            let why = match &**mode {
                "Passthrough" => {
                    "APISIX passes TLS on from 3.19 on, and this data plane is said to have an older one".to_owned()
                }
                _ => format!("mode {mode} is not known"),
            };
            (Reason::UnsupportedValue, format!("TLS mode {mode} is not served: {why}."), false)
        }
        ListenerRefusal::Hostname(hostname) => {
            (Reason::UnsupportedValue, format!("{hostname:?} is no hostname: correct it."), false)
        }
        ListenerRefusal::ProtocolConflict => (
            Reason::ProtocolConflict,
            format!(
                "Another listener of this {of} has the same port, and connections cannot be told apart by protocol: give \
                 each its own port."
            ),
            true,
        ),
        ListenerRefusal::HostnameConflict => (
            Reason::HostnameConflict,
            format!("Another listener of this {of} has the same port, protocol and hostname: change one of them."),
            true,
        ),
        ListenerRefusal::Earlier(clash) => {
            let (reason, message) = earlier(*clash);
            (reason, format!("A listener that comes first at the Gateway {message}"), true)
        }
    }
}

fn no_socket(port: Port, need: Need, fault: &SocketFault) -> String {
    let (instead, elsewhere) = match fault {
        SocketFault::NotListening { instead, elsewhere } => (*instead, elsewhere),
        SocketFault::Ambiguous => {
            return format!(
                "APISIX has several TCP sockets on port {port}, on different addresses, that treat TLS differently, and \
                 routes cannot say which: use another port."
            );
        }
    };
    let wanted = match need {
        Need::Tcp => socket_named(Socket::Tcp),
        Need::TlsTerminate => socket_named(Socket::Tls),
        Need::TlsPassthrough => socket_named(Socket::TlsPassthrough),
        Need::Udp => socket_named(Socket::Udp),
    };
    match (instead, elsewhere.is_empty()) {
        (None, true) => format!(
            "APISIX listens on no port for {wanted}: add port {port} to its stream_proxy, and tell the controller."
        ),
        (None, false) => format!(
            "APISIX does not listen on port {port} for {wanted}, but on {elsewhere}: change the port, or add it to APISIX's \
             stream_proxy and tell the controller."
        ),
        (Some(instead), true) => format!(
            "APISIX listens on port {port} for {}, and on no port for {wanted}: add another port to its stream_proxy, and \
             tell the controller.",
            socket_named(instead)
        ),
        (Some(instead), false) => format!(
            "APISIX listens on port {port} for {}, and for {wanted} on {elsewhere}: change the port.",
            socket_named(instead)
        ),
    }
}

fn socket_named(socket: Socket) -> &'static str {
    match socket {
        Socket::Tcp => "TCP without TLS",
        Socket::Tls => "TLS that it terminates",
        Socket::TlsPassthrough => "TLS that it passes through",
        Socket::TlsEither => "TLS that routes may have terminated or passed through",
        Socket::Udp => "UDP",
    }
}

fn resolved_refs(invalid_kinds: &[RouteKind]) -> Condition {
    if invalid_kinds.is_empty() {
        return Condition::holds(ConditionType::ResolvedRefs, Reason::ResolvedRefs, "All references are resolved.");
    }
    let kinds: Vec<String> = invalid_kinds.iter().map(|RouteKind { group, kind }| format!("{group}/{kind}")).collect();
    Condition::fails(
        ConditionType::ResolvedRefs,
        Reason::InvalidRouteKinds,
        format!(
            "The listener cannot take routes of kind {}: remove them from allowedRoutes.kinds.",
            super::enumerate(&kinds)
        ),
    )
}

fn render_kind(kind: &RouteKind) -> Value {
    let RouteKind { group, kind } = kind;
    json!({ "group": group.as_ref(), "kind": kind.as_ref() })
}

/// A clash with a listener of the Gateway or of another set: nothing of that one is said, since it may be somebody else's.
fn earlier(clash: Clash) -> (Reason, &'static str) {
    match clash {
        Clash::Protocol => (
            Reason::ProtocolConflict,
            "has the same port, and connections cannot be told apart by protocol: use another port.",
        ),
        Clash::Hostname => {
            (Reason::HostnameConflict, "has the same port, protocol and hostname: change the port or the hostname.")
        }
        Clash::Listener => (Reason::ListenerConflict, "has the same port and protocol: use another port."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        addresses::Address,
        names::{GATEWAY_GROUP, ObjectName},
        sockets::{Inventory, Sockets},
        verdicts::{AddressProblem, NoAddress},
    };

    fn listener(name: &str, refusal: Option<ListenerRefusal>) -> ListenerVerdict {
        ListenerVerdict {
            name: name.into(),
            mapped: None,
            refusal,
            footing: Footing::Listening,
            supported_kinds: vec![RouteKind { group: GATEWAY_GROUP.into(), kind: "TCPRoute".into() }],
            invalid_kinds: Vec::new(),
            attached_routes: 2,
            certificates: None,
            overlap: None,
        }
    }

    fn gateway(listeners: Vec<ListenerVerdict>) -> GatewayVerdict {
        GatewayVerdict {
            generation: 7,
            refusal: None,
            addresses: Vec::new(),
            address: None,
            listeners,
            listener_sets: 0,
        }
    }

    /// `Type=Status/Reason` of each condition, in order.
    fn summary(conditions: &Value) -> String {
        let text = |condition: &Value, field: &str| condition[field].as_str().unwrap().to_owned();
        let all: Vec<String> = conditions
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                assert_eq!(c["observedGeneration"], 7);
                format!("{}={}/{}", text(c, "type"), text(c, "status"), text(c, "reason"))
            })
            .collect();
        all.join(" ")
    }

    /// As it is where every certificate is in etcd.
    fn render(verdict: &GatewayVerdict) -> Value {
        super::render(verdict, &|_| Standing::Programmed)
    }

    #[track_caller]
    fn check(verdict: &GatewayVerdict, want: &str) {
        assert_eq!(summary(&render(verdict)["conditions"]), want);
        // What ListenerSets are told by is what is said of the Gateway itself.
        assert_eq!(verdict.is_accepted(), want.contains("Accepted=True"));
    }

    #[track_caller]
    fn check_listener(verdict: ListenerVerdict, want: &str, message_part: &str) {
        let status = render(&gateway(vec![verdict]));
        let conditions = &status["listeners"][0]["conditions"];
        assert_eq!(summary(conditions), want);
        assert!(conditions.to_string().contains(message_part), "{conditions}");
    }

    #[test]
    fn a_gateway_with_good_listeners_is_accepted_and_programmed_without_waiting_for_routes() {
        let verdict = gateway(vec![listener("a", None), listener("b", None)]);
        check(&verdict, "Accepted=True/Accepted Programmed=True/Programmed");
        check_listener(
            listener("a", None),
            "Accepted=True/Accepted Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs",
            "",
        );
    }

    #[test]
    fn one_bad_listener_among_good_ones_is_named_and_the_gateway_stays_programmed() {
        let bad = listener("bad", Some(ListenerRefusal::PortOutOfRange(0)));
        let verdict = gateway(vec![listener("good", None), bad]);
        check(&verdict, "Accepted=True/ListenersNotValid Programmed=True/Programmed");
        assert!(render(&verdict)["conditions"][0]["message"].as_str().unwrap().contains("listener bad."));
    }

    #[test]
    fn only_bad_listeners_or_none_leave_a_gateway_unaccepted() {
        let bad = |name| listener(name, Some(ListenerRefusal::ProtocolConflict));
        for listeners in [vec![bad("a"), bad("b")], vec![]] {
            check(&gateway(listeners), "Accepted=False/ListenersNotValid Programmed=False/Invalid");
        }
    }

    #[test]
    fn a_refused_gateway_says_why_and_none_of_its_listeners_is_programmed() {
        let mut verdict = gateway(vec![listener("a", None)]);
        verdict.refusal = Some(GatewayRefusal::Parameters("example.com/Tuning fast".into()));
        check(&verdict, "Accepted=False/InvalidParameters Programmed=False/Invalid");
        assert_eq!(
            summary(&render(&verdict)["listeners"][0]["conditions"]),
            "Accepted=True/Accepted Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs"
        );
        verdict.refusal = Some(GatewayRefusal::AddressType("test/fake".into()));
        check(&verdict, "Accepted=False/UnsupportedAddress Programmed=False/Invalid");
    }

    #[test]
    fn addresses_are_said_unless_the_gateway_itself_is_refused() {
        let mut verdict = gateway(vec![listener("a", None)]);
        assert_eq!(render(&verdict).get("addresses"), None);
        verdict.addresses = vec![Address::of("192.0.2.1").unwrap()];
        let said = json!([{"type": "IPAddress", "value": "192.0.2.1"}]);
        assert_eq!(render(&verdict)["addresses"], said);
        verdict.listeners = vec![listener("a", Some(ListenerRefusal::ProtocolConflict))];
        assert_eq!(render(&verdict)["addresses"], said, "its listeners are not accepted");
        verdict.refusal = Some(GatewayRefusal::AddressType("test/fake".into()));
        assert_eq!(render(&verdict).get("addresses"), None);
    }

    #[test]
    fn a_missing_address_leaves_an_accepted_gateway_unprogrammed() {
        let mut verdict = gateway(vec![listener("a", None)]);
        let unsaid = || Some(NoAddress::Unsaid);
        let asked = "192.0.2.1".into();
        verdict.address = Some(AddressProblem::NotUsable { asked, instead: Vec::new(), why: unsaid() });
        check(&verdict, "Accepted=True/Accepted Programmed=False/AddressNotUsable");
        verdict.address = Some(AddressProblem::NotAssigned { kind: "IPAddress".into(), why: unsaid() });
        check(&verdict, "Accepted=True/Accepted Programmed=False/AddressNotAssigned");
        verdict.address =
            Some(AddressProblem::NoneToGive(NoAddress::ServiceAbsent(ObjectName::new("infra", "apisix"))));
        check(&verdict, "Accepted=True/Accepted Programmed=False/AddressNotAssigned");
    }

    #[test]
    fn each_refusal_of_a_listener_has_its_reason() {
        let resolved = "ResolvedRefs=True/ResolvedRefs";
        for (refusal, reason, message_part) in [
            (ListenerRefusal::UnsupportedProtocol("HTTP".into()), "UnsupportedProtocol", "Protocol HTTP is not served"),
            (ListenerRefusal::PortOutOfRange(70_000), "PortUnavailable", "Port 70000 does not exist"),
            (
                ListenerRefusal::PortTaken(9100.try_into().unwrap()),
                "PortUnavailable",
                "Port 9100 is held by another Gateway",
            ),
        ] {
            let want = format!("Accepted=False/{reason} Programmed=False/Invalid {resolved}");
            check_listener(listener("a", Some(refusal)), &want, message_part);
        }
        for (refusal, reason) in [
            (ListenerRefusal::ProtocolConflict, "ProtocolConflict"),
            (ListenerRefusal::HostnameConflict, "HostnameConflict"),
        ] {
            let want = format!("Accepted=False/{reason} Programmed=False/{reason} Conflicted=True/{reason} {resolved}");
            check_listener(listener("a", Some(refusal)), &want, "same port");
        }
    }

    #[test]
    fn a_port_without_a_fitting_socket_is_refused_with_what_would_do() {
        let port = Port::new(9443).unwrap();
        let inventory = |kinds: &[(&str, Socket)]| {
            let mut sockets = Sockets::default();
            for (range, socket) in kinds {
                sockets.insert(range.parse().unwrap(), *socket);
            }
            Inventory::Known(sockets.into())
        };
        for (kinds, need, message) in [
            (&[][..], Need::Tcp, "listens on no port for TCP without TLS: add port 9443 to its stream_proxy, and tell"),
            (
                &[("1-9", Socket::Udp)],
                Need::Udp,
                "does not listen on port 9443 for UDP, but on 1-9: change the port, or",
            ),
            (
                &[("9443", Socket::Tls)],
                Need::Tcp,
                "on port 9443 for TLS that it terminates, and on no port for TCP without",
            ),
            (
                &[("9443", Socket::Tcp), ("8443", Socket::TlsEither)],
                Need::TlsPassthrough,
                "on port 9443 for TCP without TLS, and for TLS that it passes through on 8443: change the port.",
            ),
            (&[("9443", Socket::Tcp), ("9443", Socket::Tls)], Need::Udp, "has several TCP sockets on port 9443"),
        ] {
            let fault = inventory(kinds).serves(port, need).unwrap_err();
            check_listener(
                listener("a", Some(ListenerRefusal::NoSocket { port, need, fault })),
                "Accepted=False/PortUnavailable Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs",
                message,
            );
        }
    }

    #[test]
    fn what_is_known_of_a_port_is_said_of_an_accepted_listener() {
        let on = |footing| render(&gateway(vec![ListenerVerdict { footing, ..listener("a", None) }]));
        let message = |footing| on(footing)["listeners"][0]["conditions"][1]["message"].as_str().unwrap().to_owned();
        assert_eq!(message(Footing::Listening), "The listener is ready to take routes.");
        assert!(message(Footing::OnTrust).ends_with("That APISIX listens on its port is taken on trust."));
        assert!(message(Footing::ListeningForBoth).contains("both TCP and UDP"));
    }

    #[test]
    fn a_kind_that_cannot_be_taken_leaves_the_valid_ones_in_service() {
        let mut verdict = listener("a", None);
        verdict.invalid_kinds = vec![RouteKind { group: GATEWAY_GROUP.into(), kind: "UDPRoute".into() }];
        check_listener(
            verdict,
            "Accepted=True/Accepted Programmed=True/Programmed ResolvedRefs=False/InvalidRouteKinds",
            "kind gateway.networking.k8s.io/UDPRoute",
        );
    }

    #[test]
    fn a_listener_lists_its_kinds_and_counts_its_routes() {
        let status = render(&gateway(vec![listener("a", None)]));
        let mut entry = status["listeners"][0].clone();
        entry.as_object_mut().unwrap().remove("conditions");
        assert_eq!(
            entry,
            json!({"name": "a", "supportedKinds": [{"group": GATEWAY_GROUP, "kind": "TCPRoute"}], "attachedRoutes": 2})
        );
        let mut none = listener("a", None);
        none.supported_kinds.clear();
        assert_eq!(render(&gateway(vec![none]))["listeners"][0]["supportedKinds"], json!([]));
    }
}
