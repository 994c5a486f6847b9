//! `translate`: manifests in, documents and statuses out; nothing is written anywhere.
//!
//! The documents are what etcd would hold, and the statuses what Kubernetes would, once everything that is not refused had
//! been written.

use super::Outcome;
use crate::{
    cluster::{
        folder, kinds,
        manifests::{self, FileError, Manifests},
    },
    config::{args::OutputFormat, settings::TranslateSettings},
    model::{
        facts::Observed,
        names::{Kind, ObjectName, ObjectRef},
    },
    show::{overview::Overview, print, table},
    translate::desired::{Desired, Settings},
};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, path::PathBuf};

/// What manifests would become. Serialises as the object that `--output json` prints.
#[derive(Debug, Serialize)]
pub struct Translation {
    /// Values by full etcd key, as they would stand in etcd, except that private keys are left out and say so.
    pub documents: BTreeMap<String, Box<RawValue>>,
    /// The part of each `.status` that is ours, by kind in the order of [`Kind::ALL`], then namespace and name; objects
    /// that get no status of ours are not there.
    pub statuses: Vec<ObjectStatus>,
    /// Objects that could not be read, in the same order. Left out when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableObject>,
    /// The same once more, to make tables of.
    #[serde(skip)]
    pub overview: Overview,
}

/// The status of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// `group/version` of the object.
    pub api_version: String,
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The part of its `.status` that is ours, without times.
    pub status: Value,
}

/// An object that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableObject {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What reading it said.
    pub error: String,
}

impl Translation {
    /// Whether anything is not served: an object that could not be read, or a positive condition that is False.
    #[must_use]
    pub fn refuses(&self) -> bool {
        !self.unreadable.is_empty() || self.overview.conditions().any(|(_, condition)| condition.refuses())
    }
}

/// Translates the manifests at `paths`, files or folders. The errors are all that were found in the files; nothing is
/// translated while there are any.
pub fn translate(paths: &[PathBuf], settings: &Settings) -> Result<Translation, Vec<FileError>> {
    Ok(translate_manifests(folder::read(paths, &settings.controller_name)?, settings))
}

fn translate_manifests(manifests: Manifests, settings: &Settings) -> Translation {
    let mut desired = Desired::new(settings.clone());
    desired.set_served(manifests::served());
    let mut unreadable = Vec::new();
    for (kind, objects) in manifests.objects {
        let objects: Vec<_> = objects.into_iter().map(|object| (object.name, object.observed)).collect();
        for (name, observed) in &objects {
            if let Observed::Unreadable { error } = observed {
                unreadable.push(unreadable_object(kind, name, error));
            }
        }
        desired.note_list(kind, objects);
    }
    desired.settle();
    let overview = Overview::wanted(&desired, settings);
    let documents = overview.documents.iter().map(|(id, value)| (id.key(), raw(value))).collect();
    let statuses = overview.statuses.iter().map(|(object, status)| object_status(object, status)).collect();
    Translation { documents, statuses, unreadable, overview }
}

fn raw(value: &[u8]) -> Box<RawValue> {
    serde_json::from_slice(value).expect("every document but placeholders is JSON, for APISIX reads it as that")
}

fn unreadable_object(kind: Kind, name: &ObjectName, error: &str) -> UnreadableObject {
    UnreadableObject {
        kind: kind.as_str(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        error: error.to_owned(),
    }
}

fn object_status(object: &ObjectRef, status: &Value) -> ObjectStatus {
    let ObjectRef { kind, name } = object;
    ObjectStatus {
        api_version: format!("{}/{}", kind.group(), kinds::versions(*kind).first().unwrap_or(&"v1")),
        kind: kind.as_str(),
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        status: status.clone(),
    }
}

/// Translates and prints.
#[must_use]
pub fn execute(settings: &TranslateSettings) -> Outcome {
    let translation = match translate(&settings.manifests, &settings.translation) {
        Ok(translation) => translation,
        Err(errors) => {
            for error in errors {
                eprintln!("{error}");
            }
            return Outcome::Unusable;
        }
    };
    if settings.apisix_config.is_some() {
        for origin in &settings.origins {
            eprintln!("{origin}");
        }
    }
    print(&render(&translation, settings.output, table::terminal_width()));
    if translation.refuses() { Outcome::Refused } else { Outcome::Done }
}

fn render(translation: &Translation, format: OutputFormat, width: Option<u16>) -> String {
    match format {
        OutputFormat::Table => render_table(translation, width),
        OutputFormat::Json | OutputFormat::Yaml => super::structured(translation, format),
    }
}

fn render_table(translation: &Translation, width: Option<u16>) -> String {
    let mut sections = vec![table::render(&translation.overview, width)];
    let mut unreadable = table::table(width, &["UNREADABLE", "WHY"]);
    for UnreadableObject { kind, namespace, name, error } in &translation.unreadable {
        let slash = if namespace.is_empty() { "" } else { "/" };
        unreadable.add_row([format!("{kind} {namespace}{slash}{name}"), error.clone()]);
    }
    sections.push(table::finished(&unreadable));
    let n = translation.documents.len();
    let documents = if n == 1 { "document" } else { "documents" };
    sections.push(format!(" {n} {documents}; --output json shows them\n"));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apisix::version::ApisixVersion, cluster::manifests::File, model::places::Plane,
        translate::planes::PlaneSettings,
    };

    const GATEWAY: &str = include_str!("../../deploy/quickstart/gateway.yaml");
    const ROUTE: &str = include_str!("../../deploy/quickstart/route.yaml");
    const SERVICE: &str = include_str!("../../deploy/quickstart/service.yaml");

    fn translated(texts: &[&str]) -> Translation {
        let settings = Settings {
            controller_name: "apisix-etcd.io/gateway-controller".into(),
            instance: "default".into(),
            plane: PlaneSettings::new(Plane::default(), ApisixVersion::DEFAULT).into(),
        };
        let file = |(i, text): (usize, &&str)| File { path: format!("{i}.yaml").into(), text: (*text).to_owned() };
        let files: Vec<File> = texts.iter().enumerate().map(file).collect();
        translate_manifests(Manifests::of(&files, &settings.controller_name).unwrap(), &settings)
    }

    #[test]
    fn the_quickstart_becomes_two_documents_and_three_statuses() {
        let translation = translated(&[GATEWAY, ROUTE, SERVICE]);
        let keys: Vec<_> = translation.documents.keys().map(String::as_str).collect();
        assert_eq!(keys[0], "/apisix/stream_routes/gateway-api.9100");
        assert!(keys[1].starts_with("/apisix/upstreams/gateway-api.") && keys.len() == 2, "{keys:?}");
        let kinds: Vec<_> = translation.statuses.iter().map(|status| status.kind).collect();
        assert_eq!(kinds, ["GatewayClass", "Gateway", "TCPRoute"]);
        assert!(!translation.refuses());
    }

    #[test]
    fn documents_keep_the_bytes_that_etcd_would_hold() {
        let translation = translated(&[GATEWAY, ROUTE, SERVICE]);
        for (id, bytes) in &translation.overview.documents {
            assert_eq!(translation.documents[&id.key()].get().as_bytes(), &**bytes);
        }
    }

    #[test]
    fn a_cluster_scoped_object_has_an_empty_namespace() {
        let translation = translated(&[GATEWAY]);
        let class = serde_json::to_value(&translation.statuses[0]).unwrap();
        assert_eq!(class["namespace"], "");
        assert_eq!(class["apiVersion"], "gateway.networking.k8s.io/v1");
    }

    #[test]
    fn a_missing_backend_is_a_refusal() {
        let translation = translated(&[GATEWAY, ROUTE]);
        assert!(translation.refuses());
        let text = render(&translation, OutputFormat::Table, None);
        assert!(text.contains("TCPRoute default/tcp-app at tcp-gateway/foo"), "{text}");
        assert!(text.contains("ResolvedRefs: BackendNotFound"), "{text}");
    }

    #[test]
    fn an_object_that_cannot_be_read_is_a_refusal_and_named() {
        let unreadable = ROUTE.replace("parentRefs:", "parentRefs: 7\n  otherRefs:");
        let translation = translated(&[GATEWAY, &unreadable, SERVICE]);
        assert!(translation.refuses());
        let text = render(&translation, OutputFormat::Table, None);
        assert!(text.contains("UNREADABLE") && text.contains("TCPRoute default/tcp-app"), "{text}");
        assert!(render(&translation, OutputFormat::Json, None).contains("\"unreadable\": ["));
    }

    #[test]
    fn a_route_of_somebody_elses_gateway_has_no_status() {
        let elsewhere = ROUTE.replace("name: tcp-gateway", "name: not-ours");
        let kinds: Vec<_> = translated(&[GATEWAY, &elsewhere]).statuses.iter().map(|status| status.kind).collect();
        assert_eq!(kinds, ["GatewayClass", "Gateway"]);
    }

    #[test]
    fn what_is_printed_as_yaml_is_what_is_printed_as_json() {
        let translation = translated(&[GATEWAY, ROUTE, SERVICE]);
        let json: Value = serde_json::from_str(&render(&translation, OutputFormat::Json, None)).unwrap();
        let yaml: Value = serde_yaml_ng::from_str(&render(&translation, OutputFormat::Yaml, None)).unwrap();
        assert_eq!(json, yaml);
    }
}
