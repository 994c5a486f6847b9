//! The tier of DataPlanes: what they come to, which data planes there are, and whom that touches.

use super::Wave;
use crate::{
    model::{
        names::{Kind, ObjectName, ObjectRef},
        places::Plane,
    },
    translate::{
        desired::Desired,
        known::Known,
        planes::{self, PlaneOf, PlaneSettings, classes_naming, plane_named},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Wave {
    /// Settles all DataPlanes, of which there are few: a prefix that comes or goes may decide over any other.
    pub(super) fn planes_tier(&mut self, desired: &mut Desired) {
        let control_prefix = desired.control_prefix.as_deref();
        let now = planes::settle(&desired.settings.plane, control_prefix, &desired.known.data_planes);
        let before = std::mem::replace(&mut desired.data_planes, now);
        let names: BTreeSet<&Arc<str>> = before.keys().chain(desired.data_planes.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != desired.data_planes.get(*name)) {
            self.verdict(Kind::DataPlane, &ObjectName::cluster(name));
            for (class, _) in classes_naming(&desired.known, Some(name)) {
                self.verdict(Kind::GatewayClass, class);
                for gateway in desired.known.gateways_by_class.of(&class.name) {
                    self.gateways.insert(gateway.clone());
                    self.sets.extend(desired.known.sets_by_gateway.of(gateway).cloned());
                }
            }
        }
        for (plane, (name, settings)) in in_use(desired) {
            self.take_up(desired, plane, name, settings);
        }
    }

    /// Takes in what a data plane is.
    fn take_up(&mut self, desired: &mut Desired, plane: Plane, name: Arc<str>, settings: Arc<PlaneSettings>) {
        let splits = desired.planes.splits(plane);
        let Some(state) = desired.planes.of_mut(plane) else {
            desired.planes.begin(name, settings);
            // What etcd holds there was nobody's so far, or kept.
            self.affected.planes.insert(plane);
            return;
        };
        state.name = name;
        let before = std::mem::replace(&mut state.settings, settings);
        if before.version != state.settings.version {
            let ports = state.ports.set_version(state.settings.version);
            self.ports.extend(ports.into_iter().map(|port| (plane, port)));
        }
        if before.ports != state.settings.ports {
            // Ports of frozen objects are other ones of APISIX's.
            self.affected.planes.insert(plane);
        }
        if desired.planes.splits(plane) != splits {
            self.recompute_pools(desired);
        }
    }

    /// Forgets the data planes that no class of ours leads to any more. What the tiers said of them has gone before.
    pub(super) fn leave_planes(&mut self, desired: &mut Desired) {
        let in_use = in_use(desired);
        let left: Vec<Plane> = desired.planes.names().filter(|plane| !in_use.contains_key(plane)).collect();
        for plane in left {
            desired.planes.end(plane);
            self.affected.planes.insert(plane);
        }
    }
}

/// The data planes that classes of ours lead to, and that of the settings, each with its name.
fn in_use(desired: &Desired) -> BTreeMap<Plane, (Arc<str>, Arc<PlaneSettings>)> {
    let Desired { settings, known, data_planes, .. } = desired;
    let ours = classes_naming(known, None).filter(|(_, class)| class.controller_name == settings.controller_name);
    let named = ours.filter_map(|(_, class)| match planes::of_class(class.parameters.as_ref(), data_planes) {
        PlaneOf::Named(name, settings) => Some((settings.plane, (name, settings))),
        PlaneOf::Default | PlaneOf::Unusable(_) => None,
    });
    let default = (settings.plane.plane, (Arc::from(""), Arc::clone(&settings.plane)));
    named.chain([default]).collect()
}

/// The DataPlane that a GatewayClass names, as it is known now.
pub(super) fn named(known: &Known, kind: Kind, name: &ObjectName) -> Option<ObjectRef> {
    let class = known.classes.get(name).filter(|_| kind == Kind::GatewayClass)?;
    let plane = plane_named(class.parameters.as_ref()?)?;
    Some(ObjectRef::new(Kind::DataPlane, ObjectName::cluster(plane)))
}
