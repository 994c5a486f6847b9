//! The command `validate`, as written.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const EXAMPLES: &str = "\
Examples:
  Whether data planes of APISIX 3.13 take the documents of a file, one a line:
    apisix-etcd-controller validate --kind stream_route --apisix-version 3.13.0 documents.jsonl

  What etcd holds, as it is read by another version:
    etcdctl get --prefix /apisix/upstreams/ --print-value-only | grep '^{' \\
        | apisix-etcd-controller validate --kind upstream --apisix-version 3.18.0

  What manifests become:
    apisix-etcd-controller translate --manifests ./manifests --output json \\
        | jq -c '.documents | to_entries[] | select(.key | contains(\"/stream_routes/\")).value' \\
        | apisix-etcd-controller validate --kind stream_route

For each line, in order, a line is printed: `ok`, or `refused: ` and why. Values are not repeated in it.
Ends with 0, with 1 when a document was refused, and with 2 when a setting is wrong or the documents cannot be read.";

/// Of `validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// What the documents are
    #[arg(long, value_name = "KIND", env = "APISIX_ETCD_CONTROLLER_KIND")]
    pub kind: Kind,
    /// The APISIX that reads them, 3.2.2 or later; one that is newer than all that are known counts as the newest
    #[arg(long, value_name = "VERSION", env = "APISIX_ETCD_CONTROLLER_APISIX_VERSION", default_value = "3.13")]
    pub apisix_version: String,
    /// File of JSON documents, one a line [default: standard input]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What a document is, in APISIX's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    /// Which connections go where
    StreamRoute,
    /// Where they go
    Upstream,
    /// Certificates of names
    Ssl,
}
