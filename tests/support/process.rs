//! One server process with a folder of its own, which ends when its owner does.
//!
//! In: a program, its arguments, its folder. Out: its log, whether it still runs. Never outlives this process, not even when
//! this process is killed: a small shell between the two (the keeper) ends the server when the pipe from us closes, and then
//! removes the folder. Statics need that, since nobody drops them.

use anyhow::{Context as _, anyhow, bail, ensure};
use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

use super::wait::wait_until;

/// How a server is ended when its owner goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    /// SIGKILL: what it holds is thrown away anyhow.
    AtOnce,
    /// SIGTERM, and SIGKILL ten seconds later.
    Gracefully,
}

/// The keeper. Arguments: the ending, the folder, the program, its arguments. Its standard input is the pipe from the owner.
/// It prints the server's process id, and leaves the exit status in a file, which the owner looks for. Only the watcher
/// kills, and it is gone before the server's process id is free for others to have.
const KEEPER: &str = r#"
ending=$1 folder=$2
shift 2
exec 3<&0
"$@" </dev/null 3<&- >"$folder/log" 2>&1 &
server=$!
(
    while read -r _ <&3; do :; done
    if [ "$ending" = Gracefully ]; then
        kill -TERM "$server"
        n=0
        while [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
    fi
    kill -KILL "$server"
) >/dev/null 2>&1 &
watcher=$!
echo "$server"
exec >&-
wait "$server"
echo $? >"$folder/exit-status.new"
kill "$watcher" 2>/dev/null
mv "$folder/exit-status.new" "$folder/exit-status"
while read -r _ <&3; do :; done
[ -n "$APISIX_TEST_KEEP" ] || rm -rf "$folder"
"#;

/// How many bytes of a log an error shows: about a screen.
const TAIL_BYTES: u64 = 4_000;

/// A running server. Dropping it ends the server, waits until it has ended, and removes its folder (unless the environment
/// has `APISIX_TEST_KEEP`).
#[derive(Debug)]
pub(crate) struct Process {
    what: String,
    keeper: Child,
    pid: u32,
    folder: PathBuf,
}

/// A folder for one server, readable by us alone.
pub(crate) fn folder() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("apisix-etcd-controller-test-").tempdir().context("making a folder for a server")
}

/// `N` ports that nobody listens on at the moment. Somebody else may take one before it is used: be ready to start again.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        // All are held until all are known, so that they differ.
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("asking for a free port")?;
        *port = listener.local_addr().context("asking for a free port")?.port();
        held.push(listener);
    }
    Ok(ports)
}

impl Process {
    /// Starts `program` in `folder`, with PATH and `environment` as its whole environment.
    pub(crate) fn start(
        what: &str,
        folder: TempDir,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        ending: Ending,
    ) -> anyhow::Result<Self> {
        let inherited = ["PATH", "APISIX_TEST_KEEP"].map(|name| (name, std::env::var_os(name)));
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", &format!("{ending:?}")])
            .arg(folder.path())
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(inherited.into_iter().filter_map(|(name, value)| Some((name, value?))))
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            // Ctrl-C in a terminal is for us; the keeper hears of it when we are gone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        // From here on the keeper removes the folder.
        let folder = folder.keep();
        let mut line = String::new();
        let stdout = keeper.stdout.take().context("the keeper has a pipe to us")?;
        BufReader::new(stdout).read_line(&mut line).with_context(|| format!("starting {what}"))?;
        let pid = line.trim().parse().with_context(|| format!("starting {what}"))?;
        Ok(Self { what: what.to_owned(), keeper, pid, folder })
    }

    /// Its process id, valid while [`Process::exit_status`] is `None`.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its folder, where it also runs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its exit status as a shell sees it (143 after SIGTERM), once it has ended.
    pub(crate) fn exit_status(&self) -> Option<i32> {
        std::fs::read_to_string(self.folder.join("exit-status")).ok()?.trim().parse().ok()
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(self.folder.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The end of what it has printed so far.
    pub(crate) fn log_tail(&self) -> String {
        let tail = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(self.folder.join("log"))?;
            let length = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok(tail)
        };
        tail().map(|tail| String::from_utf8_lossy(&tail).into_owned()).unwrap_or_default()
    }

    /// Sends it a signal by name, such as `TERM`, `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) -> anyhow::Result<()> {
        ensure!(self.exit_status().is_none(), "{} has ended and can get no signal {name}", self.what);
        let sent = Command::new("sh").args(["-c", r#"kill -s "$0" "$1""#, name, &self.pid.to_string()]).status()?;
        ensure!(sent.success(), "{} could not be sent the signal {name}", self.what);
        Ok(())
    }

    /// Waits until it has ended by itself or by [`Process::signal`]; its exit status as a shell sees it.
    pub(crate) async fn ended(&self, deadline: Duration) -> anyhow::Result<i32> {
        wait_until(&format!("{} to end", self.what), deadline, async || {
            self.exit_status().with_context(|| format!("it runs; the end of its log:\n{}", self.log_tail()))
        })
        .await
    }

    /// [`wait_until`], given up at once when this process ends; errors also show the end of its log.
    pub(crate) async fn wait_until<T>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl AsyncFnMut() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            found = wait_until(what, deadline, look) => {
                // The reason comes last: it is what a cut-off report shows.
                found.map_err(|error| anyhow!("the end of the log of {}:\n{}\n{error:#}", self.what, self.log_tail()))
            }
            status = self.exits() => {
                bail!("{} ended with status {status} while {what} was awaited; the end of its log:\n{}", self.what, self.log_tail())
            }
        }
    }

    async fn exits(&self) -> i32 {
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Nobody could be told; and it waits ten seconds at most.
        let _ = self.keeper.wait();
    }
}
