//! Dates of HTTP headers (RFC 9110, 5.6.7).

/// Month names in their order.
const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Seconds since 1970, in days of 86400, of a date such as `Sun, 06 Nov 1994 08:49:37 GMT`. `None` for the
/// forms that nobody sends any more.
pub(super) fn seconds(text: &[u8]) -> Option<i64> {
    let is_fixed = text.len() == 29
        && text[3..5] == *b", "
        && text.ends_with(b" GMT")
        && [7, 11, 16].iter().all(|&at| text[at] == b' ')
        && [19, 22].iter().all(|&at| text[at] == b':');
    if !is_fixed {
        return None;
    }
    let month = MONTHS.iter().position(|month| text[8..11] == **month)? as i64 + 1;
    let [day, year] = [number(&text[5..7])?, number(&text[12..16])?];
    let [hour, minute, second] = [17, 20, 23].map(|at| number(&text[at..at + 2]));
    Some(days(year, month, day) * 86400 + hour? * 3600 + minute? * 60 + second?)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })
}

/// Days since 1970-01-01, in the Gregorian calendar. Years begin in March here, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `date -u +%s` has them.
    #[test]
    fn dates_are_seconds() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Sun, 22 Nov 2026 17:00:00 GMT", 1_795_366_800),
        ] {
            assert_eq!(seconds(text.as_bytes()), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_forms_are_none() {
        for text in [
            "",
            "then",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 0x:49:37 GMT",
            "Sun, 06 Xxx 1994 08:49:37 GMT",
            "Sun,\u{e4}06 Nov 1994 08:49:3 GMT",
        ] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
    }
}
