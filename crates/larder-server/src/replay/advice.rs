//! What the misses say about the size to choose.

use super::report::Row;
use super::size::size;

/// A doubling that saves less than this share of the misses is worth little, in percent.
const WORTH_PERCENT: f64 = 10.0;

/// The sentence that helps to choose a size, from rows in rising order; whether all blocks fit into the
/// largest cache. None for one size.
pub(super) fn advice(rows: &[Row], all_fit: bool) -> Option<String> {
    let (last, smaller) = rows.split_last()?;
    smaller.first()?;
    // The last step that is worth it, if any, ends where more size is worth little.
    let worth_it = rows
        .windows(2)
        .rposition(|pair| saved_percent(&pair[0], &pair[1]) >= WORTH_PERCENT);
    let enough = size(rows[worth_it.map_or(0, |step| step + 1)].size_bytes);
    let limit = size(last.size_bytes);
    let little = format!("doubling the size saves less than {WORTH_PERCENT} % of the misses");
    Some(match (enough == limit, all_fit) {
        (false, true) => format!("beyond {enough}, {little}; everything fits into {limit}"),
        (false, false) => format!("beyond {enough}, {little} (tried up to {limit})"),
        (true, true) => format!("larger than {limit} saves nothing: everything fits into it"),
        (true, false) => {
            format!("{limit} is the largest size tried, and a larger one may be worth it")
        }
    })
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

    fn told(sizes_and_misses: &[(u64, u64)], all_fit: bool) -> Option<String> {
        let row = |(mebibytes, misses): &(u64, u64)| Row {
            size_bytes: mebibytes << 20,
            misses: *misses,
            ..Row::default()
        };
        let rows: Vec<Row> = sizes_and_misses.iter().map(row).collect();
        advice(&rows, all_fit)
    }

    #[test]
    fn the_size_is_where_doubling_is_worth_little_for_good() {
        // The step from 2M to 4M is worth little, but a later one is not.
        let rows = [(1, 1000), (2, 500), (4, 499), (8, 100), (16, 99), (32, 95)];
        let expected = "beyond 8M, doubling the size saves less than 10 % of the misses \
                        (tried up to 32M)";
        assert_eq!(told(&rows, false), Some(expected.to_owned()));
        assert_eq!(
            told(&rows[..4], false).as_deref(),
            Some("8M is the largest size tried, and a larger one may be worth it")
        );
    }

    #[test]
    fn what_holds_everything_is_large_enough() {
        let rows = [(1, 1000), (2, 500), (4, 400), (8, 399)];
        assert_eq!(
            told(&rows[..3], true).as_deref(),
            Some("larger than 4M saves nothing: everything fits into it")
        );
        assert_eq!(
            told(&rows, true).as_deref(),
            Some(
                "beyond 4M, doubling the size saves less than 10 % of the misses; \
                 everything fits into 8M"
            )
        );
    }

    #[test]
    fn steps_other_than_doublings_count_as_what_they_are() {
        // 19 % in four times the size is 10 % a doubling.
        let told = told(&[(1, 1000), (4, 811), (16, 658)], false);
        assert!(told.is_some_and(|told| told.starts_with("beyond 1M")));
    }

    #[test]
    fn one_size_says_nothing() {
        assert_eq!(told(&[(1, 1000)], true), None);
    }
}
