//! Metadata contexts: what block status is asked about.

use bitflags::bitflags;

use crate::{Cursor, Malformed};

/// The context that every server has: what is allocated and what reads as zeros.
pub const BASE_ALLOCATION: &str = "base:allocation";

bitflags! {
    /// The status of a range in `base:allocation`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct StatusFlags: u32 {
        /// Not allocated.
        const HOLE = 1;
        /// Reads as zeros.
        const ZERO = 2;
    }
}

/// The payload of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest<'b> {
    /// The export.
    pub export: &'b str,
    /// Names of contexts, or namespaces (`base:`) when listing.
    pub queries: Vec<&'b str>,
}

impl<'b> MetaRequest<'b> {
    /// Reads the payload.
    pub fn decode(payload: &'b [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let export = cursor.string()?;
        let count = cursor.u32()?;
        let mut queries = Vec::new();
        // Each takes four bytes at least, so what was received bounds the number.
        for _ in 0..count {
            queries.push(cursor.string()?);
        }
        cursor.end()?;
        Ok(Self { export, queries })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let string = |text: &str, bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        };
        string(self.export, &mut bytes);
        bytes.extend_from_slice(&(self.queries.len() as u32).to_be_bytes());
        for query in &self.queries {
            string(query, &mut bytes);
        }
        bytes
    }
}

/// A context that a server has: the payload of a META_CONTEXT reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaContext<'b> {
    /// What block status calls it; of no meaning in a list.
    pub id: u32,
    /// Its name.
    pub name: &'b str,
}

impl<'b> MetaContext<'b> {
    /// Reads the payload.
    pub fn decode(payload: &'b [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        Ok(Self {
            id: cursor.u32()?,
            name: crate::cursor::text(cursor.rest())?,
        })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.to_be_bytes().to_vec();
        bytes.extend_from_slice(self.name.as_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_request_is_read_as_it_was_written() {
        let request = MetaRequest {
            export: "disk",
            queries: vec!["base:", "qemu:dirty-bitmap:x"],
        };
        let bytes = request.encode();
        assert_eq!(MetaRequest::decode(&bytes), Ok(request));
        for cut in 0..bytes.len() {
            assert!(MetaRequest::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_number_of_queries_that_is_a_lie_is_refused() {
        assert!(MetaRequest::decode(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn a_context_is_read_as_it_was_written() {
        let context = MetaContext {
            id: 7,
            name: BASE_ALLOCATION,
        };
        assert_eq!(MetaContext::decode(&context.encode()), Ok(context));
    }
}
