//! The check in front of every document that this controller writes.
//!
//! What the types of `apisix::wire` cannot express wrongly (field names, JSON types, the port's lower bound) needs no
//! check. The bounds are those of `apisix/schema_def.lua`, in the strictest of the supported
//! versions.

use super::super::{
    ids,
    wire::{Ssl, StreamRoute, Upstream},
};
use crate::model::certificates::PEM_BYTES_MAX;

/// Why a data plane would refuse, misread or silently ignore a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `id_schema`: 1 to 64 of letters, digits, `-`, `_` and `.`.
    #[error("id {0:?} is not 1 to 64 letters, digits, '-', '_' or '.'")]
    Id(String),
    /// `desc` is longer than 256 bytes.
    #[error("desc is {0} bytes long, more than 256")]
    Desc(usize),
    /// A node without a port to connect to, or with the weight 0, which does not mean "no traffic" to APISIX.
    #[error("node {host} has port {port} and weight {weight}; both must be at least 1")]
    Node {
        /// The node's host.
        host: String,
        /// Its port.
        port: u16,
        /// Its weight.
        weight: u32,
    },
    /// Two nodes with one `host:port`: the last would overwrite the others.
    #[error("two nodes are {0}")]
    SameNode(String),
    /// A certificate document without a certificate.
    #[error("there is no certificate for it")]
    NoCertificate,
    /// A certificate or key of a size that the schema refuses.
    #[error("{field} is {bytes} bytes, not {PEM_BYTES_MIN} to {PEM_BYTES_MAX}")]
    PemSize {
        /// The document's field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A key that a data plane would take for one that it has to decrypt.
    #[error("{field} does not begin with dashes")]
    NotPlainKey {
        /// The document's field.
        field: &'static str,
    },
}

/// The least length of `cert`, and of `key` before 3.17, which asks for 64 only (`apisix/schema_def.lua`).
pub(in super::super) const PEM_BYTES_MIN: usize = 128;

const ID_BYTES_MAX: usize = 64;
const DESC_BYTES_MAX: usize = 256;

pub(in super::super) fn stream_route(document: &StreamRoute<'_>) -> Result<(), Refused> {
    check_id(document.id)?;
    document.upstream_id.map_or(Ok(()), check_id)?;
    check_desc(&document.desc)
}

pub(in super::super) fn upstream(document: &Upstream<'_>) -> Result<(), Refused> {
    check_id(document.id)?;
    check_desc(&document.desc)?;
    let mut seen = std::collections::BTreeSet::new();
    for node in &document.nodes {
        if node.port == 0 || node.weight == 0 {
            return Err(Refused::Node { host: node.host.clone(), port: node.port, weight: node.weight });
        }
        if !seen.insert((node.host.as_str(), node.port)) {
            return Err(Refused::SameNode(format!("{}:{}", node.host, node.port)));
        }
    }
    Ok(())
}

/// That each key is that of its certificate was found out when the Secret was read.
pub(in super::super) fn ssl(document: &Ssl<'_>) -> Result<(), Refused> {
    check_id(document.id)?;
    check_desc(&document.desc)?;
    let certificates = document.certs.iter().map(|cert| ("certs", *cert));
    for (field, text) in std::iter::once(("cert", document.cert)).chain(certificates) {
        check_pem_size(field, text)?;
    }
    let keys = document.keys.iter().map(|key| ("keys", &**key));
    for (field, text) in std::iter::once(("key", &*document.key)).chain(keys) {
        check_pem_size(field, text)?;
        if !text.starts_with("---") {
            return Err(Refused::NotPlainKey { field });
        }
    }
    Ok(())
}

fn check_pem_size(field: &'static str, text: &str) -> Result<(), Refused> {
    let bytes = text.len();
    if (PEM_BYTES_MIN..=PEM_BYTES_MAX).contains(&bytes) { Ok(()) } else { Err(Refused::PemSize { field, bytes }) }
}

fn check_id(id: &str) -> Result<(), Refused> {
    let letters = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if letters && (1..=ID_BYTES_MAX).contains(&id.len()) { Ok(()) } else { Err(Refused::Id(id.to_owned())) }
}

/// The 26 letters of the seal are not in `desc` yet when this looks; [`crate::apisix::seal`] has left room for them.
fn check_desc(desc: &str) -> Result<(), Refused> {
    let bytes = desc.len() + ids::HASH_LETTERS;
    if bytes <= DESC_BYTES_MAX { Ok(()) } else { Err(Refused::Desc(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::documents::{self, Node},
        model::places::{Directory, Plane, WorkId},
    };

    fn upstream_of(id: &str, instance: &str, nodes: &[(&str, u32)]) -> Result<String, Refused> {
        let nodes: Vec<Node> =
            nodes.iter().map(|(address, weight)| Node { address: address.parse().unwrap(), weight: *weight }).collect();
        let sealing = instance;
        documents::upstream(
            sealing,
            &WorkId::new(Plane::default(), Directory::Upstreams, id),
            documents::Scheme::Tcp,
            &nodes,
            "x",
        )
    }

    #[test]
    fn ids_are_held_to_the_schema_at_the_limit_and_past_it() {
        assert!(upstream_of(&"a".repeat(64), "i", &[]).is_ok());
        for id in [String::new(), "a".repeat(65), "a/b".to_owned(), "ä".to_owned()] {
            assert_eq!(upstream_of(&id, "i", &[]), Err(Refused::Id(id)));
        }
    }

    #[test]
    fn an_instance_name_too_long_for_desc_is_refused_not_cut() {
        assert!(matches!(upstream_of("a", &"i".repeat(300), &[]), Err(Refused::Desc(_))));
    }

    #[test]
    fn nodes_that_apisix_would_misread_are_refused() {
        assert!(matches!(upstream_of("a", "i", &[("10.0.0.1:0", 1)]), Err(Refused::Node { .. })));
        assert!(matches!(upstream_of("a", "i", &[("10.0.0.1:1", 0)]), Err(Refused::Node { .. })));
        assert!(matches!(upstream_of("a", "i", &[("10.0.0.1:1", 1), ("10.0.0.1:1", 2)]), Err(Refused::SameNode(_))));
        assert!(upstream_of("a", "i", &[("10.0.0.1:1", 1), ("10.0.0.1:2", 1)]).is_ok());
    }
}
