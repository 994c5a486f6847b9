//! What is between a replica and the store: requests and answers that are late, lost, or come through after all.

use super::{dice::Dice, history::History};
use apisix_etcd_controller::store::{
    Content, Page, PagePlace, ReadError, Scope, Store, Watch, WatchBatch,
    lease::{Claim, LeaseError, LeaseId, Leases},
    memory::MemoryStore,
    txn::{Commit, CommitError, Revision, Txn},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::sleep};

/// How long a request is waited for.
const WAITED: Duration = Duration::from_secs(5);

/// How bad a link is at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Nothing passes.
    pub(crate) cut: bool,
    /// Of a hundred requests, so many are refused, unanswered, or applied later.
    pub(crate) lossy: u32,
    /// The longest delay of a request, in milliseconds.
    pub(crate) slow: u64,
    /// Of a hundred batches of a watch, so many are never told (older etcds can lose events).
    pub(crate) forgetful: u32,
}

/// One replica's way to the store.
#[derive(Clone)]
pub(crate) struct Link {
    store: MemoryStore,
    replica: usize,
    dice: Dice,
    weather: Arc<watch::Sender<Weather>>,
    history: Arc<Mutex<History>>,
}

fn lost() -> Box<dyn std::error::Error + Send + Sync> {
    "lost".into()
}

/// What becomes of one request.
enum Fate {
    Passes,
    Refused,
    /// It never arrives.
    Lost,
    /// It is done, and the answer is lost.
    Unheard,
    /// It arrives when nobody waits for it any more.
    Late(Duration),
}

impl Link {
    pub(crate) fn new(store: &MemoryStore, replica: usize, dice: Dice, history: Arc<Mutex<History>>) -> Self {
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        Self { store: store.clone(), replica, dice, weather, history }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.borrow()
    }

    /// Lets a request take its time; says what becomes of it.
    async fn travel(&self) -> Fate {
        let Weather { cut, lossy, slow, forgetful: _ } = self.weather();
        sleep(Duration::from_millis(self.dice.number(0..=slow))).await;
        if cut {
            sleep(WAITED).await;
            return Fate::Lost;
        }
        if !self.dice.chance(lossy) {
            return Fate::Passes;
        }
        match self.dice.number(0..=3) {
            0 => Fate::Refused,
            1 => {
                sleep(self.dice.time(0..=5_000)).await;
                Fate::Lost
            }
            2 => Fate::Unheard,
            _ => Fate::Late(self.dice.time(1..=20_000)),
        }
    }

    async fn apply(&self, txn: Txn) -> Result<Commit, CommitError> {
        let answer = self.store.commit(txn.clone()).await;
        if let Ok(Commit::Applied(revision)) = &answer {
            self.history.lock().committed(*revision, self.replica, txn);
        }
        answer
    }
}

impl Store for Link {
    type Watch = LinkWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        let n_operations = txn.n_operations();
        let unanswered = || CommitError::Unanswered { n_operations, waited: WAITED, source: lost() };
        match self.travel().await {
            Fate::Passes => self.apply(txn).await,
            Fate::Refused => Err(CommitError::Refused { n_operations, full: false, source: lost() }),
            Fate::Lost => Err(unanswered()),
            Fate::Unheard => {
                let _ = self.apply(txn).await;
                sleep(self.dice.time(0..=5_000)).await;
                Err(unanswered())
            }
            Fate::Late(after) => {
                let link = self.clone();
                tokio::spawn(async move {
                    sleep(after).await;
                    let _ = link.apply(txn).await;
                });
                sleep(self.dice.time(0..=5_000)).await;
                Err(unanswered())
            }
        }
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        match self.travel().await {
            Fate::Passes => self.store.page(scope, content, place).await,
            Fate::Refused | Fate::Lost | Fate::Unheard | Fate::Late(_) => Err(ReadError::TimedOut { waited: WAITED }),
        }
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<LinkWatch, ReadError> {
        match self.travel().await {
            Fate::Passes => {
                let watch = self.store.watch(scope, from).await?;
                Ok(LinkWatch { watch, link: self.clone(), weather: self.weather.subscribe() })
            }
            Fate::Refused | Fate::Lost | Fate::Unheard | Fate::Late(_) => Err(ReadError::TimedOut { waited: WAITED }),
        }
    }
}

/// A watch over a link.
pub(crate) struct LinkWatch {
    watch: <MemoryStore as Store>::Watch,
    link: Link,
    weather: watch::Receiver<Weather>,
}

impl Watch for LinkWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        loop {
            tokio::select! {
                biased;
                _ = self.weather.wait_for(|weather| weather.cut) => {
                    // A keep-alive that is not answered ends it in the end.
                    sleep(self.link.dice.time(1_000..=15_000)).await;
                    return Err(ReadError::Failed { source: lost() });
                }
                batch = self.watch.next() => {
                    let batch = batch?;
                    if self.link.dice.chance(self.link.weather().forgetful) {
                        continue;
                    }
                    // What was taken out of the watch must not be lost when this future is dropped, so it is not awaited on.
                    return Ok(batch);
                }
            }
        }
    }
}

impl Leases for Link {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        match self.travel().await {
            Fate::Passes => self.store.grant(ttl).await,
            Fate::Unheard => {
                let _ = self.store.grant(ttl).await;
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
            Fate::Refused => Err(LeaseError::Refused { source: lost() }),
            Fate::Lost | Fate::Late(_) => Err(LeaseError::Unanswered { waited: WAITED, source: lost() }),
        }
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        match self.travel().await {
            Fate::Passes => self.store.renew(lease).await,
            Fate::Unheard => {
                let _ = self.store.renew(lease).await;
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
            Fate::Refused | Fate::Lost | Fate::Late(_) => {
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        match self.travel().await {
            Fate::Passes => self.store.revoke(lease).await,
            Fate::Unheard => {
                let _ = self.store.revoke(lease).await;
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
            Fate::Refused | Fate::Lost | Fate::Late(_) => {
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
        }
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        match self.travel().await {
            Fate::Passes => self.store.claim(key, value, lease).await,
            Fate::Unheard => {
                let _ = self.store.claim(key, value, lease).await;
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
            Fate::Late(after) => {
                let (link, key, value) = (self.clone(), key.to_owned(), value.to_vec());
                tokio::spawn(async move {
                    sleep(after).await;
                    let _ = link.store.claim(&key, &value, lease).await;
                });
                Err(LeaseError::Unanswered { waited: WAITED, source: lost() })
            }
            Fate::Refused => Err(LeaseError::Refused { source: lost() }),
            Fate::Lost => Err(LeaseError::Unanswered { waited: WAITED, source: lost() }),
        }
    }
}
