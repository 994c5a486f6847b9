//! What slots need, pools and certificates: what one comes to, and what a slot that is to be put may expect of it. Pure.
//!
//! Nothing is deleted here that a stored slot needs, and none that was needed a moment ago: data planes may not have heard.

use super::{Hold, Next, Scene, delete, left, put, slots_in_step, step_of};
use crate::{
    apisix::stored::Seal,
    model::places::{Directory, WorkId},
    plan::step::{Step, Unsealed},
    store::txn::Revision,
    translate::desired::Document,
};

/// What a pool or certificate comes to that nobody writes and that does not rest.
pub(super) fn next(id: &WorkId, scene: &impl Scene) -> Next {
    let step = step_of(id, &scene.wanted(id), scene);
    let left = left(&step);
    let (document, expected) = match step {
        Step::Keep | Step::Refused | Step::Edited | Step::Occupied { .. } | Step::Stray | Step::Foreign => {
            return Next::Settled { starved_by: None, left };
        }
        Step::Delete { expected } => return delete_unneeded(id, expected, scene),
        Step::Create(document) => (document, Revision::ABSENT),
        Step::Update { document, expected } => (document, expected),
    };
    match scene.hold(id) {
        Hold::Shared(txn) | Hold::Exclusive(txn) => Next::After(txn),
        Hold::Resting(until) => Next::NotBefore(until),
        Hold::Free => {
            let mut writes = vec![put(id, document, expected)];
            match id.directory {
                Directory::Upstreams => writes.extend(slots_in_step(id, None, scene)),
                // A slot says nothing of what is in its certificate.
                Directory::Ssls | Directory::StreamRoutes => {}
            }
            Next::Write(writes)
        }
    }
}

fn delete_unneeded(id: &WorkId, expected: Revision, scene: &impl Scene) -> Next {
    // Its turn comes when the last user leaves.
    if !scene.users(id).is_empty() {
        return Next::Settled { starved_by: None, left: None };
    }
    match (scene.hold(id), scene.lingers_until(id)) {
        (Hold::Shared(txn) | Hold::Exclusive(txn), _) => Next::After(txn),
        (Hold::Resting(until), _) | (Hold::Free, Some(until)) => Next::NotBefore(until),
        (Hold::Free, None) => Next::Write(vec![delete(id, expected)]),
    }
}

/// What a slot that is to be put has to expect of its pool or certificate.
pub(super) enum Fate {
    /// It is in etcd, at this revision, and is not about to change.
    Stands(Revision),
    /// It has to be put, and can be now.
    Put { document: Document, expected: Revision },
    /// It cannot be relied on now: this is what the slot comes to. It has starved if that is all there is to it.
    Not(Next),
}

pub(super) fn fate(id: &WorkId, scene: &impl Scene) -> Fate {
    let never = || Fate::Not(Next::Settled { starved_by: Some(id.clone()), left: None });
    let stored = scene.stored(id).map(|stored| stored.revision);
    let (document, expected) = match step_of(id, &scene.wanted(id), scene) {
        // An edited one counts as one that exists.
        Step::Keep | Step::Refused | Step::Edited => {
            return stored.map_or_else(never, |revision| stands(id, revision, scene));
        }
        Step::Delete { .. } | Step::Occupied { .. } | Step::Stray | Step::Foreign => return never(),
        Step::Create(document) => (document, Revision::ABSENT),
        Step::Update { document, expected } => (document, expected),
    };
    match (scene.hold(id), stored) {
        (Hold::Free, _) => Fate::Put { document, expected },
        (Hold::Shared(txn) | Hold::Exclusive(txn), _) => Fate::Not(Next::After(txn)),
        (Hold::Resting(_), Some(revision)) => Fate::Stands(revision),
        (Hold::Resting(until), None) => Fate::Not(Next::NotBefore(until)),
    }
}

/// Whether a slot that needs `id` is not wanted for that: `id` is not in etcd, or another's, and cannot be put.
pub(super) fn starve(id: &WorkId, scene: &impl Scene) -> bool {
    !usable(id, scene) && matches!(fate(id, scene), Fate::Not(Next::Settled { .. }))
}

/// Whether etcd holds one of ours here, in whatever state. Spares a translation of every pool for each of its slots.
fn usable(id: &WorkId, scene: &impl Scene) -> bool {
    scene.stored(id).is_some_and(|stored| match &stored.inspected.seal {
        Seal::Intact { instance } => **instance == *scene.instance(),
        Seal::Broken => match scene.unsealed(id.plane) {
            Unsealed::Foreign => false,
            Unsealed::Ours | Unsealed::IfWanted => true,
        },
    })
}

fn stands(id: &WorkId, revision: Revision, scene: &impl Scene) -> Fate {
    match scene.hold(id) {
        Hold::Exclusive(txn) => Fate::Not(Next::After(txn)),
        Hold::Free | Hold::Shared(_) | Hold::Resting(_) => Fate::Stands(revision),
    }
}
