//! Which etcd APISIX reads, as whom, and with which TLS files.

use super::{ApisixConfig, ApisixConfigError};
use crate::model::link::Secret;
use std::path::{Path, PathBuf};

/// Where APISIX finds etcd if nobody says.
const DEFAULT_HOST: &str = "http://127.0.0.1:2379";

/// What APISIX takes instead of `deployment.etcd.host`: a list in JSON.
const HOST_VARIABLE: &str = "APISIX_DEPLOYMENT_ETCD_HOST";

/// Lists of authorities that APISIX 3.12 and later look for, in this order, where `system` is written or nothing is
/// (`get_system_trusted_certs_filepath` in `apisix/cli/util.lua`).
const SYSTEM_LISTS: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where etcd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// As written, at least one.
    pub urls: Vec<String>,
    /// Where they are written.
    pub from: HostsFrom,
}

/// Where APISIX has its hosts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostsFrom {
    /// The environment; it goes before the file.
    Variable,
    /// The file.
    File,
    /// Nobody said.
    Default,
}

impl HostsFrom {
    /// As errors and logs call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Variable => HOST_VARIABLE,
            Self::File => HOST,
            Self::Default => "APISIX's default",
        }
    }
}

/// The client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

const HOST: &str = "deployment.etcd.host";
const USER: &str = "deployment.etcd.user";
const PASSWORD: &str = "deployment.etcd.password";
const CERTIFICATE: &str = "deployment.etcd.tls.cert";
const KEY: &str = "deployment.etcd.tls.key";
const AUTHORITIES: &str = "apisix.ssl.ssl_trusted_certificate";

impl ApisixConfig {
    /// Where APISIX looks for etcd.
    pub fn etcd_hosts(&self) -> Result<Hosts, ApisixConfigError> {
        const FLAG: &str = "--etcd-endpoints";
        if let Some(json) = (self.environment)(HOST_VARIABLE) {
            let list = serde_json::from_str(&json).or_else(|_| serde_json::from_str(&json).map(|one| vec![one]));
            return match list {
                Ok(urls) if !Vec::is_empty(&urls) => Ok(Hosts { urls, from: HostsFrom::Variable }),
                Ok(_) | Err(_) => Err(self.wrong(
                    HOST,
                    format!("is overridden by the environment variable {HOST_VARIABLE}, which is not a JSON list of URLs: unset it, or write for example [\"http://etcd:2379\"]"),
                )),
            };
        }
        let Some(list) = self.list(HOST, FLAG)? else {
            return Ok(Hosts { urls: vec![DEFAULT_HOST.to_owned()], from: HostsFrom::Default });
        };
        let url = |(index, url)| self.text_of(url, &format!("{HOST}[{index}]"), FLAG);
        Ok(Hosts { urls: list.iter().enumerate().map(url).collect::<Result<_, _>>()?, from: HostsFrom::File })
    }

    /// The prefix of APISIX's keys.
    pub fn etcd_prefix(&self) -> Result<Option<String>, ApisixConfigError> {
        self.text("deployment.etcd.prefix", "--etcd-prefix")
    }

    /// The user that APISIX is.
    pub fn etcd_user(&self) -> Result<Option<String>, ApisixConfigError> {
        Ok(self.text(USER, "--etcd-user")?.filter(|user| !user.is_empty()))
    }

    /// Its password.
    pub fn etcd_password(&self) -> Result<Option<Secret>, ApisixConfigError> {
        let password = self.text(PASSWORD, "--etcd-password-file")?;
        Ok(password.filter(|password| !password.is_empty()).map(|password| Secret::new(&password)))
    }

    /// The certificate that APISIX shows to etcd.
    pub fn etcd_identity(&self) -> Result<Option<Identity>, ApisixConfigError> {
        let certificate = self.path(CERTIFICATE, "--etcd-cert-file")?;
        let key = self.path(KEY, "--etcd-key-file")?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Identity { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.wrong(CERTIFICATE, format!("is there without {KEY}: write both, or neither"))),
            (None, Some(_)) => Err(self.wrong(KEY, format!("is there without {CERTIFICATE}: write both, or neither"))),
        }
    }

    /// The name that APISIX expects in etcd's certificate.
    pub fn etcd_server_name(&self) -> Result<Option<String>, ApisixConfigError> {
        Ok(self.text("deployment.etcd.tls.sni", "--etcd-server-name")?.filter(|name| !name.is_empty()))
    }

    /// Whom APISIX trusts to vouch for etcd: the file that is named, or the system's list. `exists` says whether a file does.
    ///
    /// An APISIX that verifies nothing names nobody; this program does verify, so that is an error.
    pub fn etcd_authorities(&self, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, ApisixConfigError> {
        const FLAG: &str = "--etcd-ca-file";
        const VERIFY: &str = "deployment.etcd.tls.verify";
        if self.text(AUTHORITIES, FLAG)?.is_some_and(|text| text != "system") {
            return Ok(self.path(AUTHORITIES, FLAG)?.unwrap_or_default());
        }
        if self.boolean_of(self.at(VERIFY, FLAG)?, VERIFY, FLAG)? == Some(false) {
            return Err(self.wrong(
                VERIFY,
                format!("is false, but this program always verifies etcd's certificate: name the PEM file of the authority that signed it with {FLAG}, or in {AUTHORITIES}"),
            ));
        }
        let system = SYSTEM_LISTS.into_iter().map(PathBuf::from).find(|path| exists(path));
        system.ok_or_else(|| {
            self.wrong(
                AUTHORITIES,
                format!("names no file, and no list of the system is where APISIX looks for it: name the PEM file of the authority that signed etcd's certificate with {FLAG}"),
            )
        })
    }

    /// An absolute path: APISIX takes others from wherever it was started.
    fn path(&self, path: &str, flag: &'static str) -> Result<Option<PathBuf>, ApisixConfigError> {
        let Some(file) = self.text(path, flag)?.filter(|file| !file.is_empty()).map(PathBuf::from) else {
            return Ok(None);
        };
        if file.is_absolute() {
            return Ok(Some(file));
        }
        let fault = format!(
            "is {}, which APISIX takes from the folder it is started in: write the whole path, or name the file with {flag}",
            file.display()
        );
        Err(self.wrong(path, fault))
    }
}
