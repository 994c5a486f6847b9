//! What one id of the work set comes to now: writes that travel together, or what it has to wait for. Pure.
//!
//! The order that data planes need (they apply directories independently, and drop connections of a slot without its pool or
//! certificate): a new slot may travel with its pool; a slot that already serves gets another pool only once that is in etcd;
//! a slot is put only once its certificate is in etcd; a pool or certificate goes a while after its last user. A pool's
//! rewrite and those of its slots travel together where both are due, so that a refused share changes at once. A
//! certificate's rewrite leaves slots alone.

mod needs;
#[cfg(test)]
mod tests;

use super::{
    DocumentWrite, Need,
    step::{Ours, Step, Unsealed, step},
};
use crate::{
    model::{
        facts::DriftPolicy,
        places::{Directory, Plane, WorkId},
    },
    store::{
        mirror::Stored,
        txn::{Action, Revision},
    },
    translate::desired::{Document, Wanted},
};
use needs::Fate;
use std::time::Instant;

/// The number of a transaction, in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TxnNumber(pub u64);

/// Whether a document can be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nobody is about to write it or relies on it.
    Free,
    /// A transaction in flight puts a slot that needs it.
    Shared(TxnNumber),
    /// A transaction in flight writes it.
    Exclusive(TxnNumber),
    /// Writing it failed; not to be tried again before this.
    Resting(Instant),
}

/// Everything the order is decided over.
pub trait Scene {
    /// The instance named in our seals.
    fn instance(&self) -> &str;
    /// Whose a document of our shape is that has no intact seal, on this data plane.
    fn unsealed(&self, plane: Plane) -> Unsealed;
    /// What becomes of a document that somebody edited: the policy of its route, or else the setting.
    fn drift_policy(&self, id: &WorkId) -> DriftPolicy;
    /// The stored stream_route, not ours, that can match the connections of this slot, if there is one.
    fn overlap(&self, slot: &WorkId) -> Option<WorkId>;
    /// What a document should be.
    fn wanted(&self, id: &WorkId) -> Wanted;
    /// What it is.
    fn stored(&self, id: &WorkId) -> Option<Stored<'_>>;
    /// The stored stream_routes that name this pool, ours and foreign alike, or that need this certificate.
    fn users(&self, id: &WorkId) -> Vec<WorkId>;
    /// Whether it can be written now.
    fn hold(&self, id: &WorkId) -> Hold;
    /// Whether it may need work.
    fn due(&self, id: &WorkId) -> bool;
    /// Before when an unused pool or certificate must not be deleted, if that is yet to come.
    fn lingers_until(&self, id: &WorkId) -> Option<Instant>;
}

/// What one id comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do.
    Settled {
        /// For a slot that is not put because its pool or certificate cannot be: that one. The slot is worth another look
        /// when it changes.
        starved_by: Option<WorkId>,
        /// For what is not as it is wanted and is left so: why. To be reported.
        left: Option<Left>,
    },
    /// These belong into one transaction, as far as they fit, the first before all others. An id asked about that is not
    /// among them has to be asked about again.
    Write(Vec<DocumentWrite>),
    /// To be asked again when this transaction is answered.
    After(TxnNumber),
    /// To be asked again then.
    NotBefore(Instant),
}

/// Why a document that is not as it is wanted is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Somebody edited it, and the drift policy says to report that.
    Edited,
    /// We do not want it, and cannot tell which instance wrote it.
    Stray,
}

/// What `id` comes to.
#[must_use]
pub fn next(id: &WorkId, scene: &impl Scene) -> Next {
    match (scene.hold(id), id.directory) {
        (Hold::Exclusive(txn), _) => Next::After(txn),
        (Hold::Resting(until), _) => Next::NotBefore(until),
        (Hold::Free | Hold::Shared(_), Directory::Upstreams | Directory::Ssls) => needs::next(id, scene),
        (Hold::Free | Hold::Shared(_), Directory::StreamRoutes) => next_of_slot(id, scene),
    }
}

fn next_of_slot(id: &WorkId, scene: &impl Scene) -> Next {
    let mut wanted = scene.wanted(id);
    let starved_by = needs_of(&wanted).find(|need| needs::starve(need, scene)).cloned();
    if starved_by.is_some() {
        wanted = Wanted::Absent;
    }
    let step = step_of(id, &wanted, scene);
    let left = left(&step);
    let (document, expected) = match step {
        Step::Keep | Step::Refused | Step::Edited | Step::Occupied { .. } | Step::Stray | Step::Foreign => {
            return Next::Settled { starved_by, left };
        }
        Step::Delete { expected } => return Next::Write(vec![delete(id, expected)]),
        Step::Create(document) => (document, Revision::ABSENT),
        Step::Update { document, expected } => (document, expected),
    };
    let certificate_at = match certificate_at(&document, scene) {
        Ok(at) => at,
        Err(first) => return first,
    };
    let Some(pool) = document.pool.clone() else {
        return Next::Write(vec![put_slot(id, document, expected, None, certificate_at)]);
    };
    match needs::fate(&pool, scene) {
        Fate::Stands(at) => Next::Write(vec![put_slot(id, document, expected, Some(at), certificate_at)]),
        Fate::Put { document: pool_document, expected: pool_expected } => {
            let mut writes = vec![put(&pool, pool_document, pool_expected)];
            let serves = expected != Revision::ABSENT;
            // A slot that already serves, with another pool, waits until its new pool is in etcd.
            if !serves || pool_expected != Revision::ABSENT || names(id, &pool, scene) {
                writes.push(put_slot(id, document, expected, None, certificate_at));
            }
            writes.extend(slots_in_step(&pool, Some(id), scene));
            Next::Write(writes)
        }
        Fate::Not(next) => next,
    }
}

/// The revision at which the certificate of a slot that is to be put stands in etcd, `None` for a slot that needs none; else
/// what comes before the slot.
fn certificate_at(slot: &Document, scene: &impl Scene) -> Result<Option<Revision>, Next> {
    let Some(certificate) = &slot.certificate else { return Ok(None) };
    match needs::fate(certificate, scene) {
        Fate::Stands(at) => Ok(Some(at)),
        // Not in one transaction: a data plane that hears of the slot first would fail every handshake.
        Fate::Put { document, expected } => Err(Next::Write(vec![put(certificate, document, expected)])),
        Fate::Not(next) => Err(next),
    }
}

/// Rewrites that are due for slots that name `pool` and go on naming it; `but` is left out, and so is a slot whose certificate
/// has to be put first.
fn slots_in_step(pool: &WorkId, but: Option<&WorkId>, scene: &impl Scene) -> Vec<DocumentWrite> {
    let due = |slot: &WorkId| scene.due(slot) && scene.hold(slot) == Hold::Free && Some(slot) != but;
    let rewrite = |slot: WorkId| match step_of(&slot, &scene.wanted(&slot), scene) {
        Step::Update { document, expected } if document.pool.as_ref() == Some(pool) => {
            let certificate_at = certificate_at(&document, scene).ok()?;
            Some(put_slot(&slot, document, expected, None, certificate_at))
        }
        Step::Update { .. }
        | Step::Keep
        | Step::Create(_)
        | Step::Delete { .. }
        | Step::Refused
        | Step::Edited
        | Step::Occupied { .. }
        | Step::Stray
        | Step::Foreign => None,
    };
    scene.users(pool).into_iter().filter(due).filter_map(rewrite).collect()
}

fn step_of(id: &WorkId, wanted: &Wanted, scene: &impl Scene) -> Step {
    let stored = scene.stored(id);
    let named = stored.and_then(|stored| stored.inspected.pool.as_ref());
    let pool_kept = || named.is_some_and(|pool| matches!(scene.wanted(pool), Wanted::Kept { otherwise: _ }));
    let ours = Ours {
        instance: scene.instance(),
        unsealed: scene.unsealed(id.plane),
        pool_kept: &pool_kept,
        overlap: &|| scene.overlap(id),
        drift: &|| scene.drift_policy(id),
    };
    step(id, wanted, stored, ours)
}

fn left(step: &Step) -> Option<Left> {
    match step {
        Step::Edited => Some(Left::Edited),
        Step::Stray => Some(Left::Stray),
        Step::Keep
        | Step::Create(_)
        | Step::Update { .. }
        | Step::Delete { .. }
        | Step::Refused
        | Step::Occupied { .. }
        | Step::Foreign => None,
    }
}

fn needs_of(wanted: &Wanted) -> impl Iterator<Item = &WorkId> {
    let document = match wanted {
        Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) } => Some(document),
        Wanted::Absent | Wanted::Kept { otherwise: None } | Wanted::Refused(_) => None,
    };
    document.into_iter().flat_map(Document::needs)
}

/// Whether the stored slot names `pool`.
fn names(slot: &WorkId, pool: &WorkId, scene: &impl Scene) -> bool {
    scene.stored(slot).is_some_and(|stored| stored.inspected.pool.as_ref() == Some(pool))
}

/// The put of a slot; `pool_at` is where its pool is expected, `None` if the same transaction puts it, and `certificate_at`
/// where its certificate is.
fn put_slot(
    id: &WorkId,
    document: Document,
    expected: Revision,
    pool_at: Option<Revision>,
    certificate_at: Option<Revision>,
) -> DocumentWrite {
    let Document { bytes, pool, certificate } = document;
    let pool = pool.map(|id| Need { id, expected: pool_at });
    let certificate = certificate.map(|id| Need { id, expected: certificate_at });
    let needs = pool.into_iter().chain(certificate).collect();
    DocumentWrite { id: id.clone(), expected, action: Action::Put(bytes), needs }
}

/// The put of a document that needs none beside itself.
fn put(id: &WorkId, document: Document, expected: Revision) -> DocumentWrite {
    DocumentWrite { id: id.clone(), expected, action: Action::Put(document.bytes), needs: Vec::new() }
}

fn delete(id: &WorkId, expected: Revision) -> DocumentWrite {
    DocumentWrite { id: id.clone(), expected, action: Action::Delete, needs: Vec::new() }
}
