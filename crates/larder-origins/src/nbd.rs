//! The nbd origin.
