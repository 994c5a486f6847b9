//! Ids of the documents this controller writes.
//!
//! A slot's id is made from the slot alone, so that two routes can never overlap in etcd: they meet at one key, and etcd's
//! compare decides. A pool's id is made from its route, so that backends change without touching a slot.

use crate::model::{
    names::{Kind, ObjectName},
    places::{Directory, Port, WorkId},
};

/// How every id of ours begins. Other ids in our directories are foreign: never written, never deleted.
const SHAPE: &str = "gateway-api.";

/// Letters that spell 128 bits in base 32.
pub(super) const HASH_LETTERS: usize = 26;

/// Whether `id` is one that this controller, or another instance of it, could have written.
#[must_use]
pub fn is_our_shape(id: &str) -> bool {
    id.starts_with(SHAPE)
}

/// The stream_route of a port without server names.
#[must_use]
pub fn slot(port: Port) -> WorkId {
    WorkId::new(Directory::StreamRoutes, &format!("{SHAPE}{port}"))
}

/// The port of a slot's id; `None` for any other id.
#[must_use]
pub fn slot_port(id: &WorkId) -> Option<Port> {
    match id.directory {
        Directory::StreamRoutes => {
            let port: Port = id.id.strip_prefix(SHAPE)?.parse().ok()?;
            // "09100" and "+9100" parse too, but are not how we spell it.
            (slot(port) == *id).then_some(port)
        }
        Directory::Upstreams => None,
    }
}

/// The upstream of a route written by `instance`.
///
/// The last field of what is hashed says that connections reach the pool as the client sent them, not after TLS was
/// terminated for them; those will be pools of their own.
#[must_use]
pub fn pool(instance: &str, kind: Kind, route: &ObjectName) -> WorkId {
    let hash = hash_letters(&[
        instance.as_bytes(),
        kind.as_str().as_bytes(),
        route.namespace.as_bytes(),
        route.name.as_bytes(),
        b"as sent",
    ]);
    WorkId::new(Directory::Upstreams, &format!("{SHAPE}{hash}"))
}

/// The first 128 bits of the hash of `fields`, told apart by their lengths, in lower-case base 32: 26 letters.
pub(super) fn hash_letters(fields: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut bits = [0_u8; 16];
    hasher.finalize_xof().fill(&mut bits);
    let mut letters = data_encoding::BASE32_NOPAD.encode(&bits);
    letters.make_ascii_lowercase();
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_named_by_its_port_and_read_back_from_its_name() {
        let port = Port::new(9100).unwrap();
        assert_eq!(&*slot(port).id, "gateway-api.9100");
        assert_eq!(slot_port(&slot(port)), Some(port));
    }

    #[test]
    fn other_spellings_of_a_port_are_not_slots() {
        for id in
            ["gateway-api.09100", "gateway-api.+9100", "gateway-api.0", "gateway-api.70000", "gateway-api.", "9100"]
        {
            assert_eq!(slot_port(&WorkId::new(Directory::StreamRoutes, id)), None, "{id}");
        }
        assert_eq!(slot_port(&WorkId::new(Directory::Upstreams, "gateway-api.9100")), None);
    }

    #[test]
    fn pools_differ_by_instance_and_route_and_fit_apisix_ids() {
        let of = |instance: &str, namespace: &str, name: &str| {
            pool(instance, Kind::TcpRoute, &ObjectName::new(namespace, name))
        };
        let ids = [of("a", "b", "c"), of("a", "bc", ""), of("ab", "", "c"), of("a", "b", "d")];
        for (index, id) in ids.iter().enumerate() {
            assert!(ids.iter().skip(index + 1).all(|other| other != id));
            assert_eq!(id.id.len(), SHAPE.len() + HASH_LETTERS);
            assert!(id.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }
}
