//! ListenerSets, from the day they come to the day they go, with TCP, UDP and TLS listeners.

use super::{
    claims::{PROGRAMMED, entry, items, listener, message, says},
    documents::value,
    objects::{CLASS, service},
    scene::Scene,
    support::{kubernetes::Named, servers::shared},
};
use anyhow::ensure;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const BOTH: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];
const PARTLY: &[(&str, &str)] = &[("Accepted", "True/ListenersNotValid"), ("Programmed", "True/Programmed")];
const NONE_VALID: &[(&str, &str)] =
    &[("Accepted", "False/ListenersNotValid"), ("Programmed", "False/ListenersNotValid")];
const NOT_ALLOWED: &[(&str, &str)] = &[("Accepted", "False/NotAllowed"), ("Programmed", "False/NotAllowed")];
const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];
const IN_VAIN: &[(&str, &str)] = &[("Accepted", "True/Accepted"), (PROGRAMMED, "False/ListenerNotProgrammed")];

/// What a listener says that clashes with an earlier one.
fn clashes(reason: &'static str) -> [(&'static str, String); 3] {
    let (not, conflicted) = (format!("False/{reason}"), format!("True/{reason}"));
    [("Accepted", not.clone()), ("Programmed", not), ("Conflicted", conflicted)]
}

/// A Gateway of the scene's class with these listeners that allows ListenerSets from these namespaces.
fn gateway(name: &str, from: &str, listeners: &[&str]) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: $NS}}
spec:
  gatewayClassName: $CLASS
  allowedListeners: {{namespaces: {{{from}}}}}
  listeners: [{}]
",
        listeners.join(", ")
    )
}

fn tcp(name: &str, port: u16) -> String {
    format!("{{name: {name}, protocol: TCP, port: {port}}}")
}

fn tls(name: &str, port: u16, hostname: &str) -> String {
    format!("{{name: {name}, protocol: TLS, port: {port}, hostname: {hostname}, tls: {{mode: Passthrough}}}}")
}

/// A ListenerSet of a namespace with these listeners, which adds to the scene's Gateway `edge`.
fn set_in(namespace: &str, name: &str, listeners: &[&str]) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRef: {{name: edge, namespace: $NS}}, listeners: [{}]}}
",
        listeners.join(", ")
    )
}

fn set(name: &str, listeners: &[&str]) -> String {
    set_in("$NS", name, listeners)
}

/// A route through one listener of a ListenerSet beside it.
fn route(kind: &str, namespace: &str, name: &str, (set, listener): (&str, &str), hostnames: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  parentRefs: [{{kind: ListenerSet, name: {set}, sectionName: {listener}}}]
  {hostnames}
  rules: [{{backendRefs: [{{name: web, port: 8080}}]}}]
"
    )
}

impl Scene {
    /// Waits until a ListenerSet says `claims`; the set.
    async fn set_says(&self, named: &Named<'_>, claims: &[(&str, &str)]) -> anyhow::Result<Value> {
        self.until(&format!("{named:?} to say {claims:?}"), async || {
            let set = self.get(named).await?;
            says(&set, &set["status"], claims)?;
            Ok(set)
        })
        .await
    }

    /// Waits until the Gateway `edge` counts so many ListenerSets.
    async fn counts_sets(&self, n_sets: u64) -> anyhow::Result<()> {
        let named = self.object("Gateway", "edge");
        self.until(&format!("edge to count {n_sets} ListenerSets"), async || {
            let gateway = self.get(&named).await?;
            let counted = gateway["status"]["attachedListenerSets"].as_u64().unwrap_or_default();
            ensure!(counted == n_sets, "{}", gateway["status"]);
            Ok(())
        })
        .await
    }

    /// Waits until a listener of a ListenerSet says that it clashes.
    async fn set_clashes(&self, set: &str, name: &str, reason: &'static str) -> anyhow::Result<Value> {
        let claims = clashes(reason);
        let claims: Vec<(&str, &str)> = claims.iter().map(|(kind, claim)| (*kind, claim.as_str())).collect();
        let named = self.object("ListenerSet", set);
        self.until(&format!("listener {name} of {set} to say {claims:?}"), async || {
            let set = self.get(&named).await?;
            let found = listener(&set, name)?;
            says(&set, found, &claims)?;
            Ok(found.clone())
        })
        .await
    }

    /// Waits until these server names of a port lead to the routes of these names, and no other leads anywhere.
    async fn names_lead(&self, port: u16, wanted: &[(&str, &str)]) -> anyhow::Result<()> {
        let wanted: BTreeMap<String, String> = wanted
            .iter()
            .map(|(name, route)| ((*name).to_owned(), format!("TLSRoute {}", self.named(route))))
            .collect();
        self.until(&format!("port {port} to lead {wanted:?}"), async || {
            let mut found = BTreeMap::new();
            for (key, held) in self.documents().await?.0.iter().filter(|(key, _)| key.contains("/gateway-api.")) {
                let document = value(held)?;
                if key.starts_with("/stream_routes/") && document["server_port"] == port {
                    let route = document["desc"].as_str().and_then(|desc| desc.split_once(" [")).unwrap_or_default().0;
                    found.insert(document["sni"].as_str().unwrap_or_default().to_owned(), route.to_owned());
                }
            }
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_listener_set_comes_is_served_conflicts_is_forbidden_and_goes() -> anyhow::Result<()> {
    let scene = Scene::open("set-life").await?;
    let own = tcp("own", 9100);
    let allowing = |from: &str, more: &[&str]| gateway("edge", from, &[&[own.as_str()], more].concat());
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &allowing("from: Same", &[])).await?;
    scene.apply(set("more", &[&tcp("tcp", 9200)]) + &route("TCPRoute", "$NS", "app", ("more", "tcp"), "")).await?;
    let nodes = &[("10.0.0.1:8080", 1)];
    scene.served(9200, "app", nodes).await?;
    let more = scene.object("ListenerSet", "more");
    let said = scene.set_says(&more, BOTH).await?;
    says(&said, listener(&said, "tcp")?, &[BOTH, &[("ResolvedRefs", "True/ResolvedRefs")]].concat())?;
    let parent = &scene.route_says("app", "tcp", SERVED).await?["parentRef"];
    assert_eq!((&parent["kind"], &parent["name"]), (&json!("ListenerSet"), &json!("more")));
    scene.counts_sets(1).await?;
    scene.gateway_says("edge", BOTH, &[("own", 0)]).await?;
    scene
        .until("the set to count its route", async || {
            let set = scene.get(&more).await?;
            ensure!(listener(&set, "tcp")?["attachedRoutes"] == 1, "{}", set["status"]);
            Ok(())
        })
        .await?;

    // The Gateway wants the port itself, and comes first.
    scene.apply(allowing("from: Same", &[&tcp("late", 9200)])).await?;
    scene.emptied().await?;
    let refused = scene.set_clashes("more", "tcp", "ListenerConflict").await?;
    assert!(!message(&refused, "Accepted")?.contains("late"), "{refused}");
    scene.set_says(&more, NONE_VALID).await?;
    scene.route_says("app", "tcp", IN_VAIN).await?;
    scene.counts_sets(0).await?;

    // One more listener of its own makes it a set that is served in part; then the port is free again.
    scene.apply(set("more", &[&tcp("tcp", 9200), &tcp("spare", 9300)])).await?;
    scene.set_says(&more, PARTLY).await?;
    scene.counts_sets(1).await?;
    scene.apply(allowing("from: Same", &[])).await?;
    scene.set_says(&more, BOTH).await?;
    scene.served(9200, "app", nodes).await?;
    scene.route_says("app", "tcp", SERVED).await?;

    // It is not allowed any more, then it is again, then it goes.
    scene.apply(allowing("from: None", &[])).await?;
    scene.emptied().await?;
    let set = scene.set_says(&more, NOT_ALLOWED).await?;
    assert!(items(&set, "/status/listeners").is_empty(), "{}", set["status"]);
    scene
        .route_says("app", "tcp", &[("Accepted", "False/NoMatchingParent"), (PROGRAMMED, "False/NotAccepted")])
        .await?;
    scene.counts_sets(0).await?;
    scene.apply(allowing("from: Same", &[])).await?;
    scene.served(9200, "app", nodes).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.delete("ListenerSet", "more").await?;
    scene.emptied().await?;
    scene.counts_sets(0).await?;
    scene
        .until("our entry to go", async || {
            let route = scene.get(&scene.object("TCPRoute", "app")).await?;
            ensure!(entry(&route, &scene.place.controller_name, "tcp").is_err(), "{}", route["status"]);
            Ok(())
        })
        .await
}

#[tokio::test]
async fn of_tls_listeners_of_one_name_the_gateways_then_the_older_sets_has_it() -> anyhow::Result<()> {
    let servers = shared().await?;
    let place = servers.place("set-names").await?;
    let scene = Scene::start(servers, place, &["--apisix-version", "3.19"])?;
    let own = tls("own", 9443, "own.example");
    let services = service("web", &["10.0.0.1"]);
    scene.apply(CLASS.to_owned() + &services + &gateway("edge", "from: Same", &[&own])).await?;
    // First by age, or by name where both were created within one second.
    let sets = set("a", &[&tls("one", 9443, "one.example"), &tls("mine", 9443, "own.example")])
        + &set("b", &[&tls("one", 9443, "one.example"), &tls("two", 9443, "two.example")])
        + &set("c", &[&tcp("plain", 9443)]);
    let routed = |name: &str, at, host: &str| route("TLSRoute", "$NS", name, at, &format!("hostnames: [{host}]"));
    let routes = routed("first", ("a", "one"), "one.example")
        + &routed("second", ("b", "one"), "one.example")
        + &routed("third", ("b", "two"), "two.example");
    scene.apply(sets + &routes).await?;
    scene.names_lead(9443, &[("one.example", "first"), ("two.example", "third")]).await?;
    scene.set_clashes("a", "mine", "HostnameConflict").await?;
    scene.set_clashes("b", "one", "HostnameConflict").await?;
    scene.set_clashes("c", "plain", "ProtocolConflict").await?;
    scene.set_says(&scene.object("ListenerSet", "c"), NONE_VALID).await?;
    for name in ["a", "b"] {
        scene.set_says(&scene.object("ListenerSet", name), PARTLY).await?;
    }
    scene.counts_sets(2).await?;
    let second = scene.object("TLSRoute", "second");
    scene.route_at_says(&second, "one", IN_VAIN).await?;

    // The older set goes, and its name is the younger one's.
    scene.delete("ListenerSet", "a").await?;
    scene.names_lead(9443, &[("one.example", "second"), ("two.example", "third")]).await?;
    scene.route_at_says(&second, "one", SERVED).await?;
    scene.counts_sets(1).await?;

    // The Gateway takes a name, then is not accepted at all, and its sets with it.
    let greedy = tls("greedy", 9443, "two.example");
    scene.apply(gateway("edge", "from: Same", &[&own, &greedy])).await?;
    scene.set_clashes("b", "two", "HostnameConflict").await?;
    scene.names_lead(9443, &[("one.example", "second")]).await?;
    scene.apply(gateway("edge", "from: Same", &["{name: web, protocol: HTTP, port: 80}"])).await?;
    let unaccepted = &[("Accepted", "False/ParentNotAccepted"), ("Programmed", "False/ParentNotProgrammed")];
    scene.set_says(&scene.object("ListenerSet", "b"), unaccepted).await?;
    scene.emptied().await?;
    scene.apply(gateway("edge", "from: Same", &[&own])).await?;
    scene.names_lead(9443, &[("one.example", "second"), ("two.example", "third")]).await?;
    Ok(())
}

#[tokio::test]
async fn a_listener_set_of_another_namespace_hangs_on_the_labels_there() -> anyhow::Result<()> {
    let scene = Scene::open("set-labels").await?;
    let far = scene.servers.kubernetes.namespace("set-far").await?;
    let namespace = Named { api_version: "v1", kind: "Namespace", namespace: "", name: &far };
    let from = "from: Selector, selector: {matchLabels: {listeners: welcome}}";
    scene.apply(CLASS.to_owned() + &gateway("edge", from, &[&tcp("own", 9100)])).await?;
    let listeners = [tcp("tcp", 9200), "{name: dns, protocol: UDP, port: 9100}".to_owned()];
    scene.apply(set_in(&far, "more", &[&listeners[0], &listeners[1]])).await?;
    let services = super::objects::service_in(&far, "web", &["10.0.0.1"]);
    scene.apply(services + &route("TCPRoute", &far, "app", ("more", "tcp"), "")).await?;
    // From beside the Gateway, where Same does not mean.
    let stranger = route("TCPRoute", "$NS", "stranger", ("more", "tcp"), "")
        .replace("kind: ListenerSet,", &format!("kind: ListenerSet, namespace: {far},"));
    scene.apply(stranger).await?;
    let more = Named { namespace: &far, ..scene.object("ListenerSet", "more") };
    let app = Named { namespace: &far, ..scene.object("TCPRoute", "app") };
    scene.set_says(&more, NOT_ALLOWED).await?;
    scene.route_at_says(&app, "tcp", &[("Accepted", "False/NoMatchingParent")]).await?;
    scene.counts_sets(0).await?;

    for _ in 0..2 {
        scene.servers.kubernetes.patch(&namespace, json!({"metadata": {"labels": {"listeners": "welcome"}}})).await?;
        let set = scene.set_says(&more, PARTLY).await?;
        // Gateway API tells TCP from UDP, so this is no conflict; APISIX does not.
        let unavailable = &[("Accepted", "False/PortUnavailable"), ("Programmed", "False/Invalid")];
        says(&set, listener(&set, "dns")?, unavailable)?;
        let said = message(listener(&set, "dns")?, "Accepted")?;
        assert!(said.contains("cannot tell TCP from UDP") && !said.contains("own"), "{said}");
        scene.route_at_says(&app, "tcp", SERVED).await?;
        scene.route_says("stranger", "tcp", &[("Accepted", "False/NotAllowedByListeners")]).await?;
        scene.counts_sets(1).await?;
        let served = format!("TCPRoute {far}/app");
        scene
            .until("the port to be served", async || {
                scene.documents().await?.serve(9200, &served, &[("10.0.0.1:8080", 1)])
            })
            .await?;

        scene.servers.kubernetes.patch(&namespace, json!({"metadata": {"labels": {"listeners": null}}})).await?;
        scene.set_says(&more, NOT_ALLOWED).await?;
        scene.emptied().await?;
        scene.counts_sets(0).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_spoiled_status_of_a_listener_set_is_put_right() -> anyhow::Result<()> {
    let scene = Scene::open("set-spoiled").await?;
    let manifests = gateway("edge", "from: All", &[&tcp("own", 9100)]) + &set("more", &[&tcp("tcp", 9200)]);
    scene.apply(CLASS.to_owned() + &manifests).await?;
    let more = scene.object("ListenerSet", "more");
    let set = scene.set_says(&more, BOTH).await?;
    let mut conditions = items(&set, "/status/conditions").to_vec();
    for condition in &mut conditions {
        condition["status"] = "False".into();
        condition["reason"] = "Spoiled".into();
    }
    scene.servers.kubernetes.patch(&more, json!({"status": {"conditions": conditions, "listeners": []}})).await?;
    scene
        .servers
        .kubernetes
        .patch(&scene.object("Gateway", "edge"), json!({"status": {"attachedListenerSets": 7}}))
        .await?;
    let set = scene.set_says(&more, BOTH).await?;
    scene.counts_sets(1).await?;
    says(&set, listener(&set, "tcp")?, BOTH)
}
