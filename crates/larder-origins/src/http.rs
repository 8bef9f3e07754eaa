//! The http origin.
