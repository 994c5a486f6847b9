//! One object's JSON becomes its name, its facts and the print of its status.
//!
//! Text in, [`Decoded`] out. An object that does not decode is still named, and never takes its page or stream with it.
//! The text itself is never kept.

use super::{
    certificates::{self, Held},
    convert, wire,
};
use crate::{
    model::{
        certificates::SecretFacts,
        facts::{Facts, Observed},
        names::{GATEWAY_EXISTS_FINALIZER, Kind, ObjectName},
    },
    status::print::StatusPrint,
};
use serde::{
    Deserialize,
    de::{self, IgnoredAny},
};
use serde_json::{Value, value::RawValue};
use wire::{Metadata, Named, SecretFields, Specified, Text};

/// One object, decoded as far as it could be.
#[derive(Debug)]
pub(super) struct Decoded {
    /// Its name; without a namespace for cluster-scoped kinds, whatever the object says.
    pub(super) name: ObjectName,
    /// What it is.
    pub(super) observed: Observed,
    /// What its status says of us.
    pub(super) status: StatusPrint,
    /// `metadata.resourceVersion`; empty where absent.
    pub(super) version: String,
}

/// Not even a name could be read.
#[derive(Debug, thiserror::Error)]
#[error("an object of kind {kind} has no readable metadata.name")]
pub(super) struct Nameless {
    kind: Kind,
    #[source]
    source: serde_json::Error,
}

/// Decodes one object of `kind`. `controller_name` says which parts of its status are ours.
pub(super) fn object(kind: Kind, json: &str, controller_name: &str) -> Result<Decoded, Nameless> {
    match whole(kind, json, controller_name) {
        Ok(decoded) => Ok(decoded),
        Err(error) => {
            let named = named(kind, json)?;
            let carried = kind == Kind::GatewayClass && carries_finalizer(json);
            Ok(Decoded {
                name: name(kind, named.metadata.namespace, named.metadata.name),
                observed: Observed::Unreadable { error: said(kind, error).into() },
                status: print(kind, named.status, controller_name).with_finalizer(carried),
                version: named.metadata.resource_version.unwrap_or_default(),
            })
        }
    }
}

/// Decodes as much of an object of `kind` as names it: its name and its `metadata.resourceVersion`.
pub(super) fn name_and_version(kind: Kind, json: &str) -> Result<(ObjectName, String), Nameless> {
    let named = named(kind, json)?;
    let version = named.metadata.resource_version.unwrap_or_default();
    Ok((name(kind, named.metadata.namespace, named.metadata.name), version))
}

fn named(kind: Kind, json: &str) -> Result<Named<'_>, Nameless> {
    serde_json::from_str(json).map_err(|source| Nameless { kind, source: quoting_nothing(kind, source) })
}

fn whole(kind: Kind, json: &str, controller_name: &str) -> Result<Decoded, serde_json::Error> {
    match kind {
        Kind::DataPlane => specified(kind, json, controller_name, |metadata, spec| {
            Facts::DataPlane(convert::data_plane(metadata, spec))
        }),
        Kind::GatewayClass => {
            let mut decoded = specified(kind, json, controller_name, |metadata, spec| {
                Facts::GatewayClass(convert::gateway_class(metadata, spec))
            })?;
            decoded.status = decoded.status.with_finalizer(carries_finalizer(json));
            Ok(decoded)
        }
        Kind::Gateway => {
            specified(kind, json, controller_name, |metadata, spec| Facts::Gateway(convert::gateway(metadata, spec)))
        }
        Kind::ListenerSet => specified(kind, json, controller_name, |metadata, spec| {
            Facts::ListenerSet(convert::listener_set(metadata, spec))
        }),
        Kind::TcpRoute => {
            specified(kind, json, controller_name, |metadata, spec| Facts::TcpRoute(convert::route(metadata, spec)))
        }
        Kind::TlsRoute => {
            specified(kind, json, controller_name, |metadata, spec| Facts::TlsRoute(convert::route(metadata, spec)))
        }
        Kind::UdpRoute => {
            specified(kind, json, controller_name, |metadata, spec| Facts::UdpRoute(convert::route(metadata, spec)))
        }
        Kind::ReferenceGrant => {
            specified(kind, json, controller_name, |_, spec| Facts::ReferenceGrant(convert::reference_grant(&spec)))
        }
        Kind::BackendTlsPolicy => specified(kind, json, controller_name, |metadata, spec| {
            Facts::BackendTlsPolicy(convert::backend_tls_policy(metadata, spec))
        }),
        Kind::Service => {
            let mut service: wire::Service = serde_json::from_str(json)?;
            let identity = identity(kind, &mut service.metadata);
            Ok(identity.of(Facts::Service(convert::service(service)), StatusPrint::default()))
        }
        Kind::Namespace => {
            let mut namespace: wire::Namespace = serde_json::from_str(json)?;
            let identity = identity(kind, &mut namespace.metadata);
            Ok(identity.of(Facts::Namespace(convert::namespace(namespace)), StatusPrint::default()))
        }
        Kind::Secret => {
            let mut secret: wire::Secret<'_> = serde_json::from_str(json)?;
            let identity = identity(kind, &mut secret.metadata);
            Ok(identity.of(Facts::Secret(secret_facts(&secret)), StatusPrint::default()))
        }
        Kind::EndpointSlice => {
            let mut slice: wire::EndpointSlice = serde_json::from_str(json)?;
            let identity = identity(kind, &mut slice.metadata);
            Ok(identity.of(Facts::EndpointSlice(convert::endpoint_slice(slice)), StatusPrint::default()))
        }
    }
}

fn specified<'a, S: Deserialize<'a>>(
    kind: Kind,
    json: &'a str,
    controller_name: &str,
    facts: impl FnOnce(&Metadata<IgnoredAny>, S) -> Facts,
) -> Result<Decoded, serde_json::Error> {
    let mut object: Specified<'a, S> = serde_json::from_str(json)?;
    let identity = identity(kind, &mut object.metadata);
    Ok(identity.of(facts(&object.metadata, object.spec), print(kind, object.status, controller_name)))
}

/// A field of `stringData` covers that of `data`, as an API server has it. What is not even a mapping has no fields.
fn secret_facts(secret: &wire::Secret<'_>) -> SecretFacts {
    let (data, plain) = (fields(secret.data), fields(secret.string_data));
    certificates::secret(held(plain.certificate, data.certificate), held(plain.key, data.key))
}

fn fields(fields: Option<&RawValue>) -> SecretFields<'_> {
    fields.and_then(|fields| serde_json::from_str(fields.get()).ok()).unwrap_or_default()
}

fn held(plain: Option<&RawValue>, data: Option<&RawValue>) -> Option<Held> {
    let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
    match (plain, data) {
        (Some(plain), _) => Some(text(plain).map_or(Held::Malformed, Held::Text)),
        (None, Some(data)) => Some(text(data).map_or(Held::Malformed, Held::Base64)),
        (None, None) => None,
    }
}

/// What `metadata` says of which object this is, and of which age.
struct Identity {
    name: ObjectName,
    version: String,
}

impl Identity {
    fn of(self, facts: Facts, status: StatusPrint) -> Decoded {
        Decoded { name: self.name, observed: Observed::Facts(facts), status, version: self.version }
    }
}

fn identity<L>(kind: Kind, metadata: &mut Metadata<L>) -> Identity {
    Identity {
        name: name(kind, metadata.namespace.take(), metadata.name.clone()),
        version: metadata.resource_version.take().unwrap_or_default(),
    }
}

fn name(kind: Kind, namespace: Option<Text>, name: Text) -> ObjectName {
    let namespace = namespace.filter(|_| kind.namespaced()).map_or_else(|| wire::shared(""), |namespace| namespace.0);
    ObjectName { namespace, name: name.0 }
}

/// Whether a GatewayClass has the finalizer of one that is in use.
fn carries_finalizer(json: &str) -> bool {
    let finalized: Result<wire::Finalized, _> = serde_json::from_str(json);
    let finalizers = finalized.ok().and_then(|object| object.metadata.finalizers);
    finalizers.into_iter().flatten().any(|finalizer| finalizer == GATEWAY_EXISTS_FINALIZER)
}

/// The print of the kinds whose status we write; the status itself is dropped at once.
fn print(kind: Kind, status: Option<&RawValue>, controller_name: &str) -> StatusPrint {
    let ours = status.filter(|_| kind.has_our_status());
    let value = ours.and_then(|status| serde_json::from_str::<Value>(status.get()).ok());
    value.map_or_else(StatusPrint::default, |status| StatusPrint::of(kind, &status, controller_name))
}

/// serde's errors quote what they did not expect, and in a Secret that may be a key that somebody put in the wrong place.
fn quoting_nothing(kind: Kind, error: serde_json::Error) -> serde_json::Error {
    match kind {
        Kind::Secret => de::Error::custom("it is not of the form of a Secret"),
        Kind::DataPlane
        | Kind::GatewayClass
        | Kind::Gateway
        | Kind::ListenerSet
        | Kind::TcpRoute
        | Kind::UdpRoute
        | Kind::TlsRoute
        | Kind::ReferenceGrant
        | Kind::BackendTlsPolicy
        | Kind::Namespace
        | Kind::Service
        | Kind::EndpointSlice => error,
    }
}

/// What `error` says, less the place: objects come as one line of JSON, so that it would help nobody.
fn said(kind: Kind, error: serde_json::Error) -> String {
    let error = quoting_nothing(kind, error);
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::data_plane::{DataPlane, DataPlaneSpec, Listen, PortMapping, Protocol, PublishService},
        model::{
            facts::data_planes::{DataPlaneFacts, ListenFacts, PortMappingFacts},
            names::Created,
        },
    };
    use gateway_api::{
        experimental::tcproutes::{TcpRoute, TcpRouteParentRefs, TcpRouteRules, TcpRouteRulesBackendRefs},
        gateways::{Gateway, GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespaces},
        gateways::{GatewayListenersAllowedRoutesNamespacesFrom, GatewaySpec},
    };
    use k8s_openapi::api::{core::v1 as core, discovery::v1 as discovery};
    use serde::Serialize;
    use serde_json::json;

    #[track_caller]
    fn decoded(kind: Kind, value: &impl Serialize) -> Decoded {
        object(kind, &serde_json::to_string(value).unwrap(), "a/b").unwrap()
    }

    #[track_caller]
    fn facts(kind: Kind, value: &impl Serialize) -> Facts {
        match decoded(kind, value).observed {
            Observed::Facts(facts) => facts,
            Observed::Unreadable { error } => panic!("{error}"),
        }
    }

    #[test]
    fn the_generated_types_of_gateway_api_are_read_whole() {
        let mut route = TcpRoute::new(
            "r",
            gateway_api::experimental::tcproutes::TcpRouteSpec {
                parent_refs: Some(vec![TcpRouteParentRefs {
                    name: "g".into(),
                    section_name: Some("l".into()),
                    port: Some(1),
                    ..Default::default()
                }]),
                rules: vec![TcpRouteRules {
                    backend_refs: vec![TcpRouteRulesBackendRefs {
                        name: "s".into(),
                        port: Some(2),
                        weight: Some(3),
                        ..Default::default()
                    }],
                    name: None,
                }],
                use_default_gateways: None,
            },
        );
        route.metadata.namespace = Some("ns".into());
        route.metadata.generation = Some(4);
        let Facts::TcpRoute(route) = facts(Kind::TcpRoute, &route) else { panic!() };
        assert_eq!(
            (route.generation, route.parents[0].section_name.as_deref(), route.parents[0].port),
            (4, Some("l"), Some(1))
        );
        assert_eq!((route.backends[0].port, route.backends[0].weight), (Some(2), 3));

        let from_all = GatewayListenersAllowedRoutesNamespaces {
            from: Some(GatewayListenersAllowedRoutesNamespacesFrom::All),
            selector: None,
        };
        let gateway = Gateway::new(
            "g",
            GatewaySpec {
                gateway_class_name: "c".into(),
                listeners: vec![GatewayListeners {
                    name: "l".into(),
                    port: 9100,
                    protocol: "TCP".into(),
                    hostname: Some("h".into()),
                    allowed_routes: Some(GatewayListenersAllowedRoutes { kinds: None, namespaces: Some(from_all) }),
                    tls: None,
                }],
                ..Default::default()
            },
        );
        let Facts::Gateway(gateway) = facts(Kind::Gateway, &gateway) else { panic!() };
        let listener = &gateway.listeners[0];
        assert_eq!((listener.port, listener.hostname.as_deref()), (9100, Some("h")));
        assert_eq!(listener.namespaces, crate::model::facts::FromNamespaces::All);
    }

    #[test]
    fn our_own_type_is_read_whole() {
        let text = |text: &str| text.to_owned();
        let mut plane = DataPlane::new(
            "edge",
            DataPlaneSpec {
                etcd_prefix: text("/edge"),
                apisix_version: Some(text("3.18.0")),
                listen: Some(vec![Listen { protocol: Protocol::TlsEither, port: 9000, end_port: Some(9010) }]),
                port_mapping: Some(vec![PortMapping { gateway_port: 443, apisix_port: 9443 }]),
                stream_plugins: Some(vec![text("traffic-split")]),
                addresses: Some(vec![text("192.0.2.1")]),
                publish_service: Some(PublishService { namespace: text("apisix"), name: text("gateway") }),
            },
        );
        plane.metadata.generation = Some(4);
        let Facts::DataPlane(read) = facts(Kind::DataPlane, &plane) else { panic!() };
        assert_eq!(
            read,
            DataPlaneFacts {
                generation: 4,
                created: Created::UNKNOWN,
                etcd_prefix: "/edge".into(),
                apisix_version: Some("3.18.0".into()),
                listen: Some(vec![ListenFacts { protocol: "TLSEither".into(), port: 9000, end_port: Some(9010) }]),
                port_mapping: vec![PortMappingFacts { gateway_port: 443, apisix_port: 9443 }],
                stream_plugins: Some(vec!["traffic-split".into()]),
                addresses: vec!["192.0.2.1".into()],
                publish_service: Some(ObjectName::new("apisix", "gateway")),
            }
        );
        // What no schema lets through is kept for translation to say.
        let odd = json!({
            "metadata": {"name": "edge", "namespace": "x"},
            "spec": {"etcdPrefix": "", "listen": [{"protocol": "x", "port": 70_000}], "streamPlugins": [], "addresses": null},
        });
        let decoded = decoded(Kind::DataPlane, &odd);
        assert_eq!(decoded.name, ObjectName::cluster("edge"));
        let Observed::Facts(Facts::DataPlane(odd)) = decoded.observed else { panic!() };
        assert_eq!(odd.listen.unwrap()[0].port, 70_000);
        assert_eq!((odd.stream_plugins, odd.addresses, odd.port_mapping), (Some(vec![]), vec![], vec![]));
    }

    #[test]
    fn the_generated_types_of_kubernetes_are_read_whole() {
        let service = core::Service {
            metadata: kube::core::ObjectMeta { name: Some("s".into()), ..Default::default() },
            spec: Some(core::ServiceSpec {
                ip_families: Some(vec!["IPv4".into()]),
                ports: Some(vec![core::ServicePort { name: Some("p".into()), port: 80, ..Default::default() }]),
                ..Default::default()
            }),
            status: None,
        };
        let Facts::Service(service) = facts(Kind::Service, &service) else { panic!() };
        assert_eq!((service.ports[0].port, &*service.ports[0].name, service.family.is_some()), (80, "p", true));
        let slice = discovery::EndpointSlice {
            address_type: "IPv4".into(),
            metadata: kube::core::ObjectMeta {
                name: Some("s-1".into()),
                labels: Some([("kubernetes.io/service-name".to_owned(), "s".to_owned())].into()),
                ..Default::default()
            },
            endpoints: Some(vec![discovery::Endpoint {
                addresses: vec!["10.0.0.1".into()],
                conditions: Some(discovery::EndpointConditions { ready: Some(false), ..Default::default() }),
                ..Default::default()
            }]),
            ports: Some(vec![discovery::EndpointPort { port: Some(8080), ..Default::default() }]),
        };
        let Facts::EndpointSlice(slice) = facts(Kind::EndpointSlice, &slice) else { panic!() };
        assert_eq!(
            (slice.service.as_deref(), slice.endpoints[0].ready, slice.ports[0].port),
            (Some("s"), false, Some(8080))
        );
    }

    #[test]
    fn an_object_that_cannot_be_read_is_still_named() {
        let route = json!({
            "metadata": {"name": "r", "namespace": "ns", "resourceVersion": "7", "labels": {"a": 1}},
            "spec": {"rules": "many"},
        });
        let decoded = decoded(Kind::TcpRoute, &route);
        assert_eq!((decoded.name.to_string().as_str(), decoded.version.as_str()), ("ns/r", "7"));
        let Observed::Unreadable { error } = decoded.observed else { panic!() };
        assert_eq!(&*error, r#"invalid type: string "many", expected a sequence"#);
    }

    #[test]
    fn what_the_api_requires_and_is_missing_makes_an_object_unreadable() {
        for (kind, body) in [
            (Kind::GatewayClass, json!({"spec": {}})),
            (Kind::Gateway, json!({"spec": {"gatewayClassName": "c"}})),
            (
                Kind::Gateway,
                json!({"spec": {"gatewayClassName": "c", "listeners": [{"name": "l", "protocol": "TCP"}]}}),
            ),
            (Kind::TcpRoute, json!({"spec": {}})),
            (Kind::TcpRoute, json!({})),
            (Kind::ReferenceGrant, json!({"spec": {"from": []}})),
            (Kind::Service, json!({"spec": {"ports": [{"name": "p"}]}})),
            (Kind::EndpointSlice, json!({"endpoints": []})),
        ] {
            let mut object = body.clone();
            object["metadata"] = json!({"name": "n", "namespace": "ns"});
            let observed = decoded(kind, &object).observed;
            assert!(
                matches!(&observed, Observed::Unreadable { error } if error.contains("missing field")),
                "{kind} {body}"
            );
        }
    }

    #[test]
    fn a_nonsensical_creation_time_is_named() {
        let object = json!({"metadata": {"name": "n", "creationTimestamp": "yesterday"}, "spec": {"rules": []}});
        let Observed::Unreadable { error } = decoded(Kind::TcpRoute, &object).observed else { panic!() };
        assert!(error.starts_with(r#"creationTimestamp "yesterday""#), "{error}");
    }

    #[test]
    fn a_class_says_whether_it_carries_the_finalizer_whoever_else_keeps_it() {
        let class = |finalizers: &serde_json::Value, spec: &serde_json::Value| {
            let class = json!({"metadata": {"name": "c", "finalizers": finalizers}, "spec": spec});
            decoded(Kind::GatewayClass, &class).status
        };
        let spec = json!({"controllerName": "a/b"});
        let ours = "gateway-exists-finalizer.gateway.networking.k8s.io";
        let carried = StatusPrint::default().with_finalizer(true);
        assert_eq!(class(&json!(["example.com/other", ours]), &spec), carried);
        assert_eq!(class(&json!([ours]), &json!("unreadable")), carried);
        for other in [json!(null), json!([]), json!(["example.com/other"]), json!("odd"), json!([1])] {
            assert_eq!(class(&other, &spec), StatusPrint::default(), "{other}");
        }
    }

    #[test]
    fn nothing_that_a_secret_holds_is_in_what_is_said_of_it() {
        let metadata = json!({"name": "s", "namespace": "ns"});
        for body in [
            json!({"metadata": metadata, "data": "hunter2"}),
            json!({"metadata": metadata, "data": ["hunter2"]}),
            json!({"metadata": metadata, "data": {"tls.crt": {"hunter2": 1}, "tls.key": "hunter2"}}),
            json!({"metadata": metadata, "stringData": {"tls.crt": "hunter2", "tls.key": "hunter2"}}),
            json!({"metadata": metadata, "data": {"tls.crt": "hunter2", "tls.key": 7}}),
        ] {
            let Facts::Secret(facts) = facts(Kind::Secret, &body) else { panic!() };
            let fault = facts.pair.as_ref().unwrap_err();
            assert!(!format!("{fault} {facts:?}").contains("hunter2"), "{fault}");
        }
        // A key that ended up where no key belongs.
        let misplaced = json!({"metadata": {"name": "s", "namespace": "ns", "generation": "hunter2"}});
        let decoded = format!("{:?}", decoded(Kind::Secret, &misplaced));
        assert!(decoded.contains("not of the form of a Secret") && !decoded.contains("hunter2"), "{decoded}");
        for json in [r#"{"metadata": "hunter2"}"#, r#""hunter2""#] {
            let error = object(Kind::Secret, json, "a/b").unwrap_err();
            let chain = format!("{error} {error:?} {:?}", std::error::Error::source(&error));
            assert!(!chain.contains("hunter2"), "{chain}");
        }
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        for json in [r#"{"spec": {}}"#, r#"{"metadata": {"name": 5}}"#, "5", "{"] {
            assert!(object(Kind::Gateway, json, "a/b").is_err(), "{json}");
            assert!(name_and_version(Kind::Gateway, json).is_err(), "{json}");
        }
    }

    #[test]
    fn only_the_name_of_a_cluster_scoped_object_counts() {
        let class = json!({"metadata": {"name": "c", "namespace": "x"}, "spec": {"controllerName": "a/b"}});
        assert_eq!(decoded(Kind::GatewayClass, &class).name, ObjectName::cluster("c"));
    }

    #[test]
    fn escaped_text_is_unescaped() {
        let json = r#"{"metadata": {"name": "c"}, "spec": {"controllerName": "a/b"}}"#;
        let Observed::Facts(Facts::GatewayClass(class)) = object(Kind::GatewayClass, json, "a/b").unwrap().observed
        else {
            panic!()
        };
        assert_eq!(&*class.controller_name, "a/b");
    }
}
