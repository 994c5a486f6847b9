//! Tier 2: who holds each port of the data plane.
//!
//! The oldest Gateway that contends for a port holds it, then the first by namespace and name. Within one Gateway,
//! listeners that cannot share a port have been refused before they come here.

use super::listeners::Gateway;
use crate::model::{
    names::{Created, ObjectName},
    places::Port,
};
use std::collections::{BTreeMap, BTreeSet};

/// Contenders for every port, and the ports that frozen Gateways had.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    contenders: BTreeMap<Port, BTreeSet<(Created, ObjectName)>>,
    frozen: BTreeMap<Port, BTreeSet<ObjectName>>,
}

impl Ports {
    /// The Gateway that holds `port`.
    #[must_use]
    pub fn holder(&self, port: Port) -> Option<&ObjectName> {
        self.contenders.get(&port)?.first().map(|(_, gateway)| gateway)
    }

    /// Every Gateway that contends for `port`, the holder first.
    pub fn contenders(&self, port: Port) -> impl Iterator<Item = &ObjectName> {
        self.contenders.get(&port).into_iter().flatten().map(|(_, gateway)| gateway)
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

    /// Replaces what `name` contributed as `before` by what it contributes `now`, and returns the ports it touches.
    pub(super) fn replace(
        &mut self,
        name: &ObjectName,
        before: Option<&Gateway>,
        now: Option<&Gateway>,
    ) -> BTreeSet<Port> {
        let mut touched = BTreeSet::new();
        if let Some(gateway) = before {
            for port in gateway.contended_ports() {
                remove(&mut self.contenders, port, &(gateway.created, name.clone()));
                touched.insert(port);
            }
            for port in gateway.frozen_ports() {
                remove(&mut self.frozen, port, name);
                touched.insert(port);
            }
        }
        if let Some(gateway) = now {
            for port in gateway.contended_ports() {
                self.contenders.entry(port).or_default().insert((gateway.created, name.clone()));
                touched.insert(port);
            }
            for port in gateway.frozen_ports() {
                self.frozen.entry(port).or_default().insert(name.clone());
                touched.insert(port);
            }
        }
        touched
    }
}

fn remove<V: Ord>(map: &mut BTreeMap<Port, BTreeSet<V>>, port: Port, value: &V) {
    if let Some(values) = map.get_mut(&port) {
        values.remove(value);
        if values.is_empty() {
            map.remove(&port);
        }
    }
}
