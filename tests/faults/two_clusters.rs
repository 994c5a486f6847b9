//! Two clusters that were given one instance name, and the person who sorts it out.

use super::{
    fleet::fleet,
    objects::{CLASS, gateway, route, service},
    scene::Scene,
    stage::{Stage, counted, metric},
    support::servers::shared,
};
use anyhow::{Context as _, ensure};
use serde_json::Value;

/// The port of the second cluster's only route.
const PORT: u16 = 9100;

#[tokio::test]
async fn the_second_of_two_clusters_with_one_instance_name_stops_and_says_so_until_a_person_decides()
-> anyhow::Result<()> {
    let servers = shared().await?;
    let mut place = servers.place("two-clusters").await?;
    let stage = Stage::new(&[servers.etcd.endpoint()], "two-clusters-of").await?;
    (place.etcd_prefix, place.control_prefix) = (stage.prefix(), stage.control());
    stage.manifests("first", &fleet(4, 0))?;
    let first = stage.replica("first", &["--lease-ttl", "30s"])?;
    let of_first = stage.wanted("first", &[]).await?;
    let before = stage.holds(&first, &of_first).await?;
    let led = stage.leader("default").await?;

    // A cluster with other objects, which does not know the first one.
    let second = Scene::start(servers, place, &["--replica-name", "second", "--lease-ttl", "30s"])?;
    second.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("one", PORT)])).await?;
    second.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    let why = second
        .until("the second controller to say what it waits for", async || {
            let answer = second.controller.ask("/readyz").await?;
            ensure!(answer.status == 503 && answer.body.lines().count() == 1, "{answer:?}");
            Ok(answer.body)
        })
        .await?;
    ensure!(why.contains("a person") && why.contains("cluster folder") && why.contains("Two clusters"), "{why}");
    second.counted("halted", &[], 1).await?;
    // The first one works on, and nothing of it is touched.
    stage.manifests("first", &fleet(5, 0))?;
    let of_first_now = stage.wanted("first", &[]).await?;
    let after = stage.holds(&first, &of_first_now).await?;
    for (key, held) in &before {
        assert_eq!(after[key], *held, "{key}");
    }
    assert_eq!(stage.leader("default").await?, led);
    assert_eq!(metric(&first, "halted", &[]).await?, 0);
    assert_eq!(second.metric("leadership_changes_total", &[]).await?, 0);
    let (status, shown, err) = stage.control_command(&["checkpoint", "show", "--output", "json"]).await?;
    ensure!(status == 0, "{shown}{err}");
    let shown: Value = serde_json::from_str(&shown)?;
    assert_eq!(shown["leader"]["holder"], "first");
    let newest = shown["newest"].as_u64().context("there is a newest lane")?;
    let lanes = shown["lanes"].as_array().context("lanes are a list")?;
    let lane = lanes.iter().find(|lane| lane["lane"] == newest).context("the newest lane is there")?;
    assert_eq!((&lane["record"]["cluster"], &lane["record"]["holder"]), (&"folder".into(), &"first".into()));

    let (status, log) = first.stop().await?;
    ensure!(status == 0, "{log}");
    // Nobody leads, and it does not for all that.
    second.counted("halted", &[], 1).await?;
    assert_eq!(stage.held().await?, after);
    let (status, out, err) = stage.control_command(&["checkpoint", "reset", "--yes"]).await?;
    ensure!(status == 0, "{out}{err}");

    // What the first one left is of this instance, and nobody wants it any more.
    second
        .until("the second cluster's documents, and no others", async || {
            let documents = second.documents().await?;
            documents.serve(PORT, &format!("TCPRoute {}", second.named("app")), &[("10.0.0.1:8080", 1)])?;
            ensure!(documents.of_our_shape().len() == 2, "{:?}", documents.0.keys());
            Ok(())
        })
        .await?;
    ensure!(second.documents().await?.0.contains_key("/upstreams/theirs"), "what is foreign is gone");
    second.controller.ready().await?;
    assert_eq!(second.metric("halted", &[]).await?, 0);
    counted(&second.controller, "leader", &[], |leader| leader == 1).await?;
    second.route_says("app", "one", &[(super::claims::PROGRAMMED, "True/Programmed")]).await?;
    let told = stage.judged().await?;
    assert_eq!(told.leaders.first().map(String::as_str), Some("first"), "{told:?}");
    assert_eq!(told.leaders.last().map(String::as_str), Some("second"), "{told:?}");
    Ok(())
}
