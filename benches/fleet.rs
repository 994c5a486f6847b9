//! Synthetic clusters: N routes, each on a listener of its own, with a Service and two endpoints of its own.
//!
//! 64 listeners a Gateway, as many as Gateway API allows.
#![allow(dead_code, reason = "each bench uses its part")]

use apisix_etcd_controller::{
    apisix::version::ApisixVersion,
    model::{
        facts::{
            BackendRef, Change, EndpointFacts, EndpointSliceFacts, Facts, FromNamespaces, GatewayClassFacts,
            GatewayFacts, IpFamily, ListenerFacts, Observed, ParentRef, RouteFacts, ServiceFacts, ServicePortFacts,
            SlicePortFacts, Transport,
        },
        names::{Created, GATEWAY_GROUP, Kind, ObjectName},
        places::Plane,
    },
    translate::{desired::Settings, planes::PlaneSettings},
};
use std::net::Ipv4Addr;

const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";
const LISTENERS_A_GATEWAY: usize = 64;
const FIRST_PORT: usize = 1025;

/// The settings every bench translates with.
pub(crate) fn settings(prefix: &str) -> Settings {
    Settings {
        controller_name: CONTROLLER.into(),
        instance: "bench".into(),
        plane: PlaneSettings::new(Plane::of(prefix), ApisixVersion::DEFAULT).into(),
    }
}

/// Every object of a cluster of `routes` routes.
pub(crate) fn objects(routes: usize) -> Vec<Change> {
    let class = GatewayClassFacts { generation: 1, controller_name: CONTROLLER.into(), parameters: None };
    let mut objects = vec![object(Kind::GatewayClass, ObjectName::cluster("apisix"), Facts::GatewayClass(class))];
    for first in (0..routes).step_by(LISTENERS_A_GATEWAY) {
        let last = routes.min(first + LISTENERS_A_GATEWAY);
        let facts = Facts::Gateway(GatewayFacts {
            generation: 1,
            created: Created(0),
            class: "apisix".into(),
            parameters: None,
            addresses: vec![],
            listeners: (first..last).map(listener).collect(),
            allowed_listeners: FromNamespaces::Nobody,
        });
        objects.push(object(Kind::Gateway, gateway_name(first), facts));
    }
    for number in 0..routes {
        objects.push(object(Kind::TcpRoute, name("route", number), route(number)));
        objects.push(object(Kind::Service, name("service", number), service()));
        objects.push(endpoints(number, 0));
    }
    objects
}

/// The endpoints of one route's Service; `generation` chooses their addresses.
pub(crate) fn endpoints(number: usize, generation: u32) -> Change {
    let address = |which: u32| {
        let host = u32::try_from(number * 2).unwrap_or(0) + which + generation.wrapping_mul(1 << 20);
        Ipv4Addr::from(0x0a00_0000 | (host & 0x00ff_ffff))
    };
    let endpoint =
        |which| EndpointFacts { address: address(which).into(), ready: true, serving: true, terminating: false };
    let facts = Facts::EndpointSlice(EndpointSliceFacts {
        service: Some(name("service", number).name),
        family: Some(IpFamily::V4),
        ports: vec![SlicePortFacts { name: "".into(), port: Some(8080), transport: Transport::Tcp }],
        endpoints: vec![endpoint(0), endpoint(1)],
    });
    object(Kind::EndpointSlice, name("slice", number), facts)
}

fn object(kind: Kind, name: ObjectName, facts: Facts) -> Change {
    Change { kind, name, observed: Some(Observed::Facts(facts)) }
}

fn name(what: &str, number: usize) -> ObjectName {
    ObjectName::new("bench", &format!("{what}-{number}"))
}

fn gateway_name(route: usize) -> ObjectName {
    name("gateway", route / LISTENERS_A_GATEWAY)
}

fn listener(number: usize) -> ListenerFacts {
    ListenerFacts {
        name: format!("listener-{number}").into(),
        port: i64::try_from(FIRST_PORT + number).unwrap_or(0),
        protocol: "TCP".into(),
        hostname: None,
        tls: None,
        namespaces: FromNamespaces::Same,
        kinds: vec![],
    }
}

fn route(number: usize) -> Facts {
    Facts::TcpRoute(RouteFacts {
        generation: 1,
        created: Created(0),
        drift: None,
        parents: vec![ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: None,
            name: gateway_name(number).name,
            section_name: Some(format!("listener-{number}").into()),
            port: None,
        }],
        hostnames: Vec::new(),
        rules: 1,
        backends: vec![BackendRef {
            group: "".into(),
            kind: "Service".into(),
            namespace: None,
            name: name("service", number).name,
            port: Some(80),
            weight: 1,
        }],
    })
}

fn service() -> Facts {
    let port = ServicePortFacts { name: "".into(), port: 80, transport: Transport::Tcp, app_protocol: None };
    Facts::Service(ServiceFacts {
        external_name: false,
        family: Some(IpFamily::V4),
        ports: vec![port],
        addresses: Vec::new(),
    })
}
