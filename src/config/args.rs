//! The command line and the environment, as written; the help texts live here.
//!
//! Text goes in, text comes out, in the shape of the commands. What only a look at the value can tell is left to
//! [`super::settings`].

pub mod control;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control::{CheckpointArgs, ReleaseArgs};
use std::{net::SocketAddr, path::PathBuf};

const EXAMPLES: &str = "\
Examples:
  Show what a folder of manifests would become, without touching anything:
    apisix-etcd-controller translate --manifests ./manifests

  Follow a folder of manifests and keep an etcd equal to it:
    apisix-etcd-controller run --manifests ./manifests --etcd-endpoints http://127.0.0.1:2379

  Follow the Kubernetes cluster that KUBECONFIG names, or in which this runs:
    apisix-etcd-controller run --etcd-endpoints http://etcd-0:2379,http://etcd-1:2379,http://etcd-2:2379

Every flag can also be given in the environment; `run --help` names the variables.";

const RUN_EXAMPLES: &str = "\
Examples:
  In a cluster, for data planes of APISIX 3.14 that read the prefix /apisix:
    apisix-etcd-controller run --etcd-endpoints http://etcd:2379 --apisix-version 3.14.0

  Against the cluster of a kubeconfig, with readable logs of why nothing was done:
    apisix-etcd-controller run --kubeconfig ~/.kube/config --etcd-endpoints http://127.0.0.1:2379 \\
        --log-level info,apisix_etcd_controller=debug

  Without Kubernetes, from a folder that is watched for changes; statuses are shown, not written:
    apisix-etcd-controller run --manifests ./manifests --etcd-endpoints http://127.0.0.1:2379

Ports: --admin-address serves /livez, /readyz and /metrics.
Ends with 0 after SIGINT or SIGTERM, 1 when something broke for good, 2 when a setting is wrong.";

const TRANSLATE_EXAMPLES: &str = "\
Examples:
  As tables, for reading:
    apisix-etcd-controller translate --manifests ./manifests

  Several files and folders together, for data planes of APISIX 3.14, as one JSON object:
    apisix-etcd-controller translate --manifests gateway.yaml --manifests routes/ --apisix-version 3.14.0 --output json

  One document, by its etcd key:
    apisix-etcd-controller translate --manifests ./manifests --output json \\
        | jq '.documents[\"/apisix/stream_routes/gateway-api.9100\"]'

Ends with 0, with 1 when something was refused (an object that cannot be read, a condition that is False), and with 2 when
a setting is wrong or a file cannot be read.";

/// Puts Kubernetes Gateway API routes into Apache APISIX's etcd.
///
/// Watches GatewayClass, Gateway, TCPRoute and what they refer to, translates them into APISIX's stream_routes and upstreams,
/// and keeps the etcd that APISIX reads equal to that translation, by compare-and-swap. The Admin API is not used.
#[derive(Debug, Parser)]
#[command(name = "apisix-etcd-controller", version, after_help = EXAMPLES, max_term_width = 120)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow Kubernetes objects and keep etcd equal to their translation
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Show what manifests would become, without touching anything
    #[command(after_help = TRANSLATE_EXAMPLES)]
    Translate(TranslateArgs),
    /// Show or reset the record of what etcd was last written from
    Checkpoint(CheckpointArgs),
    /// Let go what the controller holds back on purpose
    ///
    /// A change that would stop most of a data plane's routes at once is held back, and so is whatever depends on a kind
    /// that the cluster does not serve any more. Events, the log and the metric name what is held. This asks the
    /// controller that leads to let it go; it clears the request when it has.
    #[command(after_help = control::RELEASE_EXAMPLES)]
    Release(ReleaseArgs),
    /// Show this version, and which versions of APISIX and Gateway API it knows
    Version(VersionArgs),
}

/// Of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// File or folder of manifests to follow instead of a Kubernetes cluster; may be repeated
    #[arg(long, value_name = "PATH", env = "APISIX_ETCD_CONTROLLER_MANIFESTS", conflicts_with = "kubeconfig")]
    pub manifests: Vec<PathBuf>,
    /// Kubeconfig of the cluster to follow [default: KUBECONFIG, ~/.kube/config, the cluster this runs in]
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// URLs of the etcd cluster that APISIX reads, separated by commas (required)
    #[arg(
        long,
        value_name = "URL",
        env = "APISIX_ETCD_CONTROLLER_ETCD_ENDPOINTS",
        // A password put there by mistake is refused without being repeated; the help text must not repeat it either.
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub etcd_endpoints: Vec<String>,
    /// How long one request to etcd may take, for example 5s or 500ms
    #[arg(long, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_ETCD_TIMEOUT", default_value = "5s")]
    pub etcd_timeout: String,
    /// How many transactions may be on their way to etcd at once, 1 to 64
    #[arg(long, value_name = "N", env = "APISIX_ETCD_CONTROLLER_TRANSACTIONS_IN_FLIGHT", default_value_t = 4)]
    pub transactions_in_flight: u16,
    /// What to translate for.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where /livez, /readyz and /metrics are served; port 0 takes any free one
    #[arg(
        long,
        value_name = "IP:PORT",
        env = "APISIX_ETCD_CONTROLLER_ADMIN_ADDRESS",
        default_value = "127.0.0.1:8081"
    )]
    pub admin_address: SocketAddr,
    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "APISIX_ETCD_CONTROLLER_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also by module (info,apisix_etcd_controller::store=debug)
    #[arg(long, value_name = "LEVEL", env = "APISIX_ETCD_CONTROLLER_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// Of `translate`.
#[derive(Debug, Args)]
pub struct TranslateArgs {
    /// File or folder of manifests; may be repeated
    #[arg(long, value_name = "PATH", env = "APISIX_ETCD_CONTROLLER_MANIFESTS", required = true)]
    pub manifests: Vec<PathBuf>,
    /// What to translate for.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print documents and statuses
    #[arg(long, short, value_name = "FORMAT", env = "APISIX_ETCD_CONTROLLER_OUTPUT", default_value = "table")]
    pub output: OutputFormat,
}

/// Of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// How to print it
    #[arg(long, short, value_name = "FORMAT", env = "APISIX_ETCD_CONTROLLER_OUTPUT", default_value = "table")]
    pub output: OutputFormat,
}

/// What to translate for: alike in every command that translates.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// The prefix that APISIX reads (deployment.etcd.prefix in its config.yaml)
    #[arg(long, value_name = "PREFIX", env = "APISIX_ETCD_CONTROLLER_ETCD_PREFIX", default_value = "/apisix")]
    pub etcd_prefix: String,
    /// Name of this controller instance: goes into every document, so that several can share a prefix
    #[arg(long, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_INSTANCE", default_value = "default")]
    pub instance: String,
    /// GatewayClasses with this spec.controllerName are served
    #[arg(
        long,
        value_name = "DOMAIN/PATH",
        env = "APISIX_ETCD_CONTROLLER_CONTROLLER_NAME",
        default_value = "apisix-etcd.io/gateway-controller"
    )]
    pub controller_name: String,
    /// The oldest APISIX that reads the prefix, 3.8 or later
    #[arg(long, value_name = "VERSION", env = "APISIX_ETCD_CONTROLLER_APISIX_VERSION", default_value = "3.13")]
    pub apisix_version: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// One JSON object.
    Json,
    /// One YAML document.
    Yaml,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{ArgAction, CommandFactory as _};

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable_of_its_name() {
        for command in CommandLine::command().get_subcommands() {
            // Not what is asked for once: a switch that stood in the environment would be forgotten there.
            let settings =
                command.get_arguments().filter(|argument| !matches!(argument.get_action(), ArgAction::SetTrue));
            for argument in settings.filter(|argument| argument.get_long().is_some()) {
                let long = argument.get_long().unwrap();
                let variable = format!("APISIX_ETCD_CONTROLLER_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(&*variable), "--{long}");
            }
        }
    }

    #[test]
    fn help_does_not_show_what_the_environment_says_of_endpoints() {
        let command = CommandLine::command();
        let run = command.find_subcommand("run").unwrap();
        let endpoints = run.get_arguments().find(|argument| argument.get_long() == Some("etcd-endpoints")).unwrap();
        assert!(endpoints.is_hide_env_values_set());
    }

    #[test]
    fn endpoints_may_be_separated_by_commas_or_repeated() {
        let line = ["x", "run", "--etcd-endpoints", "http://a:1,http://b:1", "--etcd-endpoints", "http://c:1"];
        let Command::Run(run) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not run") };
        assert_eq!(run.etcd_endpoints, ["http://a:1", "http://b:1", "http://c:1"]);
    }

    #[test]
    fn a_folder_and_a_kubeconfig_exclude_each_other() {
        let line = ["x", "run", "--manifests", "a", "--kubeconfig", "b", "--etcd-endpoints", "http://c:1"];
        let error = CommandLine::try_parse_from(line).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
