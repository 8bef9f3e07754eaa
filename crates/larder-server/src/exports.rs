//! All exports, by name.

use crate::export::Export;

/// What can be had. Names are distinct.
#[derive(Debug)]
pub(crate) struct Exports(Vec<Export>);

impl Exports {
    /// These exports, in the order in which clients are told of them.
    pub(crate) fn new(exports: Vec<Export>) -> Self {
        Self(exports)
    }

    /// The export of that name. The empty name is the unnamed export, or the only one.
    pub(crate) fn find(&self, name: &str) -> Option<&Export> {
        match (self.0.iter().find(|export| export.name() == name), &*self.0) {
            (Some(export), _) => Some(export),
            (None, [only]) if name.is_empty() => Some(only),
            _ => None,
        }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter()
    }
}
