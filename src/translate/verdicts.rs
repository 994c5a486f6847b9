//! The last tier: what all the others say of one object, put together.

use super::{
    addresses::Assigned,
    attachments::{AttachedListener, Attachments, Claim, NoClaims},
    certificates::{Certificates, Ending},
    desired::{PlaneState, Planes},
    listeners::{Gateway, Listener},
    planes::PlaneOf,
    pools::Pool,
    ports::{ListenerRef, Loss, Ports},
    sets::{ListenerSet, Owners},
};
use crate::{
    apisix::{ids, version::ApisixVersion},
    model::{
        facts::{GatewayClassFacts, RouteFacts},
        names::{ObjectRef, RouteRef},
        places::{Directory, Plane, WorkId},
        verdicts::{
            CertificatesVerdict, ClaimOutcome, ClaimVerdict, ClassVerdict, GatewayVerdict, ListenerRefusal,
            ListenerSetVerdict, ListenerVerdict, ParentVerdict, Reception, RouteVerdict, Served,
        },
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Of a GatewayClass of ours; `plane` is what its parameters lead to.
#[must_use]
pub fn class(
    facts: &GatewayClassFacts,
    plane: PlaneOf,
    served: &Served,
    in_use: bool,
    version: ApisixVersion,
) -> ClassVerdict {
    let version = match &plane {
        PlaneOf::Named(_, settings) => settings.version,
        PlaneOf::Default | PlaneOf::Unusable(_) => version,
    };
    ClassVerdict {
        generation: facts.generation,
        unusable_parameters: match plane {
            PlaneOf::Default | PlaneOf::Named(..) => None,
            PlaneOf::Unusable(problem) => Some(problem),
        },
        served: served.clone(),
        in_use,
        passes_tls_through: version.has_tls_passthrough(),
    }
}

/// Routes attached, by listener name.
type Attached = BTreeMap<Arc<str>, u32>;

/// Of a Gateway of ours; `listener_sets` says how many accepted sets add to it.
#[must_use]
pub fn gateway(
    gateway: &Gateway,
    listeners: Vec<ListenerVerdict>,
    assigned: Assigned,
    listener_sets: usize,
) -> GatewayVerdict {
    GatewayVerdict {
        generation: gateway.generation,
        refusal: gateway.refusal.clone(),
        addresses: assigned.addresses,
        address: assigned.problem,
        listeners,
        listener_sets: u32::try_from(listener_sets).unwrap_or(u32::MAX),
    }
}

/// Of a ListenerSet whose Gateway is ours. `listeners` are those of a set that is allowed, `address` whether its Gateway
/// has every address that it should have.
#[must_use]
pub fn listener_set(
    set: &ListenerSet,
    listeners: Vec<ListenerVerdict>,
    address: bool,
    ports: &Ports,
) -> ListenerSetVerdict {
    let reception = if !set.allowed {
        Reception::NotAllowed
    } else if !ports.stands(&set.gateway) {
        Reception::ParentNotAccepted
    } else if !address {
        Reception::ParentNotProgrammed
    } else {
        Reception::Taken
    };
    ListenerSetVerdict { generation: set.generation, reception, listeners }
}

/// Of the listeners of a Gateway or ListenerSet.
pub(super) fn listeners(
    owner: &ObjectRef,
    listeners: &[Listener],
    ports: &Ports,
    certificates: &Certificates,
    attached: Option<&Attached>,
) -> Vec<ListenerVerdict> {
    let verdict = |listener: &Listener| {
        let refusal = listener_refusal(owner, listener, ports);
        // What a listener carries cannot be said while it cannot be told from another (the conformance suite's
        // `TLSRouteListenerMixedTerminationNotSupported`). Routes attach to it as ever, and wait.
        let carries = refusal != Some(ListenerRefusal::ProtocolConflict);
        ListenerVerdict {
            name: Arc::clone(&listener.name),
            mapped: listener.port.filter(|port| listener.asked_port() != Some(*port)),
            footing: listener.footing,
            refusal,
            supported_kinds: if carries { listener.supported_kinds.clone() } else { Vec::new() },
            invalid_kinds: listener.invalid_kinds.clone(),
            attached_routes: attached.and_then(|attached| attached.get(&listener.name)).copied().unwrap_or(0),
            certificates: of_certificates(owner, listener, ports, certificates),
            overlap: listener
                .port
                .and_then(|port| ports.overlap(port, listener.hostname.as_ref(), owner, &listener.name)),
        }
    };
    listeners.iter().map(verdict).collect()
}

/// Why a listener is not accepted. That it clashes with an earlier one says more than that it could not be served.
#[must_use]
pub fn listener_refusal(owner: &ObjectRef, listener: &Listener, ports: &Ports) -> Option<ListenerRefusal> {
    let lost = || {
        let loss = ports.loss(listener.port?, owner, &listener.name)?;
        Some((listener.asked_port()?, loss))
    };
    match (lost(), &listener.refusal) {
        (Some((_, Loss::Clash(clash))), _) => Some(ListenerRefusal::Earlier(*clash)),
        (_, Some(refusal)) => Some(refusal.clone()),
        (None, None) => None,
        (Some((port, Loss::ToOwn(listener))), None) => {
            Some(ListenerRefusal::PortOfOtherTransport { port, listener: Some(Arc::clone(listener)) })
        }
        (Some((port, Loss::ToKin)), None) => Some(ListenerRefusal::PortOfOtherTransport { port, listener: None }),
        (Some((port, Loss::ToAnother)), None) => Some(ListenerRefusal::PortTaken(port)),
    }
}

/// How many certificates a listener without a hostname is held to. Each of its routes says how its own stand.
const DOCUMENTS_MAX: usize = 32;

fn of_certificates(
    owner: &ObjectRef,
    listener: &Listener,
    ports: &Ports,
    certificates: &Certificates,
) -> Option<CertificatesVerdict> {
    let pairs = listener.certificates.as_ref()?;
    let reference = ListenerRef { owner: owner.clone(), name: Arc::clone(&listener.name) };
    let hostname = listener.hostname.as_ref();
    let port = listener.port.filter(|port| ports.has(*port, hostname, owner, &listener.name));
    let (taken, documents) = match (port, hostname) {
        (None, _) => (None, Vec::new()),
        (Some(_), Some(name)) if certificates.serves(name, &reference, pairs) == Some(false) => {
            (Some(name.clone()), Vec::new())
        }
        (Some(_), Some(name)) => (None, certificates.place(name).into_iter().collect()),
        (Some(port), None) => {
            let names = certificates.served(port, &reference, listener, ports).take(DOCUMENTS_MAX);
            (None, names.filter_map(|name| certificates.place(name)).collect())
        }
    };
    Some(CertificatesVerdict {
        problems: pairs.problems.clone(),
        usable: pairs.usable(),
        taken,
        documents,
        validity: pairs.pairs.iter().map(|pair| pair.validity()).collect(),
    })
}

/// A route, where it attaches, and the id of its pools.
#[derive(Clone, Copy)]
pub(super) struct Routed<'a> {
    pub(super) name: &'a RouteRef,
    pub(super) attachments: &'a Attachments,
    pub(super) pool_id: &'a Arc<str>,
}

/// What becomes of a claim.
fn outcome(of: Routed<'_>, claim: &Claim, plane: Plane, state: &PlaneState, owners: &Owners) -> ClaimOutcome {
    let Claim { slot, more_specific, passthrough: _ } = claim;
    let pool = || WorkId { plane, directory: Directory::Upstreams, id: Arc::clone(of.pool_id) };
    let holds = |certificate| ClaimOutcome::Holds { slot: ids::slot(plane, slot), pool: pool(), certificate };
    match state.slots.holder(slot) {
        Some(_) | None if *more_specific => ClaimOutcome::ListenerMoreSpecific,
        Some(holder) if holder != of.name => ClaimOutcome::Superseded { winner: holder.clone() },
        Some(_) | None => match state.certificates.ending(slot, state.view(owners)) {
            Ending::No => holds(None),
            Ending::With(name) => holds(state.certificates.place(name)),
            Ending::Taken => ClaimOutcome::CertificateTaken,
            Ending::NoName => ClaimOutcome::NoName,
        },
    }
}

/// Of a route. `pool` is `None` while no parent of it is ours.
pub(super) fn route(
    of: Routed<'_>,
    facts: &RouteFacts,
    pool: Option<&Pool>,
    planes: &Planes,
    owners: &Owners,
) -> RouteVerdict {
    let attachments = of.attachments;
    let claims = |plane: Plane, listener: &AttachedListener| {
        let state = planes.of(plane);
        let outcome = |claim| state.map(|state| outcome(of, claim, plane, state, owners));
        let outcomes = match &listener.claims {
            Err(NoClaims::NotAccepted) => vec![(None, ClaimOutcome::ListenerNotAccepted)],
            Err(NoClaims::NoCertificate) => vec![(None, ClaimOutcome::NoCertificate)],
            Ok(claims) => claims.iter().filter_map(|claim| Some((claim.slot.name.clone(), outcome(claim)?))).collect(),
        };
        let listener = Arc::clone(&listener.name);
        let verdict = move |(hostname, outcome)| ClaimVerdict { listener: Arc::clone(&listener), hostname, outcome };
        outcomes.into_iter().map(verdict)
    };
    let parents = attachments
        .parents
        .iter()
        .map(|parent| ParentVerdict {
            parent: parent.parent.clone(),
            attachment: parent
                .listeners
                .as_ref()
                .map(|taking| taking.iter().flat_map(|listener| claims(parent.plane, listener)).collect())
                .map_err(|why| *why),
        })
        .collect();
    RouteVerdict {
        generation: facts.generation,
        parents,
        frozen_parents: attachments.frozen.clone(),
        backends: pool.map(|pool| pool.verdict.clone()).unwrap_or_default(),
        rules_not_served: facts.rules.saturating_sub(1),
    }
}
