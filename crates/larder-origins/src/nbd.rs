//! The NBD origin: a client of the NBD protocol that outlives its connections.
//!
//! ```text
//! handle.rs     one client's view: requests with a deadline, tried again; what it is told of
//! pool.rs       the current session, its replacement after a loss, what must not change meanwhile
//! ledger.rs     which acknowledged changes are not durable yet, and how many losses there were
//! session.rs    all connections to one server process: they live and end together
//! given_up.rs   changes that nobody waits for any more, which later ones must not overtake
//! link.rs       one connection: who waits for which reply, in which slot.rs
//! turns.rs      whose turn it is to receive on a connection
//! reply.rs      one reply put together from its chunks and checked; coverage.rs: each byte once
//! handshake.rs  coming to terms; export.rs: with what
//! transport.rs  bytes over TCP, Unix sockets and TLS; connect.rs: how they are found; tls.rs: whom to trust
//! ```
//!
//! # Durability
//!
//! The invariants that keep an acknowledged change from being lost silently:
//!
//! 1. A session's connections are all made before any of them carries a request, and end together:
//!    the loss of one ends all. So a flush that succeeds on one connection of a session speaks for
//!    the server process that acknowledged the changes on the others. More than one connection is
//!    used only where the server says multi-conn.
//! 2. An acknowledgement counts only while its session lives, decided under the ledger's lock
//!    before the caller learns of it. One that is received after the loss is as if it never came:
//!    the request is tried again.
//! 3. A change that was acknowledged without FUA is unflushed until a flush succeeds whose number
//!    of covered changes was taken, under the ledger's lock and before it was sent, after the
//!    acknowledgement.
//! 4. A session that is lost with unflushed changes adds one to the number of losses; so does a
//!    flush that the server refuses, or a change with FUA, if anything was unflushed when that was sent
//!    or was changed since: a server may tell of a failure only once. A change that was in flight meanwhile may be what
//!    failed, and its acknowledgement adds one as well. A handle remembers the number of losses that it was told of, beginning with the
//!    number that any handle was told of when it was opened. A flush of a handle fails once with
//!    [`std::io::ErrorKind::ConnectionReset`] where that number is behind.
//! 5. Every flush that was in flight when a loss happened fails with that kind, also when its
//!    handle has been told already by another. One whose session is lost succeeds on the next only
//!    if nothing was unflushed. Where the server has no flush, nothing is sent: what it had acknowledged
//!    by then counts as flushed, unless it is lost already.
//! 6. A change that was given up at its deadline and is still unanswered may be done by the server
//!    at any time. While its session lives, no other change of the same place is sent: it waits for
//!    the answer or the loss, within its own deadline. So what is acknowledged later is not undone.
//!
//! A change that was in flight when its session was lost is sent again on the next session, and so
//! are FUA changes: they name content and place, so that twice is as good as once. What this
//! cannot guard against is a server that goes on with a request of a connection that is gone while
//! it serves the next one; no client can.
//!
//! **Lock order:** pool state → ledger; report → ledger; a link's entries → a slot → ledger; the changes given up
//! → a slot. The TLS state and the ledger are leaves. No lock is held while a socket is read, written or connected; the
//! sender of a link is taken out of its place meanwhile.

pub(crate) mod address;

mod connect;
mod coverage;
mod export;
mod given_up;
mod handle;
mod handshake;
mod ledger;
mod link;
mod pool;
mod reply;
mod report;
mod session;
mod slot;
mod source;
mod sync;
mod tls;
mod transport;
mod turns;

pub(crate) use source::open;
