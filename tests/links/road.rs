//! What the tests of this binary share: a controller started over a link of the test's own, a crowd of routes, keys of
//! somebody else, and the look at what a fault must not have left behind.

use super::{
    claims::{PROGRAMMED, items, says},
    documents::{Documents, slot_key, value},
    objects::{CLASS, SERVICE_PORT, service},
    scene::Scene,
    support::{
        binaries::{self, Binary},
        controller::{Controller, run_arguments},
        etcd::{Etcd, Held, Written},
        kubernetes::Named,
        servers::{Place, Servers, shared},
    },
};
use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Output,
    sync::Arc,
};

/// A Gateway has no more listeners than this.
pub(crate) const LISTENERS_MAX: u16 = 64;

/// The first port of a crowd.
pub(crate) const FIRST_PORT: u16 = 9100;

/// In a listener of a crowd: routes are let in by a label of their namespace, see [`Scene::label`].
pub(crate) const BY_LABEL: &str =
    ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: open}}}}";

/// How many objects are applied at once.
const APPLIED_AT_ONCE: usize = 8;

/// Keys that are not the controller's, without the prefix. The last looks like one of its ids and is on no port of a test.
const FOREIGN: [(&str, &str); 4] = [
    ("/routes/1", r#"{"uri":"/"}"#),
    ("/upstreams/mine", r#"{"nodes":{"203.0.113.1:1":1}}"#),
    ("/stream_routes/mine", r#"{"server_port":7,"upstream_id":"mine"}"#),
    ("/plugins", "[]"),
];

/// How a controller is started where that is not the plainest way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Link<'a> {
    /// Instead of the cluster's own.
    pub(crate) kubeconfig: Option<&'a Path>,
    /// Instead of etcd's own.
    pub(crate) endpoint: Option<&'a str>,
    /// Instead of the place's.
    pub(crate) controller_name: Option<&'a str>,
    /// More arguments.
    pub(crate) more: &'a [&'a str],
}

impl Link<'_> {
    /// A controller at `place`, over this link.
    pub(crate) fn start(self, servers: &Servers, place: &Place) -> anyhow::Result<Controller> {
        let mut arguments = run_arguments(
            self.kubeconfig.unwrap_or_else(|| servers.kubernetes.kubeconfig()),
            self.endpoint.unwrap_or_else(|| servers.etcd.endpoint()),
            &place.etcd_prefix,
            &place.control_prefix,
            self.controller_name.unwrap_or(&place.controller_name),
        )?;
        arguments.extend(self.more);
        Controller::start(&arguments)
    }
}

/// The shared Kubernetes, and an etcd where nobody else writes.
pub(crate) async fn with_own_etcd() -> anyhow::Result<Servers> {
    Ok(Servers { kubernetes: shared().await?.kubernetes, etcd: Arc::new(Box::pin(Etcd::start(Binary::Etcd)).await?) })
}

/// The name of the route of a port in a crowd.
pub(crate) fn crowd_route(port: u16) -> String {
    format!("r{port}")
}

fn crowd_gateways(n_routes: u16, listener: &str) -> Vec<String> {
    let ports: Vec<u16> = (FIRST_PORT..FIRST_PORT + n_routes).collect();
    let gateways = ports.chunks(usize::from(LISTENERS_MAX)).enumerate();
    gateways
        .map(|(number, ports)| {
            let listeners: Vec<String> =
                ports.iter().map(|port| format!("{{name: p{port}, protocol: TCP, port: {port}{listener}}}")).collect();
            format!(
                "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g{number}, namespace: $NS}}
spec: {{gatewayClassName: $CLASS, listeners: [{}]}}
",
                listeners.join(", ")
            )
        })
        .collect()
}

fn crowd_member(port: u16) -> String {
    let gateway = (port - FIRST_PORT) / LISTENERS_MAX;
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: {}, namespace: $NS}}
spec:
  parentRefs: [{{name: g{gateway}, sectionName: p{port}}}]
  rules: [{{backendRefs: [{{name: web, port: {SERVICE_PORT}}}]}}]
",
        crowd_route(port)
    )
}

/// The ports of a crowd.
pub(crate) fn crowd(n_routes: u16) -> impl Iterator<Item = u16> + Clone {
    FIRST_PORT..FIRST_PORT + n_routes
}

impl Scene {
    /// A class, as many Gateways as it takes, Service `web` and this many routes to it, each on a port of its own.
    /// `listener` is more of what each listener says.
    ///
    /// The class comes first: Gateways without one keep their ports for whoever may have written them, and every controller
    /// on this cluster minds that.
    pub(crate) async fn apply_crowd(&self, n_routes: u16, listener: &str) -> anyhow::Result<()> {
        self.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"])).await?;
        self.apply(crowd_gateways(n_routes, listener).concat()).await?;
        self.apply_members(crowd(n_routes)).await
    }

    /// Labels its namespace, or takes the label away.
    pub(crate) async fn label(&self, edge: Option<&str>) -> anyhow::Result<()> {
        let namespace = Named { api_version: "v1", kind: "Namespace", namespace: "", name: &self.place.namespace };
        self.servers.kubernetes.patch(&namespace, json!({"metadata": {"labels": {"edge": edge}}})).await
    }

    /// Routes of a crowd, several at once.
    pub(crate) async fn apply_members(&self, ports: impl Iterator<Item = u16>) -> anyhow::Result<()> {
        let applying = futures::stream::iter(ports.map(|port| self.apply(crowd_member(port))));
        applying.buffer_unordered(APPLIED_AT_ONCE).try_collect().await
    }

    /// Puts keys of somebody else under the prefix.
    pub(crate) async fn settle_strangers(&self) -> anyhow::Result<BTreeMap<String, Held>> {
        for (key, text) in FOREIGN {
            self.vandalise(key, Some(text)).await?;
        }
        self.strangers().await
    }

    /// The keys of somebody else, as they are.
    pub(crate) async fn strangers(&self) -> anyhow::Result<BTreeMap<String, Held>> {
        let mut documents = self.documents().await?.0;
        documents.retain(|key, _| FOREIGN.iter().any(|(foreign, _)| key == foreign));
        Ok(documents)
    }

    /// Waits until etcd holds documents for exactly these ports, each leading to the route of the crowd there with these
    /// nodes, and as many upstreams.
    pub(crate) async fn serves_exactly(
        &self,
        ports: impl Iterator<Item = u16> + Clone,
        nodes: &[(&str, u64)],
    ) -> anyhow::Result<Documents> {
        self.until("exactly the wanted ports to be served", async || {
            let documents = self.documents().await?;
            let mut wanted = BTreeSet::new();
            for port in ports.clone() {
                documents.serve(port, &format!("TCPRoute {}", self.named(&crowd_route(port))), nodes)?;
                wanted.extend([slot_key(port), documents.pool_key(port)?]);
            }
            let found: BTreeSet<String> = documents.of_our_shape().into_iter().map(str::to_owned).collect();
            ensure!(found == wanted, "too much: {:?}", found.difference(&wanted).collect::<Vec<_>>());
            Ok(documents)
        })
        .await
    }

    /// Waits until every TCPRoute of the namespace says of each of its parents that it is programmed.
    pub(crate) async fn all_programmed(&self, n_routes: usize) -> anyhow::Result<()> {
        self.until("every route to say that it is programmed", async || {
            let routes =
                self.servers.kubernetes.list("gateway.networking.k8s.io/v1", "TCPRoute", &self.place.namespace);
            let routes = routes.await?;
            ensure!(routes.len() == n_routes, "{} routes", routes.len());
            for route in &routes {
                let parents = items(route, "/status/parents");
                ensure!(!parents.is_empty(), "{} says nothing", route["metadata"]["name"]);
                for parent in parents {
                    says(route, parent, &[(PROGRAMMED, "True/Programmed")])?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Runs another command of the binary about this scene's control keys; what it printed on standard output.
    pub(crate) async fn command(&self, words: &[&str], more: &[&str]) -> anyhow::Result<String> {
        let output = tokio::process::Command::new(binaries::controller()?)
            .args(words)
            .args(["--etcd-endpoints", self.servers.etcd.endpoint(), "--control-prefix", &self.place.control_prefix])
            .args(more)
            .env_clear()
            .output();
        let Output { status, stdout, stderr } = output.await.context("running the binary")?;
        ensure!(status.success(), "{words:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).context("a command prints text")
    }

    /// A key of the controller's own, such as `leader`.
    pub(crate) async fn control_key(&self, name: &str) -> anyhow::Result<Option<(String, i64)>> {
        let key = format!("{}/default/{name}", self.place.control_prefix);
        let answer = self.servers.etcd.client().await?.get(key, None).await.context("reading a control key")?;
        answer.kvs().first().map(|kv| Ok((kv.value_str()?.to_owned(), kv.create_revision()))).transpose()
    }

    /// Waits until one of the last log lines has `text` in it.
    pub(crate) async fn logs(&self, text: &str) -> anyhow::Result<()> {
        self.until(&format!("the log to say {text:?}"), async || {
            ensure!(self.controller.log().contains(text), "it does not");
            Ok(())
        })
        .await
    }
}

/// That at every revision of a history, from an empty prefix on, each stream_route of ours named an upstream that was there.
pub(crate) fn no_slot_without_pool(history: &[Written]) -> anyhow::Result<()> {
    let mut held: BTreeMap<&str, &str> = BTreeMap::new();
    for (n, written) in history.iter().enumerate() {
        match &written.value {
            Some(text) => held.insert(&written.key, text),
            None => held.remove(written.key.as_str()),
        };
        if history.get(n + 1).is_some_and(|next| next.revision == written.revision) {
            continue;
        }
        for (key, text) in held.iter().filter(|(key, _)| key.starts_with("/stream_routes/gateway-api.")) {
            let slot: Value = serde_json::from_str(text).with_context(|| format!("{key} is no JSON"))?;
            let pool = format!("/upstreams/{}", slot["upstream_id"].as_str().context("a slot names its pool")?);
            ensure!(held.contains_key(pool.as_str()), "at revision {} {key} names {pool}", written.revision);
        }
    }
    Ok(())
}

/// That every document of ours that was ever put was a whole one.
pub(crate) fn only_whole_documents(history: &[Written]) -> anyhow::Result<()> {
    for Written { key, revision, value: text } in history {
        let Some(text) = text.as_deref().filter(|_| key.contains("/gateway-api.")) else { continue };
        let held = Held { value: text.to_owned(), mod_revision: *revision, version: 1 };
        let document = value(&held)?;
        ensure!(document["desc"].is_string() && document["id"].is_string(), "{key} at {revision}: {text}");
    }
    Ok(())
}
