//! The command line and the environment, as written; the help texts live here.
//!
//! Text goes in, text comes out, in the shape of the commands. What only a look at the value can tell is left to
//! [`super::settings`].

pub mod control;
pub mod validate;

use crate::model::link::Secret;
use clap::{Args, Parser, Subcommand, ValueEnum};
use control::{CheckpointArgs, ReleaseArgs};
use std::{net::SocketAddr, path::PathBuf};
use validate::ValidateArgs;

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

  With the file that APISIX itself is started with: which etcd, prefix, user, TLS files, ports and stream plugins:
    apisix-etcd-controller run --apisix-config /apisix/config.yaml --apisix-version 3.16.0

  With the ports said here: a listener on any other is refused, and its status names these:
    apisix-etcd-controller run --etcd-endpoints http://etcd:2379 --listen tcp:9100,tcp:9000-9010,tls:9443,udp:9200

  With the addresses that Gateways say in their status, as the Service in front of APISIX has them, or said here:
    apisix-etcd-controller run --etcd-endpoints http://etcd:2379 --publish-service apisix/apisix-gateway
    apisix-etcd-controller run --etcd-endpoints http://etcd:2379 --address 203.0.113.7 --address edge.example.com

  With TLS, a client certificate and a user of etcd; the files may be replaced while it runs:
    apisix-etcd-controller run --etcd-endpoints https://etcd:2379 --etcd-ca-file /etcd/ca.crt \\
        --etcd-cert-file /etcd/tls.crt --etcd-key-file /etcd/tls.key \\
        --etcd-user gateway-api --etcd-password-file /etcd/password

Ports: --admin-address serves /livez, /readyz and /metrics.
Ends with 0 after SIGINT or SIGTERM, 1 when something broke for good, 2 when a setting is wrong.";

const TRANSLATE_EXAMPLES: &str = "\
Examples:
  As tables, for reading:
    apisix-etcd-controller translate --manifests ./manifests

  Several files and folders together, for data planes of APISIX 3.14, as one JSON object:
    apisix-etcd-controller translate --manifests gateway.yaml --manifests routes/ --apisix-version 3.14.0 --output json

  For the ports and stream plugins of an APISIX whose file is at hand:
    apisix-etcd-controller translate --manifests ./manifests --apisix-config ./config.yaml --apisix-version 3.16.0

  With the addresses that clients reach it at, which Gateways say in their status:
    apisix-etcd-controller translate --manifests ./manifests --address 203.0.113.7,edge.example.com

  One document, by its etcd key:
    apisix-etcd-controller translate --manifests ./manifests --output json \\
        | jq '.documents[\"/apisix/stream_routes/gateway-api.9100\"]'

Ends with 0, with 1 when something was refused (an object that cannot be read, a condition that is False), and with 2 when
a setting is wrong or a file cannot be read.";

/// Puts Kubernetes Gateway API routes into Apache APISIX's etcd.
///
/// Watches GatewayClass, Gateway, TCPRoute, UDPRoute and what they refer to, translates them into APISIX's stream_routes and
/// upstreams, and keeps the etcd that APISIX reads equal to that translation, by compare-and-swap. The Admin API is not used.
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
    /// Say of APISIX documents whether data planes of a version take them
    ///
    /// Reads JSON documents, one a line, and knows every rule by which a data plane accepts or drops them. It never calls
    /// a document good that APISIX refuses. It refuses a few that APISIX accepts and then serves wrongly.
    #[command(after_help = validate::EXAMPLES)]
    Validate(ValidateArgs),
    /// Show this version, and which versions of APISIX and Gateway API it knows
    Version(VersionArgs),
}

/// A heading goes on after the group it was meant for, so what follows one says its own.
const OPERATION: &str = "Operation";

/// Of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// File or folder of manifests to follow instead of a Kubernetes cluster; may be repeated
    #[arg(long, value_name = "PATH", env = "APISIX_ETCD_CONTROLLER_MANIFESTS", conflicts_with = "kubeconfig")]
    pub manifests: Vec<PathBuf>,
    /// Kubeconfig of the cluster to follow [default: KUBECONFIG, ~/.kube/config, the cluster this runs in]
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// What APISIX itself is told.
    #[command(flatten)]
    pub apisix: ApisixArgs,
    /// How to reach etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// How to write.
    #[command(flatten)]
    pub writing: WritingArgs,
    /// What to translate for.
    #[command(flatten)]
    pub target: TargetArgs,
    /// Where /livez, /readyz and /metrics are served; port 0 takes any free one
    #[arg(
        long,
        help_heading = OPERATION,
        value_name = "IP:PORT",
        env = "APISIX_ETCD_CONTROLLER_ADMIN_ADDRESS",
        default_value = "127.0.0.1:8081"
    )]
    pub admin_address: SocketAddr,
    /// How log lines look
    #[arg(
        long,
        help_heading = OPERATION,
        value_name = "FORMAT",
        env = "APISIX_ETCD_CONTROLLER_LOG_FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, also by module (info,apisix_etcd_controller::store=debug)
    ///
    /// Failed requests to Kubernetes are logged by the controller; the client's own lines about them come back with a list
    /// that names kube_client.
    #[arg(
        long,
        help_heading = OPERATION,
        value_name = "LEVEL",
        env = "APISIX_ETCD_CONTROLLER_LOG_LEVEL",
        default_value = "info"
    )]
    pub log_level: String,
}

/// How to reach etcd: alike in every command that does.
#[derive(Debug, Args)]
#[command(next_help_heading = "Link to etcd")]
pub struct EtcdArgs {
    /// URLs of the etcd cluster that APISIX reads, separated by commas (required without --apisix-config)
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
    /// User of etcd; its password stands in --etcd-password-file or in APISIX_ETCD_CONTROLLER_ETCD_PASSWORD
    #[arg(long, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_ETCD_USER")]
    pub etcd_user: Option<String>,
    /// File with the user's password, read again whenever etcd wants it again
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_ETCD_PASSWORD_FILE")]
    pub etcd_password_file: Option<PathBuf>,
    /// The password itself. There is no flag for it: command lines show in process lists.
    #[arg(skip = password_of_the_environment())]
    pub etcd_password: Option<Secret>,
    /// PEM file of the certificate authorities that vouch for etcd; needed for https. Followed when it changes
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_ETCD_CA_FILE")]
    pub etcd_ca_file: Option<PathBuf>,
    /// PEM file of the client certificate to show to etcd. Followed when it changes
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_ETCD_CERT_FILE")]
    pub etcd_cert_file: Option<PathBuf>,
    /// PEM file of the client certificate's private key. Followed when it changes
    #[arg(long, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_ETCD_KEY_FILE")]
    pub etcd_key_file: Option<PathBuf>,
    /// Name that etcd's certificate must have [default: the host of each endpoint]
    #[arg(long, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_ETCD_SERVER_NAME")]
    pub etcd_server_name: Option<String>,
}

/// What APISIX itself is told: alike in every command that needs any of it.
#[derive(Debug, Args)]
pub struct ApisixArgs {
    /// APISIX's own config.yaml: says what no flag does, of etcd, prefix, user, TLS files, ports and stream plugins. Read
    /// once, at the start; ${{NAME:=default}} in it takes this program's environment
    #[arg(long, help_heading = None::<&str>, value_name = "FILE", env = "APISIX_ETCD_CONTROLLER_APISIX_CONFIG")]
    pub apisix_config: Option<PathBuf>,
}

/// How to write, and who of several replicas does.
#[derive(Debug, Args)]
#[command(next_help_heading = "Writing")]
pub struct WritingArgs {
    /// Prefix of the controller's own keys in etcd; no data plane may read it
    #[arg(
        long,
        value_name = "PREFIX",
        env = "APISIX_ETCD_CONTROLLER_CONTROL_PREFIX",
        default_value = "/gateway-api-etcd"
    )]
    pub control_prefix: String,
    /// How many transactions may be on their way to etcd at once, 1 to 64
    #[arg(long, value_name = "N", env = "APISIX_ETCD_CONTROLLER_TRANSACTIONS_IN_FLIGHT", default_value_t = 4)]
    pub transactions_in_flight: u16,
    /// How long after a leader's death another replica may lead, in whole seconds, 2s to 10m
    #[arg(long, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_LEASE_TTL", default_value = "15s")]
    pub lease_ttl: String,
    /// Name of this replica, shown as the leader's [default: POD_NAME, HOSTNAME, or host name and process id]
    #[arg(long, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_REPLICA_NAME")]
    pub replica_name: Option<String>,
    /// A leader that has had work for so long, and could write nothing, gives way; at least the lease's time
    #[arg(long, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_WRITE_STALL", default_value = "1m")]
    pub write_stall: String,
    /// How often all keys are compared with what is known of them, at least 10s
    #[arg(long, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_AUDIT_INTERVAL", default_value = "10m")]
    pub audit_interval: String,
    /// What is done with a document that somebody else edited
    #[arg(long, value_name = "POLICY", env = "APISIX_ETCD_CONTROLLER_DRIFT", default_value = "repair")]
    pub drift: Drift,
    /// How long one event that would stop most routes of a data plane is held back; 0s never holds
    #[arg(long, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_HOLD_TIME", default_value = "1h")]
    pub hold_time: String,
}

/// An empty variable is as good as none: that is what a manifest's blank value comes to.
fn password_of_the_environment() -> Option<Secret> {
    let password = std::env::var(PASSWORD_VARIABLE).ok()?;
    (!password.is_empty()).then(|| Secret::new(&password))
}

/// Where the password of the user of etcd may stand.
pub(super) const PASSWORD_VARIABLE: &str = "APISIX_ETCD_CONTROLLER_ETCD_PASSWORD";

/// Of `translate`.
#[derive(Debug, Args)]
pub struct TranslateArgs {
    /// File or folder of manifests; may be repeated
    #[arg(long, value_name = "PATH", env = "APISIX_ETCD_CONTROLLER_MANIFESTS", required = true)]
    pub manifests: Vec<PathBuf>,
    /// What APISIX itself is told.
    #[command(flatten)]
    pub apisix: ApisixArgs,
    /// What to translate for.
    #[command(flatten)]
    pub target: TargetArgs,
    /// How to print documents and statuses
    #[arg(
        long,
        short,
        help_heading = None::<&str>,
        value_name = "FORMAT",
        env = "APISIX_ETCD_CONTROLLER_OUTPUT",
        default_value = "table"
    )]
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
#[command(next_help_heading = "Translation")]
pub struct TargetArgs {
    /// The prefix that APISIX reads (deployment.etcd.prefix in its config.yaml) [default: /apisix]
    #[arg(long, value_name = "PREFIX", env = "APISIX_ETCD_CONTROLLER_ETCD_PREFIX")]
    pub etcd_prefix: Option<String>,
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
    /// What APISIX listens on below HTTP, separated by commas: tcp:PORT, tls:PORT, udp:PORT, tls-passthrough:PORT or
    /// tls-either:PORT, each also with FIRST-LAST; none for nothing. Unsaid, every port is taken on trust
    #[arg(long, value_name = "SOCKET", env = "APISIX_ETCD_CONTROLLER_LISTEN", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// The stream plugins that APISIX runs (stream_plugins in its config.yaml), separated by commas, or none
    /// [default: those of APISIX; traffic-split from 3.14 on]
    #[arg(long, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_STREAM_PLUGINS", value_delimiter = ',')]
    pub stream_plugins: Vec<String>,
    /// IP address or hostname at which clients reach APISIX, for the status of Gateways; may be repeated, or separated by
    /// commas
    #[arg(long, value_name = "ADDRESS", env = "APISIX_ETCD_CONTROLLER_ADDRESS", value_delimiter = ',')]
    pub address: Vec<String>,
    /// The Service in front of APISIX: the addresses that its load balancer gave it, or its externalIPs, go into the status
    /// of Gateways
    #[arg(long, value_name = "NAMESPACE/NAME", env = "APISIX_ETCD_CONTROLLER_PUBLISH_SERVICE")]
    pub publish_service: Option<String>,
}

/// What is done with a document that somebody else edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drift {
    /// Written anew at once.
    Repair,
    /// Reported, and left until what it is made from changes.
    Report,
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
        assert_eq!(run.etcd.etcd_endpoints, ["http://a:1", "http://b:1", "http://c:1"]);
    }

    #[test]
    fn a_folder_and_a_kubeconfig_exclude_each_other() {
        let line = ["x", "run", "--manifests", "a", "--kubeconfig", "b", "--etcd-endpoints", "http://c:1"];
        let error = CommandLine::try_parse_from(line).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
