//! The commands about the controller's own keys in etcd, as written: `checkpoint show`, `checkpoint reset`, `release`.

use super::{ApisixArgs, EtcdArgs, OutputFormat};
use clap::{Args, Subcommand};

const SHOW_EXAMPLES: &str = "\
Examples:
  Which state of which cluster etcd was last written from, and who leads:
    apisix-etcd-controller checkpoint show --etcd-endpoints http://127.0.0.1:2379

  The version of one resource in the newest record, of another instance:
    apisix-etcd-controller checkpoint show --etcd-endpoints http://127.0.0.1:2379 --instance blue --output json \\
        | jq '.newest as $n | .lanes[] | select(.lane == $n).record.versions[\"services\"]'

Ends with 0, with 1 when a record cannot be used (then no controller writes), and with 2 when a setting is wrong or etcd \
cannot be reached.";

const RESET_EXAMPLES: &str = "\
Examples:
  After the cluster was restored from a backup, or set up anew, and is right as it is:
    apisix-etcd-controller checkpoint reset --etcd-endpoints http://127.0.0.1:2379

  The same in a script, where nobody can be asked, for an instance whose controller is given two minutes to end:
    apisix-etcd-controller checkpoint reset --etcd-endpoints http://127.0.0.1:2379 --instance blue --timeout 2m --yes

Ends with 0, with 1 when nothing was reset (another leads, there is no checkpoint, the answer was no), and with 2 when a \
setting is wrong or etcd cannot be reached.";

pub(super) const RELEASE_EXAMPLES: &str = "\
Examples:
  A kind was uninstalled on purpose, and what was made of it shall go:
    apisix-etcd-controller release kind/gateway.networking.k8s.io/tcproutes --etcd-endpoints http://127.0.0.1:2379

  What was asked for and not yet taken up:
    apisix-etcd-controller release --list --etcd-endpoints http://127.0.0.1:2379

Ends with 0 when the request is in etcd (also while nobody leads: the next leader takes it up), with 1 when it is not, and \
with 2 when a setting is wrong or etcd cannot be reached.";

/// Of `checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: CheckpointCommand,
}

/// What to do with the checkpoint.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Show from which state of which cluster etcd was last written, and who leads
    #[command(after_help = SHOW_EXAMPLES)]
    Show(CheckpointShowArgs),
    /// Let a controller go on that stopped at the checkpoint, whatever its cluster is
    ///
    /// A controller stops when the checkpoint names another cluster or a newer state of this one, or cannot be read. When
    /// you know that the cluster it follows is the right one, as it is, this replaces the record. No document is touched,
    /// and those of this instance stay its own. While a controller leads, this waits for it to end.
    #[command(after_help = RESET_EXAMPLES)]
    Reset(CheckpointResetArgs),
}

/// Of `checkpoint show`.
#[derive(Debug, Args)]
pub struct CheckpointShowArgs {
    /// Whose.
    #[command(flatten)]
    pub control: ControlArgs,
    /// How to print it
    #[arg(long, short, help_heading = None::<&str>, value_name = "FORMAT", env = "APISIX_ETCD_CONTROLLER_OUTPUT", default_value = "table")]
    pub output: OutputFormat,
}

/// Of `checkpoint reset`.
#[derive(Debug, Args)]
pub struct CheckpointResetArgs {
    /// Whose.
    #[command(flatten)]
    pub control: ControlArgs,
    /// How long to wait for a controller that leads to end, for example 1m; 0s does not wait
    #[arg(long, help_heading = None::<&str>, value_name = "TIME", env = "APISIX_ETCD_CONTROLLER_TIMEOUT", default_value = "1m")]
    pub timeout: String,
    /// Do it without asking
    #[arg(long, help_heading = None::<&str>)]
    pub yes: bool,
}

/// Of `release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Whose.
    #[command(flatten)]
    pub control: ControlArgs,
    /// What to let go: the name in the Event, the log and the metric of what is held; for a kind that is gone for good,
    /// kind/GROUP/RESOURCE
    #[arg(value_name = "NAME", required_unless_present = "list")]
    pub name: Option<String>,
    /// List what was asked for and not yet taken up, and ask for nothing
    #[arg(long, help_heading = None::<&str>, conflicts_with = "name")]
    pub list: bool,
}

/// Whose keys, and in which etcd: alike in every command that is about nothing else.
#[derive(Debug, Args)]
pub struct ControlArgs {
    /// What APISIX itself is told.
    #[command(flatten)]
    pub apisix: ApisixArgs,
    /// Which etcd.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Prefix of the controller's own keys in etcd
    #[arg(
        long,
        help_heading = None::<&str>,
        value_name = "PREFIX",
        env = "APISIX_ETCD_CONTROLLER_CONTROL_PREFIX",
        default_value = "/gateway-api-etcd"
    )]
    pub control_prefix: String,
    /// Name of the controller instance
    #[arg(long, help_heading = None::<&str>, value_name = "NAME", env = "APISIX_ETCD_CONTROLLER_INSTANCE", default_value = "default")]
    pub instance: String,
}
