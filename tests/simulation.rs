//! Whole controllers against a store in memory and a small cluster, in virtual time, with every fault that chance brings: one
//! seed decides everything.
//!
//! `SEEDS` (how many), `FIRST_SEED` (from which on), `FAILURES` (after how many failing ones to end) and `SEED` (one, with its
//! whole history) come from the environment. A seed that fails is printed with what happened until then.

#![allow(clippy::panic, reason = "a part of the simulation that cannot go on ends the run, which is told")]
#![allow(clippy::disallowed_methods, reason = "time is virtual here, and this is a test's own")]

#[path = "simulation/acts.rs"]
mod acts;
#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/guesses.rs"]
mod guesses;
#[path = "simulation/hands.rs"]
mod hands;
#[path = "simulation/heal.rs"]
mod heal;
#[path = "simulation/healing.rs"]
mod healing;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/known.rs"]
mod known;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/meter.rs"]
mod meter;
#[path = "simulation/replica.rs"]
mod replica;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/things.rs"]
mod things;

use history::History;
use parking_lot::Mutex;
use script::{Failure, Played, run};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// `spec.controllerName` of the classes that are ours.
const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";

/// The instance that is simulated.
const INSTANCE: &str = "default";

/// The prefix in etcd.
const PREFIX: &str = "/apisix";

/// How many seeds a run has that does not say.
const SEEDS: u64 = 2_000;

/// How many failing seeds are enough for a run that does not say.
const FAILURES: u64 = 5;

/// How long one seed may take by the clock on the wall: thousands of times what any takes. Only what spins without ever letting
/// go, so that nothing in virtual time can end it, takes so long.
const PATIENCE: Duration = Duration::from_mins(5);

/// A seed that failed: why, and what happened until then, for people.
type Failed = (String, String);

/// One seed, in a runtime of its own, where time passes only when nobody has anything to do.
fn play(seed: u64, begun: impl FnOnce(&Arc<Mutex<History>>)) -> Result<Played, std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(run(seed, begun)))
}

fn failure(seed: u64, begun: impl FnOnce(&Arc<Mutex<History>>)) -> Option<Failed> {
    match catch_unwind(AssertUnwindSafe(|| play(seed, begun))) {
        Ok(Ok(Played { history, failure })) => {
            let Failure { what, n_events } = failure?;
            Some((what, history.lock().readable(n_events)))
        }
        Ok(Err(error)) => Some((error.to_string(), String::new())),
        Err(_) => Some(("it panicked; see above".to_owned(), String::new())),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn print(seed: u64, (what, history): &Failed) {
    let from = history.lines().count().saturating_sub(60);
    let last: Vec<&str> = history.lines().skip(from).collect();
    println!(
        "{}\nseed {seed} failed: {what}\nWith everything: SEED={seed} cargo test --test simulation\n",
        last.join("\n")
    );
}

fn one(seed: u64) -> Result<ExitCode, std::io::Error> {
    let Played { history, failure } = play(seed, |_| {})?;
    println!("{}", history.lock().readable(usize::MAX));
    Ok(match failure {
        None => {
            println!("seed {seed} went well");
            ExitCode::SUCCESS
        }
        Some(Failure { what, n_events: usize::MAX }) => {
            println!("seed {seed} failed: {what}");
            ExitCode::FAILURE
        }
        Some(Failure { what, n_events }) => {
            println!("seed {seed} failed after line {n_events}: {what}");
            ExitCode::FAILURE
        }
    })
}

/// The same seed twice is the same history.
fn goes_the_same_way_again(seed: u64) -> bool {
    let readable =
        || play(seed, |_| {}).map_or_else(|error| error.to_string(), |it| it.history.lock().readable(usize::MAX));
    let (first, second) = (readable(), readable());
    let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
    match differs {
        Some((first, second)) => println!("seed {seed} went another way the second time:\n{first}\n{second}"),
        None if first.len() != second.len() => println!("seed {seed} went on for longer one time"),
        None => return true,
    }
    false
}

/// A seed that is being played.
struct Begun {
    since: Instant,
    history: Arc<Mutex<History>>,
}

/// Seeds that are being played.
#[derive(Default)]
struct UnderWay(Mutex<BTreeMap<u64, Begun>>);

impl UnderWay {
    fn play(&self, seed: u64) -> Option<Failed> {
        let failure = failure(seed, |history| {
            self.0.lock().insert(seed, Begun { since: Instant::now(), history: history.clone() });
        });
        self.0.lock().remove(&seed);
        failure
    }

    /// Ends everything, with the seed's number, when a seed does not end.
    fn watch(self: &Arc<Self>) {
        let these = Arc::clone(self);
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let under_way = these.0.lock();
                if let Some((seed, Begun { history, .. })) =
                    under_way.iter().find(|(_, begun)| begun.since.elapsed() > PATIENCE)
                {
                    // Whoever spins may hold it.
                    let history = history.try_lock_for(Duration::from_secs(1));
                    let history = history.map(|history| history.readable(usize::MAX)).unwrap_or_default();
                    print(*seed, &("it does not end, and lets nothing else happen".to_owned(), history));
                    std::process::exit(1);
                }
            }
        });
    }
}

fn main() -> ExitCode {
    // What cargo's runner asks of every test.
    if std::env::args().any(|argument| argument == "--list") {
        println!("seeds: test");
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = number("SEED") {
        return one(seed).unwrap_or(ExitCode::FAILURE);
    }
    let (first, n) = (number("FIRST_SEED").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let n_enough = number("FAILURES").unwrap_or(FAILURES);
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, n_failed) = (AtomicU64::new(first), AtomicU64::new(0));
    let under_way = Arc::<UnderWay>::default();
    under_way.watch();
    thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(n) || n_failed.load(Ordering::Relaxed) >= n_enough {
                        return;
                    }
                    if let Some(failure) = under_way.play(seed) {
                        n_failed.fetch_add(1, Ordering::Relaxed);
                        print(seed, &failure);
                    }
                }
            });
        }
    });
    let same = (first..first + n.min(5)).all(goes_the_same_way_again);
    let n_failed = n_failed.load(Ordering::Relaxed);
    if n_failed > 0 || !same {
        println!("{n_failed} of {n} seeds from {first} on failed");
        return ExitCode::FAILURE;
    }
    println!("{n} seeds from {first} on went well");
    ExitCode::SUCCESS
}
