//! Which exports share one content.

/// Which exports are one volume (`cache-exports`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exports {
    /// Each export name is a volume.
    #[default]
    Separate,
    /// All names are one volume.
    Shared,
    /// Each connection has a volume of its own, which ends with it.
    Connection,
}

impl Exports {
    /// The meaning of a word a user typed.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "separate" => Some(Self::Separate),
            "shared" => Some(Self::Shared),
            "connection" => Some(Self::Connection),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_the_three_choices() {
        assert_eq!(Exports::from_word("separate"), Some(Exports::Separate));
        assert_eq!(Exports::from_word("shared"), Some(Exports::Shared));
        assert_eq!(Exports::from_word("connection"), Some(Exports::Connection));
        assert_eq!(Exports::from_word("Shared"), None);
        assert_eq!(Exports::from_word(""), None);
    }
}
