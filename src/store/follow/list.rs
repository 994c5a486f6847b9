//! Listing keys without their values: a data plane in, what etcd holds in our directories at one revision out.

use crate::{
    model::places::{Directory, Plane, WorkId},
    store::{Content, PagePlace, ReadError, Scope, Store, StoreId, audit::Listing, txn::Revision},
};

/// Lists every document of a data plane in our directories, at one revision, linearizable.
///
/// Also says which store answered: one that is not the one followed, or whose revision is below what was told, was wiped or
/// restored from a backup, and a follower that is not cut off does not notice that by itself. Dropping it half-way is safe.
pub async fn list<S: Store>(store: &S, plane: Plane) -> Result<(StoreId, Listing), ReadError> {
    let mut read: Option<(StoreId, Revision)> = None;
    let mut keys = Vec::new();
    for directory in Directory::ALL {
        let folder = format!("{plane}/{directory}");
        // SUBTLE: a later directory is read from the key before its first one, because only pages after another one are
        // read at a revision of the past.
        let mut place = match read {
            None => PagePlace::First,
            Some((_, at)) => PagePlace::After { key: folder.clone().into_bytes(), at },
        };
        let scope = Scope::Below(folder.into());
        loop {
            let page = store.page(&scope, Content::KeysOnly, place).await?;
            let (known, _) = *read.get_or_insert((page.store, page.revision));
            if page.store != known {
                return Err(ReadError::Failed { source: "the store was replaced between two pages".into() });
            }
            keys.extend(page.entries.iter().filter_map(|entry| {
                let id = WorkId::from_key(plane, std::str::from_utf8(&entry.key).ok()?)?;
                Some((id, entry.mod_revision))
            }));
            match page.next {
                Some(next) => place = next,
                None => break,
            }
        }
    }
    let (store, revision) = read.unwrap_or_default();
    Ok((store, Listing { revision, keys }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        PAGE_KEYS, Page,
        memory::{Image, MemoryStore, MemoryWatch},
        txn::{Commit, CommitError, Txn},
    };

    /// A store that is written to after every read.
    struct Busy(MemoryStore);

    impl Store for Busy {
        type Watch = MemoryWatch;

        async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
            self.0.commit(txn).await
        }

        async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
            let page = self.0.page(scope, content, place).await;
            self.0.put("/p/stream_routes/late", "{}");
            page
        }

        async fn watch(&self, scope: &Scope, from: Revision) -> Result<MemoryWatch, ReadError> {
            self.0.watch(scope, from).await
        }
    }

    fn listed(listing: &Listing) -> Vec<(String, i64)> {
        listing.keys.iter().map(|(id, written)| (id.to_string(), written.0)).collect()
    }

    #[tokio::test]
    async fn both_directories_are_listed_and_nothing_else() {
        let store = MemoryStore::new();
        let neighbours = ["/p/routes/1", "/p/upstreams", "/p/upstreams0", "/p/stream_routes!/1", "/pp/upstreams/1"];
        for key in neighbours {
            store.put(key, "{}");
        }
        let pool = store.put("/p/upstreams/a", "{}");
        let slot = store.put("/p/stream_routes/b", "{}");
        let placeholder = store.put("/p/stream_routes/", "init_dir");
        let (_, listing) = list(&store, Plane::of("/p")).await.unwrap();
        assert_eq!(listing.revision, placeholder);
        let expected = [("upstreams/a", pool), ("stream_routes/", placeholder), ("stream_routes/b", slot)];
        assert_eq!(listed(&listing), expected.map(|(id, written)| (id.to_owned(), written.0)));
    }

    #[tokio::test]
    async fn many_keys_come_in_pages() {
        let store = MemoryStore::new();
        let n_keys = 2 * PAGE_KEYS + 1;
        for n in 0..n_keys {
            store.put(&format!("/p/upstreams/{n}"), "{}");
            store.put(&format!("/p/stream_routes/{n}"), "{}");
        }
        let (_, listing) = list(&store, Plane::of("/p")).await.unwrap();
        assert_eq!(listing.keys.len(), 2 * n_keys);
        assert_eq!(listing.revision, store.revision());
    }

    #[tokio::test]
    async fn everything_is_listed_at_one_revision() {
        let store = MemoryStore::new();
        let slot = store.put("/p/stream_routes/a", "{}");
        let (_, listing) = list(&Busy(store), Plane::of("/p")).await.unwrap();
        assert_eq!((listing.revision, listed(&listing)), (slot, vec![("stream_routes/a".to_owned(), slot.0)]));
    }

    #[tokio::test]
    async fn an_empty_store_is_listed_with_its_name() {
        let store = MemoryStore::new();
        let (before, listing) = list(&store, Plane::of("/p")).await.unwrap();
        assert_eq!((listing.revision, listing.keys.len()), (store.revision(), 0));
        store.restore(Image::default());
        assert_ne!(list(&store, Plane::of("/p")).await.unwrap().0, before);
    }
}
