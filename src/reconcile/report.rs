//! Statuses: verdicts and standings in, status updates out where they differ from what an object says already.
//!
//! A status waits for documents that are about to be written, so that nothing is called pending for the half millisecond
//! its transaction takes; it does not wait when writing goes wrong.

use super::{State, work::Work};
use crate::{
    model::{
        names::{Kind, ObjectRef},
        places::{Plane, WorkId},
        verdicts::{ClaimOutcome, Served, Standing, Verdict},
    },
    status::{
        conditions,
        events::Notice,
        print::StatusPrint,
        queue::{StatusSink, StatusUpdate},
    },
    translate::desired::Desired,
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Told that everything that can be done now is done, with how each document stands: nothing is in flight, and every status
/// that differs has been published. Called once each time that comes to be so; must not block.
pub type IdleHook = Box<dyn FnMut(&Desired, &dyn Fn(&WorkId) -> Standing) + Send>;

/// Where statuses go.
pub struct Statuses<K> {
    /// Where they go.
    pub sink: K,
    /// Who wants to know when there are no more to come.
    pub idle: IdleHook,
}

/// How many statuses are rendered before the loop listens again: a few milliseconds of work.
const STATUSES_PER_PASS: usize = 256;

/// What is to be said of objects.
pub(super) struct Report<K> {
    statuses: Statuses<K>,
    controller_name: Arc<str>,
    /// What each object's status says of us, or will once what was published is written. Absent: nothing.
    prints: HashMap<ObjectRef, StatusPrint>,
    /// Objects of whose status nothing is known: what was to be written there was dropped, and may have been written before.
    unsure: BTreeSet<ObjectRef>,
    due: BTreeSet<ObjectRef>,
    /// Objects that wait for documents about to be written.
    waiting: BTreeSet<ObjectRef>,
    /// Whether statuses wait for documents at all.
    patient: bool,
}

impl<K: StatusSink> Report<K> {
    pub(super) fn new(statuses: Statuses<K>, controller_name: Arc<str>) -> Self {
        Self {
            statuses,
            controller_name,
            prints: HashMap::new(),
            unsure: BTreeSet::new(),
            due: BTreeSet::new(),
            waiting: BTreeSet::new(),
            patient: true,
        }
    }

    /// An object's status says this of us; `None` when the object is gone.
    pub(super) fn seen(&mut self, object: ObjectRef, print: Option<StatusPrint>) {
        self.unsure.remove(&object);
        let before = match print {
            Some(print) if print != StatusPrint::default() => {
                self.prints.insert(object.clone(), print.clone()) == Some(print)
            }
            Some(_) => self.prints.remove(&object).is_none(),
            None => {
                self.prints.remove(&object);
                true
            }
        };
        if !before {
            self.due.insert(object);
        }
    }

    /// Nothing is known any more of what statuses of `kind` say.
    pub(super) fn forget(&mut self, kind: Kind) {
        // What is listed with nothing of ours in its status would pass for one that never had any.
        let known = self.prints.extract_if(|object, _| object.kind == kind);
        self.due.extend(known.map(|(object, _)| object));
    }

    /// What is said of an object may have changed.
    pub(super) fn touch(&mut self, object: ObjectRef) {
        self.due.insert(object);
    }

    /// This replica leads no more: nothing is said, and what waits to be written never will be.
    pub(super) fn stand_down(&mut self) {
        for object in self.statuses.sink.clear() {
            self.prints.remove(&object);
            self.unsure.insert(object.clone());
            self.due.insert(object);
        }
        self.due.append(&mut self.waiting);
    }

    /// What is said of each of these may have changed.
    pub(super) fn touch_all(&mut self, objects: impl IntoIterator<Item = ObjectRef>) {
        self.due.extend(objects);
    }

    /// Whether a status is held back until documents are written.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writing goes wrong: what waits for it is said as it is now.
    pub(super) fn stop_waiting(&mut self) {
        self.patient = false;
        self.due.append(&mut self.waiting);
    }

    /// Whether what is said of an object is to be looked at.
    #[cfg(test)]
    pub(super) fn is_due(&self, object: &ObjectRef) -> bool {
        self.due.contains(object)
    }

    /// Where statuses go.
    #[cfg(test)]
    pub(super) fn sink(&mut self) -> &mut K {
        &mut self.statuses.sink
    }

    /// Something happened.
    pub(super) fn announce(&mut self, notice: Notice) {
        self.statuses.sink.announce(notice);
    }

    /// The source of objects serves this from now on.
    pub(super) fn served(&mut self, served: &Served) {
        self.statuses.sink.served(served);
    }
}

impl<K: StatusSink> State<K> {
    /// Everything that can be done now is done.
    pub(super) fn tell_idle(&mut self) {
        // The hook asks about everything else, so it steps out for that long.
        let mut hook: IdleHook = std::mem::replace(&mut self.report.statuses.idle, Box::new(|_, _| ()));
        hook(&self.desired, &|id| self.standing(id));
        self.report.statuses.idle = hook;
    }

    /// Publishes statuses that differ; gives whether some are left for later.
    pub(super) fn publish(&mut self) -> bool {
        self.report.patient = self.report.patient || self.outage.is_none();
        for _ in 0..STATUSES_PER_PASS {
            let Some(object) = self.report.due.pop_first() else { return false };
            self.report.waiting.remove(&object);
            let Some(verdict) = self.desired.verdict(&object) else {
                self.report.statuses.sink.forget(&object);
                // What was said may just have been dropped unwritten: should there be something to say again, it is said.
                if self.report.prints.contains_key(&object) {
                    self.report.unsure.insert(object);
                } else {
                    self.report.unsure.remove(&object);
                }
                continue;
            };
            let in_trouble = |plane| self.in_trouble(plane);
            if self.report.patient && expected_soon(&self.work, &verdict, &in_trouble) {
                self.report.waiting.insert(object);
                continue;
            }
            let standing = |id: &WorkId| self.standing(id);
            let held = self.still_held(&object);
            let status =
                conditions::render_held(&object, &verdict, &self.report.controller_name, &standing, held.as_deref());
            let (frozen_parents, finalizer) = match verdict {
                Verdict::Route(route) => (route.frozen_parents, false),
                Verdict::Policy(policy) => (policy.frozen_ancestors, false),
                Verdict::DataPlane(_) | Verdict::Gateway(_) | Verdict::ListenerSet(_) => (Vec::new(), false),
                Verdict::GatewayClass(class) => (Vec::new(), class.in_use),
            };
            let update = StatusUpdate { object, status, frozen_parents, finalizer };
            let print = update.print(&self.report.controller_name);
            let said = self.report.prints.get(&update.object).cloned().unwrap_or_default();
            let unsure = self.report.unsure.remove(&update.object);
            if !unsure && !print.differs_from(&said, &update.frozen_parents) {
                continue;
            }
            self.report.prints.insert(update.object.clone(), print);
            self.report.statuses.sink.publish(update);
        }
        !self.report.due.is_empty()
    }
}

/// Whether what the verdict depends on will be known in a moment. Not while one of its documents is in trouble: the others may
/// be waiting for that one.
fn expected_soon(work: &Work, verdict: &Verdict, in_trouble: &dyn Fn(Plane) -> bool) -> bool {
    documents_of(verdict).any(|id| work.young(id))
        && !documents_of(verdict).any(|id| work.troubled(id) || in_trouble(id.plane))
}

/// The documents a status depends on.
fn documents_of(verdict: &Verdict) -> impl Iterator<Item = &WorkId> {
    let (parents, listeners) = match verdict {
        Verdict::Route(route) => (route.parents.as_slice(), [].as_slice()),
        Verdict::Gateway(gateway) => ([].as_slice(), gateway.listeners.as_slice()),
        Verdict::ListenerSet(set) => ([].as_slice(), set.listeners.as_slice()),
        Verdict::DataPlane(_) | Verdict::GatewayClass(_) | Verdict::Policy(_) => ([].as_slice(), [].as_slice()),
    };
    let certificates = listeners.iter().filter_map(|listener| listener.certificates.as_ref());
    let certificates = certificates.flat_map(|certificates| &certificates.documents);
    let of_claims = parents.iter().filter_map(|parent| parent.attachment.as_ref().ok()).flatten().flat_map(|claim| {
        match &claim.outcome {
            ClaimOutcome::Holds { slot, pool, certificate } => [slot, pool].into_iter().chain(certificate).collect(),
            ClaimOutcome::Superseded { .. }
            | ClaimOutcome::ListenerMoreSpecific
            | ClaimOutcome::ListenerNotAccepted
            | ClaimOutcome::NoCertificate
            | ClaimOutcome::CertificateTaken
            | ClaimOutcome::NoName => vec![],
        }
    });
    certificates.chain(of_claims)
}
