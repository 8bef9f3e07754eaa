//! Why an attempt failed, and whether another one may do better.

use std::io;
use std::time::Duration;

use ureq::{Error, Timeout};

use crate::reason::reason;

/// What a failure means for the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection broke. An idle one may have ended unnoticed: the first is tried again at once.
    Lost,
    /// Nothing came in time.
    Silent,
    /// The same, before an answer began: a busy server may need longer.
    Unanswered,
    /// The same, between an answer's header and its body.
    Withheld,
    /// Anything else that may pass.
    Passing,
    /// Nothing was asked, for the read's time was over: whatever failed before is the reason.
    TooLate,
    /// Asking again would change nothing.
    Lasting,
    /// The object is another one.
    Changed,
}

/// A failed attempt. The message holds no credentials.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) message: String,
    /// What the server asks to wait.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same failure, of somebody who does not have the last word.
    pub(super) fn passing(mut self) -> Self {
        if matches!(self.kind, Kind::Lasting | Kind::Changed) {
            self.kind = Kind::Passing;
        }
        self
    }

    /// The same failure, which happened somewhere else than at the original address.
    pub(super) fn at(mut self, place: &str) -> Self {
        self.message = format!("redirected to {place}: {}", self.message);
        self
    }
}

impl From<Error> for Failure {
    /// Texts of the library that could repeat an address are left out.
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => of_io(&error),
            Error::Timeout(Timeout::Connect | Timeout::Resolve) => {
                Self::new(Kind::Silent, "connecting to the server took too long")
            }
            Error::Timeout(_) => Self::new(Kind::Silent, "the server does not answer"),
            Error::HostNotFound => Self::new(Kind::Passing, "the host has no address"),
            Error::Rustls(error) => of_tls(&error),
            Error::Tls(_) => Self::new(
                Kind::Lasting,
                "TLS: the host is not a name that a certificate can have",
            ),
            Error::ConnectProxyFailed(reason) => Self::new(
                Kind::Passing,
                format!(
                    "the proxy does not connect: {reason} (it is asked for a tunnel, CONNECT, for http, too)"
                ),
            ),
            Error::Protocol(error) => {
                Self::new(Kind::Passing, format!("not an HTTP answer: {error}"))
            }
            Error::LargeResponseHeader(_, most) => Self::new(
                Kind::Passing,
                format!("the answer's header is longer than {most} bytes"),
            ),
            Error::ConnectionFailed => Self::new(Kind::Passing, "connecting to the server failed"),
            Error::BodyStalled => Self::new(Kind::Lost, "the answer's body ended early"),
            Error::BadUri(_) | Error::Http(_) => {
                Self::new(Kind::Lasting, "the address or a header cannot be sent")
            }
            _ => Self::new(Kind::Passing, "the request failed"),
        }
    }
}

impl From<io::Error> for Failure {
    /// The library wraps its own errors into those of a body's reader.
    fn from(error: io::Error) -> Self {
        Self::from(Error::from(error))
    }
}

fn of_io(error: &io::Error) -> Failure {
    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return of_tls(tls);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            Failure::new(Kind::Lost, "the server closed the connection early")
        }
        io::ErrorKind::TimedOut => Failure::new(Kind::Silent, "the server does not answer"),
        io::ErrorKind::ConnectionRefused => Failure::new(Kind::Passing, "connection refused"),
        _ => Failure::new(Kind::Passing, reason(error)),
    }
}

fn of_tls(error: &rustls::Error) -> Failure {
    use rustls::CertificateError as Certificate;
    let rustls::Error::InvalidCertificate(certificate) = error else {
        let message = match error {
            rustls::Error::InvalidMessage(_) => {
                String::from("the server does not speak TLS (https) here")
            }
            other => format!("TLS: {other}"),
        };
        return Failure::new(Kind::Passing, message);
    };
    let reason = match certificate {
        Certificate::UnknownIssuer => {
            "comes from an authority that is not trusted here; its CA certificate can be given as origin-tls-ca".into()
        }
        Certificate::Expired | Certificate::ExpiredContext { .. } => "has expired".into(),
        Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => "is not valid yet".into(),
        Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => "is not for this host".into(),
        // The library has no name of its own for it.
        Certificate::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "is an authority's own (CA:TRUE), which is not accepted as a server's".into()
        }
        other => format!("cannot be accepted: {other}"),
    };
    Failure::new(Kind::Lasting, format!("the server's certificate {reason}"))
}
