//! Ids of the documents this controller writes.
//!
//! A slot's id is made from the slot alone, so that two routes can never overlap in etcd: they meet at one key, and etcd's
//! compare decides. A pool's id is made from its route, so that backends change without touching a slot.

use crate::model::{
    names::{Kind, ObjectName},
    places::{Directory, Plane, Port, ServerName, Slot, WorkId},
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

/// A server name's place in the ids of slots: a hash, because names are longer than ids may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameHash([u8; HASH_BYTES]);

impl NameHash {
    /// Of a server name as it stands in a document; of ours, `ServerName::as_str`.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self(hash(&[name.as_bytes()]))
    }
}

/// What the id of a slot says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SlotPlace {
    /// Of this port, without server names.
    Port(Port),
    /// Of this port and server name.
    Name(Port, NameHash),
}

impl SlotPlace {
    /// The port.
    #[must_use]
    pub fn port(self) -> Port {
        match self {
            Self::Port(port) | Self::Name(port, _) => port,
        }
    }

    /// Whether it is of a server name.
    #[must_use]
    pub fn is_of_a_name(self) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Name(..) => true,
        }
    }

    /// The stream_route there, on one data plane.
    #[must_use]
    pub fn id(self, plane: Plane) -> WorkId {
        let id = match self {
            Self::Port(port) => format!("{SHAPE}{port}"),
            Self::Name(port, NameHash(hash)) => format!("{SHAPE}{port}.{}", letters(hash)),
        };
        WorkId::new(plane, Directory::StreamRoutes, &id)
    }

    /// The place that an id names; `None` for an id of anything else.
    #[must_use]
    pub fn of(id: &WorkId) -> Option<Self> {
        match id.directory {
            Directory::StreamRoutes => {}
            Directory::Upstreams | Directory::Ssls => return None,
        }
        let text = id.id.strip_prefix(SHAPE)?;
        let place = match text.split_once('.') {
            None => Self::Port(text.parse().ok()?),
            Some((port, name)) => {
                let hash = data_encoding::BASE32_NOPAD.decode(name.to_ascii_uppercase().as_bytes()).ok()?;
                Self::Name(port.parse().ok()?, NameHash(hash.try_into().ok()?))
            }
        };
        // "09100" and "+9100" parse too, but are not how we spell it.
        (place.id(id.plane) == *id).then_some(place)
    }
}

impl From<&Slot> for SlotPlace {
    fn from(Slot { port, name }: &Slot) -> Self {
        match name {
            None => Self::Port(*port),
            Some(name) => Self::Name(*port, NameHash::of(name.as_str())),
        }
    }
}

/// The stream_route of a slot of a data plane.
#[must_use]
pub fn slot(plane: Plane, slot: &Slot) -> WorkId {
    SlotPlace::from(slot).id(plane)
}

/// The stream_route of a port without server names.
#[must_use]
pub fn port_slot(plane: Plane, port: Port) -> WorkId {
    SlotPlace::Port(port).id(plane)
}

/// The upstream of a route on a data plane, written by `instance`.
///
/// The last field of what is hashed says that connections reach the pool as the client sent them, not after TLS was
/// terminated for them.
#[must_use]
pub fn pool(plane: Plane, instance: &str, kind: Kind, route: &ObjectName) -> WorkId {
    let hash = hash_letters(&[
        instance.as_bytes(),
        kind.as_str().as_bytes(),
        route.namespace.as_bytes(),
        route.name.as_bytes(),
        b"as sent",
    ]);
    WorkId::new(plane, Directory::Upstreams, &format!("{SHAPE}{hash}"))
}

/// The certificate of a server name: one for each name, whoever asks for it, for it is found by the name alone.
#[must_use]
pub fn certificate(plane: Plane, name: &ServerName) -> WorkId {
    let NameHash(hash) = NameHash::of(name.as_str());
    WorkId::new(plane, Directory::Ssls, &format!("{SHAPE}{}", letters(hash)))
}

const HASH_BYTES: usize = 16;

/// The hash of `fields` in lower-case base 32: 26 letters.
pub(super) fn hash_letters(fields: &[&[u8]]) -> String {
    letters(hash(fields))
}

fn letters(hash: [u8; HASH_BYTES]) -> String {
    let mut letters = data_encoding::BASE32_NOPAD.encode(&hash);
    letters.make_ascii_lowercase();
    letters
}

/// The first 128 bits of the hash of `fields`, told apart by their lengths.
fn hash(fields: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut bits = [0; HASH_BYTES];
    hasher.finalize_xof().fill(&mut bits);
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_named_by_its_port_and_server_name_and_read_back_from_its_id() {
        let port = Port::new(9100).unwrap();
        assert_eq!(&*port_slot(Plane::default(), port).id, "gateway-api.9100");
        assert_eq!(SlotPlace::of(&port_slot(Plane::default(), port)), Some(SlotPlace::Port(port)));
        let named = |name| slot(Plane::default(), &Slot { port, name: ServerName::of(name) });
        let place = SlotPlace::of(&named("*.example.com"));
        assert_eq!(place, Some(SlotPlace::Name(port, NameHash::of("*.example.com"))));
        assert!(named("a.example.com") != named("*.example.com") && named("a.example.com").id.len() <= 64);
    }

    #[test]
    fn other_spellings_are_not_slots() {
        let name = hash_letters(&[b"a.example"]);
        let upper = format!("gateway-api.9100.{}", name.to_ascii_uppercase());
        let more = format!("gateway-api.9100.{name}.x");
        for id in [
            "gateway-api.09100",
            "gateway-api.+9100",
            "gateway-api.0",
            "gateway-api.70000",
            "gateway-api.",
            "9100",
            "gateway-api.9100.",
            "gateway-api.9100.abc",
            &upper,
            &more,
        ] {
            assert_eq!(SlotPlace::of(&WorkId::new(Plane::default(), Directory::StreamRoutes, id)), None, "{id}");
        }
        assert_eq!(SlotPlace::of(&WorkId::new(Plane::default(), Directory::Upstreams, "gateway-api.9100")), None);
    }

    #[test]
    fn a_certificate_is_named_by_its_server_name_alone() {
        let of = |name| certificate(Plane::default(), &ServerName::of(name).unwrap());
        assert_eq!(of("A.example.com."), of("a.example.com"));
        assert_ne!(of("*.example.com"), of("example.com"));
        let WorkId { plane: _, directory, id } = of("*.example.com");
        assert_eq!((directory, id.len()), (Directory::Ssls, SHAPE.len() + HASH_LETTERS));
        assert!(is_our_shape(&id) && SlotPlace::of(&of("a.example.com")).is_none());
    }

    #[test]
    fn pools_differ_by_instance_and_route_and_fit_apisix_ids() {
        let of = |instance: &str, namespace: &str, name: &str| {
            pool(Plane::default(), instance, Kind::TcpRoute, &ObjectName::new(namespace, name))
        };
        let ids = [of("a", "b", "c"), of("a", "bc", ""), of("ab", "", "c"), of("a", "b", "d")];
        for (index, id) in ids.iter().enumerate() {
            assert!(ids.iter().skip(index + 1).all(|other| other != id));
            assert_eq!(id.id.len(), SHAPE.len() + HASH_LETTERS);
            assert!(id.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }
}
