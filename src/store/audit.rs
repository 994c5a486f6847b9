//! The audit: a listing of the keys that etcd holds and the mirror in, the documents on which they disagree out. Pure.
//!
//! It is there because a watch may lose an event: older etcds do. A difference may be mere lag, since a listing and a watch are
//! told apart: only one that is still there a while later says that the mirror is wrong. It never mends anything.

use super::{
    mirror::{Known, Mirror},
    txn::Revision,
};
use crate::model::places::WorkId;
use std::collections::{BTreeMap, BTreeSet};

/// The keys in our directories, whoever wrote them, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision of the whole store.
    pub revision: Revision,
    /// Each document with the revision of its last change, at most once.
    pub keys: Vec<(WorkId, Revision)>,
}

/// The documents that the mirror holds otherwise than etcd held them when it was listed: not at all, at another revision, or
/// although they were not there.
///
/// What the mirror knows from after the listing is no difference.
#[must_use]
pub fn differences(mirror: &Mirror, listing: &Listing) -> BTreeSet<WorkId> {
    let Listing { revision: at, keys } = listing;
    let mut unheard: BTreeMap<&WorkId, Revision> = keys.iter().map(|(id, written)| (id, *written)).collect();
    let mut differ = BTreeSet::new();
    for (id, known) in mirror.known() {
        let listed = unheard.remove(id);
        let (since, held) = match known {
            Known::Present(written) => (written, Some(written)),
            Known::Absent(deleted) => (deleted, None),
        };
        if since <= *at && held != listed {
            differ.insert(id.clone());
        }
    }
    differ.extend(unheard.into_keys().cloned());
    differ
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::stored::inspect,
        model::places::{Directory, Plane},
        store::follow::Snapshot,
    };

    fn pool(id: &str) -> WorkId {
        WorkId::new(Plane::default(), Directory::Upstreams, id)
    }

    /// A mirror that was told of these up to revision 10.
    fn mirror(documents: &[(&str, i64)]) -> Mirror {
        let mut mirror = Mirror::new(Plane::of("/p"), "us".into());
        let documents = documents
            .iter()
            .map(|(id, written)| (pool(id), Revision(*written), inspect(&pool(id), "/p/upstreams/x", b"{}")))
            .collect();
        mirror.take_snapshot(Snapshot { revision: Revision(10), documents, ..Snapshot::default() });
        mirror
    }

    fn differ(mirror: &Mirror, at: i64, keys: &[(&str, i64)]) -> Vec<String> {
        let keys = keys.iter().map(|(id, written)| (pool(id), Revision(*written))).collect();
        let listing = Listing { revision: Revision(at), keys };
        differences(mirror, &listing).into_iter().map(|id| id.id.to_string()).collect()
    }

    #[test]
    fn a_mirror_that_was_told_everything_does_not_differ() {
        let mirror = mirror(&[("a", 3), ("b", 7)]);
        assert_eq!(differ(&mirror, 10, &[("b", 7), ("a", 3)]), [""; 0]);
        assert_eq!(differ(&mirror, 20, &[("b", 7), ("a", 3)]), [""; 0]);
    }

    #[test]
    fn what_was_put_changed_or_deleted_unheard_differs() {
        let mirror = mirror(&[("changed", 3), ("deleted", 4), ("same", 5)]);
        let listed = [("changed", 12), ("put", 13), ("same", 5)];
        assert_eq!(differ(&mirror, 20, &listed), ["changed", "deleted", "put"]);
    }

    #[test]
    fn what_the_mirror_knows_from_after_the_listing_does_not_differ() {
        let mut mirror = mirror(&[("changed", 3), ("deleted", 4)]);
        let stored = || Some(inspect(&pool("x"), "/p/upstreams/x", b"{}"));
        mirror.learn(pool("changed"), Revision(21), stored());
        mirror.learn(pool("deleted"), Revision(22), None);
        mirror.learn(pool("put"), Revision(23), stored());
        assert_eq!(differ(&mirror, 20, &[("changed", 3), ("deleted", 4)]), [""; 0]);
        assert_eq!(differ(&mirror, 20, &[("changed", 9), ("deleted", 4)]), [""; 0], "nobody can tell");
        assert_eq!(differ(&mirror, 21, &[("changed", 3), ("deleted", 4)]), ["changed"]);
    }

    #[test]
    fn a_deletion_at_or_before_the_listing_is_held_against_it() {
        let mut mirror = mirror(&[("a", 3)]);
        mirror.learn(pool("a"), Revision(20), None);
        assert_eq!(differ(&mirror, 20, &[]), [""; 0]);
        assert_eq!(differ(&mirror, 20, &[("a", 3)]), ["a"]);
        assert_eq!(differ(&mirror, 19, &[("a", 3)]), [""; 0]);
    }

    #[test]
    fn a_revision_from_the_future_of_another_store_differs() {
        assert_eq!(differ(&mirror(&[("a", 9)]), 20, &[("a", 5)]), ["a"]);
    }
}
