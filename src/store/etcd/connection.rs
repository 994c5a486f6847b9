//! The link to etcd: makes clients, shows etcd who we are, and follows the files that say so.
//!
//! Settings go in; every request goes through [`Connection::send`]. What it never does: send a request a second time that
//! etcd may have applied.
//!
//! **Tokens.** A user's token is asked for before the first request, before each watch, and when etcd says that the one shown
//! is stale; the request is then sent once more. Every such answer comes before etcd looks at the request, or in the place of
//! applying it. The password is read anew each time.
//!
//! **TLS files** are compared by content, at a request, when the last look was [`LOOK_EVERY`] ago or the transport has failed
//! since. Being told of changes would not help: a Secret's volume changes by swapping symbolic links, and nothing needs
//! the new files before the next request does. A changed file makes a new client; requests and watches that run end on
//! the old one. Files that cannot be used are logged, and the old client stays.

use super::{
    ConnectError, EtcdSettings,
    files::{self, FileError, Print, TlsContents},
};
use crate::{
    clock,
    model::link::{Login, TlsFiles},
};
use etcd_client::{Client, ConnectOptions, Error, KvClient, LeaseClient, TlsOptions, WatchClient};
use parking_lot::Mutex;
use std::{
    error::Error as _,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How old what is known of the TLS files may be. Reading three small files costs a fraction of a millisecond, so it need not
/// be long; a rotation leaves old and new files valid together for far longer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A link to one etcd cluster. Clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    settings: EtcdSettings,
    live: Mutex<Arc<Live>>,
    watchfulness: Mutex<Watchfulness>,
}

/// What is known of the TLS files.
struct Watchfulness {
    look_at: Instant,
    /// What was said of them last, so that it is said once.
    said: Option<String>,
}

/// The clients of one connection. Each clone keeps the connection.
#[derive(Clone)]
pub(super) struct Clients {
    /// For keys.
    pub(super) kv: KvClient,
    /// For watches.
    pub(super) watch: WatchClient,
    /// For leases.
    pub(super) lease: LeaseClient,
}

/// One connection (to each endpoint) and the token in use on it.
struct Live {
    client: Client,
    clients: Clients,
    login: Option<Login>,
    print: Option<Print>,
    /// How many tokens there have been; the newest is in use.
    n_tokens: AtomicU64,
    /// Whoever asks for a token. Held while etcd is asked, so that all who found the same token stale ask once.
    asking: tokio::sync::Mutex<()>,
}

/// Which token a request begins with.
#[derive(Clone, Copy)]
enum Token {
    /// The one there is, if there is one.
    Held,
    /// One that was asked for after the request was made.
    New,
}

impl Connection {
    /// Reads the files and makes a client. etcd is not asked for anything yet: one that is down is no error here.
    pub(super) async fn new(settings: &EtcdSettings) -> Result<Self, ConnectError> {
        let tls = match &settings.tls {
            Some(files) => Some(read(files).await?),
            None => None,
        };
        if let Some(login) = &settings.login {
            files::password(&login.password).await?;
        }
        let live = Live::new(settings, tls).await?;
        let watchfulness = Watchfulness { look_at: clock::now() + LOOK_EVERY, said: None };
        let shared = Shared {
            settings: settings.clone(),
            live: Mutex::new(Arc::new(live)),
            watchfulness: Mutex::new(watchfulness),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends a request, with a token if there is a login, and once more if etcd says that the token is stale. Dropping it
    /// half-way leaves it unknown whether the last one sent was applied.
    ///
    /// An [`Error::GRpcStatus`] is what etcd answered; whatever the transport said comes as another variant.
    pub(super) async fn send<T, R>(&self, request: impl Fn(Clients) -> R) -> Result<T, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let sent = self.live().await.send(Token::Held, request).await;
        self.noted(sent)
    }

    /// [`Connection::send`] with a new token from the beginning: for watches. etcd looks at a token when a watch begins, and
    /// old ones (3.4) then say "permission denied" of a stale one too, inside the watch, where nothing is sent again.
    pub(super) async fn begin<T, R>(&self, request: impl Fn(Clients) -> R) -> Result<T, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let sent = self.live().await.send(Token::New, request).await;
        self.noted(sent)
    }

    /// After the transport has failed, the next request looks at the files first: perhaps they are why.
    fn noted<T>(&self, sent: Result<T, Error>) -> Result<T, Error> {
        sent.map_err(|error| {
            let error = spelled_out(error);
            if !matches!(error, Error::GRpcStatus(_)) {
                self.shared.watchfulness.lock().look_at = clock::now();
            }
            error
        })
    }

    /// The connection to use, made anew if the files have changed.
    async fn live(&self) -> Arc<Live> {
        if let Some(files) = &self.shared.settings.tls
            && self.shared.may_look()
        {
            self.shared.look(files).await;
        }
        Arc::clone(&self.shared.live.lock())
    }
}

impl Shared {
    /// True for one request every [`LOOK_EVERY`]; the others go on with what there is.
    fn may_look(&self) -> bool {
        let mut watchfulness = self.watchfulness.lock();
        let now = clock::now();
        let due = now >= watchfulness.look_at;
        if due {
            watchfulness.look_at = now + LOOK_EVERY;
        }
        due
    }

    /// Dropping it half-way changes nothing; the next look finds the same.
    async fn look(&self, files: &TlsFiles) {
        match self.renewed(files).await {
            Ok(None) => self.watchfulness.lock().said = None,
            Ok(Some(live)) => {
                self.watchfulness.lock().said = None;
                *self.live.lock() = Arc::new(live);
                tracing::info!("the TLS files for etcd have changed; connecting anew");
            }
            Err(error) => {
                let said = Some(error.to_string());
                let mut watchfulness = self.watchfulness.lock();
                if watchfulness.said != said {
                    tracing::warn!(%error, "the TLS files for etcd cannot be used; going on with the older ones");
                    watchfulness.said = said;
                }
            }
        }
    }

    async fn renewed(&self, files: &TlsFiles) -> Result<Option<Live>, ConnectError> {
        let contents = TlsContents::read(files).await?;
        let print = contents.print();
        if self.live.lock().print == Some(print) {
            return Ok(None);
        }
        let options = contents.options(files)?;
        Live::new(&self.settings, Some((options, print))).await.map(Some)
    }
}

async fn read(files: &TlsFiles) -> Result<(TlsOptions, Print), FileError> {
    let contents = TlsContents::read(files).await?;
    Ok((contents.options(files)?, contents.print()))
}

impl Live {
    async fn new(settings: &EtcdSettings, tls: Option<(TlsOptions, Print)>) -> Result<Self, ConnectError> {
        let options = ConnectOptions::new()
            // A peer that vanished without a word is found after 15 s. etcd refuses pings more often than every 5 s, and
            // while nothing is running.
            .with_keep_alive(Duration::from_secs(10), Duration::from_secs(5))
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(settings.request_timeout)
            // A watch on a member that lost its cluster ends instead of falling silent.
            .with_require_leader(true);
        let (options, print) = match tls {
            Some((tls, print)) => (options.with_tls(tls), Some(print)),
            None => (options, None),
        };
        let client = Client::connect(&settings.endpoints, Some(options)).await.map_err(|source| {
            ConnectError::Endpoints { endpoints: settings.endpoints.join(","), source: source.into() }
        })?;
        let clients = Clients {
            // tonic's default of 4 MiB is less than what one transaction's reads or one watch response may come to.
            kv: client.kv_client().max_decoding_message_size(usize::MAX),
            watch: client.watch_client().max_decoding_message_size(usize::MAX),
            lease: client.lease_client(),
        };
        let login = settings.login.clone();
        Ok(Self { client, clients, login, print, n_tokens: AtomicU64::new(0), asking: tokio::sync::Mutex::default() })
    }

    async fn send<T, R>(&self, token: Token, request: impl Fn(Clients) -> R) -> Result<T, Error>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let Some(login) = &self.login else { return request(self.clients.clone()).await };
        let held = self.n_tokens.load(Ordering::Acquire);
        let held = match token {
            Token::Held if held > 0 => held,
            Token::Held | Token::New => self.renew(login, held).await?,
        };
        match request(self.clients.clone()).await {
            Err(error) if is_token_stale(&error) => {
                tracing::debug!(%error, "etcd wants another token");
                self.renew(login, held).await?;
                request(self.clients.clone()).await
            }
            answer => answer,
        }
    }

    /// Asks for a token, unless there is another than the `stale` one already; the number of the newest.
    async fn renew(&self, login: &Login, stale: u64) -> Result<u64, Error> {
        // SUBTLE: held across an await on purpose. Whoever waits here wants what the holder is about to get.
        let _asking = self.asking.lock().await;
        let held = self.n_tokens.load(Ordering::Acquire);
        if held != stale {
            return Ok(held);
        }
        let password =
            files::password(&login.password).await.map_err(|error| Error::IoError(std::io::Error::other(error)))?;
        // Clones of a client share their token.
        let mut client = self.client.clone();
        match client.update_user(Some((login.user.to_string(), password))).await {
            // An etcd that asks nobody who they are needs no token. When it begins to ask, it will say so.
            Err(error) if is_authentication_off(&error) => client.update_user(None).await?,
            answer => answer?,
        }
        Ok(self.n_tokens.fetch_add(1, Ordering::AcqRel) + 1)
    }
}

const UNAUTHENTICATED: i32 = 16;

/// How etcd says that it wants another token: expired or forgotten; older than the last change of users and roles, as
/// `rpctypes` and as `auth` say it; none shown.
const STALE: [&str; 4] =
    ["invalid auth token", "revision of auth store is old", "revision in header is old", "user name is empty"];

/// Whether etcd wants another token, and has not applied the request.
pub(super) fn is_token_stale(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    i32::from(status.code()) == UNAUTHENTICATED || STALE.iter().any(|words| status.message().contains(words))
}

/// `ErrAuthNotEnabled` in etcd's `rpctypes`.
fn is_authentication_off(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.message().contains("authentication is not enabled"))
}

/// A status that the transport made of its own troubles, with the whole chain of reasons in words: the client's own error
/// keeps it to itself. What etcd said stays as it is.
fn spelled_out(error: Error) -> Error {
    let Error::GRpcStatus(status) = &error else { return error };
    let Some(mut source) = status.source() else { return error };
    let mut text = status.message().to_owned();
    loop {
        let said = source.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        match source.source() {
            Some(cause) => source = cause,
            None => return Error::EndpointError(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use std::path::Path;

    /// Puts a certificate that nothing else has into `path`.
    fn put_certificate(path: &Path) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["etcd".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(path, certificate.pem()).unwrap();
    }

    async fn connection(ca: &Path) -> Connection {
        let tls = Some(TlsFiles { ca: ca.to_owned(), identity: None, server_name: None });
        Connection::new(&EtcdSettings { tls, ..EtcdSettings::at("https://127.0.0.1:1") }).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn changed_files_make_a_new_client_at_the_next_look_and_unusable_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        put_certificate(&ca);
        let connection = connection(&ca).await;
        let first = connection.live().await;

        put_certificate(&ca);
        assert!(Arc::ptr_eq(&connection.live().await, &first));
        tokio::time::advance(LOOK_EVERY).await;
        let second = connection.live().await;
        assert!(!Arc::ptr_eq(&second, &first));

        for unusable in [Some("hello"), None] {
            match unusable {
                Some(text) => std::fs::write(&ca, text).unwrap(),
                None => std::fs::remove_file(&ca).unwrap(),
            }
            tokio::time::advance(LOOK_EVERY).await;
            assert!(Arc::ptr_eq(&connection.live().await, &second));
            assert!(connection.shared.watchfulness.lock().said.is_some());
        }

        put_certificate(&ca);
        tokio::time::advance(LOOK_EVERY).await;
        assert!(!Arc::ptr_eq(&connection.live().await, &second));
        assert!(connection.shared.watchfulness.lock().said.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_stay_as_they_are_make_no_new_client() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        put_certificate(&ca);
        let connection = connection(&ca).await;
        let first = connection.live().await;
        std::fs::write(&ca, std::fs::read(&ca).unwrap()).unwrap();
        tokio::time::advance(LOOK_EVERY).await;
        assert!(Arc::ptr_eq(&connection.live().await, &first));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_of_the_transport_the_next_request_looks_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        put_certificate(&ca);
        let connection = connection(&ca).await;
        let first = connection.live().await;
        put_certificate(&ca);
        // Nobody listens there.
        let failed = connection.send(|mut clients| async move { clients.kv.get("a", None).await }).await;
        assert!(!matches!(failed.unwrap_err(), Error::GRpcStatus(_)));
        assert!(!Arc::ptr_eq(&connection.live().await, &first));
    }
}
