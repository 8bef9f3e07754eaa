//! What the filter and the server share.
