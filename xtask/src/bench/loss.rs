//! What of what was written is on the origin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What fio filled with its own offset.
const BLOCK_BYTES: u64 = 4096;
const MIB: usize = 1 << 20;

/// How many blocks of a file do not hold their own offsets, as fio's pattern `%o` writes them.
pub(super) fn blocks_lost(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut mebibyte = vec![0; MIB];
    let mut lost = 0;
    for start in (0..bytes).step_by(MIB) {
        let part = &mut mebibyte[..MIB.min((bytes - start) as usize)];
        file.read_exact(part)?;
        let blocks = part.chunks(BLOCK_BYTES as usize);
        let numbered = blocks.zip((start..).step_by(BLOCK_BYTES as usize));
        lost += numbered
            .filter(|(block, offset)| !is_kept(block, *offset))
            .count() as u64;
    }
    Ok(lost)
}

fn is_kept(block: &[u8], offset: u64) -> bool {
    block == offset.to_ne_bytes().repeat(block.len() / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_holds_anything_else_is_lost() {
        let path = std::env::temp_dir().join(format!("xtask-loss-{}", std::process::id()));
        let offsets = (0..MIB as u64 * 2).step_by(BLOCK_BYTES as usize);
        let mut bytes: Vec<u8> = offsets
            .flat_map(|offset| offset.to_ne_bytes().repeat(BLOCK_BYTES as usize / 8))
            .collect();
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(blocks_lost(&path).unwrap(), 0);
        // One byte of the second block; all of one of the second mebibyte.
        bytes[5000] ^= 1;
        bytes[MIB + 4096..MIB + 8192].fill(0xee);
        std::fs::write(&path, &bytes).unwrap();
        let lost = blocks_lost(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(lost.unwrap(), 2);
    }
}
