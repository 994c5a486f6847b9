//! Every form that APISIX takes, and every one that it does not.

use super::*;
use crate::{config::apisix::etcd::HostsFrom, model::sockets::Sockets};
use std::collections::BTreeMap;

/// An APISIX of a version that has every form.
const NEWEST: &str = "3.18.0";

fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'static {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    move |name: &str| variables.get(name).cloned()
}

/// What `read` makes of a file, or what is said of it.
#[track_caller]
fn read<T>(
    text: &str,
    variables: &[(&str, &str)],
    read: impl FnOnce(&ApisixConfig) -> Result<T, ApisixConfigError>,
) -> Result<T, String> {
    let environment = environment(variables);
    let config = ApisixConfig::parse(Path::new("c.yaml"), text, environment);
    config.and_then(|config| read(&config)).map_err(|error| {
        let text = error.to_string();
        assert!(text.starts_with("--apisix-config: c.yaml"), "{text}");
        text
    })
}

fn of_version(version: &str, text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let version = version.parse().unwrap();
    read(text, variables, |config| config.sockets(version).map(|sockets: Sockets| sockets.to_string()))
}

/// The sockets of what stands under `stream_proxy`, in flow style.
fn sockets(stream_proxy: &str) -> Result<String, String> {
    of_version(NEWEST, &format!("apisix: {{proxy_mode: stream, stream_proxy: {stream_proxy}}}"), &[])
}

#[track_caller]
fn listens(stream_proxy: &str, want: &str) {
    assert_eq!(sockets(stream_proxy).as_deref(), Ok(want), "{stream_proxy}");
}

#[track_caller]
fn refused<T: fmt::Debug>(result: Result<T, String>, parts: &[&str]) {
    let error = result.unwrap_err();
    assert!(parts.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn a_port_is_a_number_or_a_text_with_or_without_an_address() {
    listens("{tcp: [9100]}", "tcp 9100");
    listens("{tcp: ['9100']}", "tcp 9100");
    listens("{tcp: [9100.0]}", "tcp 9100");
    listens("{tcp: ['127.0.0.1:9101']}", "tcp 9101");
    listens("{tcp: [127.0.0.1:9101]}", "tcp 9101");
    listens("{tcp: ['[::]:9100', '[::1]:9101', '*:9102', 'localhost:9103']}", "tcp 9100-9103");
    listens("{udp: [9200, '127.0.0.1:9201', '[::]:9202']}", "udp 9200-9202");
    listens("{tcp: [9100], udp: [9100]}", "tcp 9100; udp 9100");
}

#[test]
fn a_port_may_be_a_range() {
    listens("{tcp: [2000-2100]}", "tcp 2000-2100");
    listens("{tcp: ['127.0.0.1:4000-4100', '[::]:5000-5001']}", "tcp 4000-4100, 5000-5001");
    listens("{udp: ['9300-9310', '9305-9320']}", "udp 9300-9320");
    listens("{tcp: [1-65535]}", "tcp 1-65535");
}

#[test]
fn an_entry_may_be_an_object_with_marks() {
    listens("{tcp: [{addr: 9100}]}", "tcp 9100");
    listens("{tcp: [{addr: 9443, tls: true}, {addr: '127.0.0.1:9444', tls: false}]}", "tcp 9444; tls 9443");
    listens("{tcp: [{addr: '3000-3100', tls: true, proxy_protocol: true}]}", "tls 3000-3100");
    listens("{tcp: [{addr: 9443, tls: yes}, {addr: 9444, tls: null}]}", "tcp 9444; tls 9443");
    listens("{tcp: ['10.0.0.1:9100', {addr: '10.0.0.2:9100', tls: true}]}", "tcp 9100; tls 9100");
}

#[test]
fn a_socket_without_a_port_is_no_place_for_a_listener() {
    listens("{tcp: ['unix:/run/a.sock', 9100]}", "tcp 9100");
    listens("{tcp: ['unix:/run/a.sock']}", "none");
}

#[test]
fn passthrough_is_a_mark_from_3_19_on() {
    let text = "apisix: {proxy_mode: stream, stream_proxy: {tcp: [{addr: 1, tls_passthrough: true}, {addr: 2, tls: true, \
                tls_passthrough: true}]}}";
    assert_eq!(of_version("3.18.9", text, &[]).unwrap(), "tcp 1; tls 2");
    assert_eq!(of_version("3.19.0", text, &[]).unwrap(), "tls-passthrough 1; tls-either 2");
}

#[test]
fn the_proxy_mode_alone_says_whether_there_are_sockets() {
    let mode = |mode: &str| {
        let text = format!("apisix: {{{mode} stream_proxy: {{only: false, tcp: [9100]}}}}");
        of_version(NEWEST, &text, &[])
    };
    assert_eq!(mode("proxy_mode: http&stream,").unwrap(), "tcp 9100");
    assert_eq!(mode("proxy_mode: stream,").unwrap(), "tcp 9100");
    // That `only` once turned the stream proxy on is forgotten since 3.5.
    for off in ["proxy_mode: http,", "proxy_mode: null,", ""] {
        assert_eq!(mode(off).unwrap(), "none", "{off}");
    }
    refused(mode("proxy_mode: tcp,"), &["apisix.proxy_mode is \"tcp\"", "http&stream"]);
    refused(mode("proxy_mode: 1,"), &["apisix.proxy_mode is not a text"]);
    // With it off, nobody looks at what is not used.
    assert_eq!(of_version(NEWEST, "apisix: {stream_proxy: {tcp: [nonsense]}}", &[]).unwrap(), "none");
}

#[test]
fn without_a_word_on_ports_there_are_none() {
    for text in
        ["", "# nothing\n", "---\n", "apisix: {proxy_mode: stream}", "apisix: {proxy_mode: stream, stream_proxy: }"]
    {
        assert_eq!(of_version(NEWEST, text, &[]).unwrap(), "none", "{text}");
    }
}

#[test]
fn an_entry_that_is_no_socket_is_named_with_what_would_do() {
    for (entry, part) in [
        ("0", "is \"0\": its port is not within 1 to 65535"),
        ("65536", "not within 1 to 65535"),
        ("80.5", "neither a port nor a range"),
        ("-1", "neither a port nor a range"),
        (".inf", "neither a port nor a range"),
        ("'9100 reuseport'", "\"9100 reuseport\""),
        ("'127.0.0.1'", "neither a port nor a range"),
        ("'127.0.0.1:'", "neither a port nor a range"),
        ("'[::]'", "neither a port nor a range"),
        ("'9010-9000'", "ends before it begins"),
        ("'0-9'", "not within 1 to 65535"),
        ("localhost", "neither a port nor a range"),
        ("true", "is not a port"),
        ("null", "is not a single value"),
        ("[9100]", "is not a single value"),
    ] {
        refused(sockets(&format!("{{tcp: [1, {entry}]}}")), &["apisix.stream_proxy.tcp[1]", part]);
        refused(sockets(&format!("{{udp: [{entry}]}}")), &["apisix.stream_proxy.udp[0]", part]);
    }
    refused(sockets("{tcp: [{tls: true}]}"), &["apisix.stream_proxy.tcp[0] has no addr"]);
    refused(sockets("{tcp: [{addr: 1, tls: maybe}]}"), &["apisix.stream_proxy.tcp[0].tls is neither true nor false"]);
    refused(sockets("{udp: [{addr: 1}]}"), &["apisix.stream_proxy.udp[0] is not a single value"]);
    refused(sockets("{tcp: 9100}"), &["apisix.stream_proxy.tcp is not a list", "'- '"]);
    refused(sockets("{tcp: []}"), &["apisix.stream_proxy.tcp is an empty list"]);
    refused(sockets("[9100]"), &["apisix.stream_proxy is not a mapping"]);
}

#[test]
fn the_environment_is_put_in_everywhere() {
    let text = "apisix:\n  proxy_mode: ${{MODE:=stream}}\n  ${{KEY}}:\n    tcp: ['${{A}}', '0.0.0.0:${{A}}', '${{B:=9200-9201}}', \
                {addr: 9443, tls: '${{TLS}}'}]\n";
    let variables = [("KEY", "stream_proxy"), ("A", "9100"), ("TLS", "true")];
    assert_eq!(of_version(NEWEST, text, &variables).unwrap(), "tcp 9100, 9200-9201; tls 9443");
    refused(
        of_version(NEWEST, text, &[("KEY", "stream_proxy")]),
        &["apisix.stream_proxy.tcp[0] needs the environment variable A", "${{A:=…}}", "--listen"],
    );
}

#[test]
fn what_a_variable_holds_is_not_repeated() {
    let text = "apisix: {proxy_mode: stream, stream_proxy: {tcp: ['${{S}}']}}";
    let error = of_version(NEWEST, text, &[("S", "hunter2")]).unwrap_err();
    assert!(error.contains("${{S}}") && !error.contains("hunter2"), "{error}");
    let text = "apisix: {proxy_mode: '${{S}}'}\ndeployment: {role: '${{S}}'}";
    let error = of_version(NEWEST, text, &[("S", "hunter2")]).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
    let error = read(text, &[("S", "hunter2")], ApisixConfig::role).unwrap_err();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn anchors_merges_tags_and_several_documents_are_read() {
    let text = "x: &ports [9100, 9101]\ny: &stream {proxy_mode: stream}\napisix:\n  <<: *stream\n  stream_proxy: !x {tcp: *ports}\n\
                ---\napisix: {proxy_mode: http}\n";
    assert_eq!(of_version(NEWEST, text, &[]).unwrap(), "tcp 9100-9101");
}

#[test]
fn what_is_not_yaml_is_named_with_its_place_and_not_quoted() {
    for text in
        ["a: [hunter2", "hunter2: a: b", "a: &hunter2\nb: *hunter3", "hunter2", "- hunter2", "a: 1\na: 2", "\t- x"]
    {
        let error = read(text, &[], |_| Ok(())).unwrap_err();
        assert!(error.contains("is not YAML") && !error.contains("hunter"), "{error}");
    }
    refused(read("a:\n  b: [", &[], |_| Ok(())), &["line ", "column "]);
}

#[test]
fn stream_plugins_replace_the_default_if_they_are_there() {
    let plugins = |text: &str| read(text, &[("P", "traffic-split")], ApisixConfig::stream_plugins);
    assert_eq!(plugins("a: 1"), Ok(None));
    assert_eq!(
        plugins("stream_plugins: [ip-restriction, '${{P}}']"),
        Ok(Some(vec!["ip-restriction".into(), "traffic-split".into()]))
    );
    for none in ["stream_plugins: []", "stream_plugins:", "stream_plugins: {}"] {
        assert_eq!(plugins(none), Ok(Some(vec![])), "{none}");
    }
    refused(plugins("stream_plugins: ip-restriction"), &["stream_plugins is not a list of names"]);
    refused(plugins("stream_plugins: [a, 7]"), &["stream_plugins[1] is not a text"]);
}

#[test]
fn only_a_process_that_reads_etcd_can_be_driven() {
    let role = |deployment: &str| read(&format!("deployment: {deployment}"), &[], ApisixConfig::role);
    for data_plane in [
        "",
        "{}",
        "{role: traditional}",
        "{role: data_plane, role_data_plane: {config_provider: etcd}}",
        "{role: traditional, role_data_plane: {config_provider: yaml}}",
    ] {
        assert_eq!(role(data_plane), Ok(Role::DataPlane), "{data_plane}");
    }
    assert_eq!(role("{role: control_plane}"), Ok(Role::ControlPlane));
    refused(
        role("{role: data_plane, role_data_plane: {config_provider: yaml}}"),
        &["deployment.role_data_plane.config_provider is \"yaml\"", "reads no etcd"],
    );
    refused(role("{role_traditional: {config_provider: yaml}}"), &["deployment.role_traditional.config_provider"]);
    refused(role("{role: standalone}"), &["deployment.role is \"standalone\"", "data_plane or control_plane"]);
    refused(role("[]"), &["deployment is not a mapping"]);
}

#[test]
fn hosts_are_a_list_or_the_default_or_in_the_environment() {
    let hosts = |text: &str, variables: &[(&str, &str)]| read(text, variables, ApisixConfig::etcd_hosts);
    let of = |urls: &[&str], from| Ok(etcd::Hosts { urls: urls.iter().map(|url| (*url).to_owned()).collect(), from });
    let two = "deployment: {etcd: {host: ['http://a:1', 'http://${{B}}:2']}}";
    assert_eq!(hosts(two, &[("B", "b")]), of(&["http://a:1", "http://b:2"], HostsFrom::File));
    assert_eq!(hosts("deployment: {etcd: {prefix: /a}}", &[]), of(&["http://127.0.0.1:2379"], HostsFrom::Default));
    let variable = |json| [("APISIX_DEPLOYMENT_ETCD_HOST", json)];
    assert_eq!(hosts(two, &variable(r#"["http://c:3"]"#)), of(&["http://c:3"], HostsFrom::Variable));
    assert_eq!(hosts(two, &variable(r#""http://c:3""#)), of(&["http://c:3"], HostsFrom::Variable));
    for bad in ["", "http://c:3", "[]", "[1]", "{}"] {
        refused(hosts(two, &variable(bad)), &["APISIX_DEPLOYMENT_ETCD_HOST", "not a JSON list"]);
    }
    refused(hosts("deployment: {etcd: {host: http://a:1}}", &[]), &["deployment.etcd.host is not a list"]);
    refused(hosts("deployment: {etcd: {host: []}}", &[]), &["deployment.etcd.host is an empty list"]);
    refused(hosts("deployment: {etcd: {host: [1]}}", &[]), &["deployment.etcd.host[0] is not a text"]);
}

#[test]
fn a_password_is_a_text_and_nobody_sees_it() {
    let password = |text: &str, variables: &[(&str, &str)]| {
        read(&format!("deployment: {{etcd: {{password: {text}}}}}"), variables, ApisixConfig::etcd_password)
    };
    let shown = |secret: &str| password(secret, &[("P", "hunter2")]).unwrap().unwrap().reveal().to_owned();
    assert_eq!(shown("'hunter2'"), "hunter2");
    assert_eq!(shown("'${{P}}'"), "hunter2");
    assert_eq!(shown("'123456'"), "123456");
    for none in ["", "''", "null"] {
        assert!(password(none, &[]).unwrap().is_none(), "{none}");
    }
    // APISIX makes a number of it, and refuses that.
    for (text, variables) in [("'${{P}}'", [("P", "123456")]), ("123456", [("", "")]), ("'${{P}}'", [("P", "true")])] {
        let error = password(text, &variables).unwrap_err();
        assert!(error.contains("deployment.etcd.password is not a text") && !error.contains("123456"), "{error}");
    }
    let text = "deployment: {etcd: {user: root, password: hunter2}}";
    let environment = environment(&[]);
    let config = ApisixConfig::parse(Path::new("c.yaml"), text, environment).unwrap();
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

#[test]
fn tls_files_have_whole_paths() {
    let tls = |tls: &str| read(&format!("deployment: {{etcd: {{tls: {tls}}}}}"), &[], ApisixConfig::etcd_identity);
    let both = etcd::Identity { certificate: "/c".into(), key: "/k".into() };
    assert_eq!(tls("{cert: /c, key: /k}"), Ok(Some(both)));
    assert_eq!(tls("{verify: true}"), Ok(None));
    refused(tls("{cert: /c}"), &["deployment.etcd.tls.cert is there without deployment.etcd.tls.key"]);
    refused(tls("{key: /k}"), &["deployment.etcd.tls.key is there without deployment.etcd.tls.cert"]);
    refused(tls("{cert: conf/c, key: /k}"), &["deployment.etcd.tls.cert is conf/c", "--etcd-cert-file"]);
    let sni = read("deployment: {etcd: {tls: {sni: etcd.example}}}", &[], ApisixConfig::etcd_server_name);
    assert_eq!(sni.unwrap().as_deref(), Some("etcd.example"));
}

#[test]
fn whom_apisix_trusts_is_a_file_or_the_systems_list() {
    let there = |list: &'static str| move |path: &Path| path == Path::new(list);
    let authorities = |text: &str, list| read(text, &[], |config| config.etcd_authorities(there(list)));
    let named = "apisix: {ssl: {ssl_trusted_certificate: /ca}}\ndeployment: {etcd: {tls: {verify: false}}}";
    assert_eq!(authorities(named, ""), Ok("/ca".into()));
    for system in ["", "apisix: {ssl: {ssl_trusted_certificate: system}}"] {
        assert_eq!(authorities(system, "/etc/ssl/cert.pem"), Ok("/etc/ssl/cert.pem".into()));
        refused(authorities(system, ""), &["apisix.ssl.ssl_trusted_certificate names no file", "--etcd-ca-file"]);
    }
    refused(authorities("apisix: {ssl: {ssl_trusted_certificate: ca.crt}}", ""), &["is ca.crt", "whole path"]);
    refused(
        authorities("deployment: {etcd: {tls: {verify: false}}}", "/etc/ssl/cert.pem"),
        &["deployment.etcd.tls.verify is false", "always verifies", "--etcd-ca-file"],
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let environment = environment(&[]);
    let error = ApisixConfig::read(Path::new("/nowhere/config.yaml"), environment).unwrap_err();
    assert_eq!(error.to_string(), "--apisix-config: cannot read /nowhere/config.yaml");
}
