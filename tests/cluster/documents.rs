//! What etcd holds under one prefix, read as APISIX would.
//!
//! In: keys and values at one revision. Out: which upstream a port leads to, and its nodes. Keys are written without the
//! prefix, such as `/upstreams/mine`.

use super::support::etcd::Held;
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::collections::BTreeMap;

/// Keys without the prefix, and what they hold.
#[derive(Clone, Debug)]
pub(crate) struct Documents(pub(crate) BTreeMap<String, Held>);

/// The key of the stream_route of a port.
pub(crate) fn slot_key(port: u16) -> String {
    format!("/stream_routes/gateway-api.{port}")
}

impl Documents {
    /// What a key holds.
    pub(crate) fn at(&self, key: &str) -> anyhow::Result<&Held> {
        self.0.get(key).with_context(|| format!("nothing at {key}, only {:?}", self.0.keys()))
    }

    /// The stream_route of a port.
    pub(crate) fn slot(&self, port: u16) -> anyhow::Result<&Held> {
        self.at(&slot_key(port))
    }

    /// The key of the upstream that a port leads to.
    pub(crate) fn pool_key(&self, port: u16) -> anyhow::Result<String> {
        let slot = value(self.slot(port)?)?;
        Ok(format!("/upstreams/{}", slot["upstream_id"].as_str().context("a stream_route names its upstream")?))
    }

    /// The upstream that a port leads to.
    pub(crate) fn pool(&self, port: u16) -> anyhow::Result<&Held> {
        self.at(&self.pool_key(port)?)
    }

    /// That a port leads to the upstream of `route` (`KIND NAMESPACE/NAME`), with these nodes (`HOST:PORT`) and weights.
    pub(crate) fn serve(&self, port: u16, route: &str, nodes: &[(&str, u64)]) -> anyhow::Result<()> {
        let pool = value(self.pool(port)?)?;
        let mut found = Vec::new();
        for node in pool["nodes"].as_array().context("nodes are a list")? {
            let weight = node["weight"].as_u64().context("a node has a weight")?;
            found.push((format!("{}:{}", node["host"].as_str().context("a node has a host")?, node["port"]), weight));
        }
        let same = nodes.iter().map(|(node, weight)| ((*node).to_owned(), *weight)).eq(found.iter().cloned());
        let provenance = format!("{route} ");
        ensure!(
            same && pool["desc"].as_str().is_some_and(|desc| desc.starts_with(&provenance)),
            "port {port} leads to {pool}"
        );
        Ok(())
    }

    /// The keys of documents that a controller of ours may have written, directories' placeholders left out.
    pub(crate) fn of_our_shape(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|key| key.contains("/gateway-api.")).collect()
    }
}

/// A document's value.
pub(crate) fn value(held: &Held) -> anyhow::Result<Value> {
    serde_json::from_str(&held.value).with_context(|| format!("{} is no JSON", held.value))
}
