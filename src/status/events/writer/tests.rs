//! The writer against a scripted API server, without a network, so that hours may pass at once; and how texts are fitted.

use super::*;
use crate::status::events::Severity;
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    future,
};
use tokio::task::JoinHandle;

/// What the server does to a create.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    Broken,
    Forbidden,
    /// It does what it is asked, and does not say so.
    Mute,
}

#[derive(Default)]
struct Cluster {
    uids: HashMap<String, &'static str>,
    /// By namespace and name.
    events: HashMap<(String, String), Value>,
    mishaps: VecDeque<Mishap>,
    n_creates: usize,
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

async fn read(State(shared): State<Shared>, Path(name): Path<String>) -> Response {
    let uid = shared.0.lock().uids.get(&name).copied();
    uid.map_or_else(
        || failure(StatusCode::NOT_FOUND),
        |uid| {
            answer(
                StatusCode::OK,
                &json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "uid": uid}}),
            )
        },
    )
}

async fn create(State(shared): State<Shared>, Path(namespace): Path<String>, body: String) -> Response {
    let event: Value = serde_json::from_str(&body).unwrap();
    let mishap = {
        let mut cluster = shared.0.lock();
        cluster.n_creates += 1;
        cluster.mishaps.pop_front()
    };
    let answered = match mishap {
        Some(Mishap::Broken) => failure(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Mishap::Forbidden) => failure(StatusCode::FORBIDDEN),
        Some(Mishap::Mute) | None => {
            let key = (namespace, event["metadata"]["name"].as_str().unwrap().to_owned());
            match shared.0.lock().events.insert(key, event.clone()) {
                Some(_) => failure(StatusCode::CONFLICT),
                None => answer(StatusCode::CREATED, &event),
            }
        }
    };
    shared.1.notify_one();
    if matches!(mishap, Some(Mishap::Mute)) {
        return future::pending().await;
    }
    answered
}

/// A writer at work against a scripted server.
struct Stage {
    shared: Shared,
    client: Client,
    queue: NoticeQueue,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _served: watch::Sender<Served>,
}

impl Stage {
    fn new(mishaps: &[Mishap]) -> Self {
        let shared = Shared::default();
        shared.0.lock().mishaps.extend(mishaps);
        let server = Router::new()
            .route("/apis/gateway.networking.k8s.io/v1/namespaces/{ns}/gateways/{name}", get(read_namespaced))
            .route("/apis/gateway.networking.k8s.io/v1/gatewayclasses/{name}", get(read))
            .route("/apis/events.k8s.io/v1/namespaces/{ns}/events", post(create))
            .with_state(Arc::clone(&shared));
        let (sender, served) = watch::channel(Served::default());
        let (queue, stop) = (NoticeQueue::default(), CancellationToken::new());
        let client = Client::new(server, "default");
        let task = tokio::spawn(write_events(queue.clone(), client.clone(), served, settings(), stop.clone()));
        Self { shared, client, queue, stop, task, _served: sender }
    }

    fn push(&self, about: ObjectRef, note: &str) {
        let notice = Notice { about, reason: "Tested", note: note.to_owned(), severity: Severity::Normal };
        self.queue.push(notice, clock::now());
    }

    /// Waits until the server holds an event with this note; gives all it holds by note.
    async fn until(&self, note: &str) -> HashMap<String, Value> {
        loop {
            let events = self.shared.0.lock().events.clone();
            let noted = events.into_values().map(|event| (event["note"].as_str().unwrap().to_owned(), event));
            let noted: HashMap<_, _> = noted.collect();
            if noted.contains_key(note) {
                return noted;
            }
            self.shared.1.notified().await;
        }
    }

    fn n_creates(&self) -> usize {
        self.shared.0.lock().n_creates
    }
}

fn settings() -> EventSettings {
    EventSettings::new("apisix-etcd.io/gateway-controller".into(), "pod-1".into())
}

async fn read_namespaced(state: State<Shared>, Path((_, name)): Path<(String, String)>) -> Response {
    read(state, Path(name)).await
}

fn named(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Gateway, ObjectName::new("ns", name))
}

#[tokio::test(start_paused = true)]
async fn an_event_is_tried_again_under_its_name_until_it_is_taken() {
    let stage = Stage::new(&[Mishap::Broken; 4]);
    stage.push(named("edge"), "first");
    assert_eq!(stage.until("first").await.len(), 1);
    assert_eq!(stage.n_creates(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_lost_after_a_few_tries_and_the_next_is_written() {
    let stage = Stage::new(&[Mishap::Broken; 5]);
    stage.push(named("edge"), "first");
    stage.push(named("edge"), "second");
    assert_eq!(stage.until("second").await.into_keys().collect::<Vec<_>>(), ["second"]);
    assert_eq!(stage.n_creates(), 6);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_forbidden_is_not_tried_again() {
    let stage = Stage::new(&[Mishap::Forbidden]);
    stage.push(named("edge"), "first");
    stage.push(named("edge"), "second");
    assert_eq!(stage.until("second").await.into_keys().collect::<Vec<_>>(), ["second"]);
    assert_eq!(stage.n_creates(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_answer_was_lost_is_not_written_twice() {
    let stage = Stage::new(&[Mishap::Mute]);
    stage.push(named("edge"), "first");
    stage.push(named("edge"), "second");
    assert_eq!(stage.until("second").await.len(), 2);
    assert_eq!(stage.n_creates(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_there_already_counts_as_written() {
    let stage = Stage::new(&[]);
    let notice = Notice { about: named("edge"), reason: "Tested", note: "once".to_owned(), severity: Severity::Normal };
    for _ in 0..2 {
        write(&stage.client, &Served::default(), &settings(), "edge.1", &notice).await.unwrap();
    }
    assert_eq!((stage.until("once").await.len(), stage.n_creates()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_event_names_its_object_by_uid_where_there_is_one() {
    let stage = Stage::new(&[]);
    stage.shared.0.lock().uids.extend([("edge".to_owned(), "u-1"), ("apisix".to_owned(), "u-2")]);
    stage.push(named("edge"), "there");
    stage.push(named("gone"), "gone");
    stage.push(ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("apisix")), "class");
    let events = stage.until("class").await;
    let regarding = |note: &str| (&events[note]["regarding"]["uid"], &events[note]["metadata"]["namespace"]);
    assert_eq!(regarding("there"), (&json!("u-1"), &json!("ns")));
    assert_eq!(regarding("gone"), (&Value::Null, &json!("ns")));
    assert_eq!(regarding("class"), (&json!("u-2"), &json!("default")));
}

#[tokio::test(start_paused = true)]
async fn the_writer_ends_when_it_is_told_to_whatever_it_is_doing() {
    let stage = Stage::new(&[Mishap::Mute]);
    stage.push(named("edge"), "first");
    stage.until("first").await;
    stage.stop.cancel();
    assert_eq!(stage.n_creates(), 1);
    stage.task.await.unwrap();
}

#[test]
fn names_of_events_differ_and_fit() {
    let name = event_name(&named("edge"), "pod-1", 1_700_000_000, 1);
    assert!(name.starts_with("edge.") && name.len() == "edge.".len() + 16, "{name}");
    for other in [("pod-2", 1_700_000_000, 1), ("pod-1", 1_700_000_001, 1), ("pod-1", 1_700_000_000, 2)] {
        assert_ne!(event_name(&named("edge"), other.0, other.1, other.2), name);
    }
    let long = format!("{}-.{}", "a".repeat(234), "b".repeat(17));
    assert_eq!(long.len(), NAME_BYTES_MAX);
    let name = event_name(&named(&long), "pod-1", 0, 1);
    assert_eq!((name.len(), name.find('.')), (234 + 17, Some(234)));
}

#[test]
fn a_controller_name_becomes_a_qualified_name() {
    let ours = "apisix-etcd.io/gateway-controller";
    assert_eq!(qualified(ours), ours);
    assert_eq!(qualified("a.b/c/d~e"), "a.b/c-d-e");
    assert_eq!(qualified("a.b/_c_"), "a.b/c");
    assert_eq!(qualified("a.b/(c"), "a.b/c");
    assert_eq!(qualified("a.b/()"), "a.b");
    let exactly = format!("a.b/{}", "c".repeat(63));
    assert_eq!(qualified(&exactly), exactly);
    assert_eq!(qualified(&format!("a.b/{}", "c".repeat(64))), exactly);
    assert_eq!(qualified(&format!("a.b/{}-{}", "c".repeat(62), "d")), format!("a.b/{}", "c".repeat(62)));
}

#[test]
fn texts_are_cut_between_characters_and_only_past_their_limit() {
    assert_eq!(shortened(&"a".repeat(1_024), 1_024), "a".repeat(1_024));
    assert_eq!(shortened(&"a".repeat(1_025), 1_024), format!("{}…", "a".repeat(1_021)));
    assert_eq!(shortened("ääää", 7), "ää…");
    assert_eq!(shortened(&"ä".repeat(513), 1_024).len(), 1_023);
}

#[test]
fn core_objects_have_no_group_in_their_version() {
    let served = Served::default();
    let service = ObjectRef::new(Kind::Service, ObjectName::new("ns", "svc"));
    assert_eq!(regarding(&served, &service, None).api_version.as_deref(), Some("v1"));
    let class = ObjectRef::new(Kind::GatewayClass, ObjectName::cluster("apisix"));
    let class = regarding(&served, &class, None);
    assert_eq!(class.api_version.as_deref(), Some("gateway.networking.k8s.io/v1"));
    assert_eq!(class.namespace, None);
}
