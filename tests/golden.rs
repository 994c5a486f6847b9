//! Golden tests: `tests/golden/AREA/SENTENCE.in.yaml` says a cluster, `.out.json` beside it what `translate --output json`
//! prints of it, documents and statuses.
//!
//! An input is whole: its first lines are comments that say in a sentence what it shows, and a line `# apisix-version: 3.14.0`
//! where the version matters (else it is the default), and `# listen: tcp:9100,udp:9200` or `# stream-plugins: syslog` where
//! it matters where APISIX listens, or what it runs there (else nobody knows), and `# address: 192.0.2.1,gw.example.com` or
//! `# publish-service: infra/apisix` where clients reach it (else nobody says). Nothing else goes in. `BLESS=1 cargo test --test golden` takes what
//! comes out as what should; read the diff.
//!
//! Each input is two tests: what comes out, and that it comes out whatever the order of its documents and of events.
#![allow(clippy::indexing_slicing, reason = "a test that cannot go on may stop")]

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use apisix_etcd_controller::{
    apisix::{ids, plugins, version::ApisixVersion},
    cluster::{folder, manifests},
    command::translate::{Translation, translate},
    config::settings::{addresses, listen},
    model::{
        facts::{Change, Observed},
        names::{Kind, ObjectName, ObjectRef},
        places::{Plane, WorkId},
        sockets::{Inventory, StreamProxy},
        verdicts::Verdict,
    },
    translate::{
        desired::{Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};
use libtest_mimic::{Arguments, Failed, Trial};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const IN: &str = ".in.yaml";
const OUT: &str = ".out.json";

/// What the comments of an input may say beside its sentence.
const SAID: [&str; 5] = [VERSION, LISTEN, PLUGINS, ADDRESS, SERVICE];
const VERSION: &str = "apisix-version:";
const LISTEN: &str = "listen:";
const PLUGINS: &str = "stream-plugins:";
const ADDRESS: &str = "address:";
const SERVICE: &str = "publish-service:";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = Files::of(&folder)?;
    let bless = env::var_os("BLESS").is_some_and(|value| !value.is_empty() && value != "0");
    let mut trials = Vec::new();
    for name in files.inputs.clone() {
        let case = Case::of(&folder, &name);
        let again = case.clone();
        trials.push(test(name.clone(), move || case.gives_what_it_should(bless)));
        trials.push(test(format!("{name} in any order"), move || again.gives_the_same_in_any_order()));
    }
    let road = Case::of(&folder, "road/a-tcproute-becomes-a-stream-route-and-an-upstream");
    trials.push(test("the program prints what is held here".into(), move || the_program_prints(&road)));
    let labels = Case::of(&folder, "unreadable/a-namespace-whose-labels-are-a-string");
    trials.push(test("what hangs on labels that cannot be read is kept".into(), move || the_pool_is_kept(&labels)));
    let given = folder.clone();
    trials.push(test("every reason is given by some case".into(), move || every_reason_is_given(&given)));
    trials.push(test("every file is an input or what one gives".into(), move || files.are_paired(&folder, bless)));
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

/// The reasons there are, as the source spells them.
const REASONS: &str = include_str!("../src/status/reasons.rs");

/// What no manifest alone brings about: the CRDs' release, and how documents stand in etcd. `tests/cluster`, `tests/reconcile.rs`
/// and the tests of `status/conditions` show these.
const NOT_OF_MANIFESTS: [&str; 7] =
    ["UnsupportedVersion", "Pending", "Refused", "Occupied", "Edited", "Held", "Contended"];

/// That no reason can be added without a case that shows when it is given, and no case dropped that was the last to show one.
fn every_reason_is_given(folder: &Path) -> Result<()> {
    let (_, spelled) = REASONS.split_once("impl Reason").context("reasons.rs spells its reasons")?;
    let spelled: BTreeSet<&str> =
        spelled.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
    ensure!(spelled.len() > 30, "reasons.rs spells {spelled:?}");
    let mut given = BTreeSet::new();
    for name in Files::of(folder)?.outputs {
        let text = fs::read_to_string(folder.join(format!("{name}{OUT}")))?;
        let reasons = text.lines().filter_map(|line| line.trim().strip_prefix("\"reason\": \"")?.split_once('"'));
        given.extend(reasons.map(|(reason, _)| reason.to_owned()));
    }
    let missing: BTreeSet<&str> = spelled.into_iter().filter(|reason| !given.contains(*reason)).collect();
    ensure!(missing == NOT_OF_MANIFESTS.into(), "no case gives {missing:?}");
    Ok(())
}

fn test(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || run().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// The files there are, as `AREA/SENTENCE` without what they end in.
struct Files {
    inputs: BTreeSet<String>,
    outputs: BTreeSet<String>,
    strange: Vec<PathBuf>,
}

impl Files {
    fn of(folder: &Path) -> Result<Self> {
        let mut files = Self { inputs: BTreeSet::new(), outputs: BTreeSet::new(), strange: Vec::new() };
        for area in entries(folder)? {
            if !area.is_dir() {
                files.strange.push(area);
                continue;
            }
            for path in entries(&area)? {
                let name = format!("{}/{}", last(&area)?, last(&path)?);
                if let Some(name) = name.strip_suffix(IN) {
                    files.inputs.insert(name.to_owned());
                } else if let Some(name) = name.strip_suffix(OUT) {
                    files.outputs.insert(name.to_owned());
                } else {
                    files.strange.push(path);
                }
            }
        }
        Ok(files)
    }

    /// An output whose input is gone would look like a promise that nobody keeps.
    fn are_paired(&self, folder: &Path, bless: bool) -> Result<()> {
        let Self { inputs, outputs, strange } = self;
        ensure!(!inputs.is_empty(), "there are no inputs in {}", folder.display());
        ensure!(strange.is_empty(), "neither {IN} nor {OUT}: {strange:?}");
        for stale in outputs.difference(inputs) {
            let path = folder.join(format!("{stale}{OUT}"));
            ensure!(bless, "{} has no input beside it; BLESS=1 removes it", path.display());
            fs::remove_file(&path)?;
        }
        Ok(())
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    read.map(|entry| Ok(entry?.path())).collect()
}

fn last(path: &Path) -> Result<&str> {
    path.file_name().and_then(OsStr::to_str).with_context(|| format!("{} is no name for a case", path.display()))
}

#[derive(Clone)]
struct Case {
    path: PathBuf,
    out: PathBuf,
}

impl Case {
    fn of(folder: &Path, name: &str) -> Self {
        Self { path: folder.join(format!("{name}{IN}")), out: folder.join(format!("{name}{OUT}")) }
    }

    fn gives_what_it_should(&self, bless: bool) -> Result<()> {
        let got = print(&translated(&self.path, &self.input()?.settings)?)?;
        if bless {
            return fs::write(&self.out, got).with_context(|| format!("cannot write {}", self.out.display()));
        }
        let want = fs::read_to_string(&self.out)
            .with_context(|| format!("cannot read {}; BLESS=1 writes it", self.out.display()))?;
        same("what it should give", &want, "what it gives", &got)
    }

    fn gives_the_same_in_any_order(&self) -> Result<()> {
        let Input { text, settings } = self.input()?;

        let backwards: Vec<&str> = text.split("\n---\n").collect::<Vec<_>>().into_iter().rev().collect();
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("backwards.yaml");
        fs::write(&path, backwards.join("\n---\n"))?;
        let [forth, back] = [&self.path, &path].map(|path| print(&translated(path, &settings)?));
        same("as it stands", &forth?, "with its documents from last to first", &back?)?;

        let objects = objects(&self.path, &settings)?;
        let at_once = State::of(&rebuilt(&objects, &settings));
        let mut one_by_one = empty(&settings);
        for object in &objects {
            set(&mut one_by_one, object);
        }
        at_once.same_as(&one_by_one, "object by object")?;
        let mut desired = empty(&settings);
        for object in objects.iter().rev() {
            set(&mut desired, object);
        }
        at_once.same_as(&desired, "object by object from last to first")?;

        // Each object goes and comes back, as a grant does that is revoked.
        for (index, gone) in objects.iter().enumerate() {
            let mut others = objects.clone();
            others.remove(index);
            take(&mut desired, gone);
            State::of(&rebuilt(&others, &settings)).same_as(&desired, &format!("after {} went", gone.name))?;
            set(&mut desired, gone);
            at_once.same_as(&desired, &format!("after {} came back", gone.name))?;
        }

        // All go, the one cluster in the order of kinds and the other against it.
        let nothing = State::of(&empty(&settings));
        for (one, other) in objects.iter().zip(objects.iter().rev()) {
            take(&mut one_by_one, one);
            take(&mut desired, other);
        }
        nothing.same_as(&one_by_one, "after everything went")?;
        nothing.same_as(&desired, "after everything went from last to first")
    }

    fn input(&self) -> Result<Input> {
        let text = fs::read_to_string(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let comments: Vec<&str> = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim).collect();
        let said = |name: &str| comments.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let said_anything = |line: &&str| SAID.iter().any(|name| line.starts_with(name));
        let sentence: Vec<&str> = comments.iter().copied().filter(|line| !said_anything(line)).collect();
        ensure!(
            sentence.join(" ").ends_with('.'),
            "{} must begin with a comment that says in a sentence what it shows",
            self.path.display()
        );
        let settings = Settings {
            controller_name: "apisix-etcd.io/gateway-controller".into(),
            instance: "default".into(),
            plane: PlaneSettings {
                stream: StreamProxy {
                    sockets: said(LISTEN).map_or(Ok(Inventory::Unknown), listening)?,
                    traffic_split: said(PLUGINS).map(|names| names.split(',').any(plugins::is_traffic_split)),
                },
                addresses: {
                    let said_addresses: Vec<String> =
                        said(ADDRESS).into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect();
                    addresses::source(&said_addresses, said(SERVICE))?
                },
                ..PlaneSettings::new(Plane::default(), said(VERSION).map_or(Ok(ApisixVersion::DEFAULT), str::parse)?)
            }
            .into(),
        };
        Ok(Input { text, settings })
    }
}

/// As the flag says it.
fn listening(text: &str) -> Result<Inventory> {
    let entries: Vec<String> = text.split(',').map(str::to_owned).collect();
    Ok(listen::sockets(&entries)?.map_or(Inventory::Unknown, |sockets| Inventory::Known(sockets.into())))
}

struct Input {
    text: String,
    settings: Settings,
}

fn translated(path: &Path, settings: &Settings) -> Result<Translation> {
    translate(&[path.to_owned()], settings).map_err(|errors| anyhow!("{errors:?}"))
}

/// As the program prints it.
fn print(translation: &Translation) -> Result<String> {
    Ok(format!("{:#}\n", serde_json::to_value(translation)?))
}

fn same(wanted: &str, want: &str, gotten: &str, got: &str) -> Result<()> {
    if want == got {
        return Ok(());
    }
    let diff = similar::TextDiff::from_lines(want, got);
    bail!("\n{}", diff.unified_diff().context_radius(8).header(wanted, gotten))
}

/// That what is held here is what users and scripts get, byte for byte.
fn the_program_prints(case: &Case) -> Result<()> {
    let ran = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"))
        .env_clear()
        .args(["translate", "--output", "json", "--manifests"])
        .arg(&case.path)
        .output()?;
    ensure!(ran.status.success(), "{}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    let held = print(&translated(&case.path, &case.input()?.settings)?)?;
    same("what is held", &held, "what is printed", std::str::from_utf8(&ran.stdout)?)
}

/// That the route's pool, and with it every slot in etcd that names it, stays as it is: nobody can say whether its namespace
/// is still admitted. Nothing of this is printed, because nothing is in etcd then.
fn the_pool_is_kept(case: &Case) -> Result<()> {
    let settings = case.input()?.settings;
    let desired = rebuilt(&objects(&case.path, &settings)?, &settings);
    let pool = ids::pool(Plane::default(), &settings.instance, Kind::TcpRoute, &ObjectName::new("apps", "far"));
    let wanted = desired.wanted(&pool);
    ensure!(wanted == Wanted::Kept { otherwise: None }, "{wanted:?}");
    Ok(())
}

/// One object of an input.
#[derive(Clone)]
struct Object {
    name: ObjectRef,
    observed: Observed,
}

/// Every object, the namespaces that go without saying among them, in the order of kinds.
fn objects(path: &Path, settings: &Settings) -> Result<Vec<Object>> {
    let manifests =
        folder::read(&[path.to_owned()], &settings.controller_name).map_err(|errors| anyhow!("{errors:?}"))?;
    let objects = manifests.objects.into_iter().flat_map(|(kind, listed)| {
        listed
            .into_iter()
            .map(move |listed| Object { name: ObjectRef::new(kind, listed.name), observed: listed.observed })
    });
    Ok(objects.collect())
}

fn empty(settings: &Settings) -> Desired {
    let mut desired = Desired::new(settings.clone());
    desired.set_served(manifests::served());
    desired
}

/// From complete lists, as at start.
fn rebuilt(objects: &[Object], settings: &Settings) -> Desired {
    let mut desired = empty(settings);
    for kind in Kind::ALL {
        let of_kind = objects.iter().filter(|object| object.name.kind == kind);
        let list: Vec<(ObjectName, Observed)> =
            of_kind.map(|object| (object.name.name.clone(), object.observed.clone())).collect();
        desired.note_list(kind, list);
        desired.settle();
    }
    desired
}

fn set(desired: &mut Desired, object: &Object) {
    change(desired, object, Some(object.observed.clone()));
}

fn take(desired: &mut Desired, object: &Object) {
    change(desired, object, None);
}

fn change(desired: &mut Desired, Object { name, observed: _ }: &Object, observed: Option<Observed>) {
    desired.apply([Change { kind: name.kind, name: name.name.clone(), observed }]);
}

/// All that a translation says.
#[derive(PartialEq)]
struct State {
    documents: BTreeMap<WorkId, Wanted>,
    verdicts: BTreeMap<ObjectRef, Option<Verdict>>,
}

impl State {
    fn of(desired: &Desired) -> Self {
        Self {
            documents: desired.documents().into_iter().map(|id| (id.clone(), desired.wanted(&id))).collect(),
            verdicts: desired.verdicts().into_iter().map(|object| (object.clone(), desired.verdict(&object))).collect(),
        }
    }

    fn same_as(&self, desired: &Desired, when: &str) -> Result<()> {
        let other = Self::of(desired);
        if *self == other { Ok(()) } else { same("from complete lists", &self.to_string(), when, &other.to_string()) }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, wanted) in &self.documents {
            match wanted {
                Wanted::Document(document) => writeln!(f, "{id}: {}", String::from_utf8_lossy(&document.bytes))?,
                Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_) => writeln!(f, "{id}: {wanted:?}")?,
            }
        }
        for (object, verdict) in &self.verdicts {
            writeln!(f, "{object}: {verdict:#?}")?;
        }
        Ok(())
    }
}
