//! The certificate authorities that servers are checked against: the system's and a file of the user's.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::{Certificate, RootCerts};

use crate::address::shown_path;
use crate::reason::reason;

/// Reads them. The error is one line that names the file.
pub(super) fn load(extra: Option<&Path>) -> Result<RootCerts, String> {
    let mut authorities = rustls_native_certs::load_native_certs().certs;
    if let Some(path) = extra {
        authorities.extend(read(path)?);
    }
    if authorities.is_empty() {
        return Err("the system has no certificate authorities (install Debian's ca-certificates) and none are given".into());
    }
    let certificates = authorities
        .iter()
        .map(|authority| Certificate::from_der(authority).to_owned());
    Ok(RootCerts::from(certificates))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &dyn std::fmt::Display| {
        format!(
            "origin-tls-ca={}: {why}; it must be a file of CA certificates, as PEM",
            shown_path(path)
        )
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(&reason(&error)))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    if found.is_empty() {
        return Err(wrong(&"it has no certificate"));
    }
    Ok(found)
}
