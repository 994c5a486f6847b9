//! What can happen to cluster, etcd, links and replicas: one act goes in, it is done and told to the history. When which one
//! comes is not decided here.

use super::{PREFIX, hands::other_checkpoint, heal::OTHER_LANE, link::Weather, script::World};
use apisix_etcd_controller::{model::names::Kind, store::memory::Image};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Mutate,
    HandDeletes,
    HandEdits,
    HandPuts,
    ForeignPut,
    ForeignDelete,
    Squat,
    OtherInstance,
    OtherCheckpoint,
    OtherBegins,
    HandControl,
    Flap,
    Garble,
    Plugins,
    Mend,
    Cut,
    Lossy,
    Late,
    Rival,
    Deaf,
    Slow,
    Behind,
    Forgetful,
    Pause,
    Kill,
    Stop,
    Start,
    Expire,
    EndWatches,
    Compact,
    Full,
    Spoil,
    Lag,
    Serve,
    RestoreCluster,
    RestoreStore,
}

/// What can be left out of a run, with how often it happens in one that has it.
pub(crate) const FAULTS: &[(Act, u32)] = &[
    (Act::HandDeletes, 4),
    (Act::HandEdits, 4),
    (Act::HandPuts, 2),
    (Act::ForeignPut, 4),
    (Act::Squat, 3),
    (Act::OtherInstance, 2),
    (Act::OtherCheckpoint, 1),
    (Act::OtherBegins, 2),
    (Act::HandControl, 2),
    (Act::Flap, 4),
    (Act::Garble, 2),
    (Act::Plugins, 1),
    (Act::Cut, 3),
    (Act::Lossy, 5),
    (Act::Late, 4),
    (Act::Rival, 3),
    (Act::Deaf, 2),
    (Act::Slow, 4),
    (Act::Behind, 3),
    (Act::Forgetful, 2),
    (Act::Pause, 3),
    (Act::Kill, 3),
    (Act::Stop, 2),
    (Act::Expire, 2),
    (Act::EndWatches, 2),
    (Act::Compact, 3),
    (Act::Full, 2),
    (Act::Spoil, 2),
    (Act::Lag, 4),
    (Act::Serve, 2),
    (Act::RestoreCluster, 1),
    (Act::RestoreStore, 1),
];

impl World {
    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
    pub(crate) async fn act(&mut self, act: Act) {
        match act {
            Act::Mutate => {
                for _ in 0..self.dice.number(1..=4) {
                    let what = self.cluster.mutate(&self.dice);
                    self.say(format!("cluster: {what}"));
                }
            }
            Act::HandDeletes => {
                if let Some(key) = self.some_key(true).await {
                    self.say(format!("somebody deletes {key}"));
                    self.store.delete(&key);
                }
            }
            Act::HandEdits => self.edit().await,
            Act::HandPuts => {
                let key = self.some_id().key();
                self.say(format!("somebody puts {key}"));
                self.store.put(&key, self.stranger());
            }
            Act::ForeignPut => {
                let directory = if self.dice.chance(80) { "stream_routes" } else { "upstreams" };
                let key = format!("{PREFIX}/{directory}/{}", self.dice.number(1..=4));
                self.say(format!("somebody puts {key}"));
                self.store.put(&key, self.stranger());
            }
            Act::ForeignDelete => {
                if let Some(key) = self.some_key(false).await {
                    self.say(format!("somebody deletes {key}"));
                    self.store.delete(&key);
                }
            }
            Act::Squat => self.squat().await,
            Act::OtherInstance => self.other_instance(),
            Act::OtherCheckpoint => {
                let there = self.store.get(OTHER_LANE).is_some();
                self.say(format!("another instance has no checkpoint: {there}"));
                if there {
                    self.store.delete(OTHER_LANE);
                } else {
                    self.store.put(OTHER_LANE, other_checkpoint());
                }
            }
            Act::OtherBegins => self.other_begins(),
            Act::HandControl => self.meddle_with_control().await,
            Act::Flap => {
                if let Some((object, observed)) = self.cluster.take(&self.dice) {
                    self.say(format!("cluster: {object} goes for a moment"));
                    sleep(self.dice.time(0..=4_000)).await;
                    self.cluster.put_back(&object, observed.clone());
                    self.say(format!("cluster: {object} is back"));
                    // Sometimes again and again, faster than a watch that is behind tells of it.
                    while self.dice.chance(75) {
                        sleep(self.dice.time(0..=1_000)).await;
                        let gone = self.cluster.delete(&object);
                        self.say(format!("cluster: {gone} again"));
                        sleep(self.dice.time(0..=1_000)).await;
                        self.cluster.put_back(&object, observed.clone());
                        self.say(format!("cluster: {object} is back"));
                    }
                }
            }
            Act::Garble => {
                if let Some(object) = self.cluster.garble(&self.dice) {
                    self.say(format!("cluster: {object} cannot be read"));
                }
            }
            Act::Plugins => {
                let key = format!("{PREFIX}/plugins");
                match self.dice.number(0..=2) {
                    0 => self.store.delete(&key),
                    1 => self.store.put(&key, json!([{"name": "limit-conn", "stream": true}]).to_string()),
                    _ => self.store.put(&key, json!([{"name": "traffic-split", "stream": true}]).to_string()),
                };
            }
            Act::Mend => self.weather(|weather| *weather = Weather::default(), "is mended"),
            Act::Cut => self.weather(|weather| weather.cut = true, "is cut"),
            Act::Lossy => {
                let lossy = u32::try_from(self.dice.number(5..=60)).unwrap_or(5);
                self.weather(|weather| weather.lossy = lossy, "loses");
            }
            Act::Late => {
                let late = u32::try_from(self.dice.number(5..=60)).unwrap_or(5);
                self.weather(|weather| weather.late = late, "is late");
            }
            Act::Rival => {
                let rival = u32::try_from(self.dice.number(5..=60)).unwrap_or(5);
                self.weather(|weather| weather.rival = rival, "has a rival");
            }
            Act::Deaf => self.weather(|weather| weather.deaf = true, "does not hear of the leader key"),
            Act::Slow => {
                let slow = self.dice.number(10..=3_000);
                self.weather(|weather| weather.slow = slow, "is slow");
            }
            Act::Behind => {
                let behind = self.dice.number(10..=5_000);
                self.weather(|weather| weather.behind = behind, "is behind with news");
            }
            Act::Forgetful => {
                let forgetful = u32::try_from(self.dice.number(5..=60)).unwrap_or(5);
                self.weather(|weather| weather.forgetful = forgetful, "forgets");
            }
            Act::Pause => {
                let replica = self.someone();
                let time = self.dice.time(100..=40_000);
                if let (Some(Some(running)), Some(until)) =
                    (self.running.get(replica), self.paused_until.get_mut(replica))
                {
                    *until = Some(Instant::now() + time);
                    running.pause(true);
                    self.say(format!("replica {replica} is paused for {time:?}"));
                }
            }
            Act::Kill => {
                let replica = self.someone();
                self.drop_pause(replica);
                if let Some(running) = self.running.get_mut(replica).and_then(Option::take) {
                    self.say(format!("replica {replica} is killed"));
                    running.kill();
                }
            }
            Act::Stop => {
                let replica = self.someone();
                self.drop_pause(replica);
                if let Some(running) = self.running.get_mut(replica).and_then(Option::take) {
                    self.say(format!("replica {replica} is told to end"));
                    running.pause(false);
                    running.stop();
                    self.ending.push((Instant::now(), running));
                }
            }
            Act::Start => self.start(self.someone()),
            Act::Expire => {
                if let Some(lease) = self.dice.pick(&self.store.leases()).copied() {
                    self.say(format!("lease {lease:?} ends"));
                    self.store.expire(lease);
                }
            }
            Act::EndWatches => {
                self.say("every watch ends");
                self.store.end_watches();
            }
            Act::Compact => {
                self.say("etcd is compacted");
                self.store.compact(self.store.revision());
                if self.dice.chance(50) {
                    self.store.end_watches();
                }
            }
            Act::Full => {
                let full = self.dice.chance(50);
                self.say(format!("etcd is full: {full}"));
                self.store.full(full);
            }
            Act::Spoil => {
                if let Some(object) = self.cluster.some_status(&self.dice) {
                    self.say(format!("somebody spoils the status of {object}"));
                    let status = self.dice.chance(50).then(|| json!({"parents": [], "conditions": []}));
                    self.cluster.set_status(&object, status);
                }
            }
            Act::Lag => {
                let (replica, lag) =
                    (self.someone(), self.dice.number(0..=if self.dice.chance(20) { 60_000 } else { 2_000 }));
                if let Some(Some(running)) = self.running.get(replica) {
                    running.lag.send_replace(lag);
                    self.say(format!("news of the cluster reach replica {replica} after up to {lag} ms"));
                }
            }
            Act::Serve => {
                let kind = self.dice.pick(&Kind::ALL).copied().unwrap_or(Kind::TcpRoute);
                let served = self.dice.chance(50);
                self.say(format!("{kind} is served: {served}"));
                self.cluster.serve(kind, served);
            }
            Act::RestoreCluster => {
                if let Some(backup) = self.cluster_backup.take() {
                    self.say("the cluster is restored");
                    self.cluster.restore(backup);
                } else {
                    self.say("the cluster is backed up");
                    self.cluster_backup = Some(self.cluster.image());
                }
            }
            Act::RestoreStore => match self.backup.take() {
                Some(backup) => self.restore_store(backup),
                None if self.dice.chance(20) => self.restore_store(Image::default()),
                None => {
                    self.say("etcd is backed up");
                    self.backup = Some(self.store.image());
                }
            },
        }
        self.history.lock().take();
    }

    fn restore_store(&self, backup: Image) {
        self.history.lock().take();
        self.store.restore(backup);
        self.history.lock().store_restored();
    }

    fn drop_pause(&mut self, replica: usize) {
        if let Some(until) = self.paused_until.get_mut(replica) {
            *until = None;
        }
    }
}
