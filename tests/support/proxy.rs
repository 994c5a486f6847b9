//! A TCP proxy that can be cut: what a broken network looks like to a client, without touching the server.
//!
//! In: the server's `http://` endpoint. Out: an endpoint of its own. While cut, connections are closed at once.

use super::process::free_ports;
use anyhow::Context as _;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A running proxy; gone when dropped.
pub(crate) struct Proxy {
    port: u16,
    whole: watch::Sender<bool>,
    server: watch::Sender<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// Starts one that passes everything to `endpoint`.
    pub(crate) async fn start(endpoint: &str) -> anyhow::Result<Self> {
        let (server, target) = watch::channel(address(endpoint)?);
        let [port] = free_ports()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("listening")?;
        let (whole, state) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = target.borrow().clone();
                tokio::spawn(pass(client, server, state.clone()));
            }
        });
        Ok(Self { port, whole, server, task })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Breaks every connection, and every new one.
    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Passes new connections to another server.
    pub(crate) fn turn_to(&self, endpoint: &str) -> anyhow::Result<()> {
        self.server.send_replace(address(endpoint)?);
        Ok(())
    }

    /// Lets connections pass again.
    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}

fn address(endpoint: &str) -> anyhow::Result<String> {
    Ok(endpoint.strip_prefix("http://").context("an http:// endpoint")?.to_owned())
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: String, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow() {
        return;
    }
    let passing = async {
        // A broken connection is what this is for.
        if let Ok(mut server) = TcpStream::connect(server).await {
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    };
    tokio::select! {
        () = passing => {}
        _ = whole.wait_for(|whole| !whole) => {}
    }
}
