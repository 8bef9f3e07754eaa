//! The file origin.
