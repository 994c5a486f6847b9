//! Several data planes under one controller: side by side, moved to another prefix, deleted and created again, left.

use super::{
    claims::{PROGRAMMED, listener, message, says},
    documents::Documents,
    objects::{CLASS, gateway, route, service},
    scene::Scene,
    support::{
        binaries::{self, Binary},
        etcd::{Etcd, Setup, Written},
        kubernetes::Named,
        process::folder,
        servers::{Servers, shared},
    },
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::Arc,
};

const ACCEPTED: &[(&str, &str)] = &[("Accepted", "True/Accepted")];
const READY: &[(&str, &str)] = &[("Accepted", "True/Accepted"), ("Programmed", "True/Programmed")];
const SERVED: &[(&str, &str)] =
    &[("Accepted", "True/Accepted"), ("ResolvedRefs", "True/ResolvedRefs"), (PROGRAMMED, "True/Programmed")];

/// What is left where every document is gone.
const PLACEHOLDERS: [&str; 3] = ["/ssls/", "/stream_routes/", "/upstreams/"];

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];

impl Scene {
    /// The name of a DataPlane, and of the class that names it.
    fn plane_name(&self, name: &str) -> String {
        format!("{}-{name}", self.place.gateway_class)
    }

    /// A prefix of this scene, beside the one of its settings.
    fn prefix(&self, name: &str) -> String {
        let room = self.place.etcd_prefix.strip_suffix("apisix").unwrap_or_default();
        format!("{room}{name}")
    }

    /// Applies a DataPlane; of the prefix `name` where `spec` gives none.
    async fn apply_plane(&self, name: &str, mut spec: Value) -> anyhow::Result<()> {
        if spec["etcdPrefix"].is_null() {
            spec["etcdPrefix"] = json!(self.prefix(name));
        }
        let metadata = json!({"name": self.plane_name(name)});
        let object =
            json!({"apiVersion": "apisix-etcd.io/v1alpha1", "kind": "DataPlane", "metadata": metadata, "spec": spec});
        self.apply(object.to_string()).await
    }

    /// Waits until the DataPlane says `claims`; the DataPlane.
    async fn plane_says(&self, name: &str, claims: &[(&str, &str)]) -> anyhow::Result<Value> {
        let name = self.plane_name(name);
        self.says_of_cluster("apisix-etcd.io/v1alpha1", "DataPlane", &name, claims).await
    }

    /// Waits until the class of a DataPlane says `claims`; the class.
    async fn plane_class_says(&self, name: &str, claims: &[(&str, &str)]) -> anyhow::Result<Value> {
        let name = self.plane_name(name);
        self.says_of_cluster("gateway.networking.k8s.io/v1", "GatewayClass", &name, claims).await
    }

    async fn says_of_cluster(
        &self,
        api_version: &str,
        kind: &str,
        name: &str,
        claims: &[(&str, &str)],
    ) -> anyhow::Result<Value> {
        let named = Named { api_version, kind, namespace: "", name };
        self.until(&format!("{kind} {name} to say {claims:?}"), async || {
            let object = self.get(&named).await?;
            says(&object, &object["status"], claims)?;
            Ok(object)
        })
        .await
    }

    async fn delete_plane(&self, name: &str) -> anyhow::Result<()> {
        let name = self.plane_name(name);
        let named = Named { api_version: "apisix-etcd.io/v1alpha1", kind: "DataPlane", namespace: "", name: &name };
        self.servers.kubernetes.delete(&named).await
    }

    /// What is below a prefix of this scene now. Keys are without it.
    async fn below(&self, name: &str) -> anyhow::Result<Documents> {
        let prefix = self.prefix(name);
        let held = self.servers.etcd.under(&format!("{prefix}/")).await?;
        let without = |key: &str| key.strip_prefix(&prefix).map(str::to_owned).context("keys begin with the prefix");
        Ok(Documents(held.into_iter().map(|(key, held)| Ok((without(&key)?, held))).collect::<anyhow::Result<_>>()?))
    }

    /// Waits until a port of APISIX leads to a TCPRoute below a prefix of this scene; what is there then.
    async fn served_below(&self, name: &str, port: u16, route: &str) -> anyhow::Result<Documents> {
        let route = format!("TCPRoute {}", self.named(route));
        self.until(&format!("port {port} of {name} to lead to {route}"), async || {
            let documents = self.below(name).await?;
            documents.serve(port, &route, NODES)?;
            Ok(documents)
        })
        .await
    }

    /// Waits until only placeholders are left below a prefix of this scene.
    async fn emptied_below(&self, name: &str) -> anyhow::Result<()> {
        self.until(&format!("{name} to be empty"), async || {
            let documents = self.below(name).await?;
            let keys: Vec<&str> = documents.0.keys().map(String::as_str).collect();
            ensure!(keys == PLACEHOLDERS, "{keys:?}");
            Ok(())
        })
        .await
    }

    /// What was written below any prefix of this scene after `revision`, up to now.
    async fn history_of_all(&self, revision: i64) -> anyhow::Result<Vec<Written>> {
        self.servers.etcd.history(&self.prefix(""), revision).await
    }

    /// Waits until the newest checkpoint names exactly these prefixes of this scene, each with its data plane: a DataPlane of
    /// this scene, or nothing for that of the settings.
    async fn recorded(&self, want: &[(&str, &str)]) -> anyhow::Result<()> {
        let name = |name: &str| if name.is_empty() { String::new() } else { self.plane_name(name) };
        let want: BTreeMap<String, String> =
            want.iter().map(|(prefix, plane)| (self.prefix(prefix), name(plane))).collect();
        self.until(&format!("the checkpoint to name {want:?}"), async || {
            let found = self.prefixes_shown().await?;
            ensure!(found == want, "it names {found:?}");
            Ok(())
        })
        .await
    }

    /// What `checkpoint show` prints of prefixes.
    async fn prefixes_shown(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut command = Command::new(binaries::controller()?);
        command.args(["checkpoint", "show", "--output", "json", "--etcd-endpoints", self.servers.etcd.endpoint()]);
        command.args(["--control-prefix", &self.place.control_prefix]);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let shown: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("it prints {}", String::from_utf8_lossy(&output.stderr)))?;
        let lanes = shown["lanes"].as_array().context("there are lanes")?;
        let newest = lanes.iter().find(|lane| lane["lane"] == shown["newest"]).context("one lane is the newest")?;
        Ok(serde_json::from_value(newest["record"]["prefixes"].clone())?)
    }
}

/// The class that names the DataPlane `name` of the scene.
fn class(name: &str) -> String {
    class_with(name, &format!("parametersRef: {{group: apisix-etcd.io, kind: DataPlane, name: $CLASS-{name}}}"))
}

fn class_with(name: &str, parameters: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {{name: $CLASS-{name}}}
spec: {{controllerName: $CONTROLLER, {parameters}}}
"
    )
}

/// [`gateway`] of the class of a DataPlane.
fn gateway_on(plane: &str, name: &str, listeners: &[(&str, u16)]) -> String {
    gateway(name, listeners).replace("$CLASS", &format!("$CLASS-{plane}"))
}

/// A TCPRoute to Service `web` with many parents: Gateways and listeners of them.
fn route_at(name: &str, parents: &[(&str, &str)]) -> String {
    let parent = |(gateway, listener): &(&str, &str)| format!("{{name: {gateway}, sectionName: {listener}}}");
    let parents: Vec<String> = parents.iter().map(parent).collect();
    route(name, ("-", "-"), &[("web", 1)]).replace("{name: -, sectionName: -}", &parents.join(", "))
}

/// That everything which is below `to` at the end was there before anything below `from` went, and that all of that went.
fn moved_in_order(history: &[Written], from: &str, to: &Documents, to_prefix: &str) -> anyhow::Result<()> {
    let documents = to.of_our_shape().len();
    let written: BTreeMap<String, i64> = to
        .of_our_shape()
        .into_iter()
        .map(|key| Ok((format!("{to_prefix}{key}"), to.at(key)?.mod_revision)))
        .collect::<anyhow::Result<_>>()?;
    let last = written.values().max().context("something was written")?;
    let below = format!("{from}/");
    let gone: Vec<&Written> =
        history.iter().filter(|written| written.key.starts_with(&below) && written.value.is_none()).collect();
    let first = gone.iter().map(|gone| gone.revision).min().context("something was deleted")?;
    ensure!(first > *last, "the first deletion below {from} is at {first}, and {to_prefix} was complete at {last}");
    let distinct: BTreeSet<&str> = gone.iter().map(|gone| gone.key.as_str()).collect();
    ensure!(distinct.len() == gone.len() && gone.len() == documents, "{documents} documents moved, {gone:?} went");
    // Each was written once.
    let puts = history.iter().filter(|put| written.contains_key(&put.key)).count();
    ensure!(puts == documents, "{puts} puts for {documents} documents");
    Ok(())
}

#[tokio::test]
async fn three_data_planes_are_served_side_by_side() -> anyhow::Result<()> {
    let scene = Scene::open("side").await?;
    let listen = json!([{"protocol": "TCP", "port": 9100}, {"protocol": "TCP", "port": 9443}]);
    let one = json!({
        "portMapping": [{"gatewayPort": 443, "apisixPort": 9443}], "listen": listen, "addresses": ["192.0.2.1"],
    });
    scene.apply_plane("one", one).await?;
    scene.apply_plane("two", json!({"addresses": ["two.example.com"]})).await?;
    scene.apply(CLASS.to_owned() + &class("one") + &class("two") + &service("web", &["10.0.0.1"])).await?;
    let listeners = [("one", 9100), ("mapped", 443), ("away", 9300)];
    let gateways = gateway("zero", &[("zero", 9100)])
        + &gateway_on("one", "one", &listeners)
        + &gateway_on("two", "two", &[("two", 9100), ("more", 443)]);
    scene.apply(gateways).await?;
    let parents = [("zero", "zero"), ("one", "one"), ("two", "two")];
    let mapped = route_at("mapped", &[("one", "mapped"), ("two", "more")]);
    scene.apply(route_at("app", &parents) + &mapped + &route_at("lost", &[("one", "away")])).await?;

    // The same port on each, with a pool on each; 443 is 9443 for one of them alone.
    for plane in ["apisix", "one", "two"] {
        scene.served_below(plane, 9100, "app").await?;
    }
    scene.served_below("one", 9443, "mapped").await?;
    scene.served_below("two", 443, "mapped").await?;
    for (plane, documents) in [("apisix", 2), ("one", 4), ("two", 4)] {
        let found = scene.below(plane).await?;
        ensure!(found.of_our_shape().len() == documents, "{plane} holds {:?}", found.0.keys());
        ensure!(PLACEHOLDERS.iter().all(|key| found.0.contains_key(*key)), "{plane} holds {:?}", found.0.keys());
    }

    for plane in ["one", "two"] {
        scene.plane_says(plane, ACCEPTED).await?;
        scene.plane_class_says(plane, ACCEPTED).await?;
    }
    scene.class_says(ACCEPTED).await?;
    for (_, section) in parents {
        scene.route_says("app", section, SERVED).await?;
    }
    for section in ["mapped", "more"] {
        scene.route_says("mapped", section, SERVED).await?;
    }
    scene.gateway_says("zero", READY, &[("zero", 1)]).await?;
    let one = scene.gateway_says("one", &READY[1..], &[("one", 1), ("mapped", 1), ("away", 1)]).await?;
    let away = listener(&one, "away")?;
    says(&one, away, &[("Accepted", "False/PortUnavailable")])?;
    ensure!(message(away, "Accepted")?.contains("9300"), "{away}");
    ensure!(one["status"]["addresses"] == json!([{"type": "IPAddress", "value": "192.0.2.1"}]), "{}", one["status"]);
    let two = scene.gateway_says("two", READY, &[("two", 1), ("more", 1)]).await?;
    ensure!(
        two["status"]["addresses"] == json!([{"type": "Hostname", "value": "two.example.com"}]),
        "{}",
        two["status"]
    );
    scene.recorded(&[("apisix", ""), ("one", "one"), ("two", "two")]).await?;

    // A change of one touches no other.
    let revision = scene.revision().await?;
    scene.apply(route_at("app", &parents[..2])).await?;
    scene
        .until("port 9100 of two to be free", async || {
            let found = scene.below("two").await?;
            ensure!(found.of_our_shape().len() == 2, "{:?}", found.0.keys());
            Ok(())
        })
        .await?;
    let below = format!("{}/", scene.prefix("two"));
    let history = scene.history_of_all(revision).await?;
    ensure!(history.iter().all(|written| written.key.starts_with(&below)), "{history:?}");
    Ok(())
}

/// Ports of Gateways for the move: more than one change may stop without a question, and more than one transaction holds.
const PARENTS: u16 = 32;
const ROUTES: u16 = 4;

#[tokio::test]
async fn another_prefix_is_complete_before_the_old_one_is_emptied() -> anyhow::Result<()> {
    let scene = Scene::open("move").await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("old")})).await?;
    scene.apply(CLASS.to_owned() + &class("edge") + &service("web", &["10.0.0.1"])).await?;
    for number in 0..ROUTES {
        let name = format!("many-{number}");
        let sections: Vec<(String, u16)> =
            (0..PARENTS).map(|n| (format!("p{n}"), 9100 + number * PARENTS + n)).collect();
        let listeners: Vec<(&str, u16)> = sections.iter().map(|(section, port)| (section.as_str(), *port)).collect();
        let parents: Vec<(&str, &str)> =
            sections.iter().map(|(section, _)| (name.as_str(), section.as_str())).collect();
        scene.apply(gateway_on("edge", &name, &listeners) + &route_at(&name, &parents)).await?;
    }
    let slots = usize::from(ROUTES * PARENTS);
    let whole = async |name: &str| {
        scene
            .until(&format!("{name} to be complete"), async || {
                let documents = scene.below(name).await?;
                let found = documents.of_our_shape().len();
                ensure!(found == slots + usize::from(ROUTES), "it holds {found}");
                Ok(documents)
            })
            .await
    };
    let before = whole("old").await?;
    scene.route_says("many-0", "p0", SERVED).await?;
    scene.recorded(&[("apisix", ""), ("old", "edge")]).await?;

    let revision = scene.revision().await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("new")})).await?;
    scene.emptied_below("old").await?;
    let after = whole("new").await?;
    moved_in_order(&scene.history_of_all(revision).await?, &scene.prefix("old"), &after, &scene.prefix("new"))?;
    // Ids are of routes and ports, not of prefixes.
    ensure!(after.of_our_shape() == before.of_our_shape(), "{:?}", after.0.keys());

    scene.plane_says("edge", ACCEPTED).await?;
    scene.plane_class_says("edge", ACCEPTED).await?;
    scene.gateway_says("many-0", READY, &[("p0", 1)]).await?;
    for number in 0..ROUTES {
        scene.route_says(&format!("many-{number}"), "p31", SERVED).await?;
    }
    scene.recorded(&[("apisix", ""), ("new", "edge")]).await?;
    // It goes on there.
    scene.apply(service("web", &["10.0.0.2"])).await?;
    scene
        .until("the pool to follow", async || {
            let route = format!("TCPRoute {}", scene.named("many-0"));
            scene.below("new").await?.serve(9100, &route, &[("10.0.0.2:8080", 1)])
        })
        .await
}

#[tokio::test]
async fn a_prefix_that_is_changed_while_no_controller_runs_is_left_in_order_too() -> anyhow::Result<()> {
    let scene = Scene::open("down").await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("old")})).await?;
    scene.apply(CLASS.to_owned() + &class("edge") + &service("web", &["10.0.0.1"])).await?;
    scene
        .apply(gateway_on("edge", "edge", &[("one", 9100), ("two", 9200)]) + &gateway("zero", &[("zero", 9100)]))
        .await?;
    scene.apply(route_at("app", &[("edge", "one"), ("zero", "zero")]) + &route_at("other", &[("edge", "two")])).await?;
    scene.served_below("old", 9100, "app").await?;
    scene.served_below("old", 9200, "other").await?;
    scene.served(9100, "app", NODES).await?;
    scene.route_says("app", "one", SERVED).await?;
    scene.recorded(&[("apisix", ""), ("old", "edge")]).await?;

    scene.stop().await?;
    let revision = scene.revision().await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("new")})).await?;
    let scene = scene.start_again()?;
    scene.emptied_below("old").await?;
    let after = scene.below("new").await?;
    ensure!(after.of_our_shape().len() == 4, "{:?}", after.0.keys());
    let history = scene.history_of_all(revision).await?;
    moved_in_order(&history, &scene.prefix("old"), &after, &scene.prefix("new"))?;
    // The data plane of the settings has nothing to do with it.
    let default = format!("{}/", scene.place.etcd_prefix);
    ensure!(!history.iter().any(|written| written.key.starts_with(&default)), "{history:?}");
    for (route, section) in [("app", "one"), ("app", "zero"), ("other", "two")] {
        scene.route_says(route, section, SERVED).await?;
    }
    scene.plane_says("edge", ACCEPTED).await?;
    scene.recorded(&[("apisix", ""), ("new", "edge")]).await
}

#[tokio::test]
async fn a_data_plane_that_is_deleted_or_broken_and_comes_back_changes_no_document() -> anyhow::Result<()> {
    let mut scene = Scene::open("comes-back").await?;
    let spec = json!({"addresses": ["192.0.2.1"]});
    scene.apply_plane("edge", spec.clone()).await?;
    scene.apply(CLASS.to_owned() + &class("edge") + &service("web", &["10.0.0.1"])).await?;
    scene.apply(gateway_on("edge", "edge", &[("tcp", 9100)]) + &route_at("app", &[("edge", "tcp")])).await?;
    let before = scene.served_below("edge", 9100, "app").await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", READY, &[("tcp", 1)]).await?;

    let revision = scene.revision().await?;
    scene.delete_plane("edge").await?;
    let class = scene.plane_class_says("edge", &[("Accepted", "False/InvalidParameters")]).await?;
    ensure!(message(&class["status"], "Accepted")?.contains("There is no DataPlane"), "{}", class["status"]);
    // Neither what the Gateway is to serve nor what comes after it changes anything there.
    scene.apply(service("web", &["10.0.0.1", "10.0.0.2"])).await?;
    scene.history_to_fence(revision).await?;
    ensure!(scene.below("edge").await?.0 == before.0, "its documents are kept");

    // Also by the next leader, which has not seen it.
    scene.stop().await?;
    let mut scene = scene.start_again()?;
    scene.apply(service("web", &["10.0.0.1"])).await?;
    scene.history_to_fence(revision).await?;
    ensure!(scene.below("edge").await?.0 == before.0, "its documents are kept after a restart");
    scene.recorded(&[("apisix", ""), ("edge", "edge")]).await?;

    scene.apply_plane("edge", spec).await?;
    scene.plane_says("edge", ACCEPTED).await?;
    scene.plane_class_says("edge", ACCEPTED).await?;
    scene.gateway_says("edge", READY, &[("tcp", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.history_to_fence(revision).await?;
    ensure!(scene.below("edge").await?.0 == before.0, "nothing is rewritten");

    // Broken by a prefix that another has.
    let taken = json!({"etcdPrefix": format!("{}/within", scene.place.etcd_prefix)});
    scene.apply_plane("edge", taken).await?;
    scene.plane_says("edge", &[("Accepted", "False/PrefixOverlaps")]).await?;
    scene.plane_class_says("edge", &[("Accepted", "False/InvalidParameters")]).await?;
    scene.history_to_fence(revision).await?;
    ensure!(scene.below("edge").await?.0 == before.0, "its documents are kept while it is broken");
    scene.apply_plane("edge", json!({"addresses": ["192.0.2.1"]})).await?;
    scene.plane_class_says("edge", ACCEPTED).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    let history = scene.history_to_fence(revision).await;
    // Only the data plane of the settings was written: the fences.
    ensure!(history.is_ok() && scene.below("edge").await?.0 == before.0, "{history:?}");
    Ok(())
}

#[tokio::test]
async fn what_a_class_turns_away_from_is_emptied() -> anyhow::Result<()> {
    let scene = Scene::open("turns").await?;
    for plane in ["one", "two"] {
        scene.apply_plane(plane, json!({})).await?;
    }
    scene.apply(CLASS.to_owned() + &class("one") + &service("web", &["10.0.0.1"])).await?;
    scene.apply(gateway_on("one", "edge", &[("tcp", 9100)]) + &route_at("app", &[("edge", "tcp")])).await?;
    scene.served_below("one", 9100, "app").await?;
    scene.route_says("app", "tcp", SERVED).await?;

    // To another.
    scene.apply(class_with("one", "parametersRef: {group: apisix-etcd.io, kind: DataPlane, name: $CLASS-two}")).await?;
    scene.served_below("two", 9100, "app").await?;
    scene.emptied_below("one").await?;
    scene.recorded(&[("apisix", ""), ("two", "two")]).await?;
    scene.route_says("app", "tcp", SERVED).await?;

    // To none.
    scene.apply(class_with("one", "")).await?;
    scene.served(9100, "app", NODES).await?;
    scene.emptied_below("two").await?;
    scene.recorded(&[("apisix", "")]).await?;

    // Back, and away with its Gateway.
    scene.apply(class("one")).await?;
    scene.served_below("one", 9100, "app").await?;
    scene.emptied().await?;
    scene.delete("Gateway", "edge").await?;
    let name = scene.plane_name("one");
    scene.delete("GatewayClass", &name).await?;
    scene.servers.kubernetes.gone(&scene.object("GatewayClass", &name)).await?;
    scene.emptied_below("one").await?;
    scene.recorded(&[("apisix", "")]).await
}

/// Lets the role of the controller do `what` below a prefix.
async fn grant(etcd: &Etcd, prefix: &str, what: fn(Vec<u8>) -> etcd_client::Permission) -> anyhow::Result<()> {
    let permission = what(format!("{prefix}/").into_bytes()).with_prefix();
    etcd.client().await?.role_grant_permission("us", permission).await?;
    Ok(())
}

/// A scene with an etcd of its own, whose controller may read and write the prefixes of the settings and `old`; one route is served
/// below `old`. With it the folder of its password.
async fn with_rights(hint: &str) -> anyhow::Result<(Scene, Documents, tempfile::TempDir)> {
    let kubernetes = shared().await?.kubernetes;
    let setup = Setup { tls: None, arguments: vec!["--bcrypt-cost=4".to_owned()] };
    let etcd = Arc::new(Etcd::start_as(Binary::Etcd36, &setup).await?);
    let servers = Servers { kubernetes, etcd: etcd.clone() };
    let place = servers.place(hint).await?;
    let mut client = etcd.client().await?;
    client.user_add("us", "pass", None).await?;
    client.role_add("us").await?;
    client.user_grant_role("us", "us").await?;
    let room = place.etcd_prefix.strip_suffix("/apisix").context("a place's prefix ends in apisix")?.to_owned();
    for prefix in [&place.etcd_prefix, &place.control_prefix, &format!("{room}/old")] {
        grant(&etcd, prefix, etcd_client::Permission::read_write).await?;
    }
    etcd.turn_authentication_on("root").await?;
    let files = folder()?;
    let password = files.path().join("password");
    std::fs::write(&password, "pass")?;
    let more = ["--etcd-user", "us", "--etcd-password-file", password.to_str().context("a path is text")?];
    let scene = Scene::start(servers, place, &more)?;

    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("old")})).await?;
    scene.apply(CLASS.to_owned() + &class("edge") + &service("web", &["10.0.0.1"])).await?;
    scene.apply(gateway_on("edge", "edge", &[("one", 9100)]) + &route_at("app", &[("edge", "one")])).await?;
    let before = scene.served_below("old", 9100, "app").await?;
    scene.route_says("app", "one", SERVED).await?;
    Ok((scene, before, files))
}

/// The right to the new prefix is granted: what was put off since `revision` is done, in order.
async fn moves_once_permitted(scene: &mut Scene, revision: i64) -> anyhow::Result<()> {
    grant(&scene.servers.etcd, &scene.prefix("new"), etcd_client::Permission::read_write).await?;
    scene.emptied_below("old").await?;
    let after = scene.below("new").await?;
    moved_in_order(&scene.history_of_all(revision).await?, &scene.prefix("old"), &after, &scene.prefix("new"))?;
    scene.route_says("app", "one", SERVED).await.map(drop)
}

#[tokio::test]
async fn documents_stay_while_the_other_prefix_cannot_be_read_and_other_data_planes_do_not_wait() -> anyhow::Result<()>
{
    let (mut scene, before, _files) = Box::pin(with_rights("unread")).await?;
    let revision = scene.revision().await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("new")})).await?;
    scene.plane_says("edge", ACCEPTED).await?;
    scene.route_says("app", "one", &[(PROGRAMMED, "False/Pending")]).await?;
    scene.history_to_fence(revision).await?;
    ensure!(scene.below("old").await?.0 == before.0, "its documents stay");
    moves_once_permitted(&mut scene, revision).await
}

#[tokio::test]
async fn documents_stay_while_the_other_prefix_cannot_be_written_and_other_data_planes_do_not_wait()
-> anyhow::Result<()> {
    let (mut scene, before, _files) = Box::pin(with_rights("unwritten")).await?;
    let revision = scene.revision().await?;
    grant(&scene.servers.etcd, &scene.prefix("new"), etcd_client::Permission::read).await?;
    scene.apply_plane("edge", json!({"etcdPrefix": scene.prefix("new")})).await?;
    scene.route_says("app", "one", &[(PROGRAMMED, "False/Pending")]).await?;
    for _ in 0..3 {
        scene.history_to_fence(revision).await?;
        ensure!(scene.below("old").await?.0 == before.0, "its documents stay");
    }
    moves_once_permitted(&mut scene, revision).await
}

#[tokio::test]
async fn another_prefix_in_the_settings_is_a_move_too() -> anyhow::Result<()> {
    let scene = Scene::open("settings").await?;
    let [from, to, room] = ["apisix", "new/apisix", ""].map(|name| scene.prefix(name));
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route_at("app", &[("edge", "tcp")])).await?;
    scene.served(9100, "app", NODES).await?;
    scene.route_says("app", "tcp", SERVED).await?;

    scene.stop().await?;
    let revision = scene.revision().await?;
    let mut scene = scene;
    scene.place.etcd_prefix.clone_from(&to);
    let scene = scene.start_again()?;
    let after = scene.served(9100, "app", NODES).await?;
    scene
        .until("the old prefix to be empty", async || {
            let held = scene.servers.etcd.under(&format!("{from}/")).await?;
            ensure!(held.len() == PLACEHOLDERS.len(), "{:?}", held.keys());
            Ok(())
        })
        .await?;
    moved_in_order(&scene.servers.etcd.history(&room, revision).await?, &from, &after, &to)?;
    scene.route_says("app", "tcp", SERVED).await.map(drop)
}
