//! The admin port: `/livez`, `/readyz` and `/metrics` over plain HTTP.
//!
//! In: requests of probes and scrapers. Out: what [`crate::readiness`] and [`crate::metrics`] say now. It changes nothing, and
//! shows no secret, but has no authentication: it listens on loopback unless told otherwise.

use crate::{metrics, readiness::Readiness};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::registry::Registry;
use std::{io, net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The admin port, listening but not yet answering.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for the admin port: choose another with --admin-address, or port 0 for any free one"
)]
pub struct BindError {
    /// The address asked for.
    address: SocketAddr,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// What is answered with.
#[derive(Clone, Debug)]
pub struct Answers {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub registry: Arc<Registry>,
}

impl Admin {
    /// Listens on `address`; port 0 takes any free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, and then until the requests that came before are answered. Dropping the future closes the port
    /// at once.
    pub async fn serve(self, answers: Answers, stop: CancellationToken) -> io::Result<()> {
        axum::serve(self.listener, routes(answers)).with_graceful_shutdown(stop.cancelled_owned()).await
    }
}

fn routes(answers: Answers) -> Router {
    Router::new()
        .route("/livez", get(async || text(StatusCode::OK, PLAIN, "ok\n".to_owned())))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(answers)
}

async fn readyz(State(answers): State<Answers>, headers: HeaderMap) -> Response {
    let report = answers.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if accepts_json(&headers) {
        let body = serde_json::to_string(&report).expect("a report is a bool and strings");
        return text(status, JSON, body);
    }
    text(status, PLAIN, report.to_string())
}

async fn exposition(State(answers): State<Answers>) -> Response {
    match metrics::render(&answers.registry) {
        Ok(body) => text(StatusCode::OK, metrics::CONTENT_TYPE, body),
        Err(error) => {
            tracing::error!(error = %error, "cannot render the metrics");
            text(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, "the metrics cannot be rendered\n".to_owned())
        }
    }
}

/// Whether the client names JSON as something it takes. A bare `*/*`, as curl sends, gets text.
fn accepts_json(headers: &HeaderMap) -> bool {
    let named = |accept: &str| accept.split(',').any(|range| range.split(';').next().unwrap_or(range).trim() == JSON);
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(named)
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apisix::version::ApisixVersion;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    async fn ask(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn probes_and_scrapers_get_their_answers() {
        let ready = Arc::new(AtomicBool::new(false));
        let readiness =
            {
                let ready = Arc::clone(&ready);
                Readiness::new(move || {
                    if ready.load(Ordering::SeqCst) { Vec::new() } else { vec!["a list of Gateway".to_owned()] }
                })
            };
        let answers = Answers { readiness, registry: Arc::new(metrics::registry(ApisixVersion::DEFAULT)) };
        let admin = Admin::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = admin.address();
        let stop = CancellationToken::new();
        let served = tokio::spawn(admin.serve(answers, stop.clone()));

        let (status, body) = ask(address, "/livez", "*/*").await;
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.0 200 OK", "ok\n"));
        let (status, body) = ask(address, "/readyz", "*/*").await;
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("HTTP/1.0 503 Service Unavailable", "waiting for a list of Gateway\n")
        );
        let (_, body) = ask(address, "/readyz", "text/html, application/json;q=0.9").await;
        assert_eq!(body, r#"{"ready":false,"waiting_for":["a list of Gateway"]}"#);
        ready.store(true, Ordering::SeqCst);
        let (status, body) = ask(address, "/readyz", "application/json").await;
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.0 200 OK", r#"{"ready":true,"waiting_for":[]}"#));
        let (_, body) = ask(address, "/metrics", "*/*").await;
        assert!(body.contains("apisix_etcd_controller_build_info"), "{body}");

        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_taken_address_is_named_with_the_flag_that_sets_it() {
        let first = Admin::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let error = Admin::bind(first.address()).await.unwrap_err().to_string();
        assert!(error.contains(&first.address().to_string()) && error.contains("--admin-address"), "{error}");
    }
}
