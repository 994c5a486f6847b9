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
        versions::CacheVersion,
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
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// What is said of a streaming list that ended too early.
const BROKEN_OFF: &str = "waiting: reading from the API server failed: a streaming list broke off";

const DEADLINE: Duration = Duration::from_mins(1);

/// One scripted answer to a request for Services.
enum Answer {
    /// This status and body.
    Is(u16, Value),
    /// These lines, then the end.
    Ends(Vec<Value>),
    /// These lines, then nothing for ever.
    Stays(Vec<Value>),
    /// These lines, then, once it is told to go on, those, then the end.
    Pauses(Vec<Value>, Arc<Notify>, Vec<Value>),
    /// Nothing, not even a status.
    Silence,
}

fn lines(lines: Vec<Value>, stays: bool) -> Body {
    let lines = lines.into_iter().map(|line| Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))));
    let lines = futures::stream::iter(lines.collect::<Vec<_>>());
    if stays { Body::from_stream(lines.chain(futures::stream::pending())) } else { Body::from_stream(lines) }
}

fn paused(before: Vec<Value>, go_on: Arc<Notify>, after: Vec<Value>) -> Body {
    // The blank line of no lines is skipped like any other.
    let text = |lines: Vec<Value>| {
        Ok::<_, Infallible>(format!("{}\n", lines.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")))
    };
    let after = futures::stream::once(async move {
        go_on.notified().await;
        text(after)
    });
    Body::from_stream(futures::stream::iter([text(before)]).chain(after))
}

async fn respond(answer: Answer) -> Response {
    let (status, body) = match answer {
        Answer::Is(status, body) => (status, Body::from(body.to_string())),
        Answer::Ends(events) => (200, lines(events, false)),
        Answer::Stays(events) => (200, lines(events, true)),
        Answer::Pauses(before, go_on, after) => (200, paused(before, go_on, after)),
        Answer::Silence => pending().await,
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
    /// What is answered to whoever asks for the namespace `kube-system`: at first, that its UID is `u-1`.
    identity: Arc<Mutex<(u16, Value)>>,
    /// The newest version it has.
    newest: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Played {
    async fn with(script: Vec<Answer>) -> anyhow::Result<Self> {
        Self::with_silence_of(FollowSettings::new("a/b".into()).silence_max, script).await
    }

    /// With an API server that may be silent only so long.
    async fn with_silence_of(silence_max: Duration, script: Vec<Answer>) -> anyhow::Result<Self> {
        let identity = Arc::new(Mutex::new((200, uid("u-1"))));
        let told_identity = Arc::clone(&identity);
        let newest = Arc::new(AtomicU64::new(u64::MAX));
        let told_newest = Arc::clone(&newest);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        let (heard, answers) = (Arc::clone(&asked), Arc::clone(&script));
        let handler = move |request: Request| async move {
            let uri = request.uri();
            // How far it has come: whoever takes up a watch asks. Not a part of what is played, but where a test is about it.
            let newest = uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "limit=1"));
            match uri.path() {
                "/api/v1/services" | "/api/v1/namespaces" | "/apis/discovery.k8s.io/v1/endpointslices" if newest => {
                    let version = told_newest.load(Ordering::Relaxed).to_string();
                    respond(Answer::Is(200, json!({"metadata": {"resourceVersion": version}, "items": []}))).await
                }
                "/api/v1/services" => {
                    heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(shortened(uri.query().unwrap_or_default()));
                    let answer = answers.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    respond(answer.unwrap_or(Answer::Stays(Vec::new()))).await
                }
                "/api/v1/namespaces/kube-system" => {
                    let (code, body) = told_identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    respond(Answer::Is(code, body)).await
                }
                "/api/v1/namespaces" | "/apis/discovery.k8s.io/v1/endpointslices" => {
                    respond(Answer::Stays(vec![list_end(1)])).await
                }
                _ => respond(refusal(404, "NotFound")).await,
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
        let settings = FollowSettings { silence_max, ..FollowSettings::new("a/b".into()) };
        let stop = CancellationToken::new();
        tasks.spawn(follow_cluster(client, settings, sender, requests, Metrics::default(), stop));
        Ok(Self { asked, events, relists, identity, newest, _tasks: tasks })
    }

    /// The next event about Services, each with its version: `listed A,B @5`, `changed A @6`, `gone A @7`, `reached @8`, with
    /// `?` behind what is unreadable and in place of no version, and `for 3` behind a list of that ticket. Also `waiting: WHY`,
    /// and `identity U` of any cluster but the first.
    async fn next(&mut self) -> anyhow::Result<String> {
        loop {
            match timeout(DEADLINE, self.events.recv()).await.context("no event came")?.context("the source ended")? {
                ClusterEvent::Listed { kind: Kind::Service, objects, version, ticket, at: _ } => {
                    let names: Vec<_> = objects.iter().map(|object| shown(&object.name, &object.observed)).collect();
                    let asked = if ticket == 0 { String::new() } else { format!(" for {ticket}") };
                    return Ok(format!("listed {} {}{asked}", names.join(","), at(version)));
                }
                ClusterEvent::Changed { change, status: _, version, at: _ } => {
                    return Ok(match change.observed {
                        Some(observed) => format!("changed {} {}", shown(&change.name, &observed), at(version)),
                        None => format!("gone {} {}", change.name, at(version)),
                    });
                }
                ClusterEvent::Reached { kind: Kind::Service, version } => {
                    return Ok(format!("reached {}", at(Some(version))));
                }
                ClusterEvent::Waiting { kind: Kind::Service, reason } => return Ok(format!("waiting: {reason}")),
                ClusterEvent::Identity(uid) if *uid != *"u-1" => return Ok(format!("identity {uid}")),
                ClusterEvent::Identity(_)
                | ClusterEvent::Waiting { .. }
                | ClusterEvent::Reached { .. }
                | ClusterEvent::Listed { .. }
                | ClusterEvent::Served(_)
                | ClusterEvent::NotServed(_) => {}
            }
        }
    }

    fn ask(&self, ticket: u64) -> anyhow::Result<()> {
        self.relists.send(Relist { kind: Kind::Service, ticket }).context("nobody lists anew")
    }

    fn identity_is(&self, code: u16, body: Value) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = (code, body);
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

fn at(version: Option<CacheVersion>) -> String {
    version.map_or_else(|| "@?".to_owned(), |version| format!("@{version}"))
}

fn uid(uid: &str) -> Value {
    json!({"metadata": {"name": "kube-system", "uid": uid}})
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
        _ if query.contains("watch=true") && !query.contains("allowWatchBookmarks=true") => "no bookmarks".to_owned(),
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
    played.tells(&["listed a,b @20", "changed c @21", "listed c @30"]).await?;
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
    played.tells(&[BROKEN_OFF, "listed b @5"]).await?;
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
    played.tells(&["listed b @4", "gone ns/b @5"]).await?;
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
    played.tells(&["listed  @4", "changed a @5", "reached @9", "changed a @12", "changed a @13"]).await?;
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
    played.tells(&["listed  @4", "listed a @6"]).await?;
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
    let forbidden = "waiting: reading from the API server failed: Forbidden: Forbidden";
    let broken = "waiting: reading from the API server failed: InternalError: InternalError";
    played.tells(&[forbidden, broken, "listed a @7"]).await?;
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
    played.tells(&["listed a,bad? @3", "changed bad? @2", "changed a @5"]).await?;
    played.asks(&["stream "]).await
}

#[tokio::test]
async fn versions_that_cannot_be_compared_are_told_as_none_and_still_read_on_from() -> anyhow::Result<()> {
    let named = |name: &str, version: &str| json!({"metadata": {"name": name, "namespace": "ns", "resourceVersion": version}, "spec": {}});
    let bookmark = |version: &str| event("BOOKMARK", &named("", version));
    let listed = json!({"metadata": {"resourceVersion": "x1"}, "items": []});
    let mut played = Played::with(vec![
        refusal(422, "Invalid"),
        Answer::Is(200, listed),
        Answer::Ends(vec![event("ADDED", &named("a", "x2")), bookmark("x3"), event("MODIFIED", &named("a", "-4"))]),
        Answer::Ends(vec![bookmark("x5")]),
        Answer::Stays(vec![bookmark("6")]),
    ])
    .await?;
    played.tells(&["listed  @?", "changed a @?", "changed a @?", "reached @6"]).await?;
    played.asks(&["stream ", "list -", "watch x1", "watch -4", "watch x5"]).await
}

#[tokio::test]
async fn a_list_older_than_what_was_told_before_is_told_as_it_is() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Ends(vec![event("ADDED", &service("a", 30)), list_end(40)]),
        refusal(410, "Expired"),
        Answer::Stays(vec![list_end(4), event("ADDED", &service("b", 5))]),
    ])
    .await?;
    played.tells(&["listed a @40", "listed  @4", "changed b @5"]).await?;
    played.asks(&["stream ", "watch 40", "stream "]).await
}

#[tokio::test]
async fn an_api_server_that_has_gone_back_is_listed_anew_although_its_watch_is_only_silent() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Ends(vec![event("ADDED", &service("a", 30)), list_end(40)]),
        Answer::Stays(Vec::new()),
        Answer::Stays(vec![list_end(4)]),
    ])
    .await?;
    played.newest.store(4, Ordering::Relaxed);
    played.tells(&["listed a @40", "listed  @4"]).await?;
    played.asks(&["stream ", "watch 40", "stream "]).await
}

#[tokio::test]
async fn a_request_ends_the_watch_and_the_list_that_answers_carries_the_latest_ticket() -> anyhow::Result<()> {
    let mut played = Played::with(vec![
        Answer::Stays(vec![list_end(4)]),
        Answer::Stays(vec![event("ADDED", &service("a", 5)), list_end(6)]),
        Answer::Ends(vec![list_end(7)]),
        Answer::Stays(vec![event("MODIFIED", &service("a", 8))]),
    ])
    .await?;
    played.tells(&["listed  @4"]).await?;
    played.ask(3)?;
    played.tells(&["listed a @6 for 3"]).await?;
    // An older ticket is answered already.
    for ticket in [2, 5] {
        played.ask(ticket)?;
    }
    // A watch that ends afterwards is taken up where it was.
    played.tells(&["listed  @7 for 5", "changed a @8"]).await?;
    played.asks(&["stream ", "stream ", "stream ", "watch 7"]).await
}

#[tokio::test]
async fn a_list_under_way_does_not_answer_a_request_that_came_after_it_began() -> anyhow::Result<()> {
    let go_on = Arc::new(Notify::new());
    let mut played = Played::with(vec![
        Answer::Pauses(vec![event("ADDED", &service("a", 1))], Arc::clone(&go_on), vec![list_end(4)]),
        Answer::Stays(vec![list_end(5)]),
    ])
    .await?;
    played.asks(&["stream "]).await?;
    played.ask(1)?;
    go_on.notify_one();
    played.tells(&["listed a @4", "listed  @5 for 1"]).await
}

#[tokio::test]
async fn a_request_does_not_wait_for_the_next_try_but_a_list_that_fails_for_it_does() -> anyhow::Result<()> {
    let in_an_hour = |message: &str| {
        let details = json!({"retryAfterSeconds": 3600});
        Answer::Is(500, json!({"status": "Failure", "code": 500, "message": message, "details": details}))
    };
    let mut played = Played::with(vec![
        Answer::Ends(vec![list_end(4)]),
        in_an_hour("first"),
        in_an_hour("second"),
        page(5, "", &[]),
    ])
    .await?;
    let failed = |message: &str| format!("waiting: reading from the API server failed: {message}: ");
    played.tells(&["listed  @4", &failed("first")]).await?;
    played.ask(9)?;
    played.tells(&[&failed("second")]).await?;
    played.ask(10)?;
    played.tells(&["listed  @5 for 10"]).await?;
    played.asks(&["stream ", "watch 4", "stream ", "list -", "watch 5"]).await
}

#[tokio::test]
async fn a_server_that_falls_silent_is_asked_again_from_where_it_was() -> anyhow::Result<()> {
    let mut played = Played::with_silence_of(
        Duration::from_millis(100),
        vec![
            Answer::Stays(vec![list_end(4), event("ADDED", &service("a", 5))]),
            Answer::Silence,
            Answer::Ends(vec![event("MODIFIED", &service("a", 6))]),
        ],
    )
    .await?;
    let silent = "waiting: reading from the API server failed: no answer within 100ms";
    played.tells(&["listed  @4", "changed a @5", silent, "changed a @6"]).await?;
    assert_eq!(played.asked()[..3], ["stream ", "watch 5", "watch 5"]);
    Ok(())
}

#[tokio::test]
async fn another_cluster_is_told_before_anything_it_holds() -> anyhow::Result<()> {
    let (watched, listed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut played = Played::with(vec![
        Answer::Pauses(vec![list_end(4)], Arc::clone(&watched), vec![]),
        Answer::Pauses(vec![event("ADDED", &service("a", 5))], Arc::clone(&listed), vec![expired()]),
        Answer::Stays(vec![event("ADDED", &service("b", 1)), list_end(2)]),
    ])
    .await?;
    played.tells(&["listed  @4"]).await?;
    played.identity_is(200, uid("u-2"));
    watched.notify_one();
    played.tells(&["identity u-2", "changed a @5"]).await?;
    played.identity_is(200, uid("u-3"));
    listed.notify_one();
    played.tells(&["identity u-3", "listed b @2"]).await
}

#[tokio::test]
async fn nothing_is_told_while_the_cluster_cannot_be_identified() -> anyhow::Result<()> {
    let end = Arc::new(Notify::new());
    let mut played = Played::with(vec![
        Answer::Pauses(vec![list_end(4)], Arc::clone(&end), vec![]),
        Answer::Ends(vec![event("ADDED", &service("a", 5))]),
        Answer::Stays(vec![event("ADDED", &service("a", 5))]),
    ])
    .await?;
    played.tells(&["listed  @4"]).await?;
    played.identity_is(403, json!({"status": "Failure", "code": 403, "message": "not you"}));
    end.notify_one();
    let told = played.next().await?;
    anyhow::ensure!(told.starts_with("waiting: ") && told.contains("allow get on namespaces: not you"), "{told}");
    played.identity_is(200, uid("u-1"));
    played.tells(&["changed a @5"]).await
}
