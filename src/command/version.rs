//! `version`: which build this is, and what it knows of its neighbours.

use super::Outcome;
use crate::{
    apisix::version::ApisixVersion,
    cluster::kinds,
    config::args::OutputFormat,
    model::names::{GATEWAY_GROUP, Kind},
    show::{print, table},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What `version` says.
#[derive(Debug, Serialize)]
struct Versions {
    version: &'static str,
    apisix: ApisixVersions,
    /// API versions read, preferred one first, by kind.
    #[serde(rename = "gatewayApi")]
    kinds: BTreeMap<&'static str, &'static [&'static str]>,
}

#[derive(Debug, Serialize)]
struct ApisixVersions {
    oldest: String,
    default: String,
}

/// Prints the versions.
#[must_use]
pub fn execute(output: OutputFormat) -> Outcome {
    print(&render(&versions(), output));
    Outcome::Done
}

fn versions() -> Versions {
    let read = Kind::ALL.into_iter().filter(|kind| kind.group() == GATEWAY_GROUP);
    Versions {
        version: env!("CARGO_PKG_VERSION"),
        apisix: ApisixVersions {
            oldest: ApisixVersion::OLDEST.to_string(),
            default: ApisixVersion::DEFAULT.to_string(),
        },
        kinds: read.map(|kind| (kind.as_str(), kinds::versions(kind))).collect(),
    }
}

fn render(versions: &Versions, output: OutputFormat) -> String {
    match output {
        OutputFormat::Table => {
            let Versions { version, apisix: ApisixVersions { oldest, default }, kinds: read_at } = versions;
            let mut table = table::table(None, &["KIND", "READ AT"]);
            for (kind, versions) in read_at {
                table.add_row([*kind, &versions.join(", else ")]);
            }
            format!(
                "apisix-etcd-controller {version}\nAPISIX {oldest} and later 3.x; {default} unless told otherwise\n\n{}",
                table::finished(&table)
            )
        }
        OutputFormat::Json | OutputFormat::Yaml => super::structured(versions, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_the_neighbours_are_named() {
        let text = render(&versions(), OutputFormat::Table);
        assert!(text.contains("APISIX 3.8.0 and later 3.x; 3.13.0 unless"), "{text}");
        assert!(text.contains("v1, else v1alpha2"), "{text}");
    }
}
