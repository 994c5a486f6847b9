//! Tier 2: which listeners have each port of the data plane.
//!
//! Listeners take turns: those of the oldest Gateway first, then of the first by namespace and name; of one Gateway its own in
//! the order of its spec, then those of its ListenerSets, the oldest first, then by namespace and name. Two rules refuse:
//!
//! - At one Gateway and its sets a listener that Gateway API cannot tell from an earlier one clashes with it, whether or not the
//!   data plane can serve either: the specs alone decide.
//! - Of those that are left and can be served, the first decides what the port carries. TLS listeners of one mode share a port
//!   as long as their hostnames differ; nothing else can be shared, because APISIX matches a stream_route by port and server
//!   name alone (`apisix/stream/router/ip_port.lua`).
//!
//! Sets of a Gateway that is not accepted have no turn.

mod overlaps;
pub mod turns;

use super::listeners::{Protocol, Told};
use crate::{
    apisix::{ids::SlotPlace, version::ApisixVersion},
    model::{
        names::{ObjectName, ObjectRef},
        places::{Port, ServerName, Slot},
        verdicts::Clash,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};
use turns::{Contender, Turn};

/// A listener of a Gateway or a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerRef {
    /// The Gateway or ListenerSet.
    pub owner: ObjectRef,
    /// The listener's name.
    pub name: Arc<str>,
}

/// Why a contender does not have the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// An earlier listener of the same object, of this name, has it.
    ToOwn(Arc<str>),
    /// An earlier listener of the same Gateway and its ListenerSets has it, which Gateway API would tell from this one.
    ToKin,
    /// A listener of another Gateway has it.
    ToAnother,
    /// It cannot be told from an earlier listener of the same Gateway and its ListenerSets.
    Clash(Clash),
}

/// Contenders for every port of a data plane, and who has it.
#[derive(Clone, Debug)]
pub struct Ports {
    version: ApisixVersion,
    contenders: BTreeMap<Port, BTreeSet<Contender>>,
    /// Gateways that are accepted, so that their ListenerSets have their turn.
    standing: BTreeSet<ObjectName>,
    held: BTreeMap<Port, Held>,
    /// Every hostname that a listener has a port for, by its place among the slots: a place says only a hash of it.
    named: HashMap<SlotPlace, ServerName>,
}

/// A listener that has a port, for its hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    listener: ListenerRef,
    gateway: ObjectName,
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
    /// Gateways and ListenerSets with a listener there that won or lost it, or whose share of its connections is another.
    pub(super) owners: BTreeSet<ObjectRef>,
    /// Hostnames that came or went, and those that they cover.
    pub(super) hostnames: BTreeSet<Option<ServerName>>,
    /// Gateways and ListenerSets with a listener there of which other hostnames may overlap.
    pub(super) overlapped: BTreeSet<ObjectRef>,
}

impl Ports {
    /// Of a data plane of this version, on which nobody has a listener.
    #[must_use]
    pub fn new(version: ApisixVersion) -> Self {
        Self {
            version,
            contenders: BTreeMap::new(),
            standing: BTreeSet::new(),
            held: BTreeMap::new(),
            named: HashMap::new(),
        }
    }

    /// Whether this listener has the port.
    #[must_use]
    pub fn has(&self, port: Port, hostname: Option<&ServerName>, owner: &ObjectRef, listener: &Arc<str>) -> bool {
        let holder = self.held.get(&port).and_then(|held| held.by_hostname.get(&hostname.cloned()));
        holder.is_some_and(|Holder { listener: holder, .. }| holder.owner == *owner && holder.name == *listener)
    }

    /// Why a listener that contends for the port does not have it.
    #[must_use]
    pub fn loss(&self, port: Port, owner: &ObjectRef, listener: &Arc<str>) -> Option<&Loss> {
        let listener = ListenerRef { owner: owner.clone(), name: Arc::clone(listener) };
        self.held.get(&port)?.lost.get(&listener)
    }

    /// Whether the ListenerSets of a Gateway have their turn.
    #[must_use]
    pub fn stands(&self, gateway: &ObjectName) -> bool {
        self.standing.contains(gateway)
    }

    /// Takes in whether a Gateway is accepted; gives whether that differs. Call [`Ports::settle`] for each port of its ListenerSets
    /// after.
    pub(super) fn set_standing(&mut self, gateway: &ObjectName, stands: bool) -> bool {
        if stands { self.standing.insert(gateway.clone()) } else { self.standing.remove(gateway) }
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
        listeners.get(&hostname).map(|Holder { listener, gateway: _, protocol }| (listener, *protocol))
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

    /// Takes out those who contended, and gives the ports that touches. Call [`Ports::settle`] for each of them after.
    pub(super) fn take_out(&mut self, contenders: Vec<(Port, Contender)>) -> BTreeSet<Port> {
        let mut touched = BTreeSet::new();
        for (port, contender) in contenders {
            remove(&mut self.contenders, port, &contender);
            touched.insert(port);
        }
        touched
    }

    /// Takes in who contends; the rest is as with [`Ports::take_out`].
    pub(super) fn take_in(&mut self, contenders: Vec<(Port, Contender)>) -> BTreeSet<Port> {
        let mut touched = BTreeSet::new();
        for (port, contender) in contenders {
            self.contenders.entry(port).or_default().insert(contender);
            touched.insert(port);
        }
        touched
    }

    /// Takes in another version of APISIX; gives the ports it may decide otherwise.
    pub(super) fn set_version(&mut self, version: ApisixVersion) -> BTreeSet<Port> {
        self.version = version;
        self.contenders.keys().copied().collect()
    }

    /// Decides who has `port` now.
    pub(super) fn settle(&mut self, port: Port) -> Settled {
        let decide = |contenders| decide(contenders, &self.standing, self.version);
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

/// The listeners of one Gateway and its sets on one port that are told apart so far.
#[derive(Default)]
struct Kin<'a>(BTreeMap<Protocol, BTreeSet<&'a Option<ServerName>>>);

impl<'a> Kin<'a> {
    /// Takes a listener in, unless it cannot be told from one that is in already.
    fn take(&mut self, contender: &'a Contender, version: ApisixVersion) -> Result<(), Clash> {
        let Contender { protocol, hostname, .. } = contender;
        for (other, hostnames) in &self.0 {
            match protocol.told_from(*other, version) {
                Told::ByName if hostnames.contains(hostname) => return Err(Clash::Hostname),
                Told::Apart | Told::ByName => {}
                Told::Never if protocol == other => return Err(Clash::Listener),
                Told::Never => return Err(Clash::Protocol),
            }
        }
        self.0.entry(*protocol).or_default().insert(hostname);
        Ok(())
    }
}

fn decide(contenders: &BTreeSet<Contender>, standing: &BTreeSet<ObjectName>, version: ApisixVersion) -> Held {
    let mut held = Held::default();
    let mut carries: Option<Holder> = None;
    let (mut gateway, mut kin) = (None, Kin::default());
    let in_turn = |contender: &&Contender| contender.turn.set.is_none() || standing.contains(&contender.turn.gateway);
    for contender in contenders.iter().filter(in_turn) {
        if gateway != Some(&contender.turn.gateway) {
            (gateway, kin) = (Some(&contender.turn.gateway), Kin::default());
        }
        let listener = contender.listener();
        if let Err(clash) = kin.take(contender, version) {
            held.lost.insert(listener, Loss::Clash(clash));
            continue;
        }
        if !contender.acceptable {
            continue;
        }
        let Contender { turn: Turn { gateway, .. }, protocol, hostname, .. } = contender;
        let holder = Holder { listener: listener.clone(), gateway: gateway.clone(), protocol: *protocol };
        let first = carries.get_or_insert_with(|| holder.clone());
        let blocked_by =
            if first.protocol.shares_ports_with(*protocol) { held.by_hostname.get(hostname) } else { Some(&*first) };
        let loss = match blocked_by {
            None => {
                held.by_hostname.insert(hostname.clone(), holder);
                continue;
            }
            Some(by) if by.listener.owner == listener.owner => Loss::ToOwn(Arc::clone(&by.listener.name)),
            Some(by) if by.gateway == *gateway => Loss::ToKin,
            Some(_) => Loss::ToAnother,
        };
        held.lost.insert(listener, loss);
    }
    held
}

fn difference(before: &Held, now: &Held) -> Settled {
    let mut settled = Settled::default();
    let lost = before.lost.iter().filter(|(listener, loss)| now.lost.get(*listener) != Some(loss));
    let lost = lost.chain(now.lost.iter().filter(|(listener, loss)| before.lost.get(*listener) != Some(loss)));
    settled.owners.extend(lost.map(|(listener, _)| listener.owner.clone()));
    let hostnames: BTreeSet<&Option<ServerName>> = before.by_hostname.keys().chain(now.by_hostname.keys()).collect();
    for hostname in hostnames {
        let (was, is) = (before.by_hostname.get(hostname), now.by_hostname.get(hostname));
        if was == is {
            continue;
        }
        settled.owners.extend(was.into_iter().chain(is).map(|holder| holder.listener.owner.clone()));
        settled.hostnames.insert(hostname.clone());
        settled.overlapped.extend(overlaps::told(now, hostname.as_ref(), [was, is]));
        if was.is_some() != is.is_some() {
            // What a wider listener may serve is less, or more.
            let wider = hostname.iter().flat_map(ServerName::wider).map(Some).chain([None]);
            let wider = wider.filter_map(|wider| now.by_hostname.get(&wider));
            settled.owners.extend(wider.map(|holder| holder.listener.owner.clone()));
            let covers = |name: &ServerName| hostname.as_ref().is_none_or(|hostname| name.is_within(hostname));
            let nested = now.by_hostname.keys().filter(|other| other.as_ref().is_some_and(covers));
            settled.hostnames.extend(nested.cloned());
        }
    }
    settled
}

/// Takes `value` out of the set of `port`, and the set away when nothing is left in it.
pub(super) fn remove<V: Ord>(map: &mut BTreeMap<Port, BTreeSet<V>>, port: Port, value: &V) {
    if let Some(values) = map.get_mut(&port) {
        values.remove(value);
        if values.is_empty() {
            map.remove(&port);
        }
    }
}
