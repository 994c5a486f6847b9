//! The documents of manifest files become objects, as an API server would have taken them.
//!
//! File texts in, [`Manifests`] or every [`FileError`] out: all or nothing, so that half of a change is never in force. It
//! opens no files and writes no logs.

use super::{
    ListedObject, decode, kinds,
    yaml::{self, Document},
};
use crate::{
    model::{
        facts::{Facts, NamespaceFacts, Observed},
        names::{Kind, ObjectName, ObjectRef},
        opaque::Opaque,
        verdicts::{Served, Source},
    },
    status::print::StatusPrint,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The label every API server puts on a Namespace: its own name.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// The namespace of objects that name none, as kubectl puts them.
const DEFAULT_NAMESPACE: &str = "default";

/// What is wrong with a file, and where. Nothing of any file is in force while there is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// The line, counted from 1, where it is known; of the whole document where nothing closer is.
    pub line: Option<usize>,
    /// The column, counted from 1, where it is known.
    pub column: Option<usize>,
    /// What is wrong, for a user.
    pub reason: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.reason)
    }
}

/// The text of one file. Its `Debug` leaves the text out: there may be Secrets in it.
#[derive(Clone)]
pub struct File {
    /// Its path, as errors name it. It is JSON if it ends in `.json`, else YAML.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, text } = self;
        f.debug_struct("File").field("path", path).field("text", &Opaque(text.as_bytes())).finish()
    }
}

/// Every object of a set of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// By kind, in order of namespace and name; every kind of [`Kind::ALL`] is there.
    pub objects: BTreeMap<Kind, Vec<ListedObject>>,
    /// Objects that this controller does not read: of other kinds, and Secrets of other types.
    pub ignored: usize,
}

/// What manifests serve: every kind, at its preferred version, from no release of Gateway API in particular.
#[must_use]
pub fn served() -> Served {
    let preferred = |kind| kinds::versions(kind).first().map(|version| (kind, Arc::from(*version)));
    Served {
        source: Source::Folder,
        versions: Kind::ALL.into_iter().filter_map(preferred).collect(),
        bundles: Some(Vec::new()),
    }
}

impl Manifests {
    /// Reads `files`. `controller_name` says which parts of a status in a manifest are ours.
    ///
    /// Objects without a namespace get `default`. Every namespace that an object lives in exists, with the label of its own
    /// name, whether or not a manifest says so. An object that can be named but not read is there as
    /// [`Observed::Unreadable`]. The errors are all that were found, in order.
    pub fn of(files: &[File], controller_name: &str) -> Result<Self, Vec<FileError>> {
        let mut gathered = Gathered { controller_name, objects: BTreeMap::new(), ignored: 0, errors: Vec::new() };
        for file in files {
            gathered.file(file);
        }
        let Gathered { controller_name: _, objects, ignored, errors } = gathered;
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut manifests = Self { objects: Kind::ALL.map(|kind| (kind, Vec::new())).into(), ignored };
        for (object, _place) in with_namespaces(objects).into_values() {
            manifests.objects.entry(object.kind).or_default().push(object.listed);
        }
        Ok(manifests)
    }
}

/// Where a document stands.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    path: &'a Path,
    line: usize,
    /// The place in a `List`, counted from 1.
    item: Option<usize>,
}

impl Place<'_> {
    fn error(&self, reason: impl fmt::Display) -> FileError {
        let reason = match self.item {
            Some(item) => format!("item {item}: {reason}"),
            None => reason.to_string(),
        };
        FileError { path: self.path.to_owned(), line: Some(self.line), column: None, reason }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)?;
        self.item.map_or(Ok(()), |item| write!(f, " item {item}"))
    }
}

struct Object {
    kind: Kind,
    listed: ListedObject,
}

type Objects<'a> = BTreeMap<ObjectRef, (Object, Option<Place<'a>>)>;

/// What was found so far.
struct Gathered<'a> {
    controller_name: &'a str,
    objects: Objects<'a>,
    ignored: usize,
    errors: Vec<FileError>,
}

impl<'a> Gathered<'a> {
    fn file(&mut self, file: &'a File) {
        let json = file.path.extension().is_some_and(|extension| extension == "json");
        let documents = if json { yaml::json(&file.text) } else { yaml::yaml(&file.text) };
        for document in documents {
            match document {
                Ok(Document { line, value }) => {
                    let place = Place { path: &file.path, line, item: None };
                    if let Err(error) = self.document(place, value) {
                        self.errors.push(error);
                    }
                }
                Err(fault) => self.errors.push(FileError {
                    path: file.path.clone(),
                    line: fault.line,
                    column: fault.column,
                    reason: fault.reason,
                }),
            }
        }
    }

    fn document(&mut self, place: Place<'a>, value: Value) -> Result<(), FileError> {
        let mut object = match value {
            Value::Null => return Ok(()),
            Value::Object(object) => object,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(place.error("a manifest must be a mapping"));
            }
        };
        let api_version = text_of(&object, "apiVersion").ok_or_else(|| place.error("apiVersion is missing"))?;
        let kind_name = text_of(&object, "kind").ok_or_else(|| place.error("kind is missing"))?;
        if let (Some(of), Some(Value::Array(items))) = (kind_name.strip_suffix("List"), object.get_mut("items")) {
            let items = std::mem::take(items);
            self.items(place, &api_version, of, items);
            return Ok(());
        }
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let Some(kind) = kinds::named(group, &kind_name) else {
            self.ignored += 1;
            return Ok(());
        };
        if is_left_out(kind, &object) {
            self.ignored += 1;
            return Ok(());
        }
        let versions = kinds::manifest_versions(kind);
        if !versions.contains(&version) {
            let known = versions.join(" or ");
            return Err(place.error(format_args!("{kind} is read at version {known}, not at {api_version:?}")));
        }
        self.object(place, kind, object)
    }

    /// Items of a list of one kind may leave out what the list says already, as API servers do.
    fn items(&mut self, place: Place<'a>, api_version: &str, of: &str, items: Vec<Value>) {
        for (index, mut item) in items.into_iter().enumerate() {
            let place = Place { item: Some(index + 1), ..place };
            if let (Value::Object(item), false) = (&mut item, of.is_empty()) {
                item.entry("apiVersion").or_insert_with(|| api_version.into());
                item.entry("kind").or_insert_with(|| of.into());
            }
            if let Err(error) = self.document(place, item) {
                self.errors.push(error);
            }
        }
    }

    fn object(&mut self, place: Place<'a>, kind: Kind, mut object: Map<String, Value>) -> Result<(), FileError> {
        let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
            return Err(place.error(format_args!("{kind} has no metadata")));
        };
        if text_of(metadata, "name").is_none() {
            return Err(place.error(format_args!("{kind} has no metadata.name")));
        }
        if kind.namespaced() && text_of(metadata, "namespace").is_none() {
            let namespace = metadata.entry("namespace").or_insert(Value::Null);
            if !matches!(namespace, Value::Null | Value::String(_)) {
                return Err(place.error(format_args!("metadata.namespace of a {kind} is not a string")));
            }
            *namespace = DEFAULT_NAMESPACE.into();
        }
        let decoded = decode::object(kind, &Value::Object(object).to_string(), self.controller_name)
            .map_err(|error| place.error(error))?;
        let id = ObjectRef::new(kind, decoded.name.clone());
        if let Some((_, Some(first))) = self.objects.get(&id) {
            return Err(place.error(format_args!("{id} stands here and at {first}")));
        }
        let listed = ListedObject { name: decoded.name, observed: decoded.observed, status: decoded.status };
        self.objects.insert(id, (Object { kind, listed }, Some(place)));
        Ok(())
    }
}

/// Whether an API server would not have told of the object, because only some of its kind are asked for.
fn is_left_out(kind: Kind, object: &Map<String, Value>) -> bool {
    kinds::selected(kind).is_some_and(|(field, value)| text_of(object, field).as_deref() != Some(value))
}

/// The text of a field, unless it is empty.
fn text_of(object: &Map<String, Value>, field: &str) -> Option<String> {
    object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Lets every namespace that is used exist and bear its name as a label, as in a cluster.
fn with_namespaces(mut objects: Objects<'_>) -> Objects<'_> {
    let used: BTreeSet<_> =
        objects.keys().map(|id| id.name.namespace.clone()).filter(|name| !name.is_empty()).collect();
    for namespace in used {
        let name = ObjectName::cluster(&namespace);
        objects.entry(ObjectRef::new(Kind::Namespace, name.clone())).or_insert_with(|| {
            let observed = Observed::Facts(Facts::Namespace(NamespaceFacts::default()));
            let listed = ListedObject { name, observed, status: StatusPrint::default() };
            (Object { kind: Kind::Namespace, listed }, None)
        });
    }
    for (object, _place) in objects.values_mut() {
        if let Observed::Facts(Facts::Namespace(facts)) = &mut object.listed.observed {
            facts.labels.insert(NAMESPACE_NAME.into(), object.listed.name.name.clone());
        }
    }
    objects
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.to_owned() }
    }

    fn read(text: &str) -> Manifests {
        Manifests::of(&[file("m.yaml", text)], "apisix-etcd.io/gateway-controller").unwrap()
    }

    #[track_caller]
    fn refused(text: &str, want: &[&str]) {
        let errors = Manifests::of(&[file("m.yaml", text)], "apisix-etcd.io/gateway-controller").unwrap_err();
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), want);
    }

    fn names(manifests: &Manifests, kind: Kind) -> Vec<String> {
        manifests.objects[&kind].iter().map(|object| object.name.to_string()).collect()
    }

    #[test]
    fn every_kind_is_there_even_without_objects() {
        assert_eq!(read("").objects.keys().copied().collect::<Vec<_>>(), Kind::ALL);
    }

    #[test]
    fn kinds_that_are_not_read_are_counted() {
        let manifests = read(concat!(
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n---\n",
            "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: a}}\n---\n",
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}\n",
        ));
        assert_eq!((manifests.ignored, names(&manifests, Kind::Gateway).len()), (2, 0));
        assert_eq!(names(&manifests, Kind::Service), ["default/a"]);
    }

    #[test]
    fn secrets_are_read_if_they_are_of_the_type_that_a_cluster_is_asked_for() {
        let pem = |text: &str| text.lines().map(|line| ["    ", line, "\n"].concat()).collect::<String>();
        let (certificate, key) =
            (include_str!("certificates/fixtures/p256.crt"), include_str!("certificates/fixtures/p256.key"));
        let base64 = data_encoding::BASE64.encode(certificate.as_bytes());
        let manifests = read(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: opaque}}, data: {{tls.crt: x}}}}\n---\n\
             {{apiVersion: v1, kind: Secret, metadata: {{name: token}}, type: bootstrap.kubernetes.io/token}}\n---\n\
             apiVersion: v1\nkind: Secret\nmetadata: {{name: tls}}\ntype: kubernetes.io/tls\n\
             data: {{tls.crt: {base64}, tls.key: bm9uZQ==}}\n\
             stringData:\n  tls.key: |\n{}",
            pem(key)
        ));
        assert_eq!((manifests.ignored, names(&manifests, Kind::Secret)), (2, vec!["default/tls".to_owned()]));
        let observed = &manifests.objects[&Kind::Secret][0].observed;
        let Observed::Facts(Facts::Secret(facts)) = observed else { panic!("{observed:?}") };
        assert_eq!(facts.pair.as_ref().unwrap().certificate(), certificate);
        let text = file("m.yaml", "apiVersion: hunter2");
        assert!(!format!("{text:?}").contains("hunter2"));
    }

    #[test]
    fn cluster_scoped_objects_have_no_namespace_whatever_they_say() {
        let manifests = read(
            "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: a, namespace: x}, spec: {controllerName: c/d}}",
        );
        assert_eq!(names(&manifests, Kind::GatewayClass), ["a"]);
        assert_eq!(names(&manifests, Kind::Namespace), Vec::<String>::new());
    }

    #[test]
    fn lists_are_taken_apart() {
        let manifests = read(concat!(
            "apiVersion: v1\nkind: List\nitems:\n",
            "- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}\n",
            "- {apiVersion: v1, kind: ServiceList, items: [{metadata: {name: b, namespace: x}, spec: {}}]}\n",
        ));
        assert_eq!(names(&manifests, Kind::Service), ["default/a", "x/b"]);
        refused(
            "# 1\n---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {}}]}\n",
            &["m.yaml:3: item 1: Service has no metadata.name"],
        );
    }

    #[test]
    fn every_namespace_that_is_used_exists_and_bears_its_name() {
        let manifests = read(concat!(
            "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: x}, spec: {}}\n---\n",
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}\n---\n",
            "{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: red}}}\n",
        ));
        let labels: Vec<_> = manifests.objects[&Kind::Namespace]
            .iter()
            .map(|object| {
                let Observed::Facts(Facts::Namespace(facts)) = &object.observed else { panic!("{object:?}") };
                format!("{:?}", facts.labels)
            })
            .collect();
        assert_eq!(
            labels,
            [r#"{"kubernetes.io/metadata.name": "default"}"#, r#"{"kubernetes.io/metadata.name": "x", "team": "red"}"#]
        );
    }

    #[test]
    fn older_served_versions_of_one_shape_are_read() {
        let manifests = read(concat!(
            "{apiVersion: gateway.networking.k8s.io/v1alpha2, kind: TCPRoute, metadata: {name: a}, spec: {rules: []}}\n---\n",
            "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: a}, spec: {from: [], to: []}}\n---\n",
            "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: GatewayClass, metadata: {name: a}, spec: {controllerName: c/d}}\n",
        ));
        for kind in [Kind::TcpRoute, Kind::ReferenceGrant, Kind::GatewayClass] {
            assert_eq!(names(&manifests, kind).len(), 1, "{kind}");
        }
    }

    #[test]
    fn a_version_nobody_serves_is_an_error() {
        refused(
            "\n{apiVersion: gateway.networking.k8s.io/v9, kind: TCPRoute, metadata: {name: a}}",
            &[r#"m.yaml:2: TCPRoute is read at version v1 or v1alpha2, not at "gateway.networking.k8s.io/v9""#],
        );
    }

    #[test]
    fn what_is_no_object_is_an_error_and_all_errors_are_told() {
        refused(
            "a: 1\n---\n- b\n---\napiVersion: v1\n---\napiVersion: v1\nkind: Service\n",
            &[
                "m.yaml:1: apiVersion is missing",
                "m.yaml:3: a manifest must be a mapping",
                "m.yaml:5: kind is missing",
                "m.yaml:7: Service has no metadata",
            ],
        );
        refused("{apiVersion: v1, kind: Service, metadata: {name: 5}}", &["m.yaml:1: Service has no metadata.name"]);
        refused(
            "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: 5}}",
            &["m.yaml:1: metadata.namespace of a Service is not a string"],
        );
    }

    #[test]
    fn an_object_that_stands_twice_is_an_error_that_names_both_places() {
        let service = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}";
        let files = [file("m.yaml", &format!("---\n{service}")), file("n.json", "{}"), file("o.yaml", service)];
        let errors = Manifests::of(&files, "c/d").unwrap_err();
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["n.json:1: apiVersion is missing", "o.yaml:1: Service default/a stands here and at m.yaml:2",]
        );
    }

    #[test]
    fn an_object_that_can_be_named_but_not_read_is_unreadable() {
        let manifests = read(
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: eighty}]}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {}}",
        );
        let services = &manifests.objects[&Kind::Service];
        assert_eq!(services.len(), 2);
        let Observed::Unreadable { error } = &services[0].observed else { panic!("{services:?}") };
        assert_eq!(&**error, r#"invalid type: string "eighty", expected i64"#);
    }
}
