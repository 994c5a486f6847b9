//! Objects as they are written become facts: every default of the API is filled in here, and nothing is judged.
//!
//! Parts of decoded objects in, facts out. It cannot fail: what is out of bounds is kept as it is, for translation to say.

use super::wire;
use crate::model::{
    facts::{
        AddressFacts, BackendRef, EndpointFacts, EndpointSliceFacts, FromNamespaces, GatewayClassFacts, GatewayFacts,
        GrantFrom, GrantTo, IpFamily, LabelRequirement, LabelSelector, ListenerFacts, NamespaceFacts, ParentRef,
        ReferenceGrantFacts, RouteFacts, RouteKind, ServiceFacts, ServicePortFacts, SlicePortFacts, Transport,
    },
    names::{Created, GATEWAY_GROUP},
};
use gateway_api::{gatewayclasses::GatewayClassSpec, referencegrants::ReferenceGrantSpec};
use std::{net::IpAddr, sync::Arc};
use wire::{Metadata, Text, shared};

/// A GatewayClass.
pub(super) fn gateway_class<L>(metadata: &Metadata<L>, spec: GatewayClassSpec) -> GatewayClassFacts {
    let parameters = spec.parameters_ref.map(|parameters| {
        let name = match parameters.namespace {
            Some(namespace) => format!("{namespace}/{}", parameters.name),
            None => parameters.name,
        };
        reference(&parameters.group, &parameters.kind, &name)
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
        namespaces,
        kinds: kinds.into_iter().flatten().map(allowed_kind).collect(),
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

/// A TCPRoute.
pub(super) fn route<L>(metadata: &Metadata<L>, spec: wire::RouteSpec) -> RouteFacts {
    let rules = spec.rules.len();
    let first = spec.rules.into_iter().next().and_then(|rule| rule.backend_refs);
    RouteFacts {
        generation: generation(metadata),
        created: created(metadata),
        parents: spec.parent_refs.into_iter().flatten().map(parent_ref).collect(),
        rules,
        backends: first.into_iter().flatten().map(backend_ref).collect(),
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
pub(super) fn reference_grant(spec: ReferenceGrantSpec) -> ReferenceGrantFacts {
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

/// A Namespace.
pub(super) fn namespace(namespace: wire::Namespace) -> NamespaceFacts {
    let labels = namespace.metadata.labels.into_iter().flatten();
    NamespaceFacts { labels: labels.map(|(key, value)| (key.0, value.0)).collect() }
}

/// A Service.
pub(super) fn service(spec: wire::ServiceSpec) -> ServiceFacts {
    let port = |port: wire::ServicePort| ServicePortFacts {
        name: or(port.name, ""),
        port: port.port,
        transport: transport(port.protocol),
    };
    ServiceFacts {
        external_name: spec.kind.is_some_and(|kind| &*kind.0 == "ExternalName"),
        family: spec.ip_families.and_then(|families| families.first().and_then(family)),
        ports: spec.ports.into_iter().flatten().map(port).collect(),
    }
}

/// An EndpointSlice.
pub(super) fn endpoint_slice(slice: wire::EndpointSlice) -> EndpointSliceFacts {
    let port = |port: wire::SlicePort| SlicePortFacts {
        name: or(port.name, ""),
        port: port.port,
        transport: transport(port.protocol),
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

fn transport(protocol: Option<Text>) -> Transport {
    match protocol.as_ref().map(|protocol| &*protocol.0) {
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
