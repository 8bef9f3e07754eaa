//! Volume tables in their file.

use super::header::Role;
use super::open_error::OpenError;
use super::refusal::Refusal;
use super::shape::Shape;
use super::sums::Seed;
use super::volumes::{Region, VolumeTable};
use crate::medium::MediumFile;

fn failed(doing: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
    OpenError::io(Role::Volumes.file_name(), doing)
}

/// The bytes of a table, to the end of its last page.
fn bytes_of(file: &dyn MediumFile, region: Region) -> Result<Vec<u8>, OpenError> {
    let mut bytes = vec![0; (region.end() - region.offset) as usize];
    file.read(region.offset, &mut bytes)
        .map_err(failed("read"))?;
    Ok(bytes)
}

/// The table that lies there.
pub(super) fn read(
    file: &dyn MediumFile,
    region: Region,
    cache: Seed,
    shape: Shape,
) -> Result<VolumeTable, OpenError> {
    let bytes = bytes_of(file, region)?;
    VolumeTable::decode(&bytes, region, cache, shape)
        .map_err(|finding| Refusal::of(Role::Volumes, finding).into())
}

/// Writes a table beside the one that counts, unless it says the same. Tells which one is to count.
pub(super) fn write(
    file: &dyn MediumFile,
    counting: Region,
    generation: u64,
    table: &VolumeTable,
    cache: Seed,
) -> Result<Region, OpenError> {
    let bytes = table.encoded_bytes();
    if bytes == counting.bytes {
        let same = table.encode(counting.generation, cache, counting.offset);
        if same == bytes_of(file, counting)? {
            return Ok(counting);
        }
    }
    let region = Region {
        offset: counting.offset_beside(bytes),
        bytes,
        generation,
    };
    let encoded = table.encode(generation, cache, region.offset);
    file.write(region.offset, &encoded)
        .map_err(failed("written"))?;
    Ok(region)
}
