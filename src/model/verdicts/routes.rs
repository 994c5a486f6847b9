//! Of a route: what each parent and each claim of a slot came to, and the backends.

use crate::model::{
    facts::ParentRef,
    names::{ObjectName, RouteRef},
    places::{ServerName, WorkId},
};
use std::sync::Arc;

/// Of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteVerdict {
    /// The generation this was computed from.
    pub generation: i64,
    /// One for each parentRef that resolves to a Gateway of ours or a ListenerSet of one, in the order of the spec.
    pub parents: Vec<ParentVerdict>,
    /// parentRefs whose Gateway is frozen (its class is absent or unusable): entries of ours there are left as they are.
    pub frozen_parents: Vec<ParentRef>,
    /// What became of the backends.
    pub backends: BackendsVerdict,
    /// Rules after the first, which are not served.
    pub rules_not_served: usize,
}

/// Of a route at one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentVerdict {
    /// The parentRef as the spec has it.
    pub parent: ParentRef,
    /// The slots it asked for, one for each listener that takes the route, or why none does.
    pub attachment: Result<Vec<ClaimVerdict>, AttachmentRefusal>,
}

/// Why a route does not attach to a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentRefusal {
    /// No listener has this sectionName and port.
    NoMatchingParent,
    /// The parent is a ListenerSet that its Gateway does not allow, so that it has no listeners there.
    ListenerSetNotAllowed,
    /// The listeners there are admit neither the kind nor the namespace.
    NotAllowedByListeners,
    /// None of the route's hostnames is one of a listener's.
    NoMatchingListenerHostname,
}

/// What became of one claim of a route on a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimVerdict {
    /// The listener the claim came through.
    pub listener: Arc<str>,
    /// The server name it is for; `None` for every connection of the port.
    pub hostname: Option<ServerName>,
    /// What became of it.
    pub outcome: ClaimOutcome,
}

/// What became of one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The route holds the slot: it is programmed once etcd has these documents.
    Holds {
        /// The stream_route.
        slot: WorkId,
        /// The upstream it names.
        pool: WorkId,
        /// The certificate it needs, where TLS is terminated for it.
        certificate: Option<WorkId>,
    },
    /// An older route holds the slot.
    Superseded {
        /// The winner.
        winner: RouteRef,
    },
    /// A listener of the port with a more specific hostname takes these connections.
    ListenerMoreSpecific,
    /// The listener itself is not accepted.
    ListenerNotAccepted,
    /// The listener has no certificate that can be used.
    NoCertificate,
    /// An earlier listener of the data plane has another certificate for this name: whoever asks for it is turned away here.
    CertificateTaken,
    /// The listener has no hostname, and its certificates name none, or only names that others have: no client can ask for it.
    NoName,
}

/// What became of a route's backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendsVerdict {
    /// References that do not resolve, in the order of the spec.
    pub problems: Vec<BackendProblem>,
    /// Share of connections that is refused on purpose (invalid or empty backends), if any.
    pub refused: Option<RefusedShare>,
    /// Whether weights had to be rounded by more than one percentage point of any backend's share.
    pub rounded: bool,
}

/// Share of connections that is refused on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedShare {
    /// `refused` of `total`, in the units of `backendRefs` weights.
    Part {
        /// The summed weight of bad backends.
        refused: u64,
        /// The summed weight of all backends.
        total: u64,
    },
    /// Everything: no backend has an endpoint and a weight.
    All,
}

/// One backend reference that does not resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendProblem {
    /// Its place in `backendRefs`.
    pub index: usize,
    /// What is wrong.
    pub fault: BackendFault,
}

/// What is wrong with a backend reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendFault {
    /// Not a core Service.
    UnknownKind {
        /// `group`.
        group: Arc<str>,
        /// `kind`.
        kind: Arc<str>,
    },
    /// In another namespace that grants nothing; whether it exists is not said.
    NotPermitted(ObjectName),
    /// No such Service.
    NotFound(ObjectName),
    /// The Service exists, but could never be read.
    Unreadable(ObjectName),
    /// `port` is absent.
    PortMissing(ObjectName),
    /// The Service has no such port.
    PortNotFound {
        /// The Service.
        service: ObjectName,
        /// The port asked for.
        port: i64,
    },
    /// The Service has the port, but for another transport protocol.
    OtherTransport {
        /// The Service.
        service: ObjectName,
        /// The port asked for.
        port: i64,
    },
    /// The Service is of type ExternalName.
    ExternalName(ObjectName),
    /// TLS is ended for the route, and a BackendTLSPolicy demands that connections to the Service are of TLS again.
    TlsDemanded {
        /// The Service.
        service: ObjectName,
        /// The policy, in the Service's namespace; the first by name where there are several.
        policy: Arc<str>,
    },
    /// TLS is ended for the route, and the port's `appProtocol` is one of TLS.
    TlsProtocol {
        /// The Service.
        service: ObjectName,
        /// The port asked for.
        port: i64,
        /// `appProtocol`.
        protocol: Arc<str>,
    },
}
