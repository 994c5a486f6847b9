//! How to write, and who of several replicas does: flags go in, [`WritingSettings`] come out, or every error at once.

use super::{
    SettingError, keep,
    time::{Bounds, shorter, time, whole_seconds},
};
use crate::{
    config::args::{Drift, WritingArgs},
    model::{
        facts::DriftPolicy,
        places::{prefix_fault, prefixes_overlap},
    },
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// How to write, and who of several replicas does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritingSettings {
    /// Where the controller's own keys are, without a slash at the end; outside what any data plane reads.
    pub control_prefix: Arc<str>,
    /// Transactions that may be on their way at once.
    pub transactions_in_flight: NonZeroU32,
    /// How long a leader's lease lasts without a sign of life, in whole seconds.
    pub lease_ttl: Duration,
    /// This replica's name.
    pub holder: Arc<str>,
    /// How long a leader may have work and write nothing; at least `lease_ttl`.
    pub write_stall: Duration,
    /// How often every key is compared with what is known of it.
    pub audit_interval: Duration,
    /// What is done with a document that somebody else edited, where its route says nothing of it.
    pub drift: DriftPolicy,
    /// How long a change that would stop most of a data plane is held; `None`: nothing is held.
    pub hold_time: Option<Duration>,
}

/// More transactions at once do not make etcd faster, and each holds up to a megabyte.
pub(super) const TRANSACTIONS_MAX: u16 = 64;

/// Below 2 s, one late answer of a busy etcd would end a lease; nobody wants to wait 10 minutes for the next leader.
const LEASE_TTL: Bounds =
    Bounds { flag: "--lease-ttl", least: Duration::from_secs(2), most: Duration::from_mins(10), example: "15s" };

/// Its lower bound is the lease's time.
const WRITE_STALL: Bounds =
    Bounds { flag: "--write-stall", least: Duration::from_secs(2), most: Duration::from_hours(24), example: "1m" };

/// An audit reads every key's name and revision, which is a second's work for etcd at 100,000 routes.
const AUDIT_INTERVAL: Bounds =
    Bounds { flag: "--audit-interval", least: Duration::from_secs(10), most: Duration::from_hours(24), example: "10m" };

/// Longer than a week is for ever, and for ever is what `release` is not for.
const HOLD_TIME: Bounds =
    Bounds { flag: "--hold-time", least: Duration::ZERO, most: Duration::from_hours(7 * 24), example: "1h" };

/// Where Linux says what the machine, or the container, is called.
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// Checks `args`; every error is returned, in the order of the flags in the help text.
pub(super) fn check(args: WritingArgs) -> Result<WritingSettings, Vec<SettingError>> {
    let WritingArgs {
        control_prefix,
        transactions_in_flight,
        lease_ttl,
        replica_name,
        write_stall,
        audit_interval,
        drift,
        hold_time,
    } = args;
    let mut errors = Vec::new();
    let control_prefix = keep(&mut errors, own_prefix(control_prefix));
    let transactions_in_flight = keep(&mut errors, transactions(transactions_in_flight));
    let lease_ttl = keep(&mut errors, whole_seconds(&lease_ttl, &LEASE_TTL).map_err(SettingError::Time));
    let holder = keep(&mut errors, holder(replica_name.unwrap_or_else(here)));
    let write_stall = keep(&mut errors, stall(&write_stall, lease_ttl));
    let audit_interval = keep(&mut errors, time(&audit_interval, &AUDIT_INTERVAL).map_err(SettingError::Time));
    let hold_time = keep(&mut errors, time(&hold_time, &HOLD_TIME).map_err(SettingError::Time));
    let (
        Some(control_prefix),
        Some(transactions_in_flight),
        Some(lease_ttl),
        Some(holder),
        Some(write_stall),
        Some(audit_interval),
        Some(hold_time),
    ) = (control_prefix, transactions_in_flight, lease_ttl, holder, write_stall, audit_interval, hold_time)
    else {
        return Err(errors);
    };
    Ok(WritingSettings {
        control_prefix,
        transactions_in_flight,
        lease_ttl,
        holder,
        write_stall,
        audit_interval,
        drift: policy(drift),
        hold_time: (!hold_time.is_zero()).then_some(hold_time),
    })
}

/// APISIX would read the controller's own keys, or the controller take APISIX's for its own.
pub(super) fn apart(control: &str, data_plane: &str) -> Result<(), SettingError> {
    if prefixes_overlap(control, data_plane) {
        return Err(SettingError::PrefixesOverlap { control: control.to_owned(), data_plane: data_plane.to_owned() });
    }
    Ok(())
}

pub(super) fn own_prefix(prefix: String) -> Result<Arc<str>, SettingError> {
    match prefix_fault(&prefix) {
        Some(fault) => Err(SettingError::ControlPrefix { prefix, fault }),
        None => Ok(prefix.into()),
    }
}

fn transactions(n: u16) -> Result<NonZeroU32, SettingError> {
    NonZeroU32::new(n.into()).filter(|_| n <= TRANSACTIONS_MAX).ok_or(SettingError::Transactions(n))
}

fn stall(text: &str, lease_ttl: Option<Duration>) -> Result<Duration, SettingError> {
    let stall = time(text, &WRITE_STALL).map_err(SettingError::Time)?;
    match lease_ttl {
        Some(ttl) if stall < ttl => Err(SettingError::Time(shorter(text, &WRITE_STALL, "--lease-ttl", ttl))),
        Some(_) | None => Ok(stall),
    }
}

fn holder(name: String) -> Result<Arc<str>, SettingError> {
    let right = (1..=253).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic());
    if right { Ok(name.into()) } else { Err(SettingError::ReplicaName(name)) }
}

/// What this replica is called if nobody says.
fn here() -> String {
    let variable = |name| std::env::var(name).ok();
    name([variable("POD_NAME"), variable("HOSTNAME")], std::fs::read_to_string(HOST_NAME_FILE).ok(), std::process::id())
}

fn name(variables: [Option<String>; 2], host: Option<String>, process: u32) -> String {
    let said = variables.into_iter().flatten().find(|name| !name.is_empty());
    said.unwrap_or_else(|| {
        let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
        format!("{}-{process}", host.as_deref().unwrap_or("replica"))
    })
}

fn policy(drift: Drift) -> DriftPolicy {
    match drift {
        Drift::Repair => DriftPolicy::Repair,
        Drift::Report => DriftPolicy::Report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args::{Command, CommandLine};
    use clap::Parser as _;

    fn settings(flags: &[&str]) -> Result<WritingSettings, Vec<String>> {
        let line = ["x", "run"].iter().chain(flags);
        let Command::Run(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not run") };
        check(args.writing).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn refused(flags: &[&str], part: &str) {
        let errors = settings(flags).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(part), "{flags:?}: {errors:?}");
    }

    #[test]
    fn nothing_needs_to_be_said() {
        let settings = settings(&["--replica-name=a"]).unwrap();
        assert_eq!(&*settings.holder, "a");
        assert_eq!(&*settings.control_prefix, "/gateway-api-etcd");
        assert_eq!(settings.transactions_in_flight.get(), 4);
        assert_eq!(settings.lease_ttl, Duration::from_secs(15));
        assert_eq!(settings.write_stall, Duration::from_mins(1));
        assert_eq!(settings.audit_interval, Duration::from_mins(10));
        assert_eq!(settings.drift, DriftPolicy::Repair);
        assert_eq!(settings.hold_time, Some(Duration::from_hours(1)));
    }

    #[test]
    fn times_and_counts_have_bounds() {
        assert_eq!(settings(&["--transactions-in-flight=64"]).unwrap().transactions_in_flight.get(), 64);
        refused(&["--transactions-in-flight=0"], "between 1 and 64");
        refused(&["--transactions-in-flight=65"], "between 1 and 64");
        assert_eq!(settings(&["--lease-ttl=2s"]).unwrap().lease_ttl, Duration::from_secs(2));
        refused(&["--lease-ttl=1s"], "2s to 10m");
        refused(&["--lease-ttl=601s", "--write-stall=1h"], "2s to 10m");
        refused(&["--lease-ttl=2500ms"], "whole seconds");
        refused(&["--audit-interval=9s"], "10s to 24h");
        assert_eq!(settings(&["--audit-interval=10s"]).unwrap().audit_interval, Duration::from_secs(10));
        refused(&["--hold-time=soon"], "0s to 168h");
    }

    #[test]
    fn a_leader_is_given_at_least_the_time_of_its_lease() {
        assert!(settings(&["--lease-ttl=30s", "--write-stall=30s"]).is_ok());
        refused(&["--lease-ttl=30s", "--write-stall=29s"], "shorter than --lease-ttl, 30s");
    }

    #[test]
    fn no_hold_time_is_no_hold() {
        assert_eq!(settings(&["--hold-time=0s"]).unwrap().hold_time, None);
    }

    #[test]
    fn drift_is_repaired_or_reported() {
        assert_eq!(settings(&["--drift=report"]).unwrap().drift, DriftPolicy::Report);
    }

    #[test]
    fn a_control_prefix_is_written_like_a_data_planes() {
        refused(&["--control-prefix=control"], "--control-prefix: \"control\" does not begin with '/'");
        refused(&["--control-prefix=/control/"], "ends with '/'");
    }

    #[test]
    fn no_data_plane_reads_the_control_prefix() {
        assert!(apart("/gateway-api-etcd", "/apisix").is_ok());
        for (control, data_plane) in
            [("/apisix", "/apisix"), ("/apisix/control", "/apisix"), ("/apisix2", "/apisix"), ("/a", "/apisix")]
        {
            let message = apart(control, data_plane).unwrap_err().to_string();
            assert!(message.contains("whatever begins with"), "{message}");
        }
    }

    #[test]
    fn a_replica_is_called_what_its_pod_is_or_else_its_host_and_process() {
        let set = |text: &str| Some(text.to_owned());
        assert_eq!(name([set("pod"), set("host")], set("h\n"), 7), "pod");
        assert_eq!(name([set(""), set("host")], set("h\n"), 7), "host");
        assert_eq!(name([None, None], set("h\n"), 7), "h-7");
        assert_eq!(name([None, None], None, 7), "replica-7");
    }

    #[test]
    fn a_replica_name_is_at_most_253_printable_characters() {
        for good in ["a", "pod-1.ns/x", &"a".repeat(253)] {
            assert!(holder(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a\n", "ä", &"a".repeat(254)] {
            assert!(holder(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
