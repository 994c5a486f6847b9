//! Complete, consistent lists of one kind from an API server, and watches that go on from them.
//!
//! Requests out, objects as [`ListedObject`]s in. A list that breaks off is thrown away whole. It keeps no state and never
//! tries again by itself.

use super::{
    ListedObject,
    decode::{self, Nameless},
    failure::chain,
    frames::{Frame, Frames, ReadError},
    kinds,
    metrics::Metrics,
    watch::FollowSettings,
};
use crate::model::{
    facts::Observed,
    names::{Kind, ObjectName},
    versions::CacheVersion,
};
use kube::{
    Client,
    core::{
        Request,
        params::{ListParams, WatchParams},
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{collections::BTreeMap, time::Duration};
use tokio::time::timeout;
use tracing::warn;

/// Objects in one page: what client-go and kubectl ask for, about 0.5 MB of routes.
const PAGE_OBJECTS: u32 = 500;

/// How long one page may take. A page of 500 takes 20 ms on an idle server; past a minute the API server itself gives up.
const PAGE_WAIT_MAX: Duration = Duration::from_mins(1);

/// Every object of a kind at one API server.
pub(super) struct Collection {
    client: Client,
    kind: Kind,
    requests: Request,
    /// Selects the objects that are asked for, if not all of them are.
    selector: Option<String>,
    settings: FollowSettings,
    metrics: Metrics,
}

/// A complete list and the version it stands at.
pub(super) struct List {
    /// Every object, by name.
    pub(super) objects: Vec<ListedObject>,
    /// The version.
    pub(super) version: String,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page<'a> {
    metadata: PageMetadata,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    continue_token: Option<String>,
}

impl Collection {
    /// The collection of `kind` at `version`.
    pub(super) fn new(client: Client, kind: Kind, version: &str, settings: FollowSettings, metrics: Metrics) -> Self {
        let selector = kinds::selected(kind).map(|(field, value)| format!("{field}={value}"));
        Self { client, kind, requests: Request::new(kinds::path(kind, version)), selector, settings, metrics }
    }

    /// Lists over a watch that then goes on with the changes (a streaming list).
    ///
    /// The empty version asks for a state at least as new as this request, so that the list is consistent. Objects may
    /// change while they are sent: the list is what stands when the bookmark that ends it comes.
    pub(super) async fn stream(&self) -> Result<(List, Frames), ReadError> {
        let mut frames = self.open(WatchParams::streaming_lists(), "").await.map_err(streaming_refused)?;
        let mut objects = BTreeMap::new();
        loop {
            match frames.next().await.map_err(streaming_refused)? {
                Some(Frame::Exists(json)) => {
                    let (object, _version) = self.read(json).map_err(ReadError::failed)?;
                    objects.insert(object.name.clone(), object);
                }
                Some(Frame::Gone(json)) => {
                    let (name, _version) = decode::name_and_version(self.kind, json).map_err(ReadError::failed)?;
                    objects.remove(&name);
                }
                Some(Frame::Bookmark { version, list_complete: true }) => {
                    return Ok((List { objects: objects.into_values().collect(), version }, frames));
                }
                Some(Frame::Bookmark { version: _, list_complete: false }) => {}
                None => return Err(ReadError::failed("a streaming list broke off")),
            }
        }
    }

    /// Lists by pages, all of one version: the first asks for no version, which makes it the newest.
    ///
    /// `Expired` when that version was compacted away meanwhile: begin anew.
    pub(super) async fn pages(&self) -> Result<List, ReadError> {
        let mut objects = Vec::new();
        let mut params = self.list_params(PAGE_OBJECTS);
        loop {
            let request = self.requests.list(&params).map_err(ReadError::failed)?;
            let answer = timeout(PAGE_WAIT_MAX, self.client.request_text(request)).await;
            let text = answer.map_err(|_silence| ReadError::silent(PAGE_WAIT_MAX))??;
            let page: Page<'_> = serde_json::from_str(&text).map_err(ReadError::failed)?;
            for json in page.items.into_iter().flatten() {
                objects.push(self.read(json.get()).map_err(ReadError::failed)?.0);
            }
            params.continue_token = page.metadata.continue_token.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                return Ok(List { objects, version });
            }
        }
    }

    /// Watches what happens after `version`, with a bookmark now and then when nothing does.
    pub(super) async fn watch(&self, version: &str) -> Result<Frames, ReadError> {
        self.open(WatchParams { bookmarks: true, ..WatchParams::default() }, version).await
    }

    /// Whether the API server is at an older version than `version`: it was restored from a backup, or is another one.
    pub(super) async fn has_gone_back(&self, version: &str) -> Result<bool, ReadError> {
        let Some(version) = CacheVersion::read(version) else { return Ok(false) };
        let request = self.requests.list(&self.list_params(1)).map_err(ReadError::failed)?;
        let answer = timeout(PAGE_WAIT_MAX, self.client.request_text(request)).await;
        let text = answer.map_err(|_silence| ReadError::silent(PAGE_WAIT_MAX))??;
        let page: Page<'_> = serde_json::from_str(&text).map_err(ReadError::failed)?;
        let newest = page.metadata.resource_version.as_deref().and_then(CacheVersion::read);
        Ok(newest.is_some_and(|newest| newest < version))
    }

    fn list_params(&self, n_objects: u32) -> ListParams {
        ListParams { field_selector: self.selector.clone(), ..ListParams::default().limit(n_objects) }
    }

    async fn open(&self, params: WatchParams, version: &str) -> Result<Frames, ReadError> {
        let FollowSettings { controller_name: _, watch_max, silence_max } = &self.settings;
        // A watch of no length would have no end.
        let seconds = u32::try_from(watch_max.as_secs()).unwrap_or(u32::MAX).max(1);
        let params = WatchParams { field_selector: self.selector.clone(), ..params.timeout(seconds) };
        let request = self.requests.watch(&params, version).map_err(ReadError::failed)?;
        Frames::open(&self.client, request, *silence_max).await
    }

    /// Decodes one object and names it in the log if it is unreadable. Also returns its version.
    pub(super) fn read(&self, json: &str) -> Result<(ListedObject, String), Nameless> {
        let decoded = decode::object(self.kind, json, &self.settings.controller_name)?;
        if let Observed::Unreadable { error } = &decoded.observed {
            self.metrics.unreadable(self.kind);
            warn!(name = %decoded.name, %error, "object cannot be read, what was known of it stays in force");
        }
        let object = ListedObject { name: decoded.name, observed: decoded.observed, status: decoded.status };
        Ok((object, decoded.version))
    }

    /// The name and version of an object that is gone.
    pub(super) fn read_name(&self, json: &str) -> Result<(ObjectName, String), Nameless> {
        decode::name_and_version(self.kind, json)
    }

    /// An event named no object. Nothing can be done with it, and asking again would bring it again.
    pub(super) fn skip(&self, error: &Nameless) {
        self.metrics.unreadable(self.kind);
        warn!(error = chain(error), "watch event left out");
    }
}

/// Servers without streaming lists call the request's parameters malformed or invalid.
fn streaming_refused(error: ReadError) -> ReadError {
    match error {
        ReadError::Failed { source, after } => {
            let status = source.downcast_ref::<kube::core::Status>();
            if status.is_some_and(|status| matches!(status.code, 400 | 422)) {
                ReadError::StreamingRefused(source)
            } else {
                ReadError::Failed { source, after }
            }
        }
        ReadError::Expired | ReadError::StreamingRefused(_) | ReadError::NotServed => error,
    }
}
