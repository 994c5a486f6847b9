//! etcd full: what it does not take is kept in mind, said, and written once there is space.

use super::{
    claims::PROGRAMMED,
    fleet::fleet,
    objects::{CLASS, gateway, route, service},
    scene::Scene,
    stage::{Stage, counted, kill, stands_by, until},
    support::{
        binaries::Binary,
        etcd::{Etcd, Setup},
        servers::{Servers, shared},
        wait::PATIENCE,
    },
};
use anyhow::{Context as _, ensure};
use etcd_client::{AlarmAction, AlarmType, Client, CompactionOptions, DeleteOptions};
use std::sync::Arc;

/// What etcd may hold: small, so that it is full soon.
const QUOTA: &str = "--quota-backend-bytes=16777216";

/// How long one key of what fills it is.
const FILL_BYTES: usize = 1 << 20;

/// Enough of them for any quota here.
const FILLS_MAX: usize = 64;

async fn fill(client: &mut Client) -> anyhow::Result<()> {
    for number in 0..FILLS_MAX {
        if let Err(error) = client.put(format!("/fill/{number}"), vec![b'x'; FILL_BYTES], None).await {
            ensure!(error.to_string().contains("space exceeded"), "{error}");
            return Ok(());
        }
    }
    anyhow::bail!("it does not get full")
}

/// What an administrator does about it.
async fn make_space(client: &mut Client) -> anyhow::Result<()> {
    let deleted = client.delete("/fill/", Some(DeleteOptions::new().with_prefix())).await?;
    let revision = deleted.header().context("an answer has a header")?.revision();
    client.compact(revision, Some(CompactionOptions::new().with_physical())).await?;
    client.defragment().await?;
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
    ensure!(alarms.alarms().len() == 1, "{alarms:?}");
    for alarm in alarms.alarms() {
        let mut of_member = etcd_client::AlarmOptions::new();
        of_member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await?;
    }
    Ok(())
}

/// Waits until the leader's lease was renewed.
async fn renewed(client: &mut Client, leader_key: &str) -> anyhow::Result<()> {
    let mut last = i64::MAX;
    until("the lease to be renewed", async || {
        let found = client.get(leader_key, None).await?;
        let lease = found.kvs().first().context("nobody leads")?.lease();
        let left = client.lease_time_to_live(lease, None).await?.ttl();
        let grown = left > last;
        last = left;
        ensure!(grown, "{left} seconds are left of it");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn while_etcd_is_full_the_leader_leads_on_and_says_so_and_what_is_missing_comes_when_there_is_space()
-> anyhow::Result<()> {
    let setup = Setup { tls: None, arguments: vec![QUOTA.to_owned()] };
    let etcd = Arc::new(Etcd::start_as(Binary::Etcd, &setup).await?);
    let servers = Servers { kubernetes: shared().await?.kubernetes, etcd: etcd.clone() };
    let place = servers.place("full").await?;
    let scene = Scene::start(servers, place, &["--lease-ttl", "9s", "--replica-name", "a"])?;
    let listeners = [("one", 9100), ("two", 9200)];
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &listeners)).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    let before = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "one", &[(PROGRAMMED, "True/Programmed")]).await?;
    scene.counted("store_full", &[], 0).await?;

    let mut client = etcd.client().await?;
    fill(&mut client).await?;
    scene.apply(service("web", &["10.0.0.2"]) + &route("late", ("edge", "two"), &[("web", 1)])).await?;
    scene.counted("store_full", &[], 1).await?;
    let pending = [("Accepted", "True/Accepted"), (PROGRAMMED, "False/Pending")];
    scene.route_says("late", "two", &pending).await?;
    ensure!(scene.controller.log().contains("etcd refused a transaction"), "{}", scene.controller.log());
    // Nobody could take its place: a lease is not granted, but renewed.
    let leader_key = format!("{}/default/leader", scene.place.control_prefix);
    renewed(&mut client, &leader_key).await?;
    renewed(&mut client, &leader_key).await?;
    assert_eq!(scene.metric("leader", &[]).await?, 1);
    assert_eq!(scene.documents().await?.0, before.0);

    // A leader that ended its term meanwhile would do as well, but this one did not.
    make_space(&mut client).await?;
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    scene.served(9200, "late", &[("10.0.0.2:8080", 1)]).await?;
    scene.route_says("late", "two", &[(PROGRAMMED, "True/Programmed")]).await?;
    assert_eq!(scene.metric("store_full", &[]).await?, 0);
    assert_eq!(scene.metric("leadership_changes_total", &[]).await?, 1);
    assert_eq!(scene.metric("transactions_total", &["outcome=\"fenced\""]).await?, 0);
    scene.controller.ready().await
}

#[tokio::test]
async fn a_leader_that_dies_while_etcd_is_full_is_followed_once_there_is_space() -> anyhow::Result<()> {
    let setup = Setup { tls: None, arguments: vec![QUOTA.to_owned()] };
    let etcd = Etcd::start_as(Binary::Etcd36, &setup).await?;
    let stage = Stage::new(&[etcd.endpoint()], "dies-full").await?;
    for name in ["a", "b"] {
        stage.manifests(name, &fleet(20, 0))?;
    }
    let a = stage.replica("a", &[])?;
    let before = stage.leads(&a, "a", 0).await?;
    let held = stage.holds(&a, &stage.wanted("a", &[]).await?).await?;
    let b = stage.replica("b", &[])?;
    stands_by(&b).await?;

    let mut client = etcd.client().await?;
    fill(&mut client).await?;
    kill(&a).await?;
    stage.manifests("b", &fleet(20, 1))?;
    b.wait_until("it to say that it cannot campaign", PATIENCE, async || {
        ensure!(b.log().contains("cannot campaign"), "it does not");
        Ok(())
    })
    .await?;
    assert_eq!(stage.held().await?, held);

    make_space(&mut client).await?;
    stage.leads(&b, "b", before).await?;
    stage.holds(&b, &stage.wanted("b", &[]).await?).await?;
    counted(&b, "store_full", &[], |full| full == 0).await?;
    Ok(())
}
