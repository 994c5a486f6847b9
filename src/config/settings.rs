//! Checked settings: whatever is in these types can be used as it is.
//!
//! The command line as written goes in; settings come out, or every error in it at once, each saying which flag it is about
//! and what would do. Nothing is opened or asked here, but what the machine is called.

pub mod addresses;
pub mod apisix;
pub mod control;
pub mod etcd;
pub mod listen;
pub mod time;
pub mod validate;
pub mod writing;

use super::{
    apisix::{ApisixConfig, ApisixConfigError},
    args::{ApisixArgs, EtcdArgs, LogFormat, OutputFormat, RunArgs, TargetArgs, TranslateArgs},
};
use crate::{
    apisix::version::{ApisixVersion, VersionError},
    model::places::{Plane, prefix_fault},
    translate::{desired::Settings, planes::PlaneSettings},
};
use addresses::AddressError;
use apisix::{Origin, Teller};
use control::ControlSettingError;
use etcd::{EtcdAddress, EtcdSettingError};
use listen::ListenError;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, str::FromStr};
use time::TimeError;
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};
use writing::{TRANSACTIONS_MAX, WritingSettings};

/// Of `run`.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Where objects come from.
    pub source: ObjectSource,
    /// The etcd that is written.
    pub etcd: EtcdAddress,
    /// How it is written, and who of several replicas does.
    pub writing: WritingSettings,
    /// What to translate for.
    pub translation: Settings,
    /// Where settings came from that APISIX's own configuration could have said.
    pub origins: Vec<Origin>,
    /// Where the admin port listens; port 0 takes any free one.
    pub admin_address: SocketAddr,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// Of `translate`.
#[derive(Clone, Debug)]
pub struct TranslateSettings {
    /// Files and folders of manifests, at least one.
    pub manifests: Vec<PathBuf>,
    /// What to translate for.
    pub translation: Settings,
    /// APISIX's own configuration.
    pub apisix_config: Option<PathBuf>,
    /// Where settings came from that it could have said.
    pub origins: Vec<Origin>,
    /// How results are printed.
    pub output: OutputFormat,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectSource {
    /// Files and folders of manifests, at least one.
    Manifests(Vec<PathBuf>),
    /// The cluster of this kubeconfig.
    Kubeconfig(PathBuf),
    /// The cluster of `KUBECONFIG`, else that of `~/.kube/config`, else the one this runs in.
    Inferred,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines there are.
    pub filter: EnvFilter,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Of APISIX's own configuration.
    #[error(transparent)]
    Apisix(#[from] ApisixConfigError),
    /// Of where clients reach APISIX.
    #[error(transparent)]
    Addresses(#[from] AddressError),
    /// Of what APISIX listens on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Of the commands about the controller's own keys.
    #[error(transparent)]
    Control(#[from] ControlSettingError),
    /// Of the link to etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdSettingError),
    /// A time is not one, or out of its bounds.
    #[error(transparent)]
    Time(TimeError),
    /// Too few or too many transactions.
    #[error("--transactions-in-flight: {0} is not between 1 and {TRANSACTIONS_MAX}")]
    Transactions(u16),
    /// The prefix is not one.
    #[error("--etcd-prefix: {prefix:?} {fault}: write it as in APISIX's config.yaml, for example /apisix")]
    Prefix {
        /// The prefix.
        prefix: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// The control prefix is not one.
    #[error("--control-prefix: {prefix:?} {fault}: write it for example /gateway-api-etcd")]
    ControlPrefix {
        /// The prefix.
        prefix: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A data plane would read the controller's own keys.
    #[error(
        "--control-prefix {control:?} and --etcd-prefix {data_plane:?}: one begins with the other, and APISIX reads whatever \
         begins with its prefix, so it would read the controller's own keys too (or the controller take APISIX's for its \
         own): choose another --control-prefix"
    )]
    PrefixesOverlap {
        /// The control prefix.
        control: String,
        /// The data plane's.
        data_plane: String,
    },
    /// The name of a replica is too long or has strange characters.
    #[error(
        "the name of this replica, {0:?}, is not 1 to 253 printable ASCII characters without spaces: give it another with \
         --replica-name"
    )]
    ReplicaName(String),
    /// The instance is not a label.
    #[error(
        "--instance: {0:?} is not 1 to 32 lower-case letters, digits and '-', beginning and ending with a letter or digit"
    )]
    Instance(String),
    /// The controller name is not of the form domain/path.
    #[error(
        "--controller-name: {0:?} is not of the form domain/path, for example apisix-etcd.io/gateway-controller, as in \
         spec.controllerName of a GatewayClass"
    )]
    ControllerName(String),
    /// The APISIX version is malformed or not supported.
    #[error("--apisix-version cannot be used")]
    Version(#[source] VersionError),
    /// The log filter is malformed.
    #[error(
        "--log-level: {level:?} is not a level (error, warn, info, debug, trace) or a list such as info,kube=debug"
    )]
    LogLevel {
        /// The level, as given.
        level: String,
        /// What reading it said.
        #[source]
        source: ParseError,
    },
}

/// What APISIX reads if nobody says.
const PREFIX: &str = "/apisix";

/// `maxLength` of `spec.controllerName`.
const CONTROLLER_NAME_MAX: usize = 253;

impl RunSettings {
    /// Checks `args`; every error is returned, in the order of the flags in the help text.
    pub fn check(args: RunArgs) -> Result<Self, Vec<SettingError>> {
        let RunArgs { manifests, kubeconfig, apisix, etcd, writing, target, admin_address, log_format, log_level } =
            args;
        let (mut errors, mut origins) = (Vec::new(), Vec::new());
        let told = told(&apisix).map_err(|error| vec![error])?;
        let etcd = link(etcd, told.as_ref(), &mut origins).map_err(|more| errors.extend(more)).ok();
        let writing = writing::check(writing).map_err(|more| errors.extend(more)).ok();
        let translation = translation(target, told.as_ref(), &mut origins).map_err(|more| errors.extend(more)).ok();
        if let (Some(writing), Some(translation)) = (&writing, &translation) {
            keep(&mut errors, writing::apart(&writing.control_prefix, translation.plane.plane.prefix()));
        }
        let filter = filter(&log_level).map_err(|source| SettingError::LogLevel { level: log_level, source });
        let filter = keep(&mut errors, filter);
        let (Some(etcd), Some(writing), Some(translation), Some(filter), true) =
            (etcd, writing, translation, filter, errors.is_empty())
        else {
            return Err(errors);
        };
        Ok(Self {
            source: source(manifests, kubeconfig),
            etcd,
            writing,
            translation,
            origins,
            admin_address,
            log: LogSettings { format: log_format, filter },
        })
    }
}

impl TranslateSettings {
    /// Checks `args`; every error is returned, in the order of the flags in the help text.
    pub fn check(args: TranslateArgs) -> Result<Self, Vec<SettingError>> {
        let TranslateArgs { manifests, apisix, target, output } = args;
        let told = told(&apisix).map_err(|error| vec![error])?;
        let mut origins = Vec::new();
        let translation = translation(target, told.as_ref(), &mut origins)?;
        Ok(Self { manifests, translation, apisix_config: apisix.apisix_config, origins, output })
    }
}

/// APISIX's own configuration, if it is named.
fn told(args: &ApisixArgs) -> Result<Option<ApisixConfig>, SettingError> {
    let ApisixArgs { apisix_config } = args;
    let Some(file) = apisix_config else { return Ok(None) };
    let config = ApisixConfig::read(file, variable)?;
    config.role()?;
    Ok(Some(config))
}

/// What is not text cannot be what anybody meant.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The link to etcd.
fn link(
    args: EtcdArgs,
    told: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<EtcdAddress, Vec<SettingError>> {
    let by_flag = args.etcd_endpoints.iter().any(|endpoint| !endpoint.trim().is_empty());
    let args = match told {
        Some(told) => apisix::fill_etcd(args, told, origins)?,
        None => args,
    };
    let etcd = etcd::check(args).map_err(|errors| errors.into_iter().map(SettingError::from).collect::<Vec<_>>())?;
    if told.is_some() && by_flag {
        let value = etcd.endpoints.join(", ");
        origins.insert(0, Origin { setting: "etcd", value, from: Teller::Flag("--etcd-endpoints") });
    }
    Ok(etcd)
}

/// Settings for translation alone.
fn translation(
    target: TargetArgs,
    told: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<Settings, Vec<SettingError>> {
    let TargetArgs {
        etcd_prefix,
        instance,
        controller_name,
        apisix_version,
        listen,
        stream_plugins,
        address,
        publish_service,
    } = target;
    let mut errors = Vec::new();
    let prefix = keep(&mut errors, apisix::prefix(etcd_prefix, told, origins));
    let instance = keep(&mut errors, checked(instance, is_instance, SettingError::Instance));
    let controller_name = keep(&mut errors, checked(controller_name, is_controller_name, SettingError::ControllerName));
    let version = keep(&mut errors, ApisixVersion::from_str(&apisix_version).map_err(SettingError::Version));
    // What the file says of ports depends on the version; one that is wrong is named alone then.
    let stream =
        apisix::stream_proxy(&listen, &stream_plugins, version.unwrap_or(ApisixVersion::DEFAULT), told, origins);
    let stream = stream.map_err(|more| errors.extend(more)).ok();
    let addresses = addresses::source(&address, publish_service.as_deref()).map_err(SettingError::from);
    let addresses = keep(&mut errors, addresses);
    let (Some(prefix), Some(instance), Some(controller_name), Some(version), Some(stream), Some(addresses)) =
        (prefix, instance, controller_name, version, stream, addresses)
    else {
        return Err(errors);
    };
    Ok(Settings {
        controller_name: controller_name.into(),
        instance: instance.into(),
        plane: PlaneSettings { plane: Plane::of(&prefix), version, stream, ports: BTreeMap::new(), addresses }.into(),
    })
}

fn keep<T>(errors: &mut Vec<SettingError>, result: Result<T, SettingError>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn checked(text: String, right: fn(&str) -> bool, error: fn(String) -> SettingError) -> Result<String, SettingError> {
    if right(&text) { Ok(text) } else { Err(error(text)) }
}

fn source(manifests: Vec<PathBuf>, kubeconfig: Option<PathBuf>) -> ObjectSource {
    match kubeconfig {
        _ if !manifests.is_empty() => ObjectSource::Manifests(manifests),
        Some(kubeconfig) => ObjectSource::Kubeconfig(kubeconfig),
        None => ObjectSource::Inferred,
    }
}

fn prefix(prefix: String) -> Result<String, SettingError> {
    match prefix_fault(&prefix) {
        Some(fault) => Err(SettingError::Prefix { prefix, fault }),
        None => Ok(prefix),
    }
}

/// Where kube says at level `error` that a request failed, which whoever asked says too: once, and in words of its own.
const SAID_TWICE: &str = "kube_client::client::builder=off";

/// `tracing_subscriber`'s directives: a level, or a list of `module=level`. What is only said twice is left out unless the
/// list is about it.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    if directives.contains("kube_client") {
        return builder.parse(directives);
    }
    // Read alone first, so that an error is about what was given.
    builder.parse(directives).and_then(|filter| Ok(filter.add_directive(SAID_TWICE.parse()?)))
}

fn is_instance(text: &str) -> bool {
    text.len() <= 32 && is_label(text)
}

/// Gateway API's own pattern for `spec.controllerName`.
fn is_controller_name(text: &str) -> bool {
    let Some((domain, path)) = text.split_once('/') else { return false };
    let path_character = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    text.len() <= CONTROLLER_NAME_MAX
        && domain.split('.').all(is_label)
        && !path.is_empty()
        && path.chars().all(path_character)
}

/// Lower-case letters, digits and inner dashes.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args::{Command, CommandLine};
    use clap::Parser as _;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[track_caller]
    fn run(arguments: &[&str]) -> Result<RunSettings, Vec<String>> {
        let line = ["x", "run"].iter().chain(arguments);
        let Command::Run(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not run") };
        RunSettings::check(*args).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn refused(arguments: &[&str], part: &str) {
        let mut all = vec!["--etcd-endpoints=http://e:2379"];
        all.extend(arguments);
        let errors = run(&all).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(part), "{arguments:?}: {errors:?}");
    }

    #[test]
    fn an_endpoint_is_enough() {
        let settings = run(&["--etcd-endpoints", "http://e:2379"]).unwrap();
        assert_eq!(settings.source, ObjectSource::Inferred);
        assert_eq!(settings.etcd.endpoints, ["http://e:2379"]);
        assert_eq!(settings.etcd.timeout, Duration::from_secs(5));
        assert_eq!(settings.translation.plane.version, ApisixVersion::DEFAULT);
        assert_eq!(settings.translation.plane.plane.prefix(), "/apisix");
    }

    #[test]
    fn prefixes_that_overlap_are_refused() {
        refused(&["--control-prefix=/apisix-control"], "one begins with the other");
        refused(&["--etcd-prefix=/gateway"], "one begins with the other");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let errors = run(&["--etcd-prefix=apisix", "--instance=A", "--apisix-version=2.0", "--log-level=info,a=loud"])
            .unwrap_err();
        let flags: Vec<_> = errors.iter().filter_map(|error| error.split([':', ' ']).next()).collect();
        assert_eq!(flags, ["--etcd-endpoints", "--etcd-prefix", "--instance", "--apisix-version", "--log-level"]);
    }

    #[test]
    fn a_prefix_has_segments_of_plain_characters() {
        for good in ["/apisix", "/a/b", "/a_b.c-D9"] {
            assert!(prefix(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "/", "apisix", "/apisix/", "/a//b", "//a", "/a b", "/ä"] {
            assert!(prefix(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_instance_is_a_label_of_at_most_32_characters() {
        for good in ["a", "default", "a-1", &"a".repeat(32)] {
            assert!(is_instance(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(33)] {
            assert!(!is_instance(bad), "{bad}");
        }
    }

    #[test]
    fn a_controller_name_is_a_domain_and_a_path() {
        for good in ["apisix-etcd.io/gateway-controller", "a/b", "a.b/c/d", &format!("a/{}", "b".repeat(251))] {
            assert!(is_controller_name(good), "{good}");
        }
        for bad in ["", "a", "a/", "/b", "A/b", "a..b/c", "a/b c", &format!("a/{}", "b".repeat(252))] {
            assert!(!is_controller_name(bad), "{bad}");
        }
    }

    #[test]
    fn what_kube_says_twice_is_left_out_unless_the_filter_is_about_it() {
        let enabled = |directives: &str| {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(filter(directives).unwrap()), || {
                let twice = tracing::enabled!(target: "kube_client::client::builder", tracing::Level::ERROR);
                let once = tracing::enabled!(target: "kube_client::client", tracing::Level::ERROR);
                (twice, once)
            })
        };
        for quiet in ["info", "error", "debug", "info,apisix_etcd_controller=debug", "kube=debug"] {
            assert_eq!(enabled(quiet), (false, true), "{quiet}");
        }
        for told in ["info,kube_client=warn", "info,kube_client::client::builder=error"] {
            assert_eq!(enabled(told), (true, true), "{told}");
        }
        assert_eq!(enabled("off"), (false, false));
    }

    #[test]
    fn levels_and_lists_of_levels_are_filters() {
        for good in ["info", "debug", "info,kube=warn", "apisix_etcd_controller::store=trace", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["info,a=loud", "a=b=c"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }
}
