//! How everything should stand once the faults are over: store and statuses against a translation of its own. A cluster and
//! what the store holds go in; every difference comes out in words.

use super::{CONTROLLER, INSTANCE, PREFIX, cluster::Cluster, replica::translation};
use apisix_etcd_controller::{
    apisix::{
        ids::{self, SlotPlace},
        plugins,
        routing::Reach,
        seal::sealed_hash,
        stored::{Inspected, Seal, inspect},
    },
    cluster::manifests,
    model::{
        facts::DriftPolicy,
        places::{Directory, Plane, WorkId},
        verdicts::{Occupant, Standing, Verdict},
    },
    status::{conditions, print::StatusPrint},
    store::{Content, PagePlace, Scope, Store as _, memory::MemoryStore, mirror::written_by},
    translate::desired::{Desired, Wanted},
};
use std::{collections::BTreeMap, sync::Arc};

/// The checkpoint of another instance.
pub(crate) const OTHER_LANE: &str = "/control/another/lanes/0";

/// Below this are our own lanes.
const LANES: &str = "/control/default/lanes";

/// What should be, and what is.
pub(crate) struct Healed {
    desired: Desired,
    stored: BTreeMap<WorkId, (Vec<u8>, Inspected)>,
    /// Whether another instance has a checkpoint.
    others: bool,
    /// Whether we have one. What nobody sealed is not ours before that, and somebody may have deleted it when there was nothing
    /// more to write.
    claimed: bool,
}

fn intact(inspected: &Inspected) -> bool {
    written_by(&inspected.seal, INSTANCE)
}

impl Healed {
    pub(crate) async fn look(cluster: &Cluster, store: &MemoryStore) -> Self {
        let mut desired = Desired::new(translation());
        desired.set_served(manifests::served());
        for (kind, objects) in cluster.objects() {
            desired.note_list(kind, objects);
        }
        let mut stored = BTreeMap::new();
        let page = store.page(&Scope::Below(Arc::from(PREFIX)), Content::Values, PagePlace::First).await;
        for entry in page.map(|page| page.entries).unwrap_or_default() {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            if key == format!("{PREFIX}/plugins") {
                desired.note_traffic_split(Plane::of(PREFIX), Some(plugins::lists_stream_traffic_split(&entry.value)));
            }
            let Some(id) = WorkId::from_key(Plane::of(PREFIX), &key) else { continue };
            let inspected = inspect(&id, &key, &entry.value);
            stored.insert(id, (entry.value, inspected));
        }
        desired.settle();
        let lanes = store.page(&Scope::Below(LANES.into()), Content::Values, PagePlace::First).await;
        let claimed = lanes.is_ok_and(|page| !page.entries.is_empty());
        Self { desired, stored, others: store.get(OTHER_LANE).is_some(), claimed }
    }

    /// Everything that is not as it should be.
    pub(crate) fn differences(&self, cluster: &Cluster) -> Vec<String> {
        let mut found = Vec::new();
        let wanted = self.desired.documents();
        let ids =
            wanted.iter().chain(self.stored.keys().filter(|id| ids::is_our_shape(&id.id) && !wanted.contains(id)));
        found.extend(ids.filter_map(|id| self.wrong(id).map(|why| format!("{id}: {why}"))));
        for object in self.desired.verdicts() {
            let Some(verdict) = self.desired.verdict(&object) else { continue };
            let status = conditions::render(&object, &verdict, CONTROLLER, &|id| self.standing(id));
            let should = StatusPrint::of(object.kind, &status, CONTROLLER);
            let seen = cluster.status(&object).unwrap_or_default();
            let (frozen, finalizer) = match verdict {
                Verdict::Route(route) => (route.frozen_parents, false),
                Verdict::Policy(policy) => (policy.frozen_ancestors, false),
                Verdict::DataPlane(_) | Verdict::Gateway(_) | Verdict::ListenerSet(_) => (Vec::new(), false),
                Verdict::GatewayClass(class) => (Vec::new(), class.in_use),
            };
            if cluster.carries_finalizer(&object) != finalizer {
                found.push(format!("{object} should carry the finalizer: {finalizer}"));
            }
            if should.differs_from(&StatusPrint::of(object.kind, &seen, CONTROLLER), &frozen) {
                found.push(format!("the status of {object} should be {status} and is {seen}"));
            }
        }
        found
    }

    fn overlap(&self, slot: &WorkId) -> Option<WorkId> {
        let place = SlotPlace::of(slot)?;
        let meets = |(id, (_, inspected)): &(&WorkId, &(Vec<u8>, Inspected))| {
            let own_place = inspected.reach.only().is_some_and(|place| SlotPlace::of(id) == Some(place));
            let reaches = Reach::into(place).contains(&inspected.reach);
            reaches && !own_place && !intact(inspected) && *id != slot
        };
        self.stored.iter().find(meets).map(|(id, _)| id.clone())
    }

    /// Whether something of somebody else holds the key.
    fn taken(&self, id: &WorkId) -> Option<Occupant> {
        match self.stored.get(id).map(|(_, inspected)| &inspected.seal) {
            Some(Seal::Intact { instance }) if **instance != *INSTANCE => Some(Occupant::Instance(instance.clone())),
            Some(Seal::Broken) if !self.claimed => Some(Occupant::Unsealed),
            Some(Seal::Intact { .. } | Seal::Broken) | None => None,
        }
    }

    /// What is wrong with what is stored.
    fn wrong(&self, id: &WorkId) -> Option<&'static str> {
        if self.taken(id).is_some() || self.left_edited(id) {
            return None;
        }
        let stored = self.stored.get(id);
        match self.desired.wanted(id) {
            Wanted::Kept { otherwise: None } | Wanted::Refused(_) => None,
            Wanted::Kept { otherwise: Some(_) } if stored.is_some() => None,
            Wanted::Kept { otherwise: Some(document) } | Wanted::Document(document) => {
                let kept = stored
                    .and_then(|(_, inspected)| inspected.pool.as_ref())
                    .is_some_and(|pool| matches!(self.desired.wanted(pool), Wanted::Kept { .. }));
                let starved = document.pool.as_ref().is_some_and(|pool| self.taken(pool).is_some());
                match stored {
                    Some((bytes, _)) if **bytes == *document.bytes => None,
                    Some(_) if kept => None,
                    Some(_) if starved => Some("stays although its pool cannot be there"),
                    Some(_) => Some("is not as wanted"),
                    None if starved || self.overlap(id).is_some() => None,
                    None => Some("is missing"),
                }
            }
            Wanted::Absent => {
                let (_, inspected) = stored?;
                let kept = inspected
                    .pool
                    .as_ref()
                    .is_some_and(|pool| matches!(self.desired.wanted(pool), Wanted::Kept { .. }));
                let used = id.directory == Directory::Upstreams
                    && self.stored.values().any(|(_, user)| user.pool.as_ref() == Some(id));
                let stray = !intact(inspected) && self.others;
                (!kept && !used && !stray).then_some("is not wanted")
            }
        }
    }

    /// Whether somebody edited this document and its route wants that left so.
    fn left_edited(&self, id: &WorkId) -> bool {
        let Some((_, inspected)) = self.stored.get(id).filter(|(_, inspected)| inspected.seal == Seal::Broken) else {
            return false;
        };
        let as_before = match self.desired.wanted(id) {
            Wanted::Document(document) => {
                inspected.sealed_as.is_none_or(|before| sealed_hash(&document.bytes) == Some(before))
            }
            Wanted::Kept { .. } => true,
            Wanted::Absent | Wanted::Refused(_) => false,
        };
        as_before && self.desired.drift_policy(id) == Some(DriftPolicy::Report)
    }

    fn standing(&self, id: &WorkId) -> Standing {
        if let Some(by) = self.taken(id) {
            return Standing::Occupied { by };
        }
        let stored = self.stored.get(id);
        if self.left_edited(id) {
            return Standing::Edited;
        }
        match (self.desired.wanted(id), stored) {
            (Wanted::Refused(reason), _) => Standing::Refused(reason),
            (Wanted::Document(_) | Wanted::Kept { otherwise: Some(_) }, None) => match self.overlap(id) {
                Some(first) => Standing::Occupied { by: Occupant::StreamRoute(first) },
                None => Standing::Pending,
            },
            (Wanted::Document(document), Some((bytes, _))) if **bytes == *document.bytes => Standing::Programmed,
            (Wanted::Kept { .. }, Some((_, inspected))) if intact(inspected) => Standing::Programmed,
            (Wanted::Document(_) | Wanted::Kept { .. } | Wanted::Absent, _) => Standing::Pending,
        }
    }
}
