//! The link to etcd on real servers: TLS, client certificates, users, tokens that end, files that change, and the roles that
//! `deploy/etcd/roles.sh` makes.

mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::{
    model::link::{IdentityFiles, Login, Password, Secret, TlsFiles},
    store::{
        Content, PagePlace, Scope, Store as _, Watch as _,
        etcd::{EtcdSettings, EtcdStore, EtcdWatch},
        lease::{Claim, LeaseId, Leases as _},
        txn::{Action, Commit, Fence, Revision, Txn, Write},
    },
};
use std::{error::Error, sync::Arc, time::Duration};
use support::{
    binaries::Binary,
    certificates::{Authority, Files},
    etcd::{Etcd, Setup, TlsSetup},
    wait::{PATIENCE, wait_until},
};

const BOTH: [Binary; 2] = [Binary::Etcd, Binary::Etcd36];

const PREFIX: &str = "/apisix";
const LEADER: &str = "/gateway-api-etcd/default/leader";
const LOCALHOST: &str = "127.0.0.1";
const PASSWORD: &str = "correct horse:battery staple";

/// An error and all its reasons.
fn spelled_out(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A store with a user.
fn settings_as(etcd: &Etcd, user: &str, password: Password) -> EtcdSettings {
    let login = Login { user: user.into(), password };
    EtcdSettings { login: Some(login), ..EtcdSettings::at(etcd.endpoint()) }
}

async fn store_as(etcd: &Etcd, user: &str, password: &str) -> anyhow::Result<EtcdStore> {
    Ok(EtcdStore::connect(&settings_as(etcd, user, Password::Text(Secret::new(password)))).await?)
}

/// One who leads, over one store.
struct Leader {
    store: EtcdStore,
    lease: LeaseId,
    fence: Fence,
}

impl Leader {
    async fn of(store: &EtcdStore) -> anyhow::Result<Self> {
        let lease = store.grant(Duration::from_mins(5)).await?;
        let claim = store.claim(LEADER, b"us", lease).await?;
        let Claim::Won(created) = claim else { anyhow::bail!("not won: {claim:?}") };
        Ok(Self { store: store.clone(), lease, fence: Fence { key: LEADER.into(), created } })
    }

    /// Puts a key, whatever it was before.
    async fn put(&self, key: &str) -> anyhow::Result<Revision> {
        let mut expected = Revision::ABSENT;
        loop {
            let write = Write { key: key.into(), expected, action: Action::Put(b"{}".as_slice().into()) };
            let txn = Txn { fence: self.fence.clone(), conditions: Vec::new(), writes: vec![write] };
            match self.store.commit(txn).await.map_err(|error| anyhow::anyhow!("{}", spelled_out(&error)))? {
                Commit::Applied(revision) => return Ok(revision),
                Commit::Conflicted { current, .. } => {
                    expected = current.first().context("a key is read back")?.revision();
                }
                Commit::Fenced => anyhow::bail!("fenced"),
            }
        }
    }

    /// Everything the controller does with etcd: transactions, pages, watches, leases.
    async fn works(&self) -> anyhow::Result<()> {
        let key = "/apisix/stream_routes/gateway-api.9100";
        let revision = self.put(key).await?;
        let scope = Scope::Below(PREFIX.into());
        let page = self.store.page(&scope, Content::Values, PagePlace::First).await?;
        ensure!(page.entries.iter().any(|entry| entry.key == key.as_bytes()), "{page:?}");
        let mut watch = self.store.watch(&scope, revision).await?;
        told(&mut watch, revision).await?;
        self.store.renew(self.lease).await?;
        let other = self.store.grant(Duration::from_mins(1)).await?;
        self.store.revoke(other).await?;
        Ok(())
    }

    async fn resigns(self) -> anyhow::Result<()> {
        Ok(self.store.revoke(self.lease).await?)
    }
}

/// Waits until `watch` has told of `revision`.
async fn told(watch: &mut EtcdWatch, revision: Revision) -> anyhow::Result<()> {
    let telling = async {
        while watch.next().await?.revision < revision {}
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, telling).await.context("waiting for a watch")?
}

/// Everything, over a store of its own.
async fn works(settings: &EtcdSettings) -> anyhow::Result<()> {
    let store = EtcdStore::connect(settings).await?;
    let leader = Leader::of(&store).await?;
    leader.works().await?;
    leader.resigns().await
}

/// What a store says that cannot work.
async fn refusal(settings: &EtcdSettings) -> anyhow::Result<String> {
    let store = EtcdStore::connect(settings).await?;
    let page = store.page(&Scope::Below(PREFIX.into()), Content::Values, PagePlace::First).await;
    Ok(spelled_out(&page.err().context("this should not work")?))
}

/// A folder with all that an etcd with TLS and its clients need, and the authority that signed it:
///
/// - `ca.crt`: whom clients trust, and `clients-ca.crt`: whom etcd trusts,
/// - `server.crt`: what etcd shows; it reads this anew for every connection,
/// - `client.crt`: what the store shows, and `root.crt`: what the tests' own client shows.
fn certificates() -> anyhow::Result<(Files, Authority)> {
    let (files, authority) = (Files::new()?, Authority::new("first")?);
    files.put("ca.crt", authority.pem())?;
    files.put("clients-ca.crt", authority.pem())?;
    files.put_pair("server", &authority.server(&[LOCALHOST])?)?;
    files.put_pair("client", &authority.client("client")?)?;
    files.put_pair("root", &authority.client("root")?)?;
    Ok((files, authority))
}

/// An etcd on these files that wants to see clients' certificates, or does not.
async fn etcd_with_tls(binary: Binary, files: &Files, mutual: bool) -> anyhow::Result<Etcd> {
    let tls = TlsSetup {
        certificate: files.path("server.crt"),
        key: files.path("server.key"),
        client_ca: mutual.then(|| files.path("clients-ca.crt")),
        ca: files.path("ca.crt"),
        identity: mutual.then(|| (files.path("root.crt"), files.path("root.key"))),
    };
    Etcd::start_as(binary, &Setup { tls: Some(tls), arguments: Vec::new() }).await
}

fn settings_with_tls(etcd: &Etcd, files: &Files, mutual: bool) -> EtcdSettings {
    let identity =
        mutual.then(|| IdentityFiles { certificate: files.path("client.crt"), key: files.path("client.key") });
    let tls = TlsFiles { ca: files.path("ca.crt"), identity, server_name: None };
    EtcdSettings { tls: Some(tls), ..EtcdSettings::at(etcd.endpoint()) }
}

#[tokio::test]
async fn everything_works_over_tls() -> anyhow::Result<()> {
    for binary in BOTH {
        let (files, _) = certificates()?;
        let etcd = etcd_with_tls(binary, &files, false).await?;
        works(&settings_with_tls(&etcd, &files, false)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn everything_works_with_a_client_certificate_and_nothing_without() -> anyhow::Result<()> {
    for binary in BOTH {
        let (files, _) = certificates()?;
        let etcd = etcd_with_tls(binary, &files, true).await?;
        works(&settings_with_tls(&etcd, &files, true)).await?;
        // In TLS 1.3 the refusal may come when the connection is already in use, so only etcd says why for sure.
        refusal(&settings_with_tls(&etcd, &files, false)).await?;
        ensure!(etcd.process().log().contains("tls: client didn't provide a certificate"));
    }
    Ok(())
}

#[tokio::test]
async fn an_etcd_that_nobody_vouches_for_is_refused_and_the_error_says_so() -> anyhow::Result<()> {
    let (files, _) = certificates()?;
    let etcd = etcd_with_tls(Binary::Etcd36, &files, false).await?;
    let mut settings = settings_with_tls(&etcd, &files, false);
    let ca = files.put("other.crt", Authority::new("other")?.pem())?;
    settings.tls = Some(TlsFiles { ca, identity: None, server_name: None });
    let said = refusal(&settings).await?;
    ensure!(said.contains("invalid peer certificate: UnknownIssuer"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_name_in_etcds_certificate_counts_and_can_be_set() -> anyhow::Result<()> {
    let (files, authority) = certificates()?;
    let etcd = etcd_with_tls(Binary::Etcd36, &files, false).await?;
    // etcd reads it for every connection.
    files.put_pair("server", &authority.server(&["etcd.example"])?)?;
    let mut settings = settings_with_tls(&etcd, &files, false);
    let said = refusal(&settings).await?;
    ensure!(said.contains("not valid for name"), "{said}");
    if let Some(tls) = &mut settings.tls {
        tls.server_name = Some("etcd.example".into());
    }
    works(&settings).await
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_an_error_that_names_it() -> anyhow::Result<()> {
    let (files, _) = certificates()?;
    let tls = |name: &str| TlsFiles { ca: files.path(name), identity: None, server_name: None };
    let settings = EtcdSettings { tls: Some(tls("nowhere.crt")), ..EtcdSettings::at("https://127.0.0.1:1") };
    let error = EtcdStore::connect(&settings).await.err().context("a missing file is an error")?;
    ensure!(error.to_string().contains("nowhere.crt"), "{error}");
    files.put("broken.crt", "hello")?;
    let settings = EtcdSettings { tls: Some(tls("broken.crt")), ..settings };
    let error = EtcdStore::connect(&settings).await.err().context("a broken file is an error")?;
    ensure!(error.to_string().contains("broken.crt"), "{error}");
    let login = Login { user: "us".into(), password: Password::File(files.path("password")) };
    let settings = EtcdSettings { login: Some(login), ..EtcdSettings::at("http://127.0.0.1:1") };
    let error = EtcdStore::connect(&settings).await.err().context("a missing password is an error")?;
    ensure!(error.to_string().contains("password"), "{error}");
    Ok(())
}

#[test]
fn the_password_of_the_environment_needs_a_user_and_is_never_shown() -> anyhow::Result<()> {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
        command.env("APISIX_ETCD_CONTROLLER_ETCD_PASSWORD", "hunter2").arg("run").args(arguments);
        let output = command.output().context("running the controller")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(!said.contains("hunter2"), "{said}");
        anyhow::Ok(said)
    };
    ensure!(run(&["--help"])?.contains("APISIX_ETCD_CONTROLLER_ETCD_PASSWORD"));
    ensure!(run(&["--etcd-endpoints", "http://e:1"])?.contains("given without a user: name the user with --etcd-user"));
    let both = ["--etcd-endpoints", "http://e:1", "--etcd-user", "us", "--etcd-password-file", "p"];
    ensure!(run(&both)?.contains("leave one of them out"));
    Ok(())
}

/// An etcd that asks who one is, with a user `us` who may do anything.
async fn etcd_with_users(binary: Binary, arguments: &[String]) -> anyhow::Result<Etcd> {
    // Passwords are checked a thousand times faster than they should be.
    let arguments = [&["--bcrypt-cost=4".to_owned()], arguments].concat();
    let etcd = Etcd::start_as(binary, &Setup { tls: None, arguments }).await?;
    let mut client = etcd.client().await?;
    client.user_add("us", PASSWORD, None).await?;
    client.role_add("all").await?;
    client.role_grant_permission("all", etcd_client::Permission::read_write("").with_all_keys()).await?;
    client.user_grant_role("us", "all").await?;
    etcd.turn_authentication_on("root's own").await?;
    Ok(etcd)
}

/// Flags for tokens that carry what they are worth: they end by the clock, and with every change of a user or role.
fn signed_tokens(files: &Files, seconds: u64) -> anyhow::Result<Vec<String>> {
    let secret = files.put("tokens.secret", "nobody knows")?;
    Ok(vec![format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl={seconds}s", secret.display())])
}

#[tokio::test]
async fn everything_works_with_a_user_and_nothing_without() -> anyhow::Result<()> {
    for binary in BOTH {
        let etcd = etcd_with_users(binary, &[]).await?;
        works(&settings_as(&etcd, "us", Password::Text(Secret::new(PASSWORD)))).await?;
        let said = refusal(&EtcdSettings::at(etcd.endpoint())).await?;
        ensure!(said.contains("user name is empty"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn no_error_and_no_debug_text_shows_a_password() -> anyhow::Result<()> {
    let etcd = etcd_with_users(Binary::Etcd36, &[]).await?;
    let settings = settings_as(&etcd, "us", Password::Text(Secret::new("hunter2")));
    let said = refusal(&settings).await?;
    ensure!(said.contains("authentication failed"), "{said}");
    let store = EtcdStore::connect(&settings).await?;
    let page = store.page(&Scope::Below(PREFIX.into()), Content::Values, PagePlace::First).await;
    let commit = Leader { store, lease: LeaseId(0), fence: Fence { key: LEADER.into(), created: Revision(1) } };
    let commit = commit.put("/apisix/upstreams/a").await;
    let everything = format!("{said} {settings:?} {settings:#?} {page:?} {commit:?}");
    ensure!(!everything.contains("hunter2"), "{everything}");
    Ok(())
}

#[tokio::test]
async fn work_goes_on_when_a_token_expires() -> anyhow::Result<()> {
    for binary in BOTH {
        let files = Files::new()?;
        let etcd = etcd_with_users(binary, &signed_tokens(&files, 3)?).await?;
        let store = store_as(&etcd, "us", PASSWORD).await?;
        let leader = Leader::of(&store).await?;
        let scope = Scope::Below(PREFIX.into());
        let mut watch = store.watch(&scope, Revision(1)).await?;
        // A token like the store's, a moment younger, that nobody renews.
        let options = etcd_client::ConnectOptions::new().with_user("us", PASSWORD);
        let mut witness = etcd_client::Client::connect([etcd.endpoint()], Some(options)).await?;
        wait_until("a token to expire", PATIENCE, async || match witness.get("a", None).await {
            Ok(_) => anyhow::bail!("it is good"),
            Err(error) if error.to_string().contains("invalid auth token") => Ok(()),
            Err(error) => Err(error.into()),
        })
        .await?;
        // Each of these alone finds an old token; the watch from before finds what is written.
        let revision = leader.put("/apisix/upstreams/a").await?;
        told(&mut watch, revision).await?;
        leader.works().await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_request_renews_a_token_that_a_change_of_users_has_ended() -> anyhow::Result<()> {
    for binary in BOTH {
        let files = Files::new()?;
        let etcd = etcd_with_users(binary, &signed_tokens(&files, 600)?).await?;
        let store = store_as(&etcd, "us", PASSWORD).await?;
        let leader = Leader::of(&store).await?;
        let scope = Scope::Below(PREFIX.into());
        let mut root = etcd.client().await?;
        let mut n = 0;
        // Every token from before is too old after this.
        let mut change = async || {
            n += 1;
            // Its own token is too old each time, too.
            root.refresh_token().await?;
            root.role_add(format!("more-{n}")).await.map(drop).context("adding a role")
        };
        change().await?;
        let revision = leader.put("/apisix/upstreams/a").await?;
        change().await?;
        store.page(&scope, Content::KeysOnly, PagePlace::First).await?;
        change().await?;
        let mut watch = store.watch(&scope, revision).await?;
        told(&mut watch, revision).await?;
        change().await?;
        let lease = store.grant(Duration::from_mins(1)).await?;
        change().await?;
        store.renew(lease).await?;
        change().await?;
        let claim = store.claim("/gateway-api-etcd/default/other", b"us", lease).await?;
        ensure!(matches!(claim, Claim::Won(_)), "{claim:?}");
        change().await?;
        store.revoke(lease).await?;
        change().await?;
        // Many at once, all with the same old token.
        let leader = Arc::new(leader);
        let mut writers = tokio::task::JoinSet::new();
        for n in 0..16 {
            let leader = Arc::clone(&leader);
            writers.spawn(async move { leader.put(&format!("/apisix/upstreams/{n}")).await });
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
    }
    Ok(())
}

#[tokio::test]
async fn work_goes_on_when_etcd_forgets_a_token() -> anyhow::Result<()> {
    // How it says that it forgets one, it says to those who debug only.
    let arguments = ["--auth-token-ttl=1".to_owned(), "--log-level=debug".to_owned()];
    let etcd = etcd_with_users(Binary::Etcd36, &arguments).await?;
    let store = store_as(&etcd, "us", PASSWORD).await?;
    let leader = Leader::of(&store).await?;
    wait_until("etcd to forget a token", PATIENCE, async || {
        ensure!(etcd.process().log().contains("deleted a simple token"), "not yet");
        Ok(())
    })
    .await?;
    leader.works().await
}

#[tokio::test]
async fn a_password_that_was_changed_in_its_file_and_in_etcd_is_used() -> anyhow::Result<()> {
    for binary in BOTH {
        let files = Files::new()?;
        let etcd = etcd_with_users(binary, &[]).await?;
        let path = files.put("password", &format!("{PASSWORD}\n"))?;
        let store = EtcdStore::connect(&settings_as(&etcd, "us", Password::File(path))).await?;
        let leader = Leader::of(&store).await?;
        files.put("password", "another\n")?;
        // This ends the user's tokens.
        etcd.client().await?.user_change_password("us", "another").await?;
        leader.works().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_user_of_an_etcd_that_asks_nobody_is_let_in_and_is_known_when_it_begins_to_ask() -> anyhow::Result<()> {
    for binary in BOTH {
        let etcd = Etcd::start_as(binary, &Setup { tls: None, arguments: vec!["--bcrypt-cost=4".to_owned()] }).await?;
        let mut client = etcd.client().await?;
        client.user_add("us", PASSWORD, None).await?;
        let store = store_as(&etcd, "us", PASSWORD).await?;
        let leader = Leader::of(&store).await?;
        leader.works().await?;
        client.role_add("all").await?;
        client.role_grant_permission("all", etcd_client::Permission::read_write("").with_all_keys()).await?;
        client.user_grant_role("us", "all").await?;
        etcd.turn_authentication_on("root's own").await?;
        leader.works().await?;
    }
    Ok(())
}

#[tokio::test]
async fn new_certificates_are_used_when_the_old_ones_are_worth_nothing_any_more() -> anyhow::Result<()> {
    let (files, _) = certificates()?;
    let etcd = etcd_with_tls(Binary::Etcd, &files, true).await?;
    let leader = Leader::of(&EtcdStore::connect(&settings_with_tls(&etcd, &files, true)).await?).await?;
    leader.works().await?;
    let other = Authority::new("other")?;
    files.put("ca.crt", other.pem())?;
    files.put("clients-ca.crt", other.pem())?;
    for (name, pair) in
        [("server", other.server(&[LOCALHOST])?), ("client", other.client("client")?), ("root", other.client("root")?)]
    {
        files.put_pair(name, &pair)?;
    }
    etcd.stop().await?;
    let _etcd = etcd.start_again().await?;
    wait_until("everything to work", PATIENCE, async || leader.works().await).await
}

#[tokio::test]
async fn new_certificates_are_used_for_the_next_request_and_what_runs_is_left_alone() -> anyhow::Result<()> {
    let (files, authority) = certificates()?;
    files.put_pair("client", &authority.client("reader")?)?;
    let etcd = etcd_with_tls(Binary::Etcd36, &files, true).await?;
    let mut client = etcd.client().await?;
    let all = |kind: fn(Vec<u8>) -> etcd_client::Permission| kind(Vec::new()).with_all_keys();
    for (name, permission) in
        [("reader", all(etcd_client::Permission::read)), ("writer", all(etcd_client::Permission::read_write))]
    {
        client.user_add(name, "", Some(etcd_client::UserAddOptions::new().with_no_pwd())).await?;
        client.role_add(name).await?;
        client.role_grant_permission(name, permission).await?;
        client.user_grant_role(name, name).await?;
    }
    etcd.turn_authentication_on("root's own").await?;

    let store = EtcdStore::connect(&settings_with_tls(&etcd, &files, true)).await?;
    let mut watch = store.watch(&Scope::Below("/gateway-api-etcd".into()), Revision(1)).await?;
    let lease = store.grant(Duration::from_mins(5)).await?;
    let error = store.claim(LEADER, b"us", lease).await.err().context("a reader does not write")?;
    ensure!(spelled_out(&error).contains("permission denied"), "{error:?}");

    // Another authority for etcd's certificate, and another name of ours.
    let other = Authority::new("other")?;
    files.put_pair("client", &authority.client("writer")?)?;
    files.put_pair("server", &other.server(&[LOCALHOST])?)?;
    files.put("ca.crt", other.pem())?;
    let claim = wait_until("the store to be the writer", PATIENCE, async || {
        store.claim(LEADER, b"us", lease).await.map_err(|error| anyhow::anyhow!("{}", spelled_out(&error)))
    })
    .await?;
    let Claim::Won(revision) = claim else { anyhow::bail!("not won: {claim:?}") };
    told(&mut watch, revision).await
}

/// Runs `deploy/etcd/roles.sh`, and returns what it says.
async fn roles(etcd: &Etcd, files: &Files, more: &[&str]) -> anyhow::Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/etcd/roles.sh");
    let output = tokio::process::Command::new(script)
        .arg("--controller-password-file")
        .arg(files.path("controller"))
        .arg("--data-plane-password-file")
        .arg(files.path("data-plane"))
        .arg("--root-password-file")
        .arg(files.path("root"))
        .args(more)
        .env("ETCDCTL_ENDPOINTS", etcd.endpoint())
        .output()
        .await
        .context("running roles.sh")?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "roles.sh: {said}");
    Ok(said)
}

/// An etcd with the users that `roles.sh` makes, whose passwords are their names.
async fn etcd_with_roles(binary: Binary, more: &[&str]) -> anyhow::Result<(Files, Etcd)> {
    let files = Files::new()?;
    for name in ["controller", "data-plane", "root"] {
        files.put(name, &format!("{name}\n"))?;
    }
    let setup = Setup { tls: None, arguments: vec!["--bcrypt-cost=4".to_owned()] };
    let etcd = Box::pin(Etcd::start_as(binary, &setup)).await?;
    // What a role has from earlier is taken away.
    let mut client = etcd.client().await?;
    client.role_add("gateway-api").await?;
    client.role_grant_permission("gateway-api", etcd_client::Permission::read_write("/apisix/").with_prefix()).await?;
    client.role_grant_permission("gateway-api", etcd_client::Permission::read_write("/apisix/routes/1")).await?;
    Box::pin(roles(&etcd, &files, &[&["--enable-auth"], more].concat())).await?;
    etcd.log_in("root", "root");
    Ok((files, etcd))
}

async fn put_as(etcd: &Etcd, (user, password): (&str, &str), key: &str) -> anyhow::Result<()> {
    let mut client = etcd.client_as(Some((user.to_owned(), password.to_owned()))).await?;
    client.put(key, "{}", None).await?;
    Ok(())
}

async fn read_as(etcd: &Etcd, (user, password): (&str, &str), from: &str, end: &str) -> anyhow::Result<usize> {
    let mut client = etcd.client_as(Some((user.to_owned(), password.to_owned()))).await?;
    let got = client.get(from, Some(etcd_client::GetOptions::new().with_range(end))).await?;
    Ok(got.kvs().len())
}

fn denied<T>(result: anyhow::Result<T>) -> anyhow::Result<()> {
    let said = format!("{:#}", result.err().context("this is not theirs to do")?);
    ensure!(said.contains("permission denied"), "{said}");
    Ok(())
}

#[tokio::test]
async fn the_controllers_role_is_enough_for_all_it_does_and_for_nothing_else() -> anyhow::Result<()> {
    for binary in BOTH {
        let (_files, etcd) = etcd_with_roles(binary, &[]).await?;
        works(&settings_as(&etcd, "gateway-api", Password::Text(Secret::new("controller")))).await?;
        let us = ("gateway-api", "controller");
        for key in
            ["/apisix/stream_routes/", "/apisix/upstreams/", "/apisix/upstreams/a", "/gateway-api-etcd/default/lanes/0"]
        {
            put_as(&etcd, us, key).await.with_context(|| key.to_owned())?;
        }
        for key in ["/apisix/routes/1", "/apisix/plugins", "/apisix", "/gateway-api-etcd/other/leader", "/else"] {
            denied(put_as(&etcd, us, key).await)?;
        }
        read_as(&etcd, us, "/apisix/", "/apisix0").await?;
        read_as(&etcd, us, "/gateway-api-etcd/", "/gateway-api-etcd0").await?;
        denied(read_as(&etcd, us, "/apisix", "/apisiy").await)?;
        denied(read_as(&etcd, us, "/", "0").await)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_data_planes_role_reads_its_prefix_as_apisix_asks_for_it_and_writes_nothing() -> anyhow::Result<()> {
    for binary in BOTH {
        let (_files, etcd) = etcd_with_roles(binary, &["--prefix", "/a.b/c", "--control-prefix", "/d"]).await?;
        put_as(&etcd, ("gateway-api", "controller"), "/a.b/c/stream_routes/gateway-api.1").await?;
        put_as(&etcd, ("gateway-api", "controller"), "/d/default/leader").await?;
        let them = ("apisix", "data-plane");
        assert_eq!(read_as(&etcd, them, "/a.b/c", "/a.b/d").await?, 1);
        denied(put_as(&etcd, them, "/a.b/c/stream_routes/gateway-api.1").await)?;
        denied(put_as(&etcd, them, "/a.b/c/data_plane/server_info/1").await)?;
        denied(read_as(&etcd, them, "/d/", "/d0").await)?;
        denied(read_as(&etcd, them, "/d/default/leader", "/d/default/leadeS").await)?;
        denied(read_as(&etcd, them, "/apisix", "/apisiy").await)?;
    }
    Ok(())
}

#[tokio::test]
async fn one_controller_may_write_several_prefixes_and_each_data_plane_reads_its_own() -> anyhow::Result<()> {
    for binary in BOTH {
        let (files, etcd) = etcd_with_roles(binary, &["--more-prefixes", "/edge,/west"]).await?;
        // A data plane of its own for one of the others; what the controller may do is the same set.
        let edge = ["--prefix", "/edge", "--more-prefixes", "/west,/apisix", "--data-plane-user", "edge"];
        roles(&etcd, &files, &edge).await?;
        let us = ("gateway-api", "controller");
        for key in ["/apisix/upstreams/a", "/edge/ssls/a", "/west/stream_routes/", "/gateway-api-etcd/default/lanes/0"]
        {
            put_as(&etcd, us, key).await.with_context(|| key.to_owned())?;
        }
        read_as(&etcd, us, "/west/", "/west0").await?;
        denied(put_as(&etcd, us, "/west/routes/1").await)?;
        let (them, others) = (("apisix", "data-plane"), ("edge", "data-plane"));
        assert_eq!(read_as(&etcd, them, "/apisix", "/apisiy").await?, 1);
        assert_eq!(read_as(&etcd, others, "/edge", "/edgf").await?, 1);
        for (user, from, end) in [(them, "/edge", "/edgf"), (others, "/apisix", "/apisiy"), (others, "/west", "/wesu")]
        {
            denied(read_as(&etcd, user, from, end).await)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn roles_that_are_right_are_not_touched() -> anyhow::Result<()> {
    for binary in BOTH {
        let (files, etcd) = etcd_with_roles(binary, &[]).await?;
        // A token that ends with any change of users and roles would be a better witness, but not every etcd has them on.
        let said = roles(&etcd, &files, &[]).await?;
        ensure!(said == "done: gateway-api writes, apisix reads /apisix\n", "{said}");
        // Another prefix: nothing of the old one is left.
        roles(&etcd, &files, &["--prefix", "/other"]).await?;
        let us = ("gateway-api", "controller");
        put_as(&etcd, us, "/other/upstreams/a").await?;
        denied(put_as(&etcd, us, "/apisix/upstreams/a").await)?;
        denied(read_as(&etcd, ("apisix", "data-plane"), "/apisix", "/apisiy").await)?;
    }
    Ok(())
}

#[tokio::test]
async fn roles_that_could_not_be_kept_apart_are_refused() -> anyhow::Result<()> {
    let (files, etcd) = etcd_with_roles(Binary::Etcd36, &[]).await?;
    for (flags, part) in [
        (&["--control-prefix", "/apisix-control"][..], "one begins with the other"),
        (&["--prefix", "/apisix/"], "not a prefix"),
        (&["--more-prefixes", "/edge,/apisix-west"], "of /apisix and /apisix-west one begins with the other"),
        (&["--more-prefixes", "/edge, /west"], "' /west' is not a prefix"),
        (&["--data-plane-user", "gateway-api"], "different users"),
        (&["--instance", "A/b"], "not the name of an instance"),
        (&["--prefixx", "/a"], "no flag"),
        (&["--prefix"], "needs a value"),
    ] {
        let said = format!("{:#}", roles(&etcd, &files, flags).await.err().context("it should refuse")?);
        ensure!(said.contains(part), "{flags:?}: {said}");
    }
    ensure!(roles(&etcd, &files, &["--help"]).await?.contains("--control-prefix PREFIX"));
    Ok(())
}
