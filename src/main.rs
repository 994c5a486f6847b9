//! The binary: reads the command line and hands it on.

use apisix_etcd_controller::{command, config::args::CommandLine};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    command::execute(CommandLine::parse().command).into()
}
