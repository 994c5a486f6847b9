//! What APISIX listens on below HTTP, and what a listener may have of it.
//!
//! Ports and protocols go in, told by APISIX's own configuration or by flags; whether a listener is served comes out, with
//! what a message needs where it is not. Nothing here asks a data plane.

use super::places::Port;
use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// What was told of APISIX's stream proxy. By default nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamProxy {
    /// Where it listens.
    pub sockets: Inventory,
    /// Whether `traffic-split` is among its plugins; `None`: as APISIX has it by default.
    pub traffic_split: Option<bool>,
}

/// Where a data plane listens, as far as anybody told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inventory {
    /// Nobody told: every port is taken on trust.
    #[default]
    Unknown,
    /// On these sockets and no others.
    Known(Arc<Sockets>),
}

/// Every socket of a data plane, by port. A port may have several: for both TCP and UDP, or on several addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sockets(BTreeSet<(Port, Socket)>);

/// What a data plane does with what arrives on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Socket {
    /// TCP, taken as it is.
    Tcp,
    /// TCP; TLS is always terminated (`tls: true`).
    Tls,
    /// TCP; the server name of TLS is read and nothing is terminated (`tls_passthrough: true`, from APISIX 3.19 on).
    TlsPassthrough,
    /// TCP; the route decides whether TLS is terminated (both marks).
    TlsEither,
    /// UDP.
    Udp,
}

/// What a listener needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// TCP as it is.
    Tcp,
    /// TLS that is terminated.
    TlsTerminate,
    /// TLS that is passed through.
    TlsPassthrough,
    /// UDP.
    Udp,
}

/// Why a listener may have its port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Footing {
    /// Nobody told where the data plane listens.
    #[default]
    OnTrust,
    /// It listens there.
    Listening,
    /// It listens there for both TCP and UDP. A `stream_route` names a port and no protocol, so both reach it.
    ListeningForBoth,
}

/// Why a listener cannot have its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketFault {
    /// The data plane does not listen there for what the listener needs.
    NotListening {
        /// The TCP socket that is there and does something else with what arrives: one more would make the port ambiguous.
        instead: Option<Socket>,
        /// Where it does.
        elsewhere: PortList,
    },
    /// It has several TCP sockets there, on different addresses, that treat TLS differently. A `stream_route` names a port
    /// and no address, so that what it means would depend on where a connection arrives.
    Ambiguous,
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: Port,
    last: Port,
}

/// A text that is neither a port nor a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortRangeError {
    /// Something else than digits, or digits on both sides of a dash.
    #[error("is neither a port nor a range such as 9000-9010")]
    Malformed,
    /// There is no such port.
    #[error("is not within 1 to 65535")]
    OutOfRange,
    /// The last port comes before the first.
    #[error("ends before it begins")]
    Backwards,
}

/// Ports as a message names them: in order, neighbours put together, at most [`PortList::RANGES_MAX`] ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortList {
    ranges: Vec<PortRange>,
    /// How many ports are left out.
    more: usize,
}

impl Inventory {
    /// Whether a listener that needs `need` is served on `port`.
    pub fn serves(&self, port: Port, need: Need) -> Result<Footing, SocketFault> {
        let sockets = match self {
            Self::Unknown => return Ok(Footing::OnTrust),
            Self::Known(sockets) => sockets,
        };
        if sockets.is_ambiguous(port) {
            return Err(SocketFault::Ambiguous);
        }
        if !sockets.at(port).any(|socket| socket.meets(need)) {
            let instead = sockets.at(port).find(|socket| *socket != Socket::Udp && need != Need::Udp);
            return Err(SocketFault::NotListening { instead, elsewhere: sockets.ports_for(need) });
        }
        let udp = |udp: bool| sockets.at(port).any(|socket| (socket == Socket::Udp) == udp);
        Ok(if udp(true) && udp(false) { Footing::ListeningForBoth } else { Footing::Listening })
    }
}

impl Sockets {
    /// Whether there are none: a data plane that serves HTTP alone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a socket of this kind on each port of `range`.
    pub fn insert(&mut self, range: PortRange, socket: Socket) {
        self.0.extend(range.ports().map(|port| (port, socket)));
    }

    fn at(&self, port: Port) -> impl Iterator<Item = Socket> {
        self.0.range((port, Socket::Tcp)..=(port, Socket::Udp)).map(|(_, socket)| *socket)
    }

    /// Whether TCP connections to `port` are treated differently by the address they arrive at.
    fn is_ambiguous(&self, port: Port) -> bool {
        self.at(port).filter(|socket| *socket != Socket::Udp).count() > 1
    }

    /// Every port on which a listener with this need would be served.
    fn ports_for(&self, need: Need) -> PortList {
        let fitting = self.0.iter().filter(|(_, socket)| socket.meets(need)).map(|(port, _)| *port);
        PortList::of(fitting.filter(|port| !self.is_ambiguous(*port)))
    }
}

impl Socket {
    /// Every kind, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Tls, Self::TlsPassthrough, Self::TlsEither, Self::Udp];

    /// What `--listen` calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls-passthrough",
            Self::TlsEither => "tls-either",
            Self::Udp => "udp",
        }
    }

    fn meets(self, need: Need) -> bool {
        match need {
            Need::Tcp => self == Self::Tcp,
            Need::TlsTerminate => matches!(self, Self::Tls | Self::TlsEither),
            Need::TlsPassthrough => matches!(self, Self::TlsPassthrough | Self::TlsEither),
            Need::Udp => self == Self::Udp,
        }
    }
}

impl PortRange {
    /// `None` if the last port comes before the first.
    #[must_use]
    pub fn new(first: Port, last: Port) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// One port.
    #[must_use]
    pub fn one(port: Port) -> Self {
        Self { first: port, last: port }
    }

    fn ports(self) -> impl Iterator<Item = Port> {
        (self.first.get()..=self.last.get()).filter_map(Port::new)
    }

    fn len(self) -> usize {
        usize::from(self.last.get() - self.first.get()) + 1
    }
}

/// `9100`, or `9000-9010`.
impl FromStr for PortRange {
    type Err = PortRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| match text.parse::<u16>() {
            _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(PortRangeError::Malformed),
            Ok(port) => Port::new(port).ok_or(PortRangeError::OutOfRange),
            Err(_) => Err(PortRangeError::OutOfRange),
        };
        match text.split_once('-') {
            None => port(text).map(Self::one),
            Some((first, last)) => Self::new(port(first)?, port(last)?).ok_or(PortRangeError::Backwards),
        }
    }
}

impl PortList {
    /// A message is for people, and a data plane may listen on every second port there is.
    pub const RANGES_MAX: usize = 10;

    /// Of ports in ascending order.
    fn of(ports: impl Iterator<Item = Port>) -> Self {
        let mut ranges: Vec<PortRange> = Vec::new();
        for port in ports {
            match ranges.last_mut() {
                Some(range) if range.last.checked_add(1) == Some(port) => range.last = port,
                Some(_) | None => ranges.push(PortRange::one(port)),
            }
        }
        let cut = ranges.split_off(ranges.len().min(Self::RANGES_MAX));
        Self { ranges, more: cut.into_iter().map(PortRange::len).sum() }
    }

    /// Whether there is no port.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last { write!(f, "{first}") } else { write!(f, "{first}-{last}") }
    }
}

/// `9100, 9200-9210 and 7 more`.
impl fmt::Display for PortList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ranges, more } = self;
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(", "))?;
        if *more > 0 { write!(f, " and {more} more") } else { Ok(()) }
    }
}

/// `tcp 9100, 9200-9210; udp 9100`, or `none`.
impl fmt::Display for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let of_kind = |kind| PortList::of(self.0.iter().filter(|(_, socket)| *socket == kind).map(|(port, _)| *port));
        let lists = Socket::ALL.into_iter().map(|kind| (kind, of_kind(kind))).filter(|(_, ports)| !ports.is_empty());
        let texts: Vec<String> = lists.map(|(kind, ports)| format!("{} {ports}", kind.as_str())).collect();
        f.write_str(&texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> Port {
        Port::new(port).unwrap()
    }

    fn inventory(sockets: &[(&str, Socket)]) -> Inventory {
        let mut all = Sockets::default();
        for (range, socket) in sockets {
            all.insert(range.parse().unwrap(), *socket);
        }
        Inventory::Known(Arc::new(all))
    }

    #[track_caller]
    fn elsewhere(inventory: &Inventory, number: u16, need: Need, ports: &str) {
        match inventory.serves(port(number), need) {
            Err(SocketFault::NotListening { instead: _, elsewhere }) => assert_eq!(elsewhere.to_string(), ports),
            other => panic!("{number} for {need:?}: {other:?}"),
        }
    }

    #[test]
    fn without_an_inventory_every_port_is_taken_on_trust() {
        for need in [Need::Tcp, Need::TlsTerminate, Need::TlsPassthrough, Need::Udp] {
            assert_eq!(Inventory::Unknown.serves(port(1), need), Ok(Footing::OnTrust));
        }
    }

    #[test]
    fn each_need_has_its_sockets() {
        let kinds = [
            ("9001", Socket::Tcp),
            ("9002", Socket::Tls),
            ("9003", Socket::TlsPassthrough),
            ("9004", Socket::TlsEither),
            ("9005", Socket::Udp),
        ];
        let inventory = inventory(&kinds);
        for (need, fitting) in [
            (Need::Tcp, &[9001][..]),
            (Need::TlsTerminate, &[9002, 9004]),
            (Need::TlsPassthrough, &[9003, 9004]),
            (Need::Udp, &[9005]),
        ] {
            for number in 9001..=9005 {
                let served = inventory.serves(port(number), need);
                assert_eq!(served == Ok(Footing::Listening), fitting.contains(&number), "{number} {need:?} {served:?}");
            }
        }
        elsewhere(&inventory, 9100, Need::TlsTerminate, "9002, 9004");
    }

    #[test]
    fn a_tcp_socket_that_does_something_else_is_named_and_a_udp_socket_is_not() {
        let inventory =
            inventory(&[("9443", Socket::Tls), ("9443", Socket::Udp), ("53", Socket::Udp), ("80", Socket::Tcp)]);
        for (number, need, want) in [
            (9443, Need::Tcp, Some(Socket::Tls)),
            (9443, Need::TlsPassthrough, Some(Socket::Tls)),
            (80, Need::TlsTerminate, Some(Socket::Tcp)),
            (80, Need::Udp, None),
            (53, Need::Tcp, None),
            (7, Need::Tcp, None),
        ] {
            match inventory.serves(port(number), need) {
                Err(SocketFault::NotListening { instead, .. }) => assert_eq!(instead, want, "{number} {need:?}"),
                other => panic!("{number} for {need:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_range_ends_where_it_says() {
        let inventory = inventory(&[("9000-9010", Socket::Tcp)]);
        for (number, served) in [(8999, false), (9000, true), (9010, true), (9011, false)] {
            assert_eq!(inventory.serves(port(number), Need::Tcp).is_ok(), served, "{number}");
        }
    }

    #[test]
    fn a_port_for_both_tcp_and_udp_serves_both_and_says_so() {
        let inventory =
            inventory(&[("9100", Socket::Tcp), ("9100", Socket::Udp), ("9443", Socket::Tls), ("9443", Socket::Udp)]);
        for (number, need) in [(9100, Need::Tcp), (9100, Need::Udp), (9443, Need::TlsTerminate), (9443, Need::Udp)] {
            assert_eq!(inventory.serves(port(number), need), Ok(Footing::ListeningForBoth), "{number} {need:?}");
        }
    }

    #[test]
    fn a_port_with_and_without_tls_serves_nobody_and_is_offered_to_nobody() {
        let inventory = inventory(&[("9100-9102", Socket::Tcp), ("9101", Socket::Tls), ("9101-9102", Socket::Udp)]);
        for need in [Need::Tcp, Need::TlsTerminate, Need::Udp] {
            assert_eq!(inventory.serves(port(9101), need), Err(SocketFault::Ambiguous), "{need:?}");
        }
        elsewhere(&inventory, 1, Need::Tcp, "9100, 9102");
        elsewhere(&inventory, 1, Need::TlsTerminate, "");
        elsewhere(&inventory, 1, Need::Udp, "9102");
    }

    #[test]
    fn neighbours_are_put_together_and_a_long_list_is_cut() {
        let all =
            inventory(&[("65534-65535", Socket::Tcp), ("1", Socket::Tcp), ("2", Socket::Tcp), ("4", Socket::Tcp)]);
        elsewhere(&all, 9, Need::Tcp, "1-2, 4, 65534-65535");
        let of = |n: u16| PortList::of((1..=n).map(|i| port(2 * i))).to_string();
        assert_eq!(of(10), "2, 4, 6, 8, 10, 12, 14, 16, 18, 20");
        assert_eq!(of(11), "2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 1 more");
    }

    #[test]
    fn a_range_is_written_as_apisix_does() {
        for (text, shown) in [("9100", "9100"), ("1-65535", "1-65535"), ("7-7", "7"), ("0080", "80")] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), shown);
        }
        for text in ["", "-", "9000-", "-9000", "9100x", " 9100", "+9100", "80.5", "1e3", "1-2-3", "٣"] {
            assert_eq!(text.parse::<PortRange>(), Err(PortRangeError::Malformed), "{text:?}");
        }
        for text in ["0", "65536", "0-9", "1-65536", "99999999999999999999"] {
            assert_eq!(text.parse::<PortRange>(), Err(PortRangeError::OutOfRange), "{text}");
        }
        assert_eq!("9010-9000".parse::<PortRange>(), Err(PortRangeError::Backwards));
    }

    #[test]
    fn sockets_are_shown_by_kind() {
        let Inventory::Known(sockets) =
            inventory(&[("9443", Socket::Tls), ("9100-9101", Socket::Tcp), ("53", Socket::Udp)])
        else {
            panic!("known")
        };
        assert_eq!(sockets.to_string(), "tcp 9100-9101; tls 9443; udp 53");
        assert_eq!(Sockets::default().to_string(), "none");
    }
}
