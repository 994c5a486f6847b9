//! `run`: the controller as a process, from settings to exit status.
//!
//! SIGINT or SIGTERM ends it in good order; a second one at once.

use super::{Outcome, complain};
use crate::{app, config::settings::RunSettings, telemetry};
use anyhow::Context as _;
use std::{io, num::NonZero, process, thread};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Threads that tasks run on, at least.
const WORKERS_MIN: usize = 2;

/// Runs until a signal, or until something breaks for good.
#[must_use]
pub fn execute(settings: RunSettings) -> Outcome {
    if let Err(error) = telemetry::init(settings.log.clone()) {
        complain(&error);
        return Outcome::Refused;
    }
    match runtime().context("cannot start").and_then(|runtime| runtime.block_on(run(settings))) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the controller ended");
            Outcome::Refused
        }
    }
}

fn runtime() -> io::Result<Runtime> {
    let n_cpus = thread::available_parallelism().map_or(1, NonZero::get);
    Builder::new_multi_thread().worker_threads(n_workers(n_cpus)).enable_all().build()
}

/// A thread for each CPU, but two at least: in a container with one CPU a single one that decodes a long list would keep
/// probes and the renewal of the lease waiting.
fn n_workers(n_cpus: usize) -> usize {
    n_cpus.max(WORKERS_MIN)
}

async fn run(settings: RunSettings) -> anyhow::Result<()> {
    let signals = Signals::new().context("cannot listen for signals")?;
    let app = app::build(settings).await?;
    tokio::spawn(signals.obey(app.stop()));
    app.wait().await?;
    tracing::info!("ended");
    Ok(())
}

/// The signals that end a process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The first one cancels `stop`; the second one ends the process.
    async fn obey(mut self, stop: CancellationToken) {
        self.next().await;
        tracing::info!("ending; once more to end at once");
        stop.cancel();
        self.next().await;
        process::exit(INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_the_only_thread() {
        for (n_cpus, n_threads) in [(1, 2), (2, 2), (16, 16)] {
            assert_eq!(n_workers(n_cpus), n_threads);
        }
        assert!(runtime().unwrap().metrics().num_workers() >= 2);
    }
}
