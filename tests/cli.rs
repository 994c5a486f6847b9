//! The binary as a user meets it: help, wrong settings, results and exit statuses. No servers are needed.

#![expect(clippy::unwrap_used, reason = "the helpers are parts of tests, too")]

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/quickstart");

/// How it ended: exit status, standard output, standard error.
struct Ended {
    status: i32,
    out: String,
    err: String,
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_apisix-etcd-controller"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("APISIX_ETCD_CONTROLLER_")) {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { status: status.code().unwrap(), out: text(stdout), err: text(stderr) }
}

fn run(arguments: &[&str]) -> Ended {
    run_with(arguments, &[])
}

/// The command line is refused with a message that has `part` in it, and nothing else is printed.
#[track_caller]
fn refused(arguments: &[&str], part: &str) {
    let Ended { status, out, err } = run(arguments);
    assert_eq!((status, out.as_str()), (2, ""), "{err}");
    assert!(err.starts_with("error: ") && err.contains(part), "{err}");
}

#[track_caller]
fn written(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn help_shows_examples_and_where_settings_may_stand() {
    for arguments in [&["--help"][..], &["run", "--help"], &["translate", "--help"]] {
        let Ended { status, out, .. } = run(arguments);
        assert_eq!(status, 0);
        assert!(out.contains("Examples:\n") && out.contains("apisix-etcd-controller "), "{out}");
    }
    let help = run(&["run", "--help"]).out;
    assert!(help.contains("APISIX_ETCD_CONTROLLER_ETCD_ENDPOINTS"), "{help}");
}

#[test]
fn wrong_settings_end_with_2_and_say_what_would_do() {
    refused(&["run"], "--etcd-endpoints is missing");
    refused(&["run", "--etcd-endpoints", "127.0.0.1:2379"], "write http://HOST:PORT");
    refused(&["run", "--etcd-endpoints", "http://e:1", "--etcd-prefix", "/apisix/"], "ends with '/'");
    refused(&["run", "--etcd-endpoints", "http://e:1", "--admin-address", "8081"], "--admin-address");
    refused(&["run", "--manifests", "a", "--kubeconfig", "b"], "cannot be used with");
    refused(&["translate"], "--manifests");
    refused(&["translate", "--manifests", QUICKSTART, "--apisix-version", "3.7"], "3.8.0 and later");
    refused(&["translate", "--manifests", QUICKSTART, "--output", "xml"], "possible values");
    refused(&["translate", "--manifests", QUICKSTART, "--outptu", "json"], "--output");
}

#[test]
fn no_password_is_repeated() {
    let Ended { err, .. } = run(&["run", "--etcd-endpoints", "http://root:secret@e:2379"]);
    assert!(err.contains("user or password") && !err.contains("secret"), "{err}");
}

#[test]
fn settings_may_stand_in_the_environment() {
    let environment = [
        ("APISIX_ETCD_CONTROLLER_MANIFESTS", QUICKSTART),
        ("APISIX_ETCD_CONTROLLER_ETCD_PREFIX", "/elsewhere"),
        ("APISIX_ETCD_CONTROLLER_OUTPUT", "json"),
    ];
    let Ended { status, out, err } = run_with(&["translate"], &environment);
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("\"/elsewhere/stream_routes/gateway-api.9100\": {"), "{out}");
}

#[test]
fn the_version_is_shown_with_what_it_knows() {
    let Ended { status, out, .. } = run(&["version"]);
    assert_eq!(status, 0);
    assert!(out.starts_with(concat!("apisix-etcd-controller ", env!("CARGO_PKG_VERSION"), "\n")), "{out}");
    let json: serde_json::Value = serde_json::from_str(&run(&["version", "--output", "json"]).out).unwrap();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["apisix"]["oldest"], "3.8.0");
    assert_eq!(json["gatewayApi"]["TCPRoute"], serde_json::json!(["v1", "v1alpha2"]));
}

#[test]
fn translation_prints_documents_and_statuses() {
    let Ended { status, out, err } = run(&["translate", "--manifests", QUICKSTART, "--output", "json"]);
    assert_eq!((status, err.as_str()), (0, ""));
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["documents"]["/apisix/stream_routes/gateway-api.9100"]["server_port"], 9100);
    assert_eq!(result["statuses"][0]["kind"], "GatewayClass");
    let table = run(&["translate", "--manifests", QUICKSTART]);
    assert_eq!(table.status, 0);
    assert!(table.out.contains("192.0.2.11:8080 (1)"), "{}", table.out);
}

#[test]
fn a_refused_route_ends_with_1_and_is_shown_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = format!("{QUICKSTART}/gateway.yaml");
    let route = written(folder.path(), "r.yaml", &fs::read_to_string(format!("{QUICKSTART}/route.yaml")).unwrap());
    let Ended { status, out, err } = run(&["translate", "--manifests", &gateway, "--manifests", &route]);
    assert_eq!((status, err.as_str()), (1, ""));
    assert!(out.contains("ResolvedRefs: BackendNotFound"), "{out}");
}

#[test]
fn a_file_that_cannot_be_read_ends_with_2_and_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let broken = written(folder.path(), "broken.yaml", "kind: Gateway\nspec: {\n");
    let Ended { status, out, err } = run(&["translate", "--manifests", &broken]);
    assert_eq!((status, out.as_str()), (2, ""), "{err}");
    assert!(err.starts_with(&format!("{broken}:")) && err.split(':').nth(1).unwrap().parse::<u32>().is_ok(), "{err}");
    let Ended { status, err, .. } = run(&["translate", "--manifests", "/nowhere"]);
    assert_eq!(status, 2);
    assert!(err.starts_with("/nowhere: "), "{err}");
}

#[test]
fn what_cannot_be_opened_ends_with_1_and_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let etcd = ["run", "--etcd-endpoints", "http://127.0.0.1:1"];
    let admin = run(&[&etcd[..], &["--manifests", QUICKSTART, "--admin-address", &address]].concat());
    assert_eq!(admin.status, 1);
    assert!(admin.err.contains(&address) && admin.err.contains("--admin-address"), "{}", admin.err);
    let cluster = run(&[&etcd[..], &["--admin-address", "127.0.0.1:0", "--kubeconfig", "/nowhere"]].concat());
    assert_eq!(cluster.status, 1);
    assert!(cluster.err.contains("cannot use the kubeconfig /nowhere"), "{}", cluster.err);
}

#[test]
fn log_lines_can_be_json() {
    let arguments = ["run", "--etcd-endpoints", "http://127.0.0.1:1", "--log-format", "json"];
    let Ended { err, .. } =
        run(&[&arguments[..], &["--admin-address", "127.0.0.1:0", "--kubeconfig", "/nowhere"]].concat());
    let line: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert!(line["error"].as_str().unwrap().contains("/nowhere"), "{err}");
}
