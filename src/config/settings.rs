//! Checked settings: whatever is in these types can be used as it is.
//!
//! The command line as written goes in; settings come out, or every error in it at once, each saying which flag it is about
//! and what would do. Nothing is opened or asked here.

pub mod control;

use super::args::{LogFormat, OutputFormat, RunArgs, TargetArgs, TranslateArgs};
use crate::{
    apisix::version::{ApisixVersion, VersionError},
    translate::desired::Settings,
};
use control::ControlSettingError;
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};
use tracing_subscriber::{
    EnvFilter,
    filter::{LevelFilter, ParseError},
};

/// Of `run`.
#[derive(Clone, Debug)]
pub struct RunSettings {
    /// Where objects come from.
    pub source: ObjectSource,
    /// The etcd that is written.
    pub etcd: EtcdAddress,
    /// Transactions that may be on their way at once.
    pub transactions_in_flight: NonZeroUsize,
    /// What to translate for.
    pub translation: Settings,
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

/// Which etcd, and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    /// URLs of its members, at least one, without user or password.
    pub endpoints: Vec<String>,
    /// How long one request may take; not zero.
    pub timeout: Duration,
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
    /// Of the commands about the controller's own keys.
    #[error(transparent)]
    Control(#[from] ControlSettingError),
    /// No endpoint was given.
    #[error(
        "--etcd-endpoints is missing: name the etcd that APISIX reads, for example --etcd-endpoints http://127.0.0.1:2379"
    )]
    NoEndpoint,
    /// An endpoint is not a URL of etcd.
    #[error("--etcd-endpoints: {endpoint:?} {fault}: write http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// The endpoint, without what might be a password.
        endpoint: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A user and password in a URL end up in logs.
    #[error("--etcd-endpoints: an endpoint holds a user or password, which would show in process lists: leave it out")]
    Credentials,
    /// The timeout is not a time.
    #[error("--etcd-timeout: {0:?} is not a time of 1ms to 10min: write for example 5s or 500ms")]
    Timeout(String),
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

/// More transactions at once do not make etcd faster, and each holds up to a megabyte.
const TRANSACTIONS_MAX: u16 = 64;

/// Longer, and a lost connection would look like a very slow one.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// `maxLength` of `spec.controllerName`.
const CONTROLLER_NAME_MAX: usize = 253;

impl RunSettings {
    /// Checks `args`; every error is returned, in the order of the flags in the help text.
    pub fn check(args: RunArgs) -> Result<Self, Vec<SettingError>> {
        let RunArgs {
            manifests,
            kubeconfig,
            etcd_endpoints,
            etcd_timeout,
            transactions_in_flight,
            target,
            admin_address,
            log_format,
            log_level,
        } = args;
        let mut errors = Vec::new();
        let endpoints = keep(&mut errors, endpoints(&etcd_endpoints));
        let timeout = keep(&mut errors, timeout(&etcd_timeout));
        let transactions_in_flight = keep(&mut errors, transactions(transactions_in_flight));
        let translation = translation(target).map_err(|more| errors.extend(more)).ok();
        let filter = filter(&log_level).map_err(|source| SettingError::LogLevel { level: log_level, source });
        let filter = keep(&mut errors, filter);
        let (Some(endpoints), Some(timeout), Some(transactions_in_flight), Some(translation), Some(filter)) =
            (endpoints, timeout, transactions_in_flight, translation, filter)
        else {
            return Err(errors);
        };
        Ok(Self {
            source: source(manifests, kubeconfig),
            etcd: EtcdAddress { endpoints, timeout },
            transactions_in_flight,
            translation,
            admin_address,
            log: LogSettings { format: log_format, filter },
        })
    }
}

impl TranslateSettings {
    /// Checks `args`; every error is returned, in the order of the flags in the help text.
    pub fn check(args: TranslateArgs) -> Result<Self, Vec<SettingError>> {
        let TranslateArgs { manifests, target, output } = args;
        Ok(Self { manifests, translation: translation(target)?, output })
    }
}

/// Settings for translation alone.
fn translation(target: TargetArgs) -> Result<Settings, Vec<SettingError>> {
    let TargetArgs { etcd_prefix, instance, controller_name, apisix_version } = target;
    let mut errors = Vec::new();
    let prefix = keep(&mut errors, prefix(etcd_prefix));
    let instance = keep(&mut errors, checked(instance, is_instance, SettingError::Instance));
    let controller_name = keep(&mut errors, checked(controller_name, is_controller_name, SettingError::ControllerName));
    let version = keep(&mut errors, ApisixVersion::from_str(&apisix_version).map_err(SettingError::Version));
    let (Some(prefix), Some(instance), Some(controller_name), Some(version)) =
        (prefix, instance, controller_name, version)
    else {
        return Err(errors);
    };
    Ok(Settings { controller_name: controller_name.into(), instance: instance.into(), prefix: prefix.into(), version })
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

fn endpoints(endpoints: &[String]) -> Result<Vec<String>, SettingError> {
    // "http://a:1," is a slip that means one endpoint.
    let endpoints: Vec<String> =
        endpoints.iter().map(|endpoint| endpoint.trim().to_owned()).filter(|endpoint| !endpoint.is_empty()).collect();
    if endpoints.is_empty() {
        return Err(SettingError::NoEndpoint);
    }
    endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint))?;
    Ok(endpoints)
}

fn check_endpoint(endpoint: &str) -> Result<(), SettingError> {
    // First, so that no message below can show a password.
    if endpoint.contains('@') {
        return Err(SettingError::Credentials);
    }
    let wrong = |fault| SettingError::Endpoint { endpoint: endpoint.to_owned(), fault };
    let url: http::Uri = endpoint.parse().map_err(|_| wrong("is not a URL"))?;
    match url.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(wrong("is neither http nor https")),
        None => return Err(wrong("does not begin with http:// or https://")),
    }
    match url.port_u16() {
        None | Some(0) => return Err(wrong("has no port")),
        Some(_) => {}
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("has a path"));
    }
    Ok(())
}

fn timeout(text: &str) -> Result<Duration, SettingError> {
    let wrong = || SettingError::Timeout(text.to_owned());
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    let timeout = Duration::try_from(span).map_err(|_| wrong())?;
    if timeout < Duration::from_millis(1) || timeout > TIMEOUT_MAX { Err(wrong()) } else { Ok(timeout) }
}

fn transactions(n: u16) -> Result<NonZeroUsize, SettingError> {
    NonZeroUsize::new(n.into()).filter(|_| n <= TRANSACTIONS_MAX).ok_or(SettingError::Transactions(n))
}

fn prefix(prefix: String) -> Result<String, SettingError> {
    let fault = match prefix.strip_prefix('/') {
        None => "does not begin with '/'",
        Some(_) if prefix.ends_with('/') => "ends with '/'",
        Some(rest) if rest.split('/').any(str::is_empty) => "has an empty segment",
        Some(rest) if !rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/')) => {
            "has characters other than letters, digits, '_', '.', '-' and '/'"
        }
        Some(_) => return Ok(prefix),
    };
    Err(SettingError::Prefix { prefix, fault })
}

/// `tracing_subscriber`'s directives: a level, or a list of `module=level`.
fn filter(directives: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse(directives)
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
        assert_eq!(settings.translation.version, ApisixVersion::DEFAULT);
        assert_eq!(&*settings.translation.prefix, "/apisix");
    }

    #[test]
    fn every_wrong_setting_is_named_at_once() {
        let errors = run(&["--etcd-prefix=apisix", "--instance=A", "--apisix-version=2.0", "--log-level=info,a=loud"])
            .unwrap_err();
        let flags: Vec<_> = errors.iter().filter_map(|error| error.split([':', ' ']).next()).collect();
        assert_eq!(flags, ["--etcd-endpoints", "--etcd-prefix", "--instance", "--apisix-version", "--log-level"]);
    }

    #[test]
    fn an_endpoint_is_an_http_url_with_a_port_and_nothing_else() {
        for good in ["http://e:2379", "https://e:2379", "http://10.0.0.1:2379/", "http://[::1]:2379"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["e:2379", "http://e", "unix:///e", "ftp://e:21", "http://e:2379/v3", "http://e:0", "http://"] {
            assert!(matches!(check_endpoint(bad), Err(SettingError::Endpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated() {
        let error = check_endpoint("http://root:secret@e:2379").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
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
    fn levels_and_lists_of_levels_are_filters() {
        for good in ["info", "debug", "info,kube=warn", "apisix_etcd_controller::store=trace", "off"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["info,a=loud", "a=b=c"] {
            assert!(filter(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_and_counts_have_bounds() {
        assert_eq!(timeout("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(timeout("10m").unwrap(), TIMEOUT_MAX);
        for bad in ["", "5", "-5s", "0s", "11m", "soon"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
        assert_eq!(transactions(64).unwrap().get(), 64);
        refused(&["--transactions-in-flight=0"], "between 1 and 64");
        refused(&["--transactions-in-flight=65"], "between 1 and 64");
    }
}
