//! One replica of the controller as a single future, that can be paused like a process, and killed.

use super::{CONTROLLER, INSTANCE, PREFIX, cluster::Cluster, dice::Dice, history::History, link::Link, meter::Meter};
use apisix_etcd_controller::{
    apisix::version::ApisixVersion,
    leader,
    model::{names::ObjectRef, places::Plane},
    reconcile::{self, Progress, Statuses},
    replica::{self, Replica},
    retry::RetryLimits,
    status::queue::{StatusSink, StatusUpdate},
    store::control::ControlKeys,
    translate::{
        desired::{self, Desired},
        planes::PlaneSettings,
    },
};
use futures::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// A running replica.
pub(crate) struct Running {
    pub(crate) progress: watch::Receiver<Progress>,
    pub(crate) pending: Pending,
    /// Milliseconds that the cluster's news may take.
    pub(crate) lag: watch::Sender<u64>,
    stop: CancellationToken,
    pause: Pause,
    task: JoinHandle<()>,
}

/// Statuses that a replica has said and that are not written yet.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<(Mutex<BTreeMap<ObjectRef, StatusUpdate>>, Notify)>);

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.0.lock().is_empty()
    }

    /// Writes them, one after the other, as a status writer would.
    async fn write(self, cluster: Cluster, dice: Dice) {
        loop {
            let next = self.0.0.lock().keys().next().cloned();
            let Some(object) = next else {
                self.0.1.notified().await;
                continue;
            };
            sleep(dice.time(1..=200)).await;
            // It may have been cleared, or said anew, meanwhile.
            let update = self.0.0.lock().remove(&object);
            if let Some(update) = update {
                cluster.set_status(&object, Some(update.status));
                cluster.set_finalizer(&object, update.finalizer);
            }
        }
    }
}

struct Sink {
    replica: usize,
    link: Link,
    pending: Pending,
    history: Arc<Mutex<History>>,
}

impl StatusSink for Sink {
    fn publish(&mut self, update: StatusUpdate) {
        self.history.lock().said(self.replica, update.clone(), self.link.known());
        self.pending.0.0.lock().insert(update.object.clone(), update);
        self.pending.0.1.notify_one();
    }

    fn forget(&mut self, object: &ObjectRef) {
        self.pending.0.0.lock().remove(object);
    }

    fn clear(&mut self) -> Vec<ObjectRef> {
        std::mem::take(&mut *self.pending.0.0.lock()).into_keys().collect()
    }
}

/// Whether a replica gets any time.
#[derive(Clone, Default)]
struct Pause(Arc<Mutex<(bool, Option<Waker>)>>);

/// A future that is not polled while paused.
struct Pausable {
    inner: BoxFuture<'static, ()>,
    pause: Pause,
    meter: Meter,
}

impl Future for Pausable {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.pause.0.lock();
            state.1 = Some(context.waker().clone());
            if state.0 || self.meter.poll() {
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(context)
    }
}

/// How delays grow: without chance, which would not come from the seed.
pub(crate) const RETRY: RetryLimits = RetryLimits::exactly(Duration::from_millis(100), Duration::from_secs(5));

impl Running {
    pub(crate) fn start(
        number: usize,
        cluster: &Cluster,
        link: &Link,
        dice: &Dice,
        history: &Arc<Mutex<History>>,
        meter: &Meter,
    ) -> Self {
        let control = ControlKeys::new("/control".into(), INSTANCE.into());
        let mut settings = reconcile::Settings::new(control, format!("replica-{number}").into(), CONTROLLER.into());
        settings.retry = RETRY;
        settings.in_flight_max =
            std::num::NonZeroU32::MIN.saturating_add(u32::try_from(dice.number(0..=3)).unwrap_or(0));
        settings.limits.operations_max = usize::try_from(dice.number(6..=16)).unwrap_or(8);
        settings.audit_interval = Duration::from_mins(1);
        let desired = Desired::new(translation());
        let (pending, stop, pause) = (Pending::default(), CancellationToken::new(), Pause::default());
        let sink = Sink { replica: number, link: link.clone(), pending: pending.clone(), history: history.clone() };
        let statuses = Statuses { sink, idle: Box::new(|_, _| {}) };
        let mut registry = Registry::default();
        let metrics = replica::Metrics {
            reconcile: reconcile::Metrics::register(&mut registry),
            leader: leader::Metrics::register(&mut registry),
        };
        let settings = replica::Settings { reconcile: settings, lease_ttl: Duration::from_secs(15) };
        let store = Arc::new(link.clone());
        let Replica { cluster: events, relists, progress, tasks } =
            replica::wire(settings, desired, &store, statuses, metrics, &stop);
        let (lag, lags) = watch::channel(20);
        let mut all: Vec<BoxFuture<'static, ()>> = tasks.into_iter().map(|(_, task)| task).collect();
        let feeding = cluster.clone().feed(events, relists, lags, dice.fork());
        let writing = pending.clone().write(cluster.clone(), dice.fork());
        let inner = Box::pin(async move {
            let others = join_all(all.drain(..));
            tokio::select! {
                biased;
                _ = others => {}
                () = feeding => {}
                () = writing => {}
            }
        });
        let task = tokio::spawn(Pausable { inner, pause: pause.clone(), meter: meter.clone() });
        Self { progress, pending, lag, stop, pause, task }
    }

    /// Gives it no time, or time again. What it waited for goes on meanwhile, as for a stopped process.
    pub(crate) fn pause(&self, paused: bool) {
        let mut state = self.pause.0.lock();
        state.0 = paused;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }

    /// Ends it as a machine's end would.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    /// Whether it has come to an end, whatever the reason.
    pub(crate) fn ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it as SIGTERM would.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

pub(crate) fn translation() -> desired::Settings {
    desired::Settings {
        controller_name: CONTROLLER.into(),
        instance: INSTANCE.into(),
        plane: PlaneSettings::new(Plane::of(PREFIX), ApisixVersion::DEFAULT).into(),
    }
}
