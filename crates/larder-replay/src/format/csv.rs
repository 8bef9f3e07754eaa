//! Lines of `ts_us,op,offset_bytes,len_bytes`: the order of the lines counts, not the time. All
//! requests are of one volume.

use super::{LineReader, Said};
use crate::request::{Kind, Request};
use crate::volumes::Volumes;

const RIGHT: &str = "must be ts_us,op,offset_bytes,len_bytes with R, W or T (trim) as op";

/// Whether a file that begins so is one.
pub(crate) fn is_one(line: &str) -> bool {
    is_heading(line) || parse(line, 0).is_some()
}

/// Reads the lines.
pub(crate) struct Csv;

impl LineReader for Csv {
    fn read_line(
        &mut self,
        number: u64,
        line: &str,
        volumes: &mut Volumes,
    ) -> Result<Said, &'static str> {
        if number == 1 && is_heading(line) {
            return Ok(Said::Nothing);
        }
        let volume = volumes.number("");
        parse(line, volume).map(Said::Request).ok_or(RIGHT)
    }
}

/// Names of columns, as some tools write them first.
fn is_heading(line: &str) -> bool {
    line.starts_with("ts_us,op,")
}

fn parse(line: &str, volume: u32) -> Option<Request> {
    let mut fields = line.split(',').map(str::trim);
    let time: f64 = fields.next()?.parse().ok()?;
    let kind = match fields.next()? {
        "R" | "r" => Kind::Read,
        "W" | "w" => Kind::Write,
        "T" | "t" => Kind::Trim,
        _ => return None,
    };
    let offset = fields.next()?.parse().ok()?;
    let length = fields.next()?.parse().ok()?;
    (time.is_finite() && fields.next().is_none()).then_some(Request {
        volume,
        kind,
        offset,
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_requests_of_one_volume() {
        let mut volumes = Volumes::default();
        let mut said = |number, line| Csv.read_line(number, line, &mut volumes);
        assert_eq!(
            said(1, "ts_us,op,offset_bytes,len_bytes"),
            Ok(Said::Nothing)
        );
        let expected = |kind, offset, length| {
            Ok(Said::Request(Request {
                volume: 0,
                kind,
                offset,
                length,
            }))
        };
        assert_eq!(said(2, "0,R,4096,512"), expected(Kind::Read, 4096, 512));
        assert_eq!(said(3, "1.5,w,0,1"), expected(Kind::Write, 0, 1));
        assert_eq!(said(4, "2, T, 7, 0"), expected(Kind::Trim, 7, 0));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let mut volumes = Volumes::default();
        for line in [
            "0,R,4096",
            "0,R,4096,512,1",
            "0,X,4096,512",
            "x,R,4096,512",
            "nan,R,4096,512",
            "0,R,-1,512",
            "0,R,4096,5e3",
            "0,R,18446744073709551616,1",
            "R,4096,512",
            "ts_us,op,offset_bytes,len_bytes",
        ] {
            assert_eq!(Csv.read_line(2, line, &mut volumes), Err(RIGHT), "{line}");
        }
    }
}
