//! The metadata contexts that block status answers.

use nbd_wire::BASE_ALLOCATION;

/// A context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// What is allocated, and what reads as zeros.
    Allocation,
    /// What the cache has, and what of it the origin does not have yet.
    Cache,
}

impl Context {
    /// All there are.
    pub(crate) const ALL: [Self; 2] = [Self::Allocation, Self::Cache];

    /// What block status calls it.
    pub(crate) const fn id(self) -> u32 {
        match self {
            Self::Allocation => 1,
            Self::Cache => 2,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Allocation => BASE_ALLOCATION,
            Self::Cache => "larder:cache",
        }
    }

    /// Whether a query of a list names it: by its name, or by its namespace with a colon.
    pub(crate) fn is_listed_by(self, query: &str) -> bool {
        let name = self.name();
        query == name || (query.ends_with(':') && name.starts_with(query))
    }
}

/// In [`Context::Cache`]: the cache has it.
pub(crate) const CACHED: u64 = 1;
/// In [`Context::Cache`]: the origin does not have it durably yet.
pub(crate) const DIRTY: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_lists_its_contexts_and_a_prefix_does_not() {
        assert!(Context::Allocation.is_listed_by("base:"));
        assert!(Context::Cache.is_listed_by("larder:cache"));
        for query in ["", "base", "base:alloc", ":", "larder:cache:", "qemu:"] {
            assert!(
                Context::ALL
                    .iter()
                    .all(|context| !context.is_listed_by(query)),
                "{query}"
            );
        }
    }
}
