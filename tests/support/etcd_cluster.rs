//! A real etcd of three members, which can be lost one by one.
//!
//! In: nothing. Out: members that answer, on their own folders and ports, gone when dropped. A member that was killed can be
//! started again on what it had on its disk.

use super::{
    binaries::Binary,
    etcd::STARTS_MAX,
    process::{Ending, Process, folder, free_ports},
    wait::{PATIENCE, wait_until},
};
use anyhow::{Context as _, ensure};
use etcd_client::Client;
use std::{path::PathBuf, process::Command};
use tempfile::TempDir;

/// As many as may lose one.
const N_MEMBERS: usize = 3;

/// A running etcd of three members.
#[derive(Debug)]
pub(crate) struct EtcdCluster {
    program: PathBuf,
    members: Vec<Member>,
    /// Where members keep what they hold, whoever runs on it.
    _disk: TempDir,
}

#[derive(Debug)]
struct Member {
    endpoint: String,
    arguments: Vec<String>,
    /// `None` while it is killed.
    process: Option<Process>,
}

impl EtcdCluster {
    /// Starts one and waits until every member answers.
    pub(crate) async fn start(binary: Binary) -> anyhow::Result<Self> {
        let mut attempt = Self::start_once(binary).await;
        for _ in 1..STARTS_MAX {
            if attempt.as_ref().err().is_none_or(|error| !format!("{error:#}").contains("address already in use")) {
                break;
            }
            attempt = Self::start_once(binary).await;
        }
        attempt.context("starting an etcd of three members")
    }

    async fn start_once(binary: Binary) -> anyhow::Result<Self> {
        let (program, disk) = (binary.path()?, folder()?);
        let ports: [u16; 2 * N_MEMBERS] = free_ports()?;
        let addresses: Vec<_> = ports.map(|port| format!("http://127.0.0.1:{port}")).into();
        let (clients, peers) = addresses.split_at(N_MEMBERS);
        let all: Vec<_> = peers.iter().enumerate().map(|(number, peer)| format!("m{number}={peer}")).collect();
        // Debian's 3.4 does not have it.
        let help = Command::new(&program).arg("--help").output().context("asking etcd for its flags")?;
        let no_fsync = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).contains("--unsafe-no-fsync");
        let member = |(number, (endpoint, peer)): (usize, (&String, &String))| {
            let mut arguments = vec![
                format!("--name=m{number}"),
                format!("--data-dir={}", disk.path().join(format!("m{number}")).display()),
                format!("--listen-client-urls={endpoint}"),
                format!("--advertise-client-urls={endpoint}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster={}", all.join(",")),
            ];
            arguments.extend(no_fsync.then(|| "--unsafe-no-fsync".to_owned()));
            Member { endpoint: endpoint.clone(), arguments, process: None }
        };
        let members = clients.iter().zip(peers).enumerate().map(member).collect();
        let mut cluster = Self { program, members, _disk: disk };
        // None of them answers before most of them run.
        for number in 0..N_MEMBERS {
            cluster.run(number)?;
        }
        for number in 0..N_MEMBERS {
            cluster.answers(number).await?;
        }
        Ok(cluster)
    }

    fn run(&mut self, number: usize) -> anyhow::Result<()> {
        let program = self.program.clone();
        let member = self.members.get_mut(number).context("no such member")?;
        let what = format!("etcd's member {number}");
        member.process = Some(Process::start(&what, folder()?, &program, &member.arguments, &[], Ending::AtOnce)?);
        Ok(())
    }

    /// Waits until a member answers reads that need a leader.
    async fn answers(&self, number: usize) -> anyhow::Result<()> {
        let member = self.members.get(number).context("no such member")?;
        let process = member.process.as_ref().context("it runs")?;
        process
            .wait_until("it to answer", PATIENCE, async || {
                self.client(number).await?.get("ready", None).await.context("reading a key")
            })
            .await
            .map(drop)
    }

    /// `http://127.0.0.1:PORT` of each member, whether it runs or not.
    pub(crate) fn endpoints(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.endpoint.as_str()).collect()
    }

    /// A client of one member.
    pub(crate) async fn client(&self, number: usize) -> anyhow::Result<Client> {
        let member = self.members.get(number).context("no such member")?;
        Box::pin(Client::connect([&member.endpoint], None)).await.context("connecting to etcd")
    }

    /// Which member leads the others, once one does.
    pub(crate) async fn leader(&self) -> anyhow::Result<usize> {
        wait_until("etcd to have a leader", PATIENCE, async || {
            for number in self.running() {
                let status = self.client(number).await?.status().await.context("asking a member")?;
                let id = status.header().context("an answer has a header")?.member_id();
                if status.leader() == id {
                    return Ok(number);
                }
            }
            anyhow::bail!("none of {:?} leads", self.running())
        })
        .await
    }

    /// The members that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let members = self.members.iter().enumerate();
        members.filter(|(_, member)| member.process.is_some()).map(|(number, _)| number).collect()
    }

    /// Ends a member as its machine's end would.
    pub(crate) async fn kill(&mut self, number: usize) -> anyhow::Result<()> {
        let member = self.members.get_mut(number).context("no such member")?;
        let process = member.process.take().context("it runs")?;
        process.signal("KILL")?;
        process.ended(PATIENCE).await.map(drop)
    }

    /// Starts a member again that was killed, and waits until it answers.
    pub(crate) async fn start_again(&mut self, number: usize) -> anyhow::Result<()> {
        ensure!(!self.running().contains(&number), "member {number} runs");
        self.run(number)?;
        self.answers(number).await
    }
}
