//! A route's verdict as one entry for each of its parents.

use super::{Condition, NAMES_MAX, add_sentence, backends, certificates, listeners_named, render_all};
use crate::{
    model::{
        facts::{ParentRef, Transport},
        names::{Kind, ObjectRef},
        places::WorkId,
        verdicts::{
            AttachmentRefusal, BackendsVerdict, ClaimOutcome, ClaimVerdict, Occupant, ParentVerdict, RefusedShare,
            RouteVerdict, Standing,
        },
    },
    status::reasons::{ConditionType, Reason},
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn render(
    route: &ObjectRef,
    verdict: &RouteVerdict,
    controller_name: &str,
    standing: &dyn Fn(&WorkId) -> Standing,
    held: Option<&str>,
) -> Value {
    // Entries of frozen parents are not ours to write now; whoever writes the rest leaves them alone.
    let RouteVerdict { generation, parents, frozen_parents: _, backends, rules_not_served } = verdict;
    let entries: Vec<Value> = parents
        .iter()
        .map(|ParentVerdict { parent, attachment }| {
            let conditions = [
                accepted(route, parent, attachment, *rules_not_served),
                backends::resolved_refs(route, &backends.problems),
                programmed(route, attachment, backends, standing).unless_held(held),
            ];
            json!({
                "parentRef": render_parent(parent),
                "controllerName": controller_name,
                "conditions": render_all(conditions, *generation),
            })
        })
        .collect();
    json!({ "parents": entries })
}

/// The parentRef as the spec has it, with group and kind, which the API server fills in there too.
pub(super) fn render_parent(parent: &ParentRef) -> Value {
    let ParentRef { group, kind, namespace, name, section_name, port } = parent;
    let mut entry = Map::new();
    entry.insert("group".into(), group.as_ref().into());
    entry.insert("kind".into(), kind.as_ref().into());
    if let Some(namespace) = namespace {
        entry.insert("namespace".into(), namespace.as_ref().into());
    }
    entry.insert("name".into(), name.as_ref().into());
    if let Some(section_name) = section_name {
        entry.insert("sectionName".into(), section_name.as_ref().into());
    }
    if let Some(port) = port {
        entry.insert("port".into(), (*port).into());
    }
    Value::Object(entry)
}

fn accepted(
    route: &ObjectRef,
    parent: &ParentRef,
    attachment: &Result<Vec<ClaimVerdict>, AttachmentRefusal>,
    rules_not_served: usize,
) -> Condition {
    let namespace = parent.namespace.as_ref().unwrap_or(&route.name.namespace);
    let gateway = format!("{} {namespace}/{}", parent.kind, parent.name);
    match attachment {
        Ok(claims) => {
            let mut names: Vec<&Arc<str>> = claims.iter().map(|claim| &claim.listener).collect();
            // A listener that takes several server names is one listener; claims come listener by listener.
            names.dedup();
            let mut message = format!("Attached to {} of {gateway}.", listeners_named(&names));
            if rules_not_served > 0 {
                let rules = if rules_not_served == 1 { "rule is" } else { "rules are" };
                add_sentence(
                    &mut message,
                    format_args!(
                        "Only the first rule is served; {rules_not_served} further {rules} not: make each a route of its own."
                    ),
                );
            }
            Condition::holds(ConditionType::Accepted, Reason::Accepted, message)
        }
        Err(AttachmentRefusal::NoMatchingParent) => Condition::fails(
            ConditionType::Accepted,
            Reason::NoMatchingParent,
            format!("{gateway} has no listener{}: correct the parentRef or add the listener.", asked_for(parent)),
        ),
        Err(AttachmentRefusal::ListenerSetNotAllowed) => Condition::fails(
            ConditionType::Accepted,
            Reason::NoMatchingParent,
            format!("{gateway} has no listeners, because its Gateway does not allow it: see its own conditions."),
        ),
        Err(AttachmentRefusal::NoMatchingListenerHostname) => Condition::fails(
            ConditionType::Accepted,
            Reason::NoMatchingListenerHostname,
            format!(
                "No hostname of the route is one of a listener{} of {gateway}: correct hostnames here or there.",
                asked_for(parent)
            ),
        ),
        Err(AttachmentRefusal::NotAllowedByListeners) => Condition::fails(
            ConditionType::Accepted,
            Reason::NotAllowedByListeners,
            format!(
                "No listener{} of {gateway} admits a {} from namespace {}: see protocol and allowedRoutes there.",
                asked_for(parent),
                route.kind,
                route.name.namespace
            ),
        ),
    }
}

/// What a parentRef asks of a listener, as the end of a noun.
fn asked_for(parent: &ParentRef) -> String {
    match (&parent.section_name, parent.port) {
        (None, None) => String::new(),
        (Some(section), None) => format!(" named {section}"),
        (None, Some(port)) => format!(" on port {port}"),
        (Some(section), Some(port)) => format!(" named {section} on port {port}"),
    }
}

/// Why a claim does not serve, those first that need somebody to act on what the route itself holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    Refused,
    Occupied,
    Edited,
    Held,
    Contended,
    Pending,
    Superseded,
    ListenerNotProgrammed,
}

impl Obstacle {
    fn reason(self) -> Reason {
        match self {
            Self::Refused => Reason::Refused,
            Self::Occupied => Reason::Occupied,
            Self::Edited => Reason::Edited,
            Self::Held => Reason::Held,
            Self::Contended => Reason::Contended,
            Self::Pending => Reason::Pending,
            Self::Superseded => Reason::Superseded,
            Self::ListenerNotProgrammed => Reason::ListenerNotProgrammed,
        }
    }
}

/// `apisix-etcd.io/Programmed`: true while at least one of the route's slots on this parent is in etcd as we wrote it.
fn programmed(
    route: &ObjectRef,
    attachment: &Result<Vec<ClaimVerdict>, AttachmentRefusal>,
    backends: &BackendsVerdict,
    standing: &dyn Fn(&WorkId) -> Standing,
) -> Condition {
    let Ok(claims) = attachment else {
        return Condition::fails(
            ConditionType::RouteProgrammed,
            Reason::NotAccepted,
            "Nothing is programmed, because the parent does not accept the route.",
        );
    };
    let mut serving = Vec::new();
    let mut obstructed = Vec::new();
    for ClaimVerdict { listener, hostname, outcome } in claims {
        let place = hostname.as_ref().map_or_else(|| listener.to_string(), |name| format!("{listener} ({name})"));
        match obstacle(route, outcome, standing) {
            None => serving.push(place),
            Some((obstacle, why)) => obstructed.push((obstacle, place, why)),
        }
    }
    let mut message = String::new();
    if !serving.is_empty() {
        add_sentence(&mut message, format_args!("Served on {}.", listeners_named(&serving)));
        describe_shares(route, backends, &mut message);
    }
    for (_, listener, why) in obstructed.iter().take(NAMES_MAX) {
        add_sentence(&mut message, format_args!("Not on listener {listener}: {why}."));
    }
    if let Some(more @ 1..) = obstructed.len().checked_sub(NAMES_MAX) {
        add_sentence(&mut message, format_args!("Nor on {more} more."));
    }
    if !serving.is_empty() {
        return Condition::holds(ConditionType::RouteProgrammed, Reason::Programmed, message);
    }
    match obstructed.iter().map(|(obstacle, ..)| *obstacle).min() {
        Some(obstacle) => Condition::fails(ConditionType::RouteProgrammed, obstacle.reason(), message),
        None => Condition::fails(
            ConditionType::RouteProgrammed,
            Reason::ListenerNotProgrammed,
            "No listener of the parent takes the route.",
        ),
    }
}

impl Condition {
    /// Where nothing of the route is to serve at the parent, and a guard keeps in etcd what served before, it still serves.
    fn unless_held(mut self, held: Option<&str>) -> Self {
        let Some(name) = held.filter(|_| ENDED.contains(&self.reason)) else { return self };
        if self.reason == Reason::NotAccepted {
            "The parent does not accept the route.".clone_into(&mut self.message);
        }
        self.reason = Reason::Held;
        add_sentence(
            &mut self.message,
            format_args!(
                "What served the route before is still in etcd and serves: a guard holds its end back; \
                 `apisix-etcd-controller release {name}` lets it go."
            ),
        );
        self
    }
}

/// Why nothing of a route is to serve at a parent.
const ENDED: [Reason; 3] = [Reason::NotAccepted, Reason::Superseded, Reason::ListenerNotProgrammed];

fn obstacle(
    route: &ObjectRef,
    outcome: &ClaimOutcome,
    standing: &dyn Fn(&WorkId) -> Standing,
) -> Option<(Obstacle, String)> {
    match outcome {
        // All its documents must be there; of several obstacles the one that needs somebody comes first.
        ClaimOutcome::Holds { slot, pool, certificate } => [slot, pool]
            .into_iter()
            .chain(certificate)
            .filter_map(|id| standing_obstacle(standing(id)))
            .min_by_key(|(obstacle, _)| *obstacle),
        ClaimOutcome::Superseded { winner } => Some((
            Obstacle::Superseded,
            if winner.name.namespace == route.name.namespace {
                format!("{winner} is older, or as old and first by name, and is served instead")
            } else {
                // Which one, and whose, is nobody else's business.
                let kind = winner.kind;
                format!("a {kind} of another namespace is older, or as old and first by name, and is served instead")
            },
        )),
        ClaimOutcome::ListenerMoreSpecific => Some((
            Obstacle::Superseded,
            "a listener of the port with a more specific hostname takes these connections".to_owned(),
        )),
        ClaimOutcome::ListenerNotAccepted => {
            Some((Obstacle::ListenerNotProgrammed, "the listener or its Gateway is not accepted".to_owned()))
        }
        ClaimOutcome::NoCertificate => Some((Obstacle::ListenerNotProgrammed, certificates::NONE.to_owned())),
        ClaimOutcome::CertificateTaken => Some((Obstacle::ListenerNotProgrammed, certificates::TAKEN.to_owned())),
        ClaimOutcome::NoName => Some((Obstacle::ListenerNotProgrammed, certificates::NO_NAME.to_owned())),
    }
}

pub(super) fn standing_obstacle(standing: Standing) -> Option<(Obstacle, String)> {
    match standing {
        Standing::Programmed => None,
        Standing::Pending => Some((Obstacle::Pending, "not yet in etcd".to_owned())),
        Standing::Refused(why) => {
            Some((Obstacle::Refused, format!("APISIX would reject it ({})", why.trim_end_matches('.'))))
        }
        Standing::Occupied { by } => Some((Obstacle::Occupied, describe_occupant(&by))),
        Standing::Edited => Some((
            Obstacle::Edited,
            "what it needs in etcd was edited by somebody else, and is left so, as the drift policy is `report`"
                .to_owned(),
        )),
        Standing::Held { name } => Some((
            Obstacle::Held,
            format!(
                "a guard against mass changes holds this one back; `apisix-etcd-controller release {name}` lets it go"
            ),
        )),
        Standing::Contended => {
            Some((Obstacle::Contended, "something else keeps rewriting its place in etcd; trying on".to_owned()))
        }
    }
}

fn describe_occupant(occupant: &Occupant) -> String {
    match occupant {
        Occupant::Instance(instance) => {
            format!("a document of controller instance {instance} is in its place in etcd, and is left there")
        }
        Occupant::Unsealed => {
            "a document that no controller instance is known to have written is in its place in etcd, and \
             is left there; to be served once that is gone"
                .to_owned()
        }
        Occupant::StreamRoute(id) => format!(
            "stream_route {} in etcd, which is not the controller's, was there first and takes connections of the same port; \
             to be served once that is gone",
            id.id
        ),
    }
}

/// What a route carries, in the words for it.
pub(super) struct Carried {
    pub(super) protocol: &'static str,
    unit: &'static str,
    /// What becomes of the share of a bad backend: UDP has nothing to refuse a datagram with.
    turned_away: &'static str,
}

impl Carried {
    pub(super) fn by(route: Kind) -> Self {
        match Transport::of_routes(route) {
            Transport::Udp => Self { protocol: "UDP", unit: "session", turned_away: "dropped" },
            Transport::Tcp | Transport::Other => Self { protocol: "TCP", unit: "connection", turned_away: "refused" },
        }
    }
}

/// What becomes of connections that reach a slot of the route.
fn describe_shares(route: &ObjectRef, backends: &BackendsVerdict, message: &mut String) {
    let BackendsVerdict { problems: _, refused, rounded } = backends;
    let Carried { protocol: _, unit, turned_away } = Carried::by(route.kind);
    match refused {
        None => {}
        Some(RefusedShare::Part { refused, total }) => add_sentence(
            message,
            format_args!(
                "By weight, {refused} of {total} {unit}s are {turned_away}: the backends they belong to are not resolved or \
                 have no endpoints."
            ),
        ),
        Some(RefusedShare::All) => add_sentence(
            message,
            format_args!(
                "Every {unit} is {turned_away}: no backend is resolved and has endpoints and a weight above 0."
            ),
        ),
    }
    if *rounded {
        add_sentence(
            message,
            format_args!("Weights are rounded: the share of a backend is off by more than one percentage point."),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Plane;
    use crate::model::{
        names::{GATEWAY_GROUP, ObjectName, RouteRef},
        places::Directory,
        verdicts::{BackendFault, BackendProblem},
    };

    const OURS: &str = "apisix-etcd.io/gateway-controller";

    fn route() -> ObjectRef {
        ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", "tcp-app"))
    }

    fn parent(section_name: Option<&str>, port: Option<i64>) -> ParentRef {
        ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: "gw".into(),
            section_name: section_name.map(Into::into),
            port,
        }
    }

    fn slot(n: usize) -> WorkId {
        WorkId::new(Plane::default(), Directory::StreamRoutes, &format!("slot{n}"))
    }

    fn pool() -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, "pool")
    }

    fn holds(n: usize) -> ClaimVerdict {
        ClaimVerdict {
            listener: format!("l{n}").into(),
            hostname: None,
            outcome: ClaimOutcome::Holds { slot: slot(n), pool: pool(), certificate: None },
        }
    }

    fn superseded(namespace: &str) -> ClaimVerdict {
        let winner = RouteRef::new(Kind::TcpRoute, ObjectName::new(namespace, "elder"));
        let outcome = ClaimOutcome::Superseded { winner };
        ClaimVerdict { listener: "lost".into(), hostname: None, outcome }
    }

    fn unlistened() -> ClaimVerdict {
        ClaimVerdict { listener: "bad".into(), hostname: None, outcome: ClaimOutcome::ListenerNotAccepted }
    }

    fn verdict(attachment: Result<Vec<ClaimVerdict>, AttachmentRefusal>) -> RouteVerdict {
        RouteVerdict {
            generation: 5,
            parents: vec![ParentVerdict { parent: parent(Some("l0"), None), attachment }],
            frozen_parents: Vec::new(),
            backends: BackendsVerdict::default(),
            rules_not_served: 0,
        }
    }

    fn all_programmed(_: &WorkId) -> Standing {
        Standing::Programmed
    }

    /// `Status/Reason` and the message of the first parent's condition of this type.
    fn condition(
        verdict: &RouteVerdict,
        standing: &dyn Fn(&WorkId) -> Standing,
        r#type: ConditionType,
    ) -> (String, String) {
        condition_held(verdict, standing, r#type, None)
    }

    /// The same, while a guard of this name keeps slots for the route that it is to have no more.
    fn condition_held(
        verdict: &RouteVerdict,
        standing: &dyn Fn(&WorkId) -> Standing,
        r#type: ConditionType,
        held: Option<&str>,
    ) -> (String, String) {
        let status = render(&route(), verdict, OURS, standing, held);
        let conditions = status["parents"][0]["conditions"].as_array().unwrap();
        assert_eq!(conditions.len(), 3);
        let found = conditions.iter().find(|c| c["type"] == r#type.as_str()).unwrap();
        assert_eq!(found["observedGeneration"], 5);
        let text = |field: &str| found[field].as_str().unwrap().to_owned();
        (format!("{}/{}", text("status"), text("reason")), text("message"))
    }

    #[test]
    fn a_slot_is_programmed_only_with_its_certificate_which_says_why_if_not() {
        let certificate = WorkId::new(Plane::default(), Directory::Ssls, "certificate");
        let outcome = ClaimOutcome::Holds { slot: slot(0), pool: pool(), certificate: Some(certificate.clone()) };
        let verdict = verdict(Ok(vec![ClaimVerdict { listener: "l0".into(), hostname: None, outcome }]));
        let is = |of_slot: Standing, of_certificate: Standing| {
            let standing = |id: &WorkId| match id.directory {
                Directory::Ssls => of_certificate.clone(),
                Directory::StreamRoutes => of_slot.clone(),
                Directory::Upstreams => Standing::Programmed,
            };
            condition(&verdict, &standing, ConditionType::RouteProgrammed)
        };
        assert_eq!(is(Standing::Programmed, Standing::Programmed).0, "True/Programmed");
        assert_eq!(is(Standing::Programmed, Standing::Pending).0, "False/Pending");
        let (got, message) = is(Standing::Pending, Standing::Refused("bad key".into()));
        assert_eq!(got, "False/Refused");
        assert!(message.contains("APISIX would reject it (bad key)"), "{message}");
        let by = Occupant::Instance("them".into());
        assert_eq!(is(Standing::Pending, Standing::Occupied { by }).0, "False/Occupied");
    }

    #[track_caller]
    fn check(
        verdict: &RouteVerdict,
        standing: &dyn Fn(&WorkId) -> Standing,
        r#type: ConditionType,
        want: &str,
        want_message: &str,
    ) {
        let (got, message) = condition(verdict, standing, r#type);
        assert_eq!((got.as_str(), message.as_str()), (want, want_message));
    }

    #[test]
    fn an_attached_route_is_accepted_resolved_and_programmed() {
        let verdict = verdict(Ok(vec![holds(0)]));
        let all = &all_programmed;
        check(
            &verdict,
            all,
            ConditionType::Accepted,
            "True/Accepted",
            "Attached to listener l0 of Gateway default/gw.",
        );
        check(&verdict, all, ConditionType::ResolvedRefs, "True/ResolvedRefs", "All backends are resolved.");
        check(&verdict, all, ConditionType::RouteProgrammed, "True/Programmed", "Served on listener l0.");
    }

    #[test]
    fn a_parent_ref_is_copied_with_only_what_the_spec_has() {
        let mut verdict = verdict(Ok(vec![holds(0)]));
        verdict.parents = vec![
            ParentVerdict { parent: parent(None, None), attachment: Ok(vec![holds(0)]) },
            ParentVerdict {
                parent: ParentRef { namespace: Some("infra".into()), ..parent(Some("l0"), Some(9100)) },
                attachment: Ok(vec![holds(0)]),
            },
        ];
        let status = render(&route(), &verdict, OURS, &all_programmed, None);
        assert_eq!(status["parents"][0]["parentRef"], json!({"group": GATEWAY_GROUP, "kind": "Gateway", "name": "gw"}));
        assert_eq!(
            status["parents"][1]["parentRef"],
            json!({"group": GATEWAY_GROUP, "kind": "Gateway", "namespace": "infra", "name": "gw", "sectionName": "l0",
                "port": 9100})
        );
        assert_eq!(status["parents"][1]["controllerName"], OURS);
        let message = status["parents"][1]["conditions"][0]["message"].as_str().unwrap();
        assert!(message.contains("Gateway infra/gw"), "{message}");
    }

    #[test]
    fn a_route_without_parents_of_ours_wants_no_entry() {
        let mut verdict = verdict(Ok(vec![]));
        verdict.parents.clear();
        verdict.frozen_parents.push(parent(None, None));
        assert_eq!(render(&route(), &verdict, OURS, &all_programmed, None), json!({"parents": []}));
    }

    #[test]
    fn a_parent_that_does_not_accept_the_route_says_why_and_programs_nothing() {
        let mut refused = verdict(Err(AttachmentRefusal::NoMatchingParent));
        refused.backends.problems =
            vec![BackendProblem { index: 0, fault: BackendFault::NotFound(ObjectName::new("default", "s")) }];
        for (parent, want) in [
            (parent(None, None), "Gateway default/gw has no listener: "),
            (parent(Some("x"), None), "Gateway default/gw has no listener named x: "),
            (parent(None, Some(80)), "Gateway default/gw has no listener on port 80: "),
            (parent(Some("x"), Some(80)), "Gateway default/gw has no listener named x on port 80: "),
        ] {
            refused.parents[0].parent = parent;
            let (got, message) = condition(&refused, &all_programmed, ConditionType::Accepted);
            assert_eq!(got, "False/NoMatchingParent");
            assert!(message.starts_with(want), "{message}");
        }
        assert_eq!(condition(&refused, &all_programmed, ConditionType::ResolvedRefs).0, "False/BackendNotFound");
        assert_eq!(condition(&refused, &all_programmed, ConditionType::RouteProgrammed).0, "False/NotAccepted");

        let refused = verdict(Err(AttachmentRefusal::NotAllowedByListeners));
        check(
            &refused,
            &all_programmed,
            ConditionType::Accepted,
            "False/NotAllowedByListeners",
            "No listener named l0 of Gateway default/gw admits a TCPRoute from namespace default: see protocol and allowedRoutes there.",
        );
    }

    #[test]
    fn each_fault_of_a_backend_has_its_reason_and_the_first_one_in_the_spec_decides() {
        let name = || ObjectName::new("other", "s");
        let faults = [
            (BackendFault::UnknownKind { group: "".into(), kind: "Pod".into() }, "InvalidKind", "kind Pod"),
            (BackendFault::UnknownKind { group: "a.b".into(), kind: "C".into() }, "InvalidKind", "kind a.b/C"),
            (BackendFault::ExternalName(name()), "InvalidKind", "ExternalName"),
            (BackendFault::NotPermitted(name()), "RefNotPermitted", "no ReferenceGrant there permits"),
            (BackendFault::NotFound(name()), "BackendNotFound", "Service other/s does not exist"),
            (BackendFault::Unreadable(name()), "BackendNotFound", "Service other/s cannot be read"),
            (BackendFault::PortMissing(name()), "BackendNotFound", "must be named"),
            (BackendFault::PortNotFound { service: name(), port: 1 }, "BackendNotFound", "has no port 1"),
            (BackendFault::OtherTransport { service: name(), port: 53 }, "UnsupportedProtocol", "not a TCP port"),
            // Whose policy it is, is nobody else's business.
            (
                BackendFault::TlsDemanded { service: name(), policy: "p".into() },
                "UnsupportedProtocol",
                "]: a BackendTLSPolicy demands verified TLS to Service other/s",
            ),
            (
                BackendFault::TlsDemanded { service: ObjectName::new("default", "s"), policy: "p".into() },
                "UnsupportedProtocol",
                "]: BackendTLSPolicy default/p demands verified TLS to Service default/s",
            ),
            (
                BackendFault::TlsProtocol { service: name(), port: 443, protocol: "https".into() },
                "UnsupportedProtocol",
                "port 443 of Service other/s is for TLS (appProtocol https)",
            ),
        ];
        let last = BackendProblem { index: 9, fault: BackendFault::NotFound(ObjectName::new("default", "last")) };
        for (fault, reason, part) in faults {
            let mut verdict = verdict(Ok(vec![holds(0)]));
            verdict.backends.problems = vec![BackendProblem { index: 2, fault }, last.clone()];
            let (got, message) = condition(&verdict, &all_programmed, ConditionType::ResolvedRefs);
            assert_eq!(got, format!("False/{reason}"));
            assert!(message.starts_with("backendRefs[2]: ") && message.contains(part), "{message}");
            assert!(message.ends_with(" backendRefs[9]: Service default/last does not exist."), "{message}");
        }
    }

    fn occupied(by: Occupant) -> Standing {
        Standing::Occupied { by }
    }

    #[test]
    fn each_way_a_document_can_stand_has_its_reason() {
        for (standing, want, part) in [
            (Standing::Pending, "False/Pending", "not yet in etcd"),
            (Standing::Refused("port 0.".into()), "False/Refused", "APISIX would reject it (port 0)."),
            (occupied(Occupant::Instance("blue".into())), "False/Occupied", "controller instance blue"),
            (occupied(Occupant::Unsealed), "False/Occupied", "to be served once that is gone"),
            (occupied(Occupant::StreamRoute(slot(7))), "False/Occupied", "stream_route slot7 in etcd"),
            (Standing::Edited, "False/Edited", "was edited by somebody else, and is left so"),
            (Standing::Held { name: "a1".into() }, "False/Held", "`apisix-etcd-controller release a1` lets it go"),
            (Standing::Contended, "False/Contended", "keeps rewriting"),
        ] {
            for place in [slot(0), pool()] {
                let at = |id: &WorkId| if *id == place { standing.clone() } else { Standing::Programmed };
                let (got, message) = condition(&verdict(Ok(vec![holds(0)])), &at, ConditionType::RouteProgrammed);
                assert_eq!(got, want);
                assert!(message.starts_with("Not on listener l0: ") && message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn a_route_that_is_to_serve_no_more_says_so_while_a_guard_keeps_what_served_before() {
        let programmed = |verdict: &RouteVerdict, standing: &dyn Fn(&WorkId) -> Standing| {
            condition_held(verdict, standing, ConditionType::RouteProgrammed, Some("namespace/a"))
        };
        let refused = verdict(Err(AttachmentRefusal::NotAllowedByListeners));
        for ended in [&refused, &verdict(Ok(vec![superseded("default")])), &verdict(Ok(vec![unlistened()]))] {
            let (got, message) = programmed(ended, &all_programmed);
            assert_eq!(got, "False/Held");
            assert!(message.contains("is still in etcd and serves"), "{message}");
            assert!(message.ends_with("`apisix-etcd-controller release namespace/a` lets it go."), "{message}");
        }
        assert!(programmed(&refused, &all_programmed).1.starts_with("The parent does not accept the route. What"));
        let serves = verdict(Ok(vec![holds(0), unlistened()]));
        assert_eq!(programmed(&serves, &all_programmed).0, "True/Programmed");
        assert_eq!(programmed(&serves, &|_| Standing::Pending).0, "False/Pending");
    }

    #[test]
    fn what_needs_somebody_is_said_before_what_needs_only_time() {
        let at = |id: &WorkId| if *id == slot(0) { Standing::Pending } else { Standing::Refused("too long".into()) };
        assert_eq!(condition(&verdict(Ok(vec![holds(0)])), &at, ConditionType::RouteProgrammed).0, "False/Refused");
        let at = |_: &WorkId| Standing::Pending;
        let verdict = verdict(Ok(vec![unlistened(), superseded("default"), holds(0)]));
        assert_eq!(condition(&verdict, &at, ConditionType::RouteProgrammed).0, "False/Pending");
    }

    #[test]
    fn a_winner_is_named_only_within_the_routes_own_namespace() {
        check(
            &verdict(Ok(vec![superseded("default")])),
            &all_programmed,
            ConditionType::RouteProgrammed,
            "False/Superseded",
            "Not on listener lost: TCPRoute default/elder is older, or as old and first by name, and is served instead.",
        );
        check(
            &verdict(Ok(vec![superseded("secret-tenant")])),
            &all_programmed,
            ConditionType::RouteProgrammed,
            "False/Superseded",
            "Not on listener lost: a TCPRoute of another namespace is older, or as old and first by name, and is served instead.",
        );
    }

    #[test]
    fn a_route_whose_listeners_are_not_accepted_is_not_programmed() {
        for claims in [vec![unlistened()], vec![]] {
            let (got, _) = condition(&verdict(Ok(claims)), &all_programmed, ConditionType::RouteProgrammed);
            assert_eq!(got, "False/ListenerNotProgrammed");
        }
    }

    #[test]
    fn one_slot_in_etcd_is_enough_and_up_to_ten_that_are_not_are_named() {
        let at = |id: &WorkId| if *id == slot(0) || *id == pool() { Standing::Programmed } else { Standing::Pending };
        let (got, message) = condition(&verdict(Ok((0..11).map(holds).collect())), &at, ConditionType::RouteProgrammed);
        assert_eq!(got, "True/Programmed");
        assert!(message.starts_with("Served on listener l0. Not on listener l1: not yet in etcd."), "{message}");
        assert!(message.ends_with("Not on listener l10: not yet in etcd."), "{message}");
        let (_, message) = condition(&verdict(Ok((0..12).map(holds).collect())), &at, ConditionType::RouteProgrammed);
        assert!(message.ends_with("Not on listener l10: not yet in etcd. Nor on 1 more."), "{message}");
    }

    #[test]
    fn refused_shares_and_rounding_are_said_where_the_route_serves() {
        let mut verdict = verdict(Ok(vec![holds(0)]));
        verdict.backends.refused = Some(RefusedShare::Part { refused: 30, total: 100 });
        verdict.backends.rounded = true;
        let (_, message) = condition(&verdict, &all_programmed, ConditionType::RouteProgrammed);
        assert!(message.contains("30 of 100 connections are refused"), "{message}");
        assert!(message.contains("rounded"), "{message}");
        verdict.backends.refused = Some(RefusedShare::All);
        let (got, message) = condition(&verdict, &all_programmed, ConditionType::RouteProgrammed);
        assert_eq!(got, "True/Programmed");
        assert!(message.contains("Every connection is refused"), "{message}");
        let (_, message) = condition(&verdict, &|_| Standing::Pending, ConditionType::RouteProgrammed);
        assert!(!message.contains("refused"), "{message}");
    }

    #[test]
    fn what_becomes_of_a_udproute_is_said_in_the_words_of_udp() {
        let route = ObjectRef::new(Kind::UdpRoute, ObjectName::new("default", "dns"));
        let mut verdict = verdict(Ok(vec![holds(0)]));
        let fault = BackendFault::OtherTransport { service: ObjectName::new("default", "dns"), port: 53 };
        verdict.backends.problems = vec![BackendProblem { index: 0, fault }];
        verdict.backends.refused = Some(RefusedShare::Part { refused: 30, total: 100 });
        let message = |verdict: &RouteVerdict, n: usize| {
            let status = render(&route, verdict, OURS, &all_programmed, None);
            status["parents"][0]["conditions"][n]["message"].as_str().unwrap().to_owned()
        };
        assert!(message(&verdict, 1).contains("is not a UDP port"), "{}", message(&verdict, 1));
        assert!(message(&verdict, 2).contains("30 of 100 sessions are dropped"), "{}", message(&verdict, 2));
        verdict.backends.refused = Some(RefusedShare::All);
        assert!(message(&verdict, 2).contains("Every session is dropped"), "{}", message(&verdict, 2));
    }

    #[test]
    fn rules_that_are_not_served_are_counted() {
        let mut verdict = verdict(Ok(vec![holds(0)]));
        for (n, want) in [(1, "1 further rule is not"), (15, "15 further rules are not")] {
            verdict.rules_not_served = n;
            let (got, message) = condition(&verdict, &all_programmed, ConditionType::Accepted);
            assert_eq!(got, "True/Accepted");
            assert!(message.contains(want), "{message}");
        }
    }
}
