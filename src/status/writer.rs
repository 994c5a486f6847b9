//! Carries statuses to the API server: newest truth only, few at a time, for as long as it takes.
//!
//! Each update becomes a read of the object, a [`super::merge`], and a patch of the status subresource guarded by the
//! version read, so that nothing another controller wrote is ever overwritten unseen. Nothing is sent when the object says
//! it already. Nothing here decides what a status should be, and nothing waits for it.
//!
//! The one finalizer there is travels with the status of its GatewayClass: the same reader, the same guard, the same tries.

mod attempt;
mod finalizer;
#[cfg(test)]
mod tests;

use super::{
    metrics::{Metrics, Outcome},
    queue::{Job, StatusQueue},
};
use crate::{
    clock,
    model::{
        names::{Kind, ObjectRef},
        verdicts::Served,
    },
    retry::{Retry, RetryLimits},
};
use attempt::{Attempt, Attempted, WriteError};
use futures::{StreamExt as _, future, stream::FuturesUnordered};
use kube::Client;
use std::{collections::BTreeSet, error::Error, num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

/// Conflicts in a row after which an update waits like a failed one: somebody else is writing faster than we can.
const CONFLICTS_MAX: u32 = 5;

/// How statuses are written.
#[derive(Clone, Debug)]
pub struct WriterSettings {
    /// `controllerName` of our entries.
    pub controller_name: Arc<str>,
    /// Objects written at a time.
    pub concurrency: NonZeroUsize,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// How delays between tries of one object grow.
    pub retry: RetryLimits,
}

impl WriterSettings {
    /// Eight objects at a time (16 in flight brought a kube-apiserver on two cores no further), ten seconds a request,
    /// retries after a fifth of a second to a minute.
    #[must_use]
    pub fn new(controller_name: Arc<str>) -> Self {
        Self {
            controller_name,
            concurrency: const { NonZeroUsize::new(8).expect("eight is not zero") },
            request_timeout: Duration::from_secs(10),
            retry: RetryLimits::STATUS,
        }
    }
}

/// Writes what is published to `queue` until `stop`, then ends what is in flight, for at most one request timeout.
///
/// `served` says at which version each kind is written. Dropping the future half-way leaves it open whether the writes in
/// flight were applied, which harms nothing: they were true when they were sent, and are guarded.
pub async fn write_statuses(
    queue: StatusQueue,
    client: Client,
    served: watch::Receiver<Served>,
    settings: WriterSettings,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut troubles = Troubles::default();
    let mut in_flight = FuturesUnordered::new();
    loop {
        while in_flight.len() < settings.concurrency.get() {
            let Some(job) = queue.take(clock::now()) else { break };
            let attempt = Attempt::new(&client, &served.borrow(), &settings, job);
            in_flight.push(attempt.run());
        }
        metrics.queued(queue.depth());
        // With everything busy, what is due could not be taken anyway.
        let due = if in_flight.len() < settings.concurrency.get() { queue.next_due() } else { None };
        let due = async {
            match due {
                Some(due) => time::sleep_until(due.into()).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some((job, answer)) = in_flight.next(), if !in_flight.is_empty() => {
                settle(&queue, &settings, &metrics, &mut troubles, job, answer);
            }
            () = queue.changed() => {}
            () = due => {}
        }
    }
    let drain = async {
        while let Some((job, answer)) = in_flight.next().await {
            settle(&queue, &settings, &metrics, &mut troubles, job, answer);
        }
    };
    if time::timeout(settings.request_timeout, drain).await.is_err() {
        tracing::debug!("status writes in flight were dropped at shutdown");
    }
}

fn settle(
    queue: &StatusQueue,
    settings: &WriterSettings,
    metrics: &Metrics,
    troubles: &mut Troubles,
    mut job: Job,
    answer: Result<Attempted, WriteError>,
) {
    let object = &job.update.object;
    let outcome = match &answer {
        Ok(Attempted { outcome, unplaced }) => {
            if *unplaced > 0 {
                metrics.left_out(object.kind, *unplaced);
                tracing::warn!(%object, unplaced, "other controllers' status entries leave no room for ours");
            }
            *outcome
        }
        Err(_) => Outcome::Failed,
    };
    metrics.attempted(object.kind, outcome);
    match answer {
        Err(error) => {
            troubles.report(&job, &error);
            job.n_conflicts = 0;
            set_aside(queue, settings, job);
        }
        Ok(Attempted { outcome: Outcome::Conflicted, unplaced: _ }) => {
            job.n_conflicts += 1;
            tracing::debug!(%object, n_conflicts = job.n_conflicts, "status changed while it was merged");
            if job.n_conflicts > CONFLICTS_MAX { set_aside(queue, settings, job) } else { queue.put_back(job) }
        }
        Ok(Attempted { outcome, unplaced: _ }) => {
            tracing::debug!(%object, ?outcome, "status settled");
            troubles.over(object.kind);
            queue.finish(object);
        }
    }
}

fn set_aside(queue: &StatusQueue, settings: &WriterSettings, mut job: Job) {
    let delay = job.retry.get_or_insert_with(|| Retry::new(settings.retry)).next_delay();
    queue.set_aside(job, clock::now() + delay);
}

/// Which kinds of trouble were reported and are not over: a failing API server fails every object in the same way, and
/// one line says so.
#[derive(Default)]
struct Troubles(BTreeSet<(Kind, Option<u16>)>);

impl Troubles {
    /// Logs an object's first failure, unless another object of its kind failed like that since one last succeeded.
    fn report(&mut self, job: &Job, error: &WriteError) {
        let object: &ObjectRef = &job.update.object;
        let is_new = self.0.insert((object.kind, error.code()));
        let error: &(dyn Error + 'static) = error;
        if is_new && job.retry.is_none() {
            tracing::warn!(%object, error, "status could not be written; trying again until it can");
        } else {
            tracing::debug!(%object, error, "status could not be written");
        }
    }

    fn over(&mut self, kind: Kind) {
        self.0.retain(|(failed, _)| *failed != kind);
    }
}
