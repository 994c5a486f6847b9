//! What to do about one document: all the branching over what is wanted and what is stored, in one place. Pure.

use crate::{
    apisix::{
        ids::is_our_shape,
        stored::{Seal, ValueHash},
    },
    model::places::WorkId,
    store::{mirror::Stored, txn::Revision},
    translate::desired::{Document, Wanted},
};
use std::sync::Arc;

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
    /// Nothing: it belongs to this other instance.
    Occupied {
        /// The instance named in its seal.
        instance: Arc<str>,
    },
    /// Nothing: its id is not of our shape.
    Foreign,
}

/// Whose documents the steps are about.
#[derive(Clone, Copy)]
pub struct Ours<'a> {
    /// The instance named in our seals.
    pub instance: &'a str,
    /// Whether the pool that the stored document names is kept: then so is the document, whatever is wanted in its place.
    /// Asked only where it matters, as answering it takes a translation.
    pub pool_kept: &'a dyn Fn() -> bool,
}

/// What to do about `id`.
///
/// As long as nothing records what this instance has written, every id of our shape counts as ours, sealed or not, but one
/// with a whole seal of another instance.
#[must_use]
pub fn step(id: &WorkId, wanted: &Wanted, stored: Option<Stored<'_>>, ours: Ours<'_>) -> Step {
    if !is_our_shape(&id.id) && !id.is_placeholder() {
        return Step::Foreign;
    }
    let Some(Stored { revision: expected, inspected }) = stored else {
        return match wanted {
            Wanted::Document(document) | Wanted::Kept { otherwise: Some(document) } => Step::Create(document.clone()),
            Wanted::Absent | Wanted::Kept { otherwise: None } => Step::Keep,
            Wanted::Refused(_) => Step::Refused,
        };
    };
    match (wanted, &inspected.seal) {
        (_, Seal::Intact { instance }) if **instance != *ours.instance => Step::Occupied { instance: instance.clone() },
        (Wanted::Refused(_), Seal::Intact { .. } | Seal::Broken) => Step::Refused,
        (Wanted::Kept { otherwise: _ }, Seal::Intact { .. } | Seal::Broken) => Step::Keep,
        (Wanted::Document(document), Seal::Intact { .. } | Seal::Broken)
            if ValueHash::of(&document.bytes) == inspected.hash =>
        {
            Step::Keep
        }
        (Wanted::Absent | Wanted::Document(_), Seal::Intact { .. } | Seal::Broken) if (ours.pool_kept)() => Step::Keep,
        (Wanted::Absent, Seal::Intact { .. } | Seal::Broken) => Step::Delete { expected },
        (Wanted::Document(document), Seal::Intact { .. } | Seal::Broken) => {
            Step::Update { document: document.clone(), expected }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apisix::stored::Inspected, model::places::Directory};

    fn document(content: &str) -> Document {
        Document { bytes: content.as_bytes().into(), pool: None }
    }

    fn ours(content: &str) -> Inspected {
        Inspected {
            seal: Seal::Intact { instance: "us".into() },
            hash: ValueHash::of(content.as_bytes()),
            pool: Some(WorkId::new(Directory::Upstreams, "gateway-api.p")),
        }
    }

    fn others(content: &str) -> Inspected {
        Inspected { seal: Seal::Intact { instance: "them".into() }, ..ours(content) }
    }

    fn broken(content: &str) -> Inspected {
        Inspected { seal: Seal::Broken, ..ours(content) }
    }

    const AT: Revision = Revision(7);

    #[track_caller]
    fn check_id(id: &str, wanted: &Wanted, stored: Option<&Inspected>, pool_kept: bool, want: &Step) {
        let id = WorkId::new(Directory::StreamRoutes, id);
        let stored = stored.map(|inspected| Stored { revision: AT, inspected });
        assert_eq!(step(&id, wanted, stored, Ours { instance: "us", pool_kept: &|| pool_kept }), *want);
    }

    #[track_caller]
    fn check(wanted: &Wanted, stored: Option<&Inspected>, want: &Step) {
        check_id("gateway-api.9100", wanted, stored, false, want);
    }

    #[test]
    fn a_wanted_document_is_created_updated_or_kept() {
        let wanted = Wanted::Document(document("a"));
        check(&wanted, None, &Step::Create(document("a")));
        check(&wanted, Some(&ours("a")), &Step::Keep);
        check(&wanted, Some(&ours("b")), &Step::Update { document: document("a"), expected: AT });
        check(&wanted, Some(&broken("b")), &Step::Update { document: document("a"), expected: AT });
        check(&wanted, Some(&others("b")), &Step::Occupied { instance: "them".into() });
        check(&wanted, Some(&others("a")), &Step::Occupied { instance: "them".into() });
    }

    #[test]
    fn an_unwanted_document_is_deleted_unless_it_is_anothers() {
        check(&Wanted::Absent, None, &Step::Keep);
        check(&Wanted::Absent, Some(&ours("a")), &Step::Delete { expected: AT });
        check(&Wanted::Absent, Some(&broken("a")), &Step::Delete { expected: AT });
        check(&Wanted::Absent, Some(&others("a")), &Step::Occupied { instance: "them".into() });
    }

    #[test]
    fn a_slot_stays_as_it_is_while_the_pool_it_names_is_kept() {
        let id = "gateway-api.9100";
        check_id(id, &Wanted::Absent, Some(&ours("a")), true, &Step::Keep);
        check_id(id, &Wanted::Absent, Some(&broken("a")), true, &Step::Keep);
        check_id(id, &Wanted::Document(document("b")), Some(&ours("a")), true, &Step::Keep);
        check_id(id, &Wanted::Document(document("b")), None, true, &Step::Create(document("b")));
    }

    #[test]
    fn a_kept_document_is_neither_written_nor_deleted_where_there_is_one() {
        for otherwise in [None, Some(document("a"))] {
            let wanted = Wanted::Kept { otherwise: otherwise.clone() };
            check(&wanted, None, &otherwise.map_or(Step::Keep, Step::Create));
            check(&wanted, Some(&ours("b")), &Step::Keep);
            check(&wanted, Some(&broken("b")), &Step::Keep);
            check(&wanted, Some(&others("b")), &Step::Occupied { instance: "them".into() });
        }
    }

    #[test]
    fn a_refused_document_leaves_what_is_there_alone() {
        let wanted = Wanted::Refused("too long".into());
        check(&wanted, None, &Step::Refused);
        check(&wanted, Some(&ours("a")), &Step::Refused);
        check(&wanted, Some(&broken("a")), &Step::Refused);
        check(&wanted, Some(&others("a")), &Step::Occupied { instance: "them".into() });
    }

    #[test]
    fn ids_not_of_our_shape_are_never_touched() {
        for id in ["1", "gateway-api", "their-route"] {
            check_id(id, &Wanted::Absent, Some(&broken("a")), false, &Step::Foreign);
            check_id(id, &Wanted::Document(document("a")), None, false, &Step::Foreign);
        }
    }

    #[test]
    fn a_placeholder_is_created_and_never_rewritten() {
        let wanted = Wanted::Kept { otherwise: Some(document("init_dir")) };
        check_id("", &wanted, None, false, &Step::Create(document("init_dir")));
        check_id("", &wanted, Some(&broken("anything")), false, &Step::Keep);
    }
}
