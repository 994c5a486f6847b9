//! How Kubernetes objects are named and ordered.

use std::{fmt, sync::Arc};

/// The kinds of object this controller reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `apisix-etcd.io` DataPlane.
    DataPlane,
    /// `gateway.networking.k8s.io` GatewayClass.
    GatewayClass,
    /// `gateway.networking.k8s.io` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io` ListenerSet.
    ListenerSet,
    /// `gateway.networking.k8s.io` TCPRoute.
    TcpRoute,
    /// `gateway.networking.k8s.io` UDPRoute.
    UdpRoute,
    /// `gateway.networking.k8s.io` TLSRoute.
    TlsRoute,
    /// `gateway.networking.k8s.io` ReferenceGrant.
    ReferenceGrant,
    /// `gateway.networking.k8s.io` BackendTLSPolicy.
    BackendTlsPolicy,
    /// Core Namespace; only its labels matter.
    Namespace,
    /// Core Secret of type `kubernetes.io/tls`; no other is ever asked for.
    Secret,
    /// Core Service.
    Service,
    /// `discovery.k8s.io` EndpointSlice.
    EndpointSlice,
}

/// The API group of Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The API group of our own kinds.
pub const OWN_GROUP: &str = "apisix-etcd.io";

/// The finalizer of a GatewayClass that is in use, as Gateway API names it. Controllers share it.
pub const GATEWAY_EXISTS_FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

impl Kind {
    /// Every kind, in the order in which they depend on each other.
    pub const ALL: [Self; 13] = [
        Self::DataPlane,
        Self::GatewayClass,
        Self::Gateway,
        Self::ListenerSet,
        Self::TcpRoute,
        Self::UdpRoute,
        Self::TlsRoute,
        Self::ReferenceGrant,
        Self::BackendTlsPolicy,
        Self::Namespace,
        Self::Secret,
        Self::Service,
        Self::EndpointSlice,
    ];

    /// The kinds of route.
    pub const ROUTES: [Self; 3] = [Self::TcpRoute, Self::UdpRoute, Self::TlsRoute];

    /// The API group, empty for the core group.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::DataPlane => OWN_GROUP,
            Self::GatewayClass
            | Self::Gateway
            | Self::ListenerSet
            | Self::TcpRoute
            | Self::UdpRoute
            | Self::TlsRoute
            | Self::ReferenceGrant
            | Self::BackendTlsPolicy => GATEWAY_GROUP,
            Self::Namespace | Self::Secret | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
        }
    }

    /// The kind as manifests spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataPlane => "DataPlane",
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ListenerSet => "ListenerSet",
            Self::TcpRoute => "TCPRoute",
            Self::UdpRoute => "UDPRoute",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::Namespace => "Namespace",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }

    /// The resource name in API paths and CRD names.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::DataPlane => "dataplanes",
            Self::GatewayClass => "gatewayclasses",
            Self::Gateway => "gateways",
            Self::ListenerSet => "listenersets",
            Self::TcpRoute => "tcproutes",
            Self::UdpRoute => "udproutes",
            Self::TlsRoute => "tlsroutes",
            Self::ReferenceGrant => "referencegrants",
            Self::BackendTlsPolicy => "backendtlspolicies",
            Self::Namespace => "namespaces",
            Self::Secret => "secrets",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
        }
    }

    /// Group and resource, as in `gateway.networking.k8s.io/tcproutes`; the core group is left out: `services`.
    #[must_use]
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural().to_owned(),
            group => format!("{group}/{}", self.plural()),
        }
    }

    /// The kind of a [`Kind::resource`]; `None` for one that is not read here.
    #[must_use]
    pub fn of_resource(resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() == resource)
    }

    /// Whether objects of this kind live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        match self {
            Self::DataPlane | Self::GatewayClass | Self::Namespace => false,
            Self::Gateway
            | Self::ListenerSet
            | Self::TcpRoute
            | Self::UdpRoute
            | Self::TlsRoute
            | Self::ReferenceGrant
            | Self::BackendTlsPolicy
            | Self::Secret
            | Self::Service
            | Self::EndpointSlice => true,
        }
    }

    /// Whether statuses of ours belong on objects of this kind.
    #[must_use]
    pub fn has_our_status(self) -> bool {
        match self {
            Self::DataPlane
            | Self::GatewayClass
            | Self::Gateway
            | Self::ListenerSet
            | Self::TcpRoute
            | Self::UdpRoute
            | Self::TlsRoute
            | Self::BackendTlsPolicy => true,
            Self::ReferenceGrant | Self::Namespace | Self::Secret | Self::Service | Self::EndpointSlice => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A namespace and a name; the namespace is empty for cluster-scoped objects.
///
/// Orders by namespace, then name: the tie-break of Gateway API.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName {
    /// The namespace, or empty.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// A name in a namespace.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The name of a cluster-scoped object.
    #[must_use]
    pub fn cluster(name: &str) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// One object of a kind this controller reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: ObjectName,
}

impl ObjectRef {
    /// A reference to `name` of `kind`.
    #[must_use]
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A route of any kind.
///
/// Orders by name, as Gateway API's tie-breaks do, and only then by kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteRef {
    /// Its name.
    pub name: ObjectName,
    /// Its kind, one of [`Kind::ROUTES`].
    pub kind: Kind,
}

impl RouteRef {
    /// The route `name` of `kind`.
    #[must_use]
    pub fn new(kind: Kind, name: ObjectName) -> Self {
        Self { name, kind }
    }
}

impl From<RouteRef> for ObjectRef {
    fn from(RouteRef { name, kind }: RouteRef) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for RouteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// When an object was created, in whole seconds since the Unix epoch, as Gateway API's tie-breaks use it.
///
/// An object that states no time (a manifest in a folder) counts as younger than every object that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Created(pub i64);

impl Created {
    /// Of an object that does not say.
    pub const UNKNOWN: Self = Self(i64::MAX);
}
