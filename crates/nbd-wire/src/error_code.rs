//! The errors that a reply may carry.

/// An error of the protocol, with the number that Linux gives the same error. 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// Not permitted: the export is read-only.
    pub const PERM: Self = Self(1);
    /// Input or output failed.
    pub const IO: Self = Self(5);
    /// No memory.
    pub const NO_MEMORY: Self = Self(12);
    /// The request makes no sense.
    pub const INVALID: Self = Self(22);
    /// Past the end of the export, or no space left.
    pub const NO_SPACE: Self = Self(28);
    /// The answer would be too large.
    pub const OVERFLOW: Self = Self(75);
    /// Not supported: a fast zero that would not be fast.
    pub const NOT_SUPPORTED: Self = Self(95);
    /// The server is ending.
    pub const SHUTDOWN: Self = Self(108);

    const ALL: [Self; 8] = [
        Self::PERM,
        Self::IO,
        Self::NO_MEMORY,
        Self::INVALID,
        Self::NO_SPACE,
        Self::OVERFLOW,
        Self::NOT_SUPPORTED,
        Self::SHUTDOWN,
    ];

    /// What a client is told of an OS error: itself where the protocol knows it, its nearest
    /// relative, or an I/O error.
    pub fn from_errno(errno: i32) -> Self {
        const EROFS: i32 = 30;
        const EDQUOT: i32 = 122;
        const EFBIG: i32 = 27;
        match errno {
            EROFS => Self::PERM,
            EDQUOT | EFBIG => Self::NO_SPACE,
            _ => Self::ALL
                .into_iter()
                .find(|code| i64::from(code.0) == i64::from(errno))
                .unwrap_or(Self::IO),
        }
    }

    /// The OS error that a client makes of it. One that the protocol does not know counts as
    /// invalid, as the protocol says.
    pub fn to_errno(self) -> i32 {
        let known = Self::ALL.contains(&self);
        if known {
            self.0 as i32
        } else {
            Self::INVALID.0 as i32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_their_meaning_both_ways() {
        assert_eq!(ErrorCode::from_errno(95), ErrorCode::NOT_SUPPORTED);
        assert_eq!(ErrorCode::from_errno(30), ErrorCode::PERM);
        assert_eq!(ErrorCode::from_errno(104), ErrorCode::IO);
        assert_eq!(ErrorCode::from_errno(-1), ErrorCode::IO);
        assert_eq!(ErrorCode::NO_SPACE.to_errno(), 28);
        assert_eq!(ErrorCode(4711).to_errno(), 22);
    }
}
