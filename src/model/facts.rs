//! Facts: what is kept of each Kubernetes object, and nothing else of it.
//!
//! Made where a watch event comes in ([`crate::cluster`]), read by [`crate::translate`]. Numbers are kept as wide as the
//! wire allows, so that a value outside its bounds reaches translation and gets a verdict instead of being lost.

mod classes;
pub mod data_planes;
mod grants;
pub mod listener_sets;
pub mod policies;

use super::{
    addresses::Address,
    certificates::SecretFacts,
    names::{Created, Kind, ObjectName},
};
pub use classes::{GatewayClassFacts, ParametersRef};
use data_planes::DataPlaneFacts;
pub use grants::{GrantFrom, GrantTo, ReferenceGrantFacts};
use listener_sets::ListenerSetFacts;
use policies::BackendTlsPolicyFacts;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The facts of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// Of a DataPlane.
    DataPlane(DataPlaneFacts),
    /// Of a GatewayClass.
    GatewayClass(GatewayClassFacts),
    /// Of a Gateway.
    Gateway(GatewayFacts),
    /// Of a ListenerSet.
    ListenerSet(ListenerSetFacts),
    /// Of a TCPRoute.
    TcpRoute(RouteFacts),
    /// Of a UDPRoute.
    UdpRoute(RouteFacts),
    /// Of a TLSRoute.
    TlsRoute(RouteFacts),
    /// Of a ReferenceGrant.
    ReferenceGrant(ReferenceGrantFacts),
    /// Of a BackendTLSPolicy.
    BackendTlsPolicy(BackendTlsPolicyFacts),
    /// Of a Namespace.
    Namespace(NamespaceFacts),
    /// Of a Secret of type `kubernetes.io/tls`.
    Secret(SecretFacts),
    /// Of a Service.
    Service(ServiceFacts),
    /// Of an EndpointSlice.
    EndpointSlice(EndpointSliceFacts),
}

impl Facts {
    /// Which kind of object these are facts of.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::DataPlane(_) => Kind::DataPlane,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::Gateway(_) => Kind::Gateway,
            Self::ListenerSet(_) => Kind::ListenerSet,
            Self::TcpRoute(_) => Kind::TcpRoute,
            Self::UdpRoute(_) => Kind::UdpRoute,
            Self::TlsRoute(_) => Kind::TlsRoute,
            Self::ReferenceGrant(_) => Kind::ReferenceGrant,
            Self::BackendTlsPolicy(_) => Kind::BackendTlsPolicy,
            Self::Namespace(_) => Kind::Namespace,
            Self::Secret(_) => Kind::Secret,
            Self::Service(_) => Kind::Service,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
        }
    }
}

/// What a watch event or a manifest said of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It could be read.
    Facts(Facts),
    /// It exists, but could not be read. Older facts stay in force; where there are none, what is computed over it is
    /// left in etcd as it is.
    Unreadable {
        /// What reading it said.
        error: Arc<str>,
    },
}

/// One object and what is now known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind of the object.
    pub kind: Kind,
    /// The name of the object.
    pub name: ObjectName,
    /// What it is now; `None` when it is gone.
    pub observed: Option<Observed>,
}

/// Of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Created,
    /// `spec.gatewayClassName`.
    pub class: Arc<str>,
    /// `spec.infrastructure.parametersRef` as `group/kind name`, if there is one.
    pub parameters: Option<Arc<str>>,
    /// `spec.addresses`.
    pub addresses: Vec<AddressFacts>,
    /// `spec.listeners`, in their order.
    pub listeners: Vec<ListenerFacts>,
    /// `spec.allowedListeners.namespaces`: from where ListenerSets may add to it; nobody may where absent.
    pub allowed_listeners: FromNamespaces,
}

/// One requested address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFacts {
    /// `type`; `IPAddress` where absent.
    pub kind: Arc<str>,
    /// `value`; empty where absent.
    pub value: Arc<str>,
}

/// One listener of a Gateway or a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerFacts {
    /// `name`.
    pub name: Arc<str>,
    /// `port`, not checked against 1..=65535.
    pub port: i64,
    /// `protocol`, as written.
    pub protocol: Arc<str>,
    /// `hostname`; `None` where absent or empty.
    pub hostname: Option<Arc<str>>,
    /// `tls`.
    pub tls: Option<TlsFacts>,
    /// `allowedRoutes.namespaces`.
    pub namespaces: FromNamespaces,
    /// `allowedRoutes.kinds`; empty means "what the protocol allows".
    pub kinds: Vec<RouteKind>,
}

/// `tls` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `mode`; `Terminate` where absent.
    pub mode: Arc<str>,
    /// `certificateRefs`, in their order.
    pub certificates: Vec<SecretRef>,
}

/// One `certificateRefs` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// `group`; the core group (empty) where absent.
    pub group: Arc<str>,
    /// `kind`; `Secret` where absent.
    pub kind: Arc<str>,
    /// `namespace`; `None` means that of the listener's own object.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
}

/// `allowedRoutes.namespaces` and `allowedListeners.namespaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromNamespaces {
    /// The namespace of the object that says it: the default for routes.
    Same,
    /// Every namespace.
    All,
    /// Namespaces whose labels match.
    Selector(LabelSelector),
    /// The default for listeners; also a value this version of the API does not know, or `Selector` without one.
    Nobody,
}

/// One entry of `allowedRoutes.kinds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKind {
    /// `group`; Gateway API's own where absent.
    pub group: Arc<str>,
    /// `kind`.
    pub kind: Arc<str>,
}

/// A Kubernetes label selector: every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// `matchLabels` and `matchExpressions` alike.
    pub requirements: Vec<LabelRequirement>,
}

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelRequirement {
    /// The label exists and its value is one of these.
    In(Arc<str>, Vec<Arc<str>>),
    /// The label is absent, or its value is none of these.
    NotIn(Arc<str>, Vec<Arc<str>>),
    /// The label exists.
    Exists(Arc<str>),
    /// The label is absent.
    DoesNotExist(Arc<str>),
    /// An operator that Kubernetes does not know: matches nothing.
    Never,
}

/// Of a layer-4 route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteFacts {
    /// `metadata.generation`; 1 where a manifest does not say.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Created,
    /// Annotation `apisix-etcd.io/drift`; `None` where absent, or neither `repair` nor `report`: then the setting decides.
    pub drift: Option<DriftPolicy>,
    /// `spec.parentRefs`, in their order.
    pub parents: Vec<ParentRef>,
    /// `spec.hostnames` of a TLSRoute, as written; empty for other kinds.
    pub hostnames: Vec<Arc<str>>,
    /// How many rules the object holds; the first is served (v1 allows one, a stored v1alpha2 object up to 16).
    pub rules: usize,
    /// `spec.rules[0].backendRefs`, in their order.
    pub backends: Vec<BackendRef>,
}

/// What becomes of a document that somebody else edited, while it is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriftPolicy {
    /// It is written again.
    #[default]
    Repair,
    /// It is left and reported until Kubernetes changes what it should be.
    Report,
}

/// One `parentRefs` entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParentRef {
    /// `group`; Gateway API's own where absent.
    pub group: Arc<str>,
    /// `kind`; `Gateway` where absent.
    pub kind: Arc<str>,
    /// `namespace`, as written; `None` means the route's own.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
    /// `sectionName`.
    pub section_name: Option<Arc<str>>,
    /// `port`, not checked.
    pub port: Option<i64>,
}

/// One `backendRefs` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendRef {
    /// `group`; the core group (empty) where absent.
    pub group: Arc<str>,
    /// `kind`; `Service` where absent.
    pub kind: Arc<str>,
    /// `namespace`; `None` means the route's own.
    pub namespace: Option<Arc<str>>,
    /// `name`.
    pub name: Arc<str>,
    /// `port`, not checked.
    pub port: Option<i64>,
    /// `weight`; 1 where absent. Negative values count as 0.
    pub weight: i64,
}

/// Of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// `metadata.labels`.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// Transport protocol of a Service port or slice port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// `TCP`, also where absent.
    Tcp,
    /// `UDP`.
    Udp,
    /// Anything else (`SCTP`).
    Other,
}

impl Transport {
    /// What routes of a kind carry, and so what the ports of their backends must be for; [`Transport::Other`] for other kinds.
    #[must_use]
    pub fn of_routes(kind: Kind) -> Self {
        match kind {
            Kind::TcpRoute | Kind::TlsRoute => Self::Tcp,
            Kind::UdpRoute => Self::Udp,
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::Gateway
            | Kind::ListenerSet
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::Namespace
            | Kind::Secret
            | Kind::Service
            | Kind::EndpointSlice => Self::Other,
        }
    }
}

/// An address family of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Whether `spec.type` is `ExternalName`.
    pub external_name: bool,
    /// `spec.ipFamilies[0]`; `None` where absent or unknown.
    pub family: Option<IpFamily>,
    /// `spec.ports`.
    pub ports: Vec<ServicePortFacts>,
    /// Where clients outside the cluster reach it: its load balancer's addresses, else its `externalIPs`.
    pub addresses: Vec<Address>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortFacts {
    /// `name`; empty where absent.
    pub name: Arc<str>,
    /// `port`.
    pub port: i64,
    /// `protocol`.
    pub transport: Transport,
    /// `appProtocol`; `None` where absent or empty.
    pub app_protocol: Option<Arc<str>>,
}

/// Of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSliceFacts {
    /// Label `kubernetes.io/service-name`; `None` where absent: then it belongs to no Service.
    pub service: Option<Arc<str>>,
    /// `addressType`; `None` for `FQDN` or anything unknown, whose endpoints are not used.
    pub family: Option<IpFamily>,
    /// `ports`.
    pub ports: Vec<SlicePortFacts>,
    /// `endpoints` whose first address is an IP address, in their order. Further addresses mean nothing, as to kube-proxy.
    pub endpoints: Vec<EndpointFacts>,
}

/// One port of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePortFacts {
    /// `name`; empty where absent or null.
    pub name: Arc<str>,
    /// `port`; `None` where absent.
    pub port: Option<i64>,
    /// `protocol`.
    pub transport: Transport,
}

/// One endpoint of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFacts {
    /// The first of `addresses`.
    pub address: IpAddr,
    /// `conditions.ready`; absent counts as true.
    pub ready: bool,
    /// `conditions.serving`; absent counts as `ready`.
    pub serving: bool,
    /// `conditions.terminating`; absent counts as false.
    pub terminating: bool,
}
