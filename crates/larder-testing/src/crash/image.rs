//! What is left after a crash.

use super::bytes::Bytes;
use super::names::Names;

/// The durable content of a machine.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// By number: the origins' first. Some have no name any more.
    pub files: Vec<Bytes>,
    /// Those of the medium.
    pub names: Names,
    /// Names of files whose torn pieces are neither old nor new.
    pub garbage: Vec<String>,
    /// How many of the files are origins: number n is the one of volume n.
    pub origins: usize,
}

impl Image {
    /// An empty medium beside origins.
    pub fn with_origins(origins: Vec<Bytes>) -> Self {
        Self {
            origins: origins.len(),
            files: origins,
            ..Self::default()
        }
    }

    /// Torn pieces of files of that name, made from here on, are garbage.
    pub fn garbage_in(mut self, name: &str) -> Self {
        self.garbage.push(name.to_owned());
        self
    }

    /// A file of the medium.
    pub fn file(&self, name: &str) -> Option<&Bytes> {
        Some(&self.files[*self.names.get(name)?])
    }

    /// A file of the medium, to be changed behind everybody's back.
    pub fn file_mut(&mut self, name: &str) -> Option<&mut Bytes> {
        Some(&mut self.files[*self.names.get(name)?])
    }
}
