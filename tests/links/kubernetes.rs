//! A link to Kubernetes that stands still or breaks, while the one to etcd is whole.

use super::{
    objects::service,
    road::{Link, crowd, with_own_etcd},
    scene::{Scene, keys},
    support::{process::folder, proxy::Proxy},
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];
const OTHER_NODES: &[(&str, u64)] = &[("10.0.0.2:8080", 1)];
const LAST_NODES: &[(&str, u64)] = &[("10.0.0.3:8080", 1)];

/// A controller that reaches Kubernetes through a proxy; the test itself does not.
struct Proxied {
    scene: Scene,
    proxy: Proxy,
    _kubeconfig: TempDir,
}

impl Proxied {
    async fn start(hint: &str) -> anyhow::Result<Self> {
        let servers = with_own_etcd().await?;
        let place = servers.place(hint).await?;
        let text = std::fs::read_to_string(servers.kubernetes.kubeconfig()).context("reading the kubeconfig")?;
        let mut config: Value = serde_json::from_str(&text).context("a kubeconfig of the tests is JSON")?;
        let server = config.pointer_mut("/clusters/0/cluster/server").context("a kubeconfig has a server")?;
        let proxy = Proxy::start(server.as_str().context("a server is text")?).await?;
        *server = json!(proxy.endpoint());
        let kubeconfig = folder()?;
        let path = kubeconfig.path().join("kubeconfig");
        std::fs::write(&path, config.to_string()).context("writing the kubeconfig")?;
        let controller = Link { kubeconfig: Some(&path), ..Link::default() }.start(&servers, &place)?;
        Ok(Self { scene: Scene::of(servers, place, controller), proxy, _kubeconfig: kubeconfig })
    }
}

#[tokio::test]
async fn while_every_watch_stands_still_what_was_known_is_kept_and_then_it_goes_on_where_it_was() -> anyhow::Result<()>
{
    let Proxied { scene, proxy, _kubeconfig } = Proxied::start("stalled").await?;
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(20, "").await?;
    scene.serves_exactly(crowd(20), NODES).await?;
    scene.all_programmed(20).await?;
    let lists = scene.metric("lists_total", &[]).await?;
    ensure!(lists > 0);

    proxy.stall();
    scene.apply(service("web", &["10.0.0.2"])).await?;
    let (revision, pool) = (scene.revision().await?, scene.documents().await?.pool_key(9100)?);
    // It minds etcd as ever, by what it knows.
    scene.vandalise(&pool, Some("{}")).await?;
    scene.serves_exactly(crowd(20), NODES).await?;
    assert_eq!(keys(&scene.history(revision).await?), [pool.as_str(), &pool]);
    scene.controller.ready().await?;

    proxy.mend();
    scene.serves_exactly(crowd(20), OTHER_NODES).await?;
    scene.all_programmed(20).await?;
    assert_eq!(scene.metric("lists_total", &[]).await?, lists);
    assert_eq!(scene.metric("drift_repaired_total", &[]).await?, 1);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn watches_that_break_are_taken_up_where_they_were_and_the_log_and_the_metric_tell() -> anyhow::Result<()> {
    let Proxied { scene, proxy, _kubeconfig } = Proxied::start("broken").await?;
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(20, "").await?;
    scene.serves_exactly(crowd(20), NODES).await?;
    scene.all_programmed(20).await?;
    let lists = scene.metric("lists_total", &[]).await?;

    proxy.cut();
    for kind in ["tcproute", "endpointslice", "gateway"] {
        scene.counted("read_failures_total", &[&format!("kind=\"{kind}\"")], 1).await?;
    }
    scene.logs("kind cannot be read, trying again").await?;
    scene.apply(service("web", &["10.0.0.2"])).await?;
    let (revision, pool) = (scene.revision().await?, scene.documents().await?.pool_key(9100)?);
    scene.vandalise(&pool, Some("{}")).await?;
    scene.serves_exactly(crowd(20), NODES).await?;
    assert_eq!(keys(&scene.history(revision).await?), [pool.as_str(), &pool]);
    scene.controller.ready().await?;

    proxy.mend();
    scene.serves_exactly(crowd(20), OTHER_NODES).await?;
    scene.apply(service("web", &["10.0.0.3"])).await?;
    scene.serves_exactly(crowd(20), LAST_NODES).await?;
    scene.all_programmed(20).await?;
    assert_eq!(scene.metric("lists_total", &[]).await?, lists);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}
