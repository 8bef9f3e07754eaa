//! How sizes, numbers and booleans are typed: as nbdkit takes them.
//!
//! [`PlainParser`] accepts what nbdkit's own parsers accept (nbdkit_parse_size(3) and its siblings,
//! nbdkit 1.32 to 1.42) and means the same by it, so that a parameter is typed alike for every
//! front end. It tells nothing when it refuses.

/// Parses what users type. None is a refusal, whose reason the parser may have told already.
pub trait Parser {
    /// A size in bytes, such as `64K`. Never negative.
    fn size(&self, text: &str) -> Option<u64>;

    /// A number without sign or unit.
    fn unsigned(&self, name: &str, text: &str) -> Option<u32>;

    /// A yes or a no.
    fn boolean(&self, text: &str) -> Option<bool>;
}

/// The grammar of nbdkit's parsers, without nbdkit.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainParser;

impl Parser for PlainParser {
    /// Decimal digits, perhaps with a suffix, of at most 2^63-1 bytes.
    fn size(&self, text: &str) -> Option<u64> {
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
            _ => return None,
        };
        let number: u64 = number.parse().ok()?;
        (number <= i64::MAX as u64 >> shift).then(|| number << shift)
    }

    /// A number of 32 bits, in decimal, octal or hexadecimal.
    fn unsigned(&self, _name: &str, text: &str) -> Option<u32> {
        let text = without_plus(text);
        let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let octal = text.strip_prefix('0').filter(|rest| !rest.is_empty());
        let (digits, radix) = match (hexadecimal, octal) {
            (Some(digits), _) => (digits, 16),
            (None, Some(digits)) => (digits, 8),
            (None, None) => (text, 10),
        };
        // The standard library would take a sign here.
        let is_digits = digits.chars().all(|digit| digit.is_digit(radix));
        is_digits
            .then(|| u32::from_str_radix(digits, radix).ok())
            .flatten()
    }

    fn boolean(&self, text: &str) -> Option<bool> {
        const YES: [&str; 6] = ["1", "true", "t", "yes", "y", "on"];
        const NO: [&str; 6] = ["0", "false", "f", "no", "n", "off"];
        let is_one_of = |words: [&str; 6]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
        match (is_one_of(YES), is_one_of(NO)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
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
        for (good, bytes) in [
            ("0", 0),
            ("1M", 1 << 20),
            ("64k", 64 << 10),
            ("7E", 7 << 60),
            ("100s", 51_200),
            ("100S", 51_200),
            ("5b", 5),
            ("3t", 3 << 40),
            ("2P", 2 << 50),
            (" 8G", 8 << 30),
            ("+4096", 4096),
            ("010", 10),
            ("9223372036854775807", i64::MAX as u64),
        ] {
            assert_eq!(PlainParser.size(good), Some(bytes), "{good:?}");
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
            "18446744073709551616",
            "1 M",
            "+-1",
            "++1",
        ] {
            assert_eq!(PlainParser.size(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn unsigned_numbers() {
        for (good, number) in [
            ("0", 0),
            ("95", 95),
            ("0x5f", 95),
            ("0X5F", 95),
            ("0137", 95),
            (" 80", 80),
            ("+80", 80),
            ("4294967295", u32::MAX),
        ] {
            assert_eq!(PlainParser.unsigned("n", good), Some(number), "{good:?}");
        }
        for bad in [
            "",
            "-1",
            "80%",
            "8 0",
            "0x",
            "0x+5",
            "0+7",
            "++5",
            "09",
            "4294967296",
            "abc",
        ] {
            assert_eq!(PlainParser.unsigned("n", bad), None, "{bad:?}");
        }
    }

    #[test]
    fn booleans() {
        for (good, meant) in [
            ("true", true),
            ("TRUE", true),
            ("on", true),
            ("Y", true),
            ("0", false),
            ("No", false),
            ("off", false),
        ] {
            assert_eq!(PlainParser.boolean(good), Some(meant), "{good:?}");
        }
        for bad in ["", "maybe", "2", " true"] {
            assert_eq!(PlainParser.boolean(bad), None, "{bad:?}");
        }
    }
}
