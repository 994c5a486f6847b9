//! `make run`, as somebody tries it who has no cluster.
//!
//! It runs as in a script, without a terminal, and with a temporary folder of its own, by which everything it starts is known.

mod support;

use anyhow::{Context as _, ensure};
use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use support::wait::{PATIENCE, wait_until};

/// The first run may have to compile the controller.
const BUILD: Duration = Duration::from_mins(10);

/// A run of `make run` in a process group of its own. Dropping it interrupts what still runs.
struct Quickstart {
    make: Child,
    folder: tempfile::TempDir,
    outside: tempfile::TempDir,
}

impl Quickstart {
    fn start() -> anyhow::Result<Self> {
        let (folder, outside) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let output = File::create(outside.path().join("output")).context("making a file for the output")?;
        let make = Command::new("make")
            .args(["--no-print-directory", "run"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("starting make run")?;
        Ok(Self { make, folder, outside })
    }

    fn output(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(self.outside.path().join("output")).context("reading the output")
    }

    async fn until<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut look: impl AsyncFnMut(&str) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let found = wait_until(what, deadline, async || {
            let ended = self.make.try_wait()?;
            let output = self.output()?;
            // Said at once rather than after the deadline.
            Ok(match (look(&output).await, ended) {
                (Err(error), None) => return Err(error),
                (found, _) => found,
            })
        });
        match found.await.and_then(|found| found) {
            Ok(found) => Ok(found),
            Err(error) => Err(error.context(format!("make run printed:\n{}", self.output()?))),
        }
    }

    /// What Ctrl-C sends: to everything that runs in the foreground.
    fn interrupt(&self) -> anyhow::Result<()> {
        let sent = Command::new("sh").args(["-c", r#"kill -s INT -- "-$0""#, &self.make.id().to_string()]).status()?;
        ensure!(sent.success(), "make run could not be interrupted");
        Ok(())
    }

    /// The command lines of processes that run with its temporary folder in their environment.
    fn processes(&self) -> anyhow::Result<Vec<String>> {
        let sign = format!("TMPDIR={}", self.folder.path().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").context("listing processes")? {
            let process = entry?.path();
            // What is no process, or has ended meanwhile, or is not ours, cannot be read.
            let read = |name: &str| std::fs::read(process.join(name)).unwrap_or_default();
            if read("environ").split(|byte| *byte == 0).any(|variable| variable == sign.as_bytes()) {
                found.push(String::from_utf8_lossy(&read("cmdline")).replace('\0', " "));
            }
        }
        Ok(found)
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        // After a failure; and it may have ended.
        if !matches!(self.make.try_wait(), Ok(Some(_))) {
            let _ = self.interrupt();
            let _ = self.make.wait();
        }
    }
}

/// What stands behind `mark` up to the end of that word.
fn word_behind<'a>(output: &'a str, mark: &str) -> anyhow::Result<&'a str> {
    let (_, rest) = output.split_once(mark).with_context(|| format!("there is no {mark:?} in the output"))?;
    rest.split_whitespace().next().with_context(|| format!("nothing stands behind {mark:?}"))
}

fn n_entries(folder: &Path) -> anyhow::Result<usize> {
    Ok(std::fs::read_dir(folder).context("listing a folder")?.count())
}

#[tokio::test]
async fn make_run_shows_what_it_wrote_heals_it_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let mut quickstart = Quickstart::start()?;
    let (endpoint, pool) = quickstart
        .until("what to try", BUILD, async |output| {
            ensure!(output.contains("Ctrl-C ends the controller"), "it does not say yet what to try");
            let pool = word_behind(output, " put ")?.to_owned();
            Ok((word_behind(output, "--endpoints=")?.to_owned(), pool))
        })
        .await?;
    // The table, then both documents.
    let shown = [
        "default/tcp-app",
        "9100",
        "192.0.2.11:8080",
        "192.0.2.12:8080",
        "Programmed",
        "/apisix/stream_routes/gateway-api.9100",
        &pool,
        "\"server_port\"",
        "\"nodes\"",
    ];
    quickstart
        .until("the table and both documents", PATIENCE, async |output| {
            for part in shown {
                ensure!(output.contains(part), "{part} is missing");
            }
            Ok(())
        })
        .await?;

    let mut etcd = etcd_client::Client::connect([&endpoint], None).await?;
    let whole = etcd.get(pool.as_str(), None).await?;
    let whole = whole.kvs().first().context("the upstream is in etcd")?.value().to_owned();
    etcd.put(pool.as_str(), "{}", None).await?;
    quickstart
        .until("the edited upstream to be healed", PATIENCE, async |_| {
            let now = etcd.get(pool.as_str(), None).await?;
            let now = now.kvs().first().context("it is not there")?;
            ensure!(now.value() == whole, "{:?}", now.value_str());
            Ok(())
        })
        .await?;

    assert!(!quickstart.processes()?.is_empty());
    quickstart.interrupt()?;
    wait_until("make run to end", PATIENCE, async || {
        quickstart.make.try_wait()?.context("it runs")?;
        Ok(())
    })
    .await?;
    wait_until("every process to end", PATIENCE, async || {
        let processes = quickstart.processes()?;
        ensure!(processes.is_empty(), "{processes:?}");
        Ok(())
    })
    .await?;
    assert_eq!(n_entries(quickstart.folder.path())?, 0, "{}", quickstart.output()?);
    Ok(())
}
