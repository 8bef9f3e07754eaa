//! Random requests from several threads, compared with a byte array.
//!
//! The disk is cut into pieces of an odd length, and each thread owns every fourth. So a thread
//! knows what its pieces hold whatever the others do, while threads meet within sectors and pages.

use std::thread;

use larder::{Origin, ZeroOptions};
use larder_origins::Source;
use larder_testing::Random;
use larder_testing::random::content;

const THREADS: usize = 4;
const PIECE_BYTES: usize = 40_009;
const STEPS: usize = 1500;

/// ENOTSUP.
const NOT_SUPPORTED: i32 = 95;

/// What one piece holds. None is a byte that was trimmed: anything.
struct Piece {
    offset: u64,
    bytes: Vec<Option<u8>>,
}

/// Runs the requests that `seed` names against the source, which holds `before`; returns what it
/// has to hold after the last flush. All of it was read back through a new handle.
pub(crate) fn run(source: &dyn Source, before: &[u8], seed: u64) -> Vec<Option<u8>> {
    println!("seed {seed}");
    let mut shares: Vec<Vec<Piece>> = (0..THREADS).map(|_| Vec::new()).collect();
    for (number, bytes) in before.chunks(PIECE_BYTES).enumerate() {
        shares[number % THREADS].push(Piece {
            offset: (number * PIECE_BYTES) as u64,
            bytes: bytes.iter().copied().map(Some).collect(),
        });
    }
    // Two threads each to a handle: handles and the threads of one handle are both met.
    let handles = [source.connect().unwrap(), source.connect().unwrap()];
    thread::scope(|scope| {
        for (number, pieces) in shares.iter_mut().enumerate() {
            let origin = &*handles[number % handles.len()];
            let random = Random::new(seed).fork(number as u64);
            scope.spawn(move || work(origin, pieces, random));
        }
    });
    handles[0].flush().unwrap();
    let mut pieces: Vec<Piece> = shares.into_iter().flatten().collect();
    pieces.sort_by_key(|piece| piece.offset);
    let model: Vec<Option<u8>> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
    let origin = source.connect().unwrap();
    let mut bytes = vec![0; model.len()];
    origin.read(0, &mut bytes).unwrap();
    compare(0, &bytes, &model);
    check_extents(&*origin, 0, &model);
    model
}

/// Panics at the first byte that is wrong.
pub(crate) fn compare(offset: u64, bytes: &[u8], model: &[Option<u8>]) {
    assert_eq!(bytes.len(), model.len());
    for (index, (&byte, &expected)) in bytes.iter().zip(model).enumerate() {
        if let Some(expected) = expected {
            let at = offset + index as u64;
            assert_eq!(byte, expected, "at offset {at}");
        }
    }
}

/// What is called zero has to be zero, and the extents have to cover the range.
fn check_extents(origin: &dyn Origin, offset: u64, model: &[Option<u8>]) {
    if !origin.capabilities().extents {
        return;
    }
    let mut at = 0;
    while at < model.len() {
        let rest = (model.len() - at) as u64;
        let extents = origin.extents(offset + at as u64, rest, false).unwrap();
        assert!(!extents.is_empty());
        for extent in extents {
            assert!(extent.length > 0 && at as u64 + extent.length <= model.len() as u64);
            let end = at + extent.length as usize;
            if extent.zero {
                compare(offset + at as u64, &vec![0; end - at], &model[at..end]);
            }
            at = end;
        }
    }
}

fn work(origin: &dyn Origin, pieces: &mut [Piece], mut random: Random) {
    for _ in 0..STEPS {
        let piece = random.below(pieces.len() as u64) as usize;
        step(origin, &mut pieces[piece], &mut random);
    }
}

fn step(origin: &dyn Origin, piece: &mut Piece, random: &mut Random) {
    let (start, end) = range(piece, random);
    let offset = piece.offset + start as u64;
    let length = (end - start) as u64;
    let model = &mut piece.bytes[start..end];
    let fua = random.chance(5);
    match random.below(100) {
        0..40 => {
            let data = content(random.next_u64(), offset, end - start);
            origin.write(offset, &data, fua).unwrap();
            for (known, byte) in model.iter_mut().zip(data) {
                *known = Some(byte);
            }
        }
        40..65 => {
            let mut bytes = vec![0xAA; end - start];
            origin.read(offset, &mut bytes).unwrap();
            compare(offset, &bytes, model);
        }
        65..82 => {
            let options = ZeroOptions {
                may_trim: random.chance(50),
                fast: random.chance(30),
                fua,
            };
            match origin.zero(offset, length, options) {
                Ok(()) => model.fill(Some(0)),
                Err(error) => {
                    assert!(options.fast, "{options:?}: {error}");
                    assert_eq!(error.raw_os_error(), Some(NOT_SUPPORTED), "{error}");
                }
            }
        }
        82..92 => {
            origin.trim(offset, length, fua).unwrap();
            model.fill(None);
        }
        92..98 => check_extents(origin, offset, model),
        _ => origin.flush().unwrap(),
    }
}

/// A range within the piece: of any bytes, of sectors or of pages.
fn range(piece: &Piece, random: &mut Random) -> (usize, usize) {
    let length = piece.bytes.len() as u64;
    let unit = random.pick(&[1, 512, 4096]);
    let longest = random.pick(&[600, 9000, length]);
    let start = random.below(length);
    let end = (start + 1 + random.below(longest)).min(length);
    // Multiples of the unit on the disk, where the piece has some.
    let up = |at: u64| (piece.offset + at).next_multiple_of(unit) - piece.offset;
    let (first, last) = (up(start), up(end).min(length));
    let (start, end) = if first < last {
        (first, last)
    } else {
        (start, end)
    };
    (start as usize, end as usize)
}
