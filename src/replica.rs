//! One replica: following etcd, campaigning and reconciling, wired together over any store.
//!
//! Settings and a store go in; what the source of objects has to be connected to, and the tasks to run, come out. It starts
//! nothing: whoever gets the tasks runs them. On `stop` the loop ends first and then gives the leadership up, so that the next
//! leader need not wait for the lease to end.

use crate::{
    cluster::{ClusterEvent, Relist},
    leader::{
        self, Leadership,
        campaign::{CampaignSettings, campaign},
    },
    reconcile::{self, Inputs, Outputs, Progress, Reconciler, Statuses},
    status::queue::StatusSink,
    store::{
        Store,
        follow::{Reread, control::follow_control, planes::follow_planes},
        lease::Leases,
    },
    translate::desired::Desired,
};
use futures::future::BoxFuture;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Events on their way to the loop from one source. When it is full, the source waits: an API server or etcd keeps what is
/// to come. The loop takes as many between two passes.
const EVENTS_QUEUED: usize = 1_024;

/// A loop resigns at most once in a term, and a term takes longer than a message.
const RESIGNATIONS_QUEUED: usize = 16;

/// What a replica needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the reconcile loop; instance, control keys and name are everybody's.
    pub reconcile: reconcile::Settings,
    /// How long the leader may be silent before another one takes its place.
    pub lease_ttl: Duration,
}

/// Who counts what a replica does.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The loop.
    pub reconcile: reconcile::Metrics,
    /// The campaign.
    pub leader: leader::Metrics,
}

/// A replica that is ready to run.
pub struct Replica {
    /// Where the source of objects tells what there is.
    pub cluster: mpsc::Sender<ClusterEvent>,
    /// Where the source is asked to list a kind anew.
    pub relists: mpsc::UnboundedReceiver<Relist>,
    /// How far the loop has come.
    pub progress: watch::Receiver<Progress>,
    /// What is to be run, by name. Each runs until `stop`.
    pub tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
}

/// Wires one replica together.
pub fn wire<S: Store + Leases, K: StatusSink + 'static>(
    settings: Settings,
    desired: Desired,
    store: &Arc<S>,
    statuses: Statuses<K>,
    metrics: Metrics,
    stop: &CancellationToken,
) -> Replica {
    let Settings { reconcile: settings, lease_ttl } = settings;
    let (retry, control) = (settings.retry, settings.control.clone());
    let (cluster, cluster_events) = mpsc::channel(EVENTS_QUEUED);
    let (documents, document_events) = mpsc::channel(EVENTS_QUEUED);
    let (control_keys, control_events) = mpsc::channel(EVENTS_QUEUED);
    let (leadership, watched_leadership) = watch::channel(Leadership::default());
    let (fit, watched_fit) = watch::channel(false);
    let (resign, resignations) = mpsc::channel(RESIGNATIONS_QUEUED);
    let (planes, watched_planes) = watch::channel(BTreeSet::new());
    let (relist, relists) = mpsc::unbounded_channel();
    let (progress, watched_progress) = watch::channel(Progress::default());
    let (reread, reread_control) = (Reread::default(), Reread::default());

    let campaign_settings =
        CampaignSettings { keys: control.clone(), holder: settings.holder.clone(), ttl: lease_ttl, retry };
    let inputs = Inputs {
        cluster: cluster_events,
        store: document_events,
        control: control_events,
        leadership: watched_leadership,
    };
    let outputs = Outputs { relists: relist, rereads: [reread.clone(), reread_control.clone()], planes, fit, resign };
    let reconciler =
        Reconciler::new(settings, desired, store.clone(), (inputs, outputs), statuses, (metrics.reconcile, progress));
    let written = CancellationToken::new();
    let reconciling = {
        let (stop, written) = (stop.clone(), written.clone());
        async move {
            let _ended = written.drop_guard();
            reconciler.run(stop).await;
        }
    };
    let campaigning =
        campaign(store.clone(), campaign_settings, watched_fit, resignations, leadership, metrics.leader, written);
    let following = follow_planes(store.clone(), watched_planes, documents, reread, retry, stop.clone());
    let following_control = follow_control(
        store.clone(),
        control.clone(),
        control.everyone(),
        control_keys,
        reread_control,
        retry,
        stop.clone(),
    );
    Replica {
        cluster,
        relists,
        progress: watched_progress,
        tasks: vec![
            ("following etcd", Box::pin(following)),
            ("following the control keys", Box::pin(following_control)),
            ("campaigning", Box::pin(campaigning)),
            ("reconciling", Box::pin(reconciling)),
        ],
    }
}
