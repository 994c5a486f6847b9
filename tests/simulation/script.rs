//! What happens in one run: a seed goes in; a history, and what went wrong, come out.
//!
//! Each run draws first which faults there are at all, so that some meet often in one run and others never do. After the last
//! one everything is mended, and the replicas have a while to put things right.

use super::{
    acts::{Act, FAULTS},
    checker,
    cluster::{self, Cluster},
    dice::Dice,
    history::History,
    link::{Link, Weather},
    meter::Meter,
    replica::Running,
};
use apisix_etcd_controller::store::memory::{Image, MemoryStore};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};

/// A run that has ended.
pub(crate) struct Played {
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) failure: Option<Failure>,
}

/// What went wrong.
pub(crate) struct Failure {
    pub(crate) what: String,
    /// How many events of the history it took.
    pub(crate) n_events: usize,
}

/// Everything there is in one run.
pub(crate) struct World {
    pub(crate) dice: Dice,
    pub(crate) store: MemoryStore,
    pub(crate) cluster: Cluster,
    pub(crate) history: Arc<Mutex<History>>,
    pub(crate) links: Vec<Link>,
    pub(crate) running: Vec<Option<Running>>,
    /// Ended in order, and not gone yet.
    pub(crate) ending: Vec<(Instant, Running)>,
    pub(crate) paused_until: Vec<Option<Instant>>,
    pub(crate) backup: Option<Image>,
    pub(crate) cluster_backup: Option<cluster::State>,
    acts: Vec<Act>,
    meter: Meter,
}

/// Runs one seed, and looks through what happened. `begun` is shown the history before anything happens.
pub(crate) async fn run(seed: u64, begun: impl FnOnce(&Arc<Mutex<History>>)) -> Played {
    let dice = Dice::new(seed);
    let store = MemoryStore::new();
    let history = Arc::new(Mutex::new(History::new(&store)));
    begun(&history);
    let meter = Meter::default();
    let mut world = World::new(dice, store, history.clone(), meter.clone());
    let outcome = tokio::select! {
        biased;
        spins = meter.spins() => Err(spins),
        outcome = world.play() => outcome,
    };
    history.lock().take();
    let failure = match (checker::check(&history.lock()), outcome) {
        (Err((n, breach)), _) => Some(Failure { what: breach, n_events: n + 1 }),
        (Ok(()), Err(what)) => Some(Failure { what, n_events: usize::MAX }),
        (Ok(()), Ok(())) => None,
    };
    Played { history, failure }
}

impl World {
    fn new(dice: Dice, store: MemoryStore, history: Arc<Mutex<History>>, meter: Meter) -> Self {
        let cluster = Cluster::new(&dice);
        let n_replicas = usize::try_from(dice.number(2..=3)).unwrap_or(2);
        let link = |replica| Link::new(&store, replica, dice.fork(), history.clone(), meter.clone());
        let links: Vec<Link> = (0..n_replicas).map(link).collect();
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
            meter,
        }
    }

    pub(crate) fn say(&self, what: impl Into<String>) {
        self.history.lock().done(what.into());
    }

    async fn play(&mut self) -> Result<(), String> {
        // Others may have been here before us.
        if self.dice.chance(30) {
            for _ in 0..self.dice.number(1..=4) {
                let act = if self.dice.chance(50) { Act::HandPuts } else { Act::ForeignPut };
                self.act(act).await;
            }
        }
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

    pub(crate) fn start(&mut self, replica: usize) {
        if self.running.get(replica).is_some_and(Option::is_none)
            && let Some(link) = self.links.get_mut(replica)
        {
            link.forget();
            let running = Running::start(replica, &self.cluster, link, &self.dice.fork(), &self.history, &self.meter);
            self.say(format!("replica {replica} started"));
            if let Some(place) = self.running.get_mut(replica) {
                *place = Some(running);
            }
        }
    }

    pub(crate) fn resume_those_whose_time_has_come(&mut self, all: bool) {
        for (replica, until) in self.paused_until.iter_mut().enumerate() {
            if until.is_some_and(|until| all || until <= Instant::now()) {
                *until = None;
                if let Some(Some(running)) = self.running.get(replica) {
                    self.history.lock().done(format!("replica {replica} goes on"));
                    running.pause(false);
                }
            }
        }
        self.ending.retain(|(since, running)| !running.ended() && since.elapsed() < Duration::from_mins(1));
    }

    pub(crate) fn nobody_ended_by_itself(&self) -> Result<(), String> {
        let ended = self.running.iter().flatten().any(Running::ended);
        let stuck = self.ending.iter().find(|(since, _)| since.elapsed() > Duration::from_secs(30));
        match (ended, stuck) {
            (true, _) => Err("a replica ended by itself, or panicked".to_owned()),
            (false, Some(_)) => Err("a replica that was told to end did not within 30 s".to_owned()),
            (false, None) => Ok(()),
        }
    }

    /// A replica, and its number, that runs.
    pub(crate) fn someone(&self) -> usize {
        self.dice.index(self.links.len())
    }

    pub(crate) fn weather(&self, change: impl FnOnce(&mut Weather), what: &str) {
        let replica = self.someone();
        let Some(link) = self.links.get(replica) else { return };
        let mut weather = link.weather();
        change(&mut weather);
        link.set(weather);
        self.say(format!("the link of replica {replica} {what}: {weather:?}"));
    }
}
