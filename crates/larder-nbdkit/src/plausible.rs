//! What nbdkit's parsers are sure to refuse.
//!
//! They decide what is accepted, so that users may type what they always could. But they also print a
//! line of their own when they refuse, which names neither the parameter nor what would be right.
//! Texts that are surely wrong are therefore not shown to them, and get our one line. What
//! they accept (nbdkit 1.32 to 1.42, nbdkit_parse_size(3) and its siblings) always passes here.

/// Whether a text may be a size: digits, perhaps with a suffix, of at most 2^63-1 bytes.
pub(crate) fn may_be_size(text: &str) -> bool {
    let text = without_plus(text);
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "s" => 9,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        "e" => 60,
        _ => return false,
    };
    let number: Option<i64> = number.parse().ok();
    number.is_some_and(|number| number <= i64::MAX >> shift)
}

/// Whether a text may be an unsigned number of 32 bits, in decimal, octal or hexadecimal.
pub(crate) fn may_be_unsigned(text: &str) -> bool {
    let text = without_plus(text);
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
    match (hexadecimal, octal) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).is_ok(),
        (None, Some(digits)) => u32::from_str_radix(digits, 8).is_ok(),
        (None, None) => text.parse::<u32>().is_ok(),
    }
}

/// Whether a text may be a boolean.
pub(crate) fn may_be_boolean(text: &str) -> bool {
    const WORDS: [&str; 12] = [
        "1", "true", "t", "yes", "y", "on", "0", "false", "f", "no", "n", "off",
    ];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// strtol and its siblings skip white space and one plus sign.
fn without_plus(text: &str) -> &str {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    text.strip_prefix('+').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for good in [
            "0",
            "1M",
            "64k",
            "7E",
            "100s",
            "5b",
            " 8G",
            "+4096",
            "9223372036854775807",
        ] {
            assert!(may_be_size(good), "{good:?}");
        }
        for bad in [
            "",
            "M",
            "-1",
            "1Q",
            "1MB",
            "1.5M",
            "0x10",
            "8E",
            "9223372036854775808",
            "1 M",
            "+-1",
        ] {
            assert!(!may_be_size(bad), "{bad:?}");
        }
    }

    #[test]
    fn unsigned_numbers() {
        for good in ["0", "95", "0x5f", "0137", " 80", "+80", "4294967295"] {
            assert!(may_be_unsigned(good), "{good:?}");
        }
        for bad in ["", "-1", "80%", "8 0", "0x", "09", "4294967296", "abc"] {
            assert!(!may_be_unsigned(bad), "{bad:?}");
        }
    }

    #[test]
    fn booleans() {
        for good in ["true", "TRUE", "on", "0", "No"] {
            assert!(may_be_boolean(good), "{good:?}");
        }
        for bad in ["", "maybe", "2", " true"] {
            assert!(!may_be_boolean(bad), "{bad:?}");
        }
    }
}
