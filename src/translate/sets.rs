//! Tier 1, for ListenerSets: a set's facts and its Gateway give its listeners and whether the Gateway allows them; and every
//! object with listeners, of either kind, by name.
//!
//! A ListenerSet adds to one Gateway what counts as the Gateway's own listeners count, after these, in the Gateway's turn at
//! ports. What it says of routes and certificates is said from its own namespace, not from the Gateway's.

use super::{
    grants::Referrer,
    known::{Known, gateway_name},
    listeners::{self, Gateway, Listener},
    planes::PlaneSettings,
    ports::{ListenerRef, turns::Turn},
};
use crate::model::{
    facts::{FromNamespaces, listener_sets::ListenerSetFacts},
    names::{Created, Kind, ObjectName, ObjectRef},
    places::Plane,
};
use std::collections::HashMap;

/// A ListenerSet whose Gateway is ours or frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSet {
    /// `metadata.generation`.
    pub generation: i64,
    /// Decides between sets of one Gateway.
    pub created: Created,
    /// The Gateway it adds to.
    pub gateway: ObjectName,
    /// When that Gateway was created: it decides between sets of different Gateways.
    pub gateway_created: Created,
    /// Its Gateway's data plane; `None` if its Gateway is frozen.
    pub plane: Option<Plane>,
    /// Whether its Gateway allows listeners from its namespace.
    pub allowed: bool,
    /// Whether that hangs on the labels of its own namespace, which could never be read.
    pub allowed_unreadable: bool,
    /// In the order of the spec.
    pub listeners: Vec<Listener>,
}

/// Reads a ListenerSet; `None` if it names no Gateway that is ours or frozen. `settings` are those of its data plane.
#[must_use]
pub(super) fn listener_set(
    name: &ObjectName,
    facts: &ListenerSetFacts,
    gateways: &HashMap<ObjectName, Gateway>,
    known: &Known,
    settings: &PlaneSettings,
) -> Option<ListenerSet> {
    let parent = gateway_name(&facts.parent, name)?;
    let gateway = gateways.get(&parent)?;
    let from = &gateway.allowed_listeners;
    let labelled = matches!(from, FromNamespaces::Selector(_));
    let referrer = Referrer { kind: Kind::ListenerSet, namespace: &name.namespace };
    Some(ListenerSet {
        generation: facts.generation,
        created: facts.created,
        gateway_created: gateway.created,
        plane: gateway.plane,
        allowed: listeners::includes(from, &name.namespace, &parent.namespace, known),
        allowed_unreadable: labelled && known.namespaces.is_unreadable(&ObjectName::cluster(&name.namespace)),
        gateway: parent,
        listeners: listeners::listeners(referrer, &facts.listeners, known, settings),
    })
}

/// Every object with listeners whose class is ours or absent.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// Gateways.
    pub gateways: HashMap<ObjectName, Gateway>,
    /// ListenerSets.
    pub sets: HashMap<ObjectName, ListenerSet>,
}

/// What a route finds where it looks for listeners.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// Its data plane; `None` of one that is frozen, as its class is absent or unusable.
    pub plane: Option<Plane>,
    /// Whether it is a ListenerSet that its Gateway does not allow.
    pub disallowed: bool,
    /// Whether that it is allowed hangs on an object that could never be read.
    pub unreadable: bool,
    /// Its listeners.
    pub listeners: &'a [Listener],
}

impl Owners {
    /// A listener, and its place in its object.
    #[must_use]
    pub fn listener(&self, listener: &ListenerRef) -> Option<(usize, &Listener)> {
        let listeners = self.of(&listener.owner)?.listeners;
        listeners.iter().enumerate().find(|(_, other)| other.name == listener.name)
    }

    /// Orders objects with listeners as these take turns.
    #[must_use]
    pub fn turn(&self, owner: &ObjectRef) -> Option<Turn> {
        let of_set = || Some(Turn::of_set(&owner.name, self.sets.get(&owner.name)?));
        let of_gateway = || Some(Turn::of_gateway(&owner.name, self.gateways.get(&owner.name)?));
        if owner.kind == Kind::ListenerSet { of_set() } else { of_gateway() }
    }

    /// The listeners of an object, if it is a Gateway or a ListenerSet that concerns us.
    #[must_use]
    pub fn of(&self, owner: &ObjectRef) -> Option<Owner<'_>> {
        match owner.kind {
            Kind::Gateway => {
                let Gateway { plane, listeners, .. } = self.gateways.get(&owner.name)?;
                Some(Owner { plane: *plane, disallowed: false, unreadable: false, listeners })
            }
            Kind::ListenerSet => {
                let set = self.sets.get(&owner.name)?;
                Some(Owner {
                    plane: set.plane,
                    disallowed: !set.allowed,
                    unreadable: set.allowed_unreadable,
                    listeners: &set.listeners,
                })
            }
            Kind::DataPlane
            | Kind::GatewayClass
            | Kind::TcpRoute
            | Kind::UdpRoute
            | Kind::TlsRoute
            | Kind::ReferenceGrant
            | Kind::BackendTlsPolicy
            | Kind::Namespace
            | Kind::Secret
            | Kind::Service
            | Kind::EndpointSlice => None,
        }
    }
}

#[cfg(test)]
mod tests;
