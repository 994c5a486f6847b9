//! What is between a replica and the store: requests, answers and news that are late, lost, or come through after all.

use super::{PREFIX, dice::Dice, guesses::Guesses, history::History, known::Known, meter::Meter};
use apisix_etcd_controller::store::{
    Content, Page, PagePlace, ReadError, Scope, Store, Watch, WatchBatch,
    lease::{Claim, LeaseError, LeaseId, Leases},
    memory::MemoryStore,
    txn::{Commit, CommitError, Ground, Revision, Txn},
};
use parking_lot::Mutex;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

/// How long a request is waited for.
const WAITED: Duration = Duration::from_secs(5);

/// How bad a link is at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Nothing passes.
    pub(crate) cut: bool,
    /// Of a hundred requests, so many are refused, unanswered, or applied later.
    pub(crate) lossy: u32,
    /// The longest delay of a request, of an answer and of news, in milliseconds.
    pub(crate) slow: u64,
    /// Of a hundred batches of a watch, so many are never told (older etcds can lose events).
    pub(crate) forgetful: u32,
    /// Of a hundred transactions, so many arrive when nobody waits for them any more.
    pub(crate) late: u32,
    /// Of a hundred transactions that are applied, so many have one of their documents changed by somebody at once.
    pub(crate) rival: u32,
    /// The longest delay of news alone, in milliseconds: answers overtake them.
    pub(crate) behind: u64,
    /// Nothing is told of the leader key.
    pub(crate) deaf: bool,
}

/// One replica's way to the store.
#[derive(Clone)]
pub(crate) struct Link {
    store: MemoryStore,
    replica: usize,
    dice: Dice,
    weather: Arc<watch::Sender<Weather>>,
    history: Arc<Mutex<History>>,
    known: Arc<Mutex<Known>>,
    guesses: Arc<Mutex<Guesses>>,
    meter: Meter,
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
    /// It arrives twice, and the answer is the second one's.
    Twice,
}

/// What is on its way goes on while whoever sent it is stopped, or killed.
async fn on_its_way<T: Send + 'static>(request: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(request).await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

impl Link {
    pub(crate) fn new(
        store: &MemoryStore,
        replica: usize,
        dice: Dice,
        history: Arc<Mutex<History>>,
        meter: Meter,
    ) -> Self {
        let weather = Arc::new(watch::Sender::new(Weather::default()));
        Self {
            store: store.clone(),
            replica,
            dice,
            weather,
            history,
            known: Arc::default(),
            guesses: Arc::default(),
            meter,
        }
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub(crate) fn weather(&self) -> Weather {
        *self.weather.borrow()
    }

    /// The replica begins anew and knows nothing.
    pub(crate) fn forget(&mut self) {
        self.known = Arc::default();
        self.guesses = Arc::default();
    }

    pub(crate) fn known(&self) -> Known {
        self.known.lock().clone()
    }

    /// Lets a request take its time; says what becomes of it.
    async fn travel(&self) -> Fate {
        self.meter.request().await;
        let Weather { cut, lossy, slow, .. } = self.weather();
        sleep(Duration::from_millis(self.dice.number(0..=slow))).await;
        if cut {
            sleep(WAITED).await;
            return Fate::Lost;
        }
        if !self.dice.chance(lossy) {
            return Fate::Passes;
        }
        match self.dice.number(0..=4) {
            0 => Fate::Refused,
            1 => {
                sleep(self.dice.time(0..=5_000)).await;
                Fate::Lost
            }
            2 => Fate::Unheard,
            3 => Fate::Twice,
            _ => Fate::Late(self.dice.time(1..=20_000)),
        }
    }

    /// Lets an answer take its time.
    async fn back<T>(&self, answer: T) -> T {
        sleep(Duration::from_millis(self.dice.number(0..=self.weather().slow))).await;
        answer
    }

    async fn apply(&self, txn: Txn, known: Known) -> Result<Commit, CommitError> {
        let answer = self.store.commit(txn.clone()).await;
        if let Ok(Commit::Applied(revision)) = &answer {
            let written: Vec<Arc<str>> = txn.writes.iter().map(|write| write.key.clone()).collect();
            self.history.lock().committed(*revision, self.replica, txn, known);
            if self.dice.chance(self.weather().rival) {
                self.rival(&written);
                // The watch may tell of both writes before this answer is there.
                sleep(self.dice.time(0..=1_000)).await;
            }
        }
        answer
    }

    /// Somebody who is quicker than any answer changes one of these.
    fn rival(&self, written: &[Arc<str>]) {
        let documents: Vec<&Arc<str>> = written.iter().filter(|key| key.starts_with(PREFIX)).collect();
        let Some(key) = self.dice.pick(&documents) else { return };
        match (self.dice.number(0..=3), self.store.get(key)) {
            (0, Some(held)) => drop(self.store.put(key, &held.value)),
            (1, Some(held)) => drop(self.store.put(key, [b" ", held.value.as_slice()].concat())),
            (_, Some(_)) => drop(self.store.delete(key)),
            (_, None) => {}
        }
        self.history.lock().take();
    }

    async fn carry(self, txn: Txn, known: Known) -> Result<Commit, CommitError> {
        let n_operations = txn.n_operations();
        let unanswered = || CommitError::Unanswered { n_operations, waited: WAITED, source: lost() };
        let fate = match self.travel().await {
            Fate::Passes if self.dice.chance(self.weather().late) => Fate::Late(self.dice.time(1..=20_000)),
            fate @ (Fate::Passes | Fate::Refused | Fate::Lost | Fate::Unheard | Fate::Late(_) | Fate::Twice) => fate,
        };
        match fate {
            Fate::Passes => {
                let answer = self.apply(txn, known).await;
                self.back(answer).await
            }
            Fate::Twice => {
                let _ = self.apply(txn.clone(), known.clone()).await;
                let answer = self.apply(txn, known).await;
                self.back(answer).await
            }
            Fate::Refused => Err(CommitError::Refused { n_operations, ground: Ground::Other, source: lost() }),
            Fate::Lost => Err(unanswered()),
            Fate::Unheard => {
                let _ = self.apply(txn, known).await;
                sleep(self.dice.time(0..=5_000)).await;
                Err(unanswered())
            }
            Fate::Late(after) => {
                let link = self.clone();
                tokio::spawn(async move {
                    sleep(after).await;
                    let _ = link.apply(txn, known).await;
                });
                sleep(self.dice.time(0..=5_000)).await;
                Err(unanswered())
            }
        }
    }

    /// A request about a lease, `ask`, on its way.
    async fn about_lease<T: Send + 'static, F: Future<Output = Result<T, LeaseError>> + Send + 'static>(
        &self,
        ask: impl FnOnce(MemoryStore) -> F + Send + 'static,
    ) -> Result<T, LeaseError> {
        let link = self.clone();
        on_its_way(async move {
            let unanswered = Err(LeaseError::Unanswered { waited: WAITED, source: lost() });
            match link.travel().await {
                Fate::Passes | Fate::Twice => {
                    let answer = ask(link.store.clone()).await;
                    link.back(answer).await
                }
                Fate::Unheard => {
                    let _ = ask(link.store.clone()).await;
                    unanswered
                }
                Fate::Late(after) => {
                    let asked = ask(link.store.clone());
                    tokio::spawn(async move {
                        sleep(after).await;
                        let _ = asked.await;
                    });
                    unanswered
                }
                Fate::Refused => Err(LeaseError::Refused { source: lost() }),
                Fate::Lost => unanswered,
            }
        })
        .await
    }
}

impl Store for Link {
    type Watch = LinkWatch;

    async fn commit(&self, txn: Txn) -> Result<Commit, CommitError> {
        let known = {
            let mut known = self.known.lock();
            let term = Some(txn.fence.created);
            let before: Vec<_> =
                txn.writes.iter().map(|write| (write.key.clone(), known.heard(&write.key, term))).collect();
            known.sent.extend(before);
            known.clone()
        };
        let term = txn.fence.created;
        let keys: Vec<Arc<str>> = txn.writes.iter().map(|write| write.key.clone()).collect();
        if let Some(guessed) = self.guesses.lock().sent(&txn) {
            self.history.lock().breach(guessed);
        }
        let answer = on_its_way(self.clone().carry(txn, known)).await;
        self.guesses.lock().answered(term, &keys, &answer);
        match &answer {
            Ok(_) | Err(CommitError::Refused { .. }) => {
                let mut known = self.known.lock();
                for key in keys {
                    known.sent.remove(&key);
                    if let Ok(Commit::Applied(at)) = &answer {
                        known.answered.insert(key, (term, *at));
                    }
                }
            }
            Err(CommitError::Unanswered { .. }) => {}
        }
        answer
    }

    async fn page(&self, scope: &Scope, content: Content, place: PagePlace) -> Result<Page, ReadError> {
        let (link, asked) = (self.clone(), scope.clone());
        let page = on_its_way(async move {
            match link.travel().await {
                Fate::Passes | Fate::Twice => {
                    let page = link.store.page(&asked, content, place).await;
                    link.back(page).await
                }
                Fate::Refused | Fate::Lost | Fate::Unheard | Fate::Late(_) => {
                    Err(ReadError::TimedOut { waited: WAITED })
                }
            }
        })
        .await?;
        if *scope == Scope::Below(PREFIX.into()) && content == Content::Values {
            let mut known = self.known.lock();
            if known.store != page.store {
                known.answered.clear();
            }
            (known.store, known.told, known.gap) = (page.store, page.revision, false);
        }
        Ok(page)
    }

    async fn watch(&self, scope: &Scope, from: Revision) -> Result<LinkWatch, ReadError> {
        match self.travel().await {
            Fate::Passes | Fate::Twice => {
                let watch = self.store.watch(scope, from).await?;
                let documents = *scope == Scope::Below(PREFIX.into());
                let leader_key = matches!(scope, Scope::Key(_));
                Ok(LinkWatch {
                    watch,
                    link: self.clone(),
                    weather: self.weather.subscribe(),
                    documents,
                    leader_key,
                    coming: None,
                    ends: None,
                })
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
    documents: bool,
    leader_key: bool,
    /// What was taken out of the watch and when it arrives: not lost when a future is dropped.
    coming: Option<(Instant, WatchBatch)>,
    /// When a keep-alive will have had no answer.
    ends: Option<Instant>,
}

async fn is_cut(weather: &mut watch::Receiver<Weather>) {
    if weather.wait_for(|weather| weather.cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Watch for LinkWatch {
    async fn next(&mut self) -> Result<WatchBatch, ReadError> {
        loop {
            if let Some(ends) = self.ends {
                sleep_until(ends).await;
                return Err(ReadError::Failed { source: lost() });
            }
            let arrives = self.coming.as_ref().map(|(at, _)| *at);
            let arrival = async {
                match arrives {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = is_cut(&mut self.weather) => {
                    self.ends = Some(Instant::now() + self.link.dice.time(1_000..=15_000));
                }
                () = arrival => {
                    let Some((_, batch)) = self.coming.take() else { continue };
                    let Weather { forgetful, deaf, .. } = self.link.weather();
                    let forgotten = self.link.dice.chance(forgetful) || (deaf && self.leader_key);
                    if self.documents {
                        let mut known = self.link.known.lock();
                        known.gap |= forgotten;
                        if !known.gap {
                            known.told = known.told.max(batch.revision);
                        }
                    }
                    if !forgotten {
                        return Ok(batch);
                    }
                }
                batch = self.watch.next(), if arrives.is_none() => {
                    let Weather { slow, behind, .. } = self.link.weather();
                    self.coming = Some((Instant::now() + self.link.dice.time(0..=slow.max(behind)), batch?));
                }
            }
        }
    }
}

impl Leases for Link {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, LeaseError> {
        self.about_lease(move |store| async move { store.grant(ttl).await }).await
    }

    async fn renew(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.about_lease(move |store| async move { store.renew(lease).await }).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), LeaseError> {
        self.about_lease(move |store| async move { store.revoke(lease).await }).await
    }

    async fn claim(&self, key: &str, value: &[u8], lease: LeaseId) -> Result<Claim, LeaseError> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.about_lease(move |store| async move { store.claim(&key, &value, lease).await }).await
    }
}
