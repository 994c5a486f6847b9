//! Certificates for tests: authorities of their own, servers at 127.0.0.1, clients by name.
//!
//! In: names. Out: PEM texts, and a folder to put them in and replace them. They are valid for years, and worth nothing.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its private key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The certificate.
    pub(crate) certificate: String,
    /// Its key.
    pub(crate) key: String,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("making a key")?;
        let mut params = named(Vec::new(), name)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).context("signing an authority's certificate")?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server that is called `names`, host names or addresses.
    ///
    /// It is good for a client too: etcd's HTTP gateway shows it to etcd itself.
    pub(crate) fn server(&self, names: &[&str]) -> anyhow::Result<Pair> {
        let params = named(names.iter().map(ToString::to_string).collect(), "server")?;
        self.signed(params, vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth])
    }

    /// A certificate for a client that is called `name`.
    pub(crate) fn client(&self, name: &str) -> anyhow::Result<Pair> {
        self.signed(named(Vec::new(), name)?, vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn signed(&self, mut params: CertificateParams, usages: Vec<ExtendedKeyUsagePurpose>) -> anyhow::Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages;
        let key = KeyPair::generate().context("making a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("signing a certificate")?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

fn named(names: Vec<String>, common: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("naming a certificate")?;
    params.distinguished_name.push(DnType::CommonName, common);
    Ok(params)
}

/// A folder of files that may be replaced while others read them.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    /// An empty one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir().context("making a folder for certificates")? })
    }

    /// Where the file `name` is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts `text` into the file `name`, all at once.
    pub(crate) fn put(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let fresh = self.path(&format!("{name}.new"));
        std::fs::write(&fresh, text).with_context(|| format!("writing {name}"))?;
        std::fs::rename(&fresh, &path).with_context(|| format!("replacing {name}"))?;
        Ok(path)
    }

    /// Puts a certificate and its key into `name.crt` and `name.key`.
    pub(crate) fn put_pair(&self, name: &str, pair: &Pair) -> anyhow::Result<(PathBuf, PathBuf)> {
        Ok((self.put(&format!("{name}.crt"), &pair.certificate)?, self.put(&format!("{name}.key"), &pair.key)?))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
