//! What a stored stream_route matches, and where it sends. A value in, [`Routing`] out, whoever wrote it.
//!
//! APISIX has no priority between stream_routes without server names: the first one that matches wins, in an order that
//! differs between its workers (`apisix/stream/router/ip_port.lua`). So no two that can match one connection may be there.
//! Those with server names are tried first, an exact name before a wildcard and the longer wildcard before the shorter, so that
//! only equal names meet. This says what may meet a slot of ours.

use super::ids::{NameHash, SlotPlace};
use crate::model::places::{Directory, Plane, Port, WorkId};
use serde_json::{Map, Value};

/// What a stored stream_route says of connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The upstream it names by `upstream_id`.
    pub pool: Option<WorkId>,
    /// The slots whose connections it can take.
    pub reach: Reach,
}

/// The slots whose connections a stream_route can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reach {
    /// Of none.
    #[default]
    Nothing,
    /// Of the slot on this port without server names.
    Port(Port),
    /// Of every slot without server names.
    EveryPort,
    /// Of the slot on this port with this server name.
    Name(Port, NameHash),
    /// Of every slot with this server name, whatever its port.
    NameOnEveryPort(NameHash),
}

impl Reach {
    /// All that take connections of the slot there.
    #[must_use]
    pub fn into(slot: SlotPlace) -> [Self; 2] {
        match slot {
            SlotPlace::Port(port) => [Self::Port(port), Self::EveryPort],
            SlotPlace::Name(port, name) => [Self::Name(port, name), Self::NameOnEveryPort(name)],
        }
    }

    /// The one slot whose connections it can take; `None` for none, or more.
    #[must_use]
    pub fn only(self) -> Option<SlotPlace> {
        match self {
            Self::Port(port) => Some(SlotPlace::Port(port)),
            Self::Name(port, name) => Some(SlotPlace::Name(port, name)),
            Self::Nothing | Self::EveryPort | Self::NameOnEveryPort(_) => None,
        }
    }
}

/// Reads the value of a stream_route of a data plane. What is no JSON object is none to a data plane either, and says nothing; what is not
/// Unicode is no hindrance to it.
#[must_use]
pub fn read(plane: Plane, value: &[u8]) -> Routing {
    let text = String::from_utf8_lossy(value);
    let Ok(document) = serde_json::from_str::<Map<String, Value>>(&text) else { return Routing::default() };
    let pool = document.get("upstream_id").and_then(Value::as_str);
    Routing { pool: pool.map(|id| WorkId::new(plane, Directory::Upstreams, id)), reach: reach(&document) }
}

/// `server_addr` and `remote_addr` are not looked at: they leave a part of the port's connections, and a slot takes them all.
fn reach(document: &Map<String, Value>) -> Reach {
    // The router passes over it: it serves connections that another stream_route has taken.
    let superior = document.get("protocol").and_then(|protocol| protocol.get("superior_id"));
    if superior.is_some() {
        return Reach::Nothing;
    }
    let port = match document.get("server_port") {
        None => None,
        // No data plane takes up anything else, or no connection has such a port.
        Some(port) => match whole_number(port).and_then(Port::new) {
            Some(port) => Some(port),
            None => return Reach::Nothing,
        },
    };
    match (names(document), port) {
        (Names::Any, Some(port)) => Reach::Port(port),
        (Names::Any, None) => Reach::EveryPort,
        (Names::One(name), Some(port)) => Reach::Name(port, name),
        (Names::One(name), None) => Reach::NameOnEveryPort(name),
        (Names::NotOurs, _) => Reach::Nothing,
    }
}

/// Which servers a stream_route takes connections for.
enum Names {
    /// Whatever is asked for, after those that ask for less.
    Any,
    /// This one, exact or wildcard.
    One(NameHash),
    /// Some, none of which is the name of a slot of ours.
    NotOurs,
}

/// A bare `*` in `snis` is no restriction. Several names in `snis`, which data planes before 3.19 refuse, are not looked at
/// one by one.
fn names(document: &Map<String, Value>) -> Names {
    match (document.get("sni"), document.get("snis").and_then(Value::as_array).map(Vec::as_slice)) {
        (Some(Value::String(sni)), _) => Names::One(NameHash::of(sni)),
        (None, Some(snis)) if snis.iter().any(|sni| sni == "*") => Names::Any,
        (None, Some([Value::String(sni)])) => Names::One(NameHash::of(&sni.to_lowercase())),
        (Some(_), _) | (None, Some(_)) => Names::NotOurs,
        (None, None) if document.contains_key("snis") => Names::NotOurs,
        (None, None) => Names::Any,
    }
}

/// A number without a fraction, as the data plane's schema has it: `9100.0` is one, too.
fn whole_number(value: &Value) -> Option<u16> {
    let number = value.as_f64()?;
    let whole = number.fract() == 0.0 && (0.0..=f64::from(u16::MAX)).contains(&number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is known to fit")]
    whole.then_some(number as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::places::Plane;
    use serde_json::json;

    #[track_caller]
    fn check(value: &Value, want: Reach) {
        assert_eq!(read(Plane::default(), value.to_string().as_bytes()).reach, want, "{value}");
    }

    fn port(port: u16) -> Reach {
        Reach::Port(Port::new(port).unwrap())
    }

    #[test]
    fn a_port_reaches_its_slot_and_none_reaches_all() {
        check(&json!({"server_port": 9100}), port(9100));
        check(&json!({"server_port": 9100.0}), port(9100));
        check(&json!({"server_port": 1}), port(1));
        check(&json!({"server_port": 65535}), port(65535));
        check(&json!({}), Reach::EveryPort);
        check(&json!({"upstream_id": "u", "desc": "catches all"}), Reach::EveryPort);
    }

    #[test]
    fn addresses_narrow_down_what_still_overlaps() {
        check(&json!({"server_port": 9100, "remote_addr": "10.0.0.0/8"}), port(9100));
        check(&json!({"server_port": 9100, "server_addr": "127.0.0.1"}), port(9100));
        check(&json!({"remote_addr": "10.0.0.0/8"}), Reach::EveryPort);
    }

    #[test]
    fn routes_that_name_servers_come_first_and_reach_slots_of_the_same_name_only() {
        let (name, wildcard) = (NameHash::of("a.example"), NameHash::of("*.example"));
        let at = Port::new(9100).unwrap();
        check(&json!({"server_port": 9100, "sni": "a.example"}), Reach::Name(at, name));
        check(&json!({"server_port": 9100, "sni": "*.example"}), Reach::Name(at, wildcard));
        check(&json!({"sni": "a.example"}), Reach::NameOnEveryPort(name));
        check(&json!({"server_port": 9100, "snis": ["A.example"]}), Reach::Name(at, name));
        check(&json!({"server_port": 9100, "snis": ["*"]}), port(9100));
        for value in [json!({"server_port": 9100, "sni": 7}), json!({"snis": ["a.example", "b.example"]})] {
            check(&value, Reach::Nothing);
        }
    }

    #[test]
    fn what_reaches_a_slot_alone_says_which() {
        let place = SlotPlace::Name(Port::new(9100).unwrap(), NameHash::of("a.example"));
        let [alone, everywhere] = Reach::into(place);
        assert_eq!((alone.only(), everywhere.only(), Reach::EveryPort.only()), (Some(place), None, None));
    }

    #[test]
    fn a_route_below_another_reaches_nothing() {
        check(&json!({"server_port": 9100, "protocol": {"name": "redis", "superior_id": "1"}}), Reach::Nothing);
        check(&json!({"server_port": 9100, "protocol": {"name": "redis"}}), port(9100));
    }

    #[test]
    fn ports_that_no_data_plane_takes_up_reach_nothing() {
        for value in [json!("9100"), json!(null), json!(0), json!(-1), json!(65536), json!(9100.5), json!([9100])] {
            check(&json!({"server_port": value}), Reach::Nothing);
        }
    }

    #[test]
    fn what_is_no_object_says_nothing_and_what_is_not_unicode_is_read_all_the_same() {
        for value in ["init_dir", "", "[]", "7", "{"] {
            assert_eq!(read(Plane::default(), value.as_bytes()), Routing::default(), "{value}");
        }
        let latin = read(Plane::default(), b"{\"desc\":\"caf\xe9\",\"upstream_id\":\"u\",\"server_port\":9100}");
        assert_eq!(
            latin,
            Routing { pool: Some(WorkId::new(Plane::default(), Directory::Upstreams, "u")), reach: port(9100) }
        );
    }
}
