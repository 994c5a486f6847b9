//! `run`: the controller as a process, from settings to exit status.
//!
//! SIGINT or SIGTERM ends it in good order; a second one at once.

use super::{Outcome, complain};
use crate::{
    app,
    config::settings::{RunSettings, apisix::Origin},
    telemetry,
};
use anyhow::Context as _;
use std::process;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Runs until a signal, or until something breaks for good.
#[must_use]
pub fn execute(settings: RunSettings) -> Outcome {
    if let Err(error) = telemetry::init(settings.log.clone()) {
        complain(&error);
        return Outcome::Refused;
    }
    for Origin { setting, value, from } in &settings.origins {
        tracing::info!(setting, value, %from, "setting taken");
    }
    match Runtime::new().context("cannot start").and_then(|runtime| runtime.block_on(run(settings))) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the controller ended");
            Outcome::Refused
        }
    }
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
