//! The mass hold, as a user sees it: what would stop most routes of a data plane at once waits for a word.

use super::{
    claims::PROGRAMMED,
    objects::{CLASS, gateway, route, service},
    road::{BY_LABEL, FIRST_PORT, Link, crowd, crowd_route, with_own_etcd},
    scene::{Scene, keys},
    support::{
        deployment::kubectl,
        kubernetes::Crds,
        servers::{Servers, fresh},
    },
};
use anyhow::{Context as _, ensure};
use serde_json::Value;

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];

/// More than one cause may stop, on as many Gateways as it takes.
const N_ROUTES: u16 = 150;

impl Scene {
    /// A crowd of which the label of its namespace decides.
    async fn open_crowd(servers: Servers, hint: &str) -> anyhow::Result<Self> {
        let place = servers.place(hint).await?;
        let scene = Self::start(servers, place, &[])?;
        scene.label(Some("open")).await?;
        scene.apply_crowd(N_ROUTES, BY_LABEL).await?;
        scene.serves_exactly(crowd(N_ROUTES), NODES).await?;
        Ok(scene)
    }

    /// Waits until so many slots are held.
    async fn held(&self, n_slots: u64) -> anyhow::Result<()> {
        self.until(&format!("{n_slots} slots to be held"), async || {
            let held = self.metric("slots_held", &[]).await?;
            ensure!(held == n_slots, "{held} are");
            Ok(())
        })
        .await
    }

    /// Waits until `kubectl get events` shows what is held, and by what name it is released.
    async fn event_says(&self, name: &str) -> anyhow::Result<()> {
        let kubeconfig = self.servers.kubernetes.kubeconfig().to_str().context("a path is text")?;
        let arguments = ["--kubeconfig", kubeconfig, "get", "events", "--all-namespaces", "--output=json"];
        self.until(&format!("an Event that says how to release {name}"), async || {
            let events: Value = serde_json::from_str(&kubectl(&arguments)?).context("kubectl prints JSON")?;
            let events = events["items"].as_array().context("events are a list")?;
            let note = format!("release {name}");
            let found = events.iter().find(|event| {
                event["reason"] == "ChangeHeld" && event["message"].as_str().is_some_and(|said| said.contains(&note))
            });
            let found = found.with_context(|| format!("none of {} events", events.len()))?;
            ensure!(found["type"] == "Warning", "{found}");
            Ok(())
        })
        .await
    }

    /// Asks for the release of a hold, as its Event says.
    async fn release(&self, name: &str) -> anyhow::Result<()> {
        let said = self.command(&["release", name], &[]).await?;
        ensure!(said.contains(name), "{said}");
        // The leader clears what it has carried out.
        self.until("the request to be cleared", async || {
            let asked_for = self.command(&["release", "--list"], &[]).await?;
            ensure!(asked_for.is_empty(), "{asked_for}");
            Ok(())
        })
        .await
    }
}

#[tokio::test]
async fn a_label_that_would_stop_most_routes_is_held_until_it_is_released() -> anyhow::Result<()> {
    let scene = Scene::open_crowd(with_own_etcd().await?, "held").await?;
    let strangers = scene.settle_strangers().await?;
    scene.all_programmed(N_ROUTES.into()).await?;
    let (revision, name) = (scene.revision().await?, format!("namespace/{}", scene.place.namespace));

    scene.label(None).await?;
    scene.held(N_ROUTES.into()).await?;
    scene.event_says(&name).await?;
    let named = scene.object("TCPRoute", "r9100");
    let refused = [("Accepted", "False/NotAllowedByListeners"), (PROGRAMMED, "False/Held")];
    let entry = scene.route_at_says(&named, "p9100", &refused).await?;
    ensure!(keys(&scene.history(revision).await?).is_empty(), "{entry}");
    scene.serves_exactly(crowd(N_ROUTES), NODES).await?;

    scene.release(&name).await?;
    scene.emptied().await?;
    scene.held(0).await?;
    scene.logs("released; going on").await?;

    // Back again, and gone one after another: nobody is asked about that.
    scene.label(Some("open")).await?;
    scene.serves_exactly(crowd(N_ROUTES), NODES).await?;
    scene.all_programmed(N_ROUTES.into()).await?;
    let log = scene.controller.log().len();
    for port in crowd(N_ROUTES) {
        scene.delete("TCPRoute", &crowd_route(port)).await?;
    }
    scene.emptied().await?;
    assert_eq!(scene.metric("slots_held", &[]).await?, 0);
    ensure!(!scene.controller.log()[log..].contains("held back"));
    assert_eq!(scene.strangers().await?, strangers);
    scene.controller.ready().await
}

#[tokio::test]
async fn endpoints_that_most_routes_would_lose_are_held_and_the_routes_say_so() -> anyhow::Result<()> {
    let scene = Scene::open_crowd(with_own_etcd().await?, "endpoints").await?;
    let strangers = scene.settle_strangers().await?;
    let revision = scene.revision().await?;
    scene.delete("EndpointSlice", "web-1").await?;
    scene.held(N_ROUTES.into()).await?;
    scene.event_says(&format!("endpointslice/{}/web-1", scene.place.namespace)).await?;
    for port in [FIRST_PORT, FIRST_PORT + N_ROUTES - 1] {
        let held = [("Accepted", "True/Accepted"), (PROGRAMMED, "False/Held")];
        scene.route_says(&crowd_route(port), &format!("p{port}"), &held).await?;
    }
    // Everything else goes on.
    scene.apply(gateway("edge", &[("tcp", 9000)]) + &service("other", &["10.0.0.9"])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("other", 1)])).await?;
    scene.served(9000, "app", &[("10.0.0.9:8080", 1)]).await?;
    scene.held(N_ROUTES.into()).await?;
    scene.apply(service("web", &["10.0.0.1"])).await?;
    scene.held(0).await?;
    scene.all_programmed(usize::from(N_ROUTES) + 1).await?;
    let history = scene.history(revision).await?;
    ensure!(history.len() == 2, "{history:?}");
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn a_class_that_turns_to_another_controller_is_held_until_it_is_ours_again() -> anyhow::Result<()> {
    // While a class is absent, its Gateways keep their ports on the whole cluster.
    let servers = Box::pin(fresh(Crds::Standard161)).await?;
    let scene = Scene::open_crowd(servers, "class-turns").await?;
    let strangers = scene.settle_strangers().await?;
    let class = scene.place.gateway_class.clone();
    let revision = scene.revision().await?;
    // The name of the controller cannot be changed, so the class is made anew. As long as there is none, nothing stops.
    scene.delete_class_by_force().await?;
    scene.apply(CLASS.replace("$CONTROLLER", "example.com/another")).await?;
    scene.held(N_ROUTES.into()).await?;
    scene.event_says(&format!("gatewayclass/{class}")).await?;
    scene.serves_exactly(crowd(N_ROUTES), NODES).await?;

    scene.delete("GatewayClass", &class).await?;
    scene.apply(CLASS).await?;
    scene.held(0).await?;
    scene.all_programmed(N_ROUTES.into()).await?;
    scene.serves_exactly(crowd(N_ROUTES), NODES).await?;
    let history = scene.history(revision).await?;
    ensure!(keys(&history).is_empty(), "{history:?}");
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}

#[tokio::test]
async fn a_controller_that_is_started_with_a_wrong_name_holds_instead_of_emptying_the_prefix() -> anyhow::Result<()> {
    let mut scene = Scene::open_crowd(with_own_etcd().await?, "wrong-name").await?;
    let strangers = scene.settle_strangers().await?;
    scene.stop().await?;
    let revision = scene.revision().await?;
    let Scene { servers, place, .. } = scene;
    let wrong = Link { controller_name: Some("apisix-etcd.io/somebody-else"), ..Link::default() };
    scene = Scene::of(servers.clone(), place.clone(), wrong.start(&servers, &place)?);
    scene.held(N_ROUTES.into()).await?;
    scene.logs("\"start\"").await?;
    scene.controller.ready().await?;
    let history = scene.history(revision).await?;
    ensure!(keys(&history).is_empty(), "{history:?}");
    scene.serves_exactly(crowd(N_ROUTES), NODES).await?;
    scene.stop().await?;

    // With the right name there is nothing to hold, and nothing to do.
    let Scene { servers, place, .. } = scene;
    scene = Scene::of(servers.clone(), place.clone(), Link::default().start(&servers, &place)?);
    scene.controller.ready().await?;
    scene.counted("leader", &[], 1).await?;
    scene.held(0).await?;
    scene.all_programmed(N_ROUTES.into()).await?;
    let history = scene.history(revision).await?;
    ensure!(keys(&history).is_empty(), "{history:?}");
    assert_eq!(scene.strangers().await?, strangers);
    Ok(())
}
