//! What the engine has to say to an operator, and who carries it.

/// Carries messages out of the engine. Called with no engine lock held that a message could need.
pub trait Log: Send + Sync {
    /// Data is at stake, or a request failed.
    fn error(&self, message: &str);

    /// Something an operator should know that hurts nobody yet.
    fn warning(&self, message: &str);

    /// What happens to each block; only called when [`Log::verbose`] is true.
    fn debug(&self, message: &str);

    /// Whether somebody reads [`Log::debug`].
    fn verbose(&self) -> bool {
        false
    }
}
