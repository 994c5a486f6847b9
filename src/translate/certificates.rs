//! Tier 4b: the listeners that end TLS, and the slots held through them, give who has the certificate of each server name.
//!
//! A data plane finds certificates by the name that a client asks for, whatever the port (`apisix/ssl/router/radixtree_sni.lua`),
//! so each name has one place, for the whole data plane. Names that want a place are the hostnames of listeners that end TLS and
//! the names of slots that are held through them; a slot of a port without names wants those that its listener's certificates
//! are for. Of the listeners behind a name, the first in the order in which listeners take turns for ports has it; those with
//! equal certificates share it.
//!
//! A wildcard among certificates covers one label, unlike one among stream_routes. A name that it covers, with equal
//! certificates, needs no place of its own.

use super::{
    listeners::{Listener, Protocol},
    ports::{ListenerRef, Ports, turns},
    sets::Owners,
    slots::Slots,
};
use crate::{
    apisix::ids,
    model::{
        certificates::{KeyPair, KeyPairs},
        places::{Plane, Port, ServerName, Slot, WorkId},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What the tier is computed over.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) owners: &'a Owners,
    pub(super) ports: &'a Ports,
    pub(super) slots: &'a Slots,
}

/// Who has the certificate of each server name, on one data plane.
#[derive(Clone, Debug)]
pub struct Certificates {
    plane: Plane,
    /// The ports on which a name is wanted.
    ports: BTreeMap<ServerName, BTreeSet<Port>>,
    /// The names wanted on a port.
    names: BTreeMap<Port, BTreeSet<ServerName>>,
    /// Who has a name.
    held: BTreeMap<ServerName, Held>,
    /// Names by their place: an id says only a hash of them.
    places: HashMap<WorkId, ServerName>,
    /// Wanted names without wildcards, by the wildcard that covers them with one label.
    covered: BTreeMap<ServerName, BTreeSet<ServerName>>,
}

/// Who has the certificate of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The first listener that has it.
    pub listener: ListenerRef,
    /// What TLS is ended with.
    pub pairs: Vec<Arc<KeyPair>>,
    /// Whether an object that decides this exists but could never be read.
    pub unreadable: bool,
    /// Whether it has a place of its own, not that of the wildcard that covers it.
    pub own: bool,
    /// Everyone who wants it, the first among them.
    pub listeners: BTreeSet<ListenerRef>,
}

/// How TLS is ended for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// It is not.
    No,
    /// With this name's certificate.
    With(&'a ServerName),
    /// It cannot be: a listener elsewhere has another certificate for the name.
    Taken,
    /// It cannot be: there is no name that a client could ask for.
    NoName,
}

/// A listener that wants a name. Orders as they take turns: first those for whom it was asked, then as for ports.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    implied: bool,
    owner: turns::Turn,
    index: usize,
}

struct Contender<'a> {
    turn: Turn,
    /// Whether it is the listener's hostname.
    explicit: bool,
    listener: ListenerRef,
    certificates: &'a KeyPairs,
}

impl Certificates {
    /// Of a data plane on which nobody wants any.
    #[must_use]
    pub fn new(plane: Plane) -> Self {
        Self {
            plane,
            ports: BTreeMap::new(),
            names: BTreeMap::new(),
            held: BTreeMap::new(),
            places: HashMap::new(),
            covered: BTreeMap::new(),
        }
    }

    /// Who has the name of the certificate at `id`, if it has a place of its own there.
    #[must_use]
    pub fn at(&self, id: &WorkId) -> Option<(&ServerName, &Held)> {
        let name = self.places.get(id)?;
        self.held.get(name).filter(|held| held.own).map(|held| (name, held))
    }

    /// Every place, in no order.
    pub fn places(&self) -> impl Iterator<Item = &WorkId> {
        self.places.keys().filter(|id| self.at(id).is_some())
    }

    /// Who wants the certificate at `id`, for its name or for one that it covers.
    pub fn listeners(&self, id: &WorkId) -> impl Iterator<Item = &ListenerRef> {
        let name = self.places.get(id);
        let covered = name.into_iter().flat_map(|name| self.covered_by(name));
        let without_own = covered.filter_map(|name| self.held.get(name)).filter(|held| !held.own);
        let held = name.and_then(|name| self.held.get(name)).into_iter().chain(without_own);
        held.flat_map(|held| &held.listeners)
    }

    /// The place of the certificate that `name` is served with.
    #[must_use]
    pub fn place(&self, name: &ServerName) -> Option<WorkId> {
        let held = self.held.get(name)?;
        if held.own { Some(self.id(name)) } else { covering(name).map(|wildcard| self.id(&wildcard)) }
    }

    /// Whether `listener`, which has `certificates`, is served with them where a client asks for `name`; `None` if nobody wants
    /// that name.
    #[must_use]
    pub fn serves(&self, name: &ServerName, listener: &ListenerRef, certificates: &KeyPairs) -> Option<bool> {
        let held = self.held.get(name)?;
        Some(held.listener == *listener || held.pairs == certificates.pairs)
    }

    /// The names on `port` that `listener` is served with its own certificates for, in order.
    pub(super) fn served<'a>(
        &'a self,
        port: Port,
        listener: &'a ListenerRef,
        facts: &'a Listener,
        ports: &'a Ports,
    ) -> impl Iterator<Item = &'a ServerName> {
        let names = self.names.get(&port).into_iter().flatten();
        names.filter(move |name| {
            let own = ports.most_specific(port, name) == Some(facts.hostname.clone());
            own && facts.certificates.as_ref().is_some_and(|pairs| self.serves(name, listener, pairs) == Some(true))
        })
    }

    /// How TLS is ended for the connections of a slot.
    pub(super) fn ending(&self, slot: &Slot, view: View<'_>) -> Ending<'_> {
        let Some((listener, facts)) = behind(slot, view) else { return Ending::No };
        let Some(certificates) = &facts.certificates else { return Ending::No };
        let of = |name: &ServerName| {
            let (name, _) = self.held.get_key_value(name)?;
            Some((name, self.serves(name, &listener, certificates)?))
        };
        let mut names: Vec<(&ServerName, bool)> = match &slot.name {
            Some(name) => of(name).into_iter().collect(),
            None => implied(facts).filter_map(of).collect(),
        };
        names.sort_unstable();
        match (names.iter().find(|(_, served)| *served), &slot.name) {
            (Some((name, _)), _) => Ending::With(name),
            (None, Some(_)) => Ending::Taken,
            (None, None) => Ending::NoName,
        }
    }

    /// The slots for which TLS is ended with the certificate at `id`.
    pub(super) fn slots(&self, id: &WorkId, view: View<'_>) -> BTreeSet<Slot> {
        let Some(name) = self.places.get(id) else { return BTreeSet::new() };
        let covered = self.covered.get(name).into_iter().flatten();
        let mut slots = BTreeSet::new();
        for name in std::iter::once(name).chain(covered) {
            for port in self.ports.get(name).into_iter().flatten() {
                slots.insert(Slot { port: *port, name: Some(name.clone()) });
                slots.insert(Slot::of_port(*port));
            }
        }
        slots.retain(|slot| {
            let with = |name: &ServerName| self.place(name).as_ref() == Some(id);
            view.slots.holder(slot).is_some()
                && match self.ending(slot, view) {
                    Ending::With(name) => with(name),
                    Ending::No | Ending::Taken | Ending::NoName => false,
                }
        });
        slots
    }

    /// `name` may be wanted on `port`. Call [`Certificates::settle`] for it after.
    pub(super) fn consider(&mut self, name: &ServerName, port: Port) {
        self.ports.entry(name.clone()).or_default().insert(port);
        self.names.entry(port).or_default().insert(name.clone());
        let id = self.id(name);
        self.places.entry(id).or_insert_with(|| name.clone());
        if let Some(covering) = covering(name) {
            self.covered.entry(covering).or_default().insert(name.clone());
        }
    }

    /// The names that are wanted on `port` and that a listener with `hostname` covers.
    pub(super) fn within<'a>(
        &'a self,
        port: Port,
        hostname: Option<&'a ServerName>,
    ) -> impl Iterator<Item = &'a ServerName> {
        let names = self.names.get(&port).into_iter().flatten();
        names.filter(move |name| hostname.is_none_or(|hostname| name.is_within(hostname)))
    }

    /// The ports on which `name` is wanted.
    pub(super) fn ports_of(&self, name: &ServerName) -> impl Iterator<Item = Port> {
        self.ports.get(name).into_iter().flatten().copied()
    }

    /// The wanted names that `wildcard` covers with one label.
    pub(super) fn covered_by(&self, wildcard: &ServerName) -> impl Iterator<Item = &ServerName> {
        self.covered.get(wildcard).into_iter().flatten()
    }

    /// Decides who has `name` now; returns who had it and who has it, if that differs. Wildcards go before the names they cover.
    pub(super) fn settle(&mut self, name: &ServerName, view: View<'_>) -> Option<(Option<Held>, Option<Held>)> {
        let mut contenders = Vec::new();
        for port in self.ports.get(name).cloned().unwrap_or_default() {
            match contender(port, name, view) {
                Some(contender) => contenders.push(contender),
                None => self.forget(name, port),
            }
        }
        contenders.sort_by(|one, other| one.turn.cmp(&other.turn));
        let now = contenders.iter().find(|contender| contender.certificates.usable()).map(|first| Held {
            own: first.explicit || !self.is_covered(name, first),
            listener: first.listener.clone(),
            pairs: first.certificates.pairs.clone(),
            unreadable: first.certificates.unreadable,
            listeners: contenders.iter().map(|contender| contender.listener.clone()).collect(),
        });
        let before = match &now {
            Some(held) => self.held.insert(name.clone(), held.clone()),
            None => self.held.remove(name),
        };
        (before != now).then_some((before, now))
    }

    /// Whether a wildcard's certificate, which is the same, will do.
    fn is_covered(&self, name: &ServerName, by: &Contender<'_>) -> bool {
        let held = covering(name).and_then(|wildcard| self.held.get(&wildcard));
        held.is_some_and(|held| held.listener == by.listener || held.pairs == by.certificates.pairs)
    }

    /// The place of a name's own certificate.
    pub(super) fn id(&self, name: &ServerName) -> WorkId {
        ids::certificate(self.plane, name)
    }

    fn forget(&mut self, name: &ServerName, port: Port) {
        if let Some(names) = self.names.get_mut(&port) {
            names.remove(name);
            if names.is_empty() {
                self.names.remove(&port);
            }
        }
        let Some(ports) = self.ports.get_mut(name) else { return };
        ports.remove(&port);
        if !ports.is_empty() {
            return;
        }
        self.ports.remove(name);
        let id = self.id(name);
        self.places.remove(&id);
        let Some(covering) = covering(name) else { return };
        if let Some(covered) = self.covered.get_mut(&covering) {
            covered.remove(name);
            if covered.is_empty() {
                self.covered.remove(&covering);
            }
        }
    }
}

/// The names that a listener without a hostname asks for on behalf of a slot without names: those that its certificates are
/// for.
pub(super) fn implied(listener: &Listener) -> impl Iterator<Item = &ServerName> {
    let certificates = listener.certificates.as_ref().filter(|_| listener.hostname.is_none());
    certificates.into_iter().flat_map(|certificates| &certificates.pairs).flat_map(|pair| pair.names())
}

/// The wildcard that covers `name` with one label, as certificates are matched; none covers another wildcard so.
fn covering(name: &ServerName) -> Option<ServerName> {
    if name.is_wildcard() { None } else { name.wider().next() }
}

/// The listener that has the connections of a slot, if it ends TLS.
fn behind<'a>(slot: &Slot, view: View<'a>) -> Option<(ListenerRef, &'a Listener)> {
    let (listener, protocol) = view.ports.holder_covering(slot.port, slot.name.as_ref())?;
    let ends = |protocol: Protocol| protocol.ends_tls();
    let (_, facts) = view.owners.listener(listener).filter(|_| ends(protocol))?;
    Some((listener.clone(), facts))
}

/// Who wants `name` on `port`, if anybody does.
fn contender<'a>(port: Port, name: &ServerName, view: View<'a>) -> Option<Contender<'a>> {
    let slot = Slot { port, name: Some(name.clone()) };
    let (listener, _) = behind(&slot, view)?;
    let (index, facts) = view.owners.listener(&listener)?;
    let explicit = facts.hostname.as_ref() == Some(name);
    let asked = explicit || view.slots.holder(&slot).is_some();
    let implied = || view.slots.holder(&Slot::of_port(port)).is_some() && implied(facts).any(|of| of == name);
    if !asked && !implied() {
        return None;
    }
    let turn = Turn { implied: !asked, owner: view.owners.turn(&listener.owner)?, index };
    Some(Contender { turn, explicit, listener, certificates: facts.certificates.as_ref()? })
}
