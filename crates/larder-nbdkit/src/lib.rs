//! Larder as a filter for stock nbdkit, in place of its `cache` filter.
//!
//! | file | decides |
//! |---|---|
//! | `parameters` | what may be typed and what it means |
//! | `spelling` | whose a parameter is, and what a misspelt one meant |
//! | `identity` | which clients share one volume |

mod identity;
mod parameters;
mod spelling;
