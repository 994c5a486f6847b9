//! Tier 2: which listeners have each port of the data plane.
//!
//! Listeners that are acceptable in themselves contend for their ports: those of the oldest Gateway first, then of the first by
//! namespace and name, each Gateway's in the order of its spec. The first decides what the port carries. TLS listeners of one
//! mode share a port as long as their hostnames differ; nothing else can be shared, because APISIX matches a stream_route by
//! port and server name alone (`apisix/stream/router/ip_port.lua`).

use super::listeners::{Gateway, Protocol};
use crate::{
    apisix::ids::SlotPlace,
    model::{
        names::{Created, ObjectName},
        places::{Port, ServerName, Slot},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerRef {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The listener's name.
    pub name: Arc<str>,
}

/// A listener that wants a port. Orders as listeners take turns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contender {
    created: Created,
    gateway: ObjectName,
    /// Its place in the Gateway.
    index: usize,
    name: Arc<str>,
    protocol: Protocol,
    hostname: Option<ServerName>,
}

/// Why a contender does not have the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// An earlier listener of the same Gateway, of this name, has it.
    ToOwn(Arc<str>),
    /// A listener of another Gateway has it.
    ToAnother,
}

/// Contenders for every port, who has it, and the ports that frozen Gateways had.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    contenders: BTreeMap<Port, BTreeSet<Contender>>,
    held: BTreeMap<Port, Held>,
    /// Every hostname that a listener has a port for, by its place among the slots: a place says only a hash of it.
    named: HashMap<SlotPlace, ServerName>,
    frozen: BTreeMap<Port, BTreeSet<ObjectName>>,
}

/// A listener that has a port, for its hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    listener: ListenerRef,
    protocol: Protocol,
}

/// Who has a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    by_hostname: BTreeMap<Option<ServerName>, Holder>,
    lost: BTreeMap<ListenerRef, Loss>,
}

/// What differs about a port since it was last settled.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Gateways with a listener there that won or lost it, or whose share of its connections is another.
    pub(super) gateways: BTreeSet<ObjectName>,
    /// Hostnames that came or went, and those that they cover.
    pub(super) hostnames: BTreeSet<Option<ServerName>>,
}

impl Ports {
    /// Whether this listener has the port.
    #[must_use]
    pub fn has(&self, port: Port, hostname: Option<&ServerName>, gateway: &ObjectName, listener: &Arc<str>) -> bool {
        let holder = self.held.get(&port).and_then(|held| held.by_hostname.get(&hostname.cloned()));
        holder.is_some_and(|Holder { listener: holder, .. }| holder.gateway == *gateway && holder.name == *listener)
    }

    /// Why a listener that contends for the port does not have it.
    #[must_use]
    pub fn loss(&self, port: Port, gateway: &ObjectName, listener: &Arc<str>) -> Option<&Loss> {
        let listener = ListenerRef { gateway: gateway.clone(), name: Arc::clone(listener) };
        self.held.get(&port)?.lost.get(&listener)
    }

    /// The hostname of the most specific listener of the port that covers `name`: connections that ask for it belong to that
    /// listener's routes alone. `None` if no listener covers it.
    #[must_use]
    pub fn most_specific(&self, port: Port, name: &ServerName) -> Option<Option<ServerName>> {
        let listeners = &self.held.get(&port)?.by_hostname;
        std::iter::once(Some(name.clone())).chain(covering(name)).find(|hostname| listeners.contains_key(hostname))
    }

    /// The most specific listener of the port that covers `name`, or without one the listener that has no hostname; and what it
    /// carries.
    #[must_use]
    pub fn holder_covering(&self, port: Port, name: Option<&ServerName>) -> Option<(&ListenerRef, Protocol)> {
        let listeners = &self.held.get(&port)?.by_hostname;
        let hostname = match name {
            Some(name) => self.most_specific(port, name)?,
            None => None,
        };
        listeners.get(&hostname).map(|Holder { listener, protocol }| (listener, *protocol))
    }

    /// Whether `name` is the hostname of a listener of the port within that of another: then connections that ask for it must
    /// not get to the routes of the wider one, also while it has none of its own.
    #[must_use]
    pub fn is_nested(&self, port: Port, name: &ServerName) -> bool {
        let Some(held) = self.held.get(&port) else { return false };
        held.by_hostname.contains_key(&Some(name.clone()))
            && covering(name).any(|wider| held.by_hostname.contains_key(&wider))
    }

    /// The slot of a listener's hostname that is nested in another's, if `place` is that of one, and what the listener carries.
    #[must_use]
    pub fn nested_at(&self, place: SlotPlace) -> Option<(Slot, Protocol)> {
        let (port, name) = (place.port(), self.named.get(&place)?);
        let holder = self.held.get(&port)?.by_hostname.get(&Some(name.clone()))?;
        self.is_nested(port, name).then(|| (Slot { port, name: Some(name.clone()) }, holder.protocol))
    }

    /// The slot of every hostname that is nested.
    pub fn nested(&self) -> impl Iterator<Item = Slot> {
        let names = |(port, held): (&Port, &'_ Held)| {
            let port = *port;
            let names: Vec<ServerName> = held.by_hostname.keys().flatten().cloned().collect();
            names.into_iter().map(move |name| (port, name))
        };
        let nested = self.held.iter().flat_map(names).filter(|(port, name)| self.is_nested(*port, name));
        nested.map(|(port, name)| Slot { port, name: Some(name) })
    }

    /// Whether a frozen Gateway lists `port`.
    #[must_use]
    pub fn is_frozen(&self, port: Port) -> bool {
        self.frozen.contains_key(&port)
    }

    /// Every port that a frozen Gateway lists.
    pub fn frozen(&self) -> impl Iterator<Item = Port> {
        self.frozen.keys().copied()
    }

    /// Replaces what `name` contributed as `before` by what it contributes `now`, and returns the ports it touches. Call
    /// [`Ports::settle`] for each of them after.
    pub(super) fn replace(
        &mut self,
        name: &ObjectName,
        before: Option<&Gateway>,
        now: Option<&Gateway>,
    ) -> BTreeSet<Port> {
        let mut touched = BTreeSet::new();
        if let Some(gateway) = before {
            for (port, contender) in contenders(name, gateway) {
                remove(&mut self.contenders, port, &contender);
                touched.insert(port);
            }
            for port in gateway.frozen_ports() {
                remove(&mut self.frozen, port, name);
                touched.insert(port);
            }
        }
        if let Some(gateway) = now {
            for (port, contender) in contenders(name, gateway) {
                self.contenders.entry(port).or_default().insert(contender);
                touched.insert(port);
            }
            for port in gateway.frozen_ports() {
                self.frozen.entry(port).or_default().insert(name.clone());
                touched.insert(port);
            }
        }
        touched
    }

    /// Decides who has `port` now.
    pub(super) fn settle(&mut self, port: Port) -> Settled {
        let now = self.contenders.get(&port).map(decide).unwrap_or_default();
        let before = if now == Held::default() { self.held.remove(&port) } else { self.held.insert(port, now.clone()) };
        let settled = difference(&before.unwrap_or_default(), &now);
        for name in settled.hostnames.iter().flatten() {
            let slot = Slot { port, name: Some(name.clone()) };
            if now.by_hostname.contains_key(&slot.name) {
                self.named.insert(SlotPlace::from(&slot), name.clone());
            } else {
                self.named.remove(&SlotPlace::from(&slot));
            }
        }
        settled
    }
}

/// The hostnames of listeners that would cover a name, besides the name itself, the most specific first.
fn covering(name: &ServerName) -> impl Iterator<Item = Option<ServerName>> {
    name.wider().map(Some).chain([None])
}

fn contenders<'a>(name: &'a ObjectName, gateway: &'a Gateway) -> impl Iterator<Item = (Port, Contender)> {
    gateway.contending().map(|(index, port, listener)| {
        let contender = Contender {
            created: gateway.created,
            gateway: name.clone(),
            index,
            name: Arc::clone(&listener.name),
            protocol: listener.protocol,
            hostname: listener.hostname.clone(),
        };
        (port, contender)
    })
}

fn decide(contenders: &BTreeSet<Contender>) -> Held {
    let mut held = Held::default();
    let mut carries: Option<(Protocol, ListenerRef)> = None;
    for Contender { gateway, name, protocol, hostname, created: _, index: _ } in contenders {
        let listener = ListenerRef { gateway: gateway.clone(), name: Arc::clone(name) };
        let (first, by) = carries.get_or_insert_with(|| (*protocol, listener.clone()));
        let blocked_by = if first.shares_ports_with(*protocol) {
            held.by_hostname.get(hostname).map(|holder| &holder.listener)
        } else {
            Some(&*by)
        };
        match blocked_by {
            None => drop(held.by_hostname.insert(hostname.clone(), Holder { listener, protocol: *protocol })),
            Some(by) if by.gateway == *gateway => drop(held.lost.insert(listener, Loss::ToOwn(Arc::clone(&by.name)))),
            Some(_) => drop(held.lost.insert(listener, Loss::ToAnother)),
        }
    }
    held
}

fn difference(before: &Held, now: &Held) -> Settled {
    let mut settled = Settled::default();
    let lost = before.lost.iter().filter(|(listener, loss)| now.lost.get(*listener) != Some(loss));
    let lost = lost.chain(now.lost.iter().filter(|(listener, loss)| before.lost.get(*listener) != Some(loss)));
    settled.gateways.extend(lost.map(|(listener, _)| listener.gateway.clone()));
    let hostnames: BTreeSet<&Option<ServerName>> = before.by_hostname.keys().chain(now.by_hostname.keys()).collect();
    for hostname in hostnames {
        let (was, is) = (before.by_hostname.get(hostname), now.by_hostname.get(hostname));
        if was == is {
            continue;
        }
        settled.gateways.extend(was.into_iter().chain(is).map(|holder| holder.listener.gateway.clone()));
        settled.hostnames.insert(hostname.clone());
        if was.is_some() != is.is_some() {
            // What a wider listener may serve is less, or more.
            let wider = hostname.iter().flat_map(ServerName::wider).map(Some).chain([None]);
            let wider = wider.filter_map(|wider| now.by_hostname.get(&wider));
            settled.gateways.extend(wider.map(|holder| holder.listener.gateway.clone()));
            let covers = |name: &ServerName| hostname.as_ref().is_none_or(|hostname| name.is_within(hostname));
            let nested = now.by_hostname.keys().filter(|other| other.as_ref().is_some_and(covers));
            settled.hostnames.extend(nested.cloned());
        }
    }
    settled
}

fn remove<V: Ord>(map: &mut BTreeMap<Port, BTreeSet<V>>, port: Port, value: &V) {
    if let Some(values) = map.get_mut(&port) {
        values.remove(value);
        if values.is_empty() {
            map.remove(&port);
        }
    }
}
