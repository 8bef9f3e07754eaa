//! The memory origin.
