//! The audit's two halves: a listing of every key and its revision, and what in it differs from the mirror.

use super::{
    Content, PagePlace, ReadError, Scope, Store, StoreId,
    mirror::Mirror,
    txn::Revision,
};
use crate::model::places::{Directory, WorkId};
use std::collections::BTreeSet;

/// Every key in our directories, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision.
    pub revision: Revision,
    /// Each document and when it was last written.
    pub keys: Vec<(WorkId, Revision)>,
}

/// What the mirror holds otherwise than `listing` says: a document that it lacks or has an older state of, and one that it
/// has although it is gone. What the mirror knows to be newer than the listing is no difference.
#[must_use]
pub fn differences(mirror: &Mirror, listing: &Listing) -> BTreeSet<WorkId> {
    let mut gone = mirror.written_until(listing.revision);
    let mut different = BTreeSet::new();
    for (id, revision) in &listing.keys {
        gone.remove(id);
        if mirror.known_revision(id) < *revision {
            different.insert(id.clone());
        }
    }
    different.extend(gone);
    different
}

/// Lists every key in our directories below `prefix`; linearizable. Dropping it is safe.
pub async fn list<S: Store>(store: &S, prefix: &str) -> Result<(StoreId, Listing), ReadError> {
    let (mut id, mut listing) = (StoreId::default(), Listing::default());
    let mut pinned: Option<Revision> = None;
    for directory in Directory::ALL {
        // Every directory at the revision of the first; a full stop comes right before the slash.
        let begin = |at| PagePlace::After { key: format!("{prefix}/{directory}.").into_bytes(), at };
        let mut place = Some(pinned.map_or(PagePlace::First, begin));
        let scope = Scope::Below(format!("{prefix}/{directory}").into());
        while let Some(at) = place {
            let page = store.page(&scope, Content::KeysOnly, at).await?;
            (id, listing.revision) = (page.store, page.revision);
            listing.keys.extend(page.entries.into_iter().filter_map(|entry| {
                let id = WorkId::from_key(prefix, std::str::from_utf8(&entry.key).ok()?)?;
                Some((id, entry.mod_revision))
            }));
            place = page.next;
        }
        pinned = Some(listing.revision);
    }
    Ok((id, listing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{follow::Snapshot, memory::MemoryStore};

    fn pool(name: &str) -> WorkId {
        WorkId::new(Directory::Upstreams, name)
    }

    fn listing(revision: i64, keys: &[(&str, i64)]) -> Listing {
        let keys = keys.iter().map(|(name, revision)| (pool(name), Revision(*revision))).collect();
        Listing { revision: Revision(revision), keys }
    }

    fn inspected(name: &str) -> crate::apisix::stored::Inspected {
        crate::apisix::stored::inspect(&pool(name), &pool(name).key("/p"), b"{}")
    }

    fn mirror(at: i64, keys: &[(&str, i64)]) -> Mirror {
        let documents = keys.iter().map(|(name, at)| (pool(name), Revision(*at), inspected(name))).collect();
        let mut mirror = Mirror::new("us".into());
        mirror.take_snapshot(Snapshot { revision: Revision(at), documents, ..Snapshot::default() });
        mirror
    }

    fn different(mirror: &Mirror, listing: &Listing) -> Vec<String> {
        differences(mirror, listing).iter().map(|id| id.id.to_string()).collect()
    }

    #[test]
    fn what_is_the_same_or_newer_here_is_no_difference() {
        let mut mirror = mirror(9, &[("a", 3), ("b", 9)]);
        assert!(different(&mirror, &listing(9, &[("a", 3), ("b", 9)])).is_empty());
        mirror.learn(pool("a"), Revision(12), Some(inspected("a")));
        mirror.learn(pool("b"), Revision(13), None);
        mirror.learn(pool("c"), Revision(14), Some(inspected("c")));
        assert!(different(&mirror, &listing(9, &[("a", 3), ("b", 9)])).is_empty(), "what came after it is not in it");
    }

    #[test]
    fn a_missed_put_a_missed_rewrite_and_a_missed_deletion_are_found() {
        let mirror = mirror(5, &[("same", 1), ("rewritten", 2), ("deleted", 3)]);
        assert_eq!(
            different(&mirror, &listing(9, &[("same", 1), ("rewritten", 8), ("put", 7)])),
            ["deleted", "put", "rewritten"]
        );
    }

    #[tokio::test]
    async fn every_directory_is_listed_at_one_revision_and_nothing_else() {
        let store = MemoryStore::new();
        for key in ["/p/upstreams/a", "/p/upstreams/", "/p/stream_routes/b", "/p/stream_routes.x", "/p/routes/c", "/q/upstreams/d"] {
            store.put(key, "{}");
        }
        let (_, listing) = list(&store, "/p").await.unwrap();
        let keys: Vec<String> = listing.keys.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(keys, ["upstreams/", "upstreams/a", "stream_routes/b"]);
        assert_eq!(listing.revision, store.revision());
    }
}
