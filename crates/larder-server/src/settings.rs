//! What the options mean, checked whole before anything starts.
//!
//! Every error is one line that names the option, its value and what would be right. Values that
//! may hold credentials are not shown.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::CacheOnRead;
use larder_frontend::report::one_line;
use larder_frontend::{Defaults, Exports, ParameterError, Parameters, PlainParser, spelling};
use larder_origins::Address;

use crate::listen::ListenAddress;
use crate::options::{Options, Text};

mod export;
mod headers;
mod owner;
pub(crate) mod value;

pub(crate) use export::{ExportSettings, exports};
pub(crate) use owner::Owner;

/// Everything that is to be done, from options that agree with each other.
#[derive(Debug)]
pub(crate) struct Settings {
    /// At least one; names are distinct.
    pub(crate) exports: Vec<ExportSettings>,
    /// The cache.
    pub(crate) cache: larder_frontend::Settings,
    /// Where to listen. Empty means the default, unless there are sockets from elsewhere.
    pub(crate) listen: Vec<ListenAddress>,
    /// What Unix sockets look like to others.
    pub(crate) socket: SocketSettings,
    /// The most connections at one time.
    pub(crate) max_connections: usize,
    /// How long a handshake may take.
    pub(crate) handshake_timeout: Duration,
    /// Nothing is written to any origin.
    pub(crate) read_only: bool,
    /// Encryption towards clients.
    pub(crate) tls: TlsChoice,
    /// How origins are used.
    pub(crate) origins: OriginSettings,
    /// The command to run and to end with.
    pub(crate) run: Option<OsString>,
    /// Ends when the last client leaves.
    pub(crate) exit_with_last_client: bool,
    /// Where the process number goes.
    pub(crate) pidfile: Option<PathBuf>,
    /// Tells what happens to each block.
    pub(crate) verbose: bool,
}

/// What Unix sockets look like to others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketSettings {
    /// Permission bits.
    pub(crate) mode: Option<u32>,
    /// Whose they are.
    pub(crate) owner: Option<Owner>,
}

/// Which clients are served with and without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TlsPolicy {
    /// None with.
    #[default]
    Off,
    /// As they choose.
    On,
    /// None without.
    Require,
}

/// What was chosen about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsChoice {
    /// Who may come how.
    pub(crate) policy: TlsPolicy,
    /// Where the certificates are. Empty when the policy is off.
    pub(crate) certificates: PathBuf,
    /// What of theirs clients show.
    pub(crate) verify_peer: PeerCertificates,
}

/// Certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PeerCertificates {
    /// Nobody is asked for one.
    #[default]
    Unasked,
    /// One that is shown must be signed by the authority.
    Optional,
    /// And each client must show one.
    Required,
}

/// How origins are used.
#[derive(Clone, Debug)]
pub(crate) struct OriginSettings {
    /// How long a request is tried again.
    pub(crate) timeout: Duration,
    /// More certificate authorities.
    pub(crate) tls_ca: Option<PathBuf>,
}

impl Settings {
    /// Checks what was typed, and what a file says that is not typed. The error is one line, and says so if the value is the file's.
    pub(crate) fn with_file(typed: Options, file: Options, path: &Path) -> Result<Self, String> {
        let is_typed = |name: &str| typed.says(name);
        let names = Options::names().into_iter();
        let of_file: Vec<&str> = names
            .filter(|name| file.says(name) && !is_typed(name))
            .collect();
        Self::new(&typed.over(file)).map_err(|message| {
            // Each begins with the name of the option.
            let end = message.find(['=', ':', ' ']).unwrap_or(message.len());
            if of_file.contains(&&message[..end]) {
                one_line(&format!("config={}: {message}", path.display()))
            } else {
                message
            }
        })
    }

    /// Checks everything. The error is one line.
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let mut exports = exports(options)?;
        headers::give(&options.http_header, &mut exports)?;
        let told = |error: ParameterError| error.to_string();
        let read_only = value::flag("read-only", &options.read_only).map_err(told)?;
        if !read_only {
            export::refuse_twice(&exports)?;
        }
        let listen: Vec<ListenAddress> = options
            .listen
            .iter()
            .map(|text| ListenAddress::parse(text.as_os_str()))
            .collect::<Result<_, _>>()
            .map_err(told)?;
        Ok(Self {
            cache: cache(options, &exports).map_err(told)?,
            socket: socket(options, &listen)?,
            listen,
            max_connections: value::count("max-connections", &options.max_connections, 1024)
                .map_err(told)? as usize,
            handshake_timeout: value::seconds("handshake-timeout", &options.handshake_timeout, 10)
                .map_err(told)?,
            read_only,
            tls: tls(options)?,
            origins: OriginSettings {
                timeout: value::seconds("origin-timeout", &options.origin_timeout, 30)
                    .map_err(told)?,
                tls_ca: origin_tls_ca(&options.origin_tls_ca, &exports).map_err(told)?,
            },
            exports,
            run: value::path("run", &options.run)
                .map_err(told)?
                .map(PathBuf::into_os_string),
            exit_with_last_client: value::flag(
                "exit-with-last-client",
                &options.exit_with_last_client,
            )
            .map_err(told)?,
            pidfile: value::path("pidfile", &options.pidfile).map_err(told)?,
            verbose: value::flag("verbose", &options.verbose).map_err(told)?,
        })
    }
}

/// The cache's own parameters, by the rules that hold for every front end.
fn cache(
    options: &Options,
    exports: &[ExportSettings],
) -> Result<larder_frontend::Settings, ParameterError> {
    let mut parameters = Parameters::new(Defaults {
        cache_on_read: CacheOnRead::Always,
        dirty_age: Some(Duration::from_secs(30)),
        readahead_bytes: 8 << 20,
        is_limited: true,
        is_blind: false,
    });
    for name in spelling::NAMES {
        if let Some(text) = options.text(name) {
            parameters.set(name, text.as_os_str(), &PlainParser)?;
        }
    }
    let settings = parameters.finish()?;
    if settings.exports != Exports::Separate {
        let typed = options.cache_exports.as_ref().map(Text::as_os_str);
        return Err(ParameterError::new(
            "cache-exports",
            typed.unwrap_or_default(),
            "must be separate here: each export is an origin of its own",
        ));
    }
    if let Some(typed) = &options.cache_dir {
        refuse_memory(typed, exports)?;
    }
    Ok(settings)
}

/// Nothing that was kept of an origin in memory could be right.
fn refuse_memory(typed: &Text, exports: &[ExportSettings]) -> Result<(), ParameterError> {
    let mut addresses = exports.iter().map(|export| &export.address);
    match addresses.find(|address| matches!(address, Address::Memory(_))) {
        Some(address) => Err(ParameterError::new(
            "cache-dir",
            typed.as_os_str(),
            format!(
                "nothing can be kept of {address}, which begins empty each time: leave one of them out"
            ),
        )),
        None => Ok(()),
    }
}

/// More certificate authorities, for an origin that may need them.
pub(crate) fn origin_tls_ca(
    typed: &Option<Text>,
    exports: &[ExportSettings],
) -> Result<Option<PathBuf>, ParameterError> {
    let path = value::path("origin-tls-ca", typed)?;
    match typed {
        Some(typed) if !exports.iter().any(|export| export.address.may_use_tls()) => {
            let advice =
                "has no effect without an nbds://, nbds+unix://, https:// or http:// origin";
            Err(ParameterError::new(
                "origin-tls-ca",
                typed.as_os_str(),
                advice,
            ))
        }
        _ => Ok(path),
    }
}

fn socket(options: &Options, listen: &[ListenAddress]) -> Result<SocketSettings, String> {
    let mode = value::mode("socket-mode", &options.socket_mode).map_err(|e| e.to_string())?;
    let owner = owner::owner("socket-owner", &options.socket_owner).map_err(|e| e.to_string())?;
    let is_unix = |address: &ListenAddress| matches!(address, ListenAddress::Unix(_));
    for (name, text) in [
        ("socket-mode", &options.socket_mode),
        ("socket-owner", &options.socket_owner),
    ] {
        if let (Some(text), false) = (text, listen.iter().any(is_unix)) {
            let advice = "needs a Unix socket that is made here: listen=unix:PATH";
            return Err(ParameterError::new(name, text.as_os_str(), advice).to_string());
        }
    }
    Ok(SocketSettings { mode, owner })
}

fn tls(options: &Options) -> Result<TlsChoice, String> {
    let wrong = |name: &str, text: &Text, advice: &str| {
        Err(ParameterError::new(name, text.as_os_str(), advice).to_string())
    };
    if let Some(text) = &options.tls_psk {
        let advice = "pre-shared keys are not supported: use certificates (tls-certificates=DIR)";
        return wrong("tls-psk", text, advice);
    }
    let policy = match &options.tls {
        None => TlsPolicy::Off,
        Some(text) => match text.as_os_str().to_str() {
            Some("off") => TlsPolicy::Off,
            Some("on") => TlsPolicy::On,
            Some("require") => TlsPolicy::Require,
            _ => return wrong("tls", text, "must be off, on or require"),
        },
    };
    let asked = match &options.tls_verify_peer {
        Some(text) if text.as_os_str() == "optional" => Ok(PeerCertificates::Optional),
        other => value::flag("tls-verify-peer", other).map(|is_required| match is_required {
            true => PeerCertificates::Required,
            false => PeerCertificates::Unasked,
        }),
    };
    let verify_peer = match (asked, &options.tls_verify_peer) {
        (Ok(asked), _) => asked,
        (Err(_), Some(text)) => {
            return wrong("tls-verify-peer", text, "must be true, false or optional");
        }
        (Err(error), None) => return Err(error.to_string()),
    };
    let certificates = value::path("tls-certificates", &options.tls_certificates)
        .map_err(|error| error.to_string())?;
    if policy == TlsPolicy::Off {
        let advice = "has no effect without tls=on or tls=require";
        if let Some(text) = &options.tls_certificates {
            return wrong("tls-certificates", text, advice);
        }
        if let (Some(text), true) = (
            &options.tls_verify_peer,
            verify_peer != PeerCertificates::Unasked,
        ) {
            return wrong("tls-verify-peer", text, advice);
        }
        return Ok(TlsChoice::default());
    }
    if let (Some(text), TlsPolicy::On, PeerCertificates::Required) =
        (&options.tls_verify_peer, policy, verify_peer)
    {
        let advice = "needs tls=require: with tls=on, clients without TLS show no certificate; or say optional";
        return wrong("tls-verify-peer", text, advice);
    }
    let Some(certificates) = certificates else {
        let word = OsStr::new(if policy == TlsPolicy::On {
            "on"
        } else {
            "require"
        });
        let advice =
            "needs tls-certificates=DIR with ca-cert.pem, server-cert.pem and server-key.pem";
        return wrong("tls", &Text(word.to_owned()), advice);
    };
    Ok(TlsChoice {
        policy,
        certificates,
        verify_peer,
    })
}

#[cfg(test)]
mod tests;
