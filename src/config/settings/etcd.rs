//! The link to etcd: endpoints, user, TLS files.
//!
//! Flags go in, an [`EtcdAddress`] comes out, or every error at once. The files are not opened here.

use super::time::{Bounds, TimeError, time};
use crate::{
    config::args::{EtcdArgs, PASSWORD_VARIABLE},
    model::link::{IdentityFiles, Login, Password, Secret, TlsFiles},
};
use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

/// Which etcd, how to show who we are, and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdAddress {
    /// URLs of its members, at least one, all http or all https, without user or password.
    pub endpoints: Vec<String>,
    /// How long one request may take; not zero.
    pub timeout: Duration,
    /// Who to be there; nobody if etcd's authentication is off, or goes by the client certificate.
    pub login: Option<Login>,
    /// Present exactly if the endpoints are https.
    pub tls: Option<TlsFiles>,
}

/// A setting of the link to etcd that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdSettingError {
    /// No endpoint was given.
    #[error(
        "--etcd-endpoints is missing: name the etcd that APISIX reads, for example --etcd-endpoints http://127.0.0.1:2379"
    )]
    NoEndpoint,
    /// An endpoint is not a URL of etcd.
    #[error("--etcd-endpoints: {endpoint:?} {fault}: write http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// The endpoint, without what might be a password.
        endpoint: String,
        /// What is wrong.
        fault: &'static str,
    },
    /// A user and password in a URL end up in logs.
    #[error(
        "--etcd-endpoints: an endpoint holds a user or password, which would show in process lists: leave it out, and use \
         --etcd-user and --etcd-password-file"
    )]
    Credentials,
    /// Some of the traffic would be in the clear.
    #[error("--etcd-endpoints: some are http and some https: write all alike")]
    MixedSchemes,
    /// The timeout is not a time.
    #[error(transparent)]
    Timeout(#[from] TimeError),
    /// A user without a password.
    #[error(
        "--etcd-user is given without a password: name a file with --etcd-password-file, or set {PASSWORD_VARIABLE}"
    )]
    NoPassword,
    /// A password without a user.
    #[error("a password for etcd is given without a user: name the user with --etcd-user, or leave the password out")]
    NoUser,
    /// Two passwords.
    #[error("both --etcd-password-file and {PASSWORD_VARIABLE} are given: leave one of them out")]
    TwoPasswords,
    /// TLS without anyone to trust.
    #[error(
        "--etcd-endpoints has https without --etcd-ca-file: name the PEM file of the authority that signed etcd's \
         certificate (for one that the whole world trusts, the system's list, such as /etc/ssl/certs/ca-certificates.crt)"
    )]
    NoAuthority,
    /// TLS settings for a plain connection.
    #[error("{flag} is given, but --etcd-endpoints has http, which uses no TLS: write https endpoints or leave it out")]
    TlsWithoutHttps {
        /// The first such flag.
        flag: &'static str,
    },
    /// Half a client certificate.
    #[error("--etcd-cert-file is given without --etcd-key-file: name the certificate's private key too, or neither")]
    NoKey,
    /// The other half.
    #[error("--etcd-key-file is given without --etcd-cert-file: name the key's certificate too, or neither")]
    NoCertificate,
    /// Not a name that a certificate can have.
    #[error("--etcd-server-name: {0:?} is neither a host name nor an IP address, without a port")]
    ServerName(String),
}

/// Longer, and a lost connection would look like a very slow one.
const TIMEOUT: Bounds =
    Bounds { flag: "--etcd-timeout", least: Duration::from_millis(1), most: Duration::from_mins(10), example: "5s" };

/// Checks `args`; every error is returned, in the order of the flags in the help text.
pub(super) fn check(args: EtcdArgs) -> Result<EtcdAddress, Vec<EtcdSettingError>> {
    let EtcdArgs {
        etcd_endpoints,
        etcd_timeout,
        etcd_user,
        etcd_password_file,
        etcd_password,
        etcd_ca_file,
        etcd_cert_file,
        etcd_key_file,
        etcd_server_name,
    } = args;
    let mut errors = Vec::new();
    let mut keep = |error| errors.push(error);
    let endpoints = endpoints(&etcd_endpoints).map_err(&mut keep).ok();
    let timeout = time(&etcd_timeout, &TIMEOUT).map_err(|error| keep(error.into())).ok();
    let login = login(etcd_user, etcd_password_file, etcd_password).map_err(&mut keep).ok();
    let https = endpoints.as_ref().map(|endpoints| endpoints.iter().any(|endpoint| is_https(endpoint)));
    let identity = identity(etcd_cert_file, etcd_key_file).map_err(&mut keep).ok();
    let server_name = etcd_server_name.map(server_name).transpose().map_err(&mut keep).ok();
    let (Some(https), Some(identity), Some(server_name)) = (https, identity, server_name) else { return Err(errors) };
    let tls = tls(https, etcd_ca_file, identity, server_name).map_err(&mut keep).ok();
    let (Some(endpoints), Some(timeout), Some(login), Some(tls)) = (endpoints, timeout, login, tls) else {
        return Err(errors);
    };
    Ok(EtcdAddress { endpoints, timeout, login, tls })
}

fn endpoints(endpoints: &[String]) -> Result<Vec<String>, EtcdSettingError> {
    // "http://a:1," is a slip that means one endpoint.
    let endpoints = endpoints.iter().map(|endpoint| endpoint.trim()).filter(|endpoint| !endpoint.is_empty());
    let endpoints = endpoints.map(endpoint).collect::<Result<Vec<String>, _>>()?;
    if endpoints.is_empty() {
        return Err(EtcdSettingError::NoEndpoint);
    }
    let n_https = endpoints.iter().filter(|endpoint| is_https(endpoint)).count();
    if n_https == 0 || n_https == endpoints.len() { Ok(endpoints) } else { Err(EtcdSettingError::MixedSchemes) }
}

/// An endpoint as its parts say, since the client knows `https://` in small letters only.
pub(super) fn endpoint(endpoint: &str) -> Result<String, EtcdSettingError> {
    // First, so that no message below can show a password.
    if endpoint.contains('@') {
        return Err(EtcdSettingError::Credentials);
    }
    let wrong = |fault| EtcdSettingError::Endpoint { endpoint: endpoint.to_owned(), fault };
    let url: http::Uri = endpoint.parse().map_err(|_| wrong("is not a URL"))?;
    let scheme = match url.scheme_str() {
        Some(scheme @ ("http" | "https")) => scheme,
        Some(_) => return Err(wrong("is neither http nor https")),
        None => return Err(wrong("does not begin with http:// or https://")),
    };
    match url.port_u16() {
        None | Some(0) => return Err(wrong("has no port")),
        Some(_) => {}
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(wrong("has a path"));
    }
    Ok(format!("{scheme}://{}", url.authority().map_or("", http::uri::Authority::as_str)))
}

pub(super) fn is_https(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

fn login(user: Option<String>, file: Option<PathBuf>, text: Option<Secret>) -> Result<Option<Login>, EtcdSettingError> {
    let password = match (file, text) {
        (Some(_), Some(_)) => return Err(EtcdSettingError::TwoPasswords),
        (Some(file), None) => Some(Password::File(file)),
        (None, Some(text)) => Some(Password::Text(text)),
        (None, None) => None,
    };
    match (user.filter(|user| !user.is_empty()), password) {
        (Some(user), Some(password)) => Ok(Some(Login { user: user.into(), password })),
        (Some(_), None) => Err(EtcdSettingError::NoPassword),
        (None, Some(_)) => Err(EtcdSettingError::NoUser),
        (None, None) => Ok(None),
    }
}

fn identity(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<IdentityFiles>, EtcdSettingError> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(IdentityFiles { certificate, key })),
        (Some(_), None) => Err(EtcdSettingError::NoKey),
        (None, Some(_)) => Err(EtcdSettingError::NoCertificate),
        (None, None) => Ok(None),
    }
}

fn tls(
    https: bool,
    ca: Option<PathBuf>,
    identity: Option<IdentityFiles>,
    server_name: Option<Arc<str>>,
) -> Result<Option<TlsFiles>, EtcdSettingError> {
    if https {
        let ca = ca.ok_or(EtcdSettingError::NoAuthority)?;
        return Ok(Some(TlsFiles { ca, identity, server_name }));
    }
    let given = [
        ("--etcd-ca-file", ca.is_some()),
        ("--etcd-cert-file", identity.is_some()),
        ("--etcd-server-name", server_name.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(EtcdSettingError::TlsWithoutHttps { flag }),
        None => Ok(None),
    }
}

fn server_name(name: String) -> Result<Arc<str>, EtcdSettingError> {
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    let right = name.parse::<IpAddr>().is_ok() || name.len() <= 253 && name.split('.').all(label);
    if right { Ok(name.into()) } else { Err(EtcdSettingError::ServerName(name)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::args::{Command, CommandLine};
    use clap::Parser as _;

    fn arguments(flags: &[&str]) -> EtcdArgs {
        let line = ["x", "run"].iter().chain(flags);
        let Command::Run(args) = CommandLine::try_parse_from(line).unwrap().command else { panic!("not run") };
        args.etcd
    }

    #[track_caller]
    fn refused(flags: &[&str], part: &str) {
        let errors: Vec<_> = check(arguments(flags)).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(errors.len() == 1 && errors[0].contains(part), "{flags:?}: {errors:?}");
    }

    #[test]
    fn an_endpoint_is_an_http_url_with_a_port_and_nothing_else() {
        for (good, plain) in [
            ("http://e:2379", "http://e:2379"),
            ("HTTPS://e:2379", "https://e:2379"),
            ("http://10.0.0.1:2379/", "http://10.0.0.1:2379"),
            ("http://[::1]:2379", "http://[::1]:2379"),
        ] {
            assert_eq!(endpoint(good).unwrap(), plain);
        }
        for bad in ["e:2379", "http://e", "unix:///e", "ftp://e:21", "http://e:2379/v3", "http://e:0", "http://"] {
            assert!(matches!(endpoint(bad), Err(EtcdSettingError::Endpoint { .. })), "{bad}");
        }
    }

    #[test]
    fn a_password_in_an_endpoint_is_not_repeated() {
        let error = endpoint("http://root:secret@e:2379").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn endpoints_are_all_plain_or_all_tls() {
        refused(&["--etcd-endpoints=https://a:1,http://b:1", "--etcd-ca-file=ca"], "write all alike");
        // A scheme may be written in any case.
        refused(&["--etcd-endpoints=HTTPS://a:1"], "without --etcd-ca-file");
    }

    #[test]
    fn a_plain_endpoint_needs_nothing_else() {
        let address = check(arguments(&["--etcd-endpoints=http://a:1,http://b:1"])).unwrap();
        let endpoints = vec!["http://a:1".to_owned(), "http://b:1".to_owned()];
        assert_eq!(address, EtcdAddress { endpoints, timeout: Duration::from_secs(5), login: None, tls: None });
    }

    #[test]
    fn tls_files_become_paths() {
        let flags = ["--etcd-endpoints=https://a:1", "--etcd-ca-file=/ca", "--etcd-cert-file=/crt"];
        let more = ["--etcd-key-file=/key", "--etcd-server-name=etcd.example"];
        let address = check(arguments(&[&flags[..], &more].concat())).unwrap();
        let identity = Some(IdentityFiles { certificate: "/crt".into(), key: "/key".into() });
        let tls = TlsFiles { ca: "/ca".into(), identity, server_name: Some("etcd.example".into()) };
        assert_eq!(address.tls, Some(tls));
    }

    #[test]
    fn half_of_what_tls_needs_is_refused_with_the_other_half_named() {
        let https = "--etcd-endpoints=https://a:1";
        refused(&[https], "https without --etcd-ca-file");
        refused(&[https, "--etcd-ca-file=ca", "--etcd-cert-file=crt"], "without --etcd-key-file");
        refused(&[https, "--etcd-ca-file=ca", "--etcd-key-file=key"], "without --etcd-cert-file");
        refused(&[https, "--etcd-ca-file=ca", "--etcd-server-name=e:2379"], "neither a host name nor");
    }

    #[test]
    fn tls_files_for_plain_endpoints_are_refused() {
        let http = "--etcd-endpoints=http://a:1";
        refused(&[http, "--etcd-ca-file=ca"], "--etcd-ca-file is given, but");
        refused(&[http, "--etcd-cert-file=crt", "--etcd-key-file=key"], "--etcd-cert-file is given, but");
        refused(&[http, "--etcd-server-name=e"], "--etcd-server-name is given, but");
    }

    #[test]
    fn a_user_has_exactly_one_password() {
        let http = "--etcd-endpoints=http://a:1";
        let login = check(arguments(&[http, "--etcd-user=us", "--etcd-password-file=/p"])).unwrap().login;
        assert_eq!(login, Some(Login { user: "us".into(), password: Password::File("/p".into()) }));
        refused(&[http, "--etcd-user=us"], "--etcd-password-file, or set APISIX_ETCD_CONTROLLER_ETCD_PASSWORD");
        refused(&[http, "--etcd-password-file=/p"], "--etcd-user");
        let both = super::login(Some("us".into()), Some("/p".into()), Some(Secret::new("hunter2")));
        let message = both.unwrap_err().to_string();
        assert!(message.contains("leave one of them out") && !message.contains("hunter2"), "{message}");
        let text = super::login(Some("us".into()), None, Some(Secret::new("hunter2"))).unwrap().unwrap();
        assert_eq!(text.password, Password::Text(Secret::new("hunter2")));
    }

    #[test]
    fn a_server_name_is_a_host_name_or_an_address() {
        for good in ["etcd", "etcd-0.etcd.default.svc", "10.0.0.1", "::1", &"a".repeat(63)] {
            assert!(server_name(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a b", "e:2379", "a..b", "https://e", &"a".repeat(64)] {
            assert!(server_name(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_fault_of_the_link_is_named_at_once() {
        let flags = ["--etcd-timeout=soon", "--etcd-user=us", "--etcd-cert-file=crt"];
        assert_eq!(check(arguments(&flags)).unwrap_err().len(), 4);
    }
}
