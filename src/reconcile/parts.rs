//! What the loop is made with: settings, and the ends of the channels between it and everybody else.

use crate::{
    cluster::{ClusterEvent, Relist},
    leader::{Leadership, Resign},
    model::{facts::DriftPolicy, places::Plane},
    plan::pack::Limits,
    retry::RetryLimits,
    store::{
        control::ControlKeys,
        follow::{PlaneEvent, Reread, control::ControlEvent},
    },
};
use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};

/// What the loop needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The instance named in our seals.
    pub instance: Arc<str>,
    /// `spec.controllerName` of the GatewayClasses that are ours.
    pub controller_name: Arc<str>,
    /// How large a transaction may be.
    pub limits: Limits,
    /// Where this instance's own keys are.
    pub control: ControlKeys,
    /// The name of this replica.
    pub holder: Arc<str>,
    /// How many transactions may be in flight: the number of lanes.
    pub in_flight_max: NonZeroU32,
    /// How long a pool or certificate stays after its last user has left: data planes apply directories one after another.
    pub pool_linger: Duration,
    /// How often every key and its revision is compared with what the watch told.
    pub audit_interval: Duration,
    /// How long a difference may be mere lag.
    pub audit_grace: Duration,
    /// How long a leader may have work and write nothing before it gives way.
    pub write_stall: Duration,
    /// What is done about edited documents whose route does not say.
    pub drift: DriftPolicy,
    /// How long a change that would stop most of a data plane is held; `None`: not at all.
    pub hold_time: Option<Duration>,
    /// How delays grow when writing goes wrong.
    pub retry: RetryLimits,
}

impl Settings {
    /// With everything that has a default at it.
    #[must_use]
    pub fn new(control: ControlKeys, holder: Arc<str>, controller_name: Arc<str>) -> Self {
        Self {
            instance: control.instance().clone(),
            controller_name,
            control,
            holder,
            limits: Limits::DEFAULT,
            in_flight_max: IN_FLIGHT,
            // Data planes follow within 40 ms as a rule.
            pool_linger: Duration::from_secs(1),
            audit_interval: Duration::from_mins(10),
            // A watch on a local network is milliseconds behind.
            audit_grace: Duration::from_secs(2),
            write_stall: Duration::from_mins(1),
            drift: DriftPolicy::Repair,
            hold_time: Some(Duration::from_hours(1)),
            retry: RetryLimits::STORE,
        }
    }
}

/// Measured on a local etcd: 4 in flight write half as much again as 1, and 16 no more than 4.
const IN_FLIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// Where the loop hears from. The queues are bounded: when the loop does not keep up, their senders wait.
#[derive(Debug)]
pub struct Inputs {
    /// What the cluster tells.
    pub cluster: mpsc::Receiver<ClusterEvent>,
    /// What the store tells of documents.
    pub store: mpsc::Receiver<PlaneEvent>,
    /// What the store tells of the controller's own keys.
    pub control: mpsc::Receiver<ControlEvent>,
    /// Whether this replica leads.
    pub leadership: watch::Receiver<Leadership>,
}

/// Whom the loop asks for something.
#[derive(Debug)]
pub struct Outputs {
    /// Lists a kind anew.
    pub relists: mpsc::UnboundedSender<Relist>,
    /// Read the documents in etcd anew, and the controller's own keys.
    pub rereads: [Reread; 2],
    /// Which data planes are to be followed.
    pub planes: watch::Sender<BTreeSet<Plane>>,
    /// Whether this replica may campaign.
    pub fit: watch::Sender<bool>,
    /// Gives leading up.
    pub resign: mpsc::Sender<Resign>,
}
