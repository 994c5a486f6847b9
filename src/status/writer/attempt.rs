//! One attempt to write one status: read, merge, patch. Of a GatewayClass its finalizer, too.

use super::{WriterSettings, finalizer};
use crate::{
    clock,
    model::{
        names::{Kind, ObjectRef},
        verdicts::Served,
    },
    status::{
        merge::{Merge, Merging, Write, merge},
        metrics::Outcome,
        queue::{Job, StatusUpdate},
    },
};
use jiff::Timestamp;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use std::{future::Future, sync::Arc, time::Duration};

/// Who wrote a field, as `metadata.managedFields` shows it.
const FIELD_MANAGER: &str = "apisix-etcd-controller";

/// How an attempt ended without an error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempted {
    pub(super) outcome: Outcome,
    /// Entries of ours that others left no room for.
    pub(super) unplaced: usize,
}

/// The API server did not take a status. Whatever the reason, the same write may be tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0} is not served, so no status can be written")]
    NotServed(Kind),
    #[error("no answer from the API server after {0:?}")]
    Unanswered(Duration),
    #[error("reading an object to write its status")]
    Read(#[source] Box<kube::Error>),
    #[error("patching a status")]
    Patch(#[source] Box<kube::Error>),
    #[error("patching the finalizers of a GatewayClass (this needs the right to patch gatewayclasses)")]
    Finalizers(#[source] Box<kube::Error>),
}

impl WriteError {
    /// The HTTP status the API server answered with, if it did.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::NotServed(_) | Self::Unanswered(_) => None,
            Self::Read(error) | Self::Patch(error) | Self::Finalizers(error) => code(error),
        }
    }
}

/// One attempt, with all it needs.
pub(super) struct Attempt {
    job: Job,
    /// `None` while the kind is not served.
    api: Option<Api<DynamicObject>>,
    controller_name: Arc<str>,
    request_timeout: Duration,
}

impl Attempt {
    pub(super) fn new(client: &Client, served: &Served, settings: &WriterSettings, job: Job) -> Self {
        Self {
            api: api(client, served, &job.update.object),
            job,
            controller_name: Arc::clone(&settings.controller_name),
            request_timeout: settings.request_timeout,
        }
    }

    /// Runs the attempt and gives the job back with its answer.
    pub(super) async fn run(self) -> (Job, Result<Attempted, WriteError>) {
        let Self { job, api, controller_name, request_timeout } = self;
        let answer = match &api {
            None => Err(WriteError::NotServed(job.update.object.kind)),
            Some(api) => write(api, &job.update, &controller_name, request_timeout).await,
        };
        (job, answer)
    }
}

fn api(client: &Client, served: &Served, object: &ObjectRef) -> Option<Api<DynamicObject>> {
    let version = served.version(object.kind).filter(|_| object.kind.has_our_status())?;
    let kind = GroupVersionKind::gvk(object.kind.group(), version, object.kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&kind, object.kind.plural());
    Some(if object.kind.namespaced() {
        Api::namespaced_with(client.clone(), &object.name.namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    })
}

async fn write(
    api: &Api<DynamicObject>,
    update: &StatusUpdate,
    controller_name: &str,
    timeout: Duration,
) -> Result<Attempted, WriteError> {
    let StatusUpdate { object, status: wanted, frozen_parents, finalizer } = update;
    let name = object.name.name.as_ref();
    let current = match within(timeout, api.get(name)).await? {
        Ok(current) => current,
        Err(error) if code(&error) == Some(404) => return Ok(Attempted { outcome: Outcome::Gone, unplaced: 0 }),
        Err(error) => return Err(WriteError::Read(Box::new(error))),
    };
    let Merge { write, unplaced } = merge(&Merging {
        kind: object.kind,
        generation: current.metadata.generation,
        current: current.data.get("status").unwrap_or(&Value::Null),
        wanted,
        controller_name,
        frozen_parents,
        now: &now(),
    });
    let (outcome, current) = match write {
        Write::Unchanged => (Outcome::Unchanged, current),
        Write::Stale => return Ok(Attempted { outcome: Outcome::Stale, unplaced }),
        Write::Patch(fields) => {
            let patch = Patch::Merge(json!({
                "metadata": { "resourceVersion": current.metadata.resource_version },
                "status": fields,
            }));
            match answered(within(timeout, api.patch_status(name, &params(), &patch)).await?, WriteError::Patch)? {
                Ok(written) => (Outcome::Written, written),
                Err(outcome) => return Ok(Attempted { outcome, unplaced }),
            }
        }
    };
    // After the status, so that a right that is missing for it holds up no condition.
    let wanted =
        if object.kind == Kind::GatewayClass { finalizer::wanted(&current, *finalizer, controller_name) } else { None };
    let Some(finalizers) = wanted else { return Ok(Attempted { outcome, unplaced }) };
    let patch = Patch::Merge(json!({
        "metadata": { "resourceVersion": current.metadata.resource_version, "finalizers": finalizers },
    }));
    let answer = answered(within(timeout, api.patch(name, &params(), &patch)).await?, WriteError::Finalizers)?;
    let outcome = answer.map_or_else(|outcome| outcome, |_| Outcome::Written);
    Ok(Attempted { outcome, unplaced })
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// The object as a patch left it, or how the attempt ends without one.
fn answered(
    answer: Result<DynamicObject, kube::Error>,
    error: fn(Box<kube::Error>) -> WriteError,
) -> Result<Result<DynamicObject, Outcome>, WriteError> {
    match answer {
        Ok(object) => Ok(Ok(object)),
        Err(failure) => match code(&failure) {
            Some(404) => Ok(Err(Outcome::Gone)),
            Some(409) => Ok(Err(Outcome::Conflicted)),
            Some(_) | None => Err(error(Box::new(failure))),
        },
    }
}

async fn within<T>(
    timeout: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<Result<T, kube::Error>, WriteError> {
    tokio::time::timeout(timeout, request).await.map_err(|_| WriteError::Unanswered(timeout))
}

fn code(error: &kube::Error) -> Option<u16> {
    if let kube::Error::Api(status) = error { Some(status.code) } else { None }
}

/// Now, as the API server writes times.
fn now() -> String {
    Timestamp::from_second(clock::unix_seconds()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
