//! What happens in one run: a seed goes in; a history, and what went wrong, come out.
//!
//! Each run draws first which faults there are at all, so that some meet often in one run and others never do. After the last
//! one everything is mended, and the replicas have a while to put things right.

use super::{
    INSTANCE, PREFIX, checker,
    cluster::{self, Cluster},
    dice::Dice,
    heal::{Healed, OTHER_LANE},
    history::History,
    link::{Link, Weather},
    replica::{Running, translation},
};
use apisix_etcd_controller::{
    command::checkpoint::reset::reset,
    model::{
        names::Kind,
        places::{Directory, WorkId},
    },
    reconcile::Role,
    store::{
        Content, PagePlace, Scope, Store as _,
        checkpoint::Checkpoint,
        control::ControlKeys,
        memory::{Image, MemoryStore},
        txn::Revision,
    },
    translate::desired::{self, Desired, Wanted},
};
use parking_lot::Mutex;
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// A run that went wrong.
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) history: String,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Mutate,
    HandDeletes,
    HandEdits,
    HandPuts,
    ForeignPut,
    ForeignDelete,
    OtherInstance,
    OtherCheckpoint,
    HandControl,
    Garble,
    Plugins,
    Mend,
    Cut,
    Lossy,
    Slow,
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
const FAULTS: &[(Act, u32)] = &[
    (Act::HandDeletes, 4),
    (Act::HandEdits, 4),
    (Act::HandPuts, 2),
    (Act::ForeignPut, 4),
    (Act::OtherInstance, 2),
    (Act::OtherCheckpoint, 1),
    (Act::HandControl, 2),
    (Act::Garble, 2),
    (Act::Plugins, 1),
    (Act::Cut, 3),
    (Act::Lossy, 5),
    (Act::Slow, 4),
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

/// How long everything may take to be as it should be, once nothing fails any more: a lease, a watch that is found dead, two
/// audits.
const HEALING: Duration = Duration::from_mins(6);

/// How long nothing may be written after that.
const QUIET: Duration = Duration::from_mins(3);

/// What another instance that writes the same prefix has recorded.
fn other_checkpoint() -> Vec<u8> {
    let record = Checkpoint {
        instance: "another".into(),
        cluster: "another cluster".into(),
        prefixes: [(PREFIX.into(), "".into())].into(),
        versions: BTreeMap::new(),
        sequence: 1,
        holder: "another replica".into(),
        written_at: 0,
    };
    record.encode()
}

struct World {
    dice: Dice,
    store: MemoryStore,
    cluster: Cluster,
    history: Arc<Mutex<History>>,
    links: Vec<Link>,
    running: Vec<Option<Running>>,
    /// Ended in order, and not gone yet.
    ending: Vec<(Instant, Running)>,
    paused_until: Vec<Option<Instant>>,
    backup: Option<Image>,
    cluster_backup: Option<cluster::State>,
    acts: Vec<Act>,
}

/// Runs one seed, and looks through what happened.
pub(crate) async fn run(seed: u64) -> (String, Option<Failure>) {
    let dice = Dice::new(seed);
    let store = MemoryStore::new();
    let history = Arc::new(Mutex::new(History::new(&store)));
    let mut world = World::new(dice, store, history.clone());
    let outcome = world.play().await;
    history.lock().take();
    let history = history.lock();
    let readable = history.readable();
    let failure = match (checker::check(&history), outcome) {
        (Err((n, breach)), _) => {
            let end: Vec<&str> = readable.lines().take(n + 1).collect();
            Some(Failure { what: breach, history: end.join("\n") })
        }
        (Ok(()), Err(what)) => Some(Failure { what, history: readable.clone() }),
        (Ok(()), Ok(())) => None,
    };
    (readable, failure)
}

impl World {
    fn new(dice: Dice, store: MemoryStore, history: Arc<Mutex<History>>) -> Self {
        let cluster = Cluster::new(&dice);
        let n_replicas = usize::try_from(dice.number(2..=3)).unwrap_or(2);
        let links: Vec<Link> =
            (0..n_replicas).map(|replica| Link::new(&store, replica, dice.fork(), history.clone())).collect();
        let mut acts = vec![Act::Mutate; 30];
        acts.extend([Act::Mend, Act::Start].repeat(6));
        for (act, weight) in FAULTS {
            if dice.chance(35) {
                acts.extend([*act].repeat(usize::try_from(*weight).unwrap_or(1)));
                if *act == Act::ForeignPut {
                    acts.extend([Act::ForeignDelete; 3]);
                }
            }
        }
        Self {
            dice,
            store,
            cluster,
            history,
            running: links.iter().map(|_| None).collect(),
            paused_until: links.iter().map(|_| None).collect(),
            links,
            ending: Vec::new(),
            backup: None,
            cluster_backup: None,
            acts,
        }
    }

    fn say(&self, what: impl Into<String>) {
        self.history.lock().done(what.into());
    }

    async fn play(&mut self) -> Result<(), String> {
        for replica in 0..self.links.len() {
            if self.dice.chance(80) {
                self.start(replica);
            }
        }
        for _ in 0..self.dice.number(20..=80) {
            let most = if self.dice.chance(70) { 2_000 } else { 20_000 };
            sleep(self.dice.time(0..=most)).await;
            self.resume_those_whose_time_has_come(false);
            self.nobody_ended_by_itself()?;
            if let Some(act) = self.dice.pick(&self.acts).copied() {
                self.act(act).await;
            }
        }
        self.heal().await
    }

    fn start(&mut self, replica: usize) {
        if self.running.get(replica).is_some_and(Option::is_none)
            && let Some(link) = self.links.get_mut(replica)
        {
            link.forget();
            let running = Running::start(replica, &self.cluster, link, &self.dice.fork(), &self.history);
            self.say(format!("replica {replica} started"));
            if let Some(place) = self.running.get_mut(replica) {
                *place = Some(running);
            }
        }
    }

    fn resume_those_whose_time_has_come(&mut self, all: bool) {
        for (replica, until) in self.paused_until.iter_mut().enumerate() {
            if until.is_some_and(|until| all || until <= Instant::now()) {
                *until = None;
                if let Some(Some(running)) = self.running.get(replica) {
                    self.history.lock().done(format!("replica {replica} goes on"));
                    running.pause(false);
                }
            }
        }
        self.ending.retain(|(since, running)| !running.ended() && since.elapsed() < Duration::from_secs(60));
    }

    fn nobody_ended_by_itself(&self) -> Result<(), String> {
        let ended = self.running.iter().flatten().any(Running::ended);
        let stuck = self.ending.iter().find(|(since, _)| since.elapsed() > Duration::from_secs(30));
        match (ended, stuck) {
            (true, _) => Err("a replica ended by itself, or panicked".to_owned()),
            (false, Some(_)) => Err("a replica that was told to end did not within 30 s".to_owned()),
            (false, None) => Ok(()),
        }
    }

    /// A replica, and its number, that runs.
    fn someone(&self) -> usize {
        self.dice.index(self.links.len())
    }

    fn weather(&self, change: impl FnOnce(&mut Weather), what: &str) {
        let replica = self.someone();
        let Some(link) = self.links.get(replica) else { return };
        let mut weather = link.weather();
        change(&mut weather);
        link.set(weather);
        self.say(format!("the link of replica {replica} {what}: {weather:?}"));
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each thing that can happen")]
    async fn act(&mut self, act: Act) {
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
                let key = self.some_id().key(PREFIX);
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
            Act::HandControl => self.meddle_with_control().await,
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
            Act::Slow => {
                let slow = self.dice.number(10..=3_000);
                self.weather(|weather| weather.slow = slow, "is slow");
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
            Act::RestoreCluster => match self.cluster_backup.take() {
                Some(backup) => {
                    self.say("the cluster is restored");
                    self.cluster.restore(backup);
                }
                None => {
                    self.say("the cluster is backed up");
                    self.cluster_backup = Some(self.cluster.image());
                }
            },
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

    /// An id that a document of ours has, or could have.
    fn some_id(&self) -> WorkId {
        let desired = self.desired(INSTANCE);
        let ids: Vec<WorkId> = desired.documents().into_iter().filter(|id| !id.is_placeholder()).collect();
        match self.dice.pick(&ids) {
            Some(id) if !self.dice.chance(20) => id.clone(),
            Some(_) | None => {
                let port = self.dice.number(9100..=9104);
                WorkId::new(Directory::StreamRoutes, &format!("gateway-api.{port}"))
            }
        }
    }

    fn desired(&self, instance: &str) -> Desired {
        let mut desired = Desired::new(desired::Settings { instance: instance.into(), ..translation() });
        for (kind, objects) in self.cluster.objects() {
            desired.note_list(kind, objects);
        }
        desired.settle();
        desired
    }

    /// A key that is there, of our shape or not.
    async fn some_key(&self, ours: bool) -> Option<String> {
        let scope = Scope::Below(PREFIX.into());
        let page = self.store.page(&scope, Content::KeysOnly, PagePlace::First).await.ok()?;
        let keys = page.entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned());
        let keys: Vec<String> =
            keys.filter(|key| (key.contains("gateway-api.") || key.ends_with('/')) == ours).collect();
        self.dice.pick(&keys).cloned()
    }

    async fn edit(&self) {
        let Some(key) = self.some_key(true).await else { return };
        let Some(held) = self.store.get(&key) else { return };
        let text = String::from_utf8_lossy(&held.value).into_owned();
        let edited = match self.dice.number(0..=4) {
            0 => text.replace("\"port\":8080", "\"port\":8081"),
            1 => text.replace("\"server_port\":91", "\"server_port\":92"),
            2 => text.replace(":9101", ":9102"),
            3 => "{}".to_owned(),
            _ => format!(" {text}"),
        };
        self.say(format!("somebody edits {key}"));
        self.store.put(&key, edited);
    }

    /// A stream_route or something else that nobody sealed.
    fn stranger(&self) -> String {
        let pools = self.desired(INSTANCE).documents().into_iter().filter(|id| id.directory == Directory::Upstreams);
        let pools: Vec<WorkId> = pools.filter(|id| !id.is_placeholder()).collect();
        let upstream = self.dice.pick(&pools).map_or("1".to_owned(), |pool| pool.id.to_string());
        let port = self.dice.number(9100..=9104);
        match self.dice.number(0..=5) {
            0 => json!({"id": "1", "upstream_id": upstream}).to_string(),
            1 => json!({"id": "1", "server_port": port, "sni": "a.example", "upstream_id": upstream}).to_string(),
            2 => "not json".to_owned(),
            _ => json!({"id": "1", "server_port": port, "upstream_id": upstream}).to_string(),
        }
    }

    /// Somebody puts or deletes what only the leader may.
    async fn meddle_with_control(&self) {
        let scope = Scope::Below("/control/default".into());
        let Ok(page) = self.store.page(&scope, Content::Values, PagePlace::First).await else { return };
        let Some(entry) = self.dice.pick(&page.entries) else { return };
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        // A leader key without a lease would stay until a person takes it away.
        let least = if key.ends_with("leader") { 5 } else { 0 };
        match self.dice.number(least..=9) {
            0 => {
                self.say(format!("somebody puts nonsense into {key}"));
                self.store.put(&key, "nonsense");
            }
            1..=4 => {
                self.say(format!("somebody puts {key} once more"));
                self.store.put(&key, &entry.value);
            }
            _ => {
                self.say(format!("somebody deletes {key}"));
                self.store.delete(&key);
            }
        }
    }

    /// Another instance of the controller writes one of its documents, or goes.
    fn other_instance(&self) {
        let desired = self.desired("another");
        let ids: Vec<WorkId> = desired.documents().into_iter().filter(|id| !id.is_placeholder()).collect();
        let Some(id) = self.dice.pick(&ids) else { return };
        let key = id.key(PREFIX);
        if self.dice.chance(30) {
            self.say(format!("another instance deletes {key}"));
            self.store.delete(&key);
        } else if let Wanted::Document(document) = desired.wanted(id) {
            self.say(format!("another instance puts {key}"));
            self.store.put(&key, document.bytes);
        }
    }

    /// Nothing fails any more; a person does what only a person may.
    async fn heal(&mut self) -> Result<(), String> {
        self.say("nothing fails any more");
        self.store.full(false);
        for link in &self.links {
            link.set(Weather::default());
        }
        self.resume_those_whose_time_has_come(true);
        for kind in Kind::ALL {
            self.cluster.serve(kind, true);
        }
        self.cluster.ungarble(&self.dice);
        for replica in 0..self.links.len() {
            self.start(replica);
        }
        for running in self.running.iter().flatten() {
            running.lag.send_replace(20);
        }
        let until = Instant::now() + HEALING;
        loop {
            sleep(Duration::from_secs(5)).await;
            self.resume_those_whose_time_has_come(true);
            self.nobody_ended_by_itself()?;
            if self.running.iter().flatten().any(|running| running.progress.borrow().halted.is_some()) {
                self.reset().await;
            }
            match self.healed().await {
                Ok(()) => break,
                Err(_) if Instant::now() < until => {}
                Err(differences) => return Err(format!("invariant 9: after {HEALING:?}, {differences}")),
            }
        }
        self.say("everything is as it should be");
        self.stays().await
    }

    async fn reset(&self) {
        let control = ControlKeys::new("/control".into(), INSTANCE.into());
        let answer = reset(&self.store, &control, Duration::from_secs(30), |_| {}).await;
        self.history.lock().reset();
        self.say(format!("a person resets the checkpoint: {answer:?}"));
    }

    /// Whether one replica leads, and store and statuses are as they should be.
    async fn healed(&self) -> Result<(), String> {
        let progress: Vec<_> = self.running.iter().flatten().map(|running| running.progress.borrow().clone()).collect();
        let n_leading = progress.iter().filter(|progress| progress.role == Role::Leading).count();
        let n_settled = progress.iter().filter(|progress| progress.settled).count();
        if (n_leading, n_settled) != (1, 1) || progress.iter().any(|progress| !progress.fit()) {
            return Err(format!("{n_leading} lead and {n_settled} are settled: {progress:#?}"));
        }
        if self.running.iter().flatten().any(|running| !running.pending.is_empty()) {
            return Err("statuses wait to be written".to_owned());
        }
        let differences = Healed::look(&self.cluster, &self.store).await.differences(&self.cluster);
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    }

    /// What is as it should be stays so, and nothing more is written.
    async fn stays(&self) -> Result<(), String> {
        let before: Revision = self.store.revision();
        sleep(QUIET).await;
        self.nobody_ended_by_itself()?;
        self.healed().await.map_err(|differences| format!("invariant 9: it did not stay so: {differences}"))?;
        let after = self.store.revision();
        if before == after {
            return Ok(());
        }
        Err(format!("invariant 2: with nothing to do, etcd went from revision {before} to {after}"))
    }
}
