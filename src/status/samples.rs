//! Verdicts for tests: every reason of every condition appears in one of them.

use super::conditions::render;
use crate::model::{
    addresses::Address,
    facts::{ParentRef, RouteKind},
    names::{GATEWAY_GROUP, Kind, ObjectName, ObjectRef, RouteRef},
    places::{Directory, Plane, WorkId},
    sockets::{Footing, Need, SocketFault},
    verdicts::{
        AddressProblem, AncestorVerdict, AttachmentRefusal, BackendFault, BackendProblem, BackendsVerdict,
        ClaimOutcome, ClaimVerdict, Clash, ClassVerdict, DataPlaneVerdict, GatewayRefusal, GatewayVerdict,
        ListenerRefusal, ListenerSetVerdict, ListenerVerdict, NoAddress, Occupant, Overlap, ParametersProblem,
        ParentVerdict, PlaneFault, PolicyRefusal, PolicyVerdict, PrefixHolder, Reception, RefusedShare, RouteVerdict,
        Served, Source, Standing, Verdict,
    },
};
use serde_json::Value;

/// Our controller name in all samples.
pub(super) const OURS: &str = "apisix-etcd.io/gateway-controller";

/// The generation all samples were computed from.
pub(super) const GENERATION: i64 = 5;

/// A reference to a Gateway in the route's own namespace.
pub(super) fn parent(name: &str) -> ParentRef {
    ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: "Gateway".into(),
        namespace: None,
        name: name.into(),
        section_name: None,
        port: None,
    }
}

/// What is wanted of each sample verdict.
pub(super) fn all() -> Vec<(Kind, Value)> {
    let planes = planes().into_iter().map(|verdict| (Kind::DataPlane, Verdict::DataPlane(verdict)));
    let classes = classes().into_iter().map(|verdict| (Kind::GatewayClass, Verdict::GatewayClass(verdict)));
    let gateways = gateways().into_iter().map(|verdict| (Kind::Gateway, Verdict::Gateway(verdict)));
    let routes = routes().into_iter().map(|verdict| (Kind::TcpRoute, Verdict::Route(verdict)));
    let sets = sets().into_iter().map(|verdict| (Kind::ListenerSet, Verdict::ListenerSet(verdict)));
    let policies = policies().into_iter().map(|verdict| (Kind::BackendTlsPolicy, Verdict::Policy(verdict)));
    let all = planes.chain(classes).chain(gateways).chain(sets).chain(routes).chain(policies);
    all.map(|(kind, verdict)| (kind, wanted(kind, &verdict))).collect()
}

/// What is wanted of a route with these parents.
pub(super) fn route(parents: &[ParentRef]) -> Value {
    let attachment = || Ok(vec![claim("a", holds("programmed"))]);
    let parents = parents.iter().map(|parent| ParentVerdict { parent: parent.clone(), attachment: attachment() });
    wanted(Kind::TcpRoute, &Verdict::Route(route_of(parents.collect())))
}

/// What is wanted of a Gateway with these accepted listeners.
pub(super) fn gateway(listeners: &[&str]) -> Value {
    let listeners = listeners.iter().map(|name| listener(name, None)).collect();
    let verdict = GatewayVerdict {
        generation: GENERATION,
        refusal: None,
        addresses: Vec::new(),
        address: None,
        listeners,
        listener_sets: 0,
    };
    wanted(Kind::Gateway, &Verdict::Gateway(verdict))
}

fn wanted(kind: Kind, verdict: &Verdict) -> Value {
    render(&ObjectRef::new(kind, ObjectName::new("default", "sample")), verdict, OURS, &standing)
}

fn standing(id: &WorkId) -> Standing {
    match id.id.as_ref() {
        "pending" => Standing::Pending,
        "refused" => Standing::Refused("a port of 0".into()),
        "occupied" => Standing::Occupied { by: Occupant::Instance("blue".into()) },
        "edited" => Standing::Edited,
        "held" => Standing::Held { name: "a1".into() },
        "contended" => Standing::Contended,
        _ => Standing::Programmed,
    }
}

fn planes() -> Vec<DataPlaneVerdict> {
    let overlaps = PlaneFault::Overlaps { prefix: "/ab".into(), other: "/a".into(), holder: PrefixHolder::Default };
    let faults = [None, Some(PlaneFault::Invalid("etcdPrefix is none".into())), Some(overlaps)];
    faults.map(|fault| DataPlaneVerdict { generation: GENERATION, fault }).into()
}

fn classes() -> Vec<ClassVerdict> {
    let served = |source, bundles: Option<&[&str]>| Served {
        source,
        versions: [(Kind::TcpRoute, "v1".into())].into(),
        bundles: bundles.map(|bundles| bundles.iter().map(|&bundle| bundle.into()).collect()),
    };
    let class = |served| ClassVerdict {
        generation: GENERATION,
        unusable_parameters: None,
        served,
        in_use: false,
        passes_tls_through: true,
    };
    let refused = ClassVerdict {
        unusable_parameters: Some(ParametersProblem::Missing("edge".into())),
        ..class(served(Source::Cluster, Some(&["v1.9.0"])))
    };
    vec![
        class(served(Source::Folder, None)),
        class(served(Source::Cluster, None)),
        class(served(Source::Cluster, Some(&["v1.6.1"]))),
        refused,
    ]
}

fn listener(name: &str, refusal: Option<ListenerRefusal>) -> ListenerVerdict {
    let kind = |kind: &str| RouteKind { group: GATEWAY_GROUP.into(), kind: kind.into() };
    ListenerVerdict {
        name: name.into(),
        mapped: None,
        refusal,
        footing: Footing::Listening,
        supported_kinds: vec![kind("TCPRoute")],
        invalid_kinds: if name == "kinds" { vec![kind("UDPRoute")] } else { Vec::new() },
        attached_routes: 3,
        certificates: None,
        overlap: (name == "kinds").then(|| Overlap { own: vec!["a".into()], others: true }),
    }
}

fn gateways() -> Vec<GatewayVerdict> {
    let refusals = [
        ListenerRefusal::UnsupportedProtocol("HTTP".into()),
        ListenerRefusal::PortOutOfRange(0),
        ListenerRefusal::ProtocolConflict,
        ListenerRefusal::HostnameConflict,
        ListenerRefusal::PortOfOtherTransport { port: 9100.try_into().unwrap(), listener: Some("a".into()) },
        ListenerRefusal::PortTaken(9100.try_into().unwrap()),
        ListenerRefusal::NoSocket { port: 9100.try_into().unwrap(), need: Need::Tcp, fault: SocketFault::Ambiguous },
    ];
    let bad: Vec<ListenerVerdict> =
        refusals.into_iter().enumerate().map(|(n, refusal)| listener(&format!("bad{n}"), Some(refusal))).collect();
    let good = vec![listener("a", None), listener("kinds", None)];
    let mixed: Vec<ListenerVerdict> = good.iter().chain(&bad).cloned().collect();
    let gateway = |refusal, address, listeners: &Vec<ListenerVerdict>| GatewayVerdict {
        generation: GENERATION,
        refusal,
        addresses: Vec::new(),
        address,
        listeners: listeners.clone(),
        listener_sets: 0,
    };
    let asked = || "192.0.2.1".into();
    let absent = NoAddress::ServiceAbsent(ObjectName::new("infra", "apisix"));
    let addressed = |text: &[&str]| GatewayVerdict {
        addresses: text.iter().map(|text| Address::of(text).unwrap()).collect(),
        ..gateway(None, None, &good)
    };
    vec![
        gateway(None, None, &good),
        GatewayVerdict { listener_sets: 2, ..gateway(None, None, &good) },
        gateway(None, None, &mixed),
        gateway(None, None, &bad),
        gateway(Some(GatewayRefusal::Parameters("example.com/Tuning fast".into())), None, &good),
        gateway(Some(GatewayRefusal::AddressType("test/fake".into())), None, &good),
        gateway(None, Some(AddressProblem::NotUsable { asked: asked(), instead: vec![asked()], why: None }), &good),
        gateway(None, Some(AddressProblem::NotAssigned { kind: "IPAddress".into(), why: None }), &good),
        gateway(None, Some(AddressProblem::NoneToGive(absent)), &good),
        addressed(&["192.0.2.1"]),
        addressed(&["192.0.2.1", "edge.example.com"]),
    ]
}

fn sets() -> Vec<ListenerSetVerdict> {
    let clashes = [Clash::Protocol, Clash::Hostname, Clash::Listener].map(ListenerRefusal::Earlier);
    let kin = ListenerRefusal::PortOfOtherTransport { port: 9100.try_into().unwrap(), listener: None };
    let bad: Vec<ListenerVerdict> = clashes
        .into_iter()
        .chain([kin])
        .enumerate()
        .map(|(n, refusal)| listener(&format!("bad{n}"), Some(refusal)))
        .collect();
    let good = vec![listener("a", None), listener("kinds", None)];
    let mixed: Vec<ListenerVerdict> = good.iter().chain(&bad).cloned().collect();
    let set = |reception, listeners: &[ListenerVerdict]| ListenerSetVerdict {
        generation: GENERATION,
        reception,
        listeners: listeners.to_vec(),
    };
    vec![
        set(Reception::NotAllowed, &[]),
        set(Reception::ParentNotAccepted, &good),
        set(Reception::ParentNotProgrammed, &good),
        set(Reception::Taken, &good),
        set(Reception::Taken, &mixed),
        set(Reception::Taken, &bad),
        set(Reception::Taken, &[]),
    ]
}

fn claim(listener: &str, outcome: ClaimOutcome) -> ClaimVerdict {
    ClaimVerdict { listener: listener.into(), hostname: None, outcome }
}

fn holds(slot: &str) -> ClaimOutcome {
    ClaimOutcome::Holds {
        slot: WorkId::new(Plane::default(), Directory::StreamRoutes, slot),
        pool: WorkId::new(Plane::default(), Directory::Upstreams, "pool"),
        certificate: None,
    }
}

fn route_of(parents: Vec<ParentVerdict>) -> RouteVerdict {
    RouteVerdict {
        generation: GENERATION,
        parents,
        frozen_parents: Vec::new(),
        backends: BackendsVerdict::default(),
        rules_not_served: 0,
    }
}

/// What is wanted of a policy at Gateways of these names.
pub(super) fn policy(gateways: &[&str]) -> Value {
    let ancestor =
        |name: &&str| AncestorVerdict { gateway: ObjectName::new("infra", name), refusal: PolicyRefusal::CannotVerify };
    wanted(Kind::BackendTlsPolicy, &Verdict::Policy(policy_of(gateways.iter().map(ancestor).collect())))
}

fn policy_of(ancestors: Vec<AncestorVerdict>) -> PolicyVerdict {
    PolicyVerdict { generation: GENERATION, ancestors, frozen_ancestors: Vec::new() }
}

fn policies() -> Vec<PolicyVerdict> {
    let service = ObjectName::new("default", "service");
    let refusals = [
        PolicyRefusal::CannotVerify,
        PolicyRefusal::Conflicted { winner: ObjectName::new("default", "elder") },
        PolicyRefusal::NoSuchPort { service, port: "tls".into() },
    ];
    let ancestors = refusals
        .into_iter()
        .enumerate()
        .map(|(n, refusal)| AncestorVerdict { gateway: ObjectName::new("infra", &format!("gw{n}")), refusal });
    // One without ancestors says nothing, as a route without parents does.
    vec![policy_of(ancestors.collect())]
}

fn routes() -> Vec<RouteVerdict> {
    let service = || ObjectName::new("other", "service");
    let superseded = |namespace| ClaimOutcome::Superseded {
        winner: RouteRef::new(Kind::TcpRoute, ObjectName::new(namespace, "elder")),
    };
    let mut attachments = vec![
        Err(AttachmentRefusal::NoMatchingParent),
        Err(AttachmentRefusal::NotAllowedByListeners),
        Err(AttachmentRefusal::ListenerSetNotAllowed),
        Ok(vec![claim("a", holds("programmed")), claim("b", holds("pending"))]),
    ];
    for outcome in ["pending", "refused", "occupied", "edited", "held", "contended"].map(holds) {
        attachments.push(Ok(vec![claim("a", outcome)]));
    }
    for outcome in [superseded("default"), superseded("other"), ClaimOutcome::ListenerNotAccepted] {
        attachments.push(Ok(vec![claim("a", outcome)]));
    }
    let full = ParentRef {
        namespace: Some("infra".into()),
        section_name: Some("a".into()),
        port: Some(9100),
        ..parent("full")
    };
    let parents = attachments.into_iter().enumerate().map(|(n, attachment)| ParentVerdict {
        parent: if n == 0 { full.clone() } else { parent(&format!("gw{n}")) },
        attachment,
    });
    let crowd = route_of(parents.collect());
    let faults = [
        BackendFault::UnknownKind { group: "".into(), kind: "Pod".into() },
        BackendFault::NotPermitted(service()),
        BackendFault::NotFound(service()),
        BackendFault::Unreadable(service()),
        BackendFault::OtherTransport { service: service(), port: 53 },
        BackendFault::TlsDemanded { service: service(), policy: "policy".into() },
        BackendFault::TlsProtocol { service: service(), port: 443, protocol: "https".into() },
    ];
    let routes = faults.into_iter().map(|fault| {
        let mut route = crowd.clone();
        route.backends.problems = vec![BackendProblem { index: 0, fault }];
        route.backends.refused = Some(RefusedShare::Part { refused: 30, total: 100 });
        route.backends.rounded = true;
        route.rules_not_served = 2;
        route
    });
    [route_of(Vec::new()), crowd.clone()].into_iter().chain(routes).collect()
}
