//! A real etcd with three members, each of which can be ended, paused and started again.
//!
//! In: which etcd. Out: members that answer, on folders and ports of their own, gone when dropped.

use super::{
    binaries::Binary,
    etcd::STARTS_MAX,
    process::{Ending, Process, folder, free_ports},
    wait::{PATIENCE, wait_until},
};
use anyhow::{Context as _, bail, ensure};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How many members there are: one may be missing.
pub(crate) const MEMBERS: usize = 3;

/// How long one member may take to answer before the next one is asked.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A running etcd of [`MEMBERS`] members.
#[derive(Debug)]
pub(crate) struct EtcdCluster {
    program: PathBuf,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    arguments: Vec<String>,
    /// Every process that it has had: the last one may be running, and the disk is in the first one's folder.
    processes: Vec<Process>,
}

impl EtcdCluster {
    /// Starts one and waits until each member answers.
    pub(crate) async fn start(binary: Binary) -> anyhow::Result<Self> {
        let program = binary.path()?;
        let mut attempt = Self::start_once(&program).await;
        for _ in 1..STARTS_MAX {
            if attempt.as_ref().err().is_none_or(|error| !format!("{error:#}").contains("address already in use")) {
                break;
            }
            attempt = Self::start_once(&program).await;
        }
        attempt.with_context(|| format!("starting {MEMBERS} members of {}", program.display()))
    }

    async fn start_once(program: &Path) -> anyhow::Result<Self> {
        let ports = free_ports::<{ 2 * MEMBERS }>()?;
        let (client_ports, peer_ports) = ports.split_at(MEMBERS);
        let peer = |port: &u16| format!("http://127.0.0.1:{port}");
        let everyone: Vec<String> =
            peer_ports.iter().enumerate().map(|(n, port)| format!("member-{n}={}", peer(port))).collect();
        let mut members = Vec::new();
        for (n, (client_port, peer_port)) in client_ports.iter().zip(peer_ports).enumerate() {
            let folder = folder()?;
            let (endpoint, peer) = (format!("http://127.0.0.1:{client_port}"), peer(peer_port));
            let arguments = vec![
                format!("--name=member-{n}"),
                format!("--data-dir={}", folder.path().join("data").display()),
                format!("--listen-client-urls={endpoint}"),
                format!("--advertise-client-urls={endpoint}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", everyone.join(",")),
            ];
            let process =
                Process::start(&format!("etcd member {n}"), folder, program, &arguments, &[], Ending::AtOnce)?;
            members.push(Member { endpoint, arguments, processes: vec![process] });
        }
        let cluster = Self { program: program.to_owned(), members };
        for n in 0..MEMBERS {
            cluster.wait_for(n).await?;
        }
        Ok(cluster)
    }

    /// `http://127.0.0.1:PORT` of each member.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// `http://127.0.0.1:PORT` of one.
    pub(crate) fn endpoint(&self, n: usize) -> &str {
        &self.members[n].endpoint
    }

    /// The process of one, to pause it (`STOP`, `CONT`) or read its log.
    pub(crate) fn process(&self, n: usize) -> anyhow::Result<&Process> {
        self.members[n].processes.last().context("every member has had a process")
    }

    /// Ends one as its machine's end would, with what it holds left on disk.
    pub(crate) async fn stop(&self, n: usize) -> anyhow::Result<()> {
        let process = self.process(n)?;
        process.signal("KILL")?;
        process.ended(PATIENCE).await.map(drop)
    }

    /// Starts one that was stopped, on what it left, and waits until it answers.
    pub(crate) async fn start_again(&mut self, n: usize) -> anyhow::Result<()> {
        ensure!(self.process(n)?.exit_status().is_some(), "etcd member {n} is running");
        let member = &mut self.members[n];
        let what = format!("etcd member {n}");
        let process = Process::start(&what, folder()?, &self.program, &member.arguments, &[], Ending::AtOnce)?;
        member.processes.push(process);
        self.wait_for(n).await
    }

    /// Waits until one answers a read through the leader.
    async fn wait_for(&self, n: usize) -> anyhow::Result<()> {
        let what = format!("etcd member {n} to answer");
        self.process(n)?
            .wait_until(&what, PATIENCE, async || {
                let read = async { self.client(n).await?.get("ready", None).await.context("reading a key") };
                tokio::time::timeout(ANSWER_MAX, read).await.context("reading a key")?.map(drop)
            })
            .await
    }

    /// A client of one member.
    pub(crate) async fn client(&self, n: usize) -> anyhow::Result<etcd_client::Client> {
        etcd_client::Client::connect([self.endpoint(n)], None).await.context("connecting to etcd")
    }

    /// Which member leads, waiting until one does. Members that do not answer are not asked twice.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        wait_until("a leader among the members", PATIENCE, async || {
            for n in 0..MEMBERS {
                let status = async { anyhow::Ok(self.client(n).await?.status().await?) };
                let Ok(Ok(status)) = tokio::time::timeout(ANSWER_MAX, status).await else { continue };
                let own_id = status.header().context("an answer has a header")?.member_id();
                if status.leader() == own_id {
                    return Ok(n);
                }
            }
            bail!("no member says that it leads")
        })
        .await
    }
}
