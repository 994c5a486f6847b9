//! Verdicts: what translation says of an object. [`crate::status::conditions`] turns them into Kubernetes conditions.
//!
//! Closed enums that carry what a message needs; no reason strings and no sentences.

mod planes;
mod policies;
mod routes;

use super::{
    addresses::Address,
    certificates::{ReferenceProblem, Validity},
    facts::RouteKind,
    names::{Kind, ObjectName},
    places::{Port, ServerName, WorkId},
    sockets::{Footing, Need, SocketFault},
};
pub use planes::{DataPlaneVerdict, ParametersProblem, PlaneFault, PrefixHolder};
pub use policies::{AncestorVerdict, PolicyRefusal, PolicyVerdict, ancestor_ref};
pub use routes::{
    AttachmentRefusal, BackendFault, BackendProblem, BackendsVerdict, ClaimOutcome, ClaimVerdict, ParentVerdict,
    RefusedShare, RouteVerdict,
};
use std::{collections::BTreeMap, sync::Arc};

/// What translation says of one object of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Of a DataPlane that a GatewayClass of ours names.
    DataPlane(DataPlaneVerdict),
    /// Of a GatewayClass with our controller name.
    GatewayClass(ClassVerdict),
    /// Of a Gateway of such a class.
    Gateway(GatewayVerdict),
    /// Of a ListenerSet of such a Gateway.
    ListenerSet(ListenerSetVerdict),
    /// Of a route, whoever its parents are: an empty list of parents says that no status entry of ours belongs there.
    Route(RouteVerdict),
    /// Of a BackendTLSPolicy, whomever it is about: no ancestors say that no status entry of ours belongs there.
    Policy(PolicyVerdict),
}

/// Of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// Why `spec.parametersRef` cannot be honoured, if so.
    pub unusable_parameters: Option<ParametersProblem>,
    /// Which versions of Gateway API the source serves.
    pub served: Served,
    /// Whether a Gateway names it, so that it is to carry the finalizer that keeps it from being deleted meanwhile.
    pub in_use: bool,
    /// Whether TLS can be handed on as it comes, beside being ended.
    pub passes_tls_through: bool,
}

/// What the source of objects serves; goes into the GatewayClass's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Where objects come from.
    pub source: Source,
    /// The version each kind is read at; kinds that are not served are absent.
    pub versions: BTreeMap<Kind, Arc<str>>,
    /// `gateway.networking.k8s.io/bundle-version` of the installed CRDs, sorted and without repeats. `None` when it could
    /// not be read; an entry is empty for a CRD without the annotation.
    pub bundles: Option<Vec<Arc<str>>>,
}

impl Served {
    /// The version `kind` is read at, if it is served.
    #[must_use]
    pub fn version(&self, kind: Kind) -> Option<&str> {
        self.versions.get(&kind).map(|version| &**version)
    }
}

/// Where objects come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// Manifests in a folder.
    #[default]
    Folder,
    /// A Kubernetes API server.
    Cluster,
}

/// Of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// Why the Gateway as a whole is not accepted, if so.
    pub refusal: Option<GatewayRefusal>,
    /// The addresses it has.
    pub addresses: Vec<Address>,
    /// An address that it asks for and cannot have, or that it has none.
    pub address: Option<AddressProblem>,
    /// One for each listener, in the order of the spec.
    pub listeners: Vec<ListenerVerdict>,
    /// How many accepted ListenerSets add to it.
    pub listener_sets: u32,
}

impl GatewayVerdict {
    /// Whether it is accepted: as a whole, and with at least one of its own listeners.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.refusal.is_none() && self.listeners.iter().any(|listener| listener.refusal.is_none())
    }
}

/// Of a ListenerSet whose Gateway is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSetVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// What its Gateway makes of it.
    pub reception: Reception,
    /// One for each listener, in the order of the spec; none of a set that its Gateway does not allow.
    pub listeners: Vec<ListenerVerdict>,
}

impl ListenerSetVerdict {
    /// Whether it is accepted: taken by an accepted Gateway, and with at least one of its own listeners valid. Unlike a Gateway, one
    /// whose listeners all lack certificates is not (the conformance suite's `ListenerSetReferenceGrant`).
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        let taken = match self.reception {
            Reception::NotAllowed | Reception::ParentNotAccepted => false,
            Reception::ParentNotProgrammed | Reception::Taken => true,
        };
        taken && self.listeners.iter().any(ListenerVerdict::is_valid)
    }
}

/// What a Gateway makes of a ListenerSet that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It allows no listeners from this namespace.
    NotAllowed,
    /// It is not accepted itself.
    ParentNotAccepted,
    /// It is accepted, but not programmed.
    ParentNotProgrammed,
    /// Its listeners are as good as the Gateway's own.
    Taken,
}

/// Why a Gateway is not accepted, before its listeners are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayRefusal {
    /// `infrastructure.parametersRef` (as `group/kind name`): none is supported.
    Parameters(Arc<str>),
    /// An address of this type cannot be asked for.
    AddressType(Arc<str>),
}

/// Why a Gateway is not programmed although accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressProblem {
    /// This address is asked for by value, and is none of the data plane's.
    NotUsable {
        /// The value.
        asked: Arc<str>,
        /// What the data plane has.
        instead: Vec<Arc<str>>,
        /// Why it has none, if so.
        why: Option<NoAddress>,
    },
    /// An address is asked for without saying which, and there is none left of its type.
    NotAssigned {
        /// The type.
        kind: Arc<str>,
        /// Why the data plane has none at all, if so.
        why: Option<NoAddress>,
    },
    /// None is asked for, and those that the data plane should have are not there.
    NoneToGive(NoAddress),
}

/// Why a data plane has no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAddress {
    /// The settings say of none.
    Unsaid,
    /// The Service that is to say them does not exist.
    ServiceAbsent(ObjectName),
    /// The Service that is to say them could never be read.
    ServiceUnreadable(ObjectName),
    /// The Service that is to say them has none.
    ServiceWithout(ObjectName),
}

/// Of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerVerdict {
    /// Its name.
    pub name: Arc<str>,
    /// The port that APISIX listens on for it, where that is another one than it asks for.
    pub mapped: Option<Port>,
    /// Why it is not accepted, if so.
    pub refusal: Option<ListenerRefusal>,
    /// Why it may have its port, if it is accepted.
    pub footing: Footing,
    /// `supportedKinds`.
    pub supported_kinds: Vec<RouteKind>,
    /// Kinds listed in `allowedRoutes.kinds` that the protocol cannot carry.
    pub invalid_kinds: Vec<RouteKind>,
    /// Routes attached to it and accepted.
    pub attached_routes: u32,
    /// What it has to end TLS with; `None` if it does not.
    pub certificates: Option<CertificatesVerdict>,
    /// Other listeners of its Gateway and port whose hostnames overlap with its own, if any.
    pub overlap: Option<Overlap>,
}

impl ListenerVerdict {
    /// Whether it is accepted, and has what it needs to end TLS with if it has to.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.refusal.is_none() && self.certificates.as_ref().is_none_or(|certificates| certificates.usable)
    }
}

/// Listeners for TLS whose hostnames overlap with that of a listener of the same Gateway, or of a ListenerSet of it, and port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Those of the same object, by name.
    pub own: Vec<Arc<str>>,
    /// Whether there are others: the Gateway's, or those of its ListenerSets. Whose these are is nobody else's business.
    pub others: bool,
}

/// Of what a listener has to end TLS with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificatesVerdict {
    /// References that cannot be used, in the order of the spec.
    pub problems: Vec<ReferenceProblem>,
    /// Whether there is a certificate that can be used.
    pub usable: bool,
    /// Whether an earlier listener of the data plane has another certificate for the hostname. Which one is nobody else's
    /// business.
    pub taken: Option<ServerName>,
    /// The certificates that must be in etcd for the listener to be programmed: that of its hostname, or without one, some of
    /// those that its routes' names need.
    pub documents: Vec<WorkId>,
    /// When each certificate that is used may be used. To be told, not to decide anything.
    pub validity: Vec<Validity>,
}

/// Why a listener is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerRefusal {
    /// This protocol is not served.
    UnsupportedProtocol(Arc<str>),
    /// The port is outside 1..=65535.
    PortOutOfRange(i64),
    /// An earlier listener of the same Gateway or its ListenerSets has the port for the other of TCP and UDP, and APISIX
    /// cannot tell these apart.
    PortOfOtherTransport {
        /// The port.
        port: Port,
        /// The listener that has it, where it is one of the same object.
        listener: Option<Arc<str>>,
    },
    /// TLS in this mode, which the configured version of APISIX does not do.
    TlsMode(Arc<str>),
    /// The hostname is none.
    Hostname(Arc<str>),
    /// Another listener of the same object wants the port with a protocol or name that cannot be told apart from this one.
    ProtocolConflict,
    /// Another listener of the same object has the same port, protocol and hostname.
    HostnameConflict,
    /// A listener that comes before it cannot be told apart from it: the Gateway's, or one of a ListenerSet that comes first.
    /// Whose it is, is nobody else's business.
    Earlier(Clash),
    /// An older Gateway of the data plane holds the port. Which one is nobody else's business.
    PortTaken(Port),
    /// APISIX does not listen there for what the listener needs.
    NoSocket {
        /// The port.
        port: Port,
        /// What the listener needs there.
        need: Need,
        /// What is there instead.
        fault: SocketFault,
    },
}

/// What makes two listeners of one port indistinct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Connections to them cannot be told apart by protocol.
    Protocol,
    /// They have the same hostname.
    Hostname,
    /// They have the same protocol, and one that knows no hostnames.
    Listener,
}

/// How a wanted document stands in etcd; what a route's `apisix-etcd.io/Programmed` is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// etcd holds it as we wrote it. A pool that is about to be rewritten counts too: its older state serves meanwhile.
    Programmed,
    /// It is not in etcd yet.
    Pending,
    /// It would be refused by a data plane of the configured version, with the reason; it is not written.
    Refused(Arc<str>),
    /// It is not ours to write.
    Occupied {
        /// Who is in its place.
        by: Occupant,
    },
    /// Somebody else edited it, and the drift policy leaves it so.
    Edited,
    /// A guard holds the change back until it is released, or a while.
    Held {
        /// The name under which it can be released.
        name: Arc<str>,
    },
    /// Somebody else keeps rewriting the key; we go on trying.
    Contended,
}

/// Who is in the place of a document of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// A document of the controller instance of this name holds the key.
    Instance(Arc<str>),
    /// A document without an intact seal, not known to be ours, holds the key.
    Unsealed,
    /// This stream_route, which is not ours and was there first, can match the same connections.
    StreamRoute(WorkId),
}
