//! `stream_route`, `upstream` and `ssl` documents: what goes into them, and their bytes.
//!
//! Equal inputs give equal bytes. Defaults are left out, because a data plane fills them in itself
//! (`apisix/schema_def.lua`), and nothing is written that the oldest supported version refuses.

use super::{
    check, routing, seal,
    wire::{
        EmptyUpstream, Plugins, SplitRule, Ssl, StreamRoute, TrafficSplit, Upstream, UpstreamNode, WeightedUpstream,
    },
};
use crate::model::{
    certificates::KeyPair,
    places::{Directory, Plane, ServerName, Slot, WorkId},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

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
    instance: &str,
    id: &WorkId,
    slot: &Slot,
    to: To<'_>,
    provenance: &str,
) -> Result<String, check::Refused> {
    let To { pool, certificate, split, passthrough } = to;
    let desc = match certificate {
        Some(certificate) => seal::unsealed_desc_needing(provenance, certificate, instance),
        None => seal::unsealed_desc(provenance, instance),
    };
    let taking = taking(id, slot, desc, passthrough);
    let document = StreamRoute { upstream_id: Some(&pool.id), plugins: split.map(plugins), ..taking };
    check::stream_route(&document)?;
    Ok(sealed(instance, id, &document))
}

/// Why a stream_route refuses the connections that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Their listener has no route for them, and a listener with a wider hostname would take them otherwise.
    NoRoute,
    /// Their listener has a route for them, and TLS would be ended with a certificate that is not its own.
    NotItsCertificate,
}

impl Closed {
    fn provenance(self) -> &'static str {
        match self {
            Self::NoRoute => "closed: its listener has no route for this name",
            Self::NotItsCertificate => "closed: its listener cannot have its certificate served for this name",
        }
    }
}

/// The value of the stream_route `id`, which refuses the connections of `slot`.
pub fn closing(
    instance: &str,
    id: &WorkId,
    slot: &Slot,
    why: Closed,
    passthrough: bool,
) -> Result<String, check::Refused> {
    let desc = seal::unsealed_desc(why.provenance(), instance);
    let empty = EmptyUpstream { r#type: "roundrobin", nodes: [] };
    let document = StreamRoute { upstream: Some(empty), ..taking(id, slot, desc, passthrough) };
    check::stream_route(&document)?;
    Ok(sealed(instance, id, &document))
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
    instance: &str,
    pool: &WorkId,
    scheme: Scheme,
    nodes: &[Node],
    provenance: &str,
) -> Result<String, check::Refused> {
    let document = Upstream {
        id: &pool.id,
        desc: seal::unsealed_desc(provenance, instance),
        r#type: "roundrobin",
        scheme: scheme.as_str(),
        retries: nodes.iter().any(|node| node.address == DEAD_NODE).then_some(0),
        nodes: nodes.iter().map(upstream_node).collect(),
    };
    check::upstream(&document)?;
    Ok(sealed(instance, pool, &document))
}

/// The value of the certificate `id`, which serves `name` with these pairs, in order of preference. Private keys are in it as they are; a data plane decrypts only what does not begin with
/// dashes (`apisix/ssl.lua`).
pub fn ssl(
    instance: &str,
    id: &WorkId,
    name: &ServerName,
    pairs: &[&KeyPair],
    provenance: &str,
) -> Result<String, check::Refused> {
    let Some((first, others)) = pairs.split_first() else { return Err(check::Refused::NoCertificate) };
    let document = Ssl {
        id: &id.id,
        desc: seal::unsealed_desc(provenance, instance),
        snis: [name.as_str()],
        cert: first.certificate(),
        key: key(first),
        certs: others.iter().map(|pair| pair.certificate()).collect(),
        keys: others.iter().copied().map(key).collect(),
    };
    check::ssl(&document)?;
    Ok(sealed(instance, id, &document))
}

/// A pair's key, with empty lines behind it where it is shorter than data planes before 3.17 take: an Ed25519 key is 119
/// bytes.
fn key(pair: &KeyPair) -> Cow<'_, str> {
    let key = pair.reveal_key();
    let missing = check::PEM_BYTES_MIN.saturating_sub(key.len());
    if missing == 0 { key.into() } else { (key.to_owned() + &"\n".repeat(missing)).into() }
}

/// What stands in the place of a private key where a document is shown.
const REDACTED: &str = "(redacted)";

/// A document to be shown to people: of a certificate the private keys are left out, and everything if it cannot be read.
/// Still JSON if it was.
#[must_use]
pub fn shown<'a>(id: &WorkId, value: &'a [u8]) -> Cow<'a, [u8]> {
    match id.directory {
        Directory::Ssls if id.is_placeholder() => value.into(),
        Directory::Ssls => {
            let mut document: Value = serde_json::from_slice(value).unwrap_or(Value::Null);
            match document.as_object_mut() {
                Some(fields) => redact(fields),
                None => document = REDACTED.into(),
            }
            document.to_string().into_bytes().into()
        }
        Directory::Upstreams | Directory::StreamRoutes => value.into(),
    }
}

fn redact(fields: &mut Map<String, Value>) {
    if let Some(key) = fields.get_mut("key") {
        *key = REDACTED.into();
    }
    match fields.get_mut("keys") {
        Some(Value::Array(keys)) => keys.fill(REDACTED.into()),
        Some(keys) => *keys = REDACTED.into(),
        None => {}
    }
}

/// The bytes of a directory's placeholder: not JSON, as `apisix init_etcd` writes it (`apisix/cli/etcd.lua`).
pub const PLACEHOLDER: &[u8] = b"init_dir";

/// The upstream a stream_route of a data plane names by `upstream_id`.
#[must_use]
pub fn named_pool(plane: Plane, value: &[u8]) -> Option<WorkId> {
    routing::read(plane, value).pool
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

fn sealed(instance: &str, id: &WorkId, document: &impl Serialize) -> String {
    let value = serde_json::to_string(document).expect("these types have no map with keys that are not strings");
    seal::complete(&id.key(), value, instance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{ids, stored},
        model::{
            certificates::Validity,
            names::{Kind, ObjectName},
            opaque::Opaque,
            places::Plane,
        },
    };
    use serde_json::json;

    const INSTANCE: &str = "default";

    fn ids() -> (WorkId, WorkId, Slot) {
        let slot = Slot::of_port(9100.try_into().unwrap());
        (
            ids::slot(Plane::default(), &slot),
            ids::pool(Plane::default(), "default", Kind::TcpRoute, &ObjectName::new("default", "tcp-app")),
            slot,
        )
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
            INSTANCE,
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
        assert_eq!(named_pool(Plane::default(), value.as_bytes()), Some(pool));
    }

    #[test]
    fn a_split_puts_an_inline_empty_upstream_beside_the_pool() {
        let (id, pool, slot) = ids();
        let value = stream_route(
            INSTANCE,
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
        let value = upstream(INSTANCE, &pool, Scheme::Udp, &nodes, "").unwrap();
        assert_eq!(
            without_desc(&value),
            json!({"id": &*pool.id, "type": "roundrobin", "scheme": "udp", "nodes": [
                {"host": "10.0.0.1", "port": 80, "weight": 1}, {"host": "[fd00::1]", "port": 80, "weight": 1}]})
        );
        assert_eq!(super::nodes(value.as_bytes()), nodes);
        assert_eq!(super::nodes(b"no document"), []);
    }

    fn key_pair(letter: &str, key_bytes: usize) -> KeyPair {
        let certificate = format!("-----BEGIN CERTIFICATE-----\n{}\n", letter.repeat(200));
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n", letter.to_lowercase().repeat(key_bytes - 29));
        KeyPair::new(&certificate, &key, Validity { not_before: 0, not_after: 0 })
    }

    fn certificate_of(name: &str, pairs: &[&KeyPair]) -> Result<(WorkId, String), check::Refused> {
        let name = ServerName::of(name).unwrap();
        let id = ids::certificate(Plane::default(), &name);
        let value = ssl(INSTANCE, &id, &name, pairs, "Gateway default/gateway, listener tls")?;
        Ok((id, value))
    }

    #[test]
    fn a_certificate_serves_its_name_and_its_first_pair_stands_before_the_others() {
        let [a, b, c] = ["A", "B", "C"].map(|letter| key_pair(letter, 200));
        let (id, value) = certificate_of("*.Example.com.", &[&a]).unwrap();
        let one = json!({
            "id": &*id.id, "snis": ["*.example.com"], "cert": a.certificate(), "key": a.reveal_key(),
        });
        assert_eq!(without_desc(&value), one);
        let found = stored::inspect(&id, &id.key(), value.as_bytes());
        assert_eq!(found.seal, stored::Seal::Intact { instance: "default".into() });

        let (id, value) = certificate_of("*.example.com", &[&b, &a, &c]).unwrap();
        let several = json!({
            "id": &*id.id, "snis": ["*.example.com"], "cert": b.certificate(), "key": b.reveal_key(),
            "certs": [a.certificate(), c.certificate()], "keys": [a.reveal_key(), c.reveal_key()],
        });
        assert_eq!(without_desc(&value), several);
        assert_eq!(certificate_of("*.example.com", &[]), Err(check::Refused::NoCertificate));
    }

    #[test]
    fn a_short_key_is_filled_up_with_empty_lines_to_what_older_data_planes_take() {
        for (bytes, n_lines) in [(119, 9), (127, 1), (128, 0), (129, 0)] {
            let pair = key_pair("A", bytes);
            let document = without_desc(&certificate_of("a.example.com", &[&pair]).unwrap().1);
            assert_eq!(document["key"], pair.reveal_key().to_owned() + &"\n".repeat(n_lines), "{bytes}");
        }
    }

    #[test]
    fn pairs_that_a_data_plane_would_refuse_are_refused_without_being_shown() {
        let good = key_pair("A", 200);
        let with =
            |certificate: &str, key: &str| KeyPair::new(certificate, key, Validity { not_before: 0, not_after: 0 });
        let long = format!("-----{}", "s".repeat(65_532));
        for (bad, field) in [
            (with("short", good.reveal_key()), "cert"),
            (with(&long, good.reveal_key()), "cert"),
            (with(good.certificate(), &long), "key"),
            (with(good.certificate(), &"s".repeat(200)), "key"),
        ] {
            for (pairs, field) in [(vec![&bad], field.to_owned()), (vec![&good, &bad], format!("{field}s"))] {
                let refused = certificate_of("a.example.com", &pairs).unwrap_err();
                let said = format!("{refused} {refused:?}");
                assert!(said.starts_with(&format!("{field} ")) && !said.contains("sss"), "{said}");
            }
        }
    }

    #[test]
    fn a_certificate_that_is_shown_has_no_private_key() {
        let pairs = ["A", "B", "C"].map(|letter| key_pair(letter, 200));
        let (id, value) = certificate_of("a.example.com", &pairs.each_ref()).unwrap();
        let text = String::from_utf8(shown(&id, value.as_bytes()).into_owned()).unwrap();
        let document = without_desc(&text);
        assert_eq!((&document["key"], &document["keys"]), (&json!("(redacted)"), &json!(["(redacted)", "(redacted)"])));
        assert_eq!(document["cert"], pairs[0].certificate());
        let texts = [text, format!("{pairs:?} {pairs:#?} {:?}", Opaque(value.as_bytes()))];
        for letter in ["a", "b", "c"] {
            assert!(texts.iter().all(|text| !text.contains(&letter.repeat(40))), "{texts:?}");
        }
        // What somebody else put there, and what is no document at all.
        for foreign in [r#"{"key": ["s3cret"], "keys": "s3cret"}"#, r#"["s3cret"]"#, "s3cret"] {
            let text = String::from_utf8(shown(&id, foreign.as_bytes()).into_owned()).unwrap();
            assert!(!text.contains("s3cret") && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        }
        let (slot, ..) = ids();
        assert_eq!(&*shown(&slot, b"{ }"), b"{ }");
    }

    #[test]
    fn a_dead_node_turns_retries_off() {
        let (_, pool, _) = ids();
        let value = upstream(INSTANCE, &pool, Scheme::Tcp, &[Node { address: DEAD_NODE, weight: 1 }], "").unwrap();
        assert_eq!(without_desc(&value)["retries"], json!(0));
    }
}
