//! etcd away, in part or whole, for a while: killed among writes, losing members, compacted behind our back.

use super::{
    fleet::{FIRST_PORT, fleet},
    stage::{Stage, counted, metric, stands_by},
    support::{binaries::Binary, etcd::Etcd, etcd_cluster::EtcdCluster, proxy::Proxy, wait::PATIENCE},
};
use anyhow::{Context as _, ensure};
use etcd_client::GetOptions;
use std::time::Duration;

/// A large sync on a machine with other work, by a binary that was built for tests.
const LONG: Duration = Duration::from_mins(6);

#[tokio::test]
async fn an_etcd_killed_in_the_middle_of_ten_thousand_routes_has_each_of_them_once_when_it_is_back()
-> anyhow::Result<()> {
    const N_ROUTES: u16 = 10_000;
    let etcd = Etcd::start(Binary::Etcd).await?;
    let stage = Stage::new(&[etcd.endpoint()], "ten-thousand").await?;
    for name in ["a", "b"] {
        stage.manifests(name, &fleet(N_ROUTES, 0))?;
    }
    let wanted = stage.wanted("a", &[]).await?;
    assert_eq!(wanted.len(), 2 * usize::from(N_ROUTES));
    // Longer than etcd is away, and than one look at ten thousand routes takes a binary that was built for tests.
    let patient = ["--lease-ttl", "20s"];
    let a = stage.replica("a", &patient)?;
    a.wait_until("the sync to begin", LONG, async || {
        let n_held = stage.n_held().await?;
        ensure!(n_held > 2_000, "there are {n_held} keys");
        Ok(())
    })
    .await?;
    // It falls silent first, so that there are transactions which it never answers.
    etcd.process().signal("STOP")?;
    counted(&a, "transactions_total", &["outcome=\"unanswered\""], |n_unanswered| n_unanswered > 0).await?;
    etcd.stop().await?;
    let again = etcd.start_again().await?;
    let n_held = stage.n_held().await?;
    ensure!(n_held < i64::from(N_ROUTES), "{n_held} keys were there already: nothing was in its middle");
    let b = stage.replica("b", &patient)?;
    stage.holds_within(&a, &wanted, LONG).await?;

    b.wait_until("it to stand by", LONG, async || stands_by(&b).await).await?;
    a.wait_until("one to lead, and to have all documents in mind", LONG, async || {
        let (leader, _) = stage.leader("default").await?.context("nobody leads")?;
        let lead = [metric(&a, "leader", &[]).await?, metric(&b, "leader", &[]).await?];
        ensure!(lead == [u64::from(leader == "a"), u64::from(leader == "b")], "{leader} has the key, {lead:?}");
        let n_documents = metric(&a, "documents", &[]).await?;
        ensure!(n_documents == 2 * u64::from(N_ROUTES), "{n_documents} documents");
        Ok(())
    })
    .await?;
    let told = stage.judged().await?;
    // Each was written once: what was lost on the way was sent again, what had arrived was not.
    assert_eq!(told.n_writes.values().sum::<usize>(), wanted.len() + 3);
    ensure!(told.sequence >= u64::try_from(wanted.len() / 128)?, "{told:?}");
    drop(again);
    Ok(())
}

#[tokio::test]
async fn writes_go_on_when_an_etcd_of_three_loses_a_follower_and_then_its_leader() -> anyhow::Result<()> {
    let mut etcd = EtcdCluster::start(Binary::Etcd36).await?;
    let all = etcd.endpoints();
    let endpoints = all.join(",");
    let mut stage = Stage::new(&all.iter().map(String::as_str).collect::<Vec<_>>(), "members").await?;
    stage.manifests("a", &fleet(200, 0))?;
    let a = stage.replica_at(&endpoints, "a", &[])?;
    stage.holds(&a, &stage.wanted("a", &[]).await?).await?;

    let leader = etcd.leader().await?;
    let follower = etcd.running().into_iter().find(|number| *number != leader).context("a follower")?;
    etcd.stop(follower).await?;
    look_at_running(&mut stage, &etcd)?;
    stage.manifests("a", &fleet(200, 1))?;
    stage.holds(&a, &stage.wanted("a", &[]).await?).await?;

    etcd.start_again(follower).await?;
    let leader = etcd.leader().await?;
    etcd.stop(leader).await?;
    look_at_running(&mut stage, &etcd)?;
    etcd.leader().await?;
    stage.manifests("a", &fleet(250, 2))?;
    let wanted = stage.wanted("a", &[]).await?;
    stage.holds(&a, &wanted).await?;

    etcd.start_again(leader).await?;
    for number in etcd.running() {
        a.wait_until("every member to hold the same", PATIENCE, async || {
            let options = GetOptions::new().with_prefix().with_count_only().with_serializable();
            let answer = etcd.client(number).await?.get(format!("{}/", stage.prefix()), Some(options)).await?;
            let n_wanted = i64::try_from(wanted.len() + 4)?;
            ensure!(answer.count() == n_wanted, "member {number} holds {} of {n_wanted}", answer.count());
            Ok(())
        })
        .await?;
    }
    a.ready().await?;
    counted(&a, "leader", &[], |leader| leader == 1).await?;
    let told = stage.judged().await?;
    ensure!(told.leaders.iter().all(|leader| leader == "a"), "{told:?}");
    Ok(())
}

fn look_at_running(stage: &mut Stage, etcd: &EtcdCluster) -> anyhow::Result<()> {
    let running: Vec<&str> =
        etcd.running().into_iter().map(|number| etcd.endpoint(number)).collect::<Result<_, _>>()?;
    stage.look_at(&running);
    Ok(())
}

#[tokio::test]
async fn after_a_compaction_while_cut_off_everything_is_read_anew_and_only_what_differs_is_written()
-> anyhow::Result<()> {
    let etcd = Etcd::start(Binary::Etcd).await?;
    let (stage, proxy) = (Stage::new(&[etcd.endpoint()], "compacted").await?, Proxy::start(etcd.endpoint()).await?);
    stage.manifests("a", &fleet(50, 0))?;
    let a = stage.replica_at(&proxy.endpoint(), "a", &[])?;
    let began = stage.leads(&a, "a", 0).await?;
    let wanted = stage.wanted("a", &[]).await?;
    let before = stage.holds(&a, &wanted).await?;

    proxy.cut();
    let pool = wanted.keys().find(|key| key.contains("/upstreams/")).context("there is an upstream")?;
    let pool = pool.strip_prefix(&stage.prefix()).context("a key begins with the prefix")?;
    let hurt = [pool.to_owned(), format!("/stream_routes/gateway-api.{FIRST_PORT}")];
    stage.put(&hurt[0], "{}").await?;
    stage.delete(&hurt[1]).await?;
    let chronicle = stage.whole_chronicle().await?;
    let now = etcd.revision().await?;
    etcd.client().await?.compact(now, None).await?;
    // Its lease ends as well: what it compares with is of another term.
    a.wait_until("the lease to end", PATIENCE, async || {
        ensure!(stage.leader("default").await?.is_none(), "the leader key is there");
        Ok(())
    })
    .await?;
    proxy.mend();

    stage.leads(&a, "a", began).await?;
    let after = stage.holds(&a, &wanted).await?;
    for (key, held) in &before {
        let hurt = hurt.iter().any(|hurt| key.ends_with(hurt));
        ensure!(hurt != (after[key] == *held), "{key} was {held:?} and is {:?}", after[key]);
    }
    counted(&a, "drift_repaired_total", &[], |n| n >= 1).await?;
    // By reading anew at once, not because an audit came upon it later.
    ensure!(a.log().contains("compacted past our watch"), "{}", a.log());
    assert_eq!(metric(&a, "audits_failed_total", &[]).await?, 0);
    let n_read = a.log().matches("\"read etcd\"").count();
    ensure!(n_read >= 2, "etcd was read {n_read} times");
    let told = chronicle.and(stage.chronicle(now).await?).judge(&stage.prefix())?;
    ensure!(told.leaders.len() >= 2 && told.leaders.iter().all(|leader| leader == "a"), "{told:?}");
    assert_eq!(told.n_writes["a"], wanted.len() + 3 + hurt.len());
    Ok(())
}
