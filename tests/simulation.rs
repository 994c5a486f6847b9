//! Whole controllers against a store in memory and a small cluster, in virtual time, with every fault that chance brings: one
//! seed decides everything.
//!
//! `SEEDS` (how many), `FIRST_SEED` (from which on) and `SEED` (one, with its whole history) come from the environment. A seed
//! that fails is printed with what happened until then.

#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/heal.rs"]
mod heal;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/link.rs"]
mod link;
#[path = "simulation/replica.rs"]
mod replica;
#[path = "simulation/script.rs"]
mod script;

use script::{Failure, run};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

/// `spec.controllerName` of the classes that are ours.
const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";

/// The instance that is simulated.
const INSTANCE: &str = "default";

/// The prefix in etcd.
const PREFIX: &str = "/apisix";

/// How many seeds a run has that does not say.
const SEEDS: u64 = 500;

/// How many failing seeds are enough.
const FAILURES_MAX: u64 = 5;

/// One seed, in a runtime of its own, where time passes only when nobody has anything to do.
fn play(seed: u64) -> (String, Option<Failure>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(seed)),
        Err(error) => (String::new(), Some(Failure { what: error.to_string(), history: String::new() })),
    }
}

fn failure(seed: u64) -> Option<Failure> {
    let played = catch_unwind(AssertUnwindSafe(|| play(seed)));
    match played {
        Ok((_, failure)) => failure,
        Err(_) => Some(Failure { what: "it panicked; see above".to_owned(), history: String::new() }),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn print(seed: u64, Failure { what, history }: &Failure) {
    let from = history.lines().count().saturating_sub(60);
    let last: Vec<&str> = history.lines().skip(from).collect();
    println!(
        "{}\nseed {seed} failed: {what}\nWith everything: SEED={seed} cargo test --test simulation\n",
        last.join("\n")
    );
}

fn one(seed: u64) -> ExitCode {
    let (history, failure) = play(seed);
    println!("{history}");
    match failure {
        Some(Failure { what, history }) => {
            println!("seed {seed} failed after line {}: {what}", history.lines().count());
            ExitCode::FAILURE
        }
        None => {
            println!("seed {seed} went well");
            ExitCode::SUCCESS
        }
    }
}

/// The same seed twice is the same history.
fn goes_the_same_way_again(seed: u64) -> bool {
    let (first, second) = (play(seed).0, play(seed).0);
    let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
    match differs {
        Some((first, second)) => println!("seed {seed} went another way the second time:\n{first}\n{second}"),
        None if first.len() != second.len() => println!("seed {seed} went on for longer one time"),
        None => return true,
    }
    false
}

fn main() -> ExitCode {
    // What cargo's runner asks of every test.
    if std::env::args().any(|argument| argument == "--list") {
        println!("seeds: test");
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = number("SEED") {
        return one(seed);
    }
    let (first, n) = (number("FIRST_SEED").unwrap_or(0), number("SEEDS").unwrap_or(SEEDS));
    let n_threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, n_failed) = (AtomicU64::new(first), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..n_threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first.saturating_add(n) || n_failed.load(Ordering::Relaxed) >= FAILURES_MAX {
                        return;
                    }
                    if let Some(failure) = failure(seed) {
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
