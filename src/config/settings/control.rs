//! Settings of the commands about the controller's own keys: flags go in, settings come out, or every error at once.

use super::{
    EtcdAddress, SettingError, checked, is_instance, keep, link,
    time::{Bounds, time},
    told,
    writing::own_prefix,
};
use crate::config::args::{
    OutputFormat,
    control::{CheckpointResetArgs, CheckpointShowArgs, ControlArgs, ReleaseArgs},
};
use std::{sync::Arc, time::Duration};

/// Whose keys, and in which etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlSettings {
    /// Which etcd.
    pub etcd: EtcdAddress,
    /// Where the controller's own keys are, without a slash at the end.
    pub control_prefix: Arc<str>,
    /// The instance.
    pub instance: Arc<str>,
}

/// Of `checkpoint show`.
#[derive(Clone, Debug)]
pub struct CheckpointShowSettings {
    /// Whose.
    pub control: ControlSettings,
    /// How to print it.
    pub output: OutputFormat,
}

/// Of `checkpoint reset`.
#[derive(Clone, Debug)]
pub struct CheckpointResetSettings {
    /// Whose.
    pub control: ControlSettings,
    /// How long to wait for whoever leads.
    pub timeout: Duration,
    /// Nobody is to be asked.
    pub confirmed: bool,
}

/// Of `release`.
#[derive(Clone, Debug)]
pub struct ReleaseSettings {
    /// Whose.
    pub control: ControlSettings,
    /// What to let go; `None`: list what was asked for.
    pub name: Option<Arc<str>>,
}

/// A setting of these commands that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlSettingError {
    /// No held change can have this name.
    #[error(
        "{0:?} is not the name of something held: it is 1 to {NAME_MAX} letters, digits and signs without spaces, as in the \
         Event, the log and the metric of what is held"
    )]
    Name(String),
}

/// Whoever waits a day for a leader to end has forgotten about it.
const TIMEOUT: Bounds =
    Bounds { flag: "--timeout", least: Duration::ZERO, most: Duration::from_hours(24), example: "1m" };

/// A kind, a namespace of 63, a name of 253 characters, and as much again.
const NAME_MAX: usize = 1_000;

impl CheckpointShowSettings {
    /// Checks `args`; every error is returned.
    pub fn check(args: CheckpointShowArgs) -> Result<Self, Vec<SettingError>> {
        let CheckpointShowArgs { control, output } = args;
        Ok(Self { control: self::control(control)?, output })
    }
}

impl CheckpointResetSettings {
    /// Checks `args`; every error is returned.
    pub fn check(args: CheckpointResetArgs) -> Result<Self, Vec<SettingError>> {
        let CheckpointResetArgs { control, timeout, yes } = args;
        let mut errors = Vec::new();
        let control = self::control(control).map_err(|more| errors.extend(more)).ok();
        let timeout = keep(&mut errors, time(&timeout, &TIMEOUT).map_err(SettingError::Time));
        let (Some(control), Some(timeout)) = (control, timeout) else { return Err(errors) };
        Ok(Self { control, timeout, confirmed: yes })
    }
}

impl ReleaseSettings {
    /// Checks `args`; every error is returned.
    pub fn check(args: ReleaseArgs) -> Result<Self, Vec<SettingError>> {
        let ReleaseArgs { control, name, list } = args;
        let mut errors = Vec::new();
        let control = self::control(control).map_err(|more| errors.extend(more)).ok();
        let name = name.filter(|_| !list).map(|name| {
            keep(&mut errors, checked(name, is_name, |name| SettingError::Control(ControlSettingError::Name(name))))
        });
        let name = match name {
            Some(None) => return Err(errors),
            Some(Some(name)) => Some(name.into()),
            None => None,
        };
        Ok(Self { control: control.ok_or(errors)?, name })
    }
}

fn control(args: ControlArgs) -> Result<ControlSettings, Vec<SettingError>> {
    let ControlArgs { apisix, etcd, control_prefix, instance } = args;
    let mut errors = Vec::new();
    let told = told(&apisix).map_err(|error| vec![error])?;
    let etcd = link(etcd, told.as_ref(), &mut Vec::new()).map_err(|more| errors.extend(more)).ok();
    let control_prefix = keep(&mut errors, own_prefix(control_prefix));
    let instance = keep(&mut errors, checked(instance, is_instance, SettingError::Instance));
    let (Some(etcd), Some(control_prefix), Some(instance)) = (etcd, control_prefix, instance) else {
        return Err(errors);
    };
    Ok(ControlSettings { etcd, control_prefix, instance: instance.into() })
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args::{Command, CommandLine, control::CheckpointCommand};
    use clap::Parser as _;

    const ETCD: &str = "--etcd-endpoints=http://e:2379";

    fn said<T>(result: Result<T, Vec<SettingError>>) -> Result<T, Vec<String>> {
        result.map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn reset(arguments: &[&str]) -> Result<CheckpointResetSettings, Vec<String>> {
        let line = ["x", "checkpoint", "reset"].iter().chain(arguments);
        let Command::Checkpoint(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!() };
        let CheckpointCommand::Reset(args) = args.command else { panic!("not reset") };
        said(CheckpointResetSettings::check(args))
    }

    #[track_caller]
    fn release(arguments: &[&str]) -> Result<ReleaseSettings, Vec<String>> {
        let line = ["x", "release", ETCD].iter().chain(arguments);
        let Command::Release(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not release") };
        said(ReleaseSettings::check(args))
    }

    #[test]
    fn an_endpoint_is_enough() {
        let CheckpointResetSettings { control, timeout, confirmed } = reset(&[ETCD]).unwrap();
        assert_eq!((&*control.control_prefix, &*control.instance), ("/gateway-api-etcd", "default"));
        assert_eq!((timeout, confirmed), (Duration::from_mins(1), false));
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let errors = reset(&["--control-prefix=/a/", "--instance=A", "--timeout=soon"]).unwrap_err();
        let flags: Vec<_> = errors.iter().filter_map(|error| error.split([':', ' ']).next()).collect();
        assert_eq!(flags, ["--etcd-endpoints", "--control-prefix", "--instance", "--timeout"]);
    }

    #[test]
    fn a_time_to_wait_has_bounds() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("24h", 86_400)] {
            assert_eq!(reset(&[ETCD, "--timeout", text]).unwrap().timeout, Duration::from_secs(seconds));
        }
        for bad in ["", "5", "-5s", "24h 1s", "soon"] {
            let timeout = format!("--timeout={bad}");
            assert!(reset(&[ETCD, &timeout]).unwrap_err()[0].contains("--timeout"), "{bad}");
        }
    }

    #[test]
    fn a_release_has_a_name_or_lists() {
        let named = release(&["kind/gateway.networking.k8s.io/tcproutes"]).unwrap();
        assert_eq!(named.name.as_deref(), Some("kind/gateway.networking.k8s.io/tcproutes"));
        assert_eq!(release(&["--list"]).unwrap().name, None);
        let longest = "x".repeat(NAME_MAX);
        assert!(release(&[&longest]).is_ok());
        for bad in ["", "a b", "a\n", "ä", &"x".repeat(NAME_MAX + 1)] {
            assert!(release(&[bad]).unwrap_err()[0].contains("not the name of something held"), "{bad:?}");
        }
        for refused in [&["x", "release", ETCD][..], &["x", "release", ETCD, "--list", "a"]] {
            assert!(CommandLine::try_parse_from(refused).is_err(), "{refused:?}");
        }
    }
}
