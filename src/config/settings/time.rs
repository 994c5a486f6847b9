//! Times, as written: `5s`, `500ms`, `1h 30m`.

use jiff::{SignedDuration, fmt::friendly::SpanPrinter};
use std::time::Duration;

/// What a time may be.
#[derive(Debug)]
pub(super) struct Bounds {
    pub(super) flag: &'static str,
    pub(super) least: Duration,
    pub(super) most: Duration,
    /// A value that would do.
    pub(super) example: &'static str,
}

/// A time that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: {text:?} {fault}: write for example {example}")]
pub struct TimeError {
    flag: &'static str,
    text: String,
    fault: String,
    example: String,
}

/// Reads a time within `bounds`.
pub(super) fn time(text: &str, bounds: &Bounds) -> Result<Duration, TimeError> {
    let span: Option<SignedDuration> = text.parse().ok();
    span.and_then(|span| Duration::try_from(span).ok())
        .filter(|time| (bounds.least..=bounds.most).contains(time))
        .ok_or_else(|| {
            let fault = format!("is not a time of {} to {}", shown(bounds.least), shown(bounds.most));
            error(text, bounds, fault)
        })
}

/// [`time`], without a fraction of a second.
pub(super) fn whole_seconds(text: &str, bounds: &Bounds) -> Result<Duration, TimeError> {
    let time = time(text, bounds)?;
    if time.subsec_nanos() == 0 {
        Ok(time)
    } else {
        Err(error(text, bounds, "is not a number of whole seconds".into()))
    }
}

/// A time that is within its bounds, but not right beside `other`, the value of another flag.
pub(super) fn shorter(text: &str, bounds: &Bounds, other: &str, least: Duration) -> TimeError {
    let fault = format!("is shorter than {other}, {}", shown(least));
    // What would do by itself may still be too short here.
    TimeError { example: shown(least), ..error(text, bounds, fault) }
}

fn error(text: &str, bounds: &Bounds, fault: String) -> TimeError {
    TimeError { flag: bounds.flag, text: text.to_owned(), fault, example: bounds.example.to_owned() }
}

fn shown(time: Duration) -> String {
    // No bound is beyond what fits.
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    SpanPrinter::new().duration_to_string(&time)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { flag: "--x", least: Duration::from_millis(1), most: Duration::from_mins(10), example: "5s" };

    #[test]
    fn times_have_bounds() {
        for (text, millis) in [("1ms", 1), ("500ms", 500), ("1m 30s", 90_000), ("10m", 600_000)] {
            assert_eq!(time(text, &BOUNDS).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "5", "-5s", "0s", "10m1ms", "11m", "soon"] {
            let message = time(bad, &BOUNDS).unwrap_err().to_string();
            assert_eq!(message, format!("--x: {bad:?} is not a time of 1ms to 10m: write for example 5s"));
        }
    }

    #[test]
    fn whole_seconds_are_asked_for_where_etcd_counts_so() {
        assert_eq!(whole_seconds("2m", &BOUNDS).unwrap(), Duration::from_mins(2));
        let message = whole_seconds("1500ms", &BOUNDS).unwrap_err().to_string();
        assert_eq!(message, "--x: \"1500ms\" is not a number of whole seconds: write for example 5s");
    }

    #[test]
    fn what_is_too_short_beside_another_is_told_a_value_that_is_not() {
        let message = shorter("1m", &BOUNDS, "--y", Duration::from_mins(2)).to_string();
        assert_eq!(message, "--x: \"1m\" is shorter than --y, 2m: write for example 2m");
    }
}
