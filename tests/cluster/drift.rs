//! What others write into our prefix.

use super::{
    claims::PROGRAMMED,
    documents::slot_key,
    objects::{CLASS, gateway, route, service},
    scene::Scene,
};
use anyhow::ensure;

/// Keys that no controller of ours may write, and what is in them: ids not of our shape, and a directory not ours.
const FOREIGN: [(&str, &str); 3] = [
    ("/upstreams/mine", r#"{"id": "mine", "type": "roundrobin", "nodes": {"192.0.2.1:80": 1}}"#),
    ("/stream_routes/mine", r#"{"id": "mine", "server_port": 9999, "upstream_id": "mine"}"#),
    ("/routes/1", r#"{"id": "1", "uri": "/", "upstream_id": "mine"}"#),
];

#[tokio::test]
async fn edits_and_deletions_behind_our_back_are_put_right_and_foreign_keys_are_let_alone() -> anyhow::Result<()> {
    let mut scene = Scene::open("drift").await?;
    let beginning = scene.revision().await?;
    for (key, value) in FOREIGN {
        scene.vandalise(key, Some(value)).await?;
    }
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    let whole = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", &[(PROGRAMMED, "True/Programmed")]).await?;
    let (slot, pool) = (slot_key(9100), whole.pool_key(9100)?);
    assert_eq!(scene.metric("drift_detected_total", &[]).await?, 0);

    let edited_slot = r#"{"id": "gateway-api.9100", "server_port": 9100, "upstream_id": "mine"}"#;
    let harm: [(&str, Option<&str>); 7] = [
        (&pool, Some(r#"{"nodes": {"203.0.113.1:1": 1}}"#)),
        (&pool, Some("no JSON")),
        (&slot, Some(edited_slot)),
        (&pool, None),
        (&slot, None),
        ("/upstreams/", None),
        ("/stream_routes/", None),
    ];
    for (key, value) in harm {
        let before = scene.revision().await?;
        scene.vandalise(key, value).await?;
        scene
            .until(&format!("{key} to be healed of {value:?}"), async || {
                let (now, was) = (scene.documents().await?.at(key)?.clone(), whole.at(key)?);
                // Beyond the edit itself.
                ensure!(now.value == was.value && now.mod_revision > before + 1, "{now:?}");
                Ok(())
            })
            .await?;
    }
    let n_harm = u64::try_from(harm.len())?;
    scene.counted("drift_detected_total", &[], n_harm).await?;
    scene.counted("drift_repaired_total", &[], n_harm).await?;

    let history = scene.history_to_fence(beginning).await?;
    for (key, value) in FOREIGN {
        let writes: Vec<_> = history.iter().filter(|written| written.key == key).collect();
        assert!(matches!(writes[..], [only] if only.value.as_deref() == Some(value)), "{writes:?}");
    }
    // Written first, then harmed by us and healed by the controller, and never once more.
    let puts = |key: &str| history.iter().filter(|written| written.key == key && written.value.is_some()).count();
    assert_eq!(["/upstreams/", "/stream_routes/", &slot].map(puts), [2, 2, 4], "{history:?}");
    assert_eq!(scene.metric("drift_detected_total", &[]).await?, n_harm);
    assert_eq!(scene.metric("drift_repaired_total", &[]).await?, n_harm);
    scene.route_says("app", "tcp", &[(PROGRAMMED, "True/Programmed")]).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_done_to_documents_while_no_controller_ran_is_put_right_at_start() -> anyhow::Result<()> {
    let scene = Scene::open("drift-at-start").await?;
    let listeners = [("one", 9100), ("two", 9200)];
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &listeners)).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    scene.apply(route("gone", ("edge", "two"), &[("web", 1)])).await?;
    let whole = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    let pool_gone = scene.served(9200, "gone", &[("10.0.0.1:8080", 1)]).await?.pool_key(9200)?;
    let pool = whole.pool_key(9100)?;

    scene.stop().await?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene.delete("TCPRoute", "gone").await?;
    let scene = scene.start_again()?;
    scene
        .until("the edited upstream to be healed, and the deleted route's documents to go", async || {
            let now = scene.documents().await?;
            ensure!(now.at(&pool)?.value == whole.at(&pool)?.value, "{now:?}");
            ensure!(now.at(&pool_gone).is_err() && now.slot(9200).is_err(), "{:?}", now.0.keys());
            ensure!(now.slot(9100)? == whole.slot(9100)?, "{:?}", now.slot(9100));
            Ok(())
        })
        .await
}
