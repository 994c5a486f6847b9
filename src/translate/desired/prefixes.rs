//! Which data planes there are, which ones etcd says hold documents of ours still, and what becomes of those.
//!
//! A data plane is left when its DataPlane has another prefix, or when no class of ours names that any more: nothing is wanted there. While
//! a class names one that is missing or invalid, or a class is absent that may have named it, what it holds is kept.

use super::{Affected, Desired};
use crate::{
    model::{names::ObjectName, places::Plane},
    translate::{
        listeners::ClassState,
        planes::{self, PlaneOf},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

impl Desired {
    /// The data plane of classes that name none.
    #[must_use]
    pub fn default_plane(&self) -> Plane {
        self.settings.plane.plane
    }

    /// The data planes whose documents are wanted, in order.
    pub fn planes(&self) -> impl Iterator<Item = Plane> {
        self.planes.names()
    }

    /// The data planes whose documents are wanted, with the name of each: that of its DataPlane, empty for the one of the settings.
    pub fn named_planes(&self) -> impl Iterator<Item = (Plane, Arc<str>)> {
        self.planes.all().map(|(plane, state)| (plane, Arc::clone(&state.name)))
    }

    /// Takes in which data planes hold documents of ours, or may, with their names, as far as etcd tells.
    pub fn set_recorded(&mut self, recorded: BTreeMap<Plane, Arc<str>>) -> Affected {
        self.recorded = recorded;
        let mut affected = Affected::default();
        self.judge_left(&mut affected);
        affected
    }

    /// The data plane that the documents of another one have moved to, if it was given another prefix.
    #[must_use]
    pub fn moved_to(&self, plane: Plane) -> Option<Plane> {
        let name = self.recorded.get(&plane).filter(|_| self.planes.of(plane).is_none())?;
        self.planes.all().find(|(_, state)| state.name == *name).map(|(plane, _)| plane)
    }

    /// Decides anew which data planes that nobody names, or that cannot be used, are kept.
    pub(super) fn judge_left(&mut self, affected: &mut Affected) {
        let unserved = self.recorded.iter().filter(|(plane, _)| self.planes.of(**plane).is_none());
        let kept: BTreeSet<Plane> =
            unserved.filter(|(_, name)| self.keeps_plane(name)).map(|(plane, _)| *plane).collect();
        affected.planes.extend(self.kept.symmetric_difference(&kept));
        self.kept = kept;
    }

    /// Whether documents of a data plane of this name that is not served are kept.
    fn keeps_plane(&self, name: &Arc<str>) -> bool {
        // A class that nobody can read may have named it.
        let absent = |class: &Arc<str>| self.known.classes.get(&ObjectName::cluster(class)).is_none();
        let unusable = !matches!(self.data_planes.get(name), Some(Ok(_)));
        let mut named = planes::classes_naming(&self.known, Some(name));
        let controller_name = &self.settings.controller_name;
        self.known.gateways_by_class.keys().any(absent)
            || unusable && named.any(|(_, class)| class.controller_name == *controller_name)
    }

    /// Whose the class `name` is.
    pub(super) fn class_state(&self, name: &Arc<str>) -> ClassState {
        match self.known.classes.get(&ObjectName::cluster(name)) {
            None => ClassState::Frozen,
            Some(class) if class.controller_name != self.settings.controller_name => ClassState::Foreign,
            Some(class) => match planes::of_class(class.parameters.as_ref(), &self.data_planes) {
                PlaneOf::Default => ClassState::Ours(Arc::clone(&self.settings.plane)),
                PlaneOf::Named(_, settings) => ClassState::Ours(settings),
                PlaneOf::Unusable(_) => ClassState::Frozen,
            },
        }
    }
}
