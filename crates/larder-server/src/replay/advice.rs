//! What the misses say about the size to choose.

use super::report::Row;
use super::size::size;

/// A doubling that saves less than this share of the misses is worth little, in percent.
const WORTH_PERCENT: f64 = 10.0;

/// The sentence that helps to choose a size, from rows in rising order. None for one size.
pub(super) fn advice(rows: &[Row]) -> Option<String> {
    let (last, smaller) = rows.split_last()?;
    smaller.first()?;
    // The last step that is worth it, if any, ends where more size is worth little.
    let worth_it = rows
        .windows(2)
        .rposition(|pair| saved_percent(&pair[0], &pair[1]) >= WORTH_PERCENT);
    let enough = worth_it.map_or(0, |step| step + 1);
    let limit = size(last.size_bytes);
    if enough + 1 == rows.len() {
        return Some(format!(
            "up to {limit}, doubling the size saves {WORTH_PERCENT} % of the misses or more"
        ));
    }
    Some(format!(
        "beyond {}, doubling the size saves less than {WORTH_PERCENT} % of the misses (tried up to {limit})",
        size(rows[enough].size_bytes)
    ))
}

/// The share of misses that a doubling between two sizes saves, in percent.
fn saved_percent(smaller: &Row, larger: &Row) -> f64 {
    let doublings = (larger.size_bytes as f64 / smaller.size_bytes as f64).log2();
    if smaller.misses == 0 || doublings <= 0.0 {
        return 0.0;
    }
    let left = larger.misses as f64 / smaller.misses as f64;
    100.0 * (1.0 - left.powf(doublings.recip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sizes_and_misses: &[(u64, u64)]) -> Option<String> {
        let row = |(mebibytes, misses): &(u64, u64)| Row {
            size_bytes: mebibytes << 20,
            misses: *misses,
            ..Row::default()
        };
        let rows: Vec<Row> = sizes_and_misses.iter().map(row).collect();
        advice(&rows)
    }

    #[test]
    fn the_size_is_where_doubling_is_worth_little_for_good() {
        // The step from 2M to 4M is worth little, but a later one is not.
        let rows = [(1, 1000), (2, 500), (4, 499), (8, 100), (16, 99), (32, 95)];
        let expected = "beyond 8M, doubling the size saves less than 10 % of the misses \
                        (tried up to 32M)";
        assert_eq!(told(&rows), Some(expected.to_owned()));
        assert_eq!(
            told(&rows[..4]),
            Some("up to 8M, doubling the size saves 10 % of the misses or more".to_owned())
        );
    }

    #[test]
    fn steps_other_than_doublings_count_as_what_they_are() {
        // 19 % in four times the size is 10 % a doubling.
        let told = told(&[(1, 1000), (4, 811), (16, 658)]);
        assert!(told.is_some_and(|told| told.starts_with("beyond 1M")));
    }

    #[test]
    fn one_size_says_nothing() {
        assert_eq!(told(&[(1, 1000)]), None);
    }
}
