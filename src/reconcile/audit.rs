//! The audit: every key and its revision, as etcd lists them, against the mirror. Listings in; out comes whether anything
//! was missed.
//!
//! A watch may lose an event (etcds before 3.4.25 and 3.5.8 can), of the control keys as well, which are read anew each time. A difference may also be mere lag, so it counts only when
//! a second look still finds it. Until a listing of this term has agreed, nothing that others may have come to use is deleted.

use super::{State, Task};
use crate::{
    leader::{Again, Term},
    model::places::WorkId,
    status::queue::StatusSink,
    store::{
        ReadError, StoreId,
        audit::{Listing, differences},
        txn::Revision,
    },
};
use std::{collections::BTreeSet, error::Error, time::Instant};

/// Where the audit of one term stands.
#[derive(Debug)]
pub(super) struct Audit {
    /// When to look next; `None` while a look is under way.
    next: Option<Instant>,
    /// What had been told when the look that is under way began: it must not come back with less.
    told: Option<Revision>,
    /// What the last look found different.
    suspects: BTreeSet<WorkId>,
    /// Whether a listing of this term has agreed with the mirror.
    pub(super) agreed: bool,
}

impl Audit {
    /// A term begins.
    pub(super) fn begun(now: Instant) -> Self {
        Self { next: Some(now), told: None, suspects: BTreeSet::new(), agreed: false }
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
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
        (leading.audit.next, leading.audit.told) = (None, told);
        send(Task::List(leading.term.clone()));
        // They are few: read anew, they need no comparing.
        self.reread_control();
    }

    /// Takes in what a look found.
    pub(super) fn audited(&mut self, term: &Term, answer: Result<(StoreId, Listing), ReadError>, now: Instant) {
        let Some(leading) = self.leading().filter(|leading| leading.term == *term) else { return };
        let told = leading.audit.told;
        let grace = self.settings.audit_grace;
        let (store, listing) = match answer {
            Ok(found) => found,
            Err(error) => {
                let reason: &dyn Error = &error;
                tracing::debug!(error = reason, "etcd's keys cannot be listed; trying again");
                return self.look_again(now + grace, BTreeSet::new());
            }
        };
        if told.is_some_and(|told| listing.revision < told) || self.store_id.is_some_and(|known| known != store) {
            tracing::error!("etcd was wiped or restored from a backup; beginning anew");
            // Nobody leads on what is not so: winning again at once would only find the same.
            self.doubted = true;
            self.reread();
            return self.resign(Again::AtOnce, now);
        }
        let different = differences(&self.mirror, &listing);
        let Some(leading) = self.leading_mut() else { return };
        if different.is_empty() {
            leading.audit.agreed = true;
            let next = now + self.settings.audit_interval;
            return self.look_again(next, BTreeSet::new());
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
