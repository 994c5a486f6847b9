//! What APISIX's own configuration says where no flag does.
//!
//! Arguments and the file go in; the arguments come out with their gaps filled, and for each setting where it came from. A
//! flag goes before the file, and what a flag says is not looked at in the file.

use super::{
    SettingError,
    etcd::{EtcdSettingError, endpoint, is_https},
    listen::{sockets, stream_plugins},
    prefix_fault,
};
use crate::{
    apisix::{plugins::is_traffic_split, version::ApisixVersion},
    config::{
        apisix::{ApisixConfig, ApisixConfigError, Role},
        args::EtcdArgs,
    },
    model::sockets::{Inventory, StreamProxy},
};
use std::{fmt, path::Path, sync::Arc};

/// One setting, and where it came from. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What it is.
    pub setting: &'static str,
    /// What it came to, in words.
    pub value: String,
    /// Who said so.
    pub from: Teller,
}

/// Who said what a setting is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teller {
    /// This flag, or its variable.
    Flag(&'static str),
    /// APISIX's configuration, here.
    Apisix(&'static str),
    /// Nobody.
    Nobody,
}

impl fmt::Display for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(text) | Self::Apisix(text) => f.write_str(text),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}

/// `endpoints (deployment.etcd.host): http://etcd:2379`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, value, from } = self;
        write!(f, "{setting} ({from}): {value}")
    }
}

const ENDPOINTS: &str = "--etcd-endpoints";

/// Fills what `args` leaves open of the link to etcd.
pub(super) fn fill_etcd(
    mut args: EtcdArgs,
    config: &ApisixConfig,
    origins: &mut Vec<Origin>,
) -> Result<EtcdArgs, Vec<SettingError>> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<(), ApisixConfigError>| {
        if let Err(error) = result {
            errors.push(SettingError::from(error));
        }
    };
    keep(fill_endpoints(&mut args, config, origins));
    keep(fill_login(&mut args, config, origins));
    if args.etcd_endpoints.iter().any(|endpoint| is_https(&endpoint.trim().to_ascii_lowercase())) {
        keep(fill_authorities(&mut args, config, origins));
        keep(fill_identity(&mut args, config, origins));
        keep(fill_server_name(&mut args, config, origins));
    }
    if errors.is_empty() { Ok(args) } else { Err(errors) }
}

fn fill_endpoints(
    args: &mut EtcdArgs,
    config: &ApisixConfig,
    origins: &mut Vec<Origin>,
) -> Result<(), ApisixConfigError> {
    if args.etcd_endpoints.iter().any(|endpoint| !endpoint.trim().is_empty()) {
        // Shown by whoever uses them: a password put there by mistake is refused first.
        return Ok(());
    }
    let hosts = config.etcd_hosts()?;
    let mut urls = Vec::new();
    for (index, url) in hosts.urls.iter().enumerate() {
        let fault = match endpoint(url) {
            Ok(url) => {
                urls.push(url);
                continue;
            }
            Err(EtcdSettingError::Endpoint { fault, .. }) => {
                format!("{fault}: write http://HOST:PORT or https://HOST:PORT, or give {ENDPOINTS}")
            }
            Err(_) => {
                "holds a user or password: write them as deployment.etcd.user and deployment.etcd.password".into()
            }
        };
        return Err(config.wrong(format!("{}[{index}]", hosts.from.as_str()), fault));
    }
    let n_https = urls.iter().filter(|url| is_https(url)).count();
    if n_https != 0 && n_https != urls.len() {
        return Err(config.wrong(hosts.from.as_str(), "has some http and some https: write all alike"));
    }
    origins.push(Origin { setting: "etcd", value: urls.join(", "), from: Teller::Apisix(hosts.from.as_str()) });
    args.etcd_endpoints = urls;
    Ok(())
}

fn fill_login(args: &mut EtcdArgs, config: &ApisixConfig, origins: &mut Vec<Origin>) -> Result<(), ApisixConfigError> {
    const USER: &str = "deployment.etcd.user";
    const PASSWORD: &str = "deployment.etcd.password";
    let user = args.etcd_user.clone().filter(|user| !user.is_empty());
    let has_password = args.etcd_password_file.is_some() || args.etcd_password.is_some();
    match (user, has_password) {
        (Some(_), true) => {}
        // Of the same user; another one's is nobody's.
        (Some(user), false) => {
            if config.etcd_user()?.as_deref() == Some(&*user) {
                args.etcd_password = config.etcd_password()?;
            }
        }
        (None, true) => {
            args.etcd_user = config.etcd_user()?;
            if let Some(user) = &args.etcd_user {
                origins.push(Origin { setting: "etcd user", value: user.clone(), from: Teller::Apisix(USER) });
            }
        }
        (None, false) => match (config.etcd_user()?, config.etcd_password()?) {
            (Some(user), Some(password)) => {
                let value = format!("{user}, with its password");
                origins.push(Origin { setting: "etcd user", value, from: Teller::Apisix(USER) });
                args.etcd_user = Some(user);
                args.etcd_password = Some(password);
            }
            (None, None) => {}
            // APISIX would be nobody then, and etcd refuse it somewhere else.
            (Some(_), None) => {
                let fault = format!("is there without {PASSWORD}: write both, or give --etcd-password-file");
                return Err(config.wrong(USER, fault));
            }
            (None, Some(_)) => {
                let fault = format!("is there without {USER}: write both, or give --etcd-user");
                return Err(config.wrong(PASSWORD, fault));
            }
        },
    }
    Ok(())
}

fn fill_authorities(
    args: &mut EtcdArgs,
    config: &ApisixConfig,
    origins: &mut Vec<Origin>,
) -> Result<(), ApisixConfigError> {
    if args.etcd_ca_file.is_none() {
        let file = config.etcd_authorities(Path::exists)?;
        origins.push(Origin {
            setting: "etcd's authorities",
            value: file.display().to_string(),
            from: Teller::Apisix("apisix.ssl.ssl_trusted_certificate"),
        });
        args.etcd_ca_file = Some(file);
    }
    Ok(())
}

fn fill_identity(
    args: &mut EtcdArgs,
    config: &ApisixConfig,
    origins: &mut Vec<Origin>,
) -> Result<(), ApisixConfigError> {
    if args.etcd_cert_file.is_some() || args.etcd_key_file.is_some() {
        return Ok(());
    }
    if let Some(identity) = config.etcd_identity()? {
        let value = identity.certificate.display().to_string();
        origins.push(Origin {
            setting: "client certificate for etcd",
            value,
            from: Teller::Apisix("deployment.etcd.tls.cert"),
        });
        args.etcd_cert_file = Some(identity.certificate);
        args.etcd_key_file = Some(identity.key);
    }
    Ok(())
}

fn fill_server_name(
    args: &mut EtcdArgs,
    config: &ApisixConfig,
    origins: &mut Vec<Origin>,
) -> Result<(), ApisixConfigError> {
    if args.etcd_server_name.is_none()
        && let Some(name) = config.etcd_server_name()?
    {
        let from = Teller::Apisix("deployment.etcd.tls.sni");
        origins.push(Origin { setting: "name in etcd's certificate", value: name.clone(), from });
        args.etcd_server_name = Some(name);
    }
    Ok(())
}

/// The prefix that APISIX reads.
pub(super) fn prefix(
    flag: Option<String>,
    config: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<String, SettingError> {
    const PATH: &str = "deployment.etcd.prefix";
    if let Some(flag) = flag {
        if config.is_some() {
            origins.push(Origin { setting: "prefix", value: flag.clone(), from: Teller::Flag("--etcd-prefix") });
        }
        return super::prefix(flag);
    }
    let Some(config) = config else { return Ok(super::PREFIX.to_owned()) };
    let said = config.etcd_prefix()?;
    if let Some(fault) = said.as_deref().and_then(prefix_fault) {
        return Err(config.wrong(PATH, format!("{fault}: write for example /apisix, or give --etcd-prefix")).into());
    }
    let from = Teller::Apisix(if said.is_some() { PATH } else { "APISIX's default" });
    let value = said.unwrap_or_else(|| super::PREFIX.to_owned());
    origins.push(Origin { setting: "prefix", value: value.clone(), from });
    Ok(value)
}

/// Where APISIX listens, and whether it can refuse a share.
pub(super) fn stream_proxy(
    listen: &[String],
    plugins: &[String],
    version: ApisixVersion,
    config: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<StreamProxy, Vec<SettingError>> {
    let mut errors = Vec::new();
    // A control plane listens for nobody's connections.
    let of_data_plane = match config.map(|config| Ok((config, config.role()?))).transpose() {
        Ok(Some((config, Role::DataPlane))) => Some(config),
        Ok(Some((_, Role::ControlPlane)) | None) => None,
        Err(error) => return Err(vec![SettingError::Apisix(error)]),
    };
    let sockets = inventory(listen, version, of_data_plane, origins).map_err(|error| errors.push(error)).ok();
    let traffic_split = traffic_split(plugins, of_data_plane, origins).map_err(|error| errors.push(error)).ok();
    match (sockets, traffic_split) {
        (Some(sockets), Some(traffic_split)) => Ok(StreamProxy { sockets, traffic_split }),
        (_, _) => Err(errors),
    }
}

fn inventory(
    listen: &[String],
    version: ApisixVersion,
    config: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<Inventory, SettingError> {
    let (said, from) = match (sockets(listen)?, config) {
        (Some(sockets), _) => (Some(sockets), Teller::Flag("--listen")),
        (None, Some(config)) if config.proxies_streams()? => {
            (Some(config.sockets(version)?), Teller::Apisix("apisix.stream_proxy"))
        }
        (None, Some(config)) => (Some(config.sockets(version)?), Teller::Apisix("apisix.proxy_mode")),
        (None, None) => (None, Teller::Nobody),
    };
    let value =
        said.as_ref().map_or_else(|| "unknown, so that every port is taken on trust".to_owned(), ToString::to_string);
    origins.push(Origin { setting: "ports", value, from });
    Ok(said.map_or(Inventory::Unknown, |sockets| Inventory::Known(Arc::new(sockets))))
}

fn traffic_split(
    plugins: &[String],
    config: Option<&ApisixConfig>,
    origins: &mut Vec<Origin>,
) -> Result<Option<bool>, SettingError> {
    let (said, from) = match (stream_plugins(plugins), config) {
        (Some(plugins), _) => (Some(plugins), Teller::Flag("--stream-plugins")),
        (None, Some(config)) => (config.stream_plugins()?, Teller::Apisix("stream_plugins")),
        (None, None) => (None, Teller::Nobody),
    };
    let (value, from) = match &said {
        None => ("as APISIX has them by default".to_owned(), Teller::Nobody),
        Some(plugins) if plugins.is_empty() => ("none".to_owned(), from),
        Some(plugins) => (plugins.join(", "), from),
    };
    origins.push(Origin { setting: "stream plugins", value, from });
    Ok(said.map(|plugins| plugins.iter().any(|plugin| is_traffic_split(plugin))))
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{
            args::{Command, CommandLine},
            settings::{RunSettings, apisix::Origin},
        },
        model::{
            link::{IdentityFiles, Login, Password, Secret, TlsFiles},
            sockets::{Footing, Inventory, Need},
        },
    };
    use clap::Parser as _;

    const FILE: &str = "\
deployment:
  role: data_plane
  role_data_plane: {config_provider: etcd}
  etcd:
    host: ['http://etcd-0:2379', 'http://etcd-1:2379']
    prefix: /plane
    user: apisix
    password: hunter2
apisix:
  proxy_mode: http&stream
  stream_proxy: {tcp: [9100, {addr: 9443, tls: true}], udp: [9200]}
stream_plugins: [ip-restriction]
";

    fn check(file: &str, flags: &[&str]) -> Result<RunSettings, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, file).unwrap();
        let line = ["x", "run", "--apisix-config", path.to_str().unwrap()];
        let command = CommandLine::try_parse_from(line.iter().chain(flags)).unwrap().command;
        let Command::Run(args) = command else { panic!("not run") };
        RunSettings::check(*args).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[track_caller]
    fn refused(file: &str, flags: &[&str], parts: &[&str]) {
        let errors = check(file, flags).unwrap_err();
        assert!(errors.len() == 1 && parts.iter().all(|part| errors[0].contains(part)), "{errors:?}");
        assert!(!errors[0].contains("hunter2"), "{errors:?}");
    }

    fn origins(settings: &RunSettings) -> Vec<String> {
        settings.origins.iter().map(Origin::to_string).collect()
    }

    fn login(user: &str, password: Password) -> Login {
        Login { user: user.into(), password }
    }

    #[test]
    fn the_file_says_what_no_flag_does() {
        let settings = check(FILE, &[]).unwrap();
        assert_eq!(settings.etcd.endpoints, ["http://etcd-0:2379", "http://etcd-1:2379"]);
        assert_eq!(settings.etcd.login, Some(login("apisix", Password::Text(Secret::new("hunter2")))));
        assert_eq!(settings.etcd.tls, None);
        assert_eq!(settings.translation.plane.plane.prefix(), "/plane");
        let stream = &settings.translation.plane.stream;
        assert_eq!(stream.traffic_split, Some(false));
        assert_eq!(stream.sockets.serves(9443.try_into().unwrap(), Need::TlsTerminate), Ok(Footing::Listening));
        assert_eq!(
            origins(&settings),
            [
                "etcd (deployment.etcd.host): http://etcd-0:2379, http://etcd-1:2379",
                "etcd user (deployment.etcd.user): apisix, with its password",
                "prefix (deployment.etcd.prefix): /plane",
                "ports (apisix.stream_proxy): tcp 9100; tls 9443; udp 9200",
                "stream plugins (stream_plugins): ip-restriction",
            ]
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn a_flag_goes_before_the_file() {
        let flags = [
            "--etcd-endpoints=http://a:1",
            "--etcd-user=us",
            "--etcd-password-file=/p",
            "--etcd-prefix=/ours",
            "--listen=udp:53",
            "--stream-plugins=traffic-split",
        ];
        let settings = check(FILE, &flags).unwrap();
        assert_eq!(settings.etcd.endpoints, ["http://a:1"]);
        assert_eq!(settings.etcd.login, Some(login("us", Password::File("/p".into()))));
        assert_eq!(settings.translation.plane.plane.prefix(), "/ours");
        assert_eq!(settings.translation.plane.stream.traffic_split, Some(true));
        assert_eq!(
            origins(&settings),
            [
                "etcd (--etcd-endpoints): http://a:1",
                "prefix (--etcd-prefix): /ours",
                "ports (--listen): udp 53",
                "stream plugins (--stream-plugins): traffic-split",
            ]
        );
    }

    #[test]
    fn what_a_flag_says_is_not_looked_at_in_the_file() {
        let file = "\
deployment: {etcd: {host: nonsense, prefix: 7, user: '${{UNSET}}', password: '${{UNSET}}'}}
apisix: {proxy_mode: stream, stream_proxy: {tcp: nonsense}}
stream_plugins: nonsense
";
        let flags = ["--etcd-endpoints=http://a:1", "--etcd-user=us", "--etcd-password-file=/p", "--etcd-prefix=/ours"];
        let all = [&flags[..], &["--listen=none", "--stream-plugins=none"]].concat();
        let settings = check(file, &all).unwrap();
        assert_eq!(settings.translation.plane.stream.traffic_split, Some(false));
        let errors = check(file, &flags).unwrap_err();
        assert!(errors.len() == 2 && errors[0].contains("apisix.stream_proxy.tcp"), "{errors:?}");
        assert!(errors[1].contains("stream_plugins is not a list"), "{errors:?}");
    }

    #[test]
    fn a_file_that_says_nothing_is_apisix_as_it_comes() {
        let settings = check("# nothing\n", &[]).unwrap();
        assert_eq!(settings.etcd.endpoints, ["http://127.0.0.1:2379"]);
        assert_eq!(settings.translation.plane.plane.prefix(), "/apisix");
        assert_eq!(
            origins(&settings),
            [
                "etcd (APISIX's default): http://127.0.0.1:2379",
                "prefix (APISIX's default): /apisix",
                "ports (apisix.proxy_mode): none",
                "stream plugins (nobody): as APISIX has them by default",
            ]
        );
        assert_eq!(settings.translation.plane.stream.traffic_split, None);
    }

    #[test]
    fn a_control_plane_tells_of_etcd_and_not_of_ports() {
        let settings = check(&FILE.replace("data_plane", "control_plane"), &[]).unwrap();
        assert_eq!(settings.translation.plane.plane.prefix(), "/plane");
        assert_eq!(settings.translation.plane.stream.sockets, Inventory::Unknown);
        assert_eq!(settings.translation.plane.stream.traffic_split, None);
    }

    #[test]
    fn an_apisix_that_reads_no_etcd_is_refused() {
        refused(&FILE.replace("config_provider: etcd", "config_provider: yaml"), &[], &["reads no etcd"]);
    }

    #[test]
    fn user_and_password_belong_together() {
        let only = |what: &str| FILE.lines().filter(|line| !line.contains(what)).collect::<Vec<_>>().join("\n");
        let user = check(FILE, &["--etcd-password-file=/p"]).unwrap();
        assert_eq!(user.etcd.login, Some(login("apisix", Password::File("/p".into()))));
        let same = check(FILE, &["--etcd-user=apisix"]).unwrap();
        assert_eq!(same.etcd.login, Some(login("apisix", Password::Text(Secret::new("hunter2")))));
        // The password of one user is not tried for another.
        refused(FILE, &["--etcd-user=us"], &["--etcd-user is given without a password"]);
        refused(&only("password"), &[], &["deployment.etcd.user is there without deployment.etcd.password"]);
        refused(&only("user"), &[], &["deployment.etcd.password is there without deployment.etcd.user"]);
        assert_eq!(
            check(&only("apisix\n").replace("    user: apisix\n    password: hunter2\n", ""), &[]).unwrap().etcd.login,
            None
        );
        let number = FILE.replace("hunter2", "123456");
        refused(&number, &[], &["deployment.etcd.password is not a text"]);
    }

    #[test]
    fn tls_files_count_where_etcd_is_https() {
        let tls = "    tls: {cert: /crt, key: /key, sni: etcd.example}\napisix:\n  ssl: {ssl_trusted_certificate: /ca}";
        let file = FILE.replace("apisix:\n", &format!("{tls}\n")).replace("http://", "https://");
        let identity = |crt: &str| Some(IdentityFiles { certificate: crt.into(), key: "/key".into() });
        let whole = |ca: &str, crt: &str, name: &str| {
            Some(TlsFiles { ca: ca.into(), identity: identity(crt), server_name: Some(name.into()) })
        };
        assert_eq!(check(&file, &[]).unwrap().etcd.tls, whole("/ca", "/crt", "etcd.example"));
        let flags = ["--etcd-ca-file=/f", "--etcd-cert-file=/g", "--etcd-key-file=/key", "--etcd-server-name=n"];
        assert_eq!(check(&file, &flags).unwrap().etcd.tls, whole("/f", "/g", "n"));
        // Half a pair of flags is not made whole by half a pair of the file.
        refused(&file, &["--etcd-cert-file=/g"], &["--etcd-cert-file is given without --etcd-key-file"]);
        assert_eq!(check(&file.replace("https://", "http://"), &[]).unwrap().etcd.tls, None);
        let unverified = file.replace("sni: etcd.example", "verify: false").replace("/ca", "system");
        refused(&unverified, &[], &["deployment.etcd.tls.verify is false", "--etcd-ca-file"]);
        assert!(check(&unverified, &["--etcd-ca-file=/f"]).is_ok());
    }

    #[test]
    fn a_value_that_cannot_be_used_is_named_by_its_place_in_the_file() {
        let host = |host: &str| FILE.replace("http://etcd-1:2379", host);
        refused(&host("etcd-1:2379"), &[], &["deployment.etcd.host[1] does not begin with http:// or https://"]);
        refused(&host("http://etcd-1"), &[], &["deployment.etcd.host[1] has no port"]);
        refused(&host("http://etcd-1:2379/v3"), &[], &["deployment.etcd.host[1] has a path"]);
        refused(&host("http://us:hunter2@etcd-1:2379"), &[], &["deployment.etcd.host[1] holds a user or password"]);
        refused(&host("https://etcd-1:2379"), &[], &["deployment.etcd.host has some http and some https"]);
        refused(&FILE.replace("/plane", "plane/"), &[], &["deployment.etcd.prefix does not begin with '/'"]);
        refused(FILE, &["--control-prefix=/plane/own"], &["one begins with the other"]);
        refused(FILE, &["--listen=9100"], &["--listen: \"9100\"", "for example tcp:9100"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_named_alone() {
        let line = ["x", "run", "--apisix-config", "/nowhere/config.yaml", "--instance=A"];
        let Command::Run(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not run") };
        let errors = RunSettings::check(*args).unwrap_err();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "--apisix-config: cannot read /nowhere/config.yaml");
    }
}
