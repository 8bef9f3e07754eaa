//! The smallest piece of a disk that is written as a whole, and what it was made to hold.

pub const UNIT: u64 = 512;

/// What one unit was made to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Zero,
    /// By the write of this number.
    Written(u64),
}

impl Value {
    /// What a unit of a region holds. Panics if it is torn, or another unit's.
    pub fn of(bytes: &[u8], unit: u64) -> Self {
        if bytes.iter().all(|byte| *byte == 0) {
            return Self::Zero;
        }
        let number = u64::from_be_bytes(bytes[8..16].try_into().unwrap());
        assert!(
            bytes == payload(unit, number),
            "unit {unit}: torn, or not its own: {:02x?}...",
            &bytes[..32]
        );
        Self::Written(number)
    }
}

/// A unit that knows its place and the write that it comes from.
pub fn payload(unit: u64, number: u64) -> Vec<u8> {
    let word = [(unit + 1).to_be_bytes(), number.to_be_bytes()].concat();
    word.repeat(UNIT as usize / 16)
}
