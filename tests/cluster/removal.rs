//! What is left when objects go.

use super::{
    claims::{PROGRAMMED, items},
    objects::{CLASS, gateway, route, service},
    scene::{Scene, keys},
};
use anyhow::ensure;

const SERVED: &[(&str, &str)] = &[("Accepted", "True/Accepted"), (PROGRAMMED, "True/Programmed")];

#[tokio::test]
async fn when_everything_is_deleted_only_placeholders_and_foreign_keys_are_left() -> anyhow::Result<()> {
    let mut scene = Scene::open("removal").await?;
    for (key, value) in [("/upstreams/mine", "{}"), ("/routes/1", "{}")] {
        scene.vandalise(key, Some(value)).await?;
    }
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    let before = scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 1)]).await?;

    let revision = scene.revision().await?;
    scene.delete("TCPRoute", "app").await?;
    let after = scene.emptied().await?;
    assert_eq!(
        after.0.keys().collect::<Vec<_>>(),
        ["/routes/1", "/ssls/", "/stream_routes/", "/upstreams/", "/upstreams/mine"]
    );
    scene.gateway_says("edge", &[("Programmed", "True/Programmed")], &[("tcp", 0)]).await?;
    let history = scene.history_to_fence(revision).await?;
    // The upstream is deleted later than the stream_route that names it.
    assert_eq!(keys(&history), ["/stream_routes/gateway-api.9100", &before.pool_key(9100)?]);
    assert!(history.is_sorted_by(|a, b| a.revision < b.revision), "{history:?}");

    scene.delete("TCPRoute", "fence-0").await?;
    scene.emptied().await?;
    let revision = scene.revision().await?;
    scene.delete("Gateway", "edge").await?;
    scene.delete("Gateway", "fence-0").await?;
    let class = scene.place.gateway_class.clone();
    scene.delete("GatewayClass", &class).await?;
    scene.servers.kubernetes.gone(&scene.object("GatewayClass", &class)).await?;
    // What shows that the controller has seen it all: everything comes again and is served.
    scene.apply(CLASS.to_owned() + &gateway("edge", &[("tcp", 9100)])).await?;
    assert_eq!(keys(&scene.history_to_fence(revision).await?), Vec::<&str>::new());
    let documents = scene.documents().await?;
    for (key, held) in &after.0 {
        assert_eq!(documents.at(key)?, held);
    }
    Ok(())
}

#[tokio::test]
async fn a_gateway_deleted_under_its_route_takes_documents_and_our_entry_along() -> anyhow::Result<()> {
    let scene = Scene::open("gateway-gone").await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"]) + &gateway("edge", &[("tcp", 9100)])).await?;
    scene.apply(route("app", ("edge", "tcp"), &[("web", 1)])).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    scene.delete("Gateway", "edge").await?;
    scene.emptied().await?;
    let app = scene.object("TCPRoute", "app");
    scene
        .until("our entry to go", async || {
            let route = scene.get(&app).await?;
            ensure!(items(&route, "/status/parents").is_empty(), "{}", route["status"]);
            Ok(())
        })
        .await?;
    // And back again.
    scene.apply(gateway("edge", &[("tcp", 9100)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "tcp", SERVED).await?;
    Ok(())
}

#[tokio::test]
async fn while_the_class_is_gone_documents_stay_and_nothing_new_is_served() -> anyhow::Result<()> {
    let mut scene = Scene::open("class-gone").await?;
    scene.apply(CLASS.to_owned() + &service("web", &["10.0.0.1"])).await?;
    let listeners = [("one", 9100), ("two", 9200)];
    scene.apply(gateway("edge", &listeners) + &route("app", ("edge", "one"), &[("web", 1)])).await?;
    scene.served(9100, "app", &[("10.0.0.1:8080", 1)]).await?;
    scene.route_says("app", "one", SERVED).await?;
    let before = scene.documents().await?;
    let revision = scene.revision().await?;

    scene.delete_class_by_force().await?;
    scene.apply(service("web", &["10.0.0.2"]) + &route("late", ("edge", "two"), &[("web", 1)])).await?;
    // What shows that the controller has seen that: a change of another class of the same controller is served.
    scene.place.gateway_class.push_str("-second");
    scene.apply(CLASS).await?;
    let history = scene.history_to_fence(revision).await?;
    assert_eq!(keys(&history), Vec::<&str>::new(), "{history:?}");
    assert_eq!(scene.documents().await?.slot(9100)?, before.slot(9100)?);

    let second = scene.place.gateway_class.clone();
    scene.place.gateway_class.truncate(second.len() - "-second".len());
    scene.apply(CLASS).await?;
    scene.served(9100, "app", &[("10.0.0.2:8080", 1)]).await?;
    scene.served(9200, "late", &[("10.0.0.2:8080", 1)]).await?;
    scene.route_says("late", "two", SERVED).await?;
    Ok(())
}
