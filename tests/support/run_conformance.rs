//! `make conformance`: the official conformance suite of Gateway API against the controller, once for each data plane.
//!
//! In: versions of APISIX as arguments, all of [`DATA_PLANES`] without; the lists in `tools/conformance/tests.yaml`. Out: a
//! table with every test of the suite by name, logs in `target/conformance`, and an error unless every test did what the
//! lists say. With `BLESS=1` it first writes the lists into `docs/conformance.md`; without, they must stand there.

#[path = "../support.rs"]
mod support;

use anyhow::{Context as _, bail, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};
use support::{
    binaries::Binary,
    controller::{Controller, run_arguments},
    kubernetes::Crds,
    process::{Ending, Process, folder},
    servers::fresh,
};

/// The versions of APISIX that the controller is told, and what else it is told of that data plane.
const DATA_PLANES: [(&str, &[&str]); 2] = [("3.18", ADDRESSES), ("3.19", ADDRESSES)];

/// Nobody connects there: of the suite's tests that wait for an address, those that run look no further.
const ADDRESSES: &[&str] = &["--address", "192.0.2.1", "--address", "edge.example.com"];

const CONTROLLER_NAME: &str = "apisix-etcd.io/conformance";

/// Far more than a run takes. The suite ends itself long before, but for a fault of its own.
const RUN_TIME_MAX: Duration = Duration::from_mins(8);

/// Of a test that went wrong: enough for what it waited for last, and what it saw instead.
const LINES_SHOWN_MAX: usize = 30;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for version in &asked {
        ensure!(DATA_PLANES.iter().any(|(known, _)| known == version), "there is no data plane {version}");
    }
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = Paths {
        suite: Binary::Conformance.path()?,
        lists: checkout.join("tools/conformance/tests.yaml"),
        docs: checkout.join("docs/conformance.md"),
        logs: checkout.join("target/conformance"),
    };
    std::fs::create_dir_all(&paths.logs).context("making the folder for logs")?;
    paths.check_docs()?;
    let chosen = DATA_PLANES.iter().filter(|(version, _)| asked.is_empty() || asked.iter().any(|one| one == version));
    let mut wrong = Vec::new();
    for (version, settings) in chosen {
        if !Box::pin(run(&paths, version, settings)).await? {
            wrong.push(*version);
        }
    }
    if wrong.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("conformance: not everything is as the lists say with APISIX {}", wrong.join(" and "));
    eprintln!("conformance: the logs are in {}", paths.logs.display());
    Ok(ExitCode::FAILURE)
}

struct Paths {
    suite: PathBuf,
    lists: PathBuf,
    docs: PathBuf,
    logs: PathBuf,
}

impl Paths {
    /// That the document shows the lists as they are, or shows them from here on.
    fn check_docs(&self) -> anyhow::Result<()> {
        let mut command = Command::new(&self.suite);
        command.arg("-lists").arg(&self.lists).arg("-docs").arg(&self.docs);
        if std::env::var_os("BLESS").is_some() {
            command.arg("-bless");
        }
        let status = command.status().with_context(|| format!("running {}", self.suite.display()))?;
        ensure!(status.success(), "the lists of tests are not in order");
        Ok(())
    }
}

/// Runs the suite on servers of its own. Whether all was as the lists say.
async fn run(paths: &Paths, version: &str, settings: &[&str]) -> anyhow::Result<bool> {
    eprintln!("conformance: starting kube-apiserver, etcd and the controller for APISIX {version}");
    let servers = Box::pin(fresh(Crds::Experimental161)).await?;
    let kubeconfig = servers.kubernetes.kubeconfig();
    let endpoint = servers.etcd.endpoint();
    let mut arguments = run_arguments(kubeconfig, endpoint, "/apisix", "/conformance", CONTROLLER_NAME)?;
    arguments.extend(["--apisix-version", version]);
    arguments.extend(settings);
    let controller = Controller::start(&arguments)?;
    controller.ready().await?;

    let folder = folder()?;
    let table = folder.path().join("table");
    let lists = paths.lists.to_str().context("the path of the lists is text")?;
    let suite_arguments = [
        "-test.v".to_owned(),
        format!("-lists={lists}"),
        format!("-table={}", table.display()),
        format!("-apisix-version={version}"),
        format!("-controller-name={CONTROLLER_NAME}"),
    ];
    let environment = [("KUBECONFIG", kubeconfig.to_str().context("the kubeconfig's path is text")?)];
    let suite = Process::start("the suite", folder, &paths.suite, &suite_arguments, &environment, Ending::AtOnce)?;
    let ended = suite.ended(RUN_TIME_MAX).await;
    for (what, log) in [("suite", suite.log()), ("controller", controller.log())] {
        let path = paths.logs.join(format!("apisix-{version}-{what}.log"));
        std::fs::write(&path, log).with_context(|| format!("writing {}", path.display()))?;
    }
    let status = ended?;
    let Ok(table) = std::fs::read_to_string(&table) else {
        bail!("the suite made no table and ended with status {status}; the end of its log:\n{}", suite.log_tail());
    };
    println!("{table}");
    for name in wrong(&table) {
        eprintln!("the end of what {name} said:\n{}\n", end_of(&suite.log(), name));
    }
    Ok(status == 0)
}

/// The tests of a table that did not do what the lists say.
fn wrong(table: &str) -> impl Iterator<Item = &str> {
    let lines = table.lines().filter(|line| line.contains(" WRONG: "));
    lines.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "WRONG:")
}

/// The last lines of one test in the suite's log. Tests run one after another, so they stand together.
fn end_of(log: &str, name: &str) -> String {
    let begin = format!("=== RUN   TestConformance/{name}");
    let begins =
        |line: &str| line.strip_prefix(begin.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let other = |line: &str| line.starts_with("=== RUN   TestConformance/") || line.starts_with("--- ");
    let own = log.lines().skip_while(|line| !begins(line));
    let lines: Vec<&str> = own.take_while(|line| begins(line) || !other(line)).collect();
    let last = lines.len().saturating_sub(LINES_SHOWN_MAX);
    lines.into_iter().skip(last).collect::<Vec<_>>().join("\n")
}
