//! Leases: keys that end with their owner, and the fence made of one.

use super::{
    hands::{Ground, Hands},
    support::wait::{PATIENCE, wait_until},
};
use anyhow::{Context as _, Result, bail, ensure};
use apisix_etcd_controller::store::{
    lease::{Claim, LeaseError, LeaseId, Leases as _},
    txn::{Fence, Revision, Txn},
};
use std::time::Duration;

/// Longer than any test takes.
const LONG: Duration = Duration::from_mins(10);

/// Long enough that a slow machine renews in time.
const SHORT: Duration = Duration::from_secs(5);

async fn won<H: Hands>(on: &Ground<H>, name: &str, lease: LeaseId) -> Result<Revision> {
    match on.store.claim(&on.key(name), b"me", lease).await? {
        Claim::Won(at) => Ok(at),
        held @ Claim::Held { .. } => bail!("not won but {held:?}"),
    }
}

fn has_ended<T: std::fmt::Debug>(answer: &Result<T, LeaseError>) -> Result<()> {
    ensure!(matches!(answer, Err(LeaseError::Ended)), "the lease has not ended but {answer:?}");
    Ok(())
}

pub(crate) async fn a_claim_is_won_where_nobody_holds_the_key<H: Hands>(on: Ground<H>) -> Result<()> {
    let lease = on.store.grant(LONG).await?;
    let at = won(&on, "leader", lease).await?;
    let held = on.held("leader").await?.context("it was claimed")?;
    assert_eq!((held.value.as_str(), held.created, held.version, held.leased), ("me", at, 1, true));
    // Once more, after whoever held it has gone.
    on.delete("leader").await?;
    ensure!(won(&on, "leader", lease).await? > at);
    Ok(())
}

pub(crate) async fn a_claim_is_lost_to_whoever_holds_the_key<H: Hands>(on: Ground<H>) -> Result<()> {
    let (first, second) = (on.store.grant(LONG).await?, on.store.grant(LONG).await?);
    ensure!(first != second);
    let begun = won(&on, "leader", first).await?;
    let rewritten = on.put("leader", "me, again").await?;
    for lease in [second, first] {
        let Claim::Held { at, created, value } = on.store.claim(&on.key("leader"), b"other", lease).await? else {
            bail!("it was won");
        };
        assert_eq!((created, value.as_slice()), (begun, &b"me, again"[..]));
        ensure!(at >= rewritten);
    }
    assert_eq!(on.held("leader").await?.context("it is held")?.mod_revision, rewritten);
    Ok(())
}

pub(crate) async fn a_lease_that_is_revoked_takes_its_keys_along_at_one_revision<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let (lease, other) = (on.store.grant(LONG).await?, on.store.grant(LONG).await?);
    let from = won(&on, "b", lease).await?;
    won(&on, "other", other).await?;
    won(&on, "a", lease).await?;
    let mut watch = on.watch(Revision(from.0 + 1)).await?;
    on.store.revoke(lease).await?;
    assert_eq!((on.held("a").await?, on.held("b").await?), (None, None));
    ensure!(on.held("other").await?.is_some());
    let end = on.put("end", "").await?;
    let heard: Vec<Vec<String>> = on.hear(&mut watch, end).await?.into_iter().map(|(_, changes)| changes).collect();
    assert_eq!(heard, [vec!["other=me"], vec!["a=me"], vec!["a", "b"], vec!["end="]]);
    Ok(())
}

pub(crate) async fn a_lease_that_has_ended_is_neither_renewed_nor_claimed_with_but_may_be_revoked<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let lease = on.store.grant(LONG).await?;
    on.store.renew(lease).await?;
    on.store.revoke(lease).await?;
    for lease in [lease, LeaseId(0x7a11)] {
        has_ended(&on.store.renew(lease).await)?;
        on.store.revoke(lease).await?;
        has_ended(&on.store.claim(&on.key("leader"), b"me", lease).await)?;
    }
    assert_eq!(on.held("leader").await?, None);
    // Who holds a key is told to anybody.
    on.put("leader", "somebody").await?;
    let claim = on.store.claim(&on.key("leader"), b"me", lease).await?;
    ensure!(matches!(claim, Claim::Held { .. }), "{claim:?}");
    Ok(())
}

pub(crate) async fn a_lease_that_nobody_renews_ends_and_one_that_is_renewed_does_not<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    // Granted before the other, it would end before it.
    let renewed = on.store.grant(SHORT).await?;
    let since = won(&on, "renewed", renewed).await?;
    let left = on.store.grant(SHORT).await?;
    let from = won(&on, "left", left).await?;
    let mut watch = on.watch(Revision(from.0 + 1)).await?;
    wait_until("the lease to end", PATIENCE, async || {
        on.store.renew(renewed).await?;
        ensure!(on.held("left").await?.is_none(), "its key is still there");
        Ok(())
    })
    .await?;
    assert_eq!(on.held("renewed").await?.context("it was renewed")?.created, since);
    has_ended(&on.store.renew(left).await)?;
    has_ended(&on.store.claim(&on.key("left"), b"me", left).await)?;
    let end = on.put("end", "").await?;
    let heard: Vec<Vec<String>> = on.hear(&mut watch, end).await?.into_iter().map(|(_, changes)| changes).collect();
    assert_eq!(heard, [vec!["left"], vec!["end="]]);
    Ok(())
}

pub(crate) async fn a_fence_falls_with_its_lease_and_the_next_leader_has_another<H: Hands>(
    on: Ground<H>,
) -> Result<()> {
    let first = on.store.grant(LONG).await?;
    let created = won(&on, "leader", first).await?;
    let fence = Fence { key: on.key("leader"), created };
    let at = on.applied(Txn { fence: fence.clone(), ..on.txn(vec![on.puts("a", Revision::ABSENT, "1")]) }).await?;
    on.store.revoke(first).await?;
    let late = || Txn { fence: fence.clone(), ..on.txn(vec![on.puts("a", at, "late")]) };
    on.fenced(late()).await?;
    let second = on.store.grant(LONG).await?;
    let created = won(&on, "leader", second).await?;
    on.fenced(late()).await?;
    let fence = Fence { created, ..fence.clone() };
    on.applied(Txn { fence, ..on.txn(vec![on.puts("a", at, "2")]) }).await?;
    Ok(())
}

pub(crate) async fn a_key_written_without_its_lease_outlives_it<H: Hands>(on: Ground<H>) -> Result<()> {
    let lease = on.store.grant(LONG).await?;
    let created = won(&on, "leader", lease).await?;
    on.applied(on.txn(vec![on.puts("leader", created, "by hand")])).await?;
    on.store.revoke(lease).await?;
    let held = on.held("leader").await?.context("it hangs on nothing")?;
    assert_eq!((held.created, held.leased), (created, false));
    Ok(())
}

pub(crate) async fn a_lease_for_longer_than_a_lifetime_is_refused<H: Hands>(on: Ground<H>) -> Result<()> {
    // etcd's limit is 9,000,000,000 s.
    for seconds in [9_000_000_001, u64::MAX] {
        let granted = on.store.grant(Duration::from_secs(seconds)).await;
        ensure!(matches!(granted, Err(LeaseError::Refused { .. })), "{granted:?}");
    }
    Ok(())
}
