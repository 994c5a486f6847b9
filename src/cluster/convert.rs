//! Objects as they are written become facts: every default of the API is filled in here, and nothing is judged.
//!
//! Parts of decoded objects in, facts out. It cannot fail: what is out of bounds is kept as it is, for translation to say.

use super::wire;
use crate::model::{
    addresses::{self, Address},
    facts::{
        AddressFacts, BackendRef, DriftPolicy, EndpointFacts, EndpointSliceFacts, FromNamespaces, GatewayClassFacts,
        GatewayFacts, GrantFrom, GrantTo, IpFamily, LabelRequirement, LabelSelector, ListenerFacts, NamespaceFacts,
        ParametersRef, ParentRef, ReferenceGrantFacts, RouteFacts, RouteKind, SecretRef, ServiceFacts,
        ServicePortFacts, SlicePortFacts, TlsFacts, Transport,
        data_planes::{DataPlaneFacts, ListenFacts, PortMappingFacts},
        listener_sets::ListenerSetFacts,
        policies::{BackendTlsPolicyFacts, PolicyTarget},
    },
    names::{Created, GATEWAY_GROUP, ObjectName},
};
use gateway_api::{gatewayclasses::GatewayClassSpec, referencegrants::ReferenceGrantSpec};
use std::{net::IpAddr, sync::Arc};
use wire::{Metadata, Text, shared};

/// A DataPlane.
pub(super) fn data_plane<L>(metadata: &Metadata<L>, spec: wire::data_planes::DataPlaneSpec) -> DataPlaneFacts {
    let texts = |texts: Vec<Text>| texts.into_iter().map(|text| text.0).collect::<Vec<_>>();
    DataPlaneFacts {
        generation: generation(metadata),
        created: created(metadata),
        etcd_prefix: spec.etcd_prefix.0,
        apisix_version: unless_empty(spec.apisix_version),
        listen: spec.listen.map(|entries| entries.into_iter().map(listen).collect()),
        port_mapping: spec.port_mapping.iter().flatten().map(port_mapping).collect(),
        stream_plugins: spec.stream_plugins.map(texts),
        addresses: spec.addresses.map(texts).unwrap_or_default(),
        publish_service: spec
            .publish_service
            .map(|service| ObjectName { namespace: service.namespace.0, name: service.name.0 }),
    }
}

fn listen(entry: wire::data_planes::Listen) -> ListenFacts {
    ListenFacts { protocol: entry.protocol.0, port: entry.port, end_port: entry.end_port }
}

fn port_mapping(entry: &wire::data_planes::PortMapping) -> PortMappingFacts {
    PortMappingFacts { gateway_port: entry.gateway_port, apisix_port: entry.apisix_port }
}

/// A GatewayClass.
pub(super) fn gateway_class<L>(metadata: &Metadata<L>, spec: GatewayClassSpec) -> GatewayClassFacts {
    let parameters = spec.parameters_ref.map(|parameters| ParametersRef {
        group: shared(&parameters.group),
        kind: shared(&parameters.kind),
        namespace: parameters.namespace.as_deref().filter(|namespace| !namespace.is_empty()).map(shared),
        name: shared(&parameters.name),
    });
    GatewayClassFacts { generation: generation(metadata), controller_name: shared(&spec.controller_name), parameters }
}

/// A Gateway.
pub(super) fn gateway<L>(metadata: &Metadata<L>, spec: wire::GatewaySpec) -> GatewayFacts {
    let parameters = spec.infrastructure.and_then(|infrastructure| infrastructure.parameters_ref);
    GatewayFacts {
        generation: generation(metadata),
        created: created(metadata),
        class: spec.gateway_class_name.0,
        parameters: parameters.map(|parameters| reference(&parameters.group, &parameters.kind, &parameters.name)),
        addresses: spec.addresses.into_iter().flatten().map(address).collect(),
        listeners: spec.listeners.into_iter().map(listener).collect(),
        allowed_listeners: allowed_listeners(spec.allowed_listeners),
    }
}

/// Who may add listeners: nobody where nothing is said, unlike with routes.
fn allowed_listeners(allowed: Option<wire::AllowedListeners>) -> FromNamespaces {
    let namespaces = allowed.and_then(|allowed| allowed.namespaces).filter(|namespaces| namespaces.from.is_some());
    namespaces.map_or(FromNamespaces::Nobody, from_namespaces)
}

/// A ListenerSet.
pub(super) fn listener_set<L>(metadata: &Metadata<L>, spec: wire::ListenerSetSpec) -> ListenerSetFacts {
    ListenerSetFacts {
        generation: generation(metadata),
        created: created(metadata),
        parent: ParentRef { section_name: None, port: None, ..parent_ref(spec.parent_ref) },
        listeners: spec.listeners.into_iter().map(listener).collect(),
    }
}

fn address(address: wire::Address) -> AddressFacts {
    AddressFacts { kind: or(address.kind, "IPAddress"), value: or(address.value, "") }
}

fn listener(listener: wire::Listener) -> ListenerFacts {
    let (namespaces, kinds) = match listener.allowed_routes {
        Some(allowed) => (allowed.namespaces.map_or(FromNamespaces::Same, from_namespaces), allowed.kinds),
        None => (FromNamespaces::Same, None),
    };
    ListenerFacts {
        name: listener.name.0,
        port: listener.port,
        protocol: listener.protocol.0,
        hostname: unless_empty(listener.hostname),
        tls: listener.tls.map(tls),
        namespaces,
        kinds: kinds.into_iter().flatten().map(allowed_kind).collect(),
    }
}

fn tls(tls: wire::Tls) -> TlsFacts {
    TlsFacts {
        mode: or(tls.mode, "Terminate"),
        certificates: tls.certificate_refs.into_iter().flatten().map(secret_ref).collect(),
    }
}

fn secret_ref(reference: wire::SecretRef) -> SecretRef {
    SecretRef {
        group: or(reference.group, ""),
        kind: or(reference.kind, "Secret"),
        namespace: unless_empty(reference.namespace),
        name: reference.name.0,
    }
}

fn allowed_kind(allowed: wire::AllowedKind) -> RouteKind {
    RouteKind { group: or(allowed.group, GATEWAY_GROUP), kind: allowed.kind.0 }
}

fn from_namespaces(allowed: wire::AllowedNamespaces) -> FromNamespaces {
    match (allowed.from.as_ref().map(|from| &*from.0), allowed.selector) {
        (None | Some("Same"), _) => FromNamespaces::Same,
        (Some("All"), _) => FromNamespaces::All,
        (Some("Selector"), Some(selector)) => FromNamespaces::Selector(label_selector(selector)),
        (Some(_), _) => FromNamespaces::Nobody,
    }
}

fn label_selector(selector: wire::Selector) -> LabelSelector {
    let labels = selector.match_labels.into_iter().flatten();
    let expressions = selector.match_expressions.into_iter().flatten();
    let equal = labels.map(|(key, value)| LabelRequirement::In(key.0, vec![value.0]));
    LabelSelector { requirements: equal.chain(expressions.map(label_requirement)).collect() }
}

/// Kubernetes calls a whole selector invalid when one requirement is malformed (values missing, or given where none
/// belong); such a requirement therefore matches nothing here, and with it the selector.
fn label_requirement(expression: wire::Expression) -> LabelRequirement {
    let values: Vec<Arc<str>> = expression.values.into_iter().flatten().map(|value| value.0).collect();
    match (&*expression.operator.0, values.is_empty()) {
        ("In", false) => LabelRequirement::In(expression.key.0, values),
        ("NotIn", false) => LabelRequirement::NotIn(expression.key.0, values),
        ("Exists", true) => LabelRequirement::Exists(expression.key.0),
        ("DoesNotExist", true) => LabelRequirement::DoesNotExist(expression.key.0),
        _ => LabelRequirement::Never,
    }
}

/// A layer-4 route.
pub(super) fn route<L>(metadata: &Metadata<L>, spec: wire::RouteSpec) -> RouteFacts {
    let rules = spec.rules.len();
    let first = spec.rules.into_iter().next().and_then(|rule| rule.backend_refs);
    RouteFacts {
        generation: generation(metadata),
        created: created(metadata),
        drift: metadata.annotations.as_ref().and_then(drift),
        parents: spec.parent_refs.into_iter().flatten().map(parent_ref).collect(),
        hostnames: spec.hostnames.into_iter().flatten().map(|hostname| hostname.0).collect(),
        rules,
        backends: first.into_iter().flatten().map(backend_ref).collect(),
    }
}

/// Any other value says nothing, so that a newer word does not make an older controller do what neither means.
fn drift(annotations: &wire::Annotations) -> Option<DriftPolicy> {
    match &*annotations.drift.as_ref()?.0 {
        "repair" => Some(DriftPolicy::Repair),
        "report" => Some(DriftPolicy::Report),
        _ => None,
    }
}

/// An empty `sectionName` means, as the API says of it, the whole parent.
fn parent_ref(parent: wire::Parent) -> ParentRef {
    ParentRef {
        group: or(parent.group, GATEWAY_GROUP),
        kind: or(parent.kind, "Gateway"),
        namespace: unless_empty(parent.namespace),
        name: parent.name.0,
        section_name: unless_empty(parent.section_name),
        port: parent.port,
    }
}

fn backend_ref(backend: wire::Backend) -> BackendRef {
    BackendRef {
        group: or(backend.group, ""),
        kind: or(backend.kind, "Service"),
        namespace: unless_empty(backend.namespace),
        name: backend.name.0,
        port: backend.port,
        weight: backend.weight.unwrap_or(1).max(0),
    }
}

/// A ReferenceGrant.
pub(super) fn reference_grant(spec: &ReferenceGrantSpec) -> ReferenceGrantFacts {
    let from = spec.from.iter().map(|from| GrantFrom {
        group: shared(&from.group),
        kind: shared(&from.kind),
        namespace: shared(&from.namespace),
    });
    let to = spec.to.iter().map(|to| GrantTo {
        group: shared(&to.group),
        kind: shared(&to.kind),
        name: to.name.as_deref().map(shared),
    });
    ReferenceGrantFacts { from: from.collect(), to: to.collect() }
}

/// A BackendTLSPolicy.
pub(super) fn backend_tls_policy<L>(metadata: &Metadata<L>, spec: wire::BackendTlsPolicySpec) -> BackendTlsPolicyFacts {
    let target = |target: wire::PolicyTarget| PolicyTarget {
        group: target.group.0,
        kind: target.kind.0,
        name: target.name.0,
        section_name: unless_empty(target.section_name),
    };
    BackendTlsPolicyFacts {
        generation: generation(metadata),
        created: created(metadata),
        targets: spec.target_refs.into_iter().map(target).collect(),
    }
}

/// A Namespace.
pub(super) fn namespace(namespace: wire::Namespace) -> NamespaceFacts {
    let labels = namespace.metadata.labels.into_iter().flatten();
    NamespaceFacts { labels: labels.map(|(key, value)| (key.0, value.0)).collect() }
}

/// A Service.
pub(super) fn service(service: wire::Service) -> ServiceFacts {
    let wire::Service { metadata: _, spec, status } = service;
    let addresses = published(&spec, status);
    let port = |port: wire::ServicePort| ServicePortFacts {
        name: or(port.name, ""),
        port: port.port,
        transport: transport(port.protocol.as_ref()),
        app_protocol: unless_empty(port.app_protocol),
    };
    ServiceFacts {
        external_name: spec.kind.is_some_and(|kind| &*kind.0 == "ExternalName"),
        family: spec.ip_families.and_then(|families| families.first().and_then(family)),
        ports: spec.ports.into_iter().flatten().map(port).collect(),
        addresses,
    }
}

/// Where clients outside the cluster reach a Service. A load balancer that has no address yet is waited for: until then
/// `externalIPs` may lead around it.
fn published(spec: &wire::ServiceSpec, status: Option<wire::ServiceStatus>) -> Vec<Address> {
    let ingress = status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    let ip_and_hostname = |ingress: wire::Ingress| {
        let ip = ingress.ip.as_deref().and_then(Address::ip);
        ip.into_iter().chain(ingress.hostname.as_deref().and_then(Address::hostname))
    };
    let balanced = addresses::distinct(ingress.into_iter().flatten().flat_map(ip_and_hostname));
    let may_have_others = match spec.kind.as_ref().map(|kind| &*kind.0) {
        None | Some("ClusterIP" | "NodePort") => true,
        Some(_) => false,
    };
    if balanced.is_empty() && may_have_others {
        let external = spec.external_ips.iter().flatten().filter_map(|address| Address::ip(address));
        addresses::distinct(external)
    } else {
        balanced
    }
}

/// An EndpointSlice.
pub(super) fn endpoint_slice(slice: wire::EndpointSlice) -> EndpointSliceFacts {
    let port = |port: wire::SlicePort| SlicePortFacts {
        name: or(port.name, ""),
        port: port.port,
        transport: transport(port.protocol.as_ref()),
    };
    EndpointSliceFacts {
        service: unless_empty(slice.metadata.labels.and_then(|labels| labels.service_name)),
        family: family(&slice.address_type),
        ports: slice.ports.into_iter().flatten().map(port).collect(),
        endpoints: slice.endpoints.into_iter().flatten().filter_map(endpoint).collect(),
    }
}

fn endpoint(endpoint: wire::Endpoint) -> Option<EndpointFacts> {
    let address: IpAddr = endpoint.addresses?.first()?.parse().ok()?;
    let conditions = endpoint.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Some(EndpointFacts {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
    })
}

fn transport(protocol: Option<&Text>) -> Transport {
    match protocol.map(|protocol| &*protocol.0) {
        None | Some("TCP") => Transport::Tcp,
        Some("UDP") => Transport::Udp,
        Some(_) => Transport::Other,
    }
}

fn family(name: &Text) -> Option<IpFamily> {
    match &*name.0 {
        "IPv4" => Some(IpFamily::V4),
        "IPv6" => Some(IpFamily::V6),
        _ => None,
    }
}

fn generation<L>(metadata: &Metadata<L>) -> i64 {
    metadata.generation.unwrap_or(1)
}

fn created<L>(metadata: &Metadata<L>) -> Created {
    metadata.creation_timestamp.map_or(Created::UNKNOWN, |created| created.0)
}

fn or(text: Option<Text>, default: &str) -> Arc<str> {
    text.map_or_else(|| shared(default), |text| text.0)
}

fn unless_empty(text: Option<Text>) -> Option<Arc<str>> {
    text.map(|text| text.0).filter(|text| !text.is_empty())
}

/// `group/kind name`, or `kind name` for the core group.
fn reference(group: &str, kind: &str, name: &str) -> Arc<str> {
    if group.is_empty() { format!("{kind} {name}").into() } else { format!("{group}/{kind} {name}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::decode,
        model::{
            facts::{Facts, Observed},
            names::Kind,
        },
    };
    use serde_json::{Value, json};

    /// The facts of an object of `kind` with this `body` beside its metadata.
    #[track_caller]
    fn facts(kind: Kind, metadata: &Value, body: &Value) -> Facts {
        let mut object = json!({"metadata": {"name": "n", "namespace": "ns"}});
        for (into, from) in [("metadata", metadata), ("", body)] {
            let target = if into.is_empty() { &mut object } else { &mut object[into] };
            target.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
        }
        match decode::object(kind, &object.to_string(), "a/b").unwrap().observed {
            Observed::Facts(facts) => facts,
            Observed::Unreadable { error } => panic!("{error}"),
        }
    }

    #[track_caller]
    fn gateway_facts(spec: &Value) -> GatewayFacts {
        let Facts::Gateway(facts) = facts(Kind::Gateway, &json!({}), &json!({"spec": spec})) else { panic!() };
        facts
    }

    #[track_caller]
    fn route_facts(spec: &Value) -> RouteFacts {
        let Facts::TcpRoute(facts) = facts(Kind::TcpRoute, &json!({}), &json!({"spec": spec})) else { panic!() };
        facts
    }

    #[track_caller]
    fn slice_facts(labels: &Value, body: &Value) -> EndpointSliceFacts {
        let Facts::EndpointSlice(facts) = facts(Kind::EndpointSlice, &json!({"labels": labels}), body) else {
            panic!()
        };
        facts
    }

    #[track_caller]
    fn namespaces_of(allowed: &Value) -> FromNamespaces {
        let listener = json!({"name": "l", "port": 1, "protocol": "TCP", "allowedRoutes": {"namespaces": allowed}});
        gateway_facts(&json!({"gatewayClassName": "c", "listeners": [listener]})).listeners.remove(0).namespaces
    }

    #[test]
    fn generation_and_creation_are_taken_or_marked_unknown() {
        let stated = json!({"generation": 7, "creationTimestamp": "2026-01-02T03:04:05Z"});
        let spec = json!({"spec": {"rules": []}});
        let Facts::TcpRoute(route) = facts(Kind::TcpRoute, &stated, &spec) else { panic!() };
        assert_eq!((route.generation, route.created), (7, Created(1_767_323_045)));
        let Facts::TcpRoute(route) = facts(Kind::TcpRoute, &json!({"creationTimestamp": null}), &spec) else {
            panic!()
        };
        assert_eq!((route.generation, route.created), (1, Created::UNKNOWN));
    }

    #[test]
    fn a_routes_drift_policy_is_an_annotation_and_other_words_say_nothing() {
        let drift = |annotations: Value| {
            let metadata = json!({"annotations": annotations});
            let Facts::TcpRoute(route) = facts(Kind::TcpRoute, &metadata, &json!({"spec": {"rules": []}})) else {
                panic!()
            };
            route.drift
        };
        assert_eq!(drift(json!({"apisix-etcd.io/drift": "repair", "a/b": "c"})), Some(DriftPolicy::Repair));
        assert_eq!(drift(json!({"apisix-etcd.io/drift": "report"})), Some(DriftPolicy::Report));
        for annotations in [
            json!(null),
            json!({}),
            json!({"apisix-etcd.io/drift": "Report"}),
            json!({"apisix-etcd.io/drift": ""}),
            json!({"drift": "report"}),
        ] {
            assert_eq!(drift(annotations), None);
        }
    }

    #[test]
    fn a_service_is_reached_by_its_load_balancer_else_by_its_external_addresses() {
        let addresses = |kind: Option<&str>, external: &Value, ingress: &Value| {
            let mut body = json!({"spec": {"externalIPs": external}, "status": {"loadBalancer": {"ingress": ingress}}});
            if let Some(kind) = kind {
                body["spec"]["type"] = json!(kind);
            }
            let Facts::Service(service) = facts(Kind::Service, &json!({}), &body) else { panic!() };
            service.addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let external = json!(["192.0.2.1", "odd", "192.0.2.1", "2001:db8::1"]);
        let ingress =
            json!([{"ip": "198.51.100.7"}, {"hostname": "LB.example.com"}, {"ip": "198.51.100.8", "hostname": "b"}]);
        let balanced = ["198.51.100.7", "lb.example.com", "198.51.100.8", "b"];
        assert_eq!(addresses(Some("LoadBalancer"), &external, &ingress), balanced);
        // Whoever wrote it there.
        assert_eq!(addresses(Some("ClusterIP"), &external, &ingress), balanced);
        for kind in [None, Some("ClusterIP"), Some("NodePort")] {
            for none in [json!(null), json!([]), json!([{}]), json!([{"ip": "0.0.0.0", "hostname": ""}])] {
                assert_eq!(addresses(kind, &external, &none), ["192.0.2.1", "2001:db8::1"]);
                assert!(addresses(kind, &json!(null), &none).is_empty());
            }
        }
        for kind in ["LoadBalancer", "ExternalName", "of a later version"] {
            assert!(addresses(Some(kind), &external, &json!([])).is_empty(), "{kind}");
        }
    }

    #[test]
    fn a_class_names_its_controller_and_parameters() {
        let class = |spec: Value| {
            let Facts::GatewayClass(facts) = facts(Kind::GatewayClass, &json!({}), &json!({"spec": spec})) else {
                panic!()
            };
            facts
        };
        let plain = class(json!({"controllerName": "x/y"}));
        assert_eq!((&*plain.controller_name, plain.parameters), ("x/y", None));
        let parameters = |reference: Value| {
            class(json!({"controllerName": "x/y", "parametersRef": reference})).parameters.map(|p| p.to_string())
        };
        assert_eq!(parameters(json!({"group": "g", "kind": "K", "name": "n"})), Some("g/K n".to_owned()));
        let config_map = json!({"group": "", "kind": "ConfigMap", "name": "n", "namespace": "ns"});
        assert_eq!(parameters(config_map), Some("ConfigMap ns/n".to_owned()));
    }

    #[test]
    fn a_gateways_defaults_are_filled_in() {
        let gateway = gateway_facts(&json!({
            "gatewayClassName": "c",
            "infrastructure": {"labels": {"a": "b"}, "parametersRef": {"group": "g", "kind": "K", "name": "n"}},
            "addresses": [{"value": "1.2.3.4"}, {"type": "Hostname", "value": "h"}, {}],
            "listeners": [{"name": "l", "port": 70000, "protocol": "TCP", "hostname": ""}],
            "tls": {"a field": "nobody knows"},
        }));
        assert_eq!((&*gateway.class, gateway.parameters.as_deref()), ("c", Some("g/K n")));
        let addresses: Vec<_> = gateway.addresses.iter().map(|address| (&*address.kind, &*address.value)).collect();
        assert_eq!(addresses, [("IPAddress", "1.2.3.4"), ("Hostname", "h"), ("IPAddress", "")]);
        assert_eq!(
            gateway.listeners,
            [ListenerFacts {
                name: "l".into(),
                port: 70000,
                protocol: "TCP".into(),
                hostname: None,
                tls: None,
                namespaces: FromNamespaces::Same,
                kinds: Vec::new(),
            }]
        );
    }

    #[test]
    fn a_listeners_kinds_are_of_gateway_api_unless_they_say_otherwise() {
        let kinds = json!([{"kind": "TCPRoute"}, {"group": "", "kind": "Pod"}, {"group": "g", "kind": "K"}]);
        let listener = json!({"name": "l", "port": 1, "protocol": "x/y", "allowedRoutes": {"kinds": kinds}});
        let gateway = gateway_facts(&json!({"gatewayClassName": "c", "listeners": [listener]}));
        let kinds: Vec<_> = gateway.listeners[0].kinds.iter().map(|kind| (&*kind.group, &*kind.kind)).collect();
        assert_eq!(kinds, [(GATEWAY_GROUP, "TCPRoute"), ("", "Pod"), ("g", "K")]);
        assert_eq!(gateway.listeners[0].namespaces, FromNamespaces::Same);
    }

    #[test]
    fn allowed_namespaces_admit_nobody_where_they_make_no_sense() {
        let everyone = FromNamespaces::Selector(LabelSelector::default());
        for (allowed, want) in [
            (json!(null), FromNamespaces::Same),
            (json!({}), FromNamespaces::Same),
            (json!({"from": "Same"}), FromNamespaces::Same),
            (json!({"from": "All", "selector": {}}), FromNamespaces::All),
            (json!({"from": "Selector", "selector": {}}), everyone),
            (json!({"from": "Selector"}), FromNamespaces::Nobody),
            (json!({"from": "None"}), FromNamespaces::Nobody),
        ] {
            assert_eq!(namespaces_of(&allowed), want, "{allowed}");
        }
    }

    #[test]
    fn listeners_of_others_are_allowed_only_where_it_is_said() {
        let allowed = |allowed: &Value| {
            let gateway = json!({"gatewayClassName": "c", "listeners": [], "allowedListeners": allowed});
            gateway_facts(&gateway).allowed_listeners
        };
        let everyone = FromNamespaces::Selector(LabelSelector::default());
        for (said, want) in [
            (json!(null), FromNamespaces::Nobody),
            (json!({}), FromNamespaces::Nobody),
            (json!({"namespaces": {}}), FromNamespaces::Nobody),
            (json!({"namespaces": {"from": "None"}}), FromNamespaces::Nobody),
            (json!({"namespaces": {"from": "Some"}}), FromNamespaces::Nobody),
            (json!({"namespaces": {"from": "Selector"}}), FromNamespaces::Nobody),
            (json!({"namespaces": {"selector": {}}}), FromNamespaces::Nobody),
            (json!({"namespaces": {"from": "Same"}}), FromNamespaces::Same),
            (json!({"namespaces": {"from": "All"}}), FromNamespaces::All),
            (json!({"namespaces": {"from": "Selector", "selector": {}}}), everyone),
        ] {
            assert_eq!(allowed(&said), want, "{said}");
        }
    }

    #[test]
    fn a_listener_sets_parent_is_a_gateway_unless_it_says_otherwise() {
        let set = |parent: &Value| {
            let listener = json!({"name": "l", "port": 1, "protocol": "TCP"});
            let spec = json!({"spec": {"parentRef": parent, "listeners": [listener]}});
            let Facts::ListenerSet(facts) = facts(Kind::ListenerSet, &json!({"generation": 3}), &spec) else {
                panic!()
            };
            assert_eq!((facts.generation, facts.listeners.len(), facts.listeners[0].port), (3, 1, 1));
            facts.parent
        };
        let named = |namespace: Option<&str>| ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: namespace.map(Into::into),
            name: "g".into(),
            section_name: None,
            port: None,
        };
        assert_eq!(set(&json!({"name": "g"})), named(None));
        assert_eq!(set(&json!({"name": "g", "namespace": "ns", "sectionName": "l"})), named(Some("ns")));
        let other = set(&json!({"name": "g", "group": "a.b", "kind": "K"}));
        assert_eq!((&*other.group, &*other.kind), ("a.b", "K"));
    }

    #[test]
    fn a_selector_keeps_every_requirement_and_malformed_ones_match_nothing() {
        let expression = |operator, values: Value| json!({"key": "k", "operator": operator, "values": values});
        let selector = json!({
            "matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [
                expression("In", json!(["x", "y"])), expression("NotIn", json!(["x"])),
                expression("Exists", json!(null)), expression("DoesNotExist", json!([])),
                expression("In", json!([])), expression("NotIn", json!(null)),
                expression("Exists", json!(["x"])), expression("Gt", json!(["1"])),
            ],
        });
        let FromNamespaces::Selector(selector) = namespaces_of(&json!({"from": "Selector", "selector": selector}))
        else {
            panic!("a selector")
        };
        let text = |text: &str| -> Arc<str> { text.into() };
        assert_eq!(
            selector.requirements,
            [
                LabelRequirement::In(text("a"), vec![text("1")]),
                LabelRequirement::In(text("b"), vec![text("2")]),
                LabelRequirement::In(text("k"), vec![text("x"), text("y")]),
                LabelRequirement::NotIn(text("k"), vec![text("x")]),
                LabelRequirement::Exists(text("k")),
                LabelRequirement::DoesNotExist(text("k")),
                LabelRequirement::Never,
                LabelRequirement::Never,
                LabelRequirement::Never,
                LabelRequirement::Never,
            ]
        );
    }

    #[test]
    fn a_routes_references_get_their_defaults() {
        let route = route_facts(&json!({
            "parentRefs": [
                {"name": "g"},
                {"group": "", "kind": "Service", "namespace": "x", "name": "s", "sectionName": "l", "port": 70000},
                {"name": "g", "namespace": "", "sectionName": ""},
            ],
            "rules": [
                {"name": "r", "backendRefs": [
                    {"name": "s"},
                    {"group": "g", "kind": "K", "namespace": "x", "name": "s", "port": 0, "weight": 0},
                    {"name": "s", "port": 3_000_000_000_i64, "weight": -5},
                    {"name": "s", "weight": 1_000_000},
                ]},
                {"backendRefs": [{"name": "never looked at"}]},
            ],
            "useDefaultGateways": "Sometimes",
        }));
        let parent = |namespace: Option<&str>, section: Option<&str>| ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: namespace.map(Into::into),
            name: "g".into(),
            section_name: section.map(Into::into),
            port: None,
        };
        let service = ParentRef {
            group: "".into(),
            kind: "Service".into(),
            name: "s".into(),
            port: Some(70000),
            ..parent(Some("x"), Some("l"))
        };
        assert_eq!(route.parents, [parent(None, None), service, parent(None, None)]);
        assert_eq!(route.rules, 2);
        let backends: Vec<_> = route
            .backends
            .iter()
            .map(|to| (&*to.group, &*to.kind, to.namespace.as_deref(), to.port, to.weight))
            .collect();
        assert_eq!(
            backends,
            [
                ("", "Service", None, None, 1),
                ("g", "K", Some("x"), Some(0), 0),
                ("", "Service", None, Some(3_000_000_000), 0),
                ("", "Service", None, None, 1_000_000),
            ]
        );
    }

    #[test]
    fn a_route_may_have_no_rules_no_parents_and_no_backends() {
        let route = route_facts(&json!({"rules": []}));
        assert_eq!((route.rules, route.parents.len(), route.backends.len()), (0, 0, 0));
        let route = route_facts(&json!({"parentRefs": null, "rules": [{"backendRefs": null}]}));
        assert_eq!((route.rules, route.backends.len()), (1, 0));
    }

    #[test]
    fn a_grant_keeps_what_it_says() {
        let spec = json!({
            "from": [{"group": GATEWAY_GROUP, "kind": "TCPRoute", "namespace": "x"}],
            "to": [{"group": "", "kind": "Service"}, {"group": "", "kind": "Service", "name": "s"}],
        });
        let Facts::ReferenceGrant(grant) = facts(Kind::ReferenceGrant, &json!({}), &json!({"spec": spec})) else {
            panic!()
        };
        assert_eq!(
            grant,
            ReferenceGrantFacts {
                from: vec![GrantFrom { group: GATEWAY_GROUP.into(), kind: "TCPRoute".into(), namespace: "x".into() }],
                to: vec![
                    GrantTo { group: "".into(), kind: "Service".into(), name: None },
                    GrantTo { group: "".into(), kind: "Service".into(), name: Some("s".into()) },
                ],
            }
        );
    }

    #[test]
    fn of_a_namespace_only_labels_count() {
        let metadata = json!({"labels": {"a": "b"}, "annotations": {"c": "d"}, "managedFields": [{"odd": 1}]});
        let Facts::Namespace(namespace) = facts(Kind::Namespace, &metadata, &json!({"spec": 5})) else { panic!() };
        assert_eq!(namespace.labels.iter().map(|(k, v)| (&**k, &**v)).collect::<Vec<_>>(), [("a", "b")]);
    }

    #[test]
    fn a_services_ports_family_and_type() {
        let service = |spec: Value| {
            let Facts::Service(facts) = facts(Kind::Service, &json!({}), &json!({"spec": spec})) else { panic!() };
            facts
        };
        let plain = service(json!({}));
        assert_eq!((plain.external_name, plain.family, plain.ports.len()), (false, None, 0));
        let full = service(json!({
            "type": "ClusterIP",
            "ipFamilies": ["IPv6", "IPv4"],
            "ports": [
                {"port": 80, "targetPort": "http"}, {"name": "dns", "port": 53, "protocol": "UDP"},
                {"port": 70000, "protocol": "SCTP"},
            ],
        }));
        assert_eq!(full.family, Some(IpFamily::V6));
        let ports: Vec<_> = full.ports.iter().map(|port| (&*port.name, port.port, port.transport)).collect();
        assert_eq!(ports, [("", 80, Transport::Tcp), ("dns", 53, Transport::Udp), ("", 70000, Transport::Other)]);
        assert!(service(json!({"type": "ExternalName", "externalName": "x"})).external_name);
        assert_eq!(service(json!({"ipFamilies": ["IPv7"]})).family, None);
    }

    #[test]
    fn a_slices_conditions_default_from_one_another() {
        let endpoint = |conditions: Value| json!({"addresses": ["10.0.0.1"], "conditions": conditions});
        let slice = slice_facts(
            &json!({"kubernetes.io/service-name": "s"}),
            &json!({
                "addressType": "IPv4",
                "ports": [{"port": 80}, {"name": "", "port": null}, {"name": "x", "port": 1, "protocol": "UDP"}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"]},
                    endpoint(json!({})),
                    endpoint(json!({"ready": null, "serving": null, "terminating": null})),
                    endpoint(json!({"ready": false})),
                    endpoint(json!({"ready": false, "serving": true, "terminating": true})),
                ],
            }),
        );
        assert_eq!((slice.service.as_deref(), slice.family), (Some("s"), Some(IpFamily::V4)));
        let conditions: Vec<_> = slice.endpoints.iter().map(|to| (to.ready, to.serving, to.terminating)).collect();
        let good = (true, true, false);
        assert_eq!(conditions, [good, good, good, (false, false, false), (false, true, true)]);
        let ports: Vec<_> = slice.ports.iter().map(|port| (&*port.name, port.port, port.transport)).collect();
        assert_eq!(ports, [("", Some(80), Transport::Tcp), ("", None, Transport::Tcp), ("x", Some(1), Transport::Udp)]);
    }

    #[test]
    fn a_slice_without_parts_or_with_names_for_addresses_is_read() {
        let slice = slice_facts(&json!(null), &json!({"addressType": "FQDN", "ports": null, "endpoints": null}));
        assert_eq!((slice.service, slice.family, slice.ports.len(), slice.endpoints.len()), (None, None, 0, 0));
        let endpoints = json!([
            {"addresses": ["host.example"]}, {"addresses": []}, {"addresses": null},
            {"addresses": ["fd00::1", "fd00::2"]},
        ]);
        let slice = slice_facts(&json!({}), &json!({"addressType": "IPv6", "endpoints": endpoints}));
        let addresses: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!((slice.family, addresses), (Some(IpFamily::V6), vec!["fd00::1".to_owned()]));
    }
}
