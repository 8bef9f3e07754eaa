//! Ordered writeback: a queue in front of the origin, in the cache's directory.
//!
//! To the engine the queue is the origin ([`QueuedOrigin`]): whatever changes it is appended to a log in the order in which it is acknowledged, and a flush
//! makes the log durable and puts a boundary into it. What lies between two boundaries, an *epoch*, is sent to the real origin, flushed there and forgotten
//! before the next is begun. So the origin is at any moment a disk as a power loss would leave one.
//!
//! Lock order, after all of the engine's: sending → appending → syncing → the queue's state. The real origin is called with `sending` at most, and
//! nobody who appends waits for room.

mod above;
mod emptying;
mod epoch;
mod overlay;
mod queue;
mod queues;
mod room;
mod send;
mod sender;
mod state;
mod user;

pub(crate) use above::QueuedOrigin;
pub(crate) use emptying::Held;
pub(crate) use overlay::{Content, Piece};
pub(crate) use queue::Queue;
pub(crate) use queues::{QueueCell, QueueSpace, Queues};
pub(crate) use user::User;
