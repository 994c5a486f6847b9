//! The proxy that tests break networks with breaks them as it says.

mod support;

use anyhow::{Context as _, ensure};
use std::time::Duration;
use support::{
    proxy::Proxy,
    wait::{PATIENCE, wait_until},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

/// A server that answers each byte with the next one, and tells which came.
struct Server {
    proxy: Proxy,
    heard: mpsc::UnboundedReceiver<u8>,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let (tell, heard) = mpsc::unbounded_channel();
        Ok(Self { proxy: Proxy::start(&format!("http://127.0.0.1:{}", listen(tell).await?)).await?, heard })
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        let endpoint = self.proxy.endpoint();
        Ok(TcpStream::connect(endpoint.strip_prefix("http://").context("an http:// endpoint")?).await?)
    }

    async fn hears(&mut self, byte: u8) -> anyhow::Result<()> {
        let heard = timeout(PATIENCE, self.heard.recv()).await.with_context(|| format!("{byte} was never heard"))?;
        ensure!(heard == Some(byte), "{heard:?} was heard, and not {byte}");
        Ok(())
    }
}

async fn listen(tell: mpsc::UnboundedSender<u8>) -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Ok(byte) = client.read_u8().await {
                    if tell.send(byte).is_err() || client.write_u8(byte.wrapping_add(1)).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(port)
}

async fn answer(client: &mut TcpStream) -> anyhow::Result<u8> {
    Ok(timeout(PATIENCE, client.read_u8()).await.context("no answer came")??)
}

/// The client hears that its connection is gone.
async fn is_broken(client: &mut TcpStream) -> anyhow::Result<()> {
    let heard = timeout(PATIENCE, client.read_u8()).await.context("the connection is still there")?;
    ensure!(heard.is_err(), "{heard:?} came");
    Ok(())
}

#[tokio::test]
async fn a_cut_breaks_every_connection_and_a_mended_proxy_takes_new_ones() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut client = server.connect().await?;
    client.write_u8(1).await?;
    assert_eq!(answer(&mut client).await?, 2);
    server.hears(1).await?;
    server.proxy.cut();
    is_broken(&mut client).await?;
    is_broken(&mut server.connect().await?).await?;
    let (tell, mut heard) = mpsc::unbounded_channel();
    server.proxy.turn_to(&format!("http://127.0.0.1:{}", listen(tell).await?))?;
    server.proxy.mend();
    let mut client = server.connect().await?;
    client.write_u8(3).await?;
    assert_eq!((answer(&mut client).await?, heard.recv().await), (4, Some(3)));
    Ok(())
}

#[tokio::test]
async fn what_a_stalled_proxy_holds_passes_once_it_is_mended() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut early = server.connect().await?;
    early.write_u8(1).await?;
    assert_eq!(answer(&mut early).await?, 2);
    server.hears(1).await?;
    server.proxy.stall();
    let mut late = server.connect().await?;
    early.write_u8(3).await?;
    late.write_u8(3).await?;
    ensure!(timeout(Duration::from_millis(50), server.hears(3)).await.is_err(), "it passed");
    server.proxy.mend();
    assert_eq!((answer(&mut early).await?, answer(&mut late).await?), (4, 4));
    Ok(())
}

#[tokio::test]
async fn a_forgotten_connection_passes_nothing_any_more_and_others_do() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut early = server.connect().await?;
    early.write_u8(1).await?;
    assert_eq!(answer(&mut early).await?, 2);
    server.hears(1).await?;
    server.proxy.forget();
    server.proxy.mend();
    early.write_u8(3).await?;
    let mut late = server.connect().await?;
    late.write_u8(5).await?;
    assert_eq!(answer(&mut late).await?, 6);
    server.hears(5).await?;
    server.proxy.cut();
    is_broken(&mut early).await
}

#[tokio::test]
async fn swallowed_answers_are_of_requests_that_the_server_heard() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let mut client = server.connect().await?;
    client.write_u8(1).await?;
    assert_eq!(answer(&mut client).await?, 2);
    server.hears(1).await?;
    server.proxy.swallow_answers();
    client.write_u8(3).await?;
    server.hears(3).await?;
    wait_until("the answer to be swallowed", PATIENCE, async || {
        ensure!(server.proxy.swallowed() == 1, "{} bytes", server.proxy.swallowed());
        Ok(())
    })
    .await?;
    server.proxy.mend();
    // What is lost cannot come later.
    is_broken(&mut client).await?;
    wait_until("a new connection to pass", PATIENCE, async || {
        let mut client = server.connect().await?;
        client.write_u8(5).await?;
        ensure!(answer(&mut client).await? == 6);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_delay_holds_every_chunk_for_as_long() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut client = server.connect().await?;
    server.proxy.delay(Duration::from_millis(300));
    client.write_u8(1).await?;
    // There and back.
    ensure!(timeout(Duration::from_millis(50), client.read_u8()).await.is_err(), "it came too early");
    assert_eq!(answer(&mut client).await?, 2);
    Ok(())
}
