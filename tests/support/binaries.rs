//! Where the real programs are.
//!
//! In: the environment (`APISIX_TEST_*`), else what `tools/install.sh paths` says. Out: paths that exist, or an error that
//! says which command installs them. Never installs or builds anything itself.

use anyhow::{Context as _, bail};
use std::{collections::HashMap, path::PathBuf, process::Command, sync::OnceLock};

/// Something real that tests run or read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Binary {
    /// The etcd of the machine: an APISIX user's etcd, perhaps an old one.
    Etcd,
    /// etcd 3.6 or later.
    Etcd36,
    /// kube-apiserver.
    KubeApiserver,
    /// kubectl, of any version.
    Kubectl,
    /// Not a program: the folder of Gateway API CRDs, `VERSION/CHANNEL/*.yaml`.
    Crds,
    /// Gateway API's conformance suite, as `tools/conformance` builds it.
    Conformance,
}

impl Binary {
    fn variable(self) -> &'static str {
        match self {
            Self::Etcd => "APISIX_TEST_ETCD",
            Self::Etcd36 => "APISIX_TEST_ETCD36",
            Self::KubeApiserver => "APISIX_TEST_KUBE_APISERVER",
            Self::Kubectl => "APISIX_TEST_KUBECTL",
            Self::Crds => "APISIX_TEST_CRDS",
            Self::Conformance => "APISIX_TEST_CONFORMANCE",
        }
    }

    /// What `tools/install.sh` is told to make it.
    fn installed_by(self) -> &'static str {
        match self {
            Self::Etcd | Self::Etcd36 | Self::KubeApiserver | Self::Kubectl | Self::Crds => "test",
            Self::Conformance => "conformance",
        }
    }

    /// The path, which exists.
    pub(crate) fn path(self) -> anyhow::Result<PathBuf> {
        let name = self.variable();
        let path = match std::env::var_os(name) {
            Some(path) => Some(PathBuf::from(path)),
            None => installed()?.get(name).cloned(),
        };
        match path {
            Some(path) if path.exists() => Ok(path),
            Some(path) => bail!("{name} is {}, and there is no such file", path.display()),
            None => bail!("{name} is not installed: run `tools/install.sh {}` once", self.installed_by()),
        }
    }
}

/// What `tools/install.sh paths` knows, asked once, so that a bare `cargo test` works too.
fn installed() -> anyhow::Result<&'static HashMap<String, PathBuf>> {
    static INSTALLED: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    if let Some(known) = INSTALLED.get() {
        return Ok(known);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/install.sh");
    // A shell takes the lines apart, as it put them together.
    let said = Command::new("bash")
        .args(["-c", r#"eval "$("$0" paths)" && env -0"#, script])
        .output()
        .context("running tools/install.sh paths")?;
    let known = String::from_utf8_lossy(&said.stdout)
        .split('\0')
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| name.starts_with("APISIX_TEST_"))
        .map(|(name, path)| (name.to_owned(), PathBuf::from(path)))
        .collect();
    Ok(INSTALLED.get_or_init(|| known))
}

/// The controller's own binary: Cargo names it to tests; an example stands beside it.
pub(crate) fn controller() -> anyhow::Result<PathBuf> {
    if let Some(path) = option_env!("CARGO_BIN_EXE_apisix-etcd-controller") {
        return Ok(PathBuf::from(path));
    }
    let example = std::env::current_exe().context("finding this program's own path")?;
    let target = example.ancestors().nth(2).context("an example lies in a folder of the target folder")?;
    let path = target.join("apisix-etcd-controller");
    anyhow::ensure!(path.exists(), "{} is not built: run `cargo build` first", path.display());
    Ok(path)
}
