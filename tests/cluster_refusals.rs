//! What an API server may answer besides what one asks for, and what becomes of a kind's lists and changes then.
//!
//! The API server is played: its answers for Services are a script, so that what a healthy server does once a month happens
//! here at once. `tests/cluster_watch.rs` asks a real one.

use anyhow::{Context as _, bail};
use apisix_etcd_controller::{
    cluster::{
        ClusterEvent, Relist,
        metrics::Metrics,
        watch::{FollowSettings, follow_cluster},
    },
    model::{
        facts::{Facts, Observed},
        names::{Kind, ObjectName},
    },
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_mins(1);

/// One scripted answer to a request for Services.
enum Answer {
    /// This status and body.
    Is(u16, Value),
    /// These lines, then the end.
    Ends(Vec<Value>),
    /// These lines, then nothing for ever.
    Stays(Vec<Value>),
}

fn lines(lines: Vec<Value>, stays: bool) -> Body {
    let lines = lines.into_iter().map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))));
    let lines = futures::stream::iter(lines.collect::<Vec<_>>());
    if stays { Body::from_stream(lines.chain(futures::stream::pending())) } else { Body::from_stream(lines) }
}

fn respond(answer: Answer) -> Response {
    let (status, body) = match answer {
        Answer::Is(status, body) => (status, Body::from(body.to_string())),
        Answer::Ends(events) => (200, lines(events, false)),
        Answer::Stays(events) => (200, lines(events, true)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn refusal(code: u16, reason: &str) -> Answer {
    Answer::Is(code, json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}))
}

fn service(name: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version.to_string()}, "spec": {}})
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: u32) -> Value {
    event("BOOKMARK", &json!({"metadata": {"resourceVersion": version.to_string()}}))
}

fn list_end(version: u32) -> Value {
    let annotations = json!({"k8s.io/initial-events-end": "true"});
    event("BOOKMARK", &json!({"metadata": {"resourceVersion": version.to_string(), "annotations": annotations}}))
}

fn page(version: u32, next: &str, items: &[Value]) -> Answer {
    Answer::Is(200, json!({"metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items}))
}

fn expired() -> Value {
    event("ERROR", &json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "old"}))
}

/// A played API server and what is told of it.
struct Played {
    /// What was asked for Services, shortened: `stream`, `list CONTINUE`, `watch VERSION`.
    asked: Arc<Mutex<Vec<String>>>,
    events: mpsc::Receiver<ClusterEvent>,
    relists: mpsc::UnboundedSender<Relist>,
    _tasks: JoinSet<()>,
}

impl Played {
    async fn with(script: Vec<Answer>) -> anyhow::Result<Self> {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let (heard, answers) = (Arc::clone(&asked), Arc::clone(&script));
        let handler = move |request: Request| async move {
            let uri = request.uri();
            match uri.path() {
                "/api/v1/services" => {
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(shortened(uri.query().unwrap_or_default()));
                    let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    respond(answer.unwrap_or(Answer::Stays(Vec::new())))
                }
                "/api/v1/namespaces/kube-system" => respond(Answer::Is(200, json!({"metadata": {"uid": "u-1"}}))),
                "/api/v1/namespaces" | "/apis/discovery.k8s.io/v1/endpointslices" => {
                    respond(Answer::Stays(vec![list_end(1)]))
                }
                _ => respond(refusal(404, "NotFound")),
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // It serves until the test ends.
            let _ = axum::serve(listener, Router::new().fallback(handler)).await;
        });
        let client = kube::Client::try_from(kube::Config::new(format!("http://{address}").parse()?))?;
        let (sender, events) = mpsc::channel(64);
        let (relists, requests) = mpsc::unbounded_channel();
        let settings = FollowSettings::new("a/b".into());
        let stop = CancellationToken::new();
        tasks.spawn(follow_cluster(client, settings, sender, requests, Metrics::default(), stop));
        Ok(Self { asked, events, relists, _tasks: tasks })
    }

    /// The next event about Services: `listed A,B`, `changed A`, `gone A`, with `?` behind what is unreadable.
    async fn next(&mut self) -> anyhow::Result<String> {
        loop {
            match timeout(DEADLINE, self.events.recv()).await.context("no event came")?.context("the source ended")? {
                ClusterEvent::Listed { kind: Kind::Service, objects, version: _, ticket: _, at: _ } => {
                    let names: Vec<_> = objects.iter().map(|object| shown(&object.name, &object.observed)).collect();
                    return Ok(format!("listed {}", names.join(",")));
                }
                ClusterEvent::Changed { change, status: _, version: _, at: _ } => {
                    return Ok(match change.observed {
                        Some(observed) => format!("changed {}", shown(&change.name, &observed)),
                        None => format!("gone {}", change.name),
                    });
                }
                ClusterEvent::Identity(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                | ClusterEvent::Listed { .. }
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_) => {}
            }
        }
    }

    async fn tells(&mut self, wanted: &[&str]) -> anyhow::Result<()> {
        for want in wanted {
            let told =
                self.next().await.with_context(|| format!("waiting for {want:?}; asked was {:?}", self.asked()))?;
            if told != *want {
                bail!("told was {told:?} and not {want:?}; asked was {:?}", self.asked());
            }
        }
        Ok(())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this much was asked, and compares it.
    async fn asks(&self, wanted: &[&str]) -> anyhow::Result<()> {
        let enough = async {
            while self.asked().len() < wanted.len() {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, enough).await.with_context(|| format!("asked was only {:?}", self.asked()))?;
        assert_eq!(self.asked(), wanted);
        Ok(())
    }
}

fn shown(name: &ObjectName, observed: &Observed) -> String {
    match observed {
        Observed::Facts(Facts::Service(_)) => name.name.to_string(),
        Observed::Facts(_) | Observed::Unreadable { .. } => format!("{}?", name.name),
    }
}

fn shortened(query: &str) -> String {
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)).unwrap_or("-").to_owned();
    match query {
        _ if query.contains("sendInitialEvents=true") => format!("stream {}", value("resourceVersion=")),
        _ if query.contains("watch=true") => format!("watch {}", value("resourceVersion=")),
        _ => format!("list {}", value("continue=")),
    }
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_listed_by_pages_and_an_expired_page_begins_anew() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        refusal(422, "Invalid"),
        page(10, "second", &[service("a", 1)]),
        refusal(410, "Expired"),
        page(20, "third", &[service("a", 1)]),
        page(20, "", &[service("b", 2)]),
        Answer::Stays(vec![event("ADDED", &service("c", 21)), expired()]),
        page(30, "", &[service("c", 21)]),
    ])
    .await?;
    played.tells(&["listed a,b", "changed c", "listed c"]).await?;
    let asked = ["stream ", "list -", "list second", "list -", "list third", "watch 20", "list -", "watch 30"];
    played.asks(&asked).await
}

#[tokio::test]
async fn a_streaming_list_that_breaks_off_is_thrown_away_whole() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Ends(vec![event("ADDED", &service("a", 1)), bookmark(1)]),
        page(5, "", &[service("b", 2)]),
    ])
    .await?;
    played.tells(&["listed b"]).await?;
    played.asks(&["stream ", "list -", "watch 5"]).await
}

#[tokio::test]
async fn what_changes_while_a_list_streams_is_in_the_list() -> anyhow::Result<()> {
    let mut played = Played::with(vec![Answer::Stays(vec![
        event("ADDED", &service("a", 1)),
        event("ADDED", &service("b", 2)),
        event("DELETED", &service("a", 3)),
        bookmark(3),
        list_end(4),
        event("DELETED", &service("b", 5)),
    ])])
    .await?;
    played.tells(&["listed b", "gone ns/b"]).await?;
    played.asks(&["stream "]).await
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Ends(vec![list_end(4), event("ADDED", &service("a", 5)), bookmark(9)]),
        Answer::Ends(vec![event("MODIFIED", &service("a", 12))]),
        Answer::Stays(vec![event("MODIFIED", &service("a", 13))]),
    ])
    .await?;
    played.tells(&["listed ", "changed a", "changed a", "changed a"]).await?;
    played.asks(&["stream ", "watch 9", "watch 12"]).await
}

#[tokio::test]
async fn an_expired_watch_is_listed_anew() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Ends(vec![list_end(4)]),
        refusal(410, "Expired"),
        Answer::Stays(vec![event("ADDED", &service("a", 5)), list_end(6)]),
    ])
    .await?;
    played.tells(&["listed ", "listed a"]).await?;
    played.asks(&["stream ", "watch 4", "stream "]).await
}

#[tokio::test]
async fn a_kind_that_is_forbidden_is_asked_for_until_it_is_allowed() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        refusal(403, "Forbidden"),
        refusal(403, "Forbidden"),
        refusal(500, "InternalError"),
        page(7, "", &[service("a", 1)]),
    ])
    .await?;
    played.tells(&["listed a"]).await?;
    played.asks(&["stream ", "list -", "stream ", "list -", "watch 7"]).await
}

#[tokio::test]
async fn one_object_that_cannot_be_read_hides_no_other_and_nonsense_ends_no_watch() -> anyhow::Result<()> {
    let bad = json!({"metadata": {"name": "bad", "namespace": "ns", "resourceVersion": "2"}, "spec": {"ports": 5}});
    let mut played = Played::with(vec![Answer::Stays(vec![
        event("ADDED", &service("a", 1)),
        event("ADDED", &bad),
        list_end(3),
        event("MODIFIED", &bad),
        event("MODIFIED", &json!({"nobody": "knows"})),
        event("MODIFIED", &service("a", 5)),
    ])])
    .await?;
    played.tells(&["listed a,bad?", "changed bad?", "changed a"]).await?;
    played.asks(&["stream "]).await
}
