//! `deploy/kubernetes` as kustomize renders it, and service accounts with its rights or with fewer.
//!
//! In: the folder, and an API server. Out: its objects; the arguments its pod gives the controller; single rights; kubeconfigs
//! of service accounts. Needs kubectl, which brings kustomize with it.

use super::{
    binaries::Binary,
    kubernetes::Kubernetes,
    manifests::documents,
    process,
    wait::{PATIENCE, wait_until},
};
use anyhow::{Context as _, ensure};
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    authorization::v1::SubjectAccessReview,
    core::v1::{Pod, ServiceAccount},
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes");

/// What the names of the controller's variables begin with; the rest is the name of the flag.
const VARIABLE: &str = "APISIX_ETCD_CONTROLLER_";

/// The objects of `deploy/kubernetes`.
#[derive(Clone, Debug)]
pub(crate) struct Deployment(Vec<Value>);

/// One thing that a ClusterRole permits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Right {
    /// `get`, `list`, …
    pub(crate) verb: String,
    /// The API group; empty for the core group.
    pub(crate) group: String,
    /// `gateways`, `gateways/status`, …
    pub(crate) resource: String,
    /// The one object it is limited to.
    pub(crate) name: Option<String>,
}

/// A service account with some rights, and a kubeconfig with its token.
#[derive(Debug)]
pub(crate) struct Account {
    folder: TempDir,
    kubeconfig: PathBuf,
}

impl Deployment {
    /// As `kubectl kustomize` prints it.
    pub(crate) fn render() -> anyhow::Result<Self> {
        documents(&kubectl(&["kustomize", FOLDER])?).map(Self)
    }

    /// An overlay on it, with this kustomization in which `base` is the folder.
    pub(crate) fn overlaid(kustomization: &str) -> anyhow::Result<Self> {
        let folder = process::folder()?;
        let base = folder.path().join("base");
        std::fs::create_dir(&base).context("copying the base")?;
        for entry in std::fs::read_dir(FOLDER).context("copying the base")? {
            let file = entry.context("copying the base")?.path();
            if let (true, Some(name)) = (file.is_file(), file.file_name()) {
                std::fs::copy(&file, base.join(name)).context("copying the base")?;
            }
        }
        std::fs::write(folder.path().join("kustomization.yaml"), kustomization).context("writing the overlay")?;
        let folder = folder.path().to_str().context("the folder's path is text")?;
        documents(&kubectl(&["kustomize", folder])?).map(Self)
    }

    /// Applies it as its README says.
    pub(crate) fn apply(kubernetes: &Kubernetes) -> anyhow::Result<()> {
        let kubeconfig = kubernetes.kubeconfig().to_str().context("the kubeconfig's path is text")?;
        kubectl(&["--kubeconfig", kubeconfig, "apply", "--kustomize", FOLDER]).map(drop)
    }

    /// All of a kind.
    pub(crate) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    /// The only one of its kind.
    pub(crate) fn only<'a>(&'a self, kind: &'a str) -> anyhow::Result<&'a Value> {
        let mut found = self.all(kind);
        let only = found.next().with_context(|| format!("there is no {kind}"))?;
        ensure!(found.next().is_none(), "there are several of {kind}");
        Ok(only)
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> anyhow::Result<&str> {
        text(self.only("Namespace")?, "/metadata/name")
    }

    /// Every right of its ClusterRole.
    pub(crate) fn rights(&self) -> anyhow::Result<BTreeSet<Right>> {
        let mut rights = BTreeSet::new();
        for rule in list(self.only("ClusterRole")?, "/rules")? {
            let names = match rule.get("resourceNames") {
                Some(_) => texts(rule, "/resourceNames")?.into_iter().map(Some).collect(),
                None => vec![None],
            };
            for group in texts(rule, "/apiGroups")? {
                for resource in texts(rule, "/resources")? {
                    for verb in texts(rule, "/verbs")? {
                        for name in names.clone() {
                            let right =
                                Right { verb: verb.clone(), group: group.clone(), resource: resource.clone(), name };
                            ensure!(rights.insert(right.clone()), "{right} is given twice");
                        }
                    }
                }
            }
        }
        Ok(rights)
    }

    /// What its pod asks for, as a Pod of that name.
    pub(crate) fn pod(&self, name: &str) -> anyhow::Result<Pod> {
        let template = self.only("Deployment")?.pointer("/spec/template").context("a Deployment has a template")?;
        let pod = json!({
            "metadata": { "name": name, "labels": template.pointer("/metadata/labels") },
            "spec": template.get("spec"),
        });
        serde_json::from_value(pod).context("a template is that of a pod")
    }

    /// The paths that Kubernetes probes, at the port where its container is told to serve them.
    pub(crate) fn probes(&self) -> anyhow::Result<Vec<String>> {
        let container = self.only("Deployment")?.pointer("/spec/template/spec/containers/0");
        let container = container.context("a Deployment has a container")?;
        let port = container.pointer("/ports/0/containerPort").context("the container names a port")?;
        ensure!(
            self.arguments()?.iter().any(|argument| *argument == format!("--admin-address=0.0.0.0:{port}")),
            "nothing is served on every address at port {port}"
        );
        let probe = |name: &str| {
            ensure!(
                text(container, &format!("/{name}/httpGet/port"))? == text(container, "/ports/0/name")?,
                "{name}'s port"
            );
            text(container, &format!("/{name}/httpGet/path")).map(str::to_owned)
        };
        ["livenessProbe", "readinessProbe"].into_iter().map(probe).collect()
    }

    /// The arguments its pod gives the controller; what it gives as variables, too, under the flags of their names.
    pub(crate) fn arguments(&self) -> anyhow::Result<Vec<String>> {
        let container = "/spec/template/spec/containers/0";
        let deployment = self.only("Deployment")?;
        let mut variables: BTreeMap<String, String> = BTreeMap::new();
        for source in list(deployment, &format!("{container}/envFrom"))? {
            let name = text(source, "/configMapRef/name")?;
            let map = self.only("ConfigMap")?;
            ensure!(map.pointer("/metadata/name").is_some_and(|found| found == name), "{name} is not {map}");
            for (variable, value) in map["data"].as_object().context("a ConfigMap has data")? {
                variables.insert(variable.clone(), value.as_str().context("data are texts")?.to_owned());
            }
        }
        for variable in list(deployment, &format!("{container}/env"))? {
            let name = text(variable, "/name")?;
            // Kubernetes says the values of the others when the pod runs.
            let value =
                variable.get("value").and_then(Value::as_str).map_or_else(|| format!("its-{name}"), str::to_owned);
            variables.insert(name.to_owned(), value);
        }
        let mut arguments = texts(deployment, &format!("{container}/args"))?;
        for argument in &mut arguments {
            for (variable, value) in &variables {
                *argument = argument.replace(&format!("$({variable})"), value);
            }
        }
        arguments.extend(variables.iter().filter_map(|(variable, value)| flag(variable, value)));
        Ok(arguments)
    }

    /// The lines that `settings.env` has as comments, as arguments.
    pub(crate) fn suggestions() -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(Path::new(FOLDER).join("settings.env")).context("reading settings.env")?;
        let suggested = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
        Ok(suggested.filter_map(|(variable, value)| flag(variable, value)).collect())
    }
}

impl Right {
    fn rule(&self) -> Value {
        let Self { verb, group, resource, name } = self;
        // No names mean every name.
        let names: Vec<&String> = name.iter().collect();
        json!({ "apiGroups": [group], "resources": [resource], "resourceNames": names, "verbs": [verb] })
    }

    /// Whether the API server permits it to a user.
    async fn held_by(&self, kubernetes: &Kubernetes, user: &str) -> anyhow::Result<bool> {
        let Self { verb, group, resource, name } = self;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({ "metadata": {}, "spec": { "user": user, "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": subresource, "name": name,
        }}});
        let review: SubjectAccessReview = serde_json::from_value(review).context("writing a question")?;
        let answer = Api::all(kubernetes.client()).create(&PostParams::default(), &review).await;
        Ok(answer.context("asking who may do what")?.status.context("a review has an answer")?.allowed)
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, group, resource, name } = self;
        let name = name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
        write!(f, "{verb} {resource}{}{group}{name}", if group.is_empty() { "" } else { "." })
    }
}

impl Account {
    /// That of `deploy/kubernetes`, which was applied.
    pub(crate) async fn deployed(
        deployment: &Deployment,
        kubernetes: &Kubernetes,
        server: Option<&str>,
    ) -> anyhow::Result<Self> {
        let name = text(deployment.only("Deployment")?, "/spec/template/spec/serviceAccountName")?;
        let namespace = deployment.namespace()?;
        permitted(kubernetes, &user(namespace, name), &deployment.rights()?, None).await?;
        Self::of(kubernetes, namespace, name, server).await
    }

    /// A new one in a namespace, with all of these rights but one.
    pub(crate) async fn without(
        right: &Right,
        rights: &BTreeSet<Right>,
        kubernetes: &Kubernetes,
        namespace: &str,
        server: Option<&str>,
    ) -> anyhow::Result<Self> {
        let kept: BTreeSet<Right> = rights.iter().filter(|kept| *kept != right).cloned().collect();
        let name = format!("{namespace}-less");
        let rules: Vec<Value> = kept.iter().map(Right::rule).collect();
        let objects = [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace } }),
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": { "name": name }, "rules": rules }),
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": { "name": name },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": namespace }] }),
        ];
        for object in objects {
            kubernetes.apply(&object.to_string()).await?;
        }
        permitted(kubernetes, &user(namespace, &name), &kept, Some(right)).await?;
        Self::of(kubernetes, namespace, &name, server).await
    }

    async fn of(kubernetes: &Kubernetes, namespace: &str, name: &str, server: Option<&str>) -> anyhow::Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(kubernetes.client(), namespace);
        let token = accounts.create_token_request(name, &PostParams::default(), &TokenRequest::default()).await;
        let token = token.context("asking for a token")?.status.context("a token request is answered")?.token;
        let text =
            std::fs::read_to_string(kubernetes.kubeconfig()).context("reading the administrator's kubeconfig")?;
        let config: Value = serde_json::from_str(&text).context("reading the administrator's kubeconfig")?;
        let cluster = config.pointer("/clusters/0/cluster").cloned().context("a kubeconfig has a cluster")?;
        let cluster = server.map_or(cluster, |server| json!({ "server": server }));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "clusters": [{ "name": "local", "cluster": cluster }],
            "users": [{ "name": "account", "user": { "token": token } }],
            "contexts": [{ "name": "local", "context": { "cluster": "local", "user": "account" } }],
        });
        let folder = process::folder()?;
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).context("writing the kubeconfig")?;
        Ok(Self { folder, kubeconfig })
    }

    /// Its kubeconfig file, gone with `self`.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// What a variable of the controller says as an argument; `None` for other variables.
fn flag(variable: &str, value: &str) -> Option<String> {
    let name = variable.strip_prefix(VARIABLE)?;
    Some(format!("--{}={value}", name.to_lowercase().replace('_', "-")))
}

fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Waits until the API server has taken in that a user may do all of `rights`; `lacking` it may not do.
async fn permitted(
    kubernetes: &Kubernetes,
    user: &str,
    rights: &BTreeSet<Right>,
    lacking: Option<&Right>,
) -> anyhow::Result<()> {
    // All come from one ClusterRole through one binding, so one stands for all.
    let one = rights.first().context("there are rights")?;
    wait_until("the API server to know the rights", PATIENCE, async || {
        ensure!(one.held_by(kubernetes, user).await?, "{user} may not {one}");
        Ok(())
    })
    .await?;
    if let Some(lacking) = lacking {
        ensure!(!lacking.held_by(kubernetes, user).await?, "{user} may {lacking}");
    }
    Ok(())
}

/// Runs kubectl, as the instructions of the deployment do; what it printed.
pub(crate) fn kubectl(arguments: &[&str]) -> anyhow::Result<String> {
    let Output { status, stdout, stderr } =
        Command::new(Binary::Kubectl.path()?).args(arguments).output().context("running kubectl")?;
    ensure!(status.success(), "kubectl {arguments:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).context("kubectl prints text")
}

fn list<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a [Value]> {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).with_context(|| format!("no list at {pointer}"))
}

fn text<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("no text at {pointer}"))
}

fn texts(value: &Value, pointer: &str) -> anyhow::Result<Vec<String>> {
    let text = |element: &Value| element.as_str().map(str::to_owned).with_context(|| format!("no texts at {pointer}"));
    list(value, pointer)?.iter().map(text).collect()
}
