//! Transactions: all or nothing, at one revision, under a fence, within limits.

use super::hands::{Ground, Hands, Held};
use anyhow::{Context as _, Result, ensure};
use apisix_etcd_controller::store::{
    Store as _,
    lease::{LeaseError, Leases as _},
    txn::{Commit, Current, Fence, Revision, Txn},
};
use std::{slice, time::Duration};

pub(crate) async fn writes_happen_together_at_the_revision_that_is_answered<H: Hands>(on: Ground<H>) -> Result<()> {
    let txn = on.txn(vec![on.puts("a", Revision::ABSENT, "1"), on.puts("b", Revision::ABSENT, "2")]);
    let first = on.applied(txn).await?;
    for name in ["a", "b"] {
        assert_eq!(on.held(name).await?.context("it was put")?.mod_revision, first);
    }
    let second = on.applied(on.txn(vec![on.puts("a", first, "3"), on.deletes("b", first)])).await?;
    ensure!(second > first);
    assert_eq!(on.held("a").await?.context("it was put")?.mod_revision, second);
    assert_eq!(on.held("b").await?, None);
    Ok(())
}

pub(crate) async fn a_key_keeps_its_creation_and_counts_its_writes_until_it_is_deleted<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let held = |value: &str, created, mod_revision, version| {
        Some(Held { value: value.to_owned(), created, mod_revision, version, leased: false })
    };
    let first = on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, "1")])).await?;
    assert_eq!(on.held("a").await?, held("1", first, first, 1));
    let second = on.applied(on.txn(vec![on.puts("a", first, "2")])).await?;
    assert_eq!(on.held("a").await?, held("2", first, second, 2));
    let third = on.applied(on.txn(vec![on.deletes("a", second)])).await?;
    assert_eq!(on.held("a").await?, None);
    let fourth = on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, "2")])).await?;
    ensure!(third < fourth);
    assert_eq!(on.held("a").await?, held("2", fourth, fourth, 1));
    Ok(())
}

pub(crate) async fn a_lost_compare_writes_nothing_and_tells_every_key_as_it_is<H: Hands>(on: Ground<H>) -> Result<()> {
    let first = on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, "1")])).await?;
    let second = on.applied(on.txn(vec![on.puts("a", first, "2")])).await?;

    // Expected absent, and there; expected there, and absent; expected as it was.
    let txn = on.txn(vec![on.puts("a", Revision::ABSENT, "x"), on.puts("b", Revision::ABSENT, "x")]);
    let (at, current) = on.conflicted(txn).await?;
    assert_eq!(current, [on.present("a", second, "2"), on.absent("b")]);
    ensure!(at >= second);
    let txn = on.txn(vec![on.deletes("c", second), on.deletes("a", second)]);
    assert_eq!(on.conflicted(txn).await?.1, [on.absent("c"), on.present("a", second, "2")]);
    let txn = on.txn(vec![on.puts("a", first, "x")]);
    assert_eq!(on.conflicted(txn).await?.1, [on.present("a", second, "2")]);

    // A key that was deleted and created anew is not the one that was known.
    on.delete("a").await?;
    let anew = on.put("a", "2").await?;
    let txn = on.txn(vec![on.deletes("a", second)]);
    assert_eq!(on.conflicted(txn).await?.1, [on.present("a", anew, "2")]);
    assert_eq!((on.held("b").await?, on.held("a").await?.map(|held| held.version)), (None, Some(1)));
    Ok(())
}

pub(crate) async fn written_keys_are_told_before_conditions_each_in_their_order<H: Hands>(on: Ground<H>) -> Result<()> {
    let at = on.applied(on.txn(vec![on.puts("p", Revision::ABSENT, "p"), on.puts("q", Revision::ABSENT, "")])).await?;
    let txn = Txn {
        conditions: vec![
            on.condition("q", at),
            on.condition("p", Revision(at.0 - 1)),
            on.condition("o", Revision::ABSENT),
        ],
        ..on.txn(vec![on.puts("z", Revision::ABSENT, "x"), on.puts("a", Revision::ABSENT, "x")])
    };
    let expected = [on.absent("z"), on.absent("a"), on.present("q", at, ""), on.present("p", at, "p"), on.absent("o")];
    assert_eq!(on.conflicted(txn).await?.1, expected);
    assert_eq!((on.held("z").await?, on.held("a").await?), (None, None));
    Ok(())
}

pub(crate) async fn a_condition_that_holds_lets_writes_pass_and_stays_as_it_is<H: Hands>(on: Ground<H>) -> Result<()> {
    let at = on.applied(on.txn(vec![on.puts("p", Revision::ABSENT, "p")])).await?;
    let conditions = vec![on.condition("p", at), on.condition("q", Revision::ABSENT)];
    let next = on.applied(Txn { conditions, ..on.txn(vec![on.puts("a", Revision::ABSENT, "1")]) }).await?;
    assert_eq!(on.held("a").await?.context("it was put")?.mod_revision, next);
    assert_eq!(on.held("p").await?.context("it was put")?.mod_revision, at);
    assert_eq!(on.held("q").await?, None);
    Ok(())
}

pub(crate) async fn under_a_fence_that_is_gone_or_was_created_anew_nothing_is_written<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let txn = || on.txn(vec![on.puts("a", Revision::ABSENT, "1")]);
    on.hands.delete(&on.fence.key).await?;
    on.fenced(txn()).await?;
    let anew = on.hands.put(&on.fence.key, "test").await?;
    on.fenced(txn()).await?;
    assert_eq!(on.held("a").await?, None);
    on.applied(Txn { fence: Fence { created: anew, ..on.fence.clone() }, ..txn() }).await?;
    Ok(())
}

pub(crate) async fn a_fence_that_was_only_written_again_still_stands<H: Hands>(on: Ground<H>) -> Result<()> {
    on.hands.put(&on.fence.key, "again").await?;
    on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, "1")])).await?;
    Ok(())
}

pub(crate) async fn a_lost_fence_is_told_before_a_lost_compare<H: Hands>(on: Ground<H>) -> Result<()> {
    on.put("a", "1").await?;
    let txn = || on.txn(vec![on.puts("a", Revision::ABSENT, "2")]);
    on.conflicted(txn()).await?;
    on.hands.delete(&on.fence.key).await?;
    on.fenced(txn()).await
}

pub(crate) async fn a_fence_without_a_creation_stands_while_there_is_no_such_key<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let fence = Fence { key: on.key("nobody"), created: Revision::ABSENT };
    let at = on.applied(Txn { fence: fence.clone(), ..on.txn(vec![on.puts("a", Revision::ABSENT, "1")]) }).await?;
    on.put("nobody", "").await?;
    on.fenced(Txn { fence, ..on.txn(vec![on.puts("a", at, "2")]) }).await
}

/// etcd's default.
const OPERATIONS_MAX: usize = 128;

pub(crate) async fn as_many_operations_as_are_allowed_are_taken_and_no_more<H: Hands>(on: Ground<H>) -> Result<()> {
    let many = |n_operations: usize| {
        let txn = on.txn((2..n_operations).map(|n| on.puts(&n.to_string(), Revision::ABSENT, "x")).collect());
        Txn { conditions: vec![on.condition("0", Revision::ABSENT)], ..txn }
    };
    assert_eq!(many(OPERATIONS_MAX).n_operations(), OPERATIONS_MAX);
    on.refused(many(OPERATIONS_MAX + 1)).await?;
    assert_eq!(on.held("2").await?, None);
    on.applied(many(OPERATIONS_MAX)).await?;
    // Losing reads as much as winning compares.
    let (_, current) = on.conflicted(many(OPERATIONS_MAX)).await?;
    assert_eq!(current.len(), OPERATIONS_MAX - 1);
    Ok(())
}

/// etcd's default, 1.5 MiB.
const REQUEST_BYTES_MAX: usize = 1_572_864;

pub(crate) async fn a_transaction_reckoned_at_the_limit_of_size_is_taken<H: Hands>(on: Ground<H>) -> Result<()> {
    // What we reckon must never be less than what etcd counts.
    let txn = |rest: &str| {
        let mut txn = on.txn((0..100).map(|n| on.puts(&n.to_string(), Revision::ABSENT, "x")).collect());
        txn.writes.push(on.puts("rest", Revision::ABSENT, rest));
        txn
    };
    let rest = REQUEST_BYTES_MAX - txn("").n_bytes();
    let txn = txn(&"x".repeat(rest));
    assert_eq!(txn.n_bytes(), REQUEST_BYTES_MAX);
    on.applied(txn).await?;
    Ok(())
}

pub(crate) async fn a_transaction_that_is_too_large_is_refused<H: Hands>(on: Ground<H>) -> Result<()> {
    // One that etcd refuses, one that its server does not even read, one that comes to too much only with all its parts.
    let half = "x".repeat(REQUEST_BYTES_MAX / 2);
    let whole = format!("{half}{half}");
    for writes in [
        vec![on.puts("a", Revision::ABSENT, &whole)],
        vec![on.puts("a", Revision::ABSENT, &format!("{whole}{whole}"))],
        vec![on.puts("a", Revision::ABSENT, &half), on.puts("b", Revision::ABSENT, &half)],
    ] {
        on.refused(on.txn(writes)).await?;
    }
    assert_eq!((on.held("a").await?, on.held("b").await?), (None, None));
    on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, &half)])).await?;
    Ok(())
}

pub(crate) async fn a_key_put_twice_is_refused<H: Hands>(on: Ground<H>) -> Result<()> {
    let put = on.puts("a", Revision::ABSENT, "1");
    on.refused(on.txn(vec![put.clone(), on.puts("a", Revision::ABSENT, "2")])).await?;
    on.refused(on.txn(vec![put.clone(), on.deletes("a", Revision::ABSENT)])).await?;
    on.refused(on.txn(vec![on.deletes("a", Revision::ABSENT), put])).await?;
    assert_eq!(on.held("a").await?, None);
    Ok(())
}

pub(crate) async fn of_two_racing_transactions_one_wins<H: Hands>(on: Ground<H>) -> Result<()> {
    for n in 0..20 {
        let name = n.to_string();
        let txn = |value| on.txn(vec![on.puts(&name, Revision::ABSENT, value)]);
        let (one, other) = tokio::join!(on.store.commit(txn("one")), on.store.commit(txn("other")));
        let (at, value, lost) = match (one?, other?) {
            (Commit::Applied(at), lost) => (at, "one", lost),
            (lost, Commit::Applied(at)) => (at, "other", lost),
            (one, other) => anyhow::bail!("nobody won: {one:?}, {other:?}"),
        };
        let Commit::Conflicted { current, .. } = lost else { anyhow::bail!("not lost but {lost:?}") };
        assert_eq!(current, slice::from_ref(&on.present(&name, at, value)));
    }
    Ok(())
}

pub(crate) async fn what_changes_nothing_makes_no_revision<H: Hands>(on: Ground<H>) -> Result<()> {
    let at = on.put("a", "1").await?;
    assert_eq!(on.applied(on.txn(vec![])).await?, at);
    assert_eq!(on.applied(on.txn(vec![on.deletes("b", Revision::ABSENT)])).await?, at);
    let condition = on.condition("a", at);
    assert_eq!(on.applied(Txn { conditions: vec![condition], ..on.txn(vec![]) }).await?, at);
    let (read_at, current) = on.conflicted(on.txn(vec![on.deletes("a", Revision::ABSENT)])).await?;
    assert_eq!((read_at, current), (at, vec![on.present("a", at, "1")]));
    assert_eq!(on.delete("b").await?, at);
    assert_eq!(on.put("a", "1").await?, Revision(at.0 + 1), "the same value is a write all the same");
    Ok(())
}

pub(crate) async fn a_full_store_refuses_puts_and_leases_and_nothing_else<H: Hands>(on: Ground<H>) -> Result<()> {
    const TTL: Duration = Duration::from_mins(10);
    let at = on.applied(on.txn(vec![on.puts("a", Revision::ABSENT, "1"), on.puts("b", Revision::ABSENT, "1")])).await?;
    let (lease, other) = (on.store.grant(TTL).await?, on.store.grant(TTL).await?);
    on.store.claim(&on.key("held"), b"me", lease).await?;

    on.hands.full(true).await?;
    on.refused(on.txn(vec![on.puts("a", at, "2")])).await?;
    on.refused(on.txn(vec![on.deletes("b", at), on.puts("c", Revision::ABSENT, "1")])).await?;
    // Although it would lose.
    on.refused(on.txn(vec![on.puts("a", Revision::ABSENT, "2")])).await?;
    let granted = on.store.grant(TTL).await;
    ensure!(matches!(granted, Err(LeaseError::Refused { .. })), "{granted:?}");
    for name in ["held", "free"] {
        let claimed = on.store.claim(&on.key(name), b"other", other).await;
        ensure!(matches!(claimed, Err(LeaseError::Refused { .. })), "{claimed:?}");
    }
    let gone = on.applied(on.txn(vec![on.deletes("b", at)])).await?;
    ensure!(gone > at);
    on.store.renew(lease).await?;
    on.store.revoke(lease).await?;
    assert_eq!((on.held("held").await?, on.held("b").await?), (None, None));
    assert_eq!(on.conflicted(on.txn(vec![on.deletes("a", gone)])).await?.1, [on.present("a", at, "1")]);

    on.hands.full(false).await?;
    let Current { key: _, value } = on.present("a", at, "1");
    assert_eq!(on.held("a").await?.map(|held| (held.mod_revision, held.value.into_bytes())), value);
    on.applied(on.txn(vec![on.puts("a", at, "2")])).await?;
    on.store.grant(TTL).await?;
    Ok(())
}
