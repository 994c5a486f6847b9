//! `stream_route` and `upstream` documents: what goes into them, and their bytes.
//!
//! Equal inputs give equal bytes. Defaults are left out, because a data plane fills them in itself
//! (`apisix/schema_def.lua`), and nothing is written that the oldest supported version refuses.

use super::{
    check, routing, seal,
    wire::{EmptyUpstream, Plugins, SplitRule, StreamRoute, TrafficSplit, Upstream, UpstreamNode, WeightedUpstream},
};
use crate::model::places::{ServerName, Slot, WorkId};
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Whose document it is and where it stands; what every seal covers.
#[derive(Clone, Copy, Debug)]
pub struct Sealing<'a> {
    /// The prefix in etcd, without a trailing slash.
    pub prefix: &'a str,
    /// The controller instance.
    pub instance: &'a str,
}

/// One node of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// Address and port.
    pub address: SocketAddr,
    /// Weight, at least 1.
    pub weight: u32,
}

/// How much of a route's connections is refused on purpose, by a `traffic-split` beside its pool (APISIX 3.14 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// Weight of the empty upstream.
    pub refused: u32,
    /// Weight of the route's own pool.
    pub served: u32,
}

/// A node that refuses every connection: the share of bad backends where `traffic-split` cannot be had.
pub const DEAD_NODE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// Where a stream_route sends its connections, and how.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    /// The upstream.
    pub pool: &'a WorkId,
    /// The certificate that TLS is terminated with. That is for us alone to know, and stands in `desc`: a data plane finds
    /// certificates by the name that a client asks for.
    pub certificate: Option<&'a WorkId>,
    /// How many are refused.
    pub split: Option<Split>,
    /// Whether TLS is handed on as it comes (APISIX 3.19 and later).
    pub passthrough: bool,
}

/// The value of the stream_route `id`, which takes the connections of `slot`.
pub fn stream_route(
    sealing: Sealing<'_>,
    id: &WorkId,
    slot: &Slot,
    to: To<'_>,
    provenance: &str,
) -> Result<String, check::Refused> {
    let To { pool, certificate, split, passthrough } = to;
    let desc = match certificate {
        Some(certificate) => seal::unsealed_desc_needing(provenance, certificate, sealing.instance),
        None => seal::unsealed_desc(provenance, sealing.instance),
    };
    let taking = taking(id, slot, desc, passthrough);
    let document = StreamRoute { upstream_id: Some(&pool.id), plugins: split.map(plugins), ..taking };
    check::stream_route(&document)?;
    Ok(sealed(sealing, id, &document))
}

/// The value of the stream_route `id`, which refuses the connections of `slot`: those of a listener that has no route for
/// them, which a listener with a wider hostname would take otherwise.
pub fn closing(sealing: Sealing<'_>, id: &WorkId, slot: &Slot, passthrough: bool) -> Result<String, check::Refused> {
    let desc = seal::unsealed_desc("closed: its listener has no route for this name", sealing.instance);
    let empty = EmptyUpstream { r#type: "roundrobin", nodes: [] };
    let document = StreamRoute { upstream: Some(empty), ..taking(id, slot, desc, passthrough) };
    check::stream_route(&document)?;
    Ok(sealed(sealing, id, &document))
}

/// A stream_route that takes the connections of `slot`, and sends them nowhere yet.
fn taking<'a>(id: &'a WorkId, slot: &'a Slot, desc: String, passthrough: bool) -> StreamRoute<'a> {
    StreamRoute {
        id: &id.id,
        desc,
        server_port: slot.port.get(),
        sni: slot.name.as_ref().map(ServerName::as_str),
        tls_passthrough: passthrough.then_some(true),
        upstream: None,
        upstream_id: None,
        plugins: None,
    }
}

/// What reaches the nodes of an upstream. Which protocol a connection speaks follows from the listener; this says the same,
/// for people and for `apisix/schema_def.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// TCP, as the client sent it.
    Tcp,
    /// UDP.
    Udp,
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// The value of the upstream `pool` with these nodes.
///
/// A [`DEAD_NODE`] among them turns retries off: they would hand its share to the others.
pub fn upstream(
    sealing: Sealing<'_>,
    pool: &WorkId,
    scheme: Scheme,
    nodes: &[Node],
    provenance: &str,
) -> Result<String, check::Refused> {
    let document = Upstream {
        id: &pool.id,
        desc: seal::unsealed_desc(provenance, sealing.instance),
        r#type: "roundrobin",
        scheme: scheme.as_str(),
        retries: nodes.iter().any(|node| node.address == DEAD_NODE).then_some(0),
        nodes: nodes.iter().map(upstream_node).collect(),
    };
    check::upstream(&document)?;
    Ok(sealed(sealing, pool, &document))
}

/// The bytes of a directory's placeholder: not JSON, as `apisix init_etcd` writes it (`apisix/cli/etcd.lua`).
pub const PLACEHOLDER: &[u8] = b"init_dir";

/// The upstream a stored stream_route names by `upstream_id`.
#[must_use]
pub fn named_pool(value: &[u8]) -> Option<WorkId> {
    routing::read(value).pool
}

/// The nodes of an upstream, as far as they are of the form that [`upstream`] gives them.
#[must_use]
pub fn nodes(value: &[u8]) -> Vec<Node> {
    #[derive(serde::Deserialize)]
    struct Upstream {
        nodes: Vec<Stored>,
    }
    #[derive(serde::Deserialize)]
    struct Stored {
        host: String,
        port: u16,
        weight: u32,
    }
    let stored = serde_json::from_slice(value).map_or(Vec::new(), |Upstream { nodes }| nodes);
    let node = |Stored { host, port, weight }| Some(Node { address: format!("{host}:{port}").parse().ok()?, weight });
    stored.into_iter().filter_map(node).collect()
}

fn plugins(split: Split) -> Plugins {
    let empty = EmptyUpstream { r#type: "roundrobin", nodes: [] };
    Plugins {
        traffic_split: TrafficSplit {
            rules: [SplitRule {
                weighted_upstreams: [
                    WeightedUpstream { upstream: Some(empty), weight: split.refused },
                    WeightedUpstream { upstream: None, weight: split.served },
                ],
            }],
        },
    }
}

fn upstream_node(node: &Node) -> UpstreamNode {
    let host = match node.address.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    UpstreamNode { host, port: node.address.port(), weight: node.weight }
}

fn sealed(sealing: Sealing<'_>, id: &WorkId, document: &impl Serialize) -> String {
    let value = serde_json::to_string(document).expect("these types have no map with keys that are not strings");
    seal::complete(&id.key(sealing.prefix), value, sealing.instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::ids,
        model::names::{Kind, ObjectName},
    };
    use serde_json::{Value, json};

    const SEALING: Sealing<'static> = Sealing { prefix: "/apisix", instance: "default" };

    fn ids() -> (WorkId, WorkId, Slot) {
        let slot = Slot::of_port(9100.try_into().unwrap());
        (ids::slot(&slot), ids::pool("default", Kind::TcpRoute, &ObjectName::new("default", "tcp-app")), slot)
    }

    fn without_desc(value: &str) -> Value {
        let mut value: Value = serde_json::from_str(value).unwrap();
        assert!(value.as_object_mut().unwrap().remove("desc").is_some());
        value
    }

    #[test]
    fn a_stream_route_has_port_and_upstream_and_nothing_it_does_not_need() {
        let (id, pool, slot) = ids();
        let value = stream_route(
            SEALING,
            &id,
            &slot,
            To { pool: &pool, certificate: None, split: None, passthrough: false },
            "TCPRoute default/tcp-app",
        )
        .unwrap();
        assert_eq!(
            without_desc(&value),
            json!({"id": "gateway-api.9100", "server_port": 9100, "upstream_id": &*pool.id})
        );
        assert_eq!(named_pool(value.as_bytes()), Some(pool));
    }

    #[test]
    fn a_split_puts_an_inline_empty_upstream_beside_the_pool() {
        let (id, pool, slot) = ids();
        let value = stream_route(
            SEALING,
            &id,
            &slot,
            To { pool: &pool, certificate: None, split: Some(Split { refused: 3, served: 7 }), passthrough: false },
            "",
        )
        .unwrap();
        assert_eq!(
            without_desc(&value)["plugins"],
            json!({"traffic-split": {"rules": [{"weighted_upstreams": [
                {"upstream": {"type": "roundrobin", "nodes": []}, "weight": 3}, {"weight": 7}]}]}})
        );
    }

    #[test]
    fn nodes_are_an_array_with_ports_and_ipv6_in_brackets() {
        let (_, pool, _) = ids();
        let nodes =
            ["10.0.0.1:80", "[fd00::1]:80"].map(|address| Node { address: address.parse().unwrap(), weight: 1 });
        let value = upstream(SEALING, &pool, Scheme::Udp, &nodes, "").unwrap();
        assert_eq!(
            without_desc(&value),
            json!({"id": &*pool.id, "type": "roundrobin", "scheme": "udp", "nodes": [
                {"host": "10.0.0.1", "port": 80, "weight": 1}, {"host": "[fd00::1]", "port": 80, "weight": 1}]})
        );
        assert_eq!(super::nodes(value.as_bytes()), nodes);
        assert_eq!(super::nodes(b"no document"), []);
    }

    #[test]
    fn a_dead_node_turns_retries_off() {
        let (_, pool, _) = ids();
        let value = upstream(SEALING, &pool, Scheme::Tcp, &[Node { address: DEAD_NODE, weight: 1 }], "").unwrap();
        assert_eq!(without_desc(&value)["retries"], json!(0));
    }
}
