//! The binary beside APISIX's own `config.yaml`: what it takes from there, what it says of it, and that no file makes it
//! fall over.

mod support;

use anyhow::{Context as _, ensure};
use apisix_etcd_controller::{
    apisix::version::ApisixVersion,
    cluster::folder,
    config::apisix::ApisixConfig,
    model::{
        places::{Directory, Plane, WorkId},
        sockets::StreamProxy,
    },
    translate::{
        desired::{Desired, Settings, Wanted},
        planes::PlaneSettings,
    },
};
use proptest::{
    collection::vec,
    prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof},
    proptest,
    sample::select,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use support::{
    binaries::Binary,
    controller::Controller,
    etcd::{Etcd, Setup},
    wait::PATIENCE,
};
use tempfile::TempDir;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/quickstart");
const PASSWORD: &str = "correct horse:battery staple";

/// A folder with a file that says this.
struct File {
    folder: TempDir,
}

impl File {
    fn of(text: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("config.yaml"), text)?;
        Ok(Self { folder })
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }
}

/// Exit status, standard output, standard error.
fn translate(file: &File, environment: &[(&str, &str)], flags: &[&str]) -> anyhow::Result<(i32, String, String)> {
    let ran = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"))
        .env_clear()
        .envs(environment.iter().copied())
        .args(["translate", "--manifests", QUICKSTART, "--apisix-config"])
        .arg(file.path())
        .args(flags)
        .output()?;
    let status = ran.status.code().context("it was killed")?;
    Ok((status, String::from_utf8(ran.stdout)?, String::from_utf8(ran.stderr)?))
}

#[test]
fn translation_takes_ports_and_prefix_from_the_file_and_says_so() -> anyhow::Result<()> {
    let file = File::of(
        "deployment: {etcd: {prefix: '${{PREFIX:=/apisix}}'}}\napisix: {proxy_mode: stream, stream_proxy: {tcp: [9000-9200]}}\n",
    )?;
    let (status, out, err) = translate(&file, &[("PREFIX", "/plane")], &["--output", "json"])?;
    ensure!(status == 0, "{err}");
    ensure!(out.contains("\"/plane/stream_routes/gateway-api.9100\": {"), "{out}");
    ensure!(out.contains("The listener is ready to take routes.\""), "{out}");
    ensure!(err.contains("prefix (deployment.etcd.prefix): /plane\n"), "{err}");
    ensure!(err.contains("ports (apisix.stream_proxy): tcp 9000-9200\n"), "{err}");
    Ok(())
}

#[test]
fn a_port_that_the_file_lacks_is_refused_and_a_flag_brings_it_back() -> anyhow::Result<()> {
    let file = File::of("apisix: {proxy_mode: stream, stream_proxy: {tcp: [9101]}}\n")?;
    let (status, out, _) = translate(&file, &[], &["--output", "json"])?;
    ensure!(status == 1 && out.contains("does not listen on port 9100 for TCP without TLS, but on 9101"), "{out}");
    let (status, out, err) = translate(&file, &[], &["--output", "json", "--listen", "tcp:9100"])?;
    ensure!(status == 0 && err.contains("ports (--listen): tcp 9100\n"), "{out}{err}");
    Ok(())
}

#[test]
fn a_file_that_cannot_be_used_ends_with_2_and_says_where() -> anyhow::Result<()> {
    for (text, part) in [
        ("apisix: [", "is not YAML, or has a key twice (line 2, column 1)"),
        ("apisix: {proxy_mode: tcp}", "apisix.proxy_mode is \"tcp\": write http, stream or http&stream"),
        ("deployment: {etcd: {prefix: '${{UNSET}}'}}", "deployment.etcd.prefix needs the environment variable UNSET"),
    ] {
        let file = File::of(text)?;
        let (status, out, err) = translate(&file, &[], &[])?;
        ensure!((status, &*out) == (2, "") && err.contains(part), "{err}");
        ensure!(err.starts_with(&format!("error: --apisix-config: {}", file.path().display())), "{err}");
    }
    Ok(())
}

/// An etcd that asks who one is, with a user `us` who may do anything.
async fn etcd_with_users() -> anyhow::Result<Etcd> {
    let etcd = Etcd::start_as(Binary::Etcd36, &Setup { tls: None, arguments: vec!["--bcrypt-cost=4".into()] }).await?;
    let mut client = etcd.client().await?;
    client.user_add("us", PASSWORD, None).await?;
    client.role_add("all").await?;
    client.role_grant_permission("all", etcd_client::Permission::read_write("").with_all_keys()).await?;
    client.user_grant_role("us", "all").await?;
    etcd.turn_authentication_on("root's own").await?;
    Ok(etcd)
}

#[tokio::test]
async fn the_controller_runs_with_the_etcd_the_user_and_the_ports_of_the_file() -> anyhow::Result<()> {
    let etcd = etcd_with_users().await?;
    let file = File::of(&format!(
        "deployment:\n  etcd: {{host: ['{}'], prefix: /plane, user: us, password: '{PASSWORD}'}}\n\
         apisix:\n  proxy_mode: http&stream\n  stream_proxy: {{tcp: [9100, {{addr: 9443, tls: true}}], udp: [9200-9210]}}\n\
         stream_plugins: [ip-restriction]\n",
        etcd.endpoint()
    ))?;
    let path = file.path();
    let arguments =
        ["run", "--manifests", QUICKSTART, "--apisix-config", path.to_str().context("a path that is text")?];
    let controller = Controller::start(&arguments)?;
    controller.ready().await?;
    let slot = "/plane/stream_routes/gateway-api.9100";
    controller
        .wait_until("the slot to be there", PATIENCE, async || {
            let held = etcd.under("/plane/stream_routes/").await?;
            ensure!(held.contains_key(slot), "there are {:?}", held.keys());
            Ok(())
        })
        .await?;
    let (status, log) = controller.stop().await?;
    ensure!(status == 0, "{log}");
    for part in ["deployment.etcd.host", "us, with its password", "tcp 9100; tls 9443; udp 9200-9210", "ip-restriction"]
    {
        ensure!(log.contains(part), "{part} is not said:\n{log}");
    }
    ensure!(!log.contains(PASSWORD), "{log}");

    let shown = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"))
        .env_clear()
        .args(["checkpoint", "show", "--output", "json", "--apisix-config"])
        .arg(&path)
        .output()?;
    let out = String::from_utf8(shown.stdout)?;
    ensure!(shown.status.success() && out.contains("\"/plane\""), "{out}{}", String::from_utf8_lossy(&shown.stderr));
    Ok(())
}

/// Of the quickstart with a backend that is not there, the slot's value.
fn slot(desired: &Desired) -> anyhow::Result<String> {
    match desired.wanted(&WorkId::new(Plane::default(), Directory::StreamRoutes, "gateway-api.9100")) {
        Wanted::Document(document) => Ok(String::from_utf8(document.bytes.to_vec())?),
        other @ (Wanted::Absent | Wanted::Kept { .. } | Wanted::Refused(_)) => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn the_plugins_in_etcd_go_before_those_of_the_file() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["gateway.yaml", "route.yaml", "service.yaml"] {
        let text = fs::read_to_string(Path::new(QUICKSTART).join(name))?;
        let text = text.replace("backendRefs:\n", "backendRefs:\n        - {name: gone, port: 1}\n");
        fs::write(folder.path().join(name), text)?;
    }
    let settings = |traffic_split| Settings {
        controller_name: "apisix-etcd.io/gateway-controller".into(),
        instance: "default".into(),
        plane: PlaneSettings {
            stream: StreamProxy { traffic_split, ..StreamProxy::default() },
            addresses: apisix_etcd_controller::model::addresses::AddressSource::Nobody,
            ..PlaneSettings::new(Plane::default(), "3.16.0".parse().unwrap_or(ApisixVersion::DEFAULT))
        }
        .into(),
    };
    for (said, in_etcd, splits) in [
        (None, None, true),
        (None, Some(false), false),
        (Some(true), None, true),
        (Some(true), Some(false), false),
        (Some(false), None, false),
        (Some(false), Some(true), true),
    ] {
        let mut desired = Desired::new(settings(said));
        let objects = folder::read(&[folder.path().to_owned()], "apisix-etcd.io/gateway-controller")
            .map_err(|errors| anyhow::anyhow!("{errors:?}"))?
            .objects;
        for (kind, listed) in objects {
            desired.note_list(kind, listed.into_iter().map(|listed| (listed.name, listed.observed)).collect());
        }
        desired.note_traffic_split(Plane::default(), in_etcd);
        desired.settle();
        let slot = slot(&desired)?;
        ensure!(slot.contains("traffic-split") == splits, "{said:?} {in_etcd:?}: {slot}");
    }
    Ok(())
}

/// YAML as somebody may write it who knows some of APISIX's keys.
fn yaml() -> impl Strategy<Value = String> {
    let words = [
        "apisix",
        "proxy_mode",
        "stream",
        "http&stream",
        "stream_proxy",
        "tcp",
        "udp",
        "addr",
        "tls",
        "tls_passthrough",
        "deployment",
        "etcd",
        "host",
        "prefix",
        "user",
        "password",
        "role",
        "cert",
        "key",
        "verify",
        "sni",
        "ssl",
        "ssl_trusted_certificate",
        "stream_plugins",
        "traditional",
        "config_provider",
        "true",
        "null",
        "9100",
        "9000-9010",
        "'[::]:9100'",
        "127.0.0.1:1",
        "${{A}}",
        "'${{A:=9100}}'",
        "'${{B:=${{A}}}}'",
        "http://a:1",
        "*a",
        "&a",
        "!t",
        "<<",
        "0x10",
        "1e400",
        "-1",
        ".nan",
        "\"\\u0000\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "- ",
        "\n",
        "\n  ",
        "---\n",
        "|",
        ">",
        "#",
    ];
    let token = prop_oneof![8 => select(words.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,3}", 1 => any::<char>().prop_map(String::from)];
    let soup = vec(token, 0..40).prop_map(|tokens| tokens.join(" "));
    let leaf = prop_oneof![
        select(words.to_vec()).prop_map(|word| serde_json::Value::String(word.trim_matches('\'').to_owned())),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
        "[$\\{\\}A:= \\[\\]0-9.-]{0,12}".prop_map(serde_json::Value::String),
    ];
    let tree = leaf.prop_recursive(6, 40, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            vec((select(words.to_vec()), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    });
    prop_oneof![soup, tree.clone().prop_map(|tree| tree.to_string()), whole(tree)]
}

/// A file with the right keys and anything in them.
fn whole(value: impl Strategy<Value = serde_json::Value> + Clone) -> impl Strategy<Value = String> {
    prop::array::uniform9(value).prop_map(|[mode, tcp, udp, plugins, host, prefix, password, tls, role]| {
        let mode = if mode.is_null() { "stream".into() } else { mode };
        serde_json::json!({
            "apisix": {"proxy_mode": mode, "stream_proxy": {"tcp": [tcp.clone(), {"addr": tcp}], "udp": udp}},
            "deployment": {"role": role, "etcd": {"host": host, "prefix": prefix, "password": password, "tls": tls}},
            "stream_plugins": plugins,
        })
        .to_string()
    })
}

/// Asks everything; what comes out does not matter.
fn ask_everything(text: &str) {
    let environment = |name: &str| (name == "A").then(|| "9100".to_owned());
    let Ok(config) = ApisixConfig::parse(Path::new("c.yaml"), text, environment) else { return };
    for version in ["3.8.0", "3.19.0"].into_iter().flat_map(str::parse) {
        let _ = config.sockets(version).map(|sockets| sockets.to_string()).map_err(|error| error.to_string());
    }
    let _ = config.role();
    let _ = config.stream_plugins();
    let _ = config.etcd_hosts();
    let _ = config.etcd_prefix();
    let _ = config.etcd_user();
    let _ = config.etcd_password();
    let _ = config.etcd_identity();
    let _ = config.etcd_server_name();
    let _ = config.etcd_authorities(|_| false);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_file_makes_the_reader_fall_over(text in yaml()) {
        ask_everything(&text);
    }
}
