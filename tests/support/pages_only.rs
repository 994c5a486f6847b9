//! An API server as it was before streaming lists, in front of a real one.
//!
//! In: a kubeconfig. Out: an address that passes every request on with the credentials it came with, except those for streaming
//! lists, which it refuses as such a server does. Gone when dropped.

use anyhow::Context as _;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, StatusCode},
    response::{IntoResponse as _, Response},
};
use kube::{
    Client, Config,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use std::{net::SocketAddr, path::Path};
use tokio::{net::TcpListener, task::JoinHandle};

/// What an API server takes.
const BODY_BYTES_MAX: usize = 3 << 20;

/// A server in front of another.
#[derive(Debug)]
pub(crate) struct PagesOnly {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl PagesOnly {
    /// In front of the server of a kubeconfig, whose own credentials are not used.
    pub(crate) async fn before(kubeconfig: &Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("reading the kubeconfig")?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("reading the kubeconfig")?;
        config.auth_info = AuthInfo::default();
        let client = Client::try_from(config).context("making a client of kube-apiserver")?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listening")?;
        let address = listener.local_addr().context("listening")?;
        let routes = Router::new().fallback(pass).with_state(client);
        let serving = tokio::spawn(async {
            // It serves until it is aborted; a failure shows as requests without an answer.
            let _ = axum::serve(listener, routes).await;
        });
        Ok(Self { address, serving })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for PagesOnly {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(client): State<Client>, request: Request<Body>) -> Response {
    if request.uri().query().is_some_and(|query| query.contains("sendInitialEvents=true")) {
        let refusal = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422,
            "message": "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless WatchList is enabled",
        });
        return (StatusCode::UNPROCESSABLE_ENTITY, refusal.to_string()).into_response();
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    match client.send(Request::from_parts(head, body.to_vec().into())).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}
