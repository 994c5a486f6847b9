//! The pair most tests need: a Kubernetes with the Gateway API, and an etcd for APISIX.
//!
//! In: which Gateway API. Out: the pair, shared by all tests of a binary or fresh; and for each test a place in it where no
//! other test is.

use super::{
    apiserver::ApiServer,
    binaries::Binary,
    controller::{Controller, run_arguments},
    etcd::{Etcd, shared_etcd},
    kubernetes::{Crds, Kubernetes},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::OnceCell;

/// A Kubernetes and an etcd.
#[derive(Clone)]
pub(crate) struct Servers {
    /// The cluster, through a client of this test's runtime.
    pub(crate) kubernetes: Kubernetes,
    /// APISIX's etcd.
    pub(crate) etcd: Arc<Etcd>,
}

/// Where one test works: nothing in it is named by another test.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// A namespace, created.
    pub(crate) namespace: String,
    /// A name for a GatewayClass. Not created: what it says is the test's business.
    pub(crate) gateway_class: String,
    /// A controller name for it.
    pub(crate) controller_name: String,
    /// An etcd prefix, such as `/endpoints-3`. No other place's prefix begins with it.
    pub(crate) etcd_prefix: String,
    /// Where the controller's own keys are.
    pub(crate) control_prefix: String,
}

/// The pair of this test binary, with Gateway API 1.6.1, standard channel. Other tests use it at the same time.
pub(crate) async fn shared() -> anyhow::Result<Servers> {
    static SHARED: OnceCell<Arc<ApiServer>> = OnceCell::const_new();
    let start = async || {
        let server = Arc::new(ApiServer::start().await?);
        Kubernetes::of(server.clone()).await?.install(Crds::Standard161).await?;
        anyhow::Ok(server)
    };
    let (server, etcd) = tokio::try_join!(Box::pin(SHARED.get_or_try_init(start)), Box::pin(shared_etcd()))?;
    Ok(Servers { kubernetes: Kubernetes::of(server.clone()).await?, etcd })
}

/// A pair that nobody else uses, gone with the last clone of it.
pub(crate) async fn fresh(crds: Crds) -> anyhow::Result<Servers> {
    let (kubernetes, etcd) = tokio::try_join!(Box::pin(fresh_kubernetes()), Box::pin(Etcd::start(Binary::Etcd)))?;
    Box::pin(kubernetes.install(crds)).await?;
    Ok(Servers { kubernetes, etcd: Arc::new(etcd) })
}

/// A Kubernetes that nobody else uses, without any CRD.
pub(crate) async fn fresh_kubernetes() -> anyhow::Result<Kubernetes> {
    Kubernetes::of(Arc::new(ApiServer::start().await?)).await
}

impl Servers {
    /// A place for one test. `hint` begins its names: lower case, no spaces.
    pub(crate) async fn place(&self, hint: &str) -> anyhow::Result<Place> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let namespace = self.kubernetes.namespace(hint).await?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            namespace,
            gateway_class: format!("{hint}-{number}"),
            controller_name: format!("apisix-etcd.io/{hint}-{number}"),
            // The slash at the end keeps /a-1 from being the beginning of /a-10; APISIX reads prefixes as bare strings.
            etcd_prefix: format!("/{hint}-{number}/apisix"),
            control_prefix: format!("/{hint}-{number}/control"),
        })
    }

    /// Starts the controller on `place`, with more arguments behind those that say so.
    pub(crate) fn controller(&self, place: &Place, more: &[&str]) -> anyhow::Result<Controller> {
        let Place { namespace: _, gateway_class: _, controller_name, etcd_prefix, control_prefix } = place;
        let mut arguments = run_arguments(
            self.kubernetes.kubeconfig(),
            self.etcd.endpoint(),
            etcd_prefix,
            control_prefix,
            controller_name,
        )?;
        arguments.extend(more);
        Controller::start(&arguments)
    }
}
