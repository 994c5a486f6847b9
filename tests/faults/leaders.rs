//! The leader, killed or paused: another one goes on, and nothing of the old one comes after it.

use super::{
    fleet::fleet,
    stage::{Stage, counted, kill, metric, stands_by},
    support::{controller::Controller, etcd::shared_etcd, wait::PATIENCE},
};
use anyhow::ensure;

/// Some transactions' worth, so that a leader can be stopped among them.
const N_ROUTES: u16 = 600;

/// The lease of who is to lose it: longer than a machine with other work may keep its process waiting.
const SHORT: [&str; 2] = ["--lease-ttl", "5s"];

/// The lease of who is to keep it.
const LONG: [&str; 2] = ["--lease-ttl", "30s"];

/// `a` leads with these arguments, since this revision, and `b` stands by; both know the same few routes.
async fn leader_and_standby(stage: &Stage, arguments: &[&str]) -> anyhow::Result<(Controller, i64, Controller)> {
    stage.manifests("a", &fleet(3, 0))?;
    stage.manifests("b", &fleet(3, 0))?;
    let a = stage.replica("a", arguments)?;
    let before = stage.leads(&a, "a", 0).await?;
    stage.holds(&a, &stage.wanted("a", &[]).await?).await?;
    let b = stage.replica("b", &LONG)?;
    stands_by(&b).await?;
    Ok((a, before, b))
}

/// Gives `a` much to write, and waits until it is at it.
async fn among_its_transactions(stage: &Stage, a: &Controller) -> anyhow::Result<()> {
    stage.manifests("a", &fleet(N_ROUTES, 1))?;
    a.wait_until("the leader to write", PATIENCE, async || {
        let n_held = stage.n_held().await?;
        ensure!(n_held > 100, "there are {n_held} keys");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_leader_killed_while_it_writes_is_followed_by_a_standby_that_goes_on() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let stage = Stage::new(&[etcd.endpoint()], "killed").await?;
    let (a, before, b) = leader_and_standby(&stage, &SHORT).await?;

    among_its_transactions(&stage, &a).await?;
    kill(&a).await?;
    // It comes while nobody leads.
    stage.manifests("b", &fleet(N_ROUTES, 2))?;
    stage.leads(&b, "b", before).await?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;

    counted(&b, "leader", &[], |leader| leader == 1).await?;
    ensure!(metric(&b, "transactions_total", &["outcome=\"applied\""]).await? > 0);
    assert_eq!(metric(&b, "transactions_total", &["outcome=\"fenced\""]).await?, 0);
    ensure!(b.log().contains("took over"), "{}", b.log());
    let told = stage.judged().await?;
    assert_eq!(told.leaders.first().map(String::as_str), Some("a"), "{told:?}");
    assert_eq!(told.leaders.last().map(String::as_str), Some("b"), "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_leader_paused_past_its_lease_writes_nothing_when_it_wakes_and_ends_as_a_standby() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let stage = Stage::new(&[etcd.endpoint()], "paused").await?;
    let (a, before, b) = leader_and_standby(&stage, &SHORT).await?;

    // It is stopped among its transactions, and wakes with answers to the last ones, and most of its work yet to do.
    among_its_transactions(&stage, &a).await?;
    a.process().signal("STOP")?;
    stage.manifests("b", &fleet(N_ROUTES, 2))?;
    let after = stage.leads(&b, "b", before).await?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;
    // Older than what it will find in etcd.
    stage.manifests("a", &fleet(N_ROUTES, 3))?;
    a.process().signal("CONT")?;

    stands_by(&a).await?;
    counted(&a, "leadership_changes_total", &[], |changes| changes >= 2).await?;
    let log = a.log();
    ensure!(log.contains("not leading any more"), "{log}");
    // What comes after it is a mark: until then the old leader had every chance to write.
    stage.manifests("a", &fleet(N_ROUTES, 4))?;
    stage.manifests("b", &fleet(N_ROUTES, 4))?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;
    assert_eq!(stage.leader("default").await?, Some(("b".to_owned(), after)));
    assert_eq!(metric(&a, "leader", &[]).await?, 0);
    let told = stage.judged().await?;
    assert_eq!(told.leaders, ["a", "b"], "{told:?}");
    Ok(())
}

#[tokio::test]
async fn a_leader_that_lost_its_key_while_paused_is_refused_although_its_own_clock_says_that_it_leads()
-> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let stage = Stage::new(&[etcd.endpoint()], "deposed").await?;
    // Its lease outlives the test.
    let (a, before, b) = leader_and_standby(&stage, &["--lease-ttl", "10m", "--write-stall", "10m"]).await?;

    among_its_transactions(&stage, &a).await?;
    a.process().signal("STOP")?;
    stage.client().await?.delete(format!("{}/default/leader", stage.control()), None).await?;
    stage.manifests("b", &fleet(N_ROUTES, 2))?;
    let after = stage.leads(&b, "b", before).await?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;
    a.process().signal("CONT")?;

    stands_by(&a).await?;
    let n_fenced = metric(&a, "transactions_total", &["outcome=\"fenced\""]).await?;
    let log = a.log();
    ensure!(n_fenced > 0 || log.contains("not leading any more"), "{log}");
    stage.manifests("a", &fleet(N_ROUTES, 4))?;
    stage.manifests("b", &fleet(N_ROUTES, 4))?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;
    assert_eq!(stage.leader("default").await?, Some(("b".to_owned(), after)));
    let told = stage.judged().await?;
    assert_eq!(told.leaders, ["a", "b"], "{told:?}");
    Ok(())
}
