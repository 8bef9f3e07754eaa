//! What can be cached: memory, files and block devices, NBD exports, HTTP objects.
//!
//! A [`Source`] is one origin, opened once. Each client's connection gets a handle of its own
//! through [`Source::connect`], so that what is lost can be told to everybody whom it concerns.

pub mod address;
pub mod open;
pub mod source;

mod file;
mod http;
mod memory;
mod nbd;

pub use address::Address;
pub use http::HttpAddress;
pub use nbd::address::{NbdAddress, NbdServer, NbdTls};
pub use open::{OpenError, Options, open};
pub use source::Source;
