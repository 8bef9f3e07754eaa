//! Taking a message apart, field by field.

use std::fmt;

use crate::MAX_STRING_BYTES;

/// A message that is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

/// What is left of a message. All numbers are big-endian.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    /// The whole of `message`.
    pub fn new(message: &'b [u8]) -> Self {
        Self(message)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (bytes, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Malformed("the message is too short"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("the message is too short"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next 64 bits.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string that follows its length in 32 bits.
    pub fn string(&mut self) -> Result<&'b str, Malformed> {
        let length = self.u32()? as usize;
        text(self.bytes(length)?)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("the message is too long"))
        }
    }
}

/// A string of the protocol: UTF-8 of at most 4096 bytes, without NUL.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > MAX_STRING_BYTES {
        return Err(Malformed("a string is longer than 4096 bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a string is not UTF-8"))?;
    if text.contains('\0') {
        return Err(Malformed("a string contains NUL"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new(&[0, 1, 0, 0, 0, 2, b'h', b'i', 9]);
        assert_eq!(cursor.u16(), Ok(1));
        assert_eq!(cursor.string(), Ok("hi"));
        assert!(cursor.u64().is_err());
        assert!(cursor.end().is_err());
        assert_eq!(cursor.bytes(1), Ok(&[9][..]));
        assert!(cursor.is_empty() && cursor.end().is_ok());
    }

    #[test]
    fn bad_strings_are_refused() {
        assert!(text(b"a\0b").is_err());
        assert!(text(&[0xff]).is_err());
        assert!(text(&[b'x'; 4097]).is_err());
        assert!(text(&[b'x'; 4096]).is_ok());
        // A length that goes past the message.
        assert!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, b'x'])
                .string()
                .is_err()
        );
    }
}
