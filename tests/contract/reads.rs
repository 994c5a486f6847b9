//! Pages: whole, in order, at one revision.

use super::hands::{Ground, Hands};
use anyhow::{Context as _, Result, ensure};
use apisix_etcd_controller::store::{
    Content, KeyValue, PAGE_KEYS, Page, PagePlace, ReadError, Scope, Store as _, StoreId, txn::Revision,
};

async fn first<H: Hands>(on: &Ground<H>, scope: &Scope) -> Result<Page> {
    Ok(on.store.page(scope, Content::Values, PagePlace::First).await?)
}

/// The keys of a page, without the test's root.
fn names<H: Hands>(on: &Ground<H>, page: &Page) -> Vec<String> {
    let name = |entry: &KeyValue| String::from_utf8_lossy(&entry.key).replacen(&on.root, "", 1);
    page.entries.iter().map(name).collect()
}

/// Puts `n_keys` keys named `00000`, `00001` and so on.
async fn fill<H: Hands>(on: &Ground<H>, n_keys: usize, value: &str) -> Result<Vec<String>> {
    let names: Vec<String> = (0..n_keys).map(|n| format!("{n:05}")).collect();
    for names in names.chunks(100) {
        on.applied(on.txn(names.iter().map(|name| on.puts(name, Revision::ABSENT, value)).collect())).await?;
    }
    Ok(names)
}

pub(crate) async fn pages_are_cut_at_one_revision_while_writes_go_on<H: Hands>(on: Ground<H>) -> Result<()> {
    let names_put = fill(&on, 2 * PAGE_KEYS + 1, "old").await?;
    let last = on.put("01999", "newer").await?;
    let (mut place, mut read, mut sizes) = (PagePlace::First, Vec::new(), Vec::new());
    let mut pinned = None;
    loop {
        let page = on.store.page(&on.below(), Content::Values, place).await?;
        if pinned.is_none() {
            on.put("01000", "too late").await?;
            on.put("0100", "too late").await?;
            on.put("99999", "too late").await?;
            on.delete("02000").await?;
        }
        assert_eq!(page.revision, *pinned.get_or_insert(page.revision));
        sizes.push(page.entries.len());
        read.extend(names(&on, &page).into_iter().zip(page.entries));
        match page.next {
            Some(next) => place = next,
            None => break,
        }
    }
    assert_eq!(sizes, [PAGE_KEYS, PAGE_KEYS, 1]);
    ensure!(pinned >= Some(last));
    let named: Vec<&str> = read.iter().map(|(name, _)| name.trim_start_matches('/')).collect();
    assert_eq!(named, names_put);
    for (name, entry) in &read {
        let newer = name == "/01999";
        assert_eq!(entry.value, if newer { b"newer".to_vec() } else { b"old".to_vec() }, "{name}");
        assert_eq!(entry.mod_revision == last, newer, "{name}");
    }
    Ok(())
}

pub(crate) async fn a_page_that_just_fits_is_the_last<H: Hands>(on: Ground<H>) -> Result<()> {
    fill(&on, PAGE_KEYS, "x").await?;
    let page = first(&on, &on.below()).await?;
    assert_eq!((page.entries.len(), page.next), (PAGE_KEYS, None));
    Ok(())
}

pub(crate) async fn of_keys_only_no_values_are_read<H: Hands>(on: Ground<H>) -> Result<()> {
    let (a, b) = (on.put("a", "1").await?, on.put("b", "2").await?);
    on.put("c", "3").await?;
    on.delete("c").await?;
    let page = on.store.page(&on.below(), Content::KeysOnly, PagePlace::First).await?;
    let entry =
        |name: &str, mod_revision| KeyValue { key: on.key(name).as_bytes().to_vec(), mod_revision, value: vec![] };
    assert_eq!(page.entries, [entry("a", a), entry("b", b)]);
    Ok(())
}

pub(crate) async fn an_empty_scope_has_no_keys_and_a_revision<H: Hands>(on: Ground<H>) -> Result<()> {
    for scope in [on.below(), Scope::Key(on.key("a"))] {
        let page = first(&on, &scope).await?;
        assert_eq!((page.entries, page.next), (vec![], None));
        ensure!(page.revision >= on.fence.created);
    }
    Ok(())
}

/// Keys around `a` and below it, in order, as bytes are compared.
pub(crate) const NEIGHBOURS: &[&str] =
    &["Z", "a", "a!", "a-b", "a.", "a/", "a//", "a/b", "a/b/c", "a0", "a0/b", "aa", "b"];

pub(crate) async fn a_scope_holds_its_keys_and_no_neighbours<H: Hands>(on: Ground<H>) -> Result<()> {
    for name in NEIGHBOURS {
        on.put(name, name).await?;
    }
    let read = async |scope: Scope| Ok::<_, anyhow::Error>(names(&on, &first(&on, &scope).await?));
    assert_eq!(read(Scope::Below(on.key("a"))).await?, ["/a/", "/a//", "/a/b", "/a/b/c"]);
    assert_eq!(read(Scope::Key(on.key("a"))).await?, ["/a"]);
    assert_eq!(read(Scope::Key(on.key("a/"))).await?, ["/a/"]);
    assert_eq!(read(Scope::Below(on.key("a/b"))).await?, ["/a/b/c"]);
    assert_eq!(read(on.below()).await?.len(), NEIGHBOURS.len());
    Ok(())
}

pub(crate) async fn a_page_of_many_megabytes_is_read<H: Hands>(on: Ground<H>) -> Result<()> {
    let value = "x".repeat(1_000_000);
    for n in 0..7 {
        on.put(&n.to_string(), &value).await?;
    }
    let page = first(&on, &on.below()).await?;
    assert_eq!(page.entries.iter().map(|entry| entry.value.len()).sum::<usize>(), 7_000_000);
    // What a lost compare brings back may be as large.
    let txn = on.txn((0..7).map(|n| on.deletes(&n.to_string(), Revision::ABSENT)).collect());
    let (_, current) = on.conflicted(txn).await?;
    assert_eq!(current.iter().filter_map(|current| Some(current.value.as_ref()?.1.len())).sum::<usize>(), 7_000_000);
    Ok(())
}

pub(crate) async fn the_store_keeps_its_id<H: Hands>(on: Ground<H>) -> Result<()> {
    fill(&on, PAGE_KEYS + 1, "x").await?;
    let page = first(&on, &on.below()).await?;
    ensure!(page.store != StoreId::default());
    let second = on.store.page(&on.below(), Content::Values, page.next.context("there is another page")?).await?;
    let again = on.store.page(&Scope::Key(on.key("a")), Content::KeysOnly, PagePlace::First).await?;
    assert_eq!([second.store, again.store], [page.store; 2]);
    Ok(())
}

pub(crate) async fn a_revision_yet_to_come_cannot_be_read<H: Hands>(on: Ground<H>) -> Result<()> {
    let place = PagePlace::After { key: on.key("a").as_bytes().to_vec(), at: Revision(i64::MAX) };
    let read = on.store.page(&on.below(), Content::Values, place).await;
    ensure!(matches!(read, Err(ReadError::Failed { .. })), "{read:?}");
    Ok(())
}

pub(crate) async fn what_is_compacted_cannot_be_read_on<H: Hands>(on: Ground<H>) -> Result<()> {
    fill(&on, PAGE_KEYS + 1, "x").await?;
    let page = first(&on, &on.below()).await?;
    let rest = page.next.context("there is another page")?;
    on.delete("01000").await?;
    on.hands.compact(page.revision).await?;
    let still = on.store.page(&on.below(), Content::Values, rest.clone()).await?;
    assert_eq!((names(&on, &still), still.revision), (vec!["/01000".to_owned()], page.revision));

    let now = on.put("a", "1").await?;
    on.hands.compact(now).await?;
    let read = on.store.page(&on.below(), Content::Values, rest).await;
    ensure!(matches!(read, Err(ReadError::Compacted)), "{read:?}");
    assert_eq!(first(&on, &on.below()).await?.revision, now);
    Ok(())
}
