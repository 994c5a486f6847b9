//! Log lines: `tracing` events become lines on standard error, as text or JSON.
//!
//! Standard output stays free for results. An error that is recorded as one (`error = reason`) is written with everything it
//! was caused by, in either format: what a person has to mend is nearly always the innermost.

use crate::{
    cluster::failure::chain,
    config::{args::LogFormat, settings::LogSettings},
};
use serde_json::{Map, Value};
use std::{
    error::Error,
    fmt::{self, Debug},
    io::{self, IsTerminal as _},
};
use tracing::{
    Dispatch, Event,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Registry,
    field::{RecordFields, VisitOutput as _},
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter, SubscriberBuilder,
        format::{DefaultVisitor, Format, Json, JsonFields, Writer},
    },
    util::{SubscriberInitExt as _, TryInitError},
};

/// Log lines were set up before, by another part of this process.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up logging")]
pub struct InitError(#[source] TryInitError);

/// Sends log lines of the whole process to standard error from now on.
pub fn init(settings: LogSettings) -> Result<(), InitError> {
    lines(settings, io::stderr, io::stderr().is_terminal()).try_init().map_err(InitError)
}

/// What turns events into lines for `writer`, with colours or without.
fn lines<W>(settings: LogSettings, writer: W, ansi: bool) -> Dispatch
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let LogSettings { format, filter } = settings;
    let lines = SubscriberBuilder::default().with_env_filter(filter).with_writer(writer).with_ansi(ansi);
    match format {
        LogFormat::Text => Dispatch::new(lines.fmt_fields(TextFields).finish()),
        LogFormat::Json => Dispatch::new(lines.json().flatten_event(true).map_event_format(JsonLines).finish()),
    }
}

/// Fields as text.
struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct TextVisitor<'writer>(DefaultVisitor<'writer>);

impl Visit for TextVisitor<'_> {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.0.record_str(field, &chain(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.record_debug(field, value);
    }
}

/// Whole lines as JSON.
struct JsonLines(Format<Json>);

impl FormatEvent<Registry, JsonFields> for JsonLines {
    fn format_event(
        &self,
        context: &FmtContext<'_, Registry, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut chains = Chains::default();
        event.record(&mut chains);
        if chains.0.is_empty() {
            return self.0.format_event(context, writer, event);
        }
        // The format itself keeps only what an error says first, and cannot be told otherwise.
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let Ok(mut line) = serde_json::from_str::<Map<String, Value>>(&line) else { return Err(fmt::Error) };
        line.extend(chains.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The errors among the fields of an event, each with everything it was caused by.
#[derive(Default)]
struct Chains(Map<String, Value>);

impl Visit for Chains {
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.0.insert(field.name().to_owned(), chain(value).into());
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::NamedTempFile;
    use tracing_subscriber::EnvFilter;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot list TCPRoutes")]
    struct Listing(#[source] Refused);

    #[derive(Debug, thiserror::Error)]
    #[error("the API server refused \"it\"")]
    struct Refused(#[source] io::Error);

    const CHAIN: &str = "cannot list TCPRoutes: the API server refused \"it\": connection reset";

    /// The lines that a failed listing comes to.
    fn logged(format: LogFormat) -> Vec<String> {
        let file = NamedTempFile::new().unwrap();
        let settings = LogSettings { format, filter: EnvFilter::new("info") };
        tracing::dispatcher::with_default(&lines(settings, file.reopen().unwrap(), false), || {
            let error = Listing(Refused(io::Error::other("connection reset")));
            let reason: &dyn Error = &error;
            tracing::warn!(kind = "TCPRoute", error = reason, n_tries = 2, "trying again");
            tracing::info!(n_tries = 3, "it works again");
            tracing::debug!("unheard");
        });
        std::fs::read_to_string(file.path()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_text_has_an_error_with_everything_it_was_caused_by() {
        let lines = logged(LogFormat::Text);
        let want = format!("trying again kind=\"TCPRoute\" error={CHAIN:?} n_tries=2");
        assert!(lines[0].ends_with(&want) && lines[0].contains(" WARN "), "{lines:?}");
        assert!(lines[1].ends_with("it works again n_tries=3") && lines.len() == 2, "{lines:?}");
    }

    #[test]
    fn a_line_of_json_has_an_error_with_everything_it_was_caused_by_and_is_otherwise_like_all_others() {
        let lines = logged(LogFormat::Json);
        assert_eq!(lines.len(), 2, "{lines:?}");
        let lines: Vec<Map<String, Value>> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&lines[0]["error"], &lines[0]["n_tries"]), (&CHAIN.into(), &2.into()));
        let keys = |line: &Map<String, Value>| line.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&lines[0]), ["timestamp", "level", "message", "kind", "error", "n_tries", "target"]);
        assert_eq!(keys(&lines[1]), ["timestamp", "level", "message", "n_tries", "target"]);
    }
}
