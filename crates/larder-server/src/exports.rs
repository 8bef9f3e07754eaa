//! stub
use crate::export::Export;
pub(crate) struct Exports(pub Vec<Export>);
impl Exports {
    pub(crate) fn find(&self, name: &str) -> Option<&Export> {
        self.0.iter().find(|e| e.name() == name)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter()
    }
}
