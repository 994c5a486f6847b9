//! How a wanted document stands in etcd. Pure.

use crate::{
    apisix::stored::ValueHash,
    model::{
        places::{Directory, WorkId},
        verdicts::Standing,
    },
    plan::step::{Ours, Step, step},
    store::mirror::{Stored, written_by},
    translate::desired::Wanted,
};
use std::sync::Arc;

/// What keeps a document from becoming what is wanted, although it may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hindrance {
    /// Whether we keep losing it to somebody else's writes.
    pub(super) contended: bool,
    /// The guard that holds the change back, under the name by which it is released.
    pub(super) held: Option<Arc<str>>,
}

/// How `id` stands. Only what etcd holds as we wrote it is programmed. Whether the pool it names is kept is not asked.
pub(super) fn standing(
    id: &WorkId,
    wanted: &Wanted,
    stored: Option<Stored<'_>>,
    ours: Ours<'_>,
    hindrance: &Hindrance,
) -> Standing {
    match (step(id, wanted, stored, Ours { pool_kept: &|| false, ..ours }), wanted) {
        (Step::Occupied { by }, _) => return Standing::Occupied { by },
        (Step::Edited, _) => return Standing::Edited,
        (_, Wanted::Refused(reason)) => return Standing::Refused(reason.clone()),
        (
            Step::Keep
            | Step::Create(_)
            | Step::Update { .. }
            | Step::Delete { .. }
            | Step::Refused
            | Step::Stray
            | Step::Foreign,
            Wanted::Absent | Wanted::Document(_) | Wanted::Kept { otherwise: _ },
        ) => {}
    }
    let Hindrance { contended, held } = hindrance;
    let intact = stored.is_some_and(|stored| written_by(&stored.inspected.seal, ours.instance));
    let programmed = match wanted {
        Wanted::Absent | Wanted::Refused(_) => false,
        Wanted::Kept { otherwise: _ } => intact,
        Wanted::Document(document) => {
            let hash = ValueHash::of(&document.bytes);
            let as_wanted = stored.is_some_and(|stored| stored.inspected.hash == hash);
            // An older state of a pool or certificate serves until it is rewritten; one of a slot may be another route's.
            let older_serves = match id.directory {
                Directory::Upstreams | Directory::Ssls => !contended && held.is_none(),
                Directory::StreamRoutes => false,
            };
            intact && (as_wanted || older_serves)
        }
    };
    match (programmed, held, contended) {
        (true, _, _) => Standing::Programmed,
        (false, Some(name), _) => Standing::Held { name: name.clone() },
        (false, None, true) => Standing::Contended,
        (false, None, false) => Standing::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::{
            routing::Reach,
            stored::{Inspected, Seal},
        },
        model::{facts::DriftPolicy, places::Plane, verdicts::Occupant},
        plan::step::Unsealed,
        store::txn::Revision,
        translate::desired::Document,
    };

    fn inspected(content: &str, seal: Seal) -> Inspected {
        let hash = ValueHash::of(content.as_bytes());
        Inspected { seal, hash, sealed_as: None, pool: None, certificate: None, reach: Reach::Nothing }
    }

    fn ours(content: &str) -> Inspected {
        inspected(content, Seal::Intact { instance: "us".into() })
    }

    fn broken() -> Inspected {
        inspected("b", Seal::Broken)
    }

    /// What a standing hangs on besides what is wanted and stored.
    #[derive(Clone)]
    struct Around {
        unsealed: Unsealed,
        drift: DriftPolicy,
        overlap: Option<WorkId>,
        hindrance: Hindrance,
    }

    fn around() -> Around {
        Around { unsealed: Unsealed::Ours, drift: DriftPolicy::Repair, overlap: None, hindrance: Hindrance::default() }
    }

    fn contended() -> Around {
        Around { hindrance: Hindrance { contended: true, held: None }, ..around() }
    }

    #[track_caller]
    fn check(directory: Directory, wanted: &Wanted, stored: Option<&Inspected>, around: &Around, want: &Standing) {
        let id = WorkId::new(Plane::default(), directory, "gateway-api.x");
        let Around { unsealed, drift, overlap, hindrance } = around;
        let ours = Ours {
            instance: "us",
            unsealed: *unsealed,
            pool_kept: &|| panic!("not to be asked"),
            overlap: &|| overlap.clone(),
            drift: &|| *drift,
        };
        let stored = stored.map(|inspected| Stored { revision: Revision(7), inspected });
        assert_eq!(standing(&id, wanted, stored, ours, hindrance), *want);
    }

    fn document(content: &str) -> Document {
        Document { bytes: content.as_bytes().into(), pool: None, certificate: None }
    }

    const SLOT: Directory = Directory::StreamRoutes;
    const POOL: Directory = Directory::Upstreams;

    #[test]
    fn what_etcd_holds_as_we_wrote_it_is_programmed() {
        let wanted = Wanted::Document(document("a"));
        for directory in [SLOT, POOL] {
            check(directory, &wanted, Some(&ours("a")), &around(), &Standing::Programmed);
            check(directory, &wanted, Some(&ours("a")), &contended(), &Standing::Programmed);
            check(directory, &wanted, None, &around(), &Standing::Pending);
            check(directory, &wanted, None, &contended(), &Standing::Contended);
            check(directory, &wanted, Some(&broken()), &around(), &Standing::Pending);
            check(directory, &wanted, Some(&broken()), &contended(), &Standing::Contended);
        }
    }

    #[test]
    fn an_older_state_of_a_pool_or_certificate_serves_and_one_of_a_slot_does_not() {
        let wanted = Wanted::Document(document("a"));
        for directory in [POOL, Directory::Ssls] {
            check(directory, &wanted, Some(&ours("older")), &around(), &Standing::Programmed);
            check(directory, &wanted, Some(&ours("older")), &contended(), &Standing::Contended);
        }
        check(SLOT, &wanted, Some(&ours("older")), &around(), &Standing::Pending);
    }

    #[test]
    fn anothers_document_occupies_the_key_whatever_is_wanted() {
        let theirs = inspected("a", Seal::Intact { instance: "them".into() });
        for wanted in [Wanted::Document(document("a")), Wanted::Kept { otherwise: None }, Wanted::Refused("r".into())] {
            let want = Standing::Occupied { by: Occupant::Instance("them".into()) };
            check(SLOT, &wanted, Some(&theirs), &around(), &want);
            let unknown = Around { unsealed: Unsealed::Foreign, ..around() };
            check(SLOT, &wanted, Some(&broken()), &unknown, &Standing::Occupied { by: Occupant::Unsealed });
        }
    }

    #[test]
    fn an_overlap_occupies_the_place_of_a_slot_that_is_not_there() {
        let foreign = WorkId::new(Plane::default(), SLOT, "1");
        let overlapped = Around { overlap: Some(foreign.clone()), ..around() };
        let wanted = Wanted::Document(document("a"));
        check(SLOT, &wanted, None, &overlapped, &Standing::Occupied { by: Occupant::StreamRoute(foreign) });
        check(SLOT, &wanted, Some(&ours("a")), &overlapped, &Standing::Programmed);
    }

    #[test]
    fn an_edited_document_that_is_left_so_is_edited_and_no_more_programmed() {
        let report = Around { drift: DriftPolicy::Report, ..contended() };
        for wanted in [Wanted::Document(document("a")), Wanted::Kept { otherwise: None }] {
            for directory in [SLOT, POOL] {
                check(directory, &wanted, Some(&broken()), &report, &Standing::Edited);
                check(directory, &wanted, Some(&ours("a")), &report, &Standing::Programmed);
            }
        }
        check(SLOT, &Wanted::Document(document("a")), None, &report, &Standing::Contended);
    }

    #[test]
    fn a_change_that_is_held_back_says_by_which_guard_and_what_is_as_wanted_says_nothing_of_it() {
        let (wanted, want) = (Wanted::Document(document("a")), Standing::Held { name: "a1".into() });
        let held = |contended| Hindrance { contended, held: Some("a1".into()) };
        for (directory, contended) in [(SLOT, false), (SLOT, true), (POOL, false), (POOL, true)] {
            let held = Around { hindrance: held(contended), ..around() };
            check(directory, &wanted, Some(&ours("a")), &held, &Standing::Programmed);
            check(directory, &wanted, Some(&ours("older")), &held, &want);
            check(directory, &wanted, None, &held, &want);
            let refused = Wanted::Refused("why".into());
            check(directory, &refused, Some(&ours("a")), &held, &Standing::Refused("why".into()));
        }
    }

    #[test]
    fn a_refused_document_says_why() {
        check(SLOT, &Wanted::Refused("too long".into()), None, &around(), &Standing::Refused("too long".into()));
    }

    #[test]
    fn a_kept_document_is_programmed_while_it_is_whole() {
        let wanted = Wanted::Kept { otherwise: None };
        check(SLOT, &wanted, Some(&ours("whatever")), &around(), &Standing::Programmed);
        check(SLOT, &wanted, Some(&broken()), &around(), &Standing::Pending);
        check(SLOT, &wanted, None, &around(), &Standing::Pending);
    }
}
