//! How a wanted document stands in etcd. Pure.

use crate::{
    apisix::stored::{Seal, ValueHash},
    model::{
        places::{Directory, WorkId},
        verdicts::Standing,
    },
    store::mirror::Stored,
    translate::desired::Wanted,
};

/// How `id` stands. Only what etcd holds as we wrote it is programmed; `contended` says that we keep losing it.
pub(super) fn standing(
    id: &WorkId,
    wanted: &Wanted,
    stored: Option<Stored<'_>>,
    instance: &str,
    contended: bool,
) -> Standing {
    let intact = match stored.map(|stored| &stored.inspected.seal) {
        Some(Seal::Intact { instance: writer }) if **writer != *instance => {
            return Standing::Occupied { instance: writer.clone() };
        }
        Some(Seal::Intact { .. }) => true,
        Some(Seal::Broken) | None => false,
    };
    let programmed = match wanted {
        Wanted::Refused(reason) => return Standing::Refused(reason.clone()),
        Wanted::Absent => false,
        Wanted::Kept { otherwise: _ } => intact,
        Wanted::Document(document) => {
            let hash = ValueHash::of(&document.bytes);
            let as_wanted = stored.is_some_and(|stored| stored.inspected.hash == hash);
            // An older state of a pool serves until it is rewritten; an older state of a slot may be another route's.
            let older_serves = match id.directory {
                Directory::Upstreams => !contended,
                Directory::StreamRoutes => false,
            };
            intact && (as_wanted || older_serves)
        }
    };
    match (programmed, contended) {
        (true, _) => Standing::Programmed,
        (false, true) => Standing::Contended,
        (false, false) => Standing::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{apisix::stored::Inspected, store::txn::Revision, translate::desired::Document};

    fn inspected(content: &str, seal: Seal) -> Inspected {
        Inspected { seal, hash: ValueHash::of(content.as_bytes()), pool: None }
    }

    fn ours(content: &str) -> Inspected {
        inspected(content, Seal::Intact { instance: "us".into() })
    }

    #[track_caller]
    fn check(directory: Directory, wanted: &Wanted, stored: Option<&Inspected>, contended: bool, want: &Standing) {
        let id = WorkId::new(directory, "gateway-api.x");
        let stored = stored.map(|inspected| Stored { revision: Revision(7), inspected });
        assert_eq!(standing(&id, wanted, stored, "us", contended), *want);
    }

    fn document(content: &str) -> Document {
        Document { bytes: content.as_bytes().into(), pool: None }
    }

    const SLOT: Directory = Directory::StreamRoutes;
    const POOL: Directory = Directory::Upstreams;

    #[test]
    fn what_etcd_holds_as_we_wrote_it_is_programmed() {
        let wanted = Wanted::Document(document("a"));
        for directory in [SLOT, POOL] {
            check(directory, &wanted, Some(&ours("a")), false, &Standing::Programmed);
            check(directory, &wanted, Some(&ours("a")), true, &Standing::Programmed);
            check(directory, &wanted, None, false, &Standing::Pending);
            check(directory, &wanted, None, true, &Standing::Contended);
            check(directory, &wanted, Some(&inspected("b", Seal::Broken)), false, &Standing::Pending);
            check(directory, &wanted, Some(&inspected("b", Seal::Broken)), true, &Standing::Contended);
        }
    }

    #[test]
    fn an_older_state_of_a_pool_serves_and_one_of_a_slot_does_not() {
        let wanted = Wanted::Document(document("a"));
        check(POOL, &wanted, Some(&ours("older")), false, &Standing::Programmed);
        check(POOL, &wanted, Some(&ours("older")), true, &Standing::Contended);
        check(SLOT, &wanted, Some(&ours("older")), false, &Standing::Pending);
    }

    #[test]
    fn anothers_document_occupies_the_key_whatever_is_wanted() {
        let theirs = inspected("a", Seal::Intact { instance: "them".into() });
        for wanted in [Wanted::Document(document("a")), Wanted::Kept { otherwise: None }, Wanted::Refused("r".into())] {
            check(SLOT, &wanted, Some(&theirs), false, &Standing::Occupied { instance: "them".into() });
        }
    }

    #[test]
    fn a_refused_document_says_why() {
        check(SLOT, &Wanted::Refused("too long".into()), None, false, &Standing::Refused("too long".into()));
    }

    #[test]
    fn a_kept_document_is_programmed_while_it_is_whole() {
        let wanted = Wanted::Kept { otherwise: None };
        check(SLOT, &wanted, Some(&ours("whatever")), false, &Standing::Programmed);
        check(SLOT, &wanted, Some(&inspected("b", Seal::Broken)), false, &Standing::Pending);
        check(SLOT, &wanted, None, false, &Standing::Pending);
    }
}
