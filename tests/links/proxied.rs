//! A proxy between the controller and etcd, or between it and Kubernetes, that cuts, delays, swallows and stalls.

use super::{
    objects::service,
    road::{BY_LABEL, Link, crowd, crowd_route, no_slot_without_pool, only_whole_documents, with_own_etcd},
    scene::Scene,
    support::{etcd::Written, proxy::Proxy},
};
use anyhow::ensure;
use std::time::Duration;

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];
const OTHER_NODES: &[(&str, u64)] = &[("10.0.0.2:8080", 1)];

/// A controller that reaches etcd through a proxy.
struct Proxied {
    scene: Scene,
    proxy: Proxy,
    begun: i64,
}

impl Proxied {
    async fn start(hint: &str, more: &[&str]) -> anyhow::Result<Self> {
        let servers = with_own_etcd().await?;
        let place = servers.place(hint).await?;
        let proxy = Proxy::start(servers.etcd.endpoint()).await?;
        let begun = servers.etcd.revision().await?;
        let link = Link { endpoint: Some(&proxy.endpoint()), more, ..Link::default() };
        let controller = link.start(&servers, &place)?;
        Ok(Self { scene: Scene::of(servers, place, controller), proxy, begun })
    }

    /// What must be so after every fault.
    async fn all_is_well(&self, n_routes: u16, nodes: &[(&str, u64)]) -> anyhow::Result<()> {
        self.scene.serves_exactly(crowd(n_routes), nodes).await?;
        self.scene.all_programmed(usize::from(n_routes)).await?;
        let history: Vec<Written> = self.scene.history(self.begun).await?;
        no_slot_without_pool(&history)?;
        only_whole_documents(&history)?;
        self.scene.controller.ready().await
    }
}

#[tokio::test]
async fn a_link_to_etcd_that_is_cut_and_mended_loses_nothing() -> anyhow::Result<()> {
    let proxied = Proxied::start("cut", &["--etcd-timeout=2s", "--lease-ttl=2s"]).await?;
    let (scene, proxy) = (&proxied.scene, &proxied.proxy);
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(20, "").await?;
    proxied.all_is_well(20, NODES).await?;
    assert_eq!(scene.metric("lease_renewals_failed_total", &[]).await?, 0);

    proxy.cut();
    scene.apply(service("web", &["10.0.0.2"])).await?;
    scene.delete("TCPRoute", &crowd_route(9105)).await?;
    // It notices that it may not lead any more, and routes say no more than is true.
    scene.counted("leadership_changes_total", &[], 2).await?;
    scene.counted("lease_renewals_failed_total", &[], 1).await?;
    assert_eq!(scene.metric("leader", &[]).await?, 0);

    proxy.mend();
    let left = crowd(20).filter(|port| *port != 9105);
    scene.serves_exactly(left, OTHER_NODES).await?;
    scene.all_programmed(19).await?;
    scene.apply_members([9105].into_iter()).await?;
    proxied.all_is_well(20, OTHER_NODES).await?;
    assert_eq!(scene.metric("leader", &[]).await?, 1);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn answers_that_come_late_slow_everything_down_and_break_nothing() -> anyhow::Result<()> {
    let proxied = Proxied::start("late", &[]).await?;
    let (scene, proxy) = (&proxied.scene, &proxied.proxy);
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(150, "").await?;
    proxied.all_is_well(150, NODES).await?;
    let changes = scene.metric("leadership_changes_total", &[]).await?;

    proxy.delay(Duration::from_millis(300));
    scene.apply(service("web", &["10.0.0.2"])).await?;
    proxied.all_is_well(150, OTHER_NODES).await?;
    scene.delete("TCPRoute", &crowd_route(9100)).await?;
    scene.serves_exactly(crowd(150).skip(1), OTHER_NODES).await?;
    proxy.mend();
    scene.apply_members([9100].into_iter()).await?;
    proxied.all_is_well(150, OTHER_NODES).await?;
    // Late is not lost: nothing was settled, and nobody else led.
    assert_eq!(scene.metric("transactions_total", &["outcome=\"unanswered\""]).await?, 0);
    assert_eq!(scene.metric("leadership_changes_total", &[]).await?, changes);
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn answers_that_are_lost_in_the_middle_of_a_sync_are_settled_and_no_document_is_left_out() -> anyhow::Result<()> {
    const N_ROUTES: u16 = 300;
    const UNANSWERED: &[&str] = &["outcome=\"unanswered\""];
    let proxied = Proxied::start("swallowed", &["--etcd-timeout=1s", "--transactions-in-flight=2"]).await?;
    let (scene, proxy) = (&proxied.scene, &proxied.proxy);
    let strangers = scene.settle_strangers().await?;
    // Nothing of it is let in until the namespace has its label; then all of it is at once.
    scene.apply_crowd(N_ROUTES, BY_LABEL).await?;
    scene.counted("objects", &["kind=\"tcproute\""], N_ROUTES.into()).await?;

    // Slow enough that there is a middle.
    proxy.delay(Duration::from_millis(50));
    let revision = scene.revision().await?;
    scene.label(Some("open")).await?;
    scene.written_since(revision).await?;
    proxy.swallow_answers();
    scene.counted("transactions_total", UNANSWERED, 1).await?;
    proxy.mend();
    proxied.all_is_well(N_ROUTES, NODES).await?;

    for nodes in [OTHER_NODES, NODES, OTHER_NODES] {
        let unanswered = scene.metric("transactions_total", UNANSWERED).await?;
        proxy.swallow_answers();
        scene.apply(service("web", &[nodes[0].0.trim_end_matches(":8080")])).await?;
        // What etcd gets whole is applied, and the controller does not hear of it; what is more than etcd lets it send unheard
        // (the windows of HTTP/2 are in the answers, too) is not. Which it is, nobody can say.
        scene.counted("transactions_total", UNANSWERED, unanswered + 1).await?;
        proxy.mend();
        proxied.all_is_well(N_ROUTES, nodes).await?;
    }
    assert_eq!(scene.strangers().await?, strangers);
    proxied.all_is_well(N_ROUTES, OTHER_NODES).await
}

impl Scene {
    /// Waits until a document of ours has been written after `revision`.
    async fn written_since(&self, revision: i64) -> anyhow::Result<()> {
        self.until("a document to be written", async || {
            let documents = self.documents().await?.0;
            let mut ours = documents.iter().filter(|(key, _)| key.contains("/gateway-api."));
            ensure!(ours.any(|(_, held)| held.mod_revision > revision), "none was");
            Ok(())
        })
        .await
    }
}
