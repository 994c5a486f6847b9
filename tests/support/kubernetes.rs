//! What tests do to a cluster: install CRDs, apply, read, patch and delete objects of any kind.
//!
//! In: YAML or JSON. Out: what the API server answered, as JSON. Kinds are found by discovery, so it works with every
//! version that the installed CRDs serve.

use super::{
    apiserver::ApiServer,
    binaries::Binary,
    manifests::{documents, documents_at},
    wait::{PATIENCE, wait_until},
};
use anyhow::{Context as _, bail, ensure};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
    discovery::{self, Scope},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// The CRD of our own kind.
const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/data-planes.yaml");

/// Which Gateway API a cluster has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crds {
    /// 1.6.1, standard channel: TCPRoute and UDPRoute v1 only; ReferenceGrant v1 and v1beta1.
    Standard161,
    /// 1.6.1, experimental channel: TCPRoute and UDPRoute v1 and v1alpha2; ReferenceGrant v1 and v1beta1.
    Experimental161,
    /// 1.4.1, experimental channel: TCPRoute and UDPRoute v1alpha2 only; ReferenceGrant v1beta1 only.
    Experimental141,
}

impl Crds {
    fn folder(self) -> &'static str {
        match self {
            Self::Standard161 => "v1.6.1/standard",
            Self::Experimental161 => "v1.6.1/experimental",
            Self::Experimental141 => "v1.4.1/experimental",
        }
    }
}

/// The name of one object.
#[derive(Clone, Debug)]
pub(crate) struct Named<'a> {
    /// `v1`, `gateway.networking.k8s.io/v1`, …
    pub(crate) api_version: &'a str,
    /// `TCPRoute`, …
    pub(crate) kind: &'a str,
    /// Empty for objects of the cluster.
    pub(crate) namespace: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
}

/// An API server, and the administrator's client of this test's runtime.
#[derive(Clone)]
pub(crate) struct Kubernetes {
    server: Arc<ApiServer>,
    client: Client,
}

impl Kubernetes {
    /// A view of `server` for the runtime this is called on.
    pub(crate) async fn of(server: Arc<ApiServer>) -> anyhow::Result<Self> {
        let client = server.client().await?;
        Ok(Self { server, client })
    }

    /// The administrator's client; it dies with the runtime that [`Kubernetes::of`] was called on.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The server itself.
    pub(crate) fn server(&self) -> &ApiServer {
        &self.server
    }

    /// The administrator's kubeconfig file.
    pub(crate) fn kubeconfig(&self) -> &Path {
        self.server.kubeconfig()
    }

    /// Installs the CRDs, ours of DataPlanes among them (1.6 brings an admission policy with them) and waits until every kind is established.
    pub(crate) async fn install(&self, crds: Crds) -> anyhow::Result<()> {
        self.install_but(crds, &[]).await
    }

    /// [`Kubernetes::install`] without the CRDs of these names, such as `tcproutes.gateway.networking.k8s.io`.
    pub(crate) async fn install_but(&self, crds: Crds, without: &[&str]) -> anyhow::Result<()> {
        let folder = Binary::Crds.path()?.join(crds.folder());
        // Ours first: its absence is no reason for the controller to look again soon.
        let mut manifests = documents_at(Path::new(OURS))?;
        manifests.extend(documents_at(&folder)?);
        manifests.retain(|manifest| {
            let name = manifest.pointer("/metadata/name").and_then(Value::as_str);
            !name.is_some_and(|name| without.contains(&name))
        });
        ensure!(!manifests.is_empty(), "{} holds no manifests", folder.display());
        // The bundle's admission policy may already look at what comes after it.
        let (definitions, others): (Vec<_>, Vec<_>) =
            manifests.into_iter().partition(|manifest| manifest["kind"] == "CustomResourceDefinition");
        let mut names = Vec::new();
        for definition in definitions {
            names.push(self.apply_one(definition).await?.name_any());
        }
        for other in others {
            self.apply_one(other).await?;
        }
        for name in &names {
            self.established(name).await?;
        }
        Ok(())
    }

    async fn established(&self, name: &str) -> anyhow::Result<()> {
        let definition =
            Named { api_version: "apiextensions.k8s.io/v1", kind: "CustomResourceDefinition", namespace: "", name };
        wait_until(&format!("CRD {name} to be established"), PATIENCE, async || {
            let definition = self.get(&definition).await?.context("it is not there")?;
            let conditions = definition.pointer("/status/conditions");
            let established = |condition: &Value| condition["type"] == "Established" && condition["status"] == "True";
            ensure!(
                conditions.and_then(Value::as_array).is_some_and(|all| all.iter().any(established)),
                "conditions {conditions:?}"
            );
            Ok(())
        })
        .await
    }

    /// Applies multi-document YAML, server-side and by force, in its order. Objects that name no namespace go to `default`.
    pub(crate) async fn apply(&self, manifests: &str) -> anyhow::Result<()> {
        for document in documents(manifests)? {
            self.apply_one(document).await?;
        }
        Ok(())
    }

    /// Applies a YAML file, or every YAML file of a folder in the order of their names.
    pub(crate) async fn apply_path(&self, path: &Path) -> anyhow::Result<()> {
        for document in documents_at(path)? {
            self.apply_one(document).await?;
        }
        Ok(())
    }

    async fn apply_one(&self, manifest: Value) -> anyhow::Result<DynamicObject> {
        let object: DynamicObject = serde_json::from_value(manifest).context("a manifest is an object")?;
        let types = object.types.clone().context("a manifest has apiVersion and kind")?;
        let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
        let named = Named { api_version: &types.api_version, kind: &types.kind, namespace: &namespace, name: &name };
        let params = PatchParams::apply("tests").force();
        let api = self.api(&named).await?;
        api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(|| format!("applying {named:?}"))
    }

    /// The object as it stands, `None` if it is not there.
    pub(crate) async fn get(&self, named: &Named<'_>) -> anyhow::Result<Option<Value>> {
        let found = self.api(named).await?.get_opt(named.name).await.with_context(|| format!("reading {named:?}"))?;
        found.map(|object| serde_json::to_value(object).context("an object is JSON")).transpose()
    }

    /// All objects of a kind; of all namespaces when `namespace` is empty.
    pub(crate) async fn list(&self, api_version: &str, kind: &str, namespace: &str) -> anyhow::Result<Vec<Value>> {
        let (resource, _scope) = self.resource(api_version, kind).await?;
        let api: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(self.client(), &resource)
        } else {
            Api::namespaced_with(self.client(), namespace, &resource)
        };
        let list = api.list(&ListParams::default()).await.with_context(|| format!("listing {kind}"))?;
        list.items.into_iter().map(|object| serde_json::to_value(object).context("an object is JSON")).collect()
    }

    /// Merges `patch` into the object; its status when `patch` has that.
    pub(crate) async fn patch(&self, named: &Named<'_>, patch: Value) -> anyhow::Result<()> {
        let (api, params) = (self.api(named).await?, PatchParams::default());
        let merge = Patch::Merge(&patch);
        let done = if patch.get("status").is_some() {
            api.patch_status(named.name, &params, &merge).await
        } else {
            api.patch(named.name, &params, &merge).await
        };
        done.map(drop).with_context(|| format!("patching {named:?}"))
    }

    /// Deletes the object; it may be there for a while if it has finalizers.
    pub(crate) async fn delete(&self, named: &Named<'_>) -> anyhow::Result<()> {
        let deleted = self.api(named).await?.delete(named.name, &kube::api::DeleteParams::default()).await;
        deleted.map(drop).with_context(|| format!("deleting {named:?}"))
    }

    /// Deletes the object whatever finalizers it has, as an administrator does with one that nobody finishes.
    pub(crate) async fn delete_by_force(&self, named: &Named<'_>) -> anyhow::Result<()> {
        self.delete(named).await?;
        if self.get(named).await?.is_some() {
            // Whoever put them there may just have taken them away.
            let _ = self.patch(named, json!({"metadata": {"finalizers": null}})).await;
        }
        self.gone(named).await
    }

    /// Waits until an object that was deleted is not there any more.
    pub(crate) async fn gone(&self, named: &Named<'_>) -> anyhow::Result<()> {
        wait_until(&format!("{named:?} to be gone"), PATIENCE, async || {
            let found = self.get(named).await?;
            ensure!(found.is_none(), "it is there");
            Ok(())
        })
        .await
    }

    /// Creates a namespace of a name that no other test has. It begins with `hint`.
    pub(crate) async fn namespace(&self, hint: &str) -> anyhow::Result<String> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{hint}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let named = Named { api_version: "v1", kind: "Namespace", namespace: "", name: &name };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let object = serde_json::from_value(object).context("a namespace is an object")?;
        self.api(&named).await?.create(&PostParams::default(), &object).await.context("creating a namespace")?;
        Ok(name)
    }

    async fn api(&self, named: &Named<'_>) -> anyhow::Result<Api<DynamicObject>> {
        let (resource, scope) = self.resource(named.api_version, named.kind).await?;
        Ok(match scope {
            Scope::Cluster => Api::all_with(self.client(), &resource),
            Scope::Namespaced if named.namespace.is_empty() => Api::default_namespaced_with(self.client(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client(), named.namespace, &resource),
        })
    }

    /// Discovery may lag behind a CRD that was just established, so a kind that is not there is waited for.
    async fn resource(&self, api_version: &str, kind: &str) -> anyhow::Result<(ApiResource, Scope)> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        if version.is_empty() {
            bail!("{kind} has no apiVersion");
        }
        let wanted = GroupVersionKind::gvk(group, version, kind);
        let (resource, capabilities) = wait_until(&format!("{kind} to be served"), PATIENCE, async || {
            discovery::pinned_kind(&self.client, &wanted).await.with_context(|| format!("looking up {wanted:?}"))
        })
        .await?;
        Ok((resource, capabilities.scope))
    }

    /// The versions of a kind of `gateway.networking.k8s.io` that are served, such as `["v1"]`.
    pub(crate) async fn versions_served(&self, plural: &str) -> anyhow::Result<Vec<String>> {
        let group = "gateway.networking.k8s.io";
        let versions = self.client.list_api_groups().await.context("listing API groups")?;
        let versions = versions.groups.into_iter().filter(|found| found.name == group).flat_map(|found| found.versions);
        let mut served = Vec::new();
        for version in versions {
            let resources = self.client.list_api_group_resources(&version.group_version).await;
            let resources = resources.with_context(|| format!("listing the kinds of {}", version.group_version))?;
            if resources.resources.iter().any(|resource| resource.name == plural) {
                served.push(version.version);
            }
        }
        Ok(served)
    }
}
