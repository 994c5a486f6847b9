//! Manifests as text.
//!
//! In: multi-document YAML, or a file or folder of it. Out: JSON values in the order they stand there. Says nothing about
//! what they mean.

use anyhow::Context as _;
use serde::Deserialize as _;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The documents of `text`; empty ones are left out.
pub(crate) fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).context("reading a YAML document"))
        .filter(|document| !matches!(document, Ok(Value::Null)))
        .collect()
}

/// The documents of a YAML file, or of every YAML file of a folder in the order of their names.
pub(crate) fn documents_at(path: &Path) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        found.extend(documents(&text).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(found)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml"));
    files.sort();
    Ok(files)
}
