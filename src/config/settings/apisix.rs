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
    let said = config.map(ApisixConfig::etcd_prefix).transpose()?.flatten();
    match (said, config) {
        (Some(said), Some(config)) => match prefix_fault(&said) {
            Some(fault) => {
                Err(config.wrong(PATH, format!("{fault}: write for example /apisix, or give --etcd-prefix")).into())
            }
            None => {
                origins.push(Origin { setting: "prefix", value: said.clone(), from: Teller::Apisix(PATH) });
                Ok(said)
            }
        },
        (Some(_), None) | (None, None) => Ok(super::PREFIX.to_owned()),
        (None, Some(_)) => {
            let value = super::PREFIX.to_owned();
            origins.push(Origin { setting: "prefix", value: value.clone(), from: Teller::Apisix("APISIX's default") });
            Ok(value)
        }
    }
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
