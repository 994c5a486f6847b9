//! Who wants which port, and in which order listeners take turns.
//!
//! A Gateway or a ListenerSet as tier 1 read it goes in, its contenders for each port come out. Nothing is decided here.

use super::ListenerRef;
use crate::{
    model::{
        names::{Created, Kind, ObjectName, ObjectRef},
        places::{Plane, Port, ServerName},
    },
    translate::{
        listeners::{Gateway, Listener, Protocol},
        sets::ListenerSet,
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// When the listeners of an object have their turn.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// When its Gateway was created.
    created: Created,
    pub(super) gateway: ObjectName,
    /// The ListenerSet, if it is not the Gateway itself, and when that was created.
    pub(super) set: Option<(Created, ObjectName)>,
}

impl Turn {
    /// Of a Gateway's own listeners.
    #[must_use]
    pub fn of_gateway(name: &ObjectName, gateway: &Gateway) -> Self {
        Self { created: gateway.created, gateway: name.clone(), set: None }
    }

    /// Of a ListenerSet's.
    #[must_use]
    pub fn of_set(name: &ObjectName, set: &ListenerSet) -> Self {
        let own = (set.created, name.clone());
        Self { created: set.gateway_created, gateway: set.gateway.clone(), set: Some(own) }
    }
}

/// A listener that wants a port. Orders as listeners take turns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contender {
    pub(super) turn: Turn,
    /// Its place in its object.
    index: usize,
    name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) hostname: Option<ServerName>,
    /// Whether it could be served if it had the port.
    pub(super) acceptable: bool,
}

/// What an object with listeners contributes: who contends for which port of its data plane, and the ports whose slots must not
/// be cleared away while it is frozen.
#[derive(Clone, Debug, Default)]
pub(in crate::translate) struct Share {
    /// The data plane; `None` of a frozen object.
    pub(in crate::translate) plane: Option<Plane>,
    pub(in crate::translate) contenders: Vec<(Port, Contender)>,
    pub(in crate::translate) frozen: BTreeSet<Port>,
}

impl Share {
    /// Of a Gateway. One that is refused as a whole wants nothing.
    pub(in crate::translate) fn of_gateway(name: &ObjectName, gateway: &Gateway) -> Self {
        let Gateway { plane, refusal, listeners, .. } = gateway;
        let Some(plane) = *plane else { return Self::of_frozen(listeners) };
        let turn = Turn::of_gateway(name, gateway);
        let contender = |index, listener| contender(&turn, index, listener);
        Self::of(plane, listeners.iter().filter(|_| refusal.is_none()), contender)
    }

    /// Of a ListenerSet. One that is not allowed wants nothing.
    pub(in crate::translate) fn of_set(name: &ObjectName, set: &ListenerSet) -> Self {
        let ListenerSet { plane, allowed, listeners, .. } = set;
        let Some(plane) = *plane else { return Self::of_frozen(listeners) };
        let turn = Turn::of_set(name, set);
        let contender = |index, listener| contender(&turn, index, listener);
        Self::of(plane, listeners.iter().filter(|_| *allowed), contender)
    }

    fn of<'a>(
        plane: Plane,
        listeners: impl Iterator<Item = &'a Listener>,
        contender: impl Fn(usize, &'a Listener) -> Contender,
    ) -> Self {
        let ported = listeners.enumerate().filter_map(|(index, listener)| {
            let port = listener.contends_for()?;
            Some((port, contender(index, listener)))
        });
        Self { plane: Some(plane), contenders: ported.collect(), frozen: BTreeSet::new() }
    }

    fn of_frozen(listeners: &[Listener]) -> Self {
        let ports = listeners.iter().filter_map(Listener::asked_port);
        Self { frozen: ports.collect(), ..Self::default() }
    }

    /// The ports it contends for.
    pub(in crate::translate) fn ports(&self) -> impl Iterator<Item = (Plane, Port)> {
        let plane = self.plane.into_iter();
        plane.flat_map(|plane| self.contenders.iter().map(move |(port, _)| (plane, *port)))
    }
}

fn contender(turn: &Turn, index: usize, listener: &Listener) -> Contender {
    Contender {
        turn: turn.clone(),
        index,
        name: Arc::clone(&listener.name),
        protocol: listener.protocol,
        hostname: listener.hostname.clone(),
        acceptable: listener.refusal.is_none(),
    }
}

impl Contender {
    pub(super) fn listener(&self) -> ListenerRef {
        let owner = match &self.turn.set {
            None => ObjectRef::new(Kind::Gateway, self.turn.gateway.clone()),
            Some((_, set)) => ObjectRef::new(Kind::ListenerSet, set.clone()),
        };
        ListenerRef { owner, name: Arc::clone(&self.name) }
    }
}
