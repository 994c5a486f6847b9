//! The wiring of `run`: the only place that knows everyone.
//!
//! Checked settings go in; a running controller comes out, as tasks that stop together. What each of them does is said in
//! its own room, and nothing is decided here but what happens when one of them ends.

use crate::{
    admin::{Admin, Answers},
    clock,
    cluster::{
        self, ClusterEvent, Relist,
        folder::follow_folder,
        watch::{FollowSettings, follow_cluster},
    },
    config::settings::{ObjectSource, RunSettings, etcd::EtcdAddress, writing::WritingSettings},
    leader, metrics,
    model::{names::ObjectRef, verdicts::Served},
    readiness::Readiness,
    reconcile::{self, IdleHook, Progress, Statuses, Waiting},
    replica::{self, Replica},
    show::board::{FolderSink, print_overviews},
    status::{
        self,
        events::{
            Notice, NoticeQueue,
            writer::{EventSettings, write_events},
        },
        queue::{StatusQueue, StatusSink, StatusUpdate},
        writer::{WriterSettings, write_statuses},
    },
    store::{
        control::ControlKeys,
        etcd::{EtcdSettings, EtcdStore},
    },
    translate::desired::{self, Desired},
};
use anyhow::{Context as _, anyhow};
use kube::{Client, Config, config::Kubeconfig};
use prometheus_client::registry::Registry;
use std::{collections::HashMap, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{Id, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long tasks may take to end. The status writer takes longest: up to ten seconds for a request on its way.
const ENDING: Duration = Duration::from_secs(12);

/// A running controller.
#[derive(Debug)]
pub struct App {
    admin_address: SocketAddr,
    stop: CancellationToken,
    tasks: Tasks,
}

/// The tasks of a controller, by name.
#[derive(Debug, Default)]
struct Tasks {
    running: JoinSet<io::Result<()>>,
    names: HashMap<Id, &'static str>,
    /// Cancelled when tasks are broken off, and when this is dropped.
    broken_off: BrokenOff,
}

/// What breaks off tasks that have a thread of their own, which cannot be aborted.
#[derive(Debug, Default)]
struct BrokenOff(CancellationToken);

impl Drop for BrokenOff {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Starts a controller. Waits for nothing that may be away: an etcd or API server that does not answer is asked again and
/// again by the task that needs it, and `/readyz` says so. Must be called inside a tokio runtime.
///
/// Errors are those of settings that could not be checked before: an address that is taken, a kubeconfig that cannot be read.
pub async fn build(settings: RunSettings) -> anyhow::Result<App> {
    let RunSettings { source, etcd, writing, translation, origins: _, admin_address, log: _ } = settings;
    install_tls_provider();
    let admin = Admin::bind(admin_address).await?;
    let admin_address = admin.address();
    let mut registry = metrics::registry(translation.plane.version);
    let source = Source::of(source, &mut registry).await?;
    let store = Arc::new(connect(etcd).await?);
    let stop = CancellationToken::new();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        prefix = %translation.plane.plane,
        instance = %translation.instance,
        replica = %writing.holder,
        controller_name = %translation.controller_name,
        apisix_version = %translation.plane.version,
        admin_address = %admin_address,
        "starting"
    );
    let start = Start {
        settings: replica_settings(&translation, &writing),
        desired: Desired::new(translation.clone()).beside(&writing.control_prefix),
        store,
        metrics: replica::Metrics {
            reconcile: reconcile::Metrics::register(&mut registry),
            leader: leader::Metrics::register(&mut registry),
        },
    };
    let cluster_metrics = cluster::metrics::Metrics::register(&mut registry);
    let (mut tasks, controller_name) = (Tasks::default(), Arc::clone(&translation.controller_name));
    let progress = match source {
        Source::Folder(paths) => {
            let (sink, overviews) = FolderSink::new(translation.clone());
            let shown = sink.clone();
            let idle: IdleHook = Box::new(move |desired, standing| shown.show(desired, standing));
            let started = start.spawn(&mut tasks, Statuses { sink, idle }, &stop);
            tasks.spawn_apart("showing", print_overviews(overviews, translation.plane.plane, stop.clone()));
            let Started { events, relists, progress } = started;
            let following = follow_folder(paths, controller_name, events, relists, cluster_metrics, stop.clone());
            tasks.spawn_apart("following manifests", following);
            progress
        }
        Source::Cluster(client, status_metrics) => {
            let (served, watched_served) = watch::channel(Served::default());
            let queue = StatusQueue::default();
            let notices = NoticeQueue::default();
            let sink = ClusterSink { queue: queue.clone(), notices: notices.clone(), served };
            let started = start.spawn(&mut tasks, Statuses { sink, idle: Box::new(|_, _| ()) }, &stop);
            let writer = WriterSettings::new(Arc::clone(&controller_name));
            let writing_statuses =
                write_statuses(queue, client.clone(), watched_served.clone(), writer, status_metrics, stop.clone());
            tasks.spawn("writing statuses", writing_statuses);
            let events = EventSettings::new(Arc::clone(&controller_name), Arc::clone(&writing.holder));
            tasks.spawn(
                "writing Events",
                write_events(notices, client.clone(), watched_served.clone(), events, stop.clone()),
            );
            let Started { events, relists, progress } = started;
            let follow = FollowSettings::new(controller_name);
            let following = follow_cluster(client, follow, events, relists, cluster_metrics, stop.clone());
            tasks.spawn("following the cluster", following);
            progress
        }
    };
    let answers = Answers { readiness: readiness(progress), registry: Arc::new(registry) };
    tasks.try_spawn("serving the admin port", admin.serve(answers, stop.clone()));
    Ok(App { admin_address, stop, tasks })
}

impl App {
    /// Where the admin port listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// What ends the controller in good order when cancelled.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits for the end. A task that ends by itself ends all others, and is the error. Dropping the future ends every task
    /// where it is, which harms nothing that is stored: every write is guarded by what it was computed from.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.wait_and_end_within(ENDING).await
    }

    async fn wait_and_end_within(self, ending: Duration) -> anyhow::Result<()> {
        let Self { admin_address: _, stop, mut tasks } = self;
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            first = tasks.ended() => first.map_or(Ok(()), Err),
        };
        stop.cancel();
        let all = async { while tasks.ended().await.is_some() {} };
        if timeout(ending, all).await.is_err() {
            tracing::warn!(tasks = ?tasks.names.values(), "some tasks did not end in time and are broken off");
            tasks.broken_off.0.cancel();
            tasks.running.shutdown().await;
        }
        outcome
    }
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.try_spawn(name, async {
            task.await;
            Ok(())
        });
    }

    /// Runs a task on a thread of its own: one that may compute for seconds without a pause, over a hundred thousand routes.
    /// On a thread that it shared, those it has just woken (such as the connection to etcd, on which the lease is renewed)
    /// would wait for it, and nobody else can take them over.
    fn spawn_apart(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (runtime, broken_off) = (Handle::current(), self.broken_off.0.clone());
        let task = move || {
            runtime.block_on(broken_off.run_until_cancelled_owned(task));
            Ok(())
        };
        let id = self.running.spawn_blocking(task).id();
        self.names.insert(id, name);
    }

    fn try_spawn(&mut self, name: &'static str, task: impl Future<Output = io::Result<()>> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name);
    }

    /// The next end of a task, as the error it is unless it was told to end; `None` when all have ended.
    async fn ended(&mut self) -> Option<anyhow::Error> {
        let ended = self.running.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let name = self.names.remove(&id).unwrap_or("a task");
        Some(match ended {
            Ok((_, Ok(()))) => anyhow!("{name} ended by itself"),
            Ok((_, Err(error))) => anyhow!(error).context(format!("{name} failed")),
            Err(error) => anyhow!(error).context(format!("{name} failed")),
        })
    }
}

/// Everything of a replica but where its statuses go.
struct Start {
    settings: replica::Settings,
    desired: Desired,
    store: Arc<EtcdStore>,
    metrics: replica::Metrics,
}

/// What the source of objects is connected to.
struct Started {
    events: mpsc::Sender<ClusterEvent>,
    relists: mpsc::UnboundedReceiver<Relist>,
    progress: watch::Receiver<Progress>,
}

impl Start {
    fn spawn<K: StatusSink + 'static>(
        self,
        tasks: &mut Tasks,
        statuses: Statuses<K>,
        stop: &CancellationToken,
    ) -> Started {
        let Self { settings, desired, store, metrics } = self;
        let Replica { cluster, relists, progress, tasks: of_replica } =
            replica::wire(settings, desired, &store, statuses, metrics, stop);
        for (name, task) in of_replica {
            tasks.spawn_apart(name, task);
        }
        Started { events: cluster, relists, progress }
    }
}

fn replica_settings(translation: &desired::Settings, writing: &WritingSettings) -> replica::Settings {
    let control = ControlKeys::new(Arc::clone(&writing.control_prefix), Arc::clone(&translation.instance));
    let (holder, controller_name) = (Arc::clone(&writing.holder), Arc::clone(&translation.controller_name));
    let mut settings = reconcile::Settings::new(control, holder, controller_name);
    settings.in_flight_max = writing.transactions_in_flight;
    settings.audit_interval = writing.audit_interval;
    settings.write_stall = writing.write_stall;
    settings.drift = writing.drift;
    settings.hold_time = writing.hold_time;
    replica::Settings { reconcile: settings, lease_ttl: writing.lease_ttl }
}

/// Where objects come from, opened.
enum Source {
    Folder(Vec<std::path::PathBuf>),
    Cluster(Client, status::metrics::Metrics),
}

impl Source {
    async fn of(source: ObjectSource, registry: &mut Registry) -> anyhow::Result<Self> {
        let mut config = match source {
            ObjectSource::Manifests(paths) => return Ok(Self::Folder(paths)),
            ObjectSource::Kubeconfig(path) => read_kubeconfig(&path)
                .await
                .with_context(|| format!("cannot use the kubeconfig {} (--kubeconfig)", path.display()))?,
            ObjectSource::Inferred => Config::infer().await.context(
                "no Kubernetes cluster to follow: run this in a cluster, set KUBECONFIG, or give --kubeconfig FILE or \
                 --manifests DIR",
            )?,
        };
        // Whoever asks tries again by itself, and says why meanwhile.
        config.default_retry = false;
        tracing::info!(cluster = %config.cluster_url, "following a cluster");
        let client = Client::try_from(config).context("cannot make a client for the Kubernetes API")?;
        Ok(Self::Cluster(client, status::metrics::Metrics::register(registry)))
    }
}

async fn read_kubeconfig(path: &Path) -> anyhow::Result<Config> {
    Ok(Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &kube::config::KubeConfigOptions::default())
        .await?)
}

async fn connect(etcd: EtcdAddress) -> anyhow::Result<EtcdStore> {
    let EtcdAddress { endpoints, timeout, login, tls } = etcd;
    tracing::info!(?endpoints, "writing to etcd");
    Ok(EtcdStore::connect(&EtcdSettings { endpoints, request_timeout: timeout, login, tls }).await?)
}

/// Several parts of the process use rustls; whoever comes first decides for all.
fn install_tls_provider() {
    // An error says that it was installed before, by an earlier controller of this process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What the loop waits for, in words.
fn readiness(progress: watch::Receiver<Progress>) -> Readiness {
    Readiness::new(move || waiting_for(&progress.borrow()))
}

fn waiting_for(progress: &Progress) -> Vec<String> {
    let Progress { waiting, following: _, halted, role: _, settled: _ } = progress;
    let Waiting { kinds, identity, documents, control } = waiting;
    let lists = kinds.iter().map(|(kind, reason)| match reason {
        Some(reason) => format!("the list of every {kind}: {reason}"),
        None => format!("the list of every {kind}"),
    });
    let identity = identity.then(|| "the cluster, to say which one it is".to_owned());
    let documents = documents.then(|| "etcd, to read what is there".to_owned());
    let control = control.then(|| "etcd, to read who wrote last".to_owned());
    let halted = halted.as_ref().map(|why| format!("a person: {why}"));
    lists.chain(identity).chain(documents).chain(control).chain(halted).collect()
}

/// Statuses on their way to an API server.
struct ClusterSink {
    queue: StatusQueue,
    notices: NoticeQueue,
    served: watch::Sender<Served>,
}

impl StatusSink for ClusterSink {
    fn publish(&mut self, update: StatusUpdate) {
        self.queue.publish(update);
    }

    fn forget(&mut self, object: &ObjectRef) {
        self.queue.forget(object);
    }

    fn clear(&mut self) -> Vec<ObjectRef> {
        self.queue.clear()
    }

    fn announce(&mut self, notice: Notice) {
        self.notices.push(notice, clock::now());
    }

    fn served(&mut self, served: &Served) {
        self.served.send_replace(served.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::Kind;

    fn app(tasks: Tasks, stop: CancellationToken) -> App {
        App { admin_address: ([127, 0, 0, 1], 0).into(), stop, tasks }
    }

    #[tokio::test]
    async fn a_task_that_ends_takes_the_others_with_it_and_is_the_error() {
        for (panics, apart) in [(false, false), (true, false), (false, true), (true, true)] {
            let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
            tasks.spawn("staying", stop.clone().cancelled_owned());
            tasks.spawn_apart("staying apart", stop.clone().cancelled_owned());
            let going = async move { assert!(!panics, "on purpose") };
            if apart {
                tasks.spawn_apart("going", going);
            } else {
                tasks.spawn("going", going);
            }
            let error = app(tasks, stop).wait().await.unwrap_err();
            assert_eq!(error.to_string(), if panics { "going failed" } else { "going ended by itself" });
        }
    }

    #[tokio::test]
    async fn tasks_that_are_told_to_end_are_no_error() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.spawn("staying", stop.clone().cancelled_owned());
        tasks.spawn_apart("staying apart", stop.clone().cancelled_owned());
        stop.cancel();
        app(tasks, stop).wait().await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_in_time_is_broken_off() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        tasks.spawn("staying", std::future::pending());
        tasks.spawn_apart("staying apart", std::future::pending());
        stop.cancel();
        app(tasks, stop).wait_and_end_within(Duration::from_millis(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_task_that_computes_without_a_pause_keeps_nobody_waiting() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let (ask, mut asked) = mpsc::channel(1);
        let (answer, answered) = std::sync::mpsc::channel();
        tasks.spawn("answering", async move {
            let _ = asked.recv().await;
            let _ = answer.send(());
            std::future::pending::<()>().await;
        });
        tasks.spawn_apart("computing", async move {
            ask.send(()).await.unwrap();
            answered.recv_timeout(Duration::from_mins(1)).expect("the other task runs meanwhile");
        });
        let error = app(tasks, stop).wait_and_end_within(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "computing ended by itself");
    }

    #[tokio::test]
    async fn whoever_drops_a_controller_ends_its_tasks() {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let (guard, guarded) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn_apart("staying apart", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        drop(app(tasks, stop));
        guarded.await.unwrap_err();
    }

    #[test]
    fn what_is_waited_for_is_named() {
        let kinds = [(Kind::Gateway, None), (Kind::Service, Some("forbidden".into()))].into();
        let waiting = Waiting { kinds, identity: true, documents: true, control: true };
        let mut progress = Progress { waiting, halted: Some("look at it".into()), ..Progress::default() };
        assert_eq!(
            waiting_for(&progress),
            [
                "the list of every Gateway",
                "the list of every Service: forbidden",
                "the cluster, to say which one it is",
                "etcd, to read what is there",
                "etcd, to read who wrote last",
                "a person: look at it"
            ]
        );
        progress.waiting = Waiting::default();
        assert_eq!(waiting_for(&progress), ["a person: look at it"]);
        progress.halted = None;
        assert!(waiting_for(&progress).is_empty(), "one that could lead is ready");
    }
}
