//! The command line's commands: each takes checked settings and ends with an exit status.
//!
//! Results go to standard output, everything else to standard error. Exit statuses: 0 done, 1 failed or something was
//! refused, 2 wrong settings or unreadable files.

pub mod checkpoint;
pub mod lead;
pub mod release;
pub mod run;
pub mod translate;
pub mod validate;
pub mod version;

use crate::{
    cluster::failure::chain,
    config::{
        args::{
            Command, OutputFormat,
            control::{CheckpointArgs, CheckpointCommand},
        },
        settings::{
            RunSettings, TranslateSettings,
            control::{CheckpointResetSettings, CheckpointShowSettings, ReleaseSettings},
            etcd::EtcdAddress,
            validate::ValidateSettings,
        },
    },
    store::etcd::{EtcdSettings, EtcdStore},
};
use serde::Serialize;
use std::{error::Error, process::ExitCode};
use tokio::runtime::Builder;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It failed, or an object was refused.
    Refused,
    /// It could not begin: a setting is wrong, or a file cannot be read.
    Unusable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Refused => Self::from(1),
            Outcome::Unusable => Self::from(2),
        }
    }
}

/// Carries out `command`, to its end.
#[must_use]
pub fn execute(command: Command) -> Outcome {
    match command {
        Command::Run(args) => match RunSettings::check(*args) {
            Ok(settings) => run::execute(settings),
            Err(errors) => unusable(&errors),
        },
        Command::Translate(args) => match TranslateSettings::check(args) {
            Ok(settings) => translate::execute(&settings),
            Err(errors) => unusable(&errors),
        },
        Command::Checkpoint(CheckpointArgs { command: CheckpointCommand::Show(args) }) => {
            match CheckpointShowSettings::check(args) {
                Ok(settings) => checkpoint::show(&settings),
                Err(errors) => unusable(&errors),
            }
        }
        Command::Checkpoint(CheckpointArgs { command: CheckpointCommand::Reset(args) }) => {
            match CheckpointResetSettings::check(args) {
                Ok(settings) => checkpoint::execute_reset(&settings),
                Err(errors) => unusable(&errors),
            }
        }
        Command::Release(args) => match ReleaseSettings::check(args) {
            Ok(settings) => release::execute(&settings),
            Err(errors) => unusable(&errors),
        },
        Command::Validate(args) => match ValidateSettings::check(args) {
            Ok(settings) => validate::execute(&settings),
            Err(error) => unusable(&[error]),
        },
        Command::Version(args) => version::execute(args.output),
    }
}

/// Does `work` with a client of etcd, and waits for it.
fn with_store(etcd: &EtcdAddress, work: impl AsyncFnOnce(EtcdStore) -> Outcome) -> Outcome {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Outcome::Refused;
        }
    };
    runtime.block_on(async {
        let EtcdAddress { endpoints, timeout, login, tls } = etcd.clone();
        match EtcdStore::connect(&EtcdSettings { endpoints, request_timeout: timeout, login, tls }).await {
            Ok(store) => work(store).await,
            Err(error) => {
                complain(&error);
                Outcome::Unusable
            }
        }
    })
}

fn unusable(errors: &[impl Error]) -> Outcome {
    for error in errors {
        complain(error);
    }
    eprintln!("\nFor more information, try '--help'.");
    Outcome::Unusable
}

/// Says on standard error what went wrong, and why.
fn complain(error: &dyn Error) {
    eprintln!("error: {}", chain(error));
}

/// A result as one JSON object or one YAML document.
fn structured(result: &impl Serialize, format: OutputFormat) -> String {
    // By way of a value, so that embedded JSON is laid out like the rest and can become YAML.
    let value = serde_json::to_value(result).expect("results have string keys only");
    match format {
        OutputFormat::Json | OutputFormat::Table => format!("{value:#}\n"),
        OutputFormat::Yaml => serde_yaml_ng::to_string(&value).expect("YAML can say whatever JSON can"),
    }
}
