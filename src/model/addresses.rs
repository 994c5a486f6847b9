//! Where clients reach a data plane: addresses, and who says which there are.
//!
//! Text of a flag or of a Service's status goes in; addresses that Gateway API's `status.addresses` takes come out. Nothing
//! here knows a Gateway, and nothing is looked up: a hostname stays a name.

use super::{names::ObjectName, places::ServerName};
use std::{fmt, net::IpAddr, sync::Arc};

/// `maxItems` of a Gateway's `status.addresses`.
pub const ADDRESSES_MAX: usize = 16;

/// One address of a data plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address, never the unspecified one.
    Ip(IpAddr),
    /// A hostname in lower case, without a star.
    Hostname(Arc<str>),
}

impl Address {
    /// Reads an IP address or a hostname; `None` for what is neither: `0.0.0.0` and `::`, to which nobody can connect, and
    /// wildcards among it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        Self::ip(text).or_else(|| Self::hostname(text))
    }

    /// Reads an IP address.
    #[must_use]
    pub fn ip(text: &str) -> Option<Self> {
        text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified()).map(Self::Ip)
    }

    /// Reads a hostname.
    #[must_use]
    pub fn hostname(text: &str) -> Option<Self> {
        let name = ServerName::of(text).filter(|name| !name.is_wildcard())?;
        Some(Self::Hostname(name.as_str().into()))
    }

    /// `type`, as Gateway API spells it.
    #[must_use]
    pub fn kind(&self) -> AddressKind {
        match self {
            Self::Ip(_) => AddressKind::IpAddress,
            Self::Hostname(_) => AddressKind::Hostname,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Hostname(name) => f.write_str(name),
        }
    }
}

/// The types of addresses that a Gateway can ask for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// `IPAddress`.
    IpAddress,
    /// `Hostname`.
    Hostname,
}

impl AddressKind {
    /// Of a `type` as it is written; `None` for any other, `NamedAddress` among them.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        [Self::IpAddress, Self::Hostname].into_iter().find(|kind| kind.as_str() == text)
    }

    /// `type`, as Gateway API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpAddress => "IPAddress",
            Self::Hostname => "Hostname",
        }
    }
}

/// Who says which addresses a data plane has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AddressSource {
    /// Nobody: Gateways say of no address.
    #[default]
    Nobody,
    /// The settings: at least one and at most [`ADDRESSES_MAX`], each once.
    Said(Arc<[Address]>),
    /// This Service, in front of the data plane: what its load balancer, or its `externalIPs`, say.
    Service(ObjectName),
}

impl AddressSource {
    /// Whether it is this Service.
    #[must_use]
    pub fn is_service(&self, name: &ObjectName) -> bool {
        matches!(self, Self::Service(service) if service == name)
    }
}

/// Each address once, in their order, as many as a Gateway's status can hold.
#[must_use]
pub fn distinct(addresses: impl IntoIterator<Item = Address>) -> Vec<Address> {
    let mut kept: Vec<Address> = Vec::new();
    for address in addresses {
        if kept.len() < ADDRESSES_MAX && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_address_or_a_hostname_and_says_which() {
        for (text, kind, shown) in [
            ("192.0.2.1", "IPAddress", "192.0.2.1"),
            ("2001:DB8:0::1", "IPAddress", "2001:db8::1"),
            ("Edge.Example.com.", "Hostname", "edge.example.com"),
            ("localhost", "Hostname", "localhost"),
        ] {
            let address = Address::of(text).unwrap();
            assert_eq!((address.kind().as_str(), address.to_string().as_str()), (kind, shown), "{text}");
        }
    }

    #[test]
    fn what_nobody_can_connect_to_is_no_address() {
        for text in ["", "0.0.0.0", "::", "*.example.com", "[::1]", "192.0.2.1:80", "a b", "a..b", "-a", "192.0.2.1/32"]
        {
            assert_eq!(Address::of(text), None, "{text:?}");
        }
    }

    #[test]
    fn types_are_spelled_as_gateway_api_does() {
        assert_eq!(AddressKind::of("IPAddress"), Some(AddressKind::IpAddress));
        assert_eq!(AddressKind::of("Hostname"), Some(AddressKind::Hostname));
        for other in ["NamedAddress", "hostname", "", "example.com/pool"] {
            assert_eq!(AddressKind::of(other), None, "{other}");
        }
    }

    #[test]
    fn no_more_addresses_are_kept_than_a_status_holds_and_each_once() {
        let address = |last: u8| Address::Ip([192, 0, 2, last].into());
        let kept = distinct((0..40).map(|n| address(n / 2)));
        assert_eq!(kept, (0..16).map(address).collect::<Vec<_>>());
    }
}
