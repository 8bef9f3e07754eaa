//! The HTTP origin: one object of a web server, read by range requests. Read-only.
//!
//! What a read relies on:
//!
//! - **One object.** Size and validator (a strong ETag, else a weak one and Last-Modified) are pinned when the
//!   source is opened. No precondition is sent: without If-Range every 206 must carry the validators of the object its
//!   bytes come from (RFC 9110, 15.3.7), so each answer is checked itself, and nothing depends on how a
//!   server or a cache between treats preconditions. An answer of another object ends every later read, too;
//!   one that does not tell which object it is of gives no bytes and is asked for again.
//! - **The range that was asked for**, unencoded: Content-Range, Content-Length and Content-Encoding are
//!   checked, and the body must bring all of it and no more.
//! - **A deadline.** What may pass is tried again until the timeout has gone by since the read began. A read
//!   goes on where the last attempt's bytes ended. A server that says nothing is asked again early, on a new
//!   connection, for the old one may be dead; the second time it has what is left to begin its answer, or the
//!   body of it. So it has from the start at a server that was slow the last time, and at one that is new.
//! - **So many requests at a time** for one server; the others wait, within their own time.
//! - **Redirects** are followed here and not by the client library. Where one led is remembered for as long
//!   as it answers rightly; any other answer of it sends the read through the original address at once, so
//!   that targets with an end of life are renewed, and only the original's answers count as failures.
//! - **Credentials** belong to a [`client::Client`], and only that of the original server (scheme, host and
//!   port) has them: no redirect can carry them elsewhere. No message holds them, nor a query string.
//!
//! No lock is held while the network is waited for.

mod address;
mod answer;
mod client;
mod clients;
mod content_range;
mod date;
mod deadline;
mod failure;
mod headers;
mod names;
mod open;
mod origin;
mod permits;
mod pinned;
mod proxy;
mod roots;
mod route;
mod validator;
mod version;

pub use address::HttpAddress;
pub(crate) use open::open;
