//! The text that blkparse makes of a trace, as it comes without options. Each device is a volume.
//!
//! A request is told several times on its way: queued, issued, completed. The one that counts is
//! where it was queued (Q), since that is what a cache in front would have seen; merges come later. A
//! trace without any such event was made of completions (C), and those count then.

use super::{LineReader, Said, for_each_line};
use crate::error::TraceError;
use crate::request::{Kind, Request};
use crate::source::Source;
use crate::volumes::Volumes;

/// What blktrace counts sectors in.
pub(crate) const SECTOR_BYTES: u64 = 512;

const RIGHT: &str = "must be an event as blkparse writes it: \
                     'major,minor cpu sequence seconds pid action rwbs sector + count [name]'";

/// Whether a file that begins so is one.
pub(crate) fn is_one(line: &str) -> bool {
    Event::parse(line).is_some()
}

/// Which of a request's events counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    Queued,
    Completed,
}

impl Counts {
    /// Queued if there are such events.
    pub(crate) fn in_text(source: &Source) -> Result<Self, TraceError> {
        let mut finder = Finder { is_queued: false };
        for_each_line(source, &mut finder, &mut Volumes::default(), &mut |_| {})?;
        Ok(match finder.is_queued {
            true => Self::Queued,
            false => Self::Completed,
        })
    }
}

/// Looks for a queued request.
struct Finder {
    is_queued: bool,
}

impl LineReader for Finder {
    fn read_line(&mut self, _: u64, line: &str, _: &mut Volumes) -> Result<Said, &'static str> {
        self.is_queued = Event::parse(line).is_some_and(|event| event.action == "Q");
        Ok(match self.is_queued {
            true => Said::End,
            false => Said::Nothing,
        })
    }
}

/// Reads the lines.
pub(crate) struct Blkparse {
    pub(crate) counts: Counts,
}

impl LineReader for Blkparse {
    fn read_line(
        &mut self,
        _: u64,
        line: &str,
        volumes: &mut Volumes,
    ) -> Result<Said, &'static str> {
        if is_summary(line) {
            return Ok(Said::End);
        }
        if line.starts_with("Input file ") {
            return Ok(Said::Nothing);
        }
        let event = Event::parse(line).ok_or(RIGHT)?;
        let action = match self.counts {
            Counts::Queued => "Q",
            Counts::Completed => "C",
        };
        if event.action != action {
            return Ok(Said::Nothing);
        }
        event.request(volumes)
    }
}

/// What follows the events: figures for each processor and device.
fn is_summary(line: &str) -> bool {
    let is_processor = line
        .strip_prefix("CPU")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(':'));
    is_processor || line.starts_with("Total (")
}

struct Event<'l> {
    device: &'l str,
    action: &'l str,
    rest: std::str::SplitAsciiWhitespace<'l>,
}

impl<'l> Event<'l> {
    /// What all events have.
    fn parse(line: &'l str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.next()?;
        let (major, minor) = device.split_once(',')?;
        let _: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        let _cpu: u32 = fields.next()?.parse().ok()?;
        let _sequence: u64 = fields.next()?.parse().ok()?;
        let seconds: f64 = fields.next()?.parse().ok()?;
        let _pid: i64 = fields.next()?.parse().ok()?;
        let action = fields.next()?;
        let is_action = action.len() <= 2 && action.chars().all(|c| c.is_ascii_alphabetic());
        (seconds.is_finite() && is_action).then_some(Self {
            device,
            action,
            rest: fields,
        })
    }

    /// The request of a queued or completed event. A flush has no range, and what is sent to a
    /// device as a command has a payload where the range would be.
    fn request(mut self, volumes: &mut Volumes) -> Result<Said, &'static str> {
        let rwbs = self.rest.next().ok_or(RIGHT)?;
        let kind = match rwbs {
            _ if rwbs.contains('D') => Kind::Trim,
            _ if rwbs.contains('R') => Kind::Read,
            _ if rwbs.contains('W') => Kind::Write,
            _ => return Ok(Said::Nothing),
        };
        let Some(sector) = self
            .rest
            .next()
            .filter(|text| !text.starts_with(['[', '(']))
        else {
            return Ok(Said::Nothing);
        };
        match self.rest.next() {
            Some("+") => {}
            // A payload, or the error of a flush.
            None => return Ok(Said::Nothing),
            Some(other) if other.starts_with(['[', '(']) => return Ok(Said::Nothing),
            Some(_) => return Err(RIGHT),
        }
        let sectors = self.rest.next().ok_or(RIGHT)?;
        let bytes = |text: &str| text.parse::<u64>().ok()?.checked_mul(SECTOR_BYTES);
        Ok(Said::Request(Request {
            volume: volumes.number(self.device),
            kind,
            offset: bytes(sector).ok_or(RIGHT)?,
            length: bytes(sectors).ok_or(RIGHT)?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
Input file sda.blktrace.0 added
  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]
  8,0    3        0     0.000001000     0  m   N served: 0
  8,0    3        2     0.000002000   697  Q   R 8 + 16 [cat]
  8,0    3        3     0.000002500   697  A  WS 223490 + 8 <- (8,1) 223427
  8,16   3        4     0.000003000   697  Q  WS 0 + 1 [a name with spaces]
  8,16   3        5     0.000004000   697  Q FWS [fsync]
  8,0    3        6     0.000005000   697  Q  DS 1024 + 2048 [fstrim]
  8,0    3        7     0.000006000   697  P   N [cat]
  8,0    3        8     0.000007000   697  U   N [cat] 1
  8,0    3        9     0.000008000   697  X   R 100 / 200 [cat]
  8,0    3       10     0.000009000   697  C   R 8 + 16 [0]
  8,0    3       11     0.000010000   697  Q   N 36 (12 00 00 00 24 00 ..) [smartctl]
CPU3 (sda):
 Reads Queued:           1,        8KiB	 Writes Queued:           1,        1KiB
";

    fn read(text: &str, counts: Counts) -> Result<Vec<Request>, String> {
        let source = Source::copy("x", text.as_bytes(), &std::env::temp_dir()).expect("a copy");
        let mut requests = Vec::new();
        let mut volumes = Volumes::default();
        for_each_line(
            &source,
            &mut Blkparse { counts },
            &mut volumes,
            &mut |one| {
                requests.push(one);
            },
        )
        .map_err(|error| error.to_string())?;
        Ok(requests)
    }

    fn request(volume: u32, kind: Kind, first: u64, sectors: u64) -> Request {
        Request {
            volume,
            kind,
            offset: first * 512,
            length: sectors * 512,
        }
    }

    #[test]
    fn queued_requests_count_where_there_are_any() {
        let expected = vec![
            request(0, Kind::Read, 8, 16),
            request(1, Kind::Write, 0, 1),
            request(0, Kind::Trim, 1024, 2048),
        ];
        assert_eq!(read(TEXT, Counts::Queued), Ok(expected));
        let completed = vec![request(0, Kind::Read, 8, 16)];
        assert_eq!(read(TEXT, Counts::Completed), Ok(completed));
    }

    #[test]
    fn what_counts_is_found_out_from_the_whole_trace() {
        let counts = |text: &str| {
            let source = Source::copy("x", text.as_bytes(), Path::new("/tmp")).expect("a copy");
            Counts::in_text(&source).expect("read")
        };
        use std::path::Path;
        assert_eq!(counts(TEXT), Counts::Queued);
        assert_eq!(counts(&TEXT.replace("  Q ", "  D ")), Counts::Completed);
    }

    #[test]
    fn a_damaged_line_is_told_with_its_number() {
        let text = TEXT.replace("8 + 16 [cat]", "8 + x [cat]");
        let message = read(&text, Counts::Queued).expect_err("refused");
        assert!(
            message
                .starts_with("x: line 5: '  8,0    3        2     0.000002000   697  Q   R 8 + x"),
            "{message}"
        );
        let text = TEXT.replace("0.000009000", "yesterday");
        assert!(read(&text, Counts::Queued).is_err());
    }
}
