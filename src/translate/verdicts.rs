//! The last tier: what all the others say of one object, put together.

use super::{
    attachments::{AttachedListener, Attachments, Claim},
    listeners::{Gateway, Listener},
    pools::Pool,
    ports::{Loss, Ports},
    sets::ListenerSet,
    slots::Slots,
};
use crate::{
    apisix::ids,
    model::{
        facts::{GatewayClassFacts, RouteFacts},
        names::{ObjectRef, RouteRef},
        places::WorkId,
        verdicts::{
            ClaimOutcome, ClaimVerdict, ClassVerdict, GatewayVerdict, ListenerRefusal, ListenerSetVerdict,
            ListenerVerdict, ParentVerdict, Reception, RouteVerdict, Served,
        },
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Of a GatewayClass of ours.
#[must_use]
pub fn class(facts: &GatewayClassFacts, served: &Served) -> ClassVerdict {
    ClassVerdict { generation: facts.generation, unusable_parameters: facts.parameters.clone(), served: served.clone() }
}

/// Routes attached, by listener name.
type Attached = BTreeMap<Arc<str>, u32>;

/// Of a Gateway of ours; `listener_sets` says how many accepted sets add to it.
#[must_use]
pub fn gateway(
    name: &ObjectRef,
    gateway: &Gateway,
    ports: &Ports,
    attached: Option<&Attached>,
    listener_sets: usize,
) -> GatewayVerdict {
    GatewayVerdict {
        generation: gateway.generation,
        refusal: gateway.refusal.clone(),
        address: gateway.address.clone(),
        listeners: listeners(name, &gateway.listeners, ports, attached),
        listener_sets: u32::try_from(listener_sets).unwrap_or(u32::MAX),
    }
}

/// Of a ListenerSet of `gateway`, which is ours.
#[must_use]
pub fn listener_set(
    name: &ObjectRef,
    set: &ListenerSet,
    gateway: &Gateway,
    ports: &Ports,
    attached: Option<&Attached>,
) -> ListenerSetVerdict {
    let reception = if !set.allowed {
        Reception::NotAllowed
    } else if !ports.stands(&set.gateway) {
        Reception::ParentNotAccepted
    } else if gateway.address.is_some() {
        Reception::ParentNotProgrammed
    } else {
        Reception::Taken
    };
    let listed: &[Listener] = if set.allowed { &set.listeners } else { &[] };
    ListenerSetVerdict { generation: set.generation, reception, listeners: listeners(name, listed, ports, attached) }
}

fn listeners(
    owner: &ObjectRef,
    listeners: &[Listener],
    ports: &Ports,
    attached: Option<&Attached>,
) -> Vec<ListenerVerdict> {
    let verdict = |listener: &Listener| ListenerVerdict {
        name: Arc::clone(&listener.name),
        footing: listener.footing,
        refusal: listener_refusal(owner, listener, ports),
        supported_kinds: listener.supported_kinds.clone(),
        invalid_kinds: listener.invalid_kinds.clone(),
        attached_routes: attached.and_then(|attached| attached.get(&listener.name)).copied().unwrap_or(0),
    };
    listeners.iter().map(verdict).collect()
}

/// Why a listener is not accepted. That it clashes with an earlier one says more than that it could not be served.
#[must_use]
pub fn listener_refusal(owner: &ObjectRef, listener: &Listener, ports: &Ports) -> Option<ListenerRefusal> {
    let lost = || {
        let port = listener.port?;
        Some((port, ports.loss(port, owner, &listener.name)?))
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

/// Of a route. `pool` is `None` while no parent of it is ours.
#[must_use]
pub fn route(
    name: &RouteRef,
    facts: &RouteFacts,
    attachments: &Attachments,
    slots: &Slots,
    pool: Option<&Pool>,
    pool_id: &WorkId,
) -> RouteVerdict {
    let outcome = |Claim { slot, more_specific, passthrough: _ }: &Claim| match slots.holder(slot) {
        Some(_) | None if *more_specific => ClaimOutcome::ListenerMoreSpecific,
        Some(holder) if holder != name => ClaimOutcome::Superseded { winner: holder.clone() },
        Some(_) | None => ClaimOutcome::Holds { slot: ids::slot(slot), pool: pool_id.clone(), certificate: None },
    };
    let claims = |listener: &AttachedListener| {
        let outcomes = match &listener.claims {
            None => vec![(None, ClaimOutcome::ListenerNotAccepted)],
            Some(claims) => claims.iter().map(|claim| (claim.slot.name.clone(), outcome(claim))).collect(),
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
                .map(|taking| taking.iter().flat_map(claims).collect())
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
