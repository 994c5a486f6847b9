//! The controller's own binary, as a user starts it.
//!
//! In: its arguments. Out: its log, what its admin port answers, its exit status. It is sent SIGTERM when dropped.

use super::{
    binaries,
    process::{Ending, Process, folder, free_ports},
    wait::PATIENCE,
};
use anyhow::{Context as _, ensure};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// A started controller.
#[derive(Debug)]
pub(crate) struct Controller {
    process: Process,
    admin: SocketAddr,
}

/// What the admin port answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Controller {
    /// Starts it with `arguments` and an admin port of its own. Does not wait for anything: see [`Controller::ready`].
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        let admin = SocketAddr::from(([127, 0, 0, 1], port));
        let mut all: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        all.push(format!("--admin-address={admin}"));
        let environment = [("RUST_BACKTRACE", "1")];
        let program = binaries::controller()?;
        let process = Process::start("the controller", folder()?, &program, &all, &environment, Ending::Gracefully)?;
        Ok(Self { process, admin })
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        self.wait_until("the controller to be ready", PATIENCE, async || {
            let answer = self.ask("/readyz").await?;
            ensure!(answer.status == 200, "/readyz says {}: {}", answer.status, answer.body);
            Ok(())
        })
        .await
    }

    /// GETs a path of the admin port.
    pub(crate) async fn ask(&self, path: &str) -> anyhow::Result<Answer> {
        let (admin, path) = (self.admin, path.to_owned());
        tokio::task::spawn_blocking(move || get(admin, &path)).await.context("asking the admin port")?
    }

    /// [`super::wait::wait_until`], given up at once when the controller ends; errors also show the end of its log.
    pub(crate) async fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.process.wait_until(what, deadline, look).await
    }

    /// Sends SIGTERM and waits for the end: its exit status and all it has printed.
    pub(crate) async fn stop(self) -> anyhow::Result<(i32, String)> {
        self.process.signal("TERM")?;
        let status = self.process.ended(PATIENCE).await?;
        Ok((status, self.process.log()))
    }

    /// Everything it has printed so far, standard output and error in the order they came.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// The process, to send it signals.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Its admin address.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }
}

/// HTTP/1.0 without a client library: the answer ends with the connection.
fn get(admin: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&admin, patience).context("connecting to the admin port")?;
    stream.set_read_timeout(Some(patience)).context("asking the admin port")?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").context("asking the admin port")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("reading the admin port's answer")?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer has a head and a body")?;
    let status = head.split(' ').nth(1).context("an answer has a status")?;
    Ok(Answer { status: status.parse().context("a status is a number")?, body: body.to_owned() })
}

/// The arguments of `run` against a cluster, all but the admin address: JSON logs, and names of one test's own.
pub(crate) fn run_arguments<'a>(
    kubeconfig: &'a Path,
    etcd_endpoint: &'a str,
    etcd_prefix: &'a str,
    control_prefix: &'a str,
    controller_name: &'a str,
) -> anyhow::Result<Vec<&'a str>> {
    let kubeconfig = kubeconfig.to_str().context("the kubeconfig's path is text")?;
    Ok(vec![
        "run",
        "--log-format",
        "json",
        "--kubeconfig",
        kubeconfig,
        "--etcd-endpoints",
        etcd_endpoint,
        "--etcd-prefix",
        etcd_prefix,
        "--control-prefix",
        control_prefix,
        "--controller-name",
        controller_name,
    ])
}
