//! The audit: every key and its revision, as etcd lists them, against the mirror. Listings in; out comes whether anything
//! was missed.
//!
//! A watch may lose an event (etcds before 3.4.25 and 3.5.8 can), of the control keys as well, which are read anew each time. A difference may also be mere lag, so it counts only when
//! a second look still finds it. Until a listing of this term has agreed, nothing that others may have come to use is deleted.

use super::{State, Task};
use crate::{
    leader::{Again, Term},
    model::places::{Plane, WorkId},
    status::queue::StatusSink,
    store::{
        ReadError, StoreId,
        audit::{Listing, differences},
        txn::Revision,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::Instant,
};

/// What listing the keys of a data plane came to.
pub(super) type Listed = Result<(StoreId, Listing), ReadError>;

/// Where the audit of one term stands.
#[derive(Debug)]
pub(super) struct Audit {
    /// When to look next; `None` while a look is under way.
    next: Option<Instant>,
    /// What had been told when the look that is under way began: it must not come back with less.
    told: BTreeMap<Plane, Revision>,
    /// What the last look found different.
    suspects: BTreeSet<WorkId>,
    /// The data planes of which a listing of this term has agreed with the mirror.
    agreed: BTreeSet<Plane>,
}

impl Audit {
    /// A term begins.
    pub(super) fn begun(now: Instant) -> Self {
        Self { next: Some(now), told: BTreeMap::new(), suspects: BTreeSet::new(), agreed: BTreeSet::new() }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a listing of this term has agreed with the mirror of a data plane.
    pub(super) fn agreed(&self, plane: Plane) -> bool {
        self.agreed.contains(&plane)
    }
}

impl<K: StatusSink> State<K> {
    /// Sends out the next look, if its time has come.
    pub(super) fn audit(&mut self, now: Instant, mut send: impl FnMut(Task)) {
        let told = self.mirror.told();
        let Some(leading) = self.leading_mut() else { return };
        if leading.audit.next.is_none_or(|next| next > now) {
            return;
        }
        let planes = told.keys().copied().collect();
        (leading.audit.next, leading.audit.told) = (None, told);
        send(Task::List(leading.term.clone(), planes));
        // They are few: read anew, they need no comparing.
        self.reread_control();
    }

    /// Takes in what a look found.
    pub(super) fn audited(&mut self, term: &Term, answers: Vec<(Plane, Listed)>, now: Instant) {
        let Some(leading) = self.leading().filter(|leading| leading.term == *term) else { return };
        let told = leading.audit.told.clone();
        let grace = self.settings.audit_grace;
        let (mut different, mut agreed) = (BTreeSet::new(), BTreeSet::new());
        // One that has been read since the look began is looked at soon.
        let mut all = self.mirror.told().keys().all(|plane| told.contains_key(plane));
        for (plane, answer) in answers {
            let (store, listing) = match answer {
                Ok(found) => found,
                Err(error) => {
                    let reason: &dyn Error = &error;
                    tracing::debug!(%plane, error = reason, "etcd's keys cannot be listed; trying again");
                    all = false;
                    continue;
                }
            };
            let behind = told.get(&plane).is_some_and(|told| listing.revision < *told);
            if behind || self.store_id.is_some_and(|known| known != store) {
                tracing::error!("etcd was wiped or restored from a backup; beginning anew");
                // Nobody leads on what is not so: winning again at once would only find the same.
                self.doubted = true;
                self.reread();
                return self.resign(Again::AtOnce, now);
            }
            let Some(mirror) = self.mirror.of(plane) else { continue };
            let of_plane = differences(mirror, &listing);
            if of_plane.is_empty() {
                agreed.insert(plane);
            }
            different.extend(of_plane);
        }
        let Some(leading) = self.leading_mut() else { return };
        leading.audit.agreed.extend(agreed);
        if different.is_empty() {
            return self.look_again(now + if all { self.settings.audit_interval } else { grace }, BTreeSet::new());
        }
        let missed = different.intersection(&leading.audit.suspects).count();
        if missed > 0 {
            tracing::warn!(n_keys = missed, "the watch has missed changes; reading etcd anew");
            self.metrics.audit_failed();
            self.reread();
            return self.look_again(now + grace, BTreeSet::new());
        }
        self.look_again(now + grace, different);
    }

    /// A data plane has been read that no look was about.
    pub(super) fn audit_soon(&mut self, now: Instant) {
        if let Some(leading) = self.leading_mut() {
            leading.audit.next = leading.audit.next.map(|_| now);
        }
    }

    /// Has the control keys read anew.
    pub(super) fn reread_control(&self) {
        let [_, control] = &self.outputs.rereads;
        control.ask();
    }

    /// Has everything in etcd read anew.
    pub(super) fn reread(&self) {
        for reread in &self.outputs.rereads {
            reread.ask();
        }
    }

    fn look_again(&mut self, at: Instant, suspects: BTreeSet<WorkId>) {
        if let Some(leading) = self.leading_mut() {
            (leading.audit.next, leading.audit.suspects) = (Some(at), suspects);
        }
    }
}
