//! The messages of the NBD protocol.
