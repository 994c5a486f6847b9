//! The wave where it reaches server names: who has each one's certificate.

use super::Wave;
use crate::{
    apisix::ids,
    model::places::{Port, ServerName, Slot},
    translate::{
        certificates::{View, implied},
        desired::Desired,
        listeners::Listener,
    },
};

impl Wave {
    /// Marks every name that may be served with a certificate of these listeners.
    pub(super) fn mark_certificates(&mut self, desired: &mut Desired, listeners: &[Listener]) {
        for listener in listeners.iter().filter(|listener| listener.certificates.is_some()) {
            let Some(port) = listener.port else { continue };
            self.names.extend(desired.certificates.within(port, listener.hostname.as_ref()).cloned());
            self.mark_implied(desired, port, listener);
        }
    }

    /// Marks the names that a listener without a hostname may want on its port.
    pub(super) fn mark_implied(&mut self, desired: &mut Desired, port: Port, listener: &Listener) {
        for name in implied(listener) {
            desired.certificates.consider(name, port);
            self.names.insert(name.clone());
        }
    }

    /// A listener with `hostname` came to a port or left it, or a slot of the port without names got another holder.
    pub(super) fn mark_names_within(&mut self, desired: &mut Desired, port: Port, hostname: Option<&ServerName>) {
        self.names.extend(desired.certificates.within(port, hostname).cloned());
        if let Some(name) = hostname {
            desired.certificates.consider(name, port);
            self.names.insert(name.clone());
            return;
        }
        let holder = desired.ports.holder_covering(port, None);
        if let Some((_, listener)) = holder.and_then(|(listener, _)| desired.owners.listener(listener)) {
            let listener = listener.clone();
            self.mark_implied(desired, port, &listener);
        }
    }

    pub(super) fn certificates_tier(&mut self, desired: &mut Desired, name: &ServerName) {
        let ports: Vec<Port> = desired.certificates.ports_of(name).collect();
        let view = View { owners: &desired.owners, ports: &desired.ports, slots: &desired.slots };
        let Some((before, now)) = desired.certificates.settle(name, view) else { return };
        self.affected.documents.insert(ids::certificate(name));
        for held in before.iter().chain(&now) {
            for listener in &held.listeners {
                self.verdict(listener.owner.kind, &listener.owner.name);
            }
        }
        // Those of the port without names may be served by any of their listener's.
        for slot in ports.into_iter().flat_map(|port| [Slot { port, name: Some(name.clone()) }, Slot::of_port(port)]) {
            self.affected.documents.insert(ids::slot(&slot));
            for route in desired.slots.claimants(&slot) {
                self.route_verdict(route);
            }
        }
        if name.is_wildcard() {
            self.names.extend(desired.certificates.covered_by(name).cloned());
        }
    }
}
