//! APISIX's own `config.yaml`, read as APISIX reads it: which etcd, where it listens, which stream plugins.
//!
//! The text of the file and the environment go in. Answers come out one by one, each when it is asked for: what a flag says
//! better is never looked at, so it need not be right, and its variables need not be set. Nothing is changed, and no error
//! repeats a value that may be secret. What is said of APISIX here is so in 3.8 to 3.18 (`apisix/cli/file.lua`, `ops.lua`,
//! `schema.lua`, `ngx_tpl.lua`).

pub mod etcd;
mod stream;
mod values;

use serde_yaml_ng::{Deserializer, Mapping, Value};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Looks a variable of the environment up.
type Environment = dyn Fn(&str) -> Option<String>;

/// One file. It has passwords in it, so its `Debug` shows its name alone.
pub struct ApisixConfig {
    file: PathBuf,
    root: Mapping,
    environment: Box<Environment>,
}

/// What a process with this configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes connections: what it listens on is what Gateways may ask for.
    DataPlane,
    /// It serves the Admin API and no connection of ours.
    ControlPlane,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ApisixConfigError {
    /// The file cannot be read.
    #[error("--apisix-config: cannot read {}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not YAML, or a mapping has a key twice, of which APISIX would take the last. What the parser says is left
    /// out: it may quote.
    #[error(
        "--apisix-config: {} is not YAML, or has a key twice{}: put it right, or name another file",
        file.display(),
        At(*at)
    )]
    NotYaml {
        /// The file.
        file: PathBuf,
        /// Line and column, from 1, if the parser knows.
        at: Option<(usize, usize)>,
    },
    /// A variable is needed and not set.
    #[error(
        "--apisix-config: {}: {path} needs the environment variable {variable}, which is not set: give it to this program \
         as to APISIX, or write a default as in ${{{{{variable}:=…}}}}, or say it with {instead}",
        file.display()
    )]
    Variable {
        /// The file.
        file: PathBuf,
        /// The place in it.
        path: String,
        /// The name.
        variable: String,
        /// A flag that makes it unnecessary.
        instead: &'static str,
    },
    /// A value cannot be used.
    #[error("--apisix-config: {}: {path} {fault}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The place in it, such as `apisix.stream_proxy.tcp[0]`.
        path: String,
        /// What is wrong, and what would do.
        fault: String,
    },
}

struct At(Option<(usize, usize)>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((line, column)) = self.0 else { return Ok(()) };
        write!(f, " (line {line}, column {column})")
    }
}

impl fmt::Debug for ApisixConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApisixConfig").field("file", &self.file).finish_non_exhaustive()
    }
}

impl ApisixConfig {
    /// Reads a file, once: APISIX reads its own at its start and when it is told to reload.
    pub fn read(
        file: &Path,
        environment: impl Fn(&str) -> Option<String> + 'static,
    ) -> Result<Self, ApisixConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ApisixConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text, environment)
    }

    /// Reads a text; `file` is its name in errors. Of several YAML documents the first counts, as for APISIX. An empty one
    /// says nothing, and everything is as APISIX has it by default.
    pub fn parse(
        file: &Path,
        text: &str,
        environment: impl Fn(&str) -> Option<String> + 'static,
    ) -> Result<Self, ApisixConfigError> {
        let malformed = |error: &serde_yaml_ng::Error| {
            let at = error.location().map(|place| (place.line(), place.column()));
            ApisixConfigError::NotYaml { file: file.to_owned(), at }
        };
        let first = Deserializer::from_str(text).next();
        let mut root = match first {
            None => Value::Null,
            Some(document) => {
                serde::Deserialize::deserialize(document).map_err(|error: serde_yaml_ng::Error| malformed(&error))?
            }
        };
        root.apply_merge().map_err(|error| malformed(&error))?;
        let root = match root {
            Value::Mapping(root) => root,
            Value::Null => Mapping::new(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Sequence(_) | Value::Tagged(_) => {
                return Err(ApisixConfigError::NotYaml { file: file.to_owned(), at: None });
            }
        };
        Ok(Self { file: file.to_owned(), root, environment: Box::new(environment) })
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What a process with this configuration is; an error for one that does not read etcd, because nothing that is written
    /// there would reach it.
    pub fn role(&self) -> Result<Role, ApisixConfigError> {
        let role = self.text("deployment.role", NOTHING)?.unwrap_or_else(|| "traditional".to_owned());
        let (role, provider) = match &*role {
            "traditional" => (Role::DataPlane, "deployment.role_traditional.config_provider"),
            "data_plane" => (Role::DataPlane, "deployment.role_data_plane.config_provider"),
            "control_plane" => (Role::ControlPlane, "deployment.role_control_plane.config_provider"),
            _ => {
                let written = self.written("deployment.role");
                let fault = format!("is {written:?}: write traditional, data_plane or control_plane");
                return Err(self.wrong("deployment.role", fault));
            }
        };
        match self.text(provider, NOTHING)? {
            Some(other) if other != "etcd" => Err(self.wrong(
                provider,
                format!(
                    "is {:?}: such an APISIX reads no etcd, and nothing that is written there reaches it; write etcd",
                    self.written(provider)
                ),
            )),
            Some(_) | None => Ok(role),
        }
    }

    /// An error about a value.
    #[must_use]
    pub fn wrong(&self, path: impl Into<String>, fault: impl Into<String>) -> ApisixConfigError {
        ApisixConfigError::Value { file: self.file.clone(), path: path.into(), fault: fault.into() }
    }
}

/// Of values that no flag can say.
const NOTHING: &str = "another file";

#[cfg(test)]
mod tests;
