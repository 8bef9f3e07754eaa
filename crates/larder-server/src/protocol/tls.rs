//! TLS for clients: certificates from a directory, and whether they are wanted or required.
//!
//! The directory has the files that nbdkit and libnbd use: `server-cert.pem` and `server-key.pem`,
//! and `ca-cert.pem`, which is needed only where clients must show a certificate.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use larder_frontend::report::reason;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::settings::PeerCertificates;

/// Whether clients encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsPolicy {
    /// If they like.
    Allow,
    /// Or they get nothing.
    Require,
}

/// What TLS needs.
#[derive(Clone)]
pub(crate) struct TlsSettings {
    policy: TlsPolicy,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSettings")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl TlsSettings {
    /// Reads the certificates. The error is one line that names the file and what is wrong with it.
    pub(crate) fn load(
        policy: TlsPolicy,
        directory: &Path,
        verify_peer: PeerCertificates,
    ) -> Result<Self, String> {
        let certificates = read_certificates(&directory.join("server-cert.pem"))?;
        let key = directory.join("server-key.pem");
        let private_key = PrivateKeyDer::from_pem_slice(&read(&key)?)
            .map_err(|error| format!("{}: not a private key: {error}", key.display()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS: {error}"))?;
        let builder = if verify_peer == PeerCertificates::Unasked {
            builder.with_no_client_auth()
        } else {
            let authority = directory.join("ca-cert.pem");
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(&authority)? {
                roots
                    .add(certificate)
                    .map_err(|error| format!("{}: {error}", authority.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            let verifier = match verify_peer {
                PeerCertificates::Optional => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| format!("{}: {error}", authority.display()))?;
            builder.with_client_cert_verifier(verifier)
        };
        let config = builder
            .with_single_cert(certificates, private_key)
            .map_err(|error| {
                format!(
                    "{}: server-cert.pem and server-key.pem do not go together: {error}",
                    directory.display()
                )
            })?;
        Ok(Self {
            policy,
            config: Arc::new(config),
        })
    }

    /// Whether clients must encrypt.
    pub(crate) fn policy(&self) -> TlsPolicy {
        self.policy
    }

    /// What a TLS session begins with.
    pub(super) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path)
        .map_err(|error| format!("{}: cannot be read: {}", path.display(), reason(&error)))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates =
        certificates.map_err(|error| format!("{}: not certificates: {error}", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}
