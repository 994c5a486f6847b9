//! The writer against a scripted API server that holds one object of each name and answers as Kubernetes does: patches are
//! refused when the object's version moved on.

use super::*;
use crate::model::names::ObjectName;
use crate::status::{
    print::StatusPrint,
    queue::{StatusSink as _, StatusUpdate},
    samples::{self, GENERATION, OURS, parent},
};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use tokio::task::JoinHandle;

/// What the server does to a patch instead of applying it.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// Somebody else writes the object just before.
    OvertakenBy(&'static str),
    /// Not 503, which the client itself tries again.
    Broken,
    Unprocessable,
    Silence,
    Deleted,
}

#[derive(Default)]
struct Cluster {
    objects: HashMap<String, Value>,
    mishaps: HashMap<String, VecDeque<Mishap>>,
    n_patches: HashMap<String, usize>,
}

type Shared = Arc<(Mutex<Cluster>, tokio::sync::Notify)>;

fn answer(code: StatusCode, body: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn failure(code: StatusCode) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
        "reason": "Scripted", "message": "scripted"});
    answer(code, &status)
}

fn bump(object: &mut Value) {
    let version: u64 = object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
}

async fn read(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let found = shared.0.lock().objects.get(&name).cloned();
    found.map_or_else(|| failure(StatusCode::NOT_FOUND), |object| answer(StatusCode::OK, &object))
}

async fn patch(State(shared): State<Shared>, Path(name): Path<String>, body: String) -> Response {
    let patch: Value = serde_json::from_str(&body).unwrap();
    let mishap = {
        let mut cluster = shared.0.lock();
        *cluster.n_patches.entry(name.clone()).or_default() += 1;
        cluster.mishaps.get_mut(&name).and_then(VecDeque::pop_front)
    };
    shared.1.notify_waiters();
    if matches!(mishap, Some(Mishap::Silence)) {
        return future::pending().await;
    }
    let mut cluster = shared.0.lock();
    match mishap {
        None | Some(Mishap::Silence) => {}
        Some(Mishap::Broken) => return failure(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Mishap::Unprocessable) => return failure(StatusCode::UNPROCESSABLE_ENTITY),
        Some(Mishap::Deleted) => {
            cluster.objects.remove(&name);
        }
        Some(Mishap::OvertakenBy(controller)) => {
            let object = cluster.objects.get_mut(&name).unwrap();
            let entry = json!({"controllerName": controller, "parentRef": {"name": "gw"}, "conditions": []});
            match object["status"]["parents"].as_array_mut() {
                Some(parents) => parents.push(entry),
                None => object["status"] = json!({"parents": [entry]}),
            }
            bump(object);
        }
    }
    let Some(object) = cluster.objects.get_mut(&name) else { return failure(StatusCode::NOT_FOUND) };
    if object["metadata"]["resourceVersion"] != patch["metadata"]["resourceVersion"] {
        return failure(StatusCode::CONFLICT);
    }
    for (field, value) in patch["status"].as_object().unwrap() {
        object["status"][field] = value.clone();
    }
    bump(object);
    let response = answer(StatusCode::OK, object);
    shared.1.notify_waiters();
    response
}

/// A writer at work against a scripted server.
struct Stage {
    shared: Shared,
    queue: StatusQueue,
    served: watch::Sender<Served>,
    stop: CancellationToken,
    writer: JoinHandle<()>,
    registry: Registry,
}

impl Stage {
    async fn new(concurrency: usize, objects: &[&str]) -> Self {
        let shared = Shared::default();
        for name in objects {
            let object = json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "TCPRoute",
                "metadata": {"name": name, "namespace": "default", "generation": GENERATION, "resourceVersion": "1"},
            });
            shared.0.lock().objects.insert((*name).to_owned(), object);
        }
        let path = "/apis/gateway.networking.k8s.io/v1/namespaces/default/tcproutes";
        let router = Router::new()
            .route(&format!("{path}/{{name}}"), get(read))
            .route(&format!("{path}/{{name}}/status"), axum::routing::patch(patch))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });

        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let queue = StatusQueue::default();
        let (served, receiver) =
            watch::channel(Served { versions: [(Kind::TcpRoute, "v1".into())].into(), ..Served::default() });
        let settings = WriterSettings {
            concurrency: NonZeroUsize::new(concurrency).unwrap(),
            request_timeout: Duration::from_millis(200),
            retry: RetryLimits::new(Duration::from_millis(1), Duration::from_millis(5)),
            ..WriterSettings::new(OURS.into())
        };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let stop = CancellationToken::new();
        let writer = tokio::spawn(write_statuses(queue.clone(), client, receiver, settings, metrics, stop.clone()));
        Self { shared, queue, served, stop, writer, registry }
    }

    fn mishaps(&self, name: &str, mishaps: &[Mishap]) {
        self.shared.0.lock().mishaps.insert(name.to_owned(), mishaps.iter().copied().collect());
    }

    fn publish(&self, name: &str, status: &Value) {
        let object = ObjectRef::new(Kind::TcpRoute, ObjectName::new("default", name));
        self.queue.clone().publish(StatusUpdate {
            object,
            status: status.clone(),
            frozen_parents: Vec::new(),
            finalizer: false,
        });
    }

    fn status(&self, name: &str) -> Value {
        self.shared.0.lock().objects.get(name).map(|object| object["status"].clone()).unwrap_or_default()
    }

    fn n_patches(&self, name: &str) -> usize {
        self.shared.0.lock().n_patches.get(name).copied().unwrap_or_default()
    }

    /// Waits for a state of the server, under a deadline.
    async fn wait_for(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let mut changed = std::pin::pin!(self.shared.1.notified());
                changed.as_mut().enable();
                if reached(self) {
                    return;
                }
                changed.await;
            }
        };
        time::timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("waited for {what}"));
    }

    async fn wait_for_status(&self, name: &str, wanted: &Value) {
        let print = |status: &Value| StatusPrint::of(Kind::TcpRoute, status, OURS);
        self.wait_for(name, |stage| print(&stage.status(name)) == print(wanted)).await;
    }

    /// Stops the writer once nothing is left to do and returns the metrics' text.
    async fn end(self) -> String {
        let drained = async {
            while self.queue.depth() > 0 {
                tokio::task::yield_now().await;
            }
        };
        time::timeout(Duration::from_secs(20), drained).await.expect("the queue runs empty");
        self.stop.cancel();
        time::timeout(Duration::from_secs(20), self.writer).await.expect("the writer ends").unwrap();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

#[track_caller]
fn assert_counted(metrics: &str, outcome: &str, n: u64) {
    let line = format!("status_writes_total{{kind=\"TCPRoute\",outcome=\"{outcome}\"}} {n}\n");
    assert!(metrics.contains(&line), "{line}{metrics}");
}

#[tokio::test]
async fn a_status_is_written_once_and_an_equal_one_sends_no_patch() {
    let stage = Stage::new(8, &["r"]).await;
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("r", &wanted);
    stage.wait_for_status("r", &wanted).await;
    let time = stage.status("r")["parents"][0]["conditions"][0]["lastTransitionTime"].as_str().unwrap().to_owned();
    assert!(time.len() == 20 && time.ends_with('Z') && time.starts_with("20"), "{time}");
    stage.publish("r", &wanted);
    let metrics = stage.end().await;
    assert_counted(&metrics, "written", 1);
    assert!(metrics.contains("status_queue_depth 0\n"), "{metrics}");
}

#[tokio::test]
async fn a_write_that_was_overtaken_goes_again_and_keeps_what_overtook_it() {
    let stage = Stage::new(8, &["r"]).await;
    stage.mishaps("r", &[Mishap::OvertakenBy("example.com/a"), Mishap::OvertakenBy("example.com/b")]);
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("r", &wanted);
    stage.wait_for_status("r", &wanted).await;
    let parents = stage.status("r")["parents"].clone();
    let controllers: Vec<&str> =
        parents.as_array().unwrap().iter().map(|entry| entry["controllerName"].as_str().unwrap()).collect();
    assert_eq!(controllers, ["example.com/a", "example.com/b", OURS]);
    assert_eq!(stage.n_patches("r"), 3);
    assert_counted(&stage.end().await, "conflicted", 2);
}

#[tokio::test]
async fn conflicts_without_end_are_waited_out_like_failures() {
    let stage = Stage::new(8, &["r"]).await;
    stage.mishaps("r", &[Mishap::OvertakenBy("example.com/a"); 12]);
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("r", &wanted);
    stage.wait_for_status("r", &wanted).await;
    assert_counted(&stage.end().await, "conflicted", 12);
}

#[tokio::test]
async fn an_object_that_fails_is_retried_until_it_does_not_and_holds_no_other_up() {
    let stage = Stage::new(1, &["bad", "good"]).await;
    stage.mishaps("bad", &[Mishap::Unprocessable; 6]);
    stage.mishaps("good", &[Mishap::Broken, Mishap::Silence]);
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("bad", &wanted);
    stage.publish("good", &wanted);
    stage.wait_for_status("good", &wanted).await;
    stage.wait_for_status("bad", &wanted).await;
    assert_counted(&stage.end().await, "failed", 8);
}

#[tokio::test]
async fn the_newest_truth_replaces_one_that_keeps_failing() {
    let stage = Stage::new(1, &["r"]).await;
    stage.mishaps("r", &[Mishap::Silence]);
    let (old, new) = (samples::route(&[parent("old")]), samples::route(&[parent("new")]));
    stage.publish("r", &old);
    stage.wait_for("the first patch", |stage| stage.n_patches("r") == 1).await;
    stage.publish("r", &new);
    stage.wait_for_status("r", &new).await;
    assert_eq!(stage.n_patches("r"), 2);
    stage.end().await;
}

#[tokio::test]
async fn objects_that_are_gone_are_dropped() {
    let stage = Stage::new(8, &["r"]).await;
    stage.mishaps("r", &[Mishap::Deleted]);
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("never", &wanted);
    stage.publish("r", &wanted);
    assert_counted(&stage.end().await, "gone", 2);
}

#[tokio::test]
async fn a_kind_that_is_not_served_yet_is_waited_for() {
    let stage = Stage::new(8, &["r"]).await;
    stage.served.send_replace(Served::default());
    let wanted = samples::route(&[parent("gw")]);
    stage.publish("r", &wanted);
    stage.served.send_replace(Served { versions: [(Kind::TcpRoute, "v1".into())].into(), ..Served::default() });
    stage.wait_for_status("r", &wanted).await;
    stage.end().await;
}

#[tokio::test]
async fn stopping_drops_a_write_that_hangs() {
    let stage = Stage::new(8, &["r"]).await;
    stage.mishaps("r", &[Mishap::Silence; 100]);
    stage.publish("r", &samples::route(&[parent("gw")]));
    stage.wait_for("the first patch", |stage| stage.n_patches("r") >= 1).await;
    stage.stop.cancel();
    time::timeout(Duration::from_secs(20), stage.writer).await.expect("the writer ends").unwrap();
}
