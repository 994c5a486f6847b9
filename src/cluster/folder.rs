//! Folders of manifests as source of objects, in place of an API server.
//!
//! Paths in, [`Manifests`] (once) or [`ClusterEvent`]s (for ever) out. Files are only read. All files together are in force
//! or none: while one of them cannot be read, what was read last stays.

use super::{
    ClusterEvent, Relist,
    manifests::{self, File, FileError, Manifests},
    metrics::Metrics,
    relists::{Relists, Tickets},
};
use crate::{
    clock,
    model::{facts::Observed, names::Kind},
};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind, event::AccessMode};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What [`ClusterEvent::Identity`] says of manifests: any folder of them stands for the one cluster that is meant.
pub const IDENTITY: &str = "folder";

/// How often files are read where the system cannot tell of changes; also how soon it is seen that a path now leads
/// elsewhere (a symlink that was swapped).
const PERIOD: Duration = Duration::from_secs(2);

/// How many periods pass before files are read although nothing was told: network file systems keep silent about changes
/// made elsewhere.
const PERIODS_SILENT: usize = 15;

/// How long it must be quiet after a change before files are read: editors and git write several times in a row, and a file
/// between truncation and writing reads as empty.
const SETTLE: Duration = Duration::from_millis(100);

/// How many changes in a row can put reading off.
const SETTLE_TIMES: usize = 20;

/// Reads every manifest at `paths`, each a file or a folder. A folder is read with all folders in it, `*.yaml`, `*.yml` and
/// `*.json`, without hidden entries; a file is read whatever its name. A file reached twice is read once.
///
/// `controller_name` says which parts of a status in a manifest are ours. The errors are all that were found.
pub fn read(paths: &[PathBuf], controller_name: &str) -> Result<Manifests, Vec<FileError>> {
    let mut walk = Walk { seen: BTreeSet::new(), files: Vec::new(), errors: Vec::new() };
    for path in paths {
        walk.given(path);
    }
    let Walk { seen: _, files, mut errors } = walk;
    match Manifests::of(&files, controller_name) {
        Ok(manifests) if errors.is_empty() => Ok(manifests),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// A walk through folders.
struct Walk {
    /// Where it was already, by canonical path: symlinks may lead in circles.
    seen: BTreeSet<PathBuf>,
    files: Vec<File>,
    errors: Vec<FileError>,
}

impl Walk {
    fn given(&mut self, path: &Path) {
        if let Err(error) = self.visit(path) {
            self.failed(path, &error);
        }
    }

    fn visit(&mut self, path: &Path) -> io::Result<()> {
        if !self.seen.insert(fs::canonicalize(path)?) {
            return Ok(());
        }
        if !fs::metadata(path)?.is_dir() {
            let text = fs::read_to_string(path)?;
            self.files.push(File { path: path.to_owned(), text });
            return Ok(());
        }
        let mut entries = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
        entries.sort();
        for entry in entries.into_iter().filter(|entry| is_wanted(entry)) {
            self.given(&entry);
        }
        Ok(())
    }

    fn failed(&mut self, path: &Path, error: &io::Error) {
        self.errors.push(FileError { path: path.to_owned(), line: None, column: None, reason: error.to_string() });
    }
}

/// Whether an entry of a folder is looked at: visible, and a folder or of a name that manifests have.
fn is_wanted(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    let manifest = path.extension().and_then(OsStr::to_str).is_some_and(|end| matches!(end, "yaml" | "yml" | "json"));
    !hidden && (manifest || path.is_dir())
}

/// Tells `events` what the manifests at `paths` hold, until `stop` is cancelled or the receiver is gone.
///
/// First [`ClusterEvent::Identity`], which is [`IDENTITY`], and [`ClusterEvent::Served`], which never changes; then, once
/// every file can be read, one [`ClusterEvent::Listed`] for every kind, and again for a kind whenever its objects differ or it
/// is in `relists`: then every file is read anew first. Files have no versions. Errors in files are logged when they come up, each with
/// file, line and reason, and change nothing. When `events` is full, reading waits; changes meanwhile are seen together
/// afterwards.
///
/// May be dropped at any moment.
pub async fn follow_folder(
    paths: Vec<PathBuf>,
    controller_name: Arc<str>,
    events: mpsc::Sender<ClusterEvent>,
    relists: mpsc::UnboundedReceiver<Relist>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let (relists, forward) = Relists::of(relists);
    let answered = Tickets::new();
    let follower =
        Follower { paths, controller_name, events, relists, metrics, known: None, answered, said: Vec::new() };
    // Requests may end long before the following does.
    let forward = async {
        forward.await;
        pending::<()>().await;
    };
    let following = async {
        tokio::select! {
            () = follower.follow() => {}
            () = forward => {}
        }
    };
    stop.run_until_cancelled(following).await;
}

struct Follower {
    paths: Vec<PathBuf>,
    controller_name: Arc<str>,
    events: mpsc::Sender<ClusterEvent>,
    relists: Relists,
    metrics: Metrics,
    /// What is in force; `None` before all files could be read once.
    known: Option<Manifests>,
    /// The requests that were answered with a list.
    answered: Tickets,
    /// The errors last logged.
    said: Vec<FileError>,
}

/// Nobody receives events any more.
struct Unheard;

impl<T> From<mpsc::error::SendError<T>> for Unheard {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

impl Follower {
    async fn follow(mut self) {
        // Watched before it is read, or a change between the two would be missed.
        let mut changes = Changes::new(self.paths.clone());
        for event in [ClusterEvent::Identity(IDENTITY.into()), ClusterEvent::Served(manifests::served())] {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
        loop {
            // Taken before anything is read, so that what is read is newer than whatever made somebody ask.
            let asked = self.relists.all();
            if self.look(&asked).await.is_err() {
                return;
            }
            tokio::select! {
                () = changes.next() => {}
                () = self.relists.beyond_all(&asked) => {}
            }
        }
    }

    async fn look(&mut self, asked: &Tickets) -> Result<(), Unheard> {
        let (paths, controller_name) = (self.paths.clone(), Arc::clone(&self.controller_name));
        match spawn_blocking(move || read(&paths, &controller_name)).await {
            Ok(Ok(manifests)) => self.tell(manifests, asked).await,
            Ok(Err(errors)) => {
                self.complain(errors);
                Ok(())
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    fn complain(&mut self, errors: Vec<FileError>) {
        self.metrics.manifest_errors(errors.len());
        if self.said == errors {
            return;
        }
        for error in &errors {
            warn!(error = %error, "manifest cannot be read");
        }
        if self.known.is_some() {
            warn!(errors = errors.len(), "the manifests as they were before stay in force");
        } else {
            warn!(errors = errors.len(), "nothing is known until every manifest can be read");
        }
        self.said = errors;
    }

    async fn tell(&mut self, manifests: Manifests, asked: &Tickets) -> Result<(), Unheard> {
        self.metrics.manifest_errors(0);
        if !std::mem::take(&mut self.said).is_empty() {
            info!("every manifest can be read again");
        }
        for kind in Kind::ALL {
            let before = self.known.as_ref().and_then(|known| known.objects.get(&kind));
            let now = manifests.objects.get(&kind);
            let ticket = asked.get(&kind).copied().unwrap_or_default();
            let answered = self.answered.insert(kind, ticket).unwrap_or_default();
            if before.is_some() && before == now && ticket == answered {
                continue;
            }
            let objects = now.cloned().unwrap_or_default();
            for object in &objects {
                if let Observed::Unreadable { error } = &object.observed
                    && !before.is_some_and(|before| before.contains(object))
                {
                    self.metrics.unreadable(kind);
                    warn!(%kind, name = %object.name, %error, "object cannot be read, what was known of it stays in force");
                }
            }
            self.metrics.listed(kind);
            info!(%kind, objects = objects.len(), "listed");
            self.events.send(ClusterEvent::Listed { kind, objects, version: None, ticket, at: clock::now() }).await?;
        }
        self.known = Some(manifests);
        Ok(())
    }
}

/// Tells when files may have changed: too often rather than too seldom.
struct Changes {
    paths: Vec<PathBuf>,
    /// Where the paths led when the watch was set up.
    targets: Vec<Option<PathBuf>>,
    watcher: Option<RecommendedWatcher>,
    /// Holds one signal: more would say nothing more, and are dropped.
    signals: mpsc::Receiver<()>,
    signal: mpsc::Sender<()>,
}

impl Changes {
    fn new(paths: Vec<PathBuf>) -> Self {
        let (signal, signals) = mpsc::channel(1);
        let mut changes = Self { targets: Vec::new(), paths, watcher: None, signals, signal };
        changes.watch();
        if changes.watcher.is_none() {
            info!(period = ?PERIOD, "changes of manifests are found by reading them again and again");
        }
        changes
    }

    /// Sets the watch up anew, where the paths lead now.
    fn watch(&mut self) {
        self.targets = targets(&self.paths);
        self.watcher = watcher(&self.paths, self.signal.clone()).ok();
    }

    /// Waits until it is worth reading again. Dropping it half-way loses nothing but time.
    async fn next(&mut self) {
        for _ in 0..PERIODS_SILENT {
            if timeout(PERIOD, self.signals.recv()).await.is_ok() {
                return self.settle().await;
            }
            if self.watcher.is_none() || self.targets != targets(&self.paths) {
                return self.watch();
            }
        }
    }

    async fn settle(&mut self) {
        for _ in 0..SETTLE_TIMES {
            if timeout(SETTLE, self.signals.recv()).await.is_err() {
                return;
            }
        }
    }
}

fn targets(paths: &[PathBuf]) -> Vec<Option<PathBuf>> {
    paths.iter().map(|path| fs::canonicalize(path).ok()).collect()
}

/// Watches folders with everything in them, and of files the folder they are in: editors put a new file in the old one's
/// place, and a watch on the old one would never tell.
fn watcher(paths: &[PathBuf], signal: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.as_ref().map_or(true, changes_something) {
            // Full means that a signal waits already.
            let _ = signal.try_send(());
        }
    })?;
    for path in paths {
        let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
        let mode = if path.is_dir() { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        watcher.watch(folder.unwrap_or(path), mode)?;
    }
    Ok(watcher)
}

/// Our own reading is told of, too.
fn changes_something(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(how) => how == AccessKind::Close(AccessMode::Write),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        names::ObjectName,
        verdicts::{Served, Source},
    };
    use tempfile::TempDir;

    const CONTROLLER: &str = "apisix-etcd.io/gateway-controller";
    /// Far longer than anything here takes.
    const DEADLINE: Duration = Duration::from_mins(1);

    fn service(name: &str, port: u16) -> String {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: {port}}}]}}\n")
    }

    fn names(manifests: &Manifests, kind: Kind) -> Vec<String> {
        manifests.objects[&kind].iter().map(|object| object.name.to_string()).collect()
    }

    #[test]
    fn folders_are_read_to_their_depth_without_hidden_and_other_files() {
        let folder = TempDir::new().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("b/c")).unwrap();
        fs::create_dir(at(".git")).unwrap();
        fs::write(at("a.yaml"), service("a", 1)).unwrap();
        fs::write(at("b/c/b.yml"), service("b", 1)).unwrap();
        fs::write(at("b/c.json"), r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}, "spec": {}}"#)
            .unwrap();
        fs::write(at(".git/d.yaml"), service("d", 1)).unwrap();
        fs::write(at(".e.yaml"), service("e", 1)).unwrap();
        fs::write(at("README.md"), "# not a manifest").unwrap();
        fs::write(at("other.txt"), service("f", 1)).unwrap();
        let manifests = read(&[folder.path().to_owned()], CONTROLLER).unwrap();
        assert_eq!(names(&manifests, Kind::Service), ["default/a", "default/b", "default/c"]);
        // A file that is named itself is read whatever its name, and one that is reached twice is read once.
        let manifests = read(&[at("other.txt"), at("a.yaml"), at("a.yaml")], CONTROLLER).unwrap();
        assert_eq!(names(&manifests, Kind::Service), ["default/a", "default/f"]);
    }

    #[test]
    fn symlinks_are_followed_but_never_in_circles() {
        let folder = TempDir::new().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir(at("..2026")).unwrap();
        fs::write(at("..2026/a.yaml"), service("a", 1)).unwrap();
        std::os::unix::fs::symlink("..2026", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.yaml", at("a.yaml")).unwrap();
        std::os::unix::fs::symlink(".", at("again")).unwrap();
        let manifests = read(&[folder.path().to_owned()], CONTROLLER).unwrap();
        assert_eq!(names(&manifests, Kind::Service), ["default/a"]);
    }

    #[test]
    fn a_path_that_leads_nowhere_is_named() {
        let errors = read(&[PathBuf::from("/nowhere/at-all")], CONTROLLER).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert!(errors[0].to_string().starts_with("/nowhere/at-all: No such file"), "{}", errors[0]);
    }

    struct Followed {
        events: mpsc::Receiver<ClusterEvent>,
        relists: mpsc::UnboundedSender<Relist>,
        metrics: Metrics,
        _stop: tokio_util::sync::DropGuard,
    }

    impl Followed {
        fn new(path: &Path) -> Self {
            let (sender, events) = mpsc::channel(16);
            let (metrics, stop) = (Metrics::default(), CancellationToken::new());
            let (paths, (relists, asked)) = (vec![path.to_owned()], mpsc::unbounded_channel());
            let follow = follow_folder(paths, CONTROLLER.into(), sender, asked, metrics.clone(), stop.clone());
            tokio::spawn(follow);
            Self { events, relists, metrics, _stop: stop.drop_guard() }
        }

        async fn next(&mut self) -> ClusterEvent {
            timeout(DEADLINE, self.events.recv()).await.expect("no event came").expect("the source ended")
        }

        async fn served(&mut self) -> Served {
            let event = self.next().await;
            let ClusterEvent::Identity(identity) = event else { panic!("{event:?}") };
            assert_eq!(*identity, *IDENTITY);
            let event = self.next().await;
            let ClusterEvent::Served(served) = event else { panic!("{event:?}") };
            served
        }

        async fn listed(&mut self) -> (Kind, Vec<ObjectName>) {
            let (kind, objects, _ticket) = self.listed_with_ticket().await;
            (kind, objects)
        }

        async fn listed_with_ticket(&mut self) -> (Kind, Vec<ObjectName>, u64) {
            let event = self.next().await;
            let ClusterEvent::Listed { kind, objects, version: None, ticket, at: _ } = event else {
                panic!("{event:?}")
            };
            (kind, objects.into_iter().map(|object| object.name).collect(), ticket)
        }

        async fn first_lists(&mut self) {
            assert_eq!(self.served().await.source, Source::Folder);
            for kind in Kind::ALL {
                assert_eq!(self.listed().await.0, kind);
            }
        }
    }

    fn swap(path: &Path, text: &str) {
        let next = path.with_extension("next");
        fs::write(&next, text).unwrap();
        fs::rename(next, path).unwrap();
    }

    #[tokio::test]
    async fn a_change_lists_only_the_kinds_that_differ() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("a.yaml"), service("a", 1)).unwrap();
        let mut followed = Followed::new(folder.path());
        followed.first_lists().await;
        swap(&folder.path().join("b.yaml"), &service("b", 1));
        let name = |name| ObjectName::new("default", name);
        assert_eq!(followed.listed().await, (Kind::Service, vec![name("a"), name("b")]));
        fs::remove_file(folder.path().join("a.yaml")).unwrap();
        assert_eq!(followed.listed().await, (Kind::Service, vec![name("b")]));
    }

    #[tokio::test]
    async fn a_request_is_answered_by_reading_anew_once_everything_can_be_read() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, service("a", 1)).unwrap();
        let mut followed = Followed::new(folder.path());
        followed.first_lists().await;
        let name = |name| ObjectName::new("default", name);
        followed.relists.send(Relist { kind: Kind::Service, ticket: 4 }).unwrap();
        assert_eq!(followed.listed_with_ticket().await, (Kind::Service, vec![name("a")], 4));
        swap(&file, "kind: [");
        followed.relists.send(Relist { kind: Kind::Gateway, ticket: 5 }).unwrap();
        while followed.metrics.manifest_errors_now() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(followed.events.is_empty());
        swap(&file, &service("a", 1));
        assert_eq!(followed.listed_with_ticket().await, (Kind::Gateway, vec![], 5));
        // A change carries the ticket of the last request, and is told once.
        swap(&file, &service("b", 1));
        assert_eq!(followed.listed_with_ticket().await, (Kind::Service, vec![name("b")], 4));
        assert!(followed.events.is_empty());
    }

    #[tokio::test]
    async fn an_unreadable_file_changes_nothing_until_it_is_mended() {
        let folder = TempDir::new().unwrap();
        let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        fs::write(&a, "kind: [").unwrap();
        let mut followed = Followed::new(folder.path());
        followed.served().await;
        swap(&a, &service("a", 1));
        for kind in Kind::ALL {
            assert_eq!(followed.listed().await.0, kind);
        }
        swap(&b, "kind: [");
        swap(&a, &service("a", 2));
        timeout(DEADLINE, async {
            while followed.metrics.manifest_errors_now() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the error was not noticed");
        assert!(followed.events.is_empty());
        swap(&b, &service("b", 1));
        let name = |name| ObjectName::new("default", name);
        assert_eq!(followed.listed().await, (Kind::Service, vec![name("a"), name("b")]));
        assert_eq!(followed.metrics.manifest_errors_now(), 0);
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_read_then() {
        let folder = TempDir::new().unwrap();
        let later = folder.path().join("later");
        let mut followed = Followed::new(&later);
        followed.served().await;
        fs::create_dir(&later).unwrap();
        swap(&later.join("a.yaml"), &service("a", 1));
        for kind in Kind::ALL {
            let (listed, _names) = followed.listed().await;
            assert_eq!(listed, kind);
        }
    }
}
