//! The tier of DataPlanes: what they come to, and whom that touches.

use super::Wave;
use crate::{
    model::names::{Kind, ObjectName, ObjectRef},
    translate::{
        desired::Desired,
        known::Known,
        planes::{self, PlaneSettings, classes_naming, plane_named},
    },
};
use std::{collections::BTreeSet, sync::Arc};

impl Wave {
    /// Settles all DataPlanes, of which there are few: a prefix that comes or goes may decide over any other.
    pub(super) fn planes_tier(&mut self, desired: &mut Desired) {
        let default = PlaneSettings::of_settings(&desired.settings);
        let now = planes::settle(&default, desired.control_prefix.as_deref(), &desired.known.data_planes);
        let before = std::mem::replace(&mut desired.planes, now);
        let names: BTreeSet<&Arc<str>> = before.keys().chain(desired.planes.keys()).collect();
        for name in names.into_iter().filter(|name| before.get(*name) != desired.planes.get(*name)) {
            self.verdict(Kind::DataPlane, &ObjectName::cluster(name));
            for (class, _) in classes_naming(&desired.known, Some(name)) {
                self.verdict(Kind::GatewayClass, class);
                self.gateways.extend(desired.known.gateways_by_class.of(&class.name).cloned());
            }
        }
    }
}

/// The DataPlane that a GatewayClass names, as it is known now.
pub(super) fn named(known: &Known, kind: Kind, name: &ObjectName) -> Option<ObjectRef> {
    let class = known.classes.get(name).filter(|_| kind == Kind::GatewayClass)?;
    let plane = plane_named(class.parameters.as_ref()?)?;
    Some(ObjectRef::new(Kind::DataPlane, ObjectName::cluster(plane)))
}
