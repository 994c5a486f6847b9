//! The end of every run: all faults are over, and the replicas have a while to put things right. A world goes in; what is still
//! wrong after that while comes out.

use super::{INSTANCE, heal::Healed, link::Weather, script::World};
use apisix_etcd_controller::{
    command::checkpoint::reset::reset,
    model::names::Kind,
    reconcile::Role,
    store::{control::ControlKeys, txn::Revision},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long everything may take to be as it should be, once nothing fails any more: a lease, a watch that is found dead, two
/// audits.
const HEALING: Duration = Duration::from_mins(6);

/// The leader key.
const LEADER: &str = "/control/default/leader";

/// How long nothing may be written after that.
const QUIET: Duration = Duration::from_mins(3);

impl World {
    /// Nothing fails any more; a person does what only a person may.
    pub(crate) async fn heal(&mut self) -> Result<(), String> {
        self.last_blow().await;
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

    /// The leader key goes and nobody hears of it, by chance, just before everything is mended: whoever has nothing more to
    /// write finds out by himself.
    async fn last_blow(&self) {
        if !self.dice.chance(15) {
            return;
        }
        for link in &self.links {
            let weather = link.weather();
            link.set(Weather { deaf: true, ..weather });
        }
        self.say("the leader key is deleted, and nobody hears of it");
        self.store.delete(LEADER);
        sleep(Duration::from_secs(1)).await;
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
        // Whoever leads may have yet to hear that the key is gone.
        if self.store.get(LEADER).is_none() {
            return Err("nobody holds the leader key".to_owned());
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
