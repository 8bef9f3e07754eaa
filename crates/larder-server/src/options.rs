//! Every option of `larder serve`, as it is typed: on the command line and in a configuration file.
//!
//! One structure for both, so that they cannot differ in names. Values stay texts here; what they
//! mean is decided in [`crate::settings`].

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// A value as it was typed. A file may say it as text, number or boolean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) OsString);

impl Text {
    pub(crate) fn as_os_str(&self) -> &OsStr {
        &self.0
    }
}

impl From<OsString> for Text {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a whole number or a boolean")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
                Ok(value.to_string().as_str().into())
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
                Ok(value.to_string().as_str().into())
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// Several values. A file may have one without brackets.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Text>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Vec<Text>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, or a list of texts in brackets")
        }
        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Text>, E> {
            Ok(vec![text.into()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Text>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = items.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_any(List)
}

/// One `[[export]]` of a configuration file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ExportTable {
    /// The export name; unnamed without.
    #[serde(default)]
    pub(crate) name: String,
    /// What is served.
    pub(crate) origin: String,
    /// What a client that lists exports is told.
    pub(crate) description: Option<String>,
    /// Headers for this origin, in the place of those for all.
    #[serde(default, deserialize_with = "list")]
    pub(crate) http_header: Vec<Text>,
}

/// All options, given or not.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Options {
    /// What to serve: memory:SIZE, a file or block device, nbd://, nbds://, nbd+unix://, nbds+unix://,
    /// http:// or https://; NAME is the export's name
    #[arg(value_name = "[NAME=]ORIGIN", verbatim_doc_comment)]
    #[serde(deserialize_with = "list")]
    pub(crate) origins: Vec<Text>,

    /// Exports of a configuration file.
    #[arg(skip)]
    pub(crate) export: Vec<ExportTable>,

    /// When writes reach the origin: writeback, writethrough or unsafe [default: writeback]
    #[arg(long, value_name = "MODE", help_heading = CACHE)]
    pub(crate) cache: Option<Text>,
    /// Where what is flushed is durable: origin, or cache (in --cache-dir) [default: origin]
    #[arg(long, value_name = "WHERE", help_heading = CACHE)]
    pub(crate) cache_flush: Option<Text>,
    /// With --cache-flush=cache, how the origin gets what was flushed: unordered, or ordered (flush by flush)
    /// [default: unordered]
    #[arg(long, value_name = "ORDER", help_heading = CACHE)]
    pub(crate) cache_writeback: Option<Text>,
    /// Unit of caching, a power of two from 4K to 2G [default: 64K]
    #[arg(long, value_name = "SIZE", help_heading = CACHE)]
    pub(crate) cache_min_block_size: Option<Text>,
    /// Limit on the cache's size on disk, at least 1M [default: half of what is free there]
    #[arg(long, value_name = "SIZE", help_heading = CACHE)]
    pub(crate) cache_max_size: Option<Text>,
    /// Blocks are dropped above this share of the limit [default: 95]
    #[arg(long, value_name = "PERCENT", help_heading = CACHE)]
    pub(crate) cache_high_threshold: Option<Text>,
    /// ... until less than this share is used [default: 80]
    #[arg(long, value_name = "PERCENT", help_heading = CACHE)]
    pub(crate) cache_low_threshold: Option<Text>,
    /// Keep what is read, always or while /PATH exists [default: true]
    #[arg(long, value_name = "BOOL|/PATH", help_heading = CACHE)]
    pub(crate) cache_on_read: Option<Text>,
    /// Only `separate`: each export has contents of its own [default: separate]
    #[arg(long, value_name = "WHICH", help_heading = CACHE)]
    pub(crate) cache_exports: Option<Text>,
    /// Write back what is older without a flush [default: 30]
    #[arg(long, value_name = "SECONDS|off", help_heading = CACHE)]
    pub(crate) cache_dirty_age: Option<Text>,
    /// Write back the oldest when more of the limit is dirty [default: none, 50 with --cache-flush=cache]
    #[arg(long, value_name = "PERCENT", help_heading = CACHE)]
    pub(crate) cache_dirty_share: Option<Text>,
    /// Fetch at most so much ahead of sequential readers, where reads are kept [default: 8M]
    #[arg(long, value_name = "SIZE|off", help_heading = CACHE)]
    pub(crate) cache_readahead: Option<Text>,
    /// Keep the cache in this directory, where the next start finds it [default: it ends with the server]
    #[arg(long, value_name = "PATH", help_heading = CACHE)]
    pub(crate) cache_dir: Option<Text>,
    /// What the origins hold, in your own words: another text than at the last start drops what was kept
    #[arg(long, value_name = "TEXT", help_heading = CACHE)]
    pub(crate) cache_id: Option<Text>,

    /// Where to listen: unix:PATH or tcp:HOST:PORT (port 0 is any free one); may be repeated
    /// [default: tcp:localhost:10809]
    #[arg(long, value_name = "ADDRESS", help_heading = CLIENTS)]
    #[serde(deserialize_with = "list")]
    pub(crate) listen: Vec<Text>,
    /// Permissions of Unix sockets, such as 660
    #[arg(long, value_name = "OCTAL", help_heading = CLIENTS)]
    pub(crate) socket_mode: Option<Text>,
    /// Owner of Unix sockets, by name or number
    #[arg(long, value_name = "USER[:GROUP]", help_heading = CLIENTS)]
    pub(crate) socket_owner: Option<Text>,
    /// Connections at one time [default: 1024]
    #[arg(long, value_name = "N", help_heading = CLIENTS)]
    pub(crate) max_connections: Option<Text>,
    /// How long a client may take until it has chosen an export [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = CLIENTS)]
    pub(crate) handshake_timeout: Option<Text>,
    /// Serve everything read-only
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = CLIENTS)]
    pub(crate) read_only: Option<Text>,

    /// TLS: off, on (clients choose) or require [default: off]
    #[arg(long, value_name = "POLICY", help_heading = TLS)]
    pub(crate) tls: Option<Text>,
    /// Directory with ca-cert.pem, server-cert.pem and server-key.pem
    #[arg(long, value_name = "DIR", help_heading = TLS)]
    pub(crate) tls_certificates: Option<Text>,
    /// Clients must have a certificate that ca-cert.pem signed; optional: or none
    #[arg(long, value_name = "BOOL|optional", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = TLS)]
    pub(crate) tls_verify_peer: Option<Text>,
    /// Refused, with a sentence.
    #[arg(long, hide = true)]
    pub(crate) tls_psk: Option<Text>,

    /// How long a request to an origin that does not answer is tried again [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = ORIGINS)]
    pub(crate) origin_timeout: Option<Text>,
    /// Header for all requests to the HTTP origins, which must be on one server: 'Name: value', or @FILE with one in each line; may be repeated
    #[arg(long, value_name = "HEADER|@FILE", help_heading = ORIGINS)]
    #[serde(deserialize_with = "list")]
    pub(crate) http_header: Vec<Text>,
    /// Certificate authorities for nbds:// and https:// beyond the system's, as PEM
    #[arg(long, value_name = "FILE", help_heading = ORIGINS)]
    pub(crate) origin_tls_ca: Option<Text>,

    /// Run a shell command with $uri, $unixsocket and others set, and end with it
    #[arg(long, value_name = "COMMAND", help_heading = LIFE)]
    pub(crate) run: Option<Text>,
    /// End when the last client has left
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = LIFE)]
    pub(crate) exit_with_last_client: Option<Text>,
    /// Write the process number to a file once clients can connect
    #[arg(long, value_name = "FILE", help_heading = LIFE)]
    pub(crate) pidfile: Option<Text>,
    /// Tell what happens to each block, and all figures at the end
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", help_heading = LIFE)]
    pub(crate) verbose: Option<Text>,
    /// Read options from a TOML file; the command line wins
    #[arg(long, value_name = "FILE", help_heading = LIFE)]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
}

const CACHE: &str = "Cache";
const CLIENTS: &str = "Clients";
const TLS: &str = "TLS";
const ORIGINS: &str = "Origins";
const LIFE: &str = "Running";

impl Options {
    /// These options, and where they say nothing those of `file`. Lists are not mixed: origins and
    /// exports count as one list.
    pub(crate) fn over(self, file: Self) -> Self {
        let file = file.without_idle(&self);
        let says_origins = !self.origins.is_empty() || !self.export.is_empty();
        let (origins, export) = if says_origins {
            (self.origins, self.export)
        } else {
            (file.origins, file.export)
        };
        let list = |own: Vec<Text>, other: Vec<Text>| if own.is_empty() { other } else { own };
        // All are named, so that a new one cannot be forgotten here.
        Self {
            origins,
            export,
            cache: self.cache.or(file.cache),
            cache_flush: self.cache_flush.or(file.cache_flush),
            cache_writeback: self.cache_writeback.or(file.cache_writeback),
            cache_min_block_size: self.cache_min_block_size.or(file.cache_min_block_size),
            cache_max_size: self.cache_max_size.or(file.cache_max_size),
            cache_high_threshold: self.cache_high_threshold.or(file.cache_high_threshold),
            cache_low_threshold: self.cache_low_threshold.or(file.cache_low_threshold),
            cache_on_read: self.cache_on_read.or(file.cache_on_read),
            cache_exports: self.cache_exports.or(file.cache_exports),
            cache_dirty_age: self.cache_dirty_age.or(file.cache_dirty_age),
            cache_dirty_share: self.cache_dirty_share.or(file.cache_dirty_share),
            cache_readahead: self.cache_readahead.or(file.cache_readahead),
            cache_dir: self.cache_dir.or(file.cache_dir),
            cache_id: self.cache_id.or(file.cache_id),
            listen: list(self.listen, file.listen),
            socket_mode: self.socket_mode.or(file.socket_mode),
            socket_owner: self.socket_owner.or(file.socket_owner),
            max_connections: self.max_connections.or(file.max_connections),
            handshake_timeout: self.handshake_timeout.or(file.handshake_timeout),
            read_only: self.read_only.or(file.read_only),
            tls: self.tls.or(file.tls),
            tls_certificates: self.tls_certificates.or(file.tls_certificates),
            tls_verify_peer: self.tls_verify_peer.or(file.tls_verify_peer),
            tls_psk: self.tls_psk.or(file.tls_psk),
            origin_timeout: self.origin_timeout.or(file.origin_timeout),
            http_header: list(self.http_header, file.http_header),
            origin_tls_ca: self.origin_tls_ca.or(file.origin_tls_ca),
            run: self.run.or(file.run),
            exit_with_last_client: self.exit_with_last_client.or(file.exit_with_last_client),
            pidfile: self.pidfile.or(file.pidfile),
            verbose: self.verbose.or(file.verbose),
            config: self.config,
        }
    }

    /// These, without what has no effect any more beside what was `typed`: else what the command line says would not win, but be
    /// refused together with it.
    fn without_idle(self, typed: &Self) -> Self {
        let is = |text: &Option<Text>, word: &str| {
            text.as_ref().is_some_and(|text| text.as_os_str() == word)
        };
        let keep = |is_idle: bool, text: Option<Text>| text.filter(|_| !is_idle);
        let is_unix = |text: &Text| text.as_os_str().as_bytes().starts_with(b"unix:");
        let has_no_tls = is(&typed.tls, "off");
        let has_no_path = !typed.listen.is_empty() && !typed.listen.iter().any(is_unix);
        let flushes_origin = is(&typed.cache_flush, "origin");
        let has_origins = !typed.origins.is_empty();
        // A web server may always lead to TLS.
        let may_use_tls = |origin: &Text| {
            let origin = origin.as_os_str().to_string_lossy();
            ["nbds:", "nbds+unix:", "http:", "https:"]
                .iter()
                .any(|scheme| origin.contains(scheme))
        };
        let needs_no_ca = has_origins && !typed.origins.iter().any(may_use_tls);
        Self {
            // They are for the file's own origins, and may be secrets.
            http_header: if has_origins {
                Vec::new()
            } else {
                self.http_header
            },
            origin_tls_ca: keep(needs_no_ca, self.origin_tls_ca),
            tls_certificates: keep(has_no_tls, self.tls_certificates),
            tls_verify_peer: keep(has_no_tls, self.tls_verify_peer),
            socket_mode: keep(has_no_path, self.socket_mode),
            socket_owner: keep(has_no_path, self.socket_owner),
            cache_writeback: keep(flushes_origin, self.cache_writeback),
            ..self
        }
    }

    /// The value of an option that has one, and was given.
    pub(crate) fn text(&self, name: &str) -> Option<&Text> {
        let texts = self.texts();
        let (_, text) = texts.into_iter().find(|(known, _)| *known == name)?;
        text.as_ref()
    }

    /// Whether an option was given.
    pub(crate) fn says(&self, name: &str) -> bool {
        match name {
            "listen" => !self.listen.is_empty(),
            "http-header" => !self.http_header.is_empty(),
            "export" | "origins" => !self.origins.is_empty() || !self.export.is_empty(),
            _ => self.text(name).is_some(),
        }
    }

    /// All options that have one value.
    fn texts(&self) -> [(&'static str, &Option<Text>); 29] {
        [
            ("cache", &self.cache),
            ("cache-flush", &self.cache_flush),
            ("cache-writeback", &self.cache_writeback),
            ("cache-min-block-size", &self.cache_min_block_size),
            ("cache-max-size", &self.cache_max_size),
            ("cache-high-threshold", &self.cache_high_threshold),
            ("cache-low-threshold", &self.cache_low_threshold),
            ("cache-on-read", &self.cache_on_read),
            ("cache-exports", &self.cache_exports),
            ("cache-dirty-age", &self.cache_dirty_age),
            ("cache-dirty-share", &self.cache_dirty_share),
            ("cache-readahead", &self.cache_readahead),
            ("cache-dir", &self.cache_dir),
            ("cache-id", &self.cache_id),
            ("socket-mode", &self.socket_mode),
            ("socket-owner", &self.socket_owner),
            ("max-connections", &self.max_connections),
            ("handshake-timeout", &self.handshake_timeout),
            ("read-only", &self.read_only),
            ("tls", &self.tls),
            ("tls-certificates", &self.tls_certificates),
            ("tls-verify-peer", &self.tls_verify_peer),
            ("tls-psk", &self.tls_psk),
            ("origin-timeout", &self.origin_timeout),
            ("origin-tls-ca", &self.origin_tls_ca),
            ("run", &self.run),
            ("exit-with-last-client", &self.exit_with_last_client),
            ("pidfile", &self.pidfile),
            ("verbose", &self.verbose),
        ]
    }

    /// The names of all options of a configuration file.
    pub(crate) fn names() -> Vec<&'static str> {
        let lists = ["origins", "export", "listen", "http-header"];
        let nothing = Self::default();
        lists
            .into_iter()
            .chain(nothing.texts().map(|(name, _)| name))
            .collect()
    }
}

#[cfg(test)]
mod tests;
