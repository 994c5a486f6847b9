//! What one change comes to, where a golden case shows single states: what it announces, and that the state after it is that of a
//! rebuild. The clusters are golden inputs.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may stop")]

use apisix_etcd_controller::{
    apisix::ids,
    cluster::manifests::{File, Manifests},
    model::{
        facts::Change,
        names::{Kind, ObjectName, ObjectRef},
        places::{Plane, ServerName, Slot, WorkId},
    },
    translate::{
        desired::{Affected, Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};
use std::collections::BTreeMap;

const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";

/// A wildcard listener that ends TLS on port 9443, and a route with one name below it.
const WILDCARD: &str =
    include_str!("golden/tls-terminate/a-wildcard-listener-serves-names-of-one-label-with-its-own-certificate.in.yaml");

fn empty() -> Desired {
    let version = "3.19.0".parse().unwrap();
    Desired::new(Settings {
        controller_name: CONTROLLER.into(),
        instance: "default".into(),
        plane: PlaneSettings::new(Plane::default(), version).into(),
    })
}

/// Takes in every object of a text.
fn apply(desired: &mut Desired, text: &str) -> Affected {
    let files = [File { path: "cluster.yaml".into(), text: text.to_owned() }];
    let objects = Manifests::of(&files, CONTROLLER).unwrap().objects;
    let of_kind = objects.into_iter().flat_map(|(kind, objects)| objects.into_iter().map(move |object| (kind, object)));
    desired.apply(of_kind.map(|(kind, object)| Change { kind, name: object.name, observed: Some(object.observed) }))
}

fn documents(desired: &Desired) -> BTreeMap<WorkId, Wanted> {
    desired.documents().into_iter().map(|id| (id.clone(), desired.wanted(&id))).collect()
}

/// The value of a document that is wanted; empty for any other.
fn text(desired: &Desired, id: &WorkId) -> String {
    let value = if let Wanted::Document(document) = desired.wanted(id) { document.bytes.to_vec() } else { Vec::new() };
    String::from_utf8(value).unwrap()
}

fn name(text: &str) -> ServerName {
    ServerName::of(text).unwrap()
}

fn slot(of: &str) -> WorkId {
    ids::slot(Plane::default(), &Slot { port: 9443.try_into().unwrap(), name: Some(name(of)) })
}

#[test]
fn a_slot_that_stays_its_routes_is_rewritten_when_its_listener_comes_to_end_tls_and_when_it_ceases_to() {
    let passing = WILDCARD.replace("mode: Terminate, certificateRefs: [{name: one}]", "mode: Passthrough");
    assert_ne!(passing, WILDCARD);
    let mut desired = empty();
    apply(&mut desired, &passing);
    for next in [WILDCARD, &passing, WILDCARD] {
        let affected = apply(&mut desired, next);
        assert!(affected.documents.contains(&slot("a.example.com")), "{affected:?}");
        let certificate = ids::certificate(Plane::default(), &name("*.example.com"));
        assert!(affected.documents.contains(&certificate), "{affected:?}");
        let mut rebuilt = empty();
        apply(&mut rebuilt, next);
        assert!(documents(&desired) == documents(&rebuilt));
        let ends = matches!(desired.wanted(&certificate), Wanted::Document(_));
        assert_eq!(ends, next == WILDCARD);
        assert_eq!(desired.slot_certificate(&slot("a.example.com")), ends.then_some(certificate));
    }
}

#[test]
fn the_plugins_of_a_data_plane_count_although_they_were_told_before_anybody_used_it() {
    const CLASS: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: apisix}
spec: {controllerName: apisix-etcd.io/gateway-controller, parametersRef: {group: apisix-etcd.io, kind: DataPlane, name: edge}}
---
apiVersion: apisix-etcd.io/v1alpha1
kind: DataPlane
metadata: {name: edge}
spec: {etcdPrefix: /edge}
";
    // A backend without an endpoint keeps its share, and that is refused.
    let two = WILDCARD
        .replace("    - {name: app, port: 8080}", "    - {name: app, port: 8080}\n    - {name: none, port: 8080}");
    assert_ne!(two, WILDCARD);
    let edge = Plane::of("/edge");
    let mut desired = empty();
    desired.note_traffic_split(edge, Some(false));
    apply(&mut desired, &two);
    apply(&mut desired, CLASS);
    let pool = ids::pool(edge, "default", Kind::TlsRoute, &ObjectName::new("default", "app"));
    assert!(text(&desired, &pool).contains("127.0.0.1"), "a dead node refuses, as nothing beside the pool can");
    desired.note_traffic_split(edge, None);
    desired.settle();
    assert!(!text(&desired, &pool).contains("127.0.0.1"), "APISIX's default");
}

#[test]
fn who_is_served_with_another_listeners_wildcard_certificate_is_told_what_becomes_of_it() {
    // Another Gateway's listener is wider. The name of its route is served with the certificate of the first one's wildcard, which is
    // the same.
    let other = WILDCARD
        .replace("metadata: {name: gw, namespace", "metadata: {name: wide, namespace")
        .replace("hostname: \"*.example.com\"", "hostname: \"*.com\"")
        .replace("port: 9443", "port: 9444")
        .replace("kind: TLSRoute\nmetadata: {name: app", "kind: TLSRoute\nmetadata: {name: other")
        .replace("- {name: gw}", "- {name: wide}");
    let mut desired = empty();
    apply(&mut desired, WILDCARD);
    apply(&mut desired, &other);
    let wildcard = ids::certificate(Plane::default(), &name("*.example.com"));
    let slot = Slot { port: 9444.try_into().unwrap(), name: Some(name("a.example.com")) };
    assert_eq!(desired.slot_certificate(&ids::slot(Plane::default(), &slot)).as_ref(), Some(&wildcard));
    let users = desired.users(&wildcard);
    for gateway in ["gw", "wide"] {
        let gateway = ObjectRef::new(Kind::Gateway, ObjectName::new("default", gateway));
        assert!(users.contains(&gateway), "{gateway}: {users:?}");
    }
}
