//! What was learnt when the source was opened, and holds for its life.

use ureq::http::HeaderMap;

use super::validator::{Difference, Validator};

/// The object: its size and its version.
#[derive(Clone, Debug)]
pub(super) struct Pinned {
    pub(super) size_bytes: u64,
    pub(super) validator: Validator,
}

impl Pinned {
    /// How an answer's object differs; `None` if it does not. A `total` of `None` is not compared.
    pub(super) fn difference(&self, headers: &HeaderMap, total: Option<u64>) -> Option<Difference> {
        let by_validator = self.validator.difference(headers);
        let total = total.filter(|total| *total != self.size_bytes);
        match (by_validator, total) {
            (Some(Difference::Other(text)), _) => Some(Difference::Other(text)),
            (_, Some(total)) => Some(Difference::Other(format!(
                "its size was {} bytes, is now {total}",
                self.size_bytes
            ))),
            (untold, None) => untold,
        }
    }
}
