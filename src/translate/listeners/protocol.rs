//! What a listener carries: which routes, beside which others on one port, by what kind of listen socket.

use crate::{
    apisix::version::ApisixVersion,
    model::{
        facts::{ListenerFacts, RouteKind},
        names::Kind,
        sockets::Need,
    },
};

/// What tells connections to two listeners of one port apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Their protocols.
    Apart,
    /// Their hostnames, if these differ.
    ByName,
    /// Nothing.
    Never,
}

/// What a listener carries, as far as conflicts and route kinds go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Connections as they come.
    Tcp,
    /// Datagrams.
    Udp,
    /// TLS, ended by the data plane.
    TlsTerminate,
    /// TLS, handed on as it comes.
    TlsPassthrough,
    /// TLS in a mode that this version of the API does not know.
    TlsUnknown,
    /// HTTP, which is not served.
    Http,
    /// HTTPS, which is not served.
    Https,
    /// Anything else.
    Unknown,
}

impl Protocol {
    pub(super) fn of(listener: &ListenerFacts) -> Self {
        match &*listener.protocol {
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            "TLS" => match listener.tls.as_ref().map(|tls| &*tls.mode) {
                None | Some("Terminate") => Self::TlsTerminate,
                Some("Passthrough") => Self::TlsPassthrough,
                Some(_) => Self::TlsUnknown,
            },
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            _ => Self::Unknown,
        }
    }

    /// What a data plane must listen for, so that such a listener can be served.
    pub(super) fn need(self) -> Option<Need> {
        match self {
            Self::Tcp => Some(Need::Tcp),
            Self::Udp => Some(Need::Udp),
            Self::TlsTerminate => Some(Need::TlsTerminate),
            Self::TlsPassthrough => Some(Need::TlsPassthrough),
            Self::TlsUnknown | Self::Http | Self::Https | Self::Unknown => None,
        }
    }

    /// Whether two listeners of these protocols may share a port if their hostnames differ.
    #[must_use]
    pub fn shares_ports_with(self, other: Self) -> bool {
        self == other || (self.is_tls() && other.is_tls())
    }

    /// Whether it is TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        match self {
            Self::TlsTerminate | Self::TlsPassthrough | Self::TlsUnknown => true,
            Self::Tcp | Self::Udp | Self::Http | Self::Https | Self::Unknown => false,
        }
    }

    /// Whether the data plane ends TLS for it.
    #[must_use]
    pub fn ends_tls(self) -> bool {
        match self {
            Self::TlsTerminate => true,
            Self::TlsPassthrough
            | Self::TlsUnknown
            | Self::Tcp
            | Self::Udp
            | Self::Http
            | Self::Https
            | Self::Unknown => false,
        }
    }

    /// Whether connections say a server name before anything else.
    pub(super) fn is_named_by_tls(self) -> bool {
        self.is_tls() || self == Self::Https
    }

    /// What tells connections to listeners of two protocols on one port apart, as Gateway API has it.
    #[must_use]
    pub fn told_from(self, other: Self, version: ApisixVersion) -> Told {
        // What is not served cannot stand in anybody's way.
        let unknown = self == Self::Unknown || other == Self::Unknown;
        // Distinct to Gateway API. That APISIX cannot tell them apart is settled with all others that want the port.
        let distinct = (self == Self::Udp) != (other == Self::Udp);
        if unknown || distinct {
            return Told::Apart;
        }
        // A data plane that can only end TLS has one mode for the whole port.
        let one_mode = self == other || !(self.is_tls() && other.is_tls()) || version.has_tls_passthrough();
        let by_name = self.is_named_by_tls() && other.is_named_by_tls() && one_mode;
        if by_name || (self, other) == (Self::Http, Self::Http) { Told::ByName } else { Told::Never }
    }

    pub(super) fn has_hostnames(self) -> bool {
        match self {
            Self::TlsTerminate | Self::TlsPassthrough | Self::TlsUnknown | Self::Http | Self::Https => true,
            Self::Tcp | Self::Udp | Self::Unknown => false,
        }
    }

    pub(super) fn route_kinds(self) -> Vec<RouteKind> {
        match self {
            Self::Tcp => vec![route_kind(Kind::TcpRoute)],
            Self::Udp => vec![route_kind(Kind::UdpRoute)],
            // Once TLS is ended, what is in it is a TCP connection like any other.
            Self::TlsTerminate => vec![route_kind(Kind::TlsRoute), route_kind(Kind::TcpRoute)],
            Self::TlsPassthrough | Self::TlsUnknown => vec![route_kind(Kind::TlsRoute)],
            Self::Http | Self::Https | Self::Unknown => Vec::new(),
        }
    }
}

pub(super) fn route_kind(kind: Kind) -> RouteKind {
    RouteKind { group: kind.group().into(), kind: kind.as_str().into() }
}
