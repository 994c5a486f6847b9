//! Tier 3: a route and the listeners of its parents give what each parent says of it, and its claims.

use super::{
    desired::Planes,
    known::{Known, parent_named},
    listeners::{self, Listener, Protocol},
    ports::Ports,
    sets::{Owner, Owners},
};
use crate::model::{
    facts::{ParentRef, RouteFacts},
    names::{Kind, ObjectName, ObjectRef, RouteRef},
    places::{Plane, Port, ServerName, Slot},
    verdicts::AttachmentRefusal,
};
use std::{collections::BTreeSet, sync::Arc};

/// Where a route attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// One for each parentRef that resolves to a Gateway of ours or a ListenerSet of one, in the order of the spec, without repeats.
    pub parents: Vec<ParentAttachment>,
    /// parentRefs whose Gateway is frozen.
    pub frozen: Vec<ParentRef>,
    /// These Gateways.
    pub frozen_gateways: BTreeSet<ObjectName>,
    /// Whether what a parent says hangs on an object that exists but could never be read: the Gateway or ListenerSet itself, or
    /// a Namespace where labels decide.
    pub parent_unreadable: bool,
}

/// A route at one parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentAttachment {
    /// The parentRef as the spec has it.
    pub parent: ParentRef,
    /// The Gateway or ListenerSet it names.
    pub owner: ObjectRef,
    /// Its data plane.
    pub plane: Plane,
    /// The Gateway it is, or adds to.
    pub gateway: ObjectName,
    /// The listeners that take the route, or why none does.
    pub listeners: Result<Vec<AttachedListener>, AttachmentRefusal>,
}

/// One listener that takes a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedListener {
    /// Its name.
    pub name: Arc<str>,
    /// What the route claims through it, or why it claims nothing.
    pub claims: Result<Vec<Claim>, NoClaims>,
    /// Whether it is to end TLS.
    pub ends_tls: bool,
}

/// Why nothing can be claimed through a listener that takes a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoClaims {
    /// It is not accepted.
    NotAccepted,
    /// It has no certificate that can be used.
    NoCertificate,
}

/// A slot that a route would have through a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The slot.
    pub slot: Slot,
    /// Whether a listener with a more specific hostname takes its connections, so that it is no claim.
    pub more_specific: bool,
    /// Whether connections are to be handed on as they come, TLS and all.
    pub passthrough: bool,
}

impl Attachments {
    /// The listeners that count this route, each once.
    #[must_use]
    pub fn counted(&self) -> BTreeSet<(ObjectRef, Arc<str>)> {
        let listeners = |parent: &ParentAttachment| {
            let owner = parent.owner.clone();
            let names: Vec<_> = parent.listeners.iter().flatten().map(|listener| Arc::clone(&listener.name)).collect();
            names.into_iter().map(move |name| (owner.clone(), name))
        };
        self.parents.iter().flat_map(listeners).collect()
    }

    /// Whether the connections of a slot that the route claims are to be handed on as they come.
    #[must_use]
    pub fn passes_through(&self, plane: Plane, slot: &Slot) -> bool {
        self.made().any(|(of, claim)| of == plane && claim.slot == *slot && claim.passthrough)
    }

    /// The slots the route claims, each once however many listeners lead there.
    #[must_use]
    pub fn claims(&self) -> BTreeSet<(Plane, Slot)> {
        self.made().map(|(plane, claim)| (plane, claim.slot.clone())).collect()
    }

    /// The data planes of its parents.
    #[must_use]
    pub fn planes(&self) -> BTreeSet<Plane> {
        self.parents.iter().map(|parent| parent.plane).collect()
    }

    /// The Gateways by whose listeners, or those of their ListenerSets, TLS is ended for the route.
    ///
    /// A listener counts once it is accepted, whoever holds its slots and also while it has no certificate: otherwise what
    /// becomes of a backend would change with other people's routes, and with each Secret that is replaced.
    pub fn ending_tls(&self) -> impl Iterator<Item = &ObjectName> {
        let ends = |listener: &AttachedListener| listener.ends_tls && listener.claims != Err(NoClaims::NotAccepted);
        let parents = self.parents.iter().filter(move |parent| parent.listeners.iter().flatten().any(ends));
        parents.map(|parent| &parent.gateway)
    }

    /// Whether TLS is ended for the route anywhere.
    #[must_use]
    pub fn ends_tls(&self) -> bool {
        self.ending_tls().next().is_some()
    }

    /// Every claim that is one.
    fn made(&self) -> impl Iterator<Item = (Plane, &Claim)> {
        self.parents.iter().flat_map(|parent| parent.made().map(|claim| (parent.plane, claim)))
    }
}

impl ParentAttachment {
    fn made(&self) -> impl Iterator<Item = &Claim> {
        let claims = self.listeners.iter().flatten().flat_map(|listener| listener.claims.iter().flatten());
        claims.filter(|claim| !claim.more_specific)
    }
}

/// Attaches `route` to its parents. The order of the checks gives the reason: name and port, then kind and namespace.
pub(super) fn attach(
    route: &RouteRef,
    facts: &RouteFacts,
    owners: &Owners,
    planes: &Planes,
    known: &Known,
) -> Attachments {
    let mut attachments = Attachments::default();
    let mut seen = BTreeSet::new();
    let home = ObjectName::cluster(&route.name.namespace);
    for parent in facts.parents.iter().filter(|parent| seen.insert(*parent)) {
        let Some(named) = parent_named(parent, &route.name) else { continue };
        attachments.parent_unreadable |= is_unreadable(&named, known);
        let Some(owner) = owners.of(&named) else { continue };
        let Some(gateway) = gateway_of(&named, known) else { continue };
        let by_label = listeners::select_by_label(owner.listeners);
        attachments.parent_unreadable |= owner.unreadable || by_label && known.namespaces.is_unreadable(&home);
        let Some((plane, state)) = owner.plane.and_then(|plane| Some((plane, planes.of(plane)?))) else {
            attachments.frozen.push(parent.clone());
            attachments.frozen_gateways.insert(gateway);
            continue;
        };
        let listeners = if owner.disallowed {
            Err(AttachmentRefusal::ListenerSetNotAllowed)
        } else {
            listeners_taking(route, facts, parent, &named, owner, &state.ports, known)
        };
        attachments.parents.push(ParentAttachment { parent: parent.clone(), owner: named, plane, gateway, listeners });
    }
    attachments
}

/// The Gateway of a parent: a Gateway, or a ListenerSet that adds to one.
fn gateway_of(named: &ObjectRef, known: &Known) -> Option<ObjectName> {
    if named.kind == Kind::ListenerSet { known.gateway_of(&named.name) } else { Some(named.name.clone()) }
}

/// Whether the Gateway, or the ListenerSet or its Gateway, exists but could never be read.
fn is_unreadable(named: &ObjectRef, known: &Known) -> bool {
    if named.kind == Kind::ListenerSet {
        let gateway = known.gateway_of(&named.name);
        return known.sets.is_unreadable(&named.name)
            || gateway.is_some_and(|gateway| known.gateways.is_unreadable(&gateway));
    }
    known.gateways.is_unreadable(&named.name)
}

fn listeners_taking(
    route: &RouteRef,
    facts: &RouteFacts,
    parent: &ParentRef,
    named: &ObjectRef,
    owner: Owner<'_>,
    ports: &Ports,
    known: &Known,
) -> Result<Vec<AttachedListener>, AttachmentRefusal> {
    let mut asked_for = owner
        .listeners
        .iter()
        .filter(|listener| parent.section_name.as_ref().is_none_or(|section| *section == listener.name))
        .filter(|listener| parent.port.is_none_or(|port| port == listener.port_asked))
        .peekable();
    if asked_for.peek().is_none() {
        return Err(AttachmentRefusal::NoMatchingParent);
    }
    let admits =
        |listener: &&Listener| listener.admits(route.kind, &route.name.namespace, &named.name.namespace, known);
    let mut admitting = asked_for.filter(admits).peekable();
    if admitting.peek().is_none() {
        return Err(AttachmentRefusal::NotAllowedByListeners);
    }
    let taking: Vec<AttachedListener> = admitting
        .filter_map(|listener| {
            let names = names_at(route.kind, facts, listener)?;
            let accepted = listener.refusal.is_none();
            let has = |port| accepted && ports.has(port, listener.hostname.as_ref(), named, &listener.name);
            let port = listener.port.filter(|port| has(*port));
            let claims = match port {
                None => Err(NoClaims::NotAccepted),
                Some(_) if listener.lacks_certificate() => Err(NoClaims::NoCertificate),
                Some(port) => Ok(names.into_iter().map(|name| claim(port, name, listener, ports)).collect()),
            };
            let ends_tls = listener.protocol.ends_tls();
            Some(AttachedListener { name: Arc::clone(&listener.name), claims, ends_tls })
        })
        .collect();
    if taking.is_empty() { Err(AttachmentRefusal::NoMatchingListenerHostname) } else { Ok(taking) }
}

/// The server names that a route may claim at a listener, each once; `None` if it has names and none of them is the
/// listener's.
fn names_at(kind: Kind, facts: &RouteFacts, listener: &Listener) -> Option<BTreeSet<Option<ServerName>>> {
    if kind != Kind::TlsRoute || !listener.protocol.is_tls() {
        return Some([listener.hostname.clone()].into());
    }
    let names = facts.hostnames.iter().filter_map(|hostname| ServerName::of(hostname));
    let names: BTreeSet<Option<ServerName>> = match &listener.hostname {
        None => names.map(Some).collect(),
        Some(own) => names.filter_map(|name| Some(Some(name.intersection(own)?.clone()))).collect(),
    };
    (!names.is_empty()).then_some(names)
}

fn claim(port: Port, name: Option<ServerName>, listener: &Listener, ports: &Ports) -> Claim {
    let taken = name.as_ref().is_some_and(|name| ports.most_specific(port, name) != Some(listener.hostname.clone()));
    let passthrough = listener.protocol == Protocol::TlsPassthrough;
    Claim { slot: Slot { port, name }, more_specific: taken, passthrough }
}
