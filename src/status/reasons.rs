//! The closed sets of condition types, statuses and reasons, spelled as Gateway API spells them (our own under
//! `apisix-etcd.io`). Strings appear here and nowhere else; nothing here decides when one applies.

/// The type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionType {
    /// Of every kind: whether the configuration is valid and taken up.
    Accepted,
    /// Of a Gateway, a ListenerSet and their listeners: whether traffic can arrive there.
    Programmed,
    /// Of listeners and routes: whether what they refer to can be used.
    ResolvedRefs,
    /// Of listeners, only while it is true: another listener cannot be told apart from this one.
    Conflicted,
    /// Of listeners, only while it is true: another listener's hostname overlaps with this one's.
    OverlappingTlsConfig,
    /// Of a GatewayClass: whether the installed CRDs are of a release of Gateway API that we know.
    SupportedVersion,
    /// Of a route at one parent: whether etcd holds the documents that serve it there.
    RouteProgrammed,
}

impl ConditionType {
    /// `type`, as it stands in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Programmed => "Programmed",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Conflicted => "Conflicted",
            Self::OverlappingTlsConfig => "OverlappingTLSConfig",
            Self::SupportedVersion => "SupportedVersion",
            Self::RouteProgrammed => "apisix-etcd.io/Programmed",
        }
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// We cannot tell.
    Unknown,
}

impl ConditionStatus {
    /// `status`, as it stands in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The reason of a condition. Which reasons go with which condition of which kind is for [`super::conditions`] to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// `Accepted` holds.
    Accepted,
    /// GatewayClass, Gateway: a `parametersRef` that cannot be used.
    InvalidParameters,
    /// GatewayClass: the installed CRDs are of a release we know.
    SupportedVersion,
    /// GatewayClass: the installed CRDs are of a release we do not know.
    UnsupportedVersion,
    /// Gateway, ListenerSet: some of its listeners (`Accepted` holds) or all of them (it does not) are not accepted.
    ListenersNotValid,
    /// ListenerSet: its Gateway allows none from its namespace.
    NotAllowed,
    /// ListenerSet: its Gateway is not accepted.
    ParentNotAccepted,
    /// ListenerSet: its Gateway is not programmed.
    ParentNotProgrammed,
    /// Gateway: an address of a type that cannot be asked for.
    UnsupportedAddress,
    /// Gateway, listener: not programmed because it is not accepted. BackendTLSPolicy: demands what the data plane cannot do.
    Invalid,
    /// DataPlane, ours: its prefix and another one begin with each other.
    PrefixOverlaps,
    /// Gateway: an address was asked for by value and cannot be had.
    AddressNotUsable,
    /// Gateway: an address was asked for, and there is none to give.
    AddressNotAssigned,
    /// Gateway, listener, route: `Programmed` holds.
    Programmed,
    /// Listener: the port cannot be had.
    PortUnavailable,
    /// Listener: a protocol that is not served. Route: a backend port of another transport
    /// protocol, or one for TLS where TLS is ended.
    UnsupportedProtocol,
    /// Listener: something that the data plane cannot do, or that means nothing.
    UnsupportedValue,
    /// Listener: one port, protocols that cannot be told apart.
    ProtocolConflict,
    /// Listener: one port, one hostname.
    HostnameConflict,
    /// Listener of a ListenerSet: one port, one protocol without hostnames.
    ListenerConflict,
    /// Listener: the hostname of another one of the port is within its own, or the other way round.
    OverlappingHostnames,
    /// Listener: kinds of route are listed that its protocol cannot carry.
    InvalidRouteKinds,
    /// Listener: a certificate that is not there or cannot be used.
    InvalidCertificateRef,
    /// Listener, route: `ResolvedRefs` holds.
    ResolvedRefs,
    /// Route: no listener of that name and port.
    NoMatchingParent,
    /// Route: the listeners there do not admit it.
    NotAllowedByListeners,
    /// Route: no hostname of it is a listener's.
    NoMatchingListenerHostname,
    /// BackendTLSPolicy: another one has its target.
    Conflicted,
    /// BackendTLSPolicy: the Service that it targets has no such port.
    TargetNotFound,
    /// Route: a backend of a kind that is not served.
    InvalidKind,
    /// Listener, route: a Secret or backend in another namespace that grants nothing.
    RefNotPermitted,
    /// Route: no such Service, or no such port.
    BackendNotFound,
    /// Route, ours: the parent does not accept it, so there is nothing to program.
    NotAccepted,
    /// Route, ours: an older route is served.
    Superseded,
    /// GatewayClass: the CRDs have not been read. Gateway, listener, and route, ours: etcd does not hold the documents yet.
    Pending,
    /// Route, ours: APISIX would reject a document.
    Refused,
    /// Route, ours: somebody else's document holds the key, or takes the same connections.
    Occupied,
    /// Route, ours: somebody else edited a document, and the drift policy leaves it so.
    Edited,
    /// Route, ours: a guard holds the change back.
    Held,
    /// Route, ours: no listener it is attached to is accepted.
    ListenerNotProgrammed,
    /// Route, ours: somebody else keeps rewriting the key.
    Contended,
}

impl Reason {
    /// `reason`, as it stands in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::InvalidParameters => "InvalidParameters",
            Self::SupportedVersion => "SupportedVersion",
            Self::UnsupportedVersion => "UnsupportedVersion",
            Self::ListenersNotValid => "ListenersNotValid",
            Self::NotAllowed => "NotAllowed",
            Self::ParentNotAccepted => "ParentNotAccepted",
            Self::ParentNotProgrammed => "ParentNotProgrammed",
            Self::UnsupportedAddress => "UnsupportedAddress",
            Self::Invalid => "Invalid",
            Self::PrefixOverlaps => "PrefixOverlaps",
            Self::AddressNotUsable => "AddressNotUsable",
            Self::AddressNotAssigned => "AddressNotAssigned",
            Self::Programmed => "Programmed",
            Self::PortUnavailable => "PortUnavailable",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::ProtocolConflict => "ProtocolConflict",
            Self::HostnameConflict => "HostnameConflict",
            Self::ListenerConflict => "ListenerConflict",
            Self::OverlappingHostnames => "OverlappingHostnames",
            Self::InvalidRouteKinds => "InvalidRouteKinds",
            Self::InvalidCertificateRef => "InvalidCertificateRef",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::NotAllowedByListeners => "NotAllowedByListeners",
            Self::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            Self::Conflicted => "Conflicted",
            Self::TargetNotFound => "TargetNotFound",
            Self::InvalidKind => "InvalidKind",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::BackendNotFound => "BackendNotFound",
            Self::NotAccepted => "NotAccepted",
            Self::Superseded => "Superseded",
            Self::Pending => "Pending",
            Self::Refused => "Refused",
            Self::Occupied => "Occupied",
            Self::Edited => "Edited",
            Self::Held => "Held",
            Self::ListenerNotProgrammed => "ListenerNotProgrammed",
            Self::Contended => "Contended",
        }
    }
}
