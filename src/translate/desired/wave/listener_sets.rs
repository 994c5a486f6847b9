//! The wave where it reaches ListenerSets: what they add, whether their Gateway stands, which of them count.

use super::Wave;
use crate::{
    model::{
        names::{Kind, ObjectName, ObjectRef},
        places::Plane,
        verdicts::Verdict,
    },
    translate::{desired::Desired, ports::turns::Share, secrets, sets, verdicts},
};

impl Wave {
    pub(super) fn sets_tier(&mut self, desired: &mut Desired, name: &ObjectName) {
        let Desired { known, owners, settings, planes, .. } = &*desired;
        let gateway = known.gateway_of(name).and_then(|gateway| owners.gateways.get(&gateway));
        let state = gateway.and_then(|gateway| planes.of(gateway.plane?));
        let settings = state.map_or(&settings.plane, |state| &state.settings);
        let facts = known.sets.get(name);
        let now = facts.and_then(|facts| sets::listener_set(name, facts, &owners.gateways, known, settings));
        self.verdict(Kind::ListenerSet, name);
        if now.as_ref() == owners.sets.get(name) {
            return;
        }
        let before = match &now {
            Some(set) => desired.owners.sets.insert(name.clone(), set.clone()),
            None => desired.owners.sets.remove(name),
        };
        for set in before.iter().chain(&now) {
            self.mark_certificates(desired, set.plane, &set.listeners);
        }
        if let (Some(before), Some(now)) = (&before, &now)
            && secrets::differ_alone(before, now, |set| &mut set.listeners)
        {
            return;
        }
        let share = |set: Option<&_>| set.map(|set| Share::of_set(name, set)).unwrap_or_default();
        let shares = (share(before.as_ref()), share(now.as_ref()));
        self.contribute(desired, &ObjectRef::new(Kind::ListenerSet, name.clone()), shares);
        if let Some(before) = before {
            self.count_set(desired, &before.gateway, name);
        }
        self.moved.insert(ObjectRef::new(Kind::ListenerSet, name.clone()));
    }

    /// Takes in whether a Gateway is accepted on a data plane.
    pub(super) fn stand(&mut self, desired: &mut Desired, plane: Option<Plane>, name: &ObjectName) {
        let Desired { owners, planes, .. } = &mut *desired;
        let Some(state) = plane.and_then(|plane| planes.of_mut(plane)) else { return };
        let owner = ObjectRef::new(Kind::Gateway, name.clone());
        let accepted = |listener| verdicts::listener_refusal(&owner, listener, &state.ports).is_none();
        let gateway = owners.gateways.get(name).filter(|gateway| gateway.plane == plane && gateway.refusal.is_none());
        let stands = gateway.is_some_and(|gateway| gateway.listeners.iter().any(accepted));
        if !state.ports.set_standing(name, stands) {
            return;
        }
        for set in desired.known.sets_by_gateway.of(name) {
            if let Some(facts) = desired.owners.sets.get(set) {
                self.ports.extend(Share::of_set(set, facts).ports());
                self.moved.insert(ObjectRef::new(Kind::ListenerSet, set.clone()));
            }
        }
    }

    /// Keeps which ListenerSets of a Gateway are accepted.
    pub(super) fn count_set(&mut self, desired: &mut Desired, gateway: &ObjectName, set: &ObjectName) {
        let object = ObjectRef::new(Kind::ListenerSet, set.clone());
        let of_gateway = desired.owners.sets.get(set).is_some_and(|facts| facts.gateway == *gateway);
        let accepted = match desired.verdict(&object).filter(|_| of_gateway) {
            Some(Verdict::ListenerSet(verdict)) => verdict.is_accepted(),
            Some(
                Verdict::DataPlane(_)
                | Verdict::GatewayClass(_)
                | Verdict::Gateway(_)
                | Verdict::Route(_)
                | Verdict::Policy(_),
            )
            | None => false,
        };
        let sets = desired.accepted_sets.entry(gateway.clone()).or_default();
        let changed = if accepted { sets.insert(set.clone()) } else { sets.remove(set) };
        if sets.is_empty() {
            desired.accepted_sets.remove(gateway);
        }
        if changed {
            self.verdict(Kind::Gateway, gateway);
        }
    }
}
