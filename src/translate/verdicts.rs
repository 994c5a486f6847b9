//! The last tier: what all the others say of one object, put together.

use super::{
    attachments::{AttachedListener, Attachments},
    listeners::{Gateway, Listener},
    pools::Pool,
    ports::Ports,
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
pub fn class(facts: &GatewayClassFacts, served: &Served) -> ClassVerdict {
    ClassVerdict { generation: facts.generation, unusable_parameters: facts.parameters.clone(), served: served.clone() }
}

/// Of a Gateway of ours; `attached` counts routes by listener name.
#[must_use]
pub fn gateway(
    name: &ObjectName,
    gateway: &Gateway,
    ports: &Ports,
    attached: Option<&BTreeMap<Arc<str>, u32>>,
) -> GatewayVerdict {
    let listeners = gateway
        .listeners
        .iter()
        .map(|listener| ListenerVerdict {
            name: Arc::clone(&listener.name),
            footing: listener.footing,
            refusal: listener_refusal(name, gateway, listener, ports),
            supported_kinds: listener.supported_kinds.clone(),
            invalid_kinds: listener.invalid_kinds.clone(),
            attached_routes: attached.and_then(|attached| attached.get(&listener.name)).copied().unwrap_or(0),
        })
        .collect();
    GatewayVerdict {
        generation: gateway.generation,
        refusal: gateway.refusal.clone(),
        address: gateway.address.clone(),
        listeners,
    }
}

fn listener_refusal(
    name: &ObjectName,
    gateway: &Gateway,
    listener: &Listener,
    ports: &Ports,
) -> Option<ListenerRefusal> {
    listener.refusal.clone().or_else(|| {
        let port = listener.port?;
        // A Gateway that is refused as a whole holds no port, and its listeners are not to blame.
        (gateway.refusal.is_none() && ports.holder(port) != Some(name)).then_some(ListenerRefusal::PortTaken(port))
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
    let claim = |listener: &AttachedListener| {
        let outcome = match listener.claim {
            None => ClaimOutcome::ListenerNotAccepted,
            Some(port) => match slots.holder(port) {
                Some(holder) if holder != name => ClaimOutcome::Superseded { winner: holder.clone() },
                Some(_) | None => ClaimOutcome::Holds { slot: ids::slot(port), pool: pool_id.clone() },
            },
        };
        ClaimVerdict { listener: Arc::clone(&listener.name), outcome }
    };
    let parents = attachments
        .parents
        .iter()
        .map(|parent| ParentVerdict {
            parent: parent.parent.clone(),
            attachment: parent.listeners.as_ref().map(|taking| taking.iter().map(claim).collect()).map_err(|why| *why),
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
