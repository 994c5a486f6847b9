//! What to do about one document: all the branching over what is wanted and what is stored, in one place. Pure.
//!
//! Ownership comes first: at an id of our shape an intact seal says whose the document is, and without one it is what
//! [`Unsealed`] says. Whatever is not ours is neither written nor deleted.

use crate::{
    apisix::{
        ids::is_our_shape,
        seal::sealed_hash,
        stored::{Inspected, Seal, ValueHash},
    },
    model::{facts::DriftPolicy, places::WorkId, verdicts::Occupant},
    store::{mirror::Stored, txn::Revision},
    translate::desired::{Document, Wanted},
};

/// What to do about one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is as it should be, or stays as it is.
    Keep,
    /// Put it; it is not there.
    Create(Document),
    /// Put it over what is there.
    Update {
        /// What to put.
        document: Document,
        /// What it replaces.
        expected: Revision,
    },
    /// Delete it.
    Delete {
        /// What it removes.
        expected: Revision,
    },
    /// Nothing: a data plane would refuse it.
    Refused,
    /// Nothing: somebody edited it, and the drift policy leaves it so.
    Edited,
    /// Nothing: it is not ours to write or delete.
    Occupied {
        /// Who is in its place.
        by: Occupant,
    },
    /// Nothing: nobody's seal is on it, several instances could have written it, and we do not want it.
    Stray,
    /// Nothing: its id is not of our shape.
    Foreign,
}

/// Whose a document of our shape is that has no intact seal. Follows from which instances have a checkpoint for the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// Nobody's that we know: this instance has no checkpoint, so it may never have written here.
    Foreign,
    /// Ours: no other instance has a checkpoint.
    Ours,
    /// Of whoever wants the id: other instances have a checkpoint, too.
    IfWanted,
}

/// Whose documents the steps are about, and what hangs on more than the document. What is asked is asked only where it
/// matters.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    /// The instance named in our seals.
    pub instance: &'a str,
    /// Whose a document without an intact seal is.
    pub unsealed: Unsealed,
    /// Whether the pool that the stored document names is kept: then so is the document, whatever is wanted in its place.
    /// Answering it takes a translation.
    pub pool_kept: &'a dyn Fn() -> bool,
    /// The stored stream_route, not ours, that can match the connections of this slot, if there is one. What is not in etcd
    /// yet gives way to it; what is there was there first.
    pub overlap: &'a dyn Fn() -> Option<WorkId>,
    /// What becomes of the document when somebody edits it.
    pub drift: &'a dyn Fn() -> DriftPolicy,
}

/// What to do about `id`.
#[must_use]
pub fn step(id: &WorkId, wanted: &Wanted, stored: Option<Stored<'_>>, ours: Ours<'_>) -> Step {
    if !is_our_shape(&id.id) && !id.is_placeholder() {
        return Step::Foreign;
    }
    let Some(stored) = stored else { return step_where_nothing_is(wanted, ours) };
    // What a data plane has put there itself is as good.
    if id.is_placeholder() {
        return Step::Keep;
    }
    match (&stored.inspected.seal, ours.unsealed, wanted) {
        (Seal::Intact { instance }, ..) if **instance != *ours.instance => {
            Step::Occupied { by: Occupant::Instance(instance.clone()) }
        }
        (Seal::Broken, Unsealed::Foreign, _) => Step::Occupied { by: Occupant::Unsealed },
        (Seal::Broken, Unsealed::IfWanted, Wanted::Absent) => Step::Stray,
        (Seal::Intact { .. }, ..) | (Seal::Broken, Unsealed::Ours | Unsealed::IfWanted, _) => {
            step_of_ours(wanted, stored, ours)
        }
    }
}

fn step_where_nothing_is(wanted: &Wanted, ours: Ours<'_>) -> Step {
    match wanted {
        Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) } => match (ours.overlap)() {
            Some(first) => Step::Occupied { by: Occupant::StreamRoute(first) },
            None => Step::Create(document.clone()),
        },
        Wanted::Absent | Wanted::Kept { otherwise: None } => Step::Keep,
        Wanted::Refused(_) => Step::Refused,
    }
}

fn step_of_ours(wanted: &Wanted, Stored { revision: expected, inspected }: Stored<'_>, ours: Ours<'_>) -> Step {
    match wanted {
        Wanted::Refused(_) => Step::Refused,
        Wanted::Kept { otherwise: _ } if is_edited(inspected) && reports(ours) => Step::Edited,
        Wanted::Kept { otherwise: _ } => Step::Keep,
        Wanted::Document(document) if ValueHash::of(&document.bytes) == inspected.hash => Step::Keep,
        Wanted::Absent | Wanted::Document(_) if (ours.pool_kept)() => Step::Keep,
        Wanted::Absent => Step::Delete { expected },
        Wanted::Document(document)
            if is_edited(inspected) && wanted_when_edited(document, inspected) && reports(ours) =>
        {
            Step::Edited
        }
        Wanted::Document(document) => Step::Update { document: document.clone(), expected },
    }
}

/// An intact seal of ours is an older translation, never an edit.
fn is_edited(inspected: &Inspected) -> bool {
    inspected.seal == Seal::Broken
}

/// Whether what is wanted is still what it was before the edit, as far as the edit left a trace of that.
fn wanted_when_edited(document: &Document, inspected: &Inspected) -> bool {
    inspected.sealed_as.is_none_or(|before| sealed_hash(&document.bytes) == Some(before))
}

fn reports(ours: Ours<'_>) -> bool {
    match (ours.drift)() {
        DriftPolicy::Report => true,
        DriftPolicy::Repair => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{
            documents::{self, To},
            ids,
            stored::inspect,
        },
        model::places::{Directory, Plane, Port, Slot},
    };

    const AT: Revision = Revision(7);

    fn slot() -> WorkId {
        ids::port_slot(Plane::default(), Port::new(9100).unwrap())
    }

    /// The slot's document as `instance` writes it, for a pool of this name.
    fn written(instance: &str, pool: &str) -> String {
        let pool = WorkId::new(Plane::default(), Directory::Upstreams, pool);
        let sealing = instance;
        documents::stream_route(
            sealing,
            &slot(),
            &Slot::of_port(Port::new(9100).unwrap()),
            To { pool: &pool, certificate: None, split: None, passthrough: false },
            "TCPRoute a/b",
        )
        .unwrap()
    }

    /// `value` with another port: the letters of its seal stay as they are.
    fn edited(value: &str) -> String {
        value.replace("9100,", "9101,")
    }

    fn document() -> Document {
        Document { bytes: written("us", "p").into_bytes().into(), pool: None, certificate: None }
    }

    fn look(value: &str) -> Inspected {
        inspect(&slot(), &slot().key(), value.as_bytes())
    }

    /// Everything a step hangs on but what is wanted and stored.
    #[derive(Clone, Debug)]
    struct Around {
        unsealed: Unsealed,
        drift: DriftPolicy,
        pool_kept: bool,
        overlap: Option<WorkId>,
    }

    const REPAIR: Around =
        Around { unsealed: Unsealed::Ours, drift: DriftPolicy::Repair, pool_kept: false, overlap: None };

    fn step_at(id: &WorkId, wanted: &Wanted, value: Option<&str>, around: &Around) -> Step {
        let Around { unsealed, drift, pool_kept, overlap } = around;
        let inspected = value.map(look);
        let ours = Ours {
            instance: "us",
            unsealed: *unsealed,
            pool_kept: &|| *pool_kept,
            overlap: &|| overlap.clone(),
            drift: &|| *drift,
        };
        step(id, wanted, inspected.as_ref().map(|inspected| Stored { revision: AT, inspected }), ours)
    }

    const EVERY_CLAIM: [Unsealed; 3] = [Unsealed::Foreign, Unsealed::Ours, Unsealed::IfWanted];
    const EVERY_POLICY: [DriftPolicy; 2] = [DriftPolicy::Repair, DriftPolicy::Report];

    fn every_around() -> impl Iterator<Item = Around> {
        let foreign = WorkId::new(Plane::default(), Directory::StreamRoutes, "1");
        EVERY_CLAIM.into_iter().flat_map(move |unsealed| {
            let foreign = foreign.clone();
            EVERY_POLICY.into_iter().flat_map(move |drift| {
                let foreign = foreign.clone();
                [false, true].into_iter().flat_map(move |pool_kept| {
                    [None, Some(foreign.clone())].map(|overlap| Around { unsealed, drift, pool_kept, overlap })
                })
            })
        })
    }

    fn every_wanted() -> [Wanted; 5] {
        [
            Wanted::Absent,
            Wanted::Document(document()),
            Wanted::Kept { otherwise: None },
            Wanted::Kept { otherwise: Some(document()) },
            Wanted::Refused("too long".into()),
        ]
    }

    /// What can stand at the key, by name.
    fn stored(name: &str) -> Option<String> {
        match name {
            "nothing" => None,
            "wanted" => Some(written("us", "p")),
            "older" => Some(written("us", "old")),
            "another's" => Some(written("them", "p")),
            "edited" => Some(edited(&written("us", "p"))),
            "edited older" => Some(edited(&written("us", "old"))),
            "no seal" => Some(r#"{"server_port": 9100, "upstream_id": "p"}"#.to_owned()),
            other => panic!("{other}"),
        }
    }

    /// The name of a step in the table below.
    fn cell(step: &Step) -> &'static str {
        match step {
            Step::Keep => "keep",
            Step::Create(put) => {
                assert_eq!(*put, document());
                "create"
            }
            Step::Update { document: put, expected } => {
                assert_eq!((put, *expected), (&document(), AT));
                "update"
            }
            Step::Delete { expected } => {
                assert_eq!(*expected, AT);
                "delete"
            }
            Step::Refused => "refused",
            Step::Edited => "edited",
            Step::Occupied { by: Occupant::Instance(instance) } => {
                assert_eq!(&**instance, "them");
                "theirs"
            }
            Step::Occupied { by: Occupant::Unsealed } => "unsealed",
            Step::Occupied { by: Occupant::StreamRoute(id) } => {
                assert_eq!(&*id.id, "1");
                "overlap"
            }
            Step::Stray => "stray",
            Step::Foreign => "foreign",
        }
    }

    /// What is stored; whose it is if unsealed; the drift policy; then the step for each of [`every_wanted`]. `*` is any.
    const TABLE: &str = "
        nothing       *         *       keep      create    keep      create    refused
        wanted        *         *       delete    keep      keep      keep      refused
        older         *         *       delete    update    keep      keep      refused
        another's     *         *       theirs    theirs    theirs    theirs    theirs
        edited        Foreign   *       unsealed  unsealed  unsealed  unsealed  unsealed
        edited_older  Foreign   *       unsealed  unsealed  unsealed  unsealed  unsealed
        no_seal       Foreign   *       unsealed  unsealed  unsealed  unsealed  unsealed
        edited        Ours      Repair  delete    update    keep      keep      refused
        edited_older  Ours      Repair  delete    update    keep      keep      refused
        no_seal       Ours      Repair  delete    update    keep      keep      refused
        edited        Ours      Report  delete    edited    edited    edited    refused
        edited_older  Ours      Report  delete    update    edited    edited    refused
        no_seal       Ours      Report  delete    edited    edited    edited    refused
        edited        IfWanted  Repair  stray     update    keep      keep      refused
        edited_older  IfWanted  Repair  stray     update    keep      keep      refused
        no_seal       IfWanted  Repair  stray     update    keep      keep      refused
        edited        IfWanted  Report  stray     edited    edited    edited    refused
        edited_older  IfWanted  Report  stray     update    edited    edited    refused
        no_seal       IfWanted  Report  stray     edited    edited    edited    refused
    ";

    #[test]
    fn each_cell_of_wanted_stored_owner_and_policy_is_what_the_write_protocol_says() {
        let mut n_checked = 0;
        for row in TABLE.trim().lines() {
            let words: Vec<&str> = row.split_whitespace().collect();
            let [name, of_claim, of_policy, cells @ ..] = words.as_slice() else { panic!("{row}") };
            let value = stored(&name.replace('_', " "));
            for unsealed in EVERY_CLAIM.into_iter().filter(|c| *of_claim == "*" || format!("{c:?}") == **of_claim) {
                for drift in EVERY_POLICY.into_iter().filter(|p| *of_policy == "*" || format!("{p:?}") == **of_policy) {
                    let around = Around { unsealed, drift, ..REPAIR };
                    let got = every_wanted().map(|wanted| cell(&step_at(&slot(), &wanted, value.as_deref(), &around)));
                    assert_eq!(got, *cells, "{name} {around:?}");
                    n_checked += 1;
                }
            }
        }
        assert_eq!(n_checked, 7 * EVERY_CLAIM.len() * EVERY_POLICY.len(), "a row is missing or there twice");
    }

    #[test]
    fn what_is_not_ours_is_never_written_or_deleted_whatever_is_wanted() {
        let writes = |step: &Step| matches!(step, Step::Create(_) | Step::Update { .. } | Step::Delete { .. });
        for around in every_around() {
            for wanted in every_wanted() {
                let at = |name: &str| step_at(&slot(), &wanted, stored(name).as_deref(), &around);
                assert!(!writes(&at("another's")), "{wanted:?} {around:?}");
                for name in ["edited", "edited older", "no seal"] {
                    let step = at(name);
                    assert!(!writes(&step) || around.unsealed != Unsealed::Foreign, "{name} {wanted:?} {around:?}");
                    let deletes = matches!(step, Step::Delete { .. });
                    assert!(!deletes || around.unsealed == Unsealed::Ours, "{name} {wanted:?} {around:?}");
                }
                for id in ["1", "gateway-api", "their-route"] {
                    for name in ["nothing", "wanted", "another's", "no seal"] {
                        let id = WorkId::new(Plane::default(), Directory::StreamRoutes, id);
                        assert_eq!(step_at(&id, &wanted, stored(name).as_deref(), &around), Step::Foreign);
                    }
                }
            }
        }
    }

    #[test]
    fn a_slot_gives_way_to_an_overlap_that_was_there_first_and_to_none_that_came_later() {
        let overlapped =
            Around { overlap: Some(WorkId::new(Plane::default(), Directory::StreamRoutes, "1")), ..REPAIR };
        let cells = |name: &str| {
            every_wanted().map(|wanted| cell(&step_at(&slot(), &wanted, stored(name).as_deref(), &overlapped)))
        };
        assert_eq!(cells("nothing"), ["keep", "overlap", "keep", "overlap", "refused"]);
        assert_eq!(cells("older"), ["delete", "update", "keep", "keep", "refused"]);
        assert_eq!(cells("no seal"), ["delete", "update", "keep", "keep", "refused"]);
    }

    #[test]
    fn a_slot_of_ours_stays_as_it_is_while_the_pool_it_names_is_kept() {
        let kept = Around { pool_kept: true, ..REPAIR };
        for drift in EVERY_POLICY {
            let kept = Around { drift, ..kept.clone() };
            for name in ["wanted", "older", "edited", "edited older", "no seal"] {
                for wanted in [Wanted::Absent, Wanted::Document(document())] {
                    assert_eq!(step_at(&slot(), &wanted, stored(name).as_deref(), &kept), Step::Keep, "{name}");
                }
            }
        }
        let wanted = Wanted::Document(document());
        assert_eq!(step_at(&slot(), &wanted, None, &kept), Step::Create(document()));
        let shared = Around { unsealed: Unsealed::IfWanted, ..kept.clone() };
        assert_eq!(step_at(&slot(), &Wanted::Absent, stored("edited").as_deref(), &shared), Step::Stray);
    }

    #[test]
    fn a_placeholder_is_created_and_never_rewritten() {
        let id = WorkId::placeholder(Plane::default(), Directory::StreamRoutes);
        let wanted = Wanted::Kept { otherwise: Some(document()) };
        for around in every_around().filter(|around| around.overlap.is_none()) {
            assert_eq!(step_at(&id, &wanted, None, &around), Step::Create(document()));
            for value in ["init_dir", "anything"] {
                assert_eq!(step_at(&id, &wanted, Some(value), &around), Step::Keep);
            }
        }
    }
}
