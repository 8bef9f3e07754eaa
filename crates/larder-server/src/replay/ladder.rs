//! The sizes where none are given: powers of two, from a small share of the footprint to the
//! first that everything fits into.

use larder::Config;
use larder::config::MIN_MAX_SIZE_BYTES;
use larder_replay::Survey;

/// The smallest size is about this share of the footprint.
const SMALLEST_SHARE: u64 = 128;

/// A cache of each size.
pub(super) fn sizes(config: &Config, survey: &Survey) -> Vec<Config> {
    let footprint = survey.footprint_bytes();
    let least = MIN_MAX_SIZE_BYTES.max(config.block_bytes);
    let first = (footprint / SMALLEST_SHARE).max(least).next_power_of_two();
    // With room for what is kept free, and for the file system.
    let high = u64::from(config.high_threshold_percent.max(1));
    let all = u128::from(footprint) * 101 / u128::from(high);
    let mut sizes = Vec::new();
    let mut size = first;
    loop {
        sizes.push(Config {
            max_size_bytes: Some(size),
            ..config.clone()
        });
        if u128::from(size) > all || size > u64::MAX / 4 {
            return sizes;
        }
        size *= 2;
    }
}

#[cfg(test)]
mod tests {
    use larder_replay::{Replay, Sizes, Source, Trace, replay};

    use super::*;

    /// The ladder of a trace that reads so many blocks of 64 KiB.
    fn ladder(blocks: u64) -> (Vec<u64>, f64) {
        let lines: String = (0..blocks)
            .map(|block| format!("0,R,{},1\n", block * 65536))
            .collect();
        let source = Source::copy("x", lines.as_bytes(), &std::env::temp_dir()).unwrap();
        let config = Config::default();
        let wanted = Replay {
            block_bytes: config.block_bytes,
            sizes: Sizes::Chosen(&|survey| sizes(&config, survey)),
            with_optimum: false,
        };
        let replayed = replay(&Trace::of(vec![source], None).unwrap(), wanted).unwrap();
        let sizes = replayed.sizes.iter();
        let last = replayed.sizes.last().unwrap();
        let high = last.capacity_blocks as f64 * 0.95 / blocks as f64;
        (
            sizes.map(|at| at.config.max_size_bytes.unwrap()).collect(),
            high,
        )
    }

    #[test]
    fn the_largest_holds_everything_without_dropping_any() {
        for blocks in [1, 16, 1000, 4096, 5000] {
            let (sizes, high) = ladder(blocks);
            assert!(high >= 1.0, "{blocks} blocks: {sizes:?} holds {high}");
            assert!(sizes.is_sorted() && sizes.len() < 12, "{sizes:?}");
        }
        assert_eq!(ladder(1).0, [1 << 20]);
        assert_eq!(ladder(4096).0.first(), Some(&(2 << 20)));
    }
}
