//! What is held back although it is wanted: changes that would stop most of a data plane, and whatever hangs on a kind that
//! was there and is not served. Causes in; what may be done about a document out.

use super::{
    State,
    holds::{Cause, Hold, HoldScene, Holds, STOPS_ALLOWED},
    kind_guard::KindGuard,
};
use crate::{
    apisix::{
        ids,
        stored::{Inspected, ValueHash},
    },
    model::{
        facts::Change,
        names::{Kind, ObjectRef},
        places::{Directory, Plane, WorkId},
    },
    status::{
        events::{Notice, Severity},
        queue::StatusSink,
    },
    store::{
        mirror::{Mirror, written_by},
        mirrors::Mirrors,
    },
    translate::desired::{Desired, Wanted, reach::Serves},
};
use std::{borrow::Cow, collections::BTreeSet, sync::Arc, time::Instant};

/// What a cause is considered over.
struct Look<'a> {
    plane: Plane,
    desired: &'a Desired,
    mirror: &'a Mirrors,
    guard: &'a KindGuard,
    instance: &'a str,
}

impl Look<'_> {
    /// Whether etcd holds a document as it is wanted.
    fn is_as_wanted(&self, id: &WorkId) -> bool {
        match self.desired.wanted(id) {
            Wanted::Document(document) => {
                let hash = ValueHash::of(&document.bytes);
                self.mirror.stored(id).is_some_and(|stored| stored.inspected.hash == hash)
            }
            Wanted::Absent | Wanted::Kept { otherwise: _ } | Wanted::Refused(_) => false,
        }
    }

    /// Whether a slot needs a certificate that is neither in etcd nor can be put there: then the slot goes.
    fn lacks_certificate(&self, slot: &WorkId) -> bool {
        let lacks = |certificate: &WorkId| match self.desired.wanted(certificate) {
            Wanted::Document(_) | Wanted::Kept { otherwise: Some(_) } => false,
            Wanted::Absent | Wanted::Kept { otherwise: None } | Wanted::Refused(_) => {
                self.stored(certificate).is_none()
            }
        };
        self.desired.slot_certificate(slot).as_ref().is_some_and(lacks)
    }
}

impl HoldScene for Look<'_> {
    fn n_stored(&self) -> usize {
        self.mirror.of(self.plane).map_or(0, |mirror| mirror.n_ours(Directory::StreamRoutes))
    }

    fn stored(&self, slot: &WorkId) -> Option<&Inspected> {
        let stored = self.mirror.stored(slot)?.inspected;
        written_by(&stored.seal, self.instance).then_some(stored)
    }

    fn stored_slots(&self, id: &WorkId) -> Vec<WorkId> {
        self.mirror.users(id).filter(|slot| self.stored(slot).is_some()).cloned().collect()
    }

    fn wanted_slots(&self, id: &WorkId) -> Vec<WorkId> {
        self.desired.slots_needing(id).collect()
    }

    fn slots_of_route(&self, pool: &WorkId) -> Vec<WorkId> {
        self.desired.slots_of_route(pool).collect()
    }

    fn serves(&self, slot: &WorkId) -> Serves {
        let wanted = || self.desired.wanted(slot);
        if self.guard.is_up() && self.guard.keeps(self.stored(slot), &wanted(), self.desired.refuses(slot)) {
            return Serves::Kept;
        }
        match self.desired.serves(slot) {
            Serves::Nodes(_) | Serves::NoNodes if self.lacks_certificate(slot) => Serves::Refused,
            serves @ (Serves::Nodes(_) | Serves::NoNodes | Serves::Refused | Serves::Absent | Serves::Kept) => serves,
        }
    }

    fn as_wanted(&self, slot: &WorkId) -> bool {
        self.is_as_wanted(slot) && self.desired.slot_pool(slot).is_none_or(|pool| self.is_as_wanted(&pool))
    }
}

impl<K: StatusSink> State<K> {
    /// Takes in one change. What may stop many slots at once is worked out alone, so that it can be held.
    pub(super) fn note(&mut self, change: Change, at: Instant, now: Instant) {
        let reaches_far = self.leading().is_some() && self.desired.reach(&change, STOPS_ALLOWED + 1) > STOPS_ALLOWED;
        if reaches_far {
            self.settle_changes(now);
        }
        let object = ObjectRef::new(change.kind, change.name.clone());
        self.desired.note(change);
        self.noted(at);
        if reaches_far {
            self.settle_as(Some(&Cause::Object(object)), now);
        }
    }

    /// Works out what all changes that have gathered come to. Once for all of them: a thousand changes of one Service's
    /// endpoints cost one look at its routes. Not before everything is listed, when most of it would be looked at again.
    pub(super) fn settle_changes(&mut self, now: Instant) {
        self.settle_as(None, now);
    }

    /// The same, for what has one cause.
    pub(super) fn settle_as(&mut self, cause: Option<&Cause>, now: Instant) {
        if !self.warm() {
            return;
        }
        let affected = self.desired.settle();
        self.follow_planes();
        if self.leading().is_some() {
            let mut documents = Cow::Borrowed(&affected.documents);
            for plane in &affected.planes {
                let slots = self.documents_of(*plane, |id| id.directory == Directory::StreamRoutes);
                documents.to_mut().extend(slots);
            }
            self.consider(cause, &documents, now);
        }
        let at = self.noted_since.take();
        self.affected(affected, at);
    }

    /// What a term begins with is one cause: a wrong setting must not empty a data plane.
    pub(super) fn hold_what_the_start_would_stop(&mut self, plane: Plane, now: Instant) {
        let slots = self.documents_of(plane, |id| id.directory == Directory::StreamRoutes);
        self.consider(Some(&Cause::Start), &slots.into_iter().collect(), now);
    }

    /// Each data plane is considered by itself: what would stop most of one is too much, however many others there are.
    fn consider(&mut self, cause: Option<&Cause>, documents: &BTreeSet<WorkId>, now: Instant) {
        let planes: BTreeSet<Plane> = documents.iter().map(|id| id.plane).collect();
        if let (1, Some(plane)) = (planes.len(), planes.first()) {
            return self.consider_on(*plane, cause, documents, now);
        }
        for plane in planes {
            let of_plane = documents.iter().filter(|id| id.plane == plane).cloned().collect();
            self.consider_on(plane, cause, &of_plane, now);
        }
    }

    fn consider_on(&mut self, plane: Plane, cause: Option<&Cause>, documents: &BTreeSet<WorkId>, now: Instant) {
        let (desired, mirror, guard) = (&self.desired, &self.mirror, &self.guard);
        let look = Look { plane, desired, mirror, guard, instance: &self.settings.instance };
        let (hold, again) = match cause {
            Some(cause) => {
                let considered = self.holds.consider(cause, documents, &look, now);
                (considered.hold, considered.let_go)
            }
            None => (None, self.holds.wanted_again(documents, &look)),
        };
        if let Some(hold) = hold {
            self.tell_hold(cause, &hold);
        }
        self.look_again_at(again);
    }

    fn tell_hold(&mut self, cause: Option<&Cause>, hold: &Hold) {
        let Hold { name, n_slots, n_stored, until: _ } = hold;
        let time = self.settings.hold_time.unwrap_or_default();
        tracing::error!(
            %name,
            n_slots,
            n_stored,
            held_for = ?time,
            "one change would stop most routes of the data plane; held back. Let it go with `release`"
        );
        let note = format!(
            "This would stop {n_slots} of {n_stored} routes of the data plane at once. They are kept as they are for {time:?}, \
             unless `apisix-etcd-controller release {name}` lets them go"
        );
        let about = match cause {
            Some(Cause::Object(object)) => vec![object.clone()],
            Some(Cause::List(_) | Cause::Start) | None => self.desired.gateway_classes(),
        };
        for about in about {
            let notice = Notice { about, reason: "ChangeHeld", note: note.clone(), severity: Severity::Warning };
            self.report.announce(notice);
        }
        self.count_guarded();
    }

    /// Lets go of what has been held long enough.
    pub(super) fn expire_holds(&mut self, now: Instant) {
        for (name, again) in self.holds.expire(now) {
            tracing::warn!(%name, "held for long enough; going on");
            self.look_again_at(again);
        }
    }

    /// Lets go of what a person has released.
    pub(super) fn released(&mut self) {
        if self.leading().is_none() {
            return;
        }
        for release in self.control.releases() {
            let again = self.holds.release(&release.name);
            let lifted = self.guard.release(&release.name);
            if lifted || !again.is_empty() {
                tracing::warn!(name = %release.name, "released; going on");
            }
            self.look_again_at(again);
            if lifted && !self.guard.is_up() {
                self.look_at_everything();
            }
        }
        self.count_guarded();
    }

    /// What is not known of kinds that were there when etcd was last written.
    pub(super) fn guard_missing_kinds(&mut self) {
        let known = |kind: &Kind| !self.not_served.contains(kind);
        let listed: BTreeSet<Kind> = Kind::ALL.into_iter().filter(known).collect();
        let record = self.leading().and_then(|leading| leading.record.as_ref());
        self.guard = record.map(|record| KindGuard::new(&record.versions, &listed)).unwrap_or_default();
        for name in self.guard.names() {
            tracing::error!(
                name,
                "a kind was there when etcd was last written and is not served; nothing that may hang on it is stopped. Let \
                 it go with `release`"
            );
        }
        self.count_guarded();
    }

    /// A kind was listed.
    pub(super) fn unguard(&mut self, kind: Kind) {
        if self.guard.listed(kind) {
            tracing::info!(%kind, "served again; nothing is guarded any more");
            self.look_at_everything();
        }
        self.count_guarded();
    }

    fn look_at_everything(&mut self) {
        for plane in self.mirror.planes().collect::<Vec<_>>() {
            self.look_at_all_of(plane);
        }
    }

    /// Looks at every document that a data plane has in etcd.
    pub(super) fn look_at_all_of(&mut self, plane: Plane) {
        for id in self.documents_of(plane, |_| true) {
            self.add(id);
        }
    }

    fn documents_of(&self, plane: Plane, of: impl Fn(&WorkId) -> bool) -> Vec<WorkId> {
        let known = self.mirror.of(plane).into_iter().flat_map(Mirror::known);
        known.map(|(id, _)| id).filter(|id| of(id)).cloned().collect()
    }

    fn look_again_at(&mut self, ids: BTreeSet<WorkId>) {
        if ids.is_empty() {
            return;
        }
        for id in ids {
            self.touch_users(&id);
            self.add(id);
        }
        self.count_guarded();
    }

    /// What etcd holds of a slot has changed.
    pub(super) fn mind_holds(&mut self, slot: &WorkId) {
        if self.holds.is_empty() || slot.directory != Directory::StreamRoutes {
            return;
        }
        let stored = self.mirror.stored(slot).map(|stored| stored.inspected);
        let again = self.holds.stored(slot, stored.filter(|stored| written_by(&stored.seal, &self.settings.instance)));
        self.look_again_at(again);
    }

    /// Whether a guard keeps a document as it is in etcd, whatever is wanted.
    pub(super) fn kept_by_a_guard(&self, id: &WorkId, wanted: &Wanted) -> bool {
        if self.holds.held(id).is_some() && !outlives_a_hold(id, wanted) {
            return true;
        }
        let stored = self.mirror.stored(id).map(|stored| stored.inspected);
        let ours = stored.filter(|stored| written_by(&stored.seal, &self.settings.instance));
        self.guard.is_up() && self.guard.keeps(ours, wanted, self.desired.refuses(id))
    }

    /// By what name a document's change is released, if it is held back.
    pub(super) fn held(&self, id: &WorkId) -> Option<Arc<str>> {
        let held = self.holds.held(id)?;
        (!outlives_a_hold(id, &self.wanted_freely(id))).then(|| held.clone())
    }

    /// By what name a slot is released that is kept for the route which has it, although another one is to have it.
    pub(super) fn guarded_from(&self, slot: &WorkId) -> Option<Arc<str>> {
        if !self.guard.is_up() || slot.directory != Directory::StreamRoutes {
            return None;
        }
        let wanted = self.wanted_freely(slot);
        let Wanted::Document(document) = &wanted else { return None };
        let others = self.mirror.stored(slot)?.inspected.pool != document.pool;
        let name = || self.guard.names().next().map(Arc::from);
        (others && self.kept_by_a_guard(slot, &wanted)).then(name).flatten()
    }

    /// By what name the guard is released that keeps slots in etcd for a route which is to have them no more.
    pub(super) fn still_held(&self, route: &ObjectRef) -> Option<Arc<str>> {
        if self.holds.is_empty() && !self.guard.is_up() {
            return None;
        }
        let pools =
            self.mirror.planes().map(|plane| ids::pool(plane, &self.settings.instance, route.kind, &route.name));
        let pools: Vec<WorkId> = pools.collect();
        let given_up = |slot: &&WorkId| self.desired.slot_pool(slot).is_none_or(|pool| !pools.contains(&pool));
        let keeper = |slot: &WorkId| {
            let by_guard = || self.kept_by_a_guard(slot, &self.wanted_freely(slot));
            self.held(slot).or_else(|| by_guard().then(|| self.guard.names().next().map(Arc::from)).flatten())
        };
        pools.iter().flat_map(|pool| self.mirror.users(pool)).filter(given_up).find_map(keeper)
    }

    /// Guards nothing any more: a term has ended, and the next leader looks for itself. Should that be this replica again, it
    /// has settled what was kept, although that is not as it is wanted.
    pub(super) fn stop_guarding(&mut self) {
        if self.guard.is_up() || !self.holds.is_empty() {
            self.look_at_everything();
        }
        self.holds = Holds::new(self.settings.hold_time.unwrap_or_default());
        self.guard = KindGuard::default();
        self.count_guarded();
    }

    fn count_guarded(&self) {
        self.metrics.kinds_missing(self.guard.names().count());
        self.metrics.slots_held(self.holds.summary().map(|summary| summary.n_slots).sum());
    }
}

/// Whether what is wanted of a document may go on while the slots that need it are held: the certificate of held slots is
/// renewed, and put again where somebody deleted it. What held slots must not do is lose it.
fn outlives_a_hold(id: &WorkId, wanted: &Wanted) -> bool {
    match (id.directory, wanted) {
        (Directory::Ssls, Wanted::Document(_) | Wanted::Kept { otherwise: _ }) => true,
        (Directory::Ssls, Wanted::Absent | Wanted::Refused(_))
        | (Directory::Upstreams | Directory::StreamRoutes, _) => false,
    }
}
