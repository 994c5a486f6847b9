//! The wave where it reaches server names: who has each one's certificate.

use super::Wave;
use crate::{
    apisix::ids,
    model::places::{Plane, Port, ServerName, Slot},
    translate::{
        certificates::{View, implied},
        desired::{Desired, PlaneState},
        listeners::Listener,
    },
};

impl Wave {
    /// Marks every name that may be served with a certificate of these listeners.
    pub(super) fn mark_certificates(&mut self, desired: &mut Desired, plane: Option<Plane>, listeners: &[Listener]) {
        let Some((plane, state)) = plane.and_then(|plane| Some((plane, desired.planes.of_mut(plane)?))) else { return };
        for listener in listeners.iter().filter(|listener| listener.certificates.is_some()) {
            let Some(port) = listener.port else { continue };
            let within = state.certificates.within(port, listener.hostname.as_ref()).cloned();
            self.names.extend(within.map(|name| (plane, name)));
            self.mark_implied(state, port, listener);
        }
    }

    /// Marks the names that a listener without a hostname may want on its port.
    fn mark_implied(&mut self, state: &mut PlaneState, port: Port, listener: &Listener) {
        for name in implied(listener) {
            state.certificates.consider(name, port);
            self.names.insert((state.settings.plane, name.clone()));
        }
    }

    /// A listener with `hostname` came to a port or left it, or a slot of the port without names got another holder.
    pub(super) fn mark_names_within(
        &mut self,
        desired: &mut Desired,
        plane: Plane,
        port: Port,
        hostname: Option<&ServerName>,
    ) {
        let Some(state) = desired.planes.of_mut(plane) else { return };
        self.names.extend(state.certificates.within(port, hostname).cloned().map(|name| (plane, name)));
        if let Some(name) = hostname {
            state.certificates.consider(name, port);
            self.names.insert((plane, name.clone()));
            return;
        }
        let holder = state.ports.holder_covering(port, None);
        if let Some((_, listener)) = holder.and_then(|(listener, _)| desired.owners.listener(listener)) {
            self.mark_implied(state, port, listener);
        }
    }

    pub(super) fn certificates_tier(&mut self, desired: &mut Desired, plane: Plane, name: &ServerName) {
        let Some(state) = desired.planes.of_mut(plane) else { return };
        let ports: Vec<Port> = state.certificates.ports_of(name).collect();
        let view = View { owners: &desired.owners, ports: &state.ports, slots: &state.slots };
        let Some((before, now)) = state.certificates.settle(name, view) else { return };
        self.affected.documents.insert(ids::certificate(plane, name));
        for held in before.iter().chain(&now) {
            for listener in &held.listeners {
                self.verdict(listener.owner.kind, &listener.owner.name);
            }
        }
        // Those of the port without names may be served by any of their listener's.
        for slot in ports.into_iter().flat_map(|port| [Slot { port, name: Some(name.clone()) }, Slot::of_port(port)]) {
            self.affected.documents.insert(ids::slot(plane, &slot));
            for route in state.slots.claimants(&slot) {
                self.route_verdict(route);
            }
        }
        if name.is_wildcard() {
            self.names.extend(state.certificates.covered_by(name).cloned().map(|name| (plane, name)));
        }
    }
}
