//! Log lines: `tracing` events become lines on standard error, as text or JSON.
//!
//! Standard output stays free for results.

use crate::config::{args::LogFormat, settings::LogSettings};
use std::io::{self, IsTerminal as _};
use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt, util::TryInitError};

/// A filter that cannot be read.
pub type FilterError = tracing_subscriber::filter::ParseError;

/// Reads a filter in the form of `tracing_subscriber`'s directives: a level, or a list of `module=level`.
pub fn filter(directives: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(directives)
}

/// Log lines were set up before, by another part of this process.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up logging")]
pub struct InitError(#[source] TryInitError);

/// Sends log lines of the whole process to standard error from now on.
pub fn init(settings: LogSettings) -> Result<(), InitError> {
    use tracing_subscriber::util::SubscriberInitExt as _;
    let LogSettings { format, filter } = settings;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    }
    .map_err(InitError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_lists_are_filters() {
        for good in ["info", "debug", "info,kube=warn", "apisix_etcd_controller::store=trace", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["info,a=loud", "a=b=c"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
