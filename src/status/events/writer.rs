//! Carries notices to the API server as Events: one after the other, and for a few tries each.
//!
//! The object is read first where its status is ours to write, as `kubectl describe` finds Events by its UID. Needs the right
//! to create events of `events.k8s.io`; without it, or without an API server, Events are lost and a log line says so. Nothing
//! waits for it.

use super::{Notice, NoticeQueue};
use crate::{
    clock,
    model::{
        names::{Kind, ObjectName, ObjectRef},
        verdicts::Served,
    },
    retry::{Retry, RetryLimits},
};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use std::{error::Error, future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// How often an Event is tried: with the delays of [`EventSettings::new`], for a quarter of a minute.
const TRIES: u32 = 5;

/// Where Events about objects without a namespace live; the API server takes no other.
const NAMESPACE_OF_CLUSTER_SCOPED: &str = "default";

/// What an Event's `action` says: everything of ours happens while the loop does its work.
const ACTION: &str = "Reconcile";

/// Longest `note`, in bytes; longest `reportingInstance` (Kubernetes, `pkg/apis/core/validation/events.go`).
const NOTE_BYTES_MAX: usize = 1_024;
const INSTANCE_BYTES_MAX: usize = 128;

/// Longest name of an object, and longest name behind the slash of a qualified name (Kubernetes, `util/validation`).
const NAME_BYTES_MAX: usize = 253;
const QUALIFIED_NAME_BYTES_MAX: usize = 63;

/// How Events are written.
#[derive(Clone, Debug)]
pub struct EventSettings {
    /// `spec.controllerName` of the GatewayClasses that are ours; becomes `reportingController`.
    pub controller_name: Arc<str>,
    /// The name of this replica; becomes `reportingInstance`.
    pub holder: Arc<str>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How delays between tries of one Event grow.
    pub retry: RetryLimits,
}

impl EventSettings {
    /// Ten seconds a request; tries after one, two, four and eight seconds.
    #[must_use]
    pub fn new(controller_name: Arc<str>, holder: Arc<str>) -> Self {
        Self {
            controller_name,
            holder,
            request_timeout: Duration::from_secs(10),
            retry: RetryLimits::new(Duration::from_secs(1), Duration::from_secs(8)),
        }
    }
}

/// An Event was not written.
#[derive(Debug, thiserror::Error)]
enum EventError {
    #[error("no answer from the API server after {0:?}")]
    Unanswered(Duration),
    #[error("reading the object of an Event")]
    Read(#[source] Box<kube::Error>),
    #[error("creating an Event")]
    Create(#[source] Box<kube::Error>),
}

impl EventError {
    /// Whether the same Event would fare no better: it is not allowed, or nothing that can be taken.
    fn is_final(&self) -> bool {
        match self {
            Self::Unanswered(_) | Self::Read(_) => false,
            Self::Create(error) => code(error).is_some_and(|code| (400..500).contains(&code) && code != 429),
        }
    }
}

/// Writes what is pushed to `queue` until `stop`. `served` says at which version the objects are.
///
/// Dropping the future half-way loses the Event that is being written, or not.
pub async fn write_events(
    queue: NoticeQueue,
    client: Client,
    served: watch::Receiver<Served>,
    settings: EventSettings,
    stop: CancellationToken,
) {
    let writing = async {
        // Makes names differ that are given within one second.
        let mut n_written: u64 = 0;
        loop {
            let notice = queue.next().await;
            let served = served.borrow().clone();
            n_written += 1;
            let name = event_name(&notice.about, &settings.holder, clock::unix_seconds(), n_written);
            if let Err(error) = write(&client, &served, &settings, &name, &notice).await {
                lost(&notice, &error);
            }
        }
    };
    stop.run_until_cancelled(writing).await;
}

async fn write(
    client: &Client,
    served: &Served,
    settings: &EventSettings,
    name: &str,
    notice: &Notice,
) -> Result<(), EventError> {
    let mut retry = Retry::new(settings.retry);
    let at = clock::unix_seconds();
    loop {
        let error = match attempt(client, served, settings, (name, at), notice).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => error,
        };
        let delay = retry.next_delay();
        if retry.n_tries() >= TRIES {
            return Err(error);
        }
        tried_again(notice, &error, delay);
        sleep(delay).await;
    }
}

fn tried_again(notice: &Notice, error: &(dyn Error + 'static), delay: Duration) {
    tracing::debug!(about = %notice.about, reason = notice.reason, error, ?delay, "an Event could not be written; it is tried again");
}

fn lost(notice: &Notice, error: &(dyn Error + 'static)) {
    tracing::warn!(about = %notice.about, reason = notice.reason, error, "an Event could not be written; it is lost");
}

async fn attempt(
    client: &Client,
    served: &Served,
    settings: &EventSettings,
    (name, at): (&str, i64),
    notice: &Notice,
) -> Result<(), EventError> {
    let uid = uid_of(client, served, &notice.about, settings.request_timeout).await?;
    let event = event(settings, regarding(served, &notice.about, uid), (name, at), notice);
    let namespace = event.metadata.namespace.as_deref().unwrap_or(NAMESPACE_OF_CLUSTER_SCOPED);
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match within(settings.request_timeout, api.create(&PostParams::default(), &event)).await? {
        Ok(_) => Ok(()),
        // An earlier try was taken, and its answer lost.
        Err(error) if code(&error) == Some(409) => Ok(()),
        Err(error) => Err(EventError::Create(Box::new(error))),
    }
}

/// The UID of an object whose status is ours to write, so that it may be read; of others, and of one that is gone, none.
async fn uid_of(
    client: &Client,
    served: &Served,
    about: &ObjectRef,
    timeout: Duration,
) -> Result<Option<String>, EventError> {
    if !about.kind.has_our_status() {
        return Ok(None);
    }
    let kind = GroupVersionKind::gvk(about.kind.group(), version(served, about.kind), about.kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&kind, about.kind.plural());
    let api: Api<DynamicObject> = if about.kind.namespaced() {
        Api::namespaced_with(client.clone(), &about.name.namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    match within(timeout, api.get_metadata(&about.name.name)).await? {
        Ok(object) => Ok(object.metadata.uid),
        Err(error) if code(&error).is_some() => Ok(None),
        Err(error) => Err(EventError::Read(Box::new(error))),
    }
}

fn event(settings: &EventSettings, regarding: ObjectReference, (name, at): (&str, i64), notice: &Notice) -> Event {
    let namespace = regarding.namespace.clone().unwrap_or_else(|| NAMESPACE_OF_CLUSTER_SCOPED.to_owned());
    Event {
        action: Some(ACTION.to_owned()),
        event_time: Some(MicroTime(Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH))),
        metadata: ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace), ..ObjectMeta::default() },
        note: Some(shortened(&notice.note, NOTE_BYTES_MAX)),
        reason: Some(notice.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(qualified(&settings.controller_name)),
        reporting_instance: Some(shortened(&settings.holder, INSTANCE_BYTES_MAX)),
        type_: Some(notice.severity.as_str().to_owned()),
        ..Event::default()
    }
}

fn regarding(served: &Served, about: &ObjectRef, uid: Option<String>) -> ObjectReference {
    let ObjectRef { kind, name: ObjectName { namespace, name } } = about;
    let version = version(served, *kind);
    ObjectReference {
        api_version: Some(match kind.group() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }),
        kind: Some(kind.as_str().to_owned()),
        namespace: (!namespace.is_empty()).then(|| namespace.to_string()),
        name: Some(name.to_string()),
        uid,
        ..ObjectReference::default()
    }
}

fn version(served: &Served, kind: Kind) -> &str {
    served.version(kind).unwrap_or("v1")
}

/// A name that no other Event has: that of the object, as far as there is room, and a hash of who says it and when.
fn event_name(about: &ObjectRef, holder: &str, at: i64, number: u64) -> String {
    let said = blake3::hash(format!("{at} {number} {holder}").as_bytes());
    let said = said.to_hex();
    let said = said.get(..16).unwrap_or(&said);
    let name = cut(&about.name.name, NAME_BYTES_MAX - said.len() - 1);
    format!("{}.{said}", name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()))
}

/// A controller name as Events take it: what stands behind the slash is at most 63 letters, digits, `-`, `_` and `.`.
fn qualified(controller_name: &str) -> String {
    let (domain, path) = controller_name.split_once('/').unwrap_or(("", controller_name));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let path: String = path.chars().map(plain).collect();
    let ends = |c: char| !c.is_ascii_alphanumeric();
    let path = cut(path.trim_start_matches(ends), QUALIFIED_NAME_BYTES_MAX).trim_end_matches(ends);
    match (domain, path) {
        ("", path) => path.to_owned(),
        (domain, "") => domain.to_owned(),
        (domain, path) => format!("{domain}/{path}"),
    }
}

/// At most `bytes_max` of a text, and a mark where there was more.
fn shortened(text: &str, bytes_max: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= bytes_max { text.to_owned() } else { format!("{}{MORE}", cut(text, bytes_max - MORE.len())) }
}

/// The beginning of a text, at most `bytes_max` long.
fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, EventError> {
    timeout(limit, request).await.map_err(|_| EventError::Unanswered(limit))
}

fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

#[cfg(test)]
mod tests;
