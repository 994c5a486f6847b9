//! A link to etcd that asks who is there: tokens that end, and certificates that are replaced, while the controller works.

use super::{
    objects::service,
    road::{Link, crowd, with_own_etcd},
    scene::Scene,
    support::{
        binaries::Binary,
        certificates::{Authority, Files},
        etcd::{Etcd, Setup, TlsSetup},
        servers::{Place, Servers, shared},
        wait::{PATIENCE, wait_until},
    },
};
use anyhow::{Context as _, ensure};
use std::sync::Arc;

const NODES: &[(&str, u64)] = &[("10.0.0.1:8080", 1)];
const OTHER_NODES: &[(&str, u64)] = &[("10.0.0.2:8080", 1)];
const LAST_NODES: &[(&str, u64)] = &[("10.0.0.3:8080", 1)];
const LOCALHOST: &str = "127.0.0.1";

/// The controller's password. No other text of a log looks like it.
const PASSWORD: &str = "open-sesame:quite-unmistakable";

/// Users and roles for `place`, as `deploy/etcd/roles.sh` makes them; etcd asks for them from then on.
async fn make_roles(etcd: &Etcd, place: &Place, files: &Files, controller: &str) -> anyhow::Result<()> {
    for (name, password) in [("controller", controller), ("data-plane", "data-plane"), ("root", "root")] {
        files.put(name, &format!("{password}\n"))?;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/etcd/roles.sh");
    let output = tokio::process::Command::new(script)
        .args(["--prefix", &place.etcd_prefix, "--control-prefix", &place.control_prefix, "--enable-auth"])
        .arg("--controller-password-file")
        .arg(files.path("controller"))
        .arg("--data-plane-password-file")
        .arg(files.path("data-plane"))
        .arg("--root-password-file")
        .arg(files.path("root"))
        .env("ETCDCTL_ENDPOINTS", etcd.endpoint())
        .output()
        .await
        .context("running roles.sh")?;
    ensure!(output.status.success(), "roles.sh: {}", String::from_utf8_lossy(&output.stderr));
    etcd.log_in("root", "root");
    Ok(())
}

/// Waits until a token that was given at this moment, and is never renewed, is worth nothing any more.
async fn a_token_ends(etcd: &Etcd) -> anyhow::Result<()> {
    let options = etcd_client::ConnectOptions::new().with_user("gateway-api", PASSWORD);
    let mut witness = Box::pin(etcd_client::Client::connect([etcd.endpoint()], Some(options))).await?;
    wait_until("a token to expire", PATIENCE, async || match witness.get("/", None).await {
        Err(error) if error.to_string().contains("invalid auth token") => Ok(()),
        Err(error) if error.to_string().contains("permission denied") => anyhow::bail!("it is good"),
        other => anyhow::bail!("{other:?}"),
    })
    .await
}

#[tokio::test]
async fn a_password_that_etcdctl_would_cut_short_is_refused() -> anyhow::Result<()> {
    let (files, servers) = (Files::new()?, with_own_etcd().await?);
    let place = servers.place("blanks").await?;
    for password in ["open sesame", "open\tsesame", "open\nsesame"] {
        let made = make_roles(&servers.etcd, &place, &files, password).await;
        let said = format!("{:#}", made.err().context("it should be refused")?);
        ensure!(said.contains("has a blank") && !said.contains("sesame"), "{said}");
    }
    make_roles(&servers.etcd, &place, &files, "opensesame").await
}

#[tokio::test]
async fn tokens_that_end_are_renewed_by_a_controller_with_no_more_rights_than_it_needs() -> anyhow::Result<()> {
    let files = Files::new()?;
    let secret = files.put("tokens.secret", "nobody knows")?;
    let token = format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl=2s", secret.display());
    let setup = Setup { tls: None, arguments: vec!["--bcrypt-cost=4".to_owned(), token] };
    let etcd = Arc::new(Box::pin(Etcd::start_as(Binary::Etcd36, &setup)).await?);
    let servers = Servers { kubernetes: shared().await?.kubernetes, etcd };
    let place = servers.place("tokens").await?;
    make_roles(&servers.etcd, &place, &files, PASSWORD).await?;

    let password_file = files.path("controller");
    let password_file = password_file.to_str().context("a path is text")?;
    let more = ["--etcd-user=gateway-api", "--etcd-password-file", password_file, "--log-level=debug"];
    let controller = Link { more: &more, ..Link::default() }.start(&servers, &place)?;
    let scene = Scene::of(servers, place, controller);
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(20, "").await?;
    scene.serves_exactly(crowd(20), NODES).await?;

    for nodes in [OTHER_NODES, NODES, OTHER_NODES] {
        a_token_ends(&scene.servers.etcd).await?;
        scene.apply(service("web", &[nodes[0].0.trim_end_matches(":8080")])).await?;
        scene.serves_exactly(crowd(20), nodes).await?;
    }
    // What somebody else does is seen, too.
    let pool = scene.documents().await?.pool_key(9100)?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene.serves_exactly(crowd(20), OTHER_NODES).await?;
    scene.all_programmed(20).await?;
    scene.controller.ready().await?;
    // Nothing was given up for it.
    assert_eq!(scene.metric("leadership_changes_total", &[]).await?, 1);
    assert_eq!(scene.metric("transactions_total", &["outcome=\"unanswered\""]).await?, 0);
    assert_eq!(scene.strangers().await?, strangers);
    let log = scene.controller.log();
    for part in [PASSWORD, "open-sesame", "quite-unmistakable"] {
        ensure!(!log.contains(part), "the log shows the password: {log}");
    }
    Ok(())
}

/// Every certificate there is, signed by `authority`.
fn put_certificates(files: &Files, authority: &Authority) -> anyhow::Result<()> {
    files.put("ca.crt", authority.pem())?;
    files.put("clients-ca.crt", authority.pem())?;
    files.put_pair("server", &authority.server(&[LOCALHOST])?)?;
    files.put_pair("client", &authority.client("client")?)?;
    files.put_pair("root", &authority.client("root")?)?;
    Ok(())
}

/// The lines of the keys in PEM, but for those that say that they are keys.
fn secrets(files: &Files) -> anyhow::Result<Vec<String>> {
    let mut secrets = Vec::new();
    for name in ["client.key", "server.key", "root.key"] {
        let text = std::fs::read_to_string(files.path(name)).with_context(|| format!("reading {name}"))?;
        secrets.extend(text.lines().filter(|line| !line.starts_with('-')).map(str::to_owned));
    }
    Ok(secrets)
}

#[tokio::test]
async fn certificates_that_are_replaced_are_used_and_an_etcd_with_new_ones_is_written_to() -> anyhow::Result<()> {
    let (files, first) = (Files::new()?, Authority::new("first")?);
    put_certificates(&files, &first)?;
    let tls = TlsSetup {
        certificate: files.path("server.crt"),
        key: files.path("server.key"),
        client_ca: Some(files.path("clients-ca.crt")),
        ca: files.path("ca.crt"),
        identity: Some((files.path("root.crt"), files.path("root.key"))),
    };
    let setup = Setup { tls: Some(tls), arguments: Vec::new() };
    let etcd = Arc::new(Box::pin(Etcd::start_as(Binary::Etcd, &setup)).await?);
    let servers = Servers { kubernetes: shared().await?.kubernetes, etcd };
    let place = servers.place("certificates").await?;
    let flags = [("ca", "ca.crt"), ("cert", "client.crt"), ("key", "client.key")];
    let flags = flags.map(|(flag, name)| format!("--etcd-{flag}-file={}", files.path(name).display()));
    let mut more: Vec<&str> = flags.iter().map(String::as_str).collect();
    more.extend(["--etcd-timeout=2s", "--log-level=debug"]);
    let controller = Link { more: &more, ..Link::default() }.start(&servers, &place)?;
    let mut scene = Scene::of(servers, place, controller);
    let strangers = scene.settle_strangers().await?;
    scene.apply_crowd(20, "").await?;
    scene.serves_exactly(crowd(20), NODES).await?;
    let mut keys = secrets(&files)?;

    // An etcd that has not been restarted takes clients of the first authority only.
    files.put_pair("client", &first.client("client-2")?)?;
    keys.extend(secrets(&files)?);
    scene.apply(service("web", &["10.0.0.2"])).await?;
    scene.serves_exactly(crowd(20), OTHER_NODES).await?;

    // Nothing of the first authority is worth anything after this.
    put_certificates(&files, &Authority::new("second")?)?;
    keys.extend(secrets(&files)?);
    let gone = scene.servers.etcd.clone();
    gone.stop().await?;
    scene.apply(service("web", &["10.0.0.3"])).await?;
    scene.servers.etcd = Arc::new(Box::pin(gone.start_again()).await?);
    scene.serves_exactly(crowd(20), LAST_NODES).await?;
    scene.all_programmed(20).await?;
    let pool = scene.documents().await?.pool_key(9100)?;
    scene.vandalise(&pool, Some("{}")).await?;
    scene.serves_exactly(crowd(20), LAST_NODES).await?;
    scene.controller.ready().await?;
    scene.counted("drift_repaired_total", &[], 1).await?;
    assert_eq!(scene.strangers().await?, strangers);
    let log = scene.controller.log();
    ensure!(!log.contains("PRIVATE KEY") && !keys.iter().any(|key| log.contains(key.as_str())), "the log shows a key");
    Ok(())
}
