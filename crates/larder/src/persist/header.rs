//! The first page of each file: whose it is, and what it is for. A file that was put in another's place is refused by
//! name.

use super::bytes::{Put, Reader};
use super::refusal::{Finding, Version};
use super::shape::{PAGE_BYTES, Shape};
use super::sums::{Seed, Uuid};

const MAGIC: [u8; 8] = *b"LARDERF\0";

/// Where the checksum of a sealed page lies. That, and the place of the version, will never change.
const CHECKSUM_AT: usize = PAGE_BYTES as usize - 8;

/// A page.
pub(crate) type Page = [u8; PAGE_BYTES as usize];

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Journal,
    Map,
    MapCopy,
    Sums,
    Volumes,
    Slots,
}

impl Role {
    pub(crate) const ALL: [Self; 6] = [
        Self::Journal,
        Self::Map,
        Self::MapCopy,
        Self::Sums,
        Self::Volumes,
        Self::Slots,
    ];

    /// The file's name in its directory.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Map => "map",
            Self::MapCopy => "map.copy",
            Self::Sums => "sums",
            Self::Volumes => "volumes",
            Self::Slots => "slots",
        }
    }

    fn code(self) -> u32 {
        match self {
            Self::Journal => 1,
            Self::Map => 2,
            Self::MapCopy => 3,
            Self::Sums => 4,
            Self::Volumes => 5,
            Self::Slots => 6,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }
}

/// What the header of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub role: Role,
    pub uuid: Uuid,
    pub shape: Shape,
}

impl Header {
    pub(crate) fn encode(&self) -> Box<Page> {
        let mut bytes = MAGIC.to_vec();
        bytes.put_u32(self.role.code());
        Version::CURRENT.put(&mut bytes);
        bytes.extend_from_slice(&self.uuid.0);
        bytes.put_u8(self.shape.block_shift());
        bytes.put_u8(self.shape.sums_shift());
        seal(&bytes)
    }

    /// What the page says, whoever's it is.
    pub(crate) fn decode(page: &Page) -> Result<Self, Finding> {
        let mut reader = unseal(page, MAGIC)?;
        let code = reader.u32()?;
        Version::take(&mut reader)?.check()?;
        let uuid = Uuid(reader.array()?);
        let shape = Shape::from_shifts(reader.u8()?, reader.u8()?)?;
        let role = Role::from_code(code).ok_or(Finding::NotOurs)?;
        Ok(Self { role, uuid, shape })
    }

    /// Whether a file's first page is what this header would be there.
    pub(crate) fn check(&self, page: &Page) -> Result<(), Finding> {
        let found = Self::decode(page)?;
        if found.role != self.role {
            return Err(Finding::OtherRole(found.role));
        }
        if found.uuid != self.uuid {
            return Err(Finding::OtherCache {
                found: found.uuid,
                expected: self.uuid,
            });
        }
        match found.shape == self.shape {
            true => Ok(()),
            false => Err(Finding::BlockSize {
                found: found.shape.block_bytes(),
                expected: self.shape.block_bytes(),
            }),
        }
    }
}

/// A page that begins with these bytes and ends with their checksum. There are less of them than fit.
pub(super) fn seal(bytes: &[u8]) -> Box<Page> {
    let mut page = Box::new([0; PAGE_BYTES as usize]);
    let used = bytes.len().min(CHECKSUM_AT);
    page[..used].copy_from_slice(&bytes[..used]);
    let sum = Seed::NONE.sum(&page[..CHECKSUM_AT]);
    page[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
    page
}

/// What follows the magic in a page that is whole.
pub(super) fn unseal(page: &Page, magic: [u8; 8]) -> Result<Reader<'_>, Finding> {
    let (body, sum) = page.split_at(CHECKSUM_AT);
    if Seed::NONE.sum(body).to_le_bytes() != sum {
        // Damaged it is only if it was ours before.
        return Err(match page.starts_with(&magic) {
            true => Finding::Damaged,
            false => Finding::NotOurs,
        });
    }
    let mut reader = Reader::new(body);
    match reader.array()? == magic {
        true => Ok(reader),
        false => Err(Finding::NotOurs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::testing::{assert_every_flip, golden_sum, uuid};

    fn header() -> Header {
        Header {
            role: Role::Sums,
            uuid: uuid(),
            shape: Shape::new(65536).unwrap(),
        }
    }

    #[test]
    fn golden_bytes() {
        let page = header().encode();
        assert_eq!(&page[..8], b"LARDERF\0");
        assert_eq!(page[8..16], [4, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(page[16..32], uuid().0);
        assert_eq!(page[32..34], [16, 7]);
        assert!(page[34..4088].iter().all(|byte| *byte == 0));
        assert_eq!(golden_sum(page.as_slice()), 0x6e93_fda3_3b58_492a);
    }

    #[test]
    fn every_role_and_size_is_found_again() {
        for role in Role::ALL {
            for shift in 12..=23 {
                let shape = Shape::new(1 << shift).unwrap();
                let header = Header {
                    role,
                    shape,
                    ..header()
                };
                assert_eq!(Header::decode(&header.encode()), Ok(header));
                assert_eq!(header.check(&header.encode()), Ok(()));
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        assert_every_flip(header().encode().as_slice(), |page| {
            let page = page.try_into().unwrap();
            Header::decode(page).is_err()
        });
    }

    #[test]
    fn files_of_others_are_refused_by_name() {
        let (ours, page) = (header(), header().encode());
        let map = Header {
            role: Role::Map,
            ..ours
        };
        assert_eq!(map.check(&page), Err(Finding::OtherRole(Role::Sums)));
        let other = Header {
            uuid: Uuid::from_random(1),
            ..ours
        };
        assert!(matches!(
            other.check(&page),
            Err(Finding::OtherCache { .. })
        ));
        let smaller = Header {
            shape: Shape::new(4096).unwrap(),
            ..ours
        };
        assert!(matches!(
            smaller.check(&page),
            Err(Finding::BlockSize { .. })
        ));
        assert_eq!(ours.check(&[0; 4096]), Err(Finding::NotOurs));
    }

    #[test]
    fn a_newer_version_is_refused_as_that_and_a_newer_minor_one_is_read() {
        let with_version = |major: u8, minor: u8| {
            let mut page = header().encode();
            (page[12], page[14]) = (major, minor);
            Header::decode(&seal(&page[..CHECKSUM_AT]))
        };
        assert_eq!(with_version(1, 9), Ok(header()));
        let newer = Version { major: 2, minor: 0 };
        assert_eq!(with_version(2, 0), Err(Finding::Newer(newer)));
        assert!(with_version(0, 0).is_err());
    }
}
