//! One test's part of the servers, with a controller of its own.
//!
//! In: manifests, and what is expected of etcd, of statuses and of metrics. Out: what was found, once it is as expected, or an
//! error that says what was there instead and shows the end of the controller's log.

use super::{
    claims::{entry, listener, says},
    documents::{Documents, slot_key},
    objects::{gateway, route, service},
    support::{
        controller::Controller,
        etcd::Written,
        kubernetes::Named,
        servers::{Place, Servers, shared},
        wait::PATIENCE,
    },
};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::collections::BTreeSet;

/// The version of GatewayClass, Gateway and routes.
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// Ports for fences begin here; tests use smaller ones.
const FENCE_PORT: u16 = 9900;

/// A test's place in a Kubernetes and an etcd, and its controller.
pub(crate) struct Scene {
    /// The servers.
    pub(crate) servers: Servers,
    /// Its names in them.
    pub(crate) place: Place,
    /// Its controller.
    pub(crate) controller: Controller,
    fences: u16,
}

impl Scene {
    /// A controller started on a new place in the servers that all tests share.
    pub(crate) async fn open(hint: &str) -> anyhow::Result<Self> {
        let servers = shared().await?;
        let place = servers.place(hint).await?;
        Self::start(servers, place, &[])
    }

    /// A controller started on `place`, with more arguments.
    pub(crate) fn start(servers: Servers, place: Place, more: &[&str]) -> anyhow::Result<Self> {
        let controller = servers.controller(&place, more)?;
        Ok(Self::of(servers, place, controller))
    }

    /// A controller that was started on `place` in a way of its own.
    pub(crate) fn of(servers: Servers, place: Place, controller: Controller) -> Self {
        Self { servers, place, controller, fences: 0 }
    }

    /// Its namespace and a name in it, as messages and documents have it.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.place.namespace)
    }

    /// [`Controller::wait_until`], for as long as a healthy machine may need.
    pub(crate) async fn until<T>(&self, what: &str, look: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.controller.wait_until(what, PATIENCE, look).await
    }

    // Kubernetes

    /// Applies manifests, with this scene's names in them.
    pub(crate) async fn apply(&self, manifests: impl AsRef<str>) -> anyhow::Result<()> {
        let Place { namespace, gateway_class, controller_name, .. } = &self.place;
        let manifests = manifests
            .as_ref()
            .replace("$NS", namespace)
            .replace("$CLASS", gateway_class)
            .replace("$CONTROLLER", controller_name);
        self.servers.kubernetes.apply(&manifests).await
    }

    /// The name of a Gateway or of a route in its namespace, or of its GatewayClass.
    pub(crate) fn object<'a>(&'a self, kind: &'a str, name: &'a str) -> Named<'a> {
        let namespace = if kind == "GatewayClass" { "" } else { self.place.namespace.as_str() };
        let api_version = match kind {
            "Service" | "Secret" => "v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            _ => GATEWAY_API,
        };
        Named { api_version, kind, namespace, name }
    }

    /// An object that is there.
    pub(crate) async fn get(&self, named: &Named<'_>) -> anyhow::Result<Value> {
        self.servers.kubernetes.get(named).await?.with_context(|| format!("{named:?} is not there"))
    }

    /// Deletes an object of its namespace.
    pub(crate) async fn delete(&self, kind: &str, name: &str) -> anyhow::Result<()> {
        self.servers.kubernetes.delete(&self.object(kind, name)).await
    }

    /// Deletes the GatewayClass under its Gateways, which its finalizer is there to prevent.
    pub(crate) async fn delete_class_by_force(&self) -> anyhow::Result<()> {
        self.servers.kubernetes.delete_by_force(&self.object("GatewayClass", &self.place.gateway_class)).await
    }

    /// Waits until the GatewayClass says `claims`; the class.
    pub(crate) async fn class_says(&self, claims: &[(&str, &str)]) -> anyhow::Result<Value> {
        let named = self.object("GatewayClass", &self.place.gateway_class);
        self.until(&format!("the GatewayClass to say {claims:?}"), async || {
            let class = self.get(&named).await?;
            says(&class, &class["status"], claims)?;
            Ok(class)
        })
        .await
    }

    /// Waits until a Gateway says `claims`, and of its listeners how many routes each has; the Gateway.
    pub(crate) async fn gateway_says(
        &self,
        name: &str,
        claims: &[(&str, &str)],
        attached: &[(&str, u64)],
    ) -> anyhow::Result<Value> {
        let named = self.object("Gateway", name);
        self.until(&format!("Gateway {name} to say {claims:?}, {attached:?}"), async || {
            let gateway = self.get(&named).await?;
            says(&gateway, &gateway["status"], claims)?;
            for (name, attached) in attached {
                let found = listener(&gateway, name)?;
                ensure!(found["attachedRoutes"] == *attached, "{found}");
            }
            Ok(gateway)
        })
        .await
    }

    /// Waits until a TCPRoute says `claims` in our entry for a listener; the entry.
    pub(crate) async fn route_says(
        &self,
        name: &str,
        listener: &str,
        claims: &[(&str, &str)],
    ) -> anyhow::Result<Value> {
        self.route_at_says(&self.object("TCPRoute", name), listener, claims).await
    }

    /// [`Scene::route_says`] of a route anywhere, of any kind and version.
    pub(crate) async fn route_at_says(
        &self,
        named: &Named<'_>,
        listener: &str,
        claims: &[(&str, &str)],
    ) -> anyhow::Result<Value> {
        self.until(&format!("{} {} to say {claims:?} at {listener}", named.kind, named.name), async || {
            let route = self.get(named).await?;
            let entry = entry(&route, &self.place.controller_name, listener)?;
            says(&route, entry, claims)?;
            Ok(entry.clone())
        })
        .await
    }

    // etcd

    /// What its prefix holds now.
    pub(crate) async fn documents(&self) -> anyhow::Result<Documents> {
        let prefix = &self.place.etcd_prefix;
        let held = self.servers.etcd.under(&format!("{prefix}/")).await?;
        let without = |key: &str| key.strip_prefix(prefix).map(str::to_owned).context("keys begin with the prefix");
        Ok(Documents(held.into_iter().map(|(key, held)| Ok((without(&key)?, held))).collect::<anyhow::Result<_>>()?))
    }

    /// Waits until a port leads to a TCPRoute of its namespace, with these nodes and weights; all documents then.
    pub(crate) async fn served(&self, port: u16, route: &str, nodes: &[(&str, u64)]) -> anyhow::Result<Documents> {
        self.served_by(port, ("TCPRoute", route), nodes).await
    }

    /// [`Scene::served`] of a route of any kind.
    pub(crate) async fn served_by(
        &self,
        port: u16,
        (kind, route): (&str, &str),
        nodes: &[(&str, u64)],
    ) -> anyhow::Result<Documents> {
        let route = format!("{kind} {}", self.named(route));
        self.until(&format!("port {port} to lead to {route}, {nodes:?}"), async || {
            let documents = self.documents().await?;
            documents.serve(port, &route, nodes)?;
            Ok(documents)
        })
        .await
    }

    /// Waits until none of our documents is left.
    pub(crate) async fn emptied(&self) -> anyhow::Result<Documents> {
        self.until("our documents to go", async || {
            let documents = self.documents().await?;
            ensure!(documents.of_our_shape().is_empty(), "{:?}", documents.0.keys());
            Ok(documents)
        })
        .await
    }

    /// Writes behind the controller's back: a key without the prefix, and what to put there or `None` to delete it.
    pub(crate) async fn vandalise(&self, key: &str, value: Option<&str>) -> anyhow::Result<()> {
        let key = format!("{}{key}", self.place.etcd_prefix);
        let mut client = self.servers.etcd.client().await?;
        match value {
            Some(value) => client.put(key, value, None).await.map(drop),
            None => client.delete(key, None).await.map(drop),
        }
        .context("writing behind the controller's back")
    }

    /// etcd's revision now.
    pub(crate) async fn revision(&self) -> anyhow::Result<i64> {
        self.servers.etcd.revision().await
    }

    /// What was written under its prefix after `revision`, up to now. Keys are without the prefix.
    pub(crate) async fn history(&self, revision: i64) -> anyhow::Result<Vec<Written>> {
        let prefix = &self.place.etcd_prefix;
        // One up, so that the mark of the history's end is not in APISIX's prefix.
        let room = prefix.strip_suffix("apisix").context("a place's prefix ends in apisix")?;
        let mut history = self.servers.etcd.history(room, revision).await?;
        for written in &mut history {
            written.key = written.key.strip_prefix(prefix).context("keys begin with the prefix")?.to_owned();
        }
        Ok(history)
    }

    /// What was written after `revision` and before a later change of the cluster had come to its end: a Gateway with a route
    /// of its own, awaited in etcd and as status. What that change itself wrote is left out.
    pub(crate) async fn history_to_fence(&mut self, revision: i64) -> anyhow::Result<Vec<Written>> {
        let (port, name) = (FENCE_PORT + self.fences, format!("fence-{}", self.fences));
        self.fences += 1;
        let manifests = service(&name, &["10.9.9.9"])
            + &gateway(&name, &[("fence", port)])
            + &route(&name, (&name, "fence"), &[(&name, 1)]);
        self.apply(&manifests).await?;
        let documents = self.served(port, &name, &[("10.9.9.9:8080", 1)]).await?;
        self.route_says(&name, "fence", &[(super::claims::PROGRAMMED, "True/Programmed")]).await?;
        self.gateway_says(&name, &[("Programmed", "True/Programmed")], &[("fence", 1)]).await?;
        let of_fence = BTreeSet::from([slot_key(port), documents.pool_key(port)?]);
        let mut history = self.history(revision).await?;
        history.retain(|written| !of_fence.contains(&written.key));
        Ok(history)
    }

    // The controller

    /// Ends the controller as Kubernetes would; it ends well. Nothing can be waited for until [`Scene::start_again`].
    pub(crate) async fn stop(&self) -> anyhow::Result<()> {
        let process = self.controller.process();
        process.signal("TERM")?;
        let status = process.ended(PATIENCE).await?;
        ensure!(status == 0, "it ended with status {status}; its log:\n{}", process.log());
        Ok(())
    }

    /// A new controller in the place of the one that was stopped.
    pub(crate) fn start_again(self) -> anyhow::Result<Self> {
        let Self { servers, place, controller: _, fences } = self;
        Ok(Self { fences, ..Self::start(servers, place, &[])? })
    }

    /// The sum of the samples of a metric whose labels hold all of `labels`, such as `outcome="written"`. Case does not
    /// matter in them, and samples are whole numbers. `name` is without the prefix all metrics have.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> anyhow::Result<u64> {
        let answer = self.controller.ask("/metrics").await?;
        ensure!(answer.status == 200, "/metrics says {}: {}", answer.status, answer.body);
        let wanted: Vec<String> = labels.iter().map(|label| label.to_lowercase()).collect();
        let mut sum = 0;
        for line in answer.body.lines() {
            let Some((sample, value)) = line.rsplit_once(' ') else { continue };
            let (found, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let labels = labels.to_lowercase();
            if found.strip_prefix("apisix_etcd_controller_") == Some(name)
                && wanted.iter().all(|label| labels.contains(label))
            {
                sum += value.parse::<u64>().with_context(|| format!("{line} ends in a whole number"))?;
            }
        }
        Ok(sum)
    }

    /// Waits until [`Scene::metric`] is at least `least`.
    pub(crate) async fn counted(&self, name: &str, labels: &[&str], least: u64) -> anyhow::Result<()> {
        self.until(&format!("{name}{labels:?} to be {least} or more"), async || {
            let value = self.metric(name, labels).await?;
            ensure!(value >= least, "it is {value}");
            Ok(())
        })
        .await
    }
}

/// The keys of a history, in its order.
pub(crate) fn keys(history: &[Written]) -> Vec<&str> {
    history.iter().map(|written| written.key.as_str()).collect()
}
