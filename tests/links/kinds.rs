//! A kind that etcd was last written from and that the cluster does not serve any more.

use super::{
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
    support::{
        kubernetes::{Crds, Named},
        servers::fresh,
    },
};
use anyhow::ensure;

const APP: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];

#[tokio::test]
async fn a_kind_that_is_gone_after_a_restart_stops_nothing_until_it_is_released() -> anyhow::Result<()> {
    let servers = Box::pin(fresh(Crds::Standard161)).await?;
    let place = servers.place("kind-gone").await?;
    let mut scene = Scene::start(servers, place, &[])?;
    let strangers = scene.settle_strangers().await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"])).await?;
    scene.apply(gateway("edge", &[("one", 9100), ("two", 9200)])).await?;
    scene.apply(route("app", ("edge", "one"), &[("web", 1)])).await?;
    scene.served(9100, "app", APP).await?;
    scene.stop().await?;

    let revision = scene.revision().await?;
    let definition = Named {
        api_version: "apiextensions.k8s.io/v1",
        kind: "CustomResourceDefinition",
        namespace: "",
        name: "tcproutes.gateway.networking.k8s.io",
    };
    scene.servers.kubernetes.delete(&definition).await?;
    scene.servers.kubernetes.gone(&definition).await?;
    scene = scene.start_again()?;
    scene.counted("kinds_missing", &[], 1).await?;
    scene.logs("kind/gateway.networking.k8s.io/tcproutes").await?;
    scene.controller.ready().await?;
    // A Gateway is told by its status that it was looked at; its slot is not stopped.
    scene.apply(gateway("later", &[("three", 9300)])).await?;
    scene.gateway_says("later", &[("Accepted", "True/Accepted")], &[]).await?;
    let history = scene.history(revision).await?;
    ensure!(keys(&history).is_empty(), "{history:?}");
    scene.documents().await?.serve(9100, &format!("TCPRoute {}", scene.named("app")), APP)?;

    scene.command(&["release", "kind/gateway.networking.k8s.io/tcproutes"], &[]).await?;
    scene.emptied().await?;
    scene
        .until("nothing to be missing", async || {
            let missing = scene.metric("kinds_missing", &[]).await?;
            ensure!(missing == 0, "{missing} are");
            Ok(())
        })
        .await?;
    // It is not asked for again.
    scene.stop().await?;
    scene = scene.start_again()?;
    scene.counted("leader", &[], 1).await?;
    scene.controller.ready().await?;
    scene.gateway_says("later", &[("Accepted", "True/Accepted")], &[]).await?;
    assert_eq!(scene.metric("kinds_missing", &[]).await?, 0);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}
