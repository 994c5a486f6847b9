//! Small clusters of routes on a Gateway of many listeners, and what one change is said to reach.

use super::{reached::ROUTES_LOOKED_AT, *};
use crate::{
    apisix::{documents, version::ApisixVersion},
    model::{
        facts::{
            BackendRef, EndpointFacts, GatewayClassFacts, GatewayFacts, GrantFrom, GrantTo, IpFamily, LabelRequirement,
            LabelSelector, ListenerFacts, NamespaceFacts, ParentRef, ReferenceGrantFacts, ServiceFacts,
            ServicePortFacts, SlicePortFacts, Transport,
            listener_sets::ListenerSetFacts,
            policies::{BackendTlsPolicyFacts, PolicyTarget},
        },
        names::{Created, GATEWAY_GROUP},
        places::{Directory, Plane, Port},
    },
    translate::{
        desired::{Settings, Wanted},
        planes::PlaneSettings,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::collections::BTreeSet;

const OURS: &str = "example.com/ours";
const ALL: usize = 1_000;

fn empty() -> Desired {
    Desired::new(Settings {
        controller_name: OURS.into(),
        instance: "default".into(),
        plane: PlaneSettings::new(Plane::default(), ApisixVersion::DEFAULT).into(),
    })
}

fn is(kind: Kind, namespace: &str, name: &str, facts: Option<Facts>) -> Change {
    Change { kind, name: ObjectName::new(namespace, name), observed: facts.map(Observed::Facts) }
}

fn class(controller_name: &str) -> Change {
    let facts = GatewayClassFacts { generation: 1, controller_name: controller_name.into(), parameters: None };
    is(Kind::GatewayClass, "", "apisix", Some(Facts::GatewayClass(facts)))
}

fn listener(port: i64, namespaces: FromNamespaces) -> ListenerFacts {
    ListenerFacts {
        name: format!("l{port}").into(),
        port,
        protocol: "TCP".into(),
        hostname: None,
        tls: None,
        namespaces,
        kinds: Vec::new(),
    }
}

fn gateway(name: &str, ports: impl IntoIterator<Item = i64>, namespaces: &FromNamespaces) -> Change {
    let facts = GatewayFacts {
        generation: 1,
        created: Created(1),
        class: "apisix".into(),
        parameters: None,
        addresses: Vec::new(),
        listeners: ports.into_iter().map(|port| listener(port, namespaces.clone())).collect(),
        allowed_listeners: namespaces.clone(),
    };
    is(Kind::Gateway, "ns", name, Some(Facts::Gateway(facts)))
}

fn set(name: &str, gateway: &str, ports: impl IntoIterator<Item = i64>) -> Change {
    let facts = ListenerSetFacts {
        generation: 1,
        created: Created(1),
        parent: parent(gateway, None),
        listeners: ports.into_iter().map(|port| listener(port, FromNamespaces::All)).collect(),
    };
    is(Kind::ListenerSet, "far", name, Some(Facts::ListenerSet(facts)))
}

/// What names the same listener of a set.
fn in_set(parent: ParentRef) -> ParentRef {
    ParentRef { kind: "ListenerSet".into(), namespace: Some("far".into()), ..parent }
}

fn parent(gateway: &str, section: Option<i64>) -> ParentRef {
    ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: "Gateway".into(),
        namespace: Some("ns".into()),
        name: gateway.into(),
        section_name: section.map(|port| format!("l{port}").into()),
        port: None,
    }
}

fn route(namespace: &str, name: &str, parents: Vec<ParentRef>, service: (&str, &str)) -> Change {
    let backend = BackendRef {
        group: "".into(),
        kind: "Service".into(),
        namespace: Some(service.0.into()),
        name: service.1.into(),
        port: Some(80),
        weight: 1,
    };
    let facts = RouteFacts {
        generation: 1,
        created: Created::UNKNOWN,
        parents,
        hostnames: Vec::new(),
        rules: 1,
        backends: vec![backend],
        drift: None,
    };
    is(Kind::TcpRoute, namespace, name, Some(Facts::TcpRoute(facts)))
}

fn service(namespace: &str, name: &str, port: i64) -> Change {
    let port = ServicePortFacts { name: "".into(), port, transport: Transport::Tcp, app_protocol: None };
    let facts = ServiceFacts { external_name: false, family: None, ports: vec![port], addresses: Vec::new() };
    is(Kind::Service, namespace, name, Some(Facts::Service(facts)))
}

fn slice(namespace: &str, name: &str, service: &str, ready: &[bool]) -> Change {
    let endpoint = |(last, ready): (u8, &bool)| EndpointFacts {
        address: [192, 0, 2, last].into(),
        ready: *ready,
        serving: *ready,
        terminating: false,
    };
    let facts = EndpointSliceFacts {
        service: Some(service.into()),
        family: Some(IpFamily::V4),
        ports: vec![SlicePortFacts { name: "".into(), port: Some(8080), transport: Transport::Tcp }],
        endpoints: (1..).zip(ready).map(endpoint).collect(),
    };
    is(Kind::EndpointSlice, namespace, name, Some(Facts::EndpointSlice(facts)))
}

fn grant(namespace: &str) -> Change {
    let from = GrantFrom { group: GATEWAY_GROUP.into(), kind: "TCPRoute".into(), namespace: "ns".into() };
    let to = GrantTo { group: "".into(), kind: "Service".into(), name: None };
    let facts = ReferenceGrantFacts { from: vec![from], to: vec![to] };
    is(Kind::ReferenceGrant, namespace, "grant", Some(Facts::ReferenceGrant(facts)))
}

fn gone(change: &Change) -> Change {
    Change { observed: None, ..change.clone() }
}

/// Five routes, each on its own listener of one Gateway, to one Service with one ready endpoint.
fn five_routes() -> Desired {
    let mut desired = empty();
    let routes =
        (9001..9006).map(|port| route("ns", &format!("r{port}"), vec![parent("edge", Some(port))], ("ns", "svc")));
    let around = [
        class(OURS),
        gateway("edge", 9001..9006, &FromNamespaces::All),
        service("ns", "svc", 80),
        slice("ns", "slice", "svc", &[true]),
    ];
    desired.apply(around.into_iter().chain(routes));
    desired
}

fn slot(port: u16) -> WorkId {
    ids::port_slot(Plane::default(), Port::new(port).unwrap())
}

#[test]
fn a_change_reaches_what_hangs_on_its_object() {
    let desired = five_routes();
    let reach = |change: &Change| desired.reach(change, ALL);
    assert_eq!(reach(&gone(&class(OURS))), 5);
    assert_eq!(reach(&class("example.com/other")), 5);
    assert_eq!(reach(&gone(&gateway("edge", [], &FromNamespaces::All))), 5);
    assert_eq!(reach(&gone(&service("ns", "svc", 80))), 5);
    assert_eq!(reach(&service("ns", "svc", 81)), 5);
    assert_eq!(reach(&gone(&slice("ns", "slice", "svc", &[]))), 5);
    assert_eq!(reach(&slice("ns", "slice", "svc", &[false])), 5);
    assert_eq!(reach(&gone(&route("ns", "r9001", vec![], ("ns", "svc")))), 1);
}

#[test]
fn a_policy_reaches_the_routes_to_the_services_it_targets_or_did() {
    let policy = |service: &str| {
        let target =
            PolicyTarget { group: "".into(), kind: "Service".into(), name: service.into(), section_name: None };
        let facts = BackendTlsPolicyFacts { generation: 1, created: Created(0), targets: vec![target] };
        is(Kind::BackendTlsPolicy, "ns", "policy", Some(Facts::BackendTlsPolicy(facts)))
    };
    let mut desired = five_routes();
    assert_eq!(desired.reach(&policy("svc"), ALL), 5);
    assert_eq!(desired.reach(&policy("other"), ALL), 0);
    desired.apply([policy("svc")]);
    assert_eq!(desired.reach(&policy("svc"), ALL), 0);
    assert_eq!(desired.reach(&policy("other"), ALL), 5);
    assert_eq!(desired.reach(&gone(&policy("svc")), ALL), 5);
}

#[test]
fn a_gateway_reaches_the_ports_it_takes_from_others() {
    let desired = five_routes();
    assert_eq!(desired.reach(&gateway("other", 9004..9010, &FromNamespaces::All), ALL), 6);
    assert_eq!(desired.reach(&gateway("edge", 9003..9008, &FromNamespaces::All), ALL), 7);
}

#[test]
fn a_listener_set_reaches_its_ports_and_a_gateway_those_of_its_sets() {
    let mut desired = five_routes();
    desired.apply([set("more", "edge", [9100, 9101])]);
    let reach = |change: &Change| desired.reach(change, ALL);
    // The Gateway loses none by what a set asks for, but a set that loses its Gateway loses all.
    assert_eq!(reach(&gone(&set("more", "edge", []))), 2);
    assert_eq!(reach(&set("more", "edge", [9101, 9102])), 3);
    assert_eq!(reach(&gone(&gateway("edge", [], &FromNamespaces::All))), 7);
    assert_eq!(reach(&gateway("other", [9001], &FromNamespaces::All)), 3);
    assert_eq!(reach(&gateway("other", [9009], &FromNamespaces::All)), 1);
    assert_eq!(reach(&gone(&class(OURS))), 7);
}

#[test]
fn a_route_reaches_the_slots_it_takes_from_others() {
    let desired = five_routes();
    assert_eq!(desired.reach(&route("ns", "big", vec![parent("edge", None)], ("ns", "svc")), ALL), 5);
    let moved = route("ns", "r9001", vec![parent("edge", Some(9002))], ("ns", "svc"));
    assert_eq!(desired.reach(&moved, ALL), 2);
}

#[test]
fn grants_reach_routes_elsewhere_and_namespaces_those_selected_by_label() {
    let mut desired = five_routes();
    assert_eq!(desired.reach(&gone(&grant("far")), ALL), 0);
    assert_eq!(desired.reach(&is(Kind::Namespace, "", "ns", None), ALL), 0);
    let selector = LabelSelector { requirements: vec![LabelRequirement::DoesNotExist("team".into())] };
    desired.apply([
        gateway("choosy", [9100, 9101], &FromNamespaces::Selector(selector)),
        route("ns", "far", vec![parent("choosy", Some(9100))], ("far", "svc")),
    ]);
    assert_eq!(desired.reach(&gone(&grant("far")), ALL), 1);
    assert_eq!(desired.reach(&is(Kind::Namespace, "", "ns", None), ALL), 1);
}

#[test]
fn counting_ends_where_it_is_enough() {
    let desired = five_routes();
    for enough in 1..=5 {
        assert_eq!(desired.reach(&gone(&service("ns", "svc", 80)), enough), enough);
    }
    assert_eq!(desired.reach(&gone(&service("ns", "svc", 80)), 6), 5);
}

#[test]
fn a_change_of_more_routes_than_are_looked_at_reaches_enough() {
    let mut desired = five_routes();
    let n_routes = i64::try_from(ROUTES_LOOKED_AT).unwrap();
    desired.apply((0..n_routes).map(|n| route("ns", &format!("n{n}"), vec![parent("edge", None)], ("ns", "svc"))));
    assert_eq!(desired.reach(&gone(&service("ns", "svc", 80)), ALL), ALL);
}

#[test]
fn what_is_known_already_and_endpoints_that_stay_ready_reach_nothing() {
    let mut desired = five_routes();
    assert_eq!(desired.reach(&class(OURS), ALL), 0);
    assert_eq!(desired.reach(&gateway("edge", 9001..9006, &FromNamespaces::All), ALL), 0);
    assert_eq!(desired.reach(&slice("ns", "slice", "svc", &[true, true]), ALL), 0);
    assert_eq!(desired.reach(&slice("ns", "slice", "svc", &[false, true]), ALL), 0);
    assert_eq!(desired.reach(&slice("ns", "slice", "other", &[true]), ALL), 5);
    assert_eq!(desired.reach(&slice("ns", "new", "svc", &[true]), ALL), 5);
    let unreadable =
        |name| Change { observed: Some(Observed::Unreadable { error: "x".into() }), ..slice("ns", name, "svc", &[]) };
    desired.apply([unreadable("new")]);
    assert_eq!(desired.reach(&gone(&unreadable("new")), ALL), 5);
}

#[test]
fn a_slot_serves_has_no_nodes_is_absent_or_kept() {
    let mut desired = five_routes();
    assert_eq!(desired.serves(&slot(9001)), Serves::Nodes(1));
    assert_eq!(desired.serves(&slot(9009)), Serves::Absent);
    assert_eq!(desired.serves(&WorkId::new(Plane::default(), Directory::StreamRoutes, "theirs")), Serves::Absent);
    let pool = desired.slot_pool(&slot(9001)).unwrap().clone();
    assert_eq!(desired.slots_of(&pool).collect::<Vec<_>>(), [slot(9001)]);
    assert!(!desired.refuses(&pool) && !desired.refuses(&slot(9001)));

    desired.apply([slice("ns", "slice", "svc", &[])]);
    assert_eq!(desired.serves(&slot(9001)), Serves::NoNodes);
    assert!(desired.refuses(&pool) && desired.refuses(&slot(9001)));

    desired.apply([Change {
        observed: Some(Observed::Unreadable { error: "x".into() }),
        ..slice("ns", "other", "svc", &[])
    }]);
    assert_eq!(desired.serves(&slot(9001)), Serves::Kept);

    desired.apply([gone(&class(OURS))]);
    assert_eq!((desired.serves(&slot(9001)), desired.slot_pool(&slot(9001))), (Serves::Kept, None));
    desired.apply([class("example.com/other")]);
    assert_eq!(desired.serves(&slot(9001)), Serves::Absent);
}

#[test]
fn classes_that_are_ours_are_named_before_others() {
    let mut desired = empty();
    assert_eq!(desired.gateway_classes(), []);
    desired.apply([class("example.com/other")]);
    let apisix = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("apisix"));
    assert_eq!(desired.gateway_classes(), [apisix]);
    let facts = GatewayClassFacts { generation: 1, controller_name: OURS.into(), parameters: None };
    desired.apply([is(Kind::GatewayClass, "", "ours", Some(Facts::GatewayClass(facts)))]);
    let ours = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("ours"));
    assert_eq!(desired.gateway_classes(), [ours]);
}

/// One of few objects, in one of few states, so that they hang on each other often.
fn change() -> impl Strategy<Value = Change> {
    let namespaces = || {
        let labelled = LabelSelector { requirements: vec![LabelRequirement::Exists("team".into())] };
        select(vec![FromNamespaces::All, FromNamespaces::Selector(labelled)])
    };
    let ports = || vec(9001_i64..9007, 1..5);
    let names = || (select(vec!["ns", "far"]), select(vec!["a", "b"]));
    let gateways = || vec((select(vec!["edge", "other"]), option::of(9001_i64..9007), any::<bool>()), 1..3);
    prop_oneof![
        1 => select(vec![OURS, OURS, "example.com/other"]).prop_map(class),
        3 => (select(vec!["edge", "other"]), ports(), namespaces())
            .prop_map(|(name, ports, namespaces)| gateway(name, ports, &namespaces)),
        6 => (names(), gateways(), names()).prop_map(|((namespace, name), gateways, service)| {
            let parent = |(gateway, section, set)| {
                if set { in_set(parent(gateway, section)) } else { parent(gateway, section) }
            };
            route(namespace, name, gateways.into_iter().map(parent).collect(), service)
        }),
        // Sets have the names of Gateways, on purpose.
        3 => (select(vec!["edge", "other"]), select(vec!["edge", "other"]), ports())
            .prop_map(|(name, gateway, ports)| set(name, gateway, ports)),
        1 => Just(grant("far")),
        2 => (select(vec!["ns", "far"]), any::<bool>()).prop_map(|(name, labelled)| {
            let labels = labelled.then(|| ("team".into(), "a".into())).into_iter().collect();
            is(Kind::Namespace, "", name, Some(Facts::Namespace(NamespaceFacts { labels })))
        }),
        3 => (names(), select(vec![80_i64, 80, 81])).prop_map(|((ns, name), port)| service(ns, name, port)),
        4 => (names(), select(vec!["a", "b"]), vec(any::<bool>(), 0..3))
            .prop_map(|((ns, name), service, ready)| slice(ns, name, service, &ready)),
    ]
    .prop_flat_map(|change| {
        let unreadable = Change { observed: Some(Observed::Unreadable { error: "x".into() }), ..change.clone() };
        prop_oneof![8 => Just(change.clone()), 3 => Just(gone(&change)), 1 => Just(unreadable)]
    })
}

/// The same answer, from the documents.
fn served_by_documents(desired: &Desired, slot: &WorkId) -> Serves {
    let pool = match desired.wanted(slot) {
        Wanted::Absent => return Serves::Absent,
        Wanted::Kept { .. } => return Serves::Kept,
        Wanted::Refused(_) => return Serves::Refused,
        Wanted::Document(document) => document.pool.unwrap(),
    };
    assert_eq!(desired.slot_pool(slot), Some(pool.clone()));
    match desired.wanted(&pool) {
        Wanted::Absent => Serves::Absent,
        Wanted::Kept { .. } => Serves::Kept,
        Wanted::Refused(_) => Serves::Refused,
        Wanted::Document(document) => match documents::nodes(&document.bytes).len() {
            0 => Serves::NoNodes,
            n_nodes => Serves::Nodes(n_nodes),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_change_stops_more_slots_than_it_is_said_to_reach(
        first in vec(change(), 20..40),
        noted in vec(change(), 0..3),
        last in change(),
    ) {
        let mut desired = empty();
        desired.apply([class(OURS)].into_iter().chain(first));
        // What waits to be worked out is not the last change's doing.
        for change in noted {
            desired.note(change);
        }
        let reach = desired.reach(&last, ALL);
        desired.settle();
        let serving = |desired: &Desired| -> BTreeSet<u16> {
            let serves = |port: &u16| match desired.serves(&slot(*port)) {
                Serves::Nodes(_) | Serves::Kept => true,
                Serves::NoNodes | Serves::Refused | Serves::Absent => false,
            };
            (9001..9007).filter(serves).collect()
        };
        let before = serving(&desired);
        desired.apply([last]);
        let after = serving(&desired);
        prop_assert!(before.difference(&after).count() <= reach, "{before:?} {after:?} {reach}");
    }

    #[test]
    fn what_a_slot_is_said_to_do_is_what_its_documents_say(changes in vec(change(), 20..40)) {
        let mut desired = empty();
        desired.apply([class(OURS)].into_iter().chain(changes));
        for port in 9000..9008 {
            prop_assert_eq!(desired.serves(&slot(port)), served_by_documents(&desired, &slot(port)));
        }
    }
}
