//! The data planes that there are, and what the tiers say of each.

use crate::{
    model::{
        names::ObjectRef,
        places::{Plane, Port, Slot},
    },
    translate::{
        certificates::{Certificates, View},
        planes::PlaneSettings,
        ports::{self, Ports},
        sets::Owners,
        slots::Slots,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What the tiers said of one data plane.
#[derive(Debug)]
pub(in crate::translate) struct PlaneState {
    /// The name of its DataPlane; empty for that of the settings.
    pub(in crate::translate) name: Arc<str>,
    pub(in crate::translate) settings: Arc<PlaneSettings>,
    pub(in crate::translate) ports: Ports,
    pub(in crate::translate) slots: Slots,
    pub(in crate::translate) certificates: Certificates,
}

impl PlaneState {
    fn new(name: Arc<str>, settings: Arc<PlaneSettings>) -> Self {
        Self {
            name,
            ports: Ports::new(settings.version),
            slots: Slots::default(),
            certificates: Certificates::new(settings.plane),
            settings,
        }
    }

    pub(in crate::translate) fn view<'a>(&'a self, owners: &'a Owners) -> View<'a> {
        View { owners, ports: &self.ports, slots: &self.slots }
    }

    /// The slots that are closed: those of hostnames that are nested and that no route holds.
    pub(in crate::translate) fn closed(&self) -> impl Iterator<Item = Slot> {
        self.ports.nested().filter(|slot| self.slots.holder(slot).is_none())
    }
}

/// Every data plane there is.
#[derive(Debug)]
pub(in crate::translate) struct Planes {
    states: BTreeMap<Plane, PlaneState>,
    /// What `{prefix}/plugins` says of the stream plugin `traffic-split`, where it is known and there is such a key: also of data planes
    /// that are not in use.
    traffic_split: BTreeMap<Plane, bool>,
    /// Ports that frozen objects list, with those objects. Which data plane that is about, nobody knows.
    frozen: BTreeMap<Port, BTreeSet<ObjectRef>>,
}

impl Planes {
    pub(in crate::translate) fn new(default: Arc<PlaneSettings>) -> Self {
        Self {
            states: [(default.plane, PlaneState::new("".into(), default))].into(),
            traffic_split: BTreeMap::new(),
            frozen: BTreeMap::new(),
        }
    }

    pub(in crate::translate) fn of(&self, plane: Plane) -> Option<&PlaneState> {
        self.states.get(&plane)
    }

    pub(in crate::translate) fn of_mut(&mut self, plane: Plane) -> Option<&mut PlaneState> {
        self.states.get_mut(&plane)
    }

    /// In order.
    pub(in crate::translate) fn all(&self) -> impl Iterator<Item = (Plane, &PlaneState)> {
        self.states.iter().map(|(plane, state)| (*plane, state))
    }

    pub(in crate::translate) fn names(&self) -> impl Iterator<Item = Plane> {
        self.states.keys().copied()
    }

    /// There is one more.
    pub(in crate::translate) fn begin(&mut self, name: Arc<str>, settings: Arc<PlaneSettings>) {
        self.states.entry(settings.plane).or_insert_with(|| PlaneState::new(name, settings));
    }

    /// Whether a data plane can refuse a share beside a pool; `None` of one that is not in use.
    pub(in crate::translate) fn splits(&self, plane: Plane) -> Option<bool> {
        let PlaneSettings { version, stream, .. } = &*self.of(plane)?.settings;
        let told = self.traffic_split.get(&plane).copied().or(stream.traffic_split);
        Some(version.has_stream_traffic_split() && told.unwrap_or(true))
    }

    /// Takes in what `{prefix}/plugins` says of the stream plugin `traffic-split`; gives whether a data plane refuses shares otherwise now.
    pub(in crate::translate) fn set_traffic_split(&mut self, plane: Plane, enabled: Option<bool>) -> bool {
        let before = self.splits(plane);
        match enabled {
            Some(enabled) => drop(self.traffic_split.insert(plane, enabled)),
            None => drop(self.traffic_split.remove(&plane)),
        }
        self.splits(plane) != before
    }

    /// There is one less.
    pub(in crate::translate) fn end(&mut self, plane: Plane) {
        self.states.remove(&plane);
    }

    /// Whether a frozen object lists a port that is this one of APISIX's on that data plane.
    pub(in crate::translate) fn is_frozen(&self, plane: Plane, port: Port) -> bool {
        let of = |state: &PlaneState| state.settings.gateway_ports(port).any(|asked| self.frozen.contains_key(&asked));
        !self.frozen.is_empty() && self.of(plane).is_some_and(of)
    }

    /// The ports of a data plane for which [`Planes::is_frozen`] holds.
    pub(in crate::translate) fn frozen(&self, plane: Plane) -> impl Iterator<Item = Port> {
        let settings = self.of(plane).map(|state| &state.settings);
        settings.into_iter().flat_map(|settings| self.frozen.keys().map(|asked| settings.apisix_port(*asked)))
    }

    /// Takes in which ports a frozen object lists, `before` and `now`; gives whether that differs.
    pub(in crate::translate) fn freeze(
        &mut self,
        owner: &ObjectRef,
        before: &BTreeSet<Port>,
        now: &BTreeSet<Port>,
    ) -> bool {
        for port in before.difference(now) {
            ports::remove(&mut self.frozen, *port, owner);
        }
        for port in now.difference(before) {
            self.frozen.entry(*port).or_default().insert(owner.clone());
        }
        before != now
    }
}
