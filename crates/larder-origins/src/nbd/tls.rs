//! Whom an encrypted connection trusts, and how it names itself.
//!
//! With a certificates directory as libnbd and nbdkit know it, its `ca-cert.pem` is all that is
//! trusted; without one, or without that file beside those of the client, the system's authorities are.
//! `Options::tls_ca` adds to either.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::address::{NbdAddress, NbdServer, NbdTls};
use crate::{OpenError, Options};

/// How a connection is encrypted.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    /// What the server's certificate must be for.
    pub(super) name: ServerName<'static>,
}

/// Reads the files that the address and the options name. `None` for an address without encryption.
pub(super) fn load(address: &NbdAddress, options: &Options) -> Result<Option<Tls>, OpenError> {
    let Some(tls) = &address.tls else {
        return Ok(None);
    };
    let wrong = |why: String| OpenError::new(format!("{address}: {why}"));
    let roots = load_roots(tls, options).map_err(wrong)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|cause| wrong(format!("TLS: {cause}")))?
        .with_root_certificates(roots);
    let config = match load_client(tls).map_err(wrong)? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|cause| wrong(format!("client-cert.pem and client-key.pem: {cause}")))?,
    };
    let host = match (&tls.hostname, &address.server) {
        (Some(name), _) => name,
        (None, NbdServer::Tcp(host, _)) => host,
        (None, NbdServer::Unix(_)) => "localhost",
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| wrong(format!("'{host}' cannot be the name in a certificate")))?;
    Ok(Some(Tls {
        config: Arc::new(config),
        name,
    }))
}

fn load_roots(tls: &NbdTls, options: &Options) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match find_own_roots(tls)? {
        Some(path) => add_roots(&mut roots, &path)?,
        None => {
            // Some that cannot be read do not matter while others can.
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if let Some(path) = &options.tls_ca {
        add_roots(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(
            "no certificate authority to trust: install ca-certificates, or name one".to_owned(),
        );
    }
    Ok(roots)
}

/// The directory's `ca-cert.pem`. Without it, the system's authorities are trusted only where something else shows that
/// this is meant.
fn find_own_roots(tls: &NbdTls) -> Result<Option<PathBuf>, String> {
    let Some(directory) = &tls.certificates else {
        return Ok(None);
    };
    if !directory.is_dir() {
        return Err(format!(
            "tls-certificates={}: not a directory",
            directory.display()
        ));
    }
    let is_there = |name: &str| {
        let path = directory.join(name);
        path.try_exists()
            .map(|is_there| is_there.then_some(path.clone()))
            .map_err(|cause| format!("{}: {cause}", path.display()))
    };
    let own = is_there("ca-cert.pem")?;
    if own.is_none() && is_there("client-cert.pem")?.is_none() {
        return Err(format!(
            "tls-certificates={}: neither ca-cert.pem nor client-cert.pem is in this directory",
            directory.display()
        ));
    }
    Ok(own)
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    for certificate in load_chain(path)? {
        roots
            .add(certificate)
            .map_err(|cause| format!("{}: {cause}", path.display()))?;
    }
    Ok(())
}

fn load_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |cause| format!("{}: {cause}", path.display());
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(wrong)?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(chain)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn load_client(tls: &NbdTls) -> Result<Option<Identity>, String> {
    let Some(directory) = &tls.certificates else {
        return Ok(None);
    };
    let (certificate, key) = (
        directory.join("client-cert.pem"),
        directory.join("client-key.pem"),
    );
    if !certificate.exists() && !key.exists() {
        return Ok(None);
    }
    let chain = load_chain(&certificate)?;
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|cause| format!("{}: {cause}", key.display()))?;
    Ok(Some((chain, key)))
}
