//! The files of the link to etcd: certificates, keys, the password.
//!
//! Paths go in; contents that can be used come out, or an error that names the file and what is wrong with it. No error and
//! no `Debug` shows anything of what a file holds. Nothing is kept here and nothing is watched.

use crate::model::link::{IdentityFiles, Password, TlsFiles};
use etcd_client::{Certificate, Identity, TlsOptions};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} as {what}: {fault}", path.display())]
pub struct FileError {
    path: PathBuf,
    what: &'static str,
    fault: String,
}

const AUTHORITIES: &str = "etcd's certificate authorities";
const CERTIFICATE: &str = "the client certificate for etcd";
const KEY: &str = "the client certificate's private key";
const PASSWORD: &str = "the password for etcd";

/// What the files of a TLS connection hold. It has no `Debug`: one of them is a private key.
pub(super) struct TlsContents {
    authorities: Vec<u8>,
    identity: Option<IdentityContents>,
}

struct IdentityContents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A print of [`TlsContents`]: equal contents have equal prints. Nothing can be learned from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Print(blake3::Hash);

impl TlsContents {
    /// Reads all files. Dropping it is safe.
    ///
    /// Files that are being replaced may be read half old and half new: whoever reads again later finds the rest.
    pub(super) async fn read(files: &TlsFiles) -> Result<Self, FileError> {
        let authorities = read(&files.ca, AUTHORITIES).await?;
        let identity = match &files.identity {
            Some(IdentityFiles { certificate, key }) => Some(IdentityContents {
                certificate: read(certificate, CERTIFICATE).await?,
                key: read(key, KEY).await?,
            }),
            None => None,
        };
        Ok(Self { authorities, identity })
    }

    pub(super) fn print(&self) -> Print {
        let mut hasher = blake3::Hasher::new();
        let (certificate, key) =
            self.identity.as_ref().map_or((&[][..], &[][..]), |identity| (&identity.certificate, &identity.key));
        for part in [&*self.authorities, certificate, key] {
            // With its length, so that what moves from one file to the next is a change.
            hasher.update(&part.len().to_le_bytes()).update(part);
        }
        Print(hasher.finalize())
    }

    /// Checks them as a connection would, file by file, and makes a connection's options of them.
    pub(super) fn options(&self, files: &TlsFiles) -> Result<TlsOptions, FileError> {
        let authorities = authorities(&self.authorities).map_err(|fault| error(&files.ca, AUTHORITIES, fault))?;
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(&self.authorities));
        if let (Some(contents), Some(files)) = (&self.identity, &files.identity) {
            check_identity(authorities, contents, files)?;
            options = options.identity(Identity::from_pem(&contents.certificate, &contents.key));
        }
        Ok(match &files.server_name {
            Some(name) => options.domain_name(&**name),
            None => options,
        })
    }
}

/// The password as it is at the moment.
pub(super) async fn password(password: &Password) -> Result<String, FileError> {
    let path = match password {
        Password::Text(secret) => return Ok(secret.reveal().to_owned()),
        Password::File(path) => path,
    };
    let bytes = read(path, PASSWORD).await?;
    let text = String::from_utf8(bytes).map_err(|_| error(path, PASSWORD, "it is not UTF-8"))?;
    // Editors and `echo` end a file with a newline.
    let text = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err(error(path, PASSWORD, "it is empty")) } else { Ok(text.to_owned()) }
}

async fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, FileError> {
    tokio::fs::read(path).await.map_err(|fault| error(path, what, fault.to_string()))
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, &'static str> {
    let certificates: Vec<_> = certificates(pem)?;
    let mut authorities = RootCertStore::empty();
    // A system's list may hold one that rustls does not understand; the others count.
    match authorities.add_parsable_certificates(certificates) {
        (0, _) => Err("none of its certificates can be used"),
        _ => Ok(authorities),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err("it holds no PEM certificate"),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err("it is not PEM"),
    }
}

fn check_identity(
    authorities: RootCertStore,
    contents: &IdentityContents,
    files: &IdentityFiles,
) -> Result<(), FileError> {
    let IdentityFiles { certificate, key } = files;
    let chain = certificates(&contents.certificate).map_err(|fault| error(certificate, CERTIFICATE, fault))?;
    let secret =
        PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| error(key, KEY, "it holds no PEM private key"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let built = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|config| config.with_root_certificates(authorities).with_client_auth_cert(chain, secret));
    match built {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(rustls::Error::InconsistentKeys(_))) => {
            Err(error(key, KEY, format!("it is not the key of {}", certificate.display())))
        }
        Ok(Err(fault)) | Err(fault) => Err(error(certificate, CERTIFICATE, fault.to_string())),
    }
}

fn error(path: &Path, what: &'static str, fault: impl Into<String>) -> FileError {
    FileError { path: path.to_owned(), what, fault: fault.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::link::Secret;
    use rcgen::{CertificateParams, KeyPair};

    /// A certificate and its key, in PEM.
    fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["etcd".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// The files of `folder`, as written.
    fn written(folder: &Path, ca: &str, identity: Option<(&str, &str)>) -> TlsFiles {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let identity = identity
            .map(|(certificate, key)| IdentityFiles { certificate: write("crt", certificate), key: write("key", key) });
        TlsFiles { ca: write("ca", ca), identity, server_name: None }
    }

    async fn fault(files: &TlsFiles) -> String {
        let options = TlsContents::read(files).await.and_then(|contents| contents.options(files));
        options.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_missing_or_malformed_file_is_named_with_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name| folder.path().join(name).display().to_string();
        let ((good, key), (_, other)) = (pair(), pair());
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (ca, identity, file, part) in [
            ("", None, "ca", "no PEM certificate"),
            ("hello", None, "ca", "no PEM certificate"),
            (broken, None, "ca", "not PEM"),
            (empty, None, "ca", "none of its certificates"),
            (&*good, Some(("", &*key)), "crt", "no PEM certificate"),
            (&good, Some((&good, "")), "key", "no PEM private key"),
            (&good, Some((&good, &good)), "key", "no PEM private key"),
            (&good, Some((&good, &other)), "key", "not the key of"),
        ] {
            let fault = fault(&written(folder.path(), ca, identity)).await;
            assert!(fault.contains(&at(file)) && fault.contains(part), "{fault}");
        }
        let mut files = written(folder.path(), &good, Some((&good, &key)));
        assert!(TlsContents::read(&files).await.unwrap().options(&files).is_ok());
        files.ca = folder.path().join("nowhere");
        assert!(fault(&files).await.contains(&at("nowhere")));
    }

    #[tokio::test]
    async fn every_file_counts_for_the_print() {
        let folder = tempfile::tempdir().unwrap();
        let mut prints = Vec::new();
        for (ca, certificate, key) in
            [("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"), ("ab", "", "c")]
        {
            let files = written(folder.path(), ca, Some((certificate, key)));
            let print = TlsContents::read(&files).await.unwrap().print();
            assert!(!prints.contains(&print), "{ca} {certificate} {key}");
            prints.push(print);
        }
        let files = written(folder.path(), "a", Some(("b", "c")));
        assert!(TlsContents::read(&files).await.unwrap().print() == prints[0]);
    }

    #[tokio::test]
    async fn a_password_is_what_a_file_holds_without_the_newline_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, expected) in [("secret\n", "secret"), ("secret\r\n", "secret"), (" se cret\n\n", " se cret\n")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(password(&Password::File(path.clone())).await.unwrap(), expected);
        }
        for text in [&b""[..], b"\n", b"\xff"] {
            std::fs::write(&path, text).unwrap();
            let fault = password(&Password::File(path.clone())).await.unwrap_err().to_string();
            assert!(fault.contains("password for etcd"), "{fault}");
        }
        assert_eq!(password(&Password::Text(Secret::new("secret\n"))).await.unwrap(), "secret\n");
    }
}
