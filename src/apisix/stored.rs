//! Reading documents back from etcd: whose they are, whether they are as written, and what they name.

use super::{
    routing::{self, Reach, Routing},
    seal::{self, SealHash},
};
use crate::model::places::{Directory, WorkId};
use std::sync::Arc;

/// What can be told of a stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Who wrote it, if its seal is whole.
    pub seal: Seal,
    /// A hash of the whole value.
    pub hash: ValueHash,
    /// Of a broken seal: the hash that can still be read in it, which is that of the document before somebody edited it.
    pub sealed_as: Option<SealHash>,
    /// The upstream a stream_route names by `upstream_id`, whoever wrote it.
    pub pool: Option<WorkId>,
    /// The certificate a stream_route needs, as its `desc` says. Of documents with an intact seal only: what somebody else
    /// writes into a `desc` means nothing.
    pub certificate: Option<WorkId>,
    /// The slots whose connections a stream_route can take, whoever wrote it.
    pub reach: Reach,
}

impl Inspected {
    /// What a stream_route needs beside itself: its pool and its certificate.
    pub fn needs(&self) -> impl Iterator<Item = &WorkId> {
        self.pool.iter().chain(&self.certificate)
    }
}

/// The state of a stored value's seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The value is as the controller instance of this name wrote it.
    Intact {
        /// The instance.
        instance: Arc<str>,
    },
    /// There is no seal, or the value was changed after it was sealed.
    Broken,
}

/// A hash of a whole value, to compare a wanted document with a stored one without holding either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueHash([u8; 16]);

impl ValueHash {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hash = [0; 16];
        blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut hash);
        Self(hash)
    }
}

/// Looks at the value stored at `key`, which is the full key of `id`.
#[must_use]
pub fn inspect(id: &WorkId, key: &str, value: &[u8]) -> Inspected {
    let (seal, sealed_as) = match seal::verify(key, value) {
        Some(instance) => (Seal::Intact { instance }, None),
        None => (Seal::Broken, seal::sealed_hash(value)),
    };
    let Routing { pool, reach } = match id.directory {
        Directory::StreamRoutes => routing::read(id.plane, value),
        Directory::Upstreams | Directory::Ssls => Routing::default(),
    };
    let certificate = match (&seal, id.directory) {
        (Seal::Intact { instance: _ }, Directory::StreamRoutes) => seal::certificate(id.plane, value),
        (Seal::Intact { instance: _ }, Directory::Upstreams | Directory::Ssls) | (Seal::Broken, _) => None,
    };
    Inspected { seal, hash: ValueHash::of(value), sealed_as, pool, certificate, reach }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{
            documents::{self, To},
            ids,
        },
        model::{
            names::{Kind, ObjectName},
            places::{Plane, Port, ServerName, Slot},
        },
    };

    #[test]
    fn a_document_of_ours_is_recognised_and_an_edited_one_is_not() {
        let port = Port::new(9100).unwrap();
        let (slot, pool) = (
            ids::port_slot(Plane::default(), port),
            ids::pool(Plane::default(), "blue", Kind::TcpRoute, &ObjectName::new("a", "b")),
        );
        let key = slot.key();
        let sealing = "blue";
        let value = documents::stream_route(
            sealing,
            &slot,
            &Slot::of_port(port),
            To { pool: &pool, certificate: None, split: None, passthrough: false },
            "TCPRoute a/b",
        )
        .unwrap();

        let found = inspect(&slot, &key, value.as_bytes());
        assert_eq!(found.seal, Seal::Intact { instance: "blue".into() });
        assert_eq!((found.sealed_as, found.pool, found.reach), (None, Some(pool.clone()), Reach::Port(port)));

        let edited = value.replace("9100,", "9101,");
        assert_ne!(edited, value);
        let found = inspect(&slot, &key, edited.as_bytes());
        assert_eq!((found.seal, found.pool), (Seal::Broken, Some(pool)));
        assert!(found.sealed_as.is_some() && found.sealed_as == seal::sealed_hash(value.as_bytes()));
        assert_eq!(found.reach, Reach::Port(Port::new(9101).unwrap()));
    }

    #[test]
    fn the_certificate_a_slot_needs_is_read_back_and_an_edited_one_names_none() {
        let slot = Slot { port: Port::new(9443).unwrap(), name: ServerName::of("a.example") };
        let (id, pool) = (
            ids::slot(Plane::default(), &slot),
            ids::pool(Plane::default(), "blue", Kind::TcpRoute, &ObjectName::new("a", "b")),
        );
        let certificate = WorkId::new(Plane::default(), Directory::Ssls, &format!("gateway-api.{}", "c".repeat(26)));
        let sealing = "blue";
        let to = To { pool: &pool, certificate: Some(&certificate), split: None, passthrough: false };
        let value = documents::stream_route(sealing, &id, &slot, to, "TLSRoute a/b").unwrap();

        let found = inspect(&id, &id.key(), value.as_bytes());
        assert_eq!(found.needs().collect::<Vec<_>>(), [&pool, &certificate]);
        let edited = inspect(&id, &id.key(), value.replace("9443,", "9444,").as_bytes());
        assert_eq!((edited.seal, edited.certificate, edited.pool), (Seal::Broken, None, Some(pool)));
        // The seal covers the key: the same bytes elsewhere are somebody's copy.
        assert_eq!(inspect(&id, "/other", value.as_bytes()).certificate, None);
        let not_a_slot = WorkId::new(Plane::default(), Directory::Upstreams, &id.id);
        assert_eq!(inspect(&not_a_slot, &id.key(), value.as_bytes()).certificate, None);
    }

    #[test]
    fn values_that_are_no_documents_name_nothing() {
        for value in ["init_dir", "", "[]", "{\"upstream_id\": 7}"] {
            let found = inspect(&ids::port_slot(Plane::default(), Port::MIN), "/k", value.as_bytes());
            assert_eq!((found.seal, found.sealed_as, found.pool), (Seal::Broken, None, None), "{value}");
        }
    }
}
