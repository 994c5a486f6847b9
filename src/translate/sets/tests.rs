//! ListenerSets whose Gateways, namespaces or selves come, go and cannot be read; each step is held to a rebuild.

use crate::{
    apisix::{ids, version::ApisixVersion},
    model::{
        facts::{
            Change, Facts, FromNamespaces, GatewayClassFacts, GatewayFacts, LabelRequirement, LabelSelector,
            ListenerFacts, NamespaceFacts, Observed, ParentRef, RouteFacts, listener_sets::ListenerSetFacts,
        },
        names::{Created, GATEWAY_GROUP, Kind, ObjectName, ObjectRef},
        places::{Plane, Port},
        verdicts::{Reception, Verdict},
    },
    translate::{
        desired::{Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};

const OURS: &str = "example.com/ours";

fn empty() -> Desired {
    Desired::new(Settings {
        controller_name: OURS.into(),
        instance: "default".into(),
        plane: PlaneSettings::new(Plane::default(), ApisixVersion::DEFAULT).into(),
    })
}

fn is(kind: Kind, namespace: &str, name: &str, facts: Facts) -> Change {
    Change { kind, name: ObjectName::new(namespace, name), observed: Some(Observed::Facts(facts)) }
}

fn gone(change: &Change) -> Change {
    Change { observed: None, ..change.clone() }
}

fn unreadable(change: &Change) -> Change {
    Change { observed: Some(Observed::Unreadable { error: "x".into() }), ..change.clone() }
}

fn class() -> Change {
    let facts = GatewayClassFacts { generation: 1, controller_name: OURS.into(), parameters: None };
    is(Kind::GatewayClass, "", "apisix", Facts::GatewayClass(facts))
}

fn listeners(ports: &[i64]) -> Vec<ListenerFacts> {
    let listener = |port: &i64| ListenerFacts {
        name: format!("l{port}").into(),
        port: *port,
        protocol: "TCP".into(),
        hostname: None,
        tls: None,
        namespaces: FromNamespaces::All,
        kinds: Vec::new(),
    };
    ports.iter().map(listener).collect()
}

fn gateway_from(name: &str, created: i64, ports: &[i64], allowed_listeners: FromNamespaces) -> Change {
    let facts = GatewayFacts {
        generation: 1,
        created: Created(created),
        class: "apisix".into(),
        parameters: None,
        addresses: Vec::new(),
        listeners: listeners(ports),
        allowed_listeners,
    };
    is(Kind::Gateway, "infra", name, Facts::Gateway(facts))
}

fn gateway(name: &str, created: i64, ports: &[i64]) -> Change {
    gateway_from(name, created, ports, FromNamespaces::All)
}

fn parent(kind: &str, namespace: &str, name: &str) -> ParentRef {
    ParentRef {
        group: GATEWAY_GROUP.into(),
        kind: kind.into(),
        namespace: Some(namespace.into()),
        name: name.into(),
        section_name: None,
        port: None,
    }
}

fn set(name: &str, gateway: &str, ports: &[i64]) -> Change {
    let parent = parent("Gateway", "infra", gateway);
    let facts = ListenerSetFacts { generation: 1, created: Created(9), parent, listeners: listeners(ports) };
    is(Kind::ListenerSet, "apps", name, Facts::ListenerSet(facts))
}

fn route(name: &str, set: &str) -> Change {
    let facts = RouteFacts {
        generation: 1,
        created: Created(9),
        drift: None,
        parents: vec![parent("ListenerSet", "apps", set)],
        hostnames: Vec::new(),
        rules: 1,
        backends: Vec::new(),
    };
    is(Kind::TcpRoute, "apps", name, Facts::TcpRoute(facts))
}

fn slot(desired: &Desired, port: u16) -> Wanted {
    desired.wanted(&ids::port_slot(Plane::default(), Port::new(port).unwrap()))
}

fn pool(desired: &Desired, route: &str) -> Wanted {
    desired.wanted(&ids::pool(Plane::default(), "default", Kind::TcpRoute, &ObjectName::new("apps", route)))
}

/// What each of these sets' Gateways makes of it.
fn receptions(desired: &Desired, sets: &[&str]) -> Vec<Option<Reception>> {
    let reception = |name: &&str| {
        let object = ObjectRef::new(Kind::ListenerSet, ObjectName::new("apps", name));
        match desired.verdict(&object)? {
            Verdict::ListenerSet(set) => Some(set.reception),
            Verdict::DataPlane(_)
            | Verdict::GatewayClass(_)
            | Verdict::Gateway(_)
            | Verdict::Route(_)
            | Verdict::Policy(_) => None,
        }
    };
    sets.iter().map(reception).collect()
}

#[test]
fn a_fall_runs_down_the_ages_of_gateways_and_back_up() {
    use Reception::{ParentNotAccepted as Fallen, Taken};
    let mut desired = empty();
    // Each set would take the only port of the next Gateway.
    desired.apply([
        class(),
        gateway("b", 2, &[9001]),
        set("b", "b", &[9002]),
        gateway("c", 3, &[9002]),
        set("c", "c", &[9003]),
        gateway("d", 4, &[9003]),
        set("d", "d", &[9004]),
    ]);
    let says = |desired: &Desired| receptions(desired, &["b", "c", "d"]);
    assert_eq!(says(&desired), [Some(Taken), Some(Fallen), Some(Taken)]);
    let oldest = gateway("a", 1, &[9001]);
    let affected = desired.apply([oldest.clone()]);
    assert_eq!(says(&desired), [Some(Fallen), Some(Taken), Some(Fallen)]);
    for name in ["b", "c", "d"] {
        assert!(affected.verdicts.contains(&ObjectRef::new(Kind::ListenerSet, ObjectName::new("apps", name))));
    }
    desired.apply([gone(&oldest)]);
    assert_eq!(says(&desired), [Some(Taken), Some(Fallen), Some(Taken)]);
}

#[test]
fn what_a_frozen_gateways_sets_have_in_etcd_is_kept() {
    let mut desired = empty();
    let class = class();
    desired.apply([class.clone(), gateway("a", 1, &[9001]), set("more", "a", &[9002]), route("r", "more")]);
    assert!(matches!(slot(&desired, 9002), Wanted::Document(_)));
    desired.apply([gone(&class)]);
    assert_eq!(slot(&desired, 9002), Wanted::Kept { otherwise: None });
    assert_eq!(receptions(&desired, &["more"]), [None]);
    desired.apply([gone(&set("more", "a", &[]))]);
    assert_eq!(slot(&desired, 9002), Wanted::Absent);
}

#[test]
fn what_a_route_has_is_kept_while_its_set_or_the_sets_gateway_could_never_be_read() {
    let (set, gateway) = (set("more", "a", &[9002]), gateway("a", 1, &[9001]));
    let all = [class(), gateway.clone(), set.clone(), route("r", "more")];
    for odd in [&set, &gateway] {
        let mut desired = empty();
        desired.apply(all.iter().map(|change| if change == odd { unreadable(change) } else { change.clone() }));
        assert_eq!(pool(&desired, "r"), Wanted::Kept { otherwise: None }, "{}", odd.kind);
        desired.apply([odd.clone()]);
        assert!(matches!(pool(&desired, "r"), Wanted::Document(_)), "{}", odd.kind);
        // What could be read once stays in force.
        desired.apply([unreadable(odd)]);
        assert!(matches!(pool(&desired, "r"), Wanted::Document(_)), "{}", odd.kind);
        desired.apply([gone(odd)]);
        assert_eq!(pool(&desired, "r"), Wanted::Absent, "{}", odd.kind);
    }
}

#[test]
fn what_a_route_has_is_kept_while_the_labels_that_allow_its_set_could_never_be_read() {
    let selector = LabelSelector { requirements: vec![LabelRequirement::Exists("team".into())] };
    let namespace = is(Kind::Namespace, "", "apps", Facts::Namespace(NamespaceFacts::default()));
    let mut desired = empty();
    desired.apply([
        class(),
        gateway_from("a", 1, &[9001], FromNamespaces::Selector(selector)),
        set("more", "a", &[9002]),
        route("r", "more"),
        unreadable(&namespace),
    ]);
    assert_eq!(receptions(&desired, &["more"]), [Some(Reception::NotAllowed)]);
    assert_eq!(pool(&desired, "r"), Wanted::Kept { otherwise: None });
    desired.apply([namespace]);
    assert_eq!(pool(&desired, "r"), Wanted::Absent);
}

#[test]
fn a_set_that_moves_to_another_gateway_is_counted_there_and_no_more_where_it_was() {
    let mut desired = empty();
    desired.apply([class(), gateway("a", 1, &[9001]), gateway("b", 2, &[9101]), set("more", "a", &[9002])]);
    let counted = |desired: &Desired, name: &str| match desired
        .verdict(&ObjectRef::new(Kind::Gateway, ObjectName::new("infra", name)))
    {
        Some(Verdict::Gateway(gateway)) => gateway.listener_sets,
        _ => 0,
    };
    assert_eq!([counted(&desired, "a"), counted(&desired, "b")], [1, 0]);
    let affected = desired.apply([set("more", "b", &[9002])]);
    assert_eq!([counted(&desired, "a"), counted(&desired, "b")], [0, 1]);
    for name in ["a", "b"] {
        assert!(affected.verdicts.contains(&ObjectRef::new(Kind::Gateway, ObjectName::new("infra", name))), "{name}");
    }
}
