//! Edits by others while no controller ran, and several instances side by side.

use super::{
    fleet::{FIRST_PORT, fleet, fleet_at},
    stage::{Stage, counted, metric},
    support::{etcd::shared_etcd, wait::PATIENCE},
};
use anyhow::{Context as _, ensure};

fn slot(port: u16) -> String {
    format!("/stream_routes/gateway-api.{port}")
}

#[tokio::test]
async fn what_was_edited_and_deleted_while_no_controller_ran_is_put_right_at_the_start_and_counted()
-> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let stage = Stage::new(&[etcd.endpoint()], "edited").await?;
    stage.manifests("a", &fleet(6, 0))?;
    let wanted = stage.wanted("a", &[]).await?;
    let first = stage.replica("a", &[])?;
    let before = stage.holds(&first, &wanted).await?;
    let (status, log) = first.stop().await?;
    ensure!(status == 0, "{log}");

    let pool = wanted.keys().find(|key| key.contains("/upstreams/")).context("there is an upstream")?;
    let pool = pool.strip_prefix(&stage.prefix()).context("a key begins with the prefix")?;
    let edited = [slot(FIRST_PORT), pool.to_owned()];
    stage.put(&edited[0], r#"{"server_port":1}"#).await?;
    stage.put(&edited[1], "{}").await?;
    stage.delete(&slot(FIRST_PORT + 1)).await?;
    // Of our shape, and nobody wants it.
    stage.put(&slot(9), r#"{"id":"gateway-api.9","server_port":9}"#).await?;
    let again = stage.replica("a", &[])?;
    counted(&again, "drift_detected_total", &["what=\"edited\""], |n| n >= 3).await?;
    let after = stage.holds(&again, &wanted).await?;
    counted(&again, "drift_repaired_total", &[], |n| n >= 3).await?;
    for (key, held) in &before {
        let hurt = edited.iter().chain(&[slot(FIRST_PORT + 1)]).any(|edited| key.ends_with(edited));
        ensure!(hurt || after[key] == *held, "{key} was written although nobody had touched it");
    }
    stage.judged().await.map(drop)
}

#[tokio::test]
async fn instances_on_one_prefix_keep_their_own_and_leave_each_others_alone() -> anyhow::Result<()> {
    let etcd = shared_etcd().await?;
    let stage = Stage::new(&[etcd.endpoint()], "instances").await?;
    let (blue, green) = (["--instance", "blue"], ["--instance", "green"]);
    // The last port of blue is the first of green: blue comes first, and keeps it.
    let contended = FIRST_PORT + 3;
    stage.manifests("blue", &fleet_at(FIRST_PORT, 4, 0))?;
    stage.manifests("green", &fleet_at(contended, 4, 0))?;
    let mut wanted = stage.wanted("blue", &blue).await?;
    let blue_replica = stage.replica("blue", &blue)?;
    stage.holds(&blue_replica, &wanted).await?;
    let green_replica = stage.replica("green", &green)?;
    let of_green = stage.wanted("green", &green).await?;
    let taken = format!("{}{}", stage.prefix(), slot(contended));
    for (key, value) in of_green.iter().filter(|(key, _)| **key != taken) {
        wanted.insert(key.clone(), value.clone());
    }
    // What a slot would lead to is not kept for somebody else's slot.
    let held = green_replica
        .wait_until("green to have written", PATIENCE, async || {
            let held = stage.held().await?;
            let there = of_green.keys().filter(|key| key.contains("/stream_routes/")).all(|key| held.contains_key(key));
            ensure!(there, "{:?}", held.keys());
            Ok(held)
        })
        .await?;
    wanted.retain(|key, _| held.contains_key(key));
    let held = stage.holds(&green_replica, &wanted).await?;

    // Whose an edited document is hangs on who has a record, which each hears by a watch of its own: a request that is cleared
    // shows how far that has come.
    for (replica, instance) in [(&blue_replica, "blue"), (&green_replica, "green")] {
        let request = format!("{}/{instance}/releases/nothing", stage.control());
        stage.client().await?.put(request.as_str(), "", None).await?;
        replica
            .wait_until("the request to be cleared", PATIENCE, async || {
                let n_left = stage.client().await?.get(request.as_str(), None).await?.kvs().len();
                ensure!(n_left == 0, "{request} is there");
                Ok(())
            })
            .await?;
    }

    // One of each is edited. Not the one that both want: without a seal it is whose wants it, and that is both.
    let ours = [FIRST_PORT, contended + 1].map(slot);
    for key in &ours {
        stage.put(key, "{}").await?;
    }
    let healed = stage.holds(&blue_replica, &wanted).await?;
    counted(&blue_replica, "drift_repaired_total", &[], |n| n == 1).await?;
    counted(&green_replica, "drift_repaired_total", &[], |n| n == 1).await?;
    for (key, before) in &held {
        let hurt = ours.iter().any(|hurt| key.ends_with(hurt));
        ensure!(hurt || healed[key] == *before, "{key} was written although nobody had touched it");
    }

    // Without blue, green leaves everything of blue's, and goes on.
    let (status, log) = blue_replica.stop().await?;
    ensure!(status == 0, "{log}");
    stage.manifests("green", &fleet_at(contended, 5, 0))?;
    for (key, value) in stage.wanted("green", &green).await? {
        if !of_green.contains_key(&key) {
            wanted.insert(key, value);
        }
    }
    stage.holds(&green_replica, &wanted).await?;
    assert_eq!(metric(&green_replica, "transactions_total", &["outcome=\"fenced\""]).await?, 0);
    let told = stage.judged().await?;
    ensure!(told.leaders.contains(&"blue".to_owned()) && told.leaders.contains(&"green".to_owned()), "{told:?}");
    Ok(())
}
