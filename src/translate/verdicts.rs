//! The last tier: what all the others say of one object, put together.

use super::{
    addresses::Assigned,
    attachments::{AttachedListener, Attachments, Claim},
    listeners::{Gateway, Listener},
    pools::Pool,
    ports::{Loss, Ports},
    slots::Slots,
};
use crate::{
    apisix::ids,
    model::{
        facts::{GatewayClassFacts, RouteFacts},
        names::{ObjectName, RouteRef},
        places::WorkId,
        verdicts::{
            ClaimOutcome, ClaimVerdict, ClassVerdict, GatewayVerdict, ListenerRefusal, ListenerVerdict, ParentVerdict,
            RouteVerdict, Served,
        },
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// Of a GatewayClass of ours.
#[must_use]
pub fn class(facts: &GatewayClassFacts, served: &Served, in_use: bool) -> ClassVerdict {
    ClassVerdict {
        generation: facts.generation,
        unusable_parameters: facts.parameters.clone(),
        served: served.clone(),
        in_use,
    }
}

/// Of a Gateway of ours; `attached` counts routes by listener name.
#[must_use]
pub fn gateway(
    name: &ObjectName,
    gateway: &Gateway,
    ports: &Ports,
    attached: Option<&BTreeMap<Arc<str>, u32>>,
    assigned: Assigned,
) -> GatewayVerdict {
    let listeners = gateway
        .listeners
        .iter()
        .map(|listener| ListenerVerdict {
            name: Arc::clone(&listener.name),
            footing: listener.footing,
            refusal: listener_refusal(name, listener, ports),
            supported_kinds: listener.supported_kinds.clone(),
            invalid_kinds: listener.invalid_kinds.clone(),
            attached_routes: attached.and_then(|attached| attached.get(&listener.name)).copied().unwrap_or(0),
        })
        .collect();
    GatewayVerdict {
        generation: gateway.generation,
        refusal: gateway.refusal.clone(),
        addresses: assigned.addresses,
        address: assigned.problem,
        listeners,
    }
}

fn listener_refusal(name: &ObjectName, listener: &Listener, ports: &Ports) -> Option<ListenerRefusal> {
    listener.refusal.clone().or_else(|| {
        let port = listener.port?;
        match ports.loss(port, name, &listener.name)? {
            Loss::ToOwn(listener) => {
                Some(ListenerRefusal::PortOfOtherTransport { port, listener: Arc::clone(listener) })
            }
            Loss::ToAnother => Some(ListenerRefusal::PortTaken(port)),
        }
    })
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
