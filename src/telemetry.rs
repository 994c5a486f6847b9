//! Log lines: `tracing` events become lines on standard error, as text or JSON.
//!
//! Standard output stays free for results.

use crate::config::{args::LogFormat, settings::LogSettings};
use std::io::{self, IsTerminal as _};
use tracing_subscriber::{
    fmt,
    util::{SubscriberInitExt as _, TryInitError},
};

/// Log lines were set up before, by another part of this process.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up logging")]
pub struct InitError(#[source] TryInitError);

/// Sends log lines of the whole process to standard error from now on.
pub fn init(settings: LogSettings) -> Result<(), InitError> {
    let LogSettings { format, filter } = settings;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(InitError)
}
