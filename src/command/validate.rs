//! `validate`: documents in, one a line; for each, in order, whether data planes of a version take it.
//!
//! Nothing is kept of a document once its line is printed, and no value of one is repeated.

use super::Outcome;
use crate::{apisix::check::json, config::settings::validate::ValidateSettings};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Write},
    path::Path,
};

/// Why the documents could not be read, or the verdicts not be printed.
#[derive(Debug, thiserror::Error)]
enum ValidateError {
    /// No such file, or not to be read.
    #[error(
        "cannot read {path:?}: {error}; name a file of JSON documents, one a line, or leave it out to read standard input"
    )]
    File {
        /// As it was given.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// Reading ended early. What was printed until then is true.
    #[error("cannot read standard input to its end: {0}")]
    Input(io::Error),
    /// Nobody reads it any more is no failure.
    #[error("cannot print the verdicts: {0}")]
    Output(io::Error),
}

/// Checks every document and prints the verdicts.
#[must_use]
pub fn execute(settings: &ValidateSettings) -> Outcome {
    match run(settings) {
        Ok(0) => Outcome::Done,
        Ok(_) => Outcome::Refused,
        Err(error) => {
            super::complain(&error);
            Outcome::Unusable
        }
    }
}

fn run(settings: &ValidateSettings) -> Result<usize, ValidateError> {
    let out = io::stdout().lock();
    match &settings.file {
        None => {
            let input = io::stdin().lock();
            if input.is_terminal() {
                eprintln!("reading documents from standard input, one a line");
            }
            verdicts(settings, input, out, ValidateError::Input)
        }
        Some(path) => {
            let failed = |error| ValidateError::File { path: path.display().to_string(), error };
            let input = BufReader::new(File::open(Path::new(path)).map_err(failed)?);
            verdicts(settings, input, out, failed)
        }
    }
}

/// Prints a line for every line of `input`, and counts those that were refused.
fn verdicts(
    settings: &ValidateSettings,
    mut input: impl BufRead,
    mut out: impl Write,
    failed: impl Fn(io::Error) -> ValidateError,
) -> Result<usize, ValidateError> {
    let mut refused = 0;
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).map_err(&failed)? > 0 {
        let printed = match json::document(settings.kind, settings.release, &line) {
            Ok(()) => writeln!(out, "ok"),
            Err(refusal) => {
                refused += 1;
                writeln!(out, "refused: {refusal}")
            }
        };
        match printed {
            Ok(()) => {}
            // As of `| head`: what was read so far counts.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(refused),
            Err(error) => return Err(ValidateError::Output(error)),
        }
        line.clear();
    }
    out.flush().map_err(ValidateError::Output)?;
    Ok(refused)
}
