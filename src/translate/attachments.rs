//! Tier 3: a route and the listeners of its parents give what each parent says of it, and its claims.

use super::{
    known::{Known, gateway_name},
    listeners::Gateway,
    ports::Ports,
};
use crate::model::{
    facts::{ParentRef, RouteFacts},
    names::{ObjectName, RouteRef},
    places::Slot,
    verdicts::AttachmentRefusal,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Where a route attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// One for each parentRef that resolves to a Gateway of ours, in the order of the spec, without repeats.
    pub parents: Vec<ParentAttachment>,
    /// parentRefs whose Gateway is frozen.
    pub frozen: Vec<ParentRef>,
    /// Whether what a parent says hangs on an object that exists but could never be read: the Gateway itself, or the
    /// route's Namespace where labels decide.
    pub parent_unreadable: bool,
}

/// A route at one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentAttachment {
    /// The parentRef as the spec has it.
    pub parent: ParentRef,
    /// The Gateway it names.
    pub gateway: ObjectName,
    /// The listeners that take the route, or why none does.
    pub listeners: Result<Vec<AttachedListener>, AttachmentRefusal>,
}

/// One listener that takes a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedListener {
    /// Its name.
    pub name: Arc<str>,
    /// The slots the route claims through it; `None` if the listener is not accepted.
    pub claims: Option<Vec<Slot>>,
}

impl Attachments {
    /// The listeners that count this route, each once.
    #[must_use]
    pub fn counted(&self) -> BTreeSet<(ObjectName, Arc<str>)> {
        let listeners = |parent: &ParentAttachment| {
            let gateway = parent.gateway.clone();
            let names: Vec<_> = parent.listeners.iter().flatten().map(|listener| Arc::clone(&listener.name)).collect();
            names.into_iter().map(move |name| (gateway.clone(), name))
        };
        self.parents.iter().flat_map(listeners).collect()
    }

    /// The slots the route claims, each once however many listeners lead there.
    #[must_use]
    pub fn claims(&self) -> BTreeSet<Slot> {
        let listeners = self.parents.iter().flat_map(|parent| parent.listeners.iter().flatten());
        listeners.flat_map(|listener| listener.claims.iter().flatten()).cloned().collect()
    }
}

/// Attaches `route` to its parents. The order of the checks gives the reason: name and port, then kind and namespace.
pub(super) fn attach(
    route: &RouteRef,
    facts: &RouteFacts,
    gateways: &HashMap<ObjectName, Gateway>,
    ports: &Ports,
    known: &Known,
) -> Attachments {
    let mut attachments = Attachments::default();
    let mut seen = BTreeSet::new();
    let home = ObjectName::cluster(&route.name.namespace);
    for parent in facts.parents.iter().filter(|parent| seen.insert(*parent)) {
        let Some(name) = gateway_name(parent, &route.name) else { continue };
        attachments.parent_unreadable |= known.gateways.is_unreadable(&name);
        let Some(gateway) = gateways.get(&name) else { continue };
        attachments.parent_unreadable |= gateway.selects_by_label() && known.namespaces.is_unreadable(&home);
        if gateway.frozen {
            attachments.frozen.push(parent.clone());
            continue;
        }
        let listeners = listeners_taking(route, parent, &name, gateway, ports, known);
        attachments.parents.push(ParentAttachment { parent: parent.clone(), gateway: name, listeners });
    }
    attachments
}

fn listeners_taking(
    route: &RouteRef,
    parent: &ParentRef,
    name: &ObjectName,
    gateway: &Gateway,
    ports: &Ports,
    known: &Known,
) -> Result<Vec<AttachedListener>, AttachmentRefusal> {
    let mut named = gateway
        .listeners
        .iter()
        .filter(|listener| parent.section_name.as_ref().is_none_or(|section| *section == listener.name))
        .filter(|listener| parent.port.is_none_or(|port| port == listener.port_asked))
        .peekable();
    if named.peek().is_none() {
        return Err(AttachmentRefusal::NoMatchingParent);
    }
    let taking: Vec<AttachedListener> = named
        .filter(|listener| listener.admits(route.kind, &route.name.namespace, &name.namespace, known))
        .map(|listener| {
            let accepted = gateway.refusal.is_none() && listener.refusal.is_none();
            let has = |port| accepted && ports.has(port, listener.hostname.as_ref(), name, &listener.name);
            let claims = listener.port.filter(|port| has(*port)).map(|port| vec![Slot::of_port(port)]);
            AttachedListener { name: Arc::clone(&listener.name), claims }
        })
        .collect();
    if taking.is_empty() { Err(AttachmentRefusal::NotAllowedByListeners) } else { Ok(taking) }
}
