//! Watches: everything from a revision on, in order, no revision parted.

use super::{
    hands::{Ground, Hands, soon},
    reads::NEIGHBOURS,
};
use anyhow::{Context as _, Result, ensure};
use apisix_etcd_controller::store::{Content, PagePlace, ReadError, Scope, Store as _, Watch as _, txn::Revision};
use std::time::Duration;

fn told<const N: usize>(revision: Revision, changes: [&str; N]) -> (Revision, Vec<String>) {
    (revision, changes.map(str::to_owned).to_vec())
}

pub(crate) async fn changes_come_in_order_from_the_revision_asked_for_each_revision_whole<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let before = on.applied(on.txn(vec![on.puts("b", Revision::ABSENT, "0")])).await?;
    let first = on.applied(on.txn(vec![on.puts("b", before, "1"), on.puts("a", Revision::ABSENT, "1")])).await?;
    on.hands.put(&on.fence.key, "no key of the scope").await?;
    let mut watch = on.watch(first).await?;
    let second = on.applied(on.txn(vec![on.deletes("b", first), on.puts("a", first, "")])).await?;
    let third = on.put("b", "3").await?;
    let heard = on.hear(&mut watch, third).await?;
    assert_eq!(heard, [told(first, ["b=1", "a=1"]), told(second, ["b", "a="]), told(third, ["b=3"])]);
    Ok(())
}

pub(crate) async fn many_changes_of_one_revision_come_in_one_batch<H: Hands>(on: Ground<H>) -> Result<()> {
    let mut watch = on.watch(on.fence.created).await?;
    let at = on.applied(on.txn((0..127).map(|n| on.puts(&n.to_string(), Revision::ABSENT, "x")).collect())).await?;
    let [(revision, changes)] = <[_; 1]>::try_from(on.hear(&mut watch, at).await?).ok().context("one revision")?;
    assert_eq!((revision, changes.len()), (at, 127));
    Ok(())
}

/// etcd cuts a response where it comes to 2 MiB, which is in the middle of the second revision.
pub(crate) async fn large_revisions_come_whole_although_they_were_missed_together<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let value = "x".repeat(14 * 1024);
    let mut revisions = Vec::new();
    let mut expected = Revision::ABSENT;
    for _ in 0..5 {
        let writes = (0..100).map(|n| on.puts(&n.to_string(), expected, &value)).collect();
        expected = on.applied(on.txn(writes)).await?;
        revisions.push(expected);
    }
    let end = on.put("end", "x").await?;
    let mut watch = on.watch(on.fence.created).await?;
    let heard = on.hear(&mut watch, end).await?;
    let sizes: Vec<(Revision, usize)> = heard.iter().map(|(revision, changes)| (*revision, changes.len())).collect();
    let expected: Vec<(Revision, usize)> = revisions.into_iter().map(|at| (at, 100)).chain([(end, 1)]).collect();
    assert_eq!(sizes, expected);
    Ok(())
}

pub(crate) async fn a_watch_hears_its_scope_and_no_neighbours<H: Hands>(on: Ground<H>) -> Result<()> {
    let mut below = on.store.watch(&Scope::Below(on.key("a")), on.fence.created).await?;
    let mut one = on.store.watch(&Scope::Key(on.key("a")), on.fence.created).await?;
    for name in NEIGHBOURS {
        on.put(name, "x").await?;
    }
    let (end, last) = (on.put("a/end", "x").await?, on.put("a", "end").await?);
    let names = |heard: Vec<(Revision, Vec<String>)>| -> Vec<String> {
        heard.into_iter().flat_map(|(_, changes)| changes).collect()
    };
    let heard = names(on.hear(&mut below, end).await?);
    assert_eq!(heard, ["a/=x", "a//=x", "a/b=x", "a/b/c=x", "a/end=x"]);
    assert_eq!(names(on.hear(&mut one, last).await?), ["a=x", "a=end"]);
    Ok(())
}

pub(crate) async fn two_watches_hear_the_same<H: Hands>(on: Ground<H>) -> Result<()> {
    let mut watches = [on.watch(on.fence.created).await?, on.watch(on.fence.created).await?];
    let at = on.put("a", "1").await?;
    for watch in &mut watches {
        assert_eq!(on.hear(watch, at).await?, [told(at, ["a=1"])]);
    }
    Ok(())
}

pub(crate) async fn a_watch_that_is_asked_and_left_again_and_again_loses_nothing<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    const N_WRITES: usize = 50;
    let mut watch = on.watch(on.fence.created).await?;
    let value = "x".repeat(10_000);
    let writing = async {
        let mut revisions = Vec::new();
        for _ in 0..N_WRITES {
            revisions.push(on.put("a", &value).await?);
        }
        anyhow::Ok(revisions)
    };
    let hearing = async {
        let mut heard = Vec::new();
        while heard.len() < N_WRITES {
            if let Ok(batch) = tokio::time::timeout(Duration::from_micros(200), watch.next()).await {
                heard.extend(batch?.changes.into_iter().map(|change| change.revision));
            }
        }
        anyhow::Ok(heard)
    };
    let (written, heard) = soon("all changes", async { tokio::join!(writing, hearing) }).await?;
    assert_eq!(heard?, written?);
    Ok(())
}

pub(crate) async fn a_watch_cannot_begin_at_a_revision_that_is_compacted<H: Hands>(on: Ground<H>) -> Result<()> {
    let first = on.put("a", "1").await?;
    let second = on.put("a", "2").await?;
    let third = on.put("a", "3").await?;
    let mut running = on.watch(first).await?;
    assert_eq!(on.hear(&mut running, third).await?.len(), 3);
    on.hands.compact(second).await?;

    let mut watch = on.watch(first).await?;
    let heard = soon("an answer", watch.next()).await?;
    ensure!(matches!(heard, Err(ReadError::Compacted)), "{heard:?}");
    // The revision of the compaction itself is still there, and who watched before hears on.
    let mut watch = on.watch(second).await?;
    assert_eq!(on.hear(&mut watch, third).await?, [told(second, ["a=2"]), told(third, ["a=3"])]);
    let fourth = on.put("a", "4").await?;
    on.hands.compact(fourth).await?;
    for watch in [&mut running, &mut watch] {
        assert_eq!(on.hear(watch, fourth).await?, [told(fourth, ["a=4"])]);
    }
    Ok(())
}

/// etcd before 3.5.16, Debian's 3.4 among them, forgets a deletion that the compaction's own revision made, and a watch from
/// there on never hears of it. A watch that begins at the revision that was read, and not at the next, is told that it is too late.
pub(crate) async fn a_deletion_after_a_read_is_not_missed_although_its_revision_was_compacted<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    on.put("a", "1").await?;
    let read = on.store.page(&on.below(), Content::Values, PagePlace::First).await?.revision;
    let gone = on.delete("a").await?;
    assert_eq!(gone, Revision(read.0 + 1));
    on.hands.compact(gone).await?;
    let mut watch = on.watch(read).await?;
    let heard = soon("an answer", watch.next()).await?;
    ensure!(matches!(heard, Err(ReadError::Compacted)), "{heard:?}");
    Ok(())
}

pub(crate) async fn a_watch_from_a_revision_yet_to_come_is_silent_until_then<H: Hands>(on: Ground<H>) -> Result<()> {
    let at = on.put("a", "1").await?;
    let mut watch = on.watch(Revision(at.0 + 2)).await?;
    on.put("a", "2").await?;
    let third = on.put("a", "3").await?;
    assert_eq!(on.hear(&mut watch, third).await?, [told(third, ["a=3"])]);
    Ok(())
}
