//! A TCP proxy that can be broken: what a bad network looks like to a client, without touching the server.
//!
//! In: the server's endpoint, `http://` or `https://`; what passes is not looked into. Out: an endpoint of its own. One thing
//! at a time is wrong with it, until it is mended.

use super::process::free_ports;
use anyhow::Context as _;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::sleep,
};

/// How much of a connection is taken at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A running proxy; gone when dropped.
pub(crate) struct Proxy {
    scheme: &'static str,
    port: u16,
    state: watch::Sender<State>,
    server: watch::Sender<String>,
    swallowed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

/// What becomes of what comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Passes,
    Cut,
    Stalled,
    AnswersSwallowed,
    Delayed(Duration),
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    mode: Mode,
    /// Connections so far; each has the number that came before it.
    connections: u64,
    /// Connections of lower numbers never pass anything again.
    forgotten: u64,
}

impl State {
    fn mode_of(self, connection: u64) -> Mode {
        if connection < self.forgotten && self.mode != Mode::Cut { Mode::Stalled } else { self.mode }
    }
}

impl Proxy {
    /// Starts one that passes everything to `endpoint`.
    pub(crate) async fn start(endpoint: &str) -> anyhow::Result<Self> {
        let (scheme, address) = taken_apart(endpoint)?;
        let (server, target) = watch::channel(address);
        let [port] = free_ports()?;
        let listener = TcpListener::bind(("127.0.0.1", port)).await.context("listening")?;
        let (state, _) = watch::channel(State::default());
        let swallowed = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn({
            let (state, swallowed) = (state.clone(), Arc::clone(&swallowed));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let connection = state.borrow().connections;
                    state.send_modify(|state| state.connections += 1);
                    let way = |to_client| Way {
                        connection,
                        to_client,
                        state: state.subscribe(),
                        swallowed: Arc::clone(&swallowed),
                    };
                    tokio::spawn(pass(client, target.clone(), [way(false), way(true)], state.subscribe()));
                }
            }
        });
        Ok(Self { scheme, port, state, server, swallowed, task })
    }

    /// `http://127.0.0.1:PORT`, or `https://…` where the server is one of that.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// Breaks every connection, and every new one.
    pub(crate) fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Lets nothing pass in either direction. Connections stay open, and new ones open; once mended, what was held passes.
    pub(crate) fn stall(&self) {
        self.set(Mode::Stalled);
    }

    /// Forgets the connections that are open, as a firewall does: nothing passes through them ever again, and nobody is told.
    /// New ones are not affected, and mending mends the new ones only.
    pub(crate) fn forget(&self) {
        self.state.send_modify(|state| state.forgotten = state.connections);
    }

    /// Passes what clients send and drops what servers answer. Once mended, a connection that lost something is broken.
    pub(crate) fn swallow_answers(&self) {
        self.set(Mode::AnswersSwallowed);
    }

    /// How many bytes of answers were swallowed so far.
    pub(crate) fn swallowed(&self) -> u64 {
        self.swallowed.load(Ordering::Relaxed)
    }

    /// Holds each chunk, in either direction, for this long before it passes.
    pub(crate) fn delay(&self, delay: Duration) {
        self.set(Mode::Delayed(delay));
    }

    /// Lets everything pass again.
    pub(crate) fn mend(&self) {
        self.set(Mode::Passes);
    }

    /// Passes new connections to another server.
    pub(crate) fn turn_to(&self, endpoint: &str) -> anyhow::Result<()> {
        self.server.send_replace(taken_apart(endpoint)?.1);
        Ok(())
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

fn taken_apart(endpoint: &str) -> anyhow::Result<(&'static str, String)> {
    let parts = ["http", "https"].into_iter().find_map(|scheme| {
        let address = endpoint.strip_prefix(scheme)?.strip_prefix("://")?;
        Some((scheme, address.trim_end_matches('/').to_owned()))
    });
    parts.with_context(|| format!("{endpoint} begins with neither http:// nor https://"))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    client: TcpStream,
    target: watch::Receiver<String>,
    [up, down]: [Way; 2],
    mut state: watch::Receiver<State>,
) {
    if state.borrow().mode == Mode::Cut {
        return;
    }
    // Looked up after the above: whoever turns a cut proxy elsewhere must not find a connection to where it led before.
    let server = target.borrow().clone();
    let passing = async {
        // A broken connection is what this is for.
        if let Ok(server) = TcpStream::connect(server).await {
            let ((client_says, client_hears), (server_says, server_hears)) = (client.into_split(), server.into_split());
            let _ = tokio::try_join!(up.pass(client_says, server_hears), down.pass(server_says, client_hears));
        }
    };
    tokio::select! {
        () = passing => {}
        _ = state.wait_for(|state| state.mode == Mode::Cut) => {}
    }
}

/// One direction of one connection.
struct Way {
    connection: u64,
    to_client: bool,
    state: watch::Receiver<State>,
    swallowed: Arc<AtomicU64>,
}

impl Way {
    /// Until the one side ends; an error breaks the other direction, too.
    async fn pass(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut lost = false;
        loop {
            let read = tokio::select! {
                read = from.read(&mut chunk) => read?,
                _ = self.state.wait_for(|state| state.mode != Mode::AnswersSwallowed), if lost => {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
            };
            if !self.passes().await {
                if read == 0 {
                    return Ok(());
                }
                lost = true;
                self.swallowed.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
            } else if lost {
                return Err(io::ErrorKind::ConnectionAborted.into());
            } else if read == 0 {
                return to.shutdown().await;
            } else {
                to.write_all(chunk.get(..read).unwrap_or_default()).await?;
            }
        }
    }

    /// Whether what has come in passes, once that is decided.
    async fn passes(&mut self) -> bool {
        loop {
            let mode = self.state.borrow_and_update().mode_of(self.connection);
            match mode {
                Mode::Passes | Mode::Cut => return true,
                Mode::AnswersSwallowed => return !self.to_client,
                Mode::Delayed(delay) => {
                    sleep(delay).await;
                    return true;
                }
                Mode::Stalled => {
                    // An error means that the proxy is gone.
                    if self.state.changed().await.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}
