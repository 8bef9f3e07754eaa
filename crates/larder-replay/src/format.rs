//! What a trace is written in.

use crate::error::TraceError;
use crate::request::Request;
use crate::source::Source;
use crate::volumes::Volumes;

pub(crate) mod blkparse;
pub(crate) mod blktrace;
pub(crate) mod csv;
pub(crate) mod iolog;

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 16;
/// So much of a file's beginning is looked at to find out what it is.
const BEGINNING_BYTES: u64 = 4096;

/// What a trace is written in, as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of `ts_us,op,offset_bytes,len_bytes`; op is R, W or T for a trim.
    Csv,
    /// What blktrace writes, or the text that blkparse makes of it.
    Blktrace,
    /// fio's iolog, version 2 or 3.
    Fio,
}

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Csv,
    Blkparse,
    Blktrace,
    Iolog,
}

impl Encoding {
    /// By the beginning of the file, in `format` if that is given.
    pub(crate) fn of(source: &Source, format: Option<Format>) -> Result<Self, TraceError> {
        use std::io::Read;
        let failed = |error| TraceError::io(source.name(), &error);
        let mut beginning = Vec::new();
        let reader = source.read()?;
        let mut limited = reader.take(BEGINNING_BYTES);
        limited.read_to_end(&mut beginning).map_err(failed)?;
        Ok(match format {
            Some(Format::Csv) => Self::Csv,
            Some(Format::Fio) => Self::Iolog,
            Some(Format::Blktrace) if blktrace::is_one(&beginning) => Self::Blktrace,
            Some(Format::Blktrace) => Self::Blkparse,
            None => Self::guess(&beginning).ok_or_else(|| unknown(source.name(), &beginning))?,
        })
    }

    fn guess(beginning: &[u8]) -> Option<Self> {
        if blktrace::is_one(beginning) {
            return Some(Self::Blktrace);
        }
        let text = String::from_utf8_lossy(beginning);
        let line = text.lines().find(|line| !line.trim().is_empty())?;
        let is = |looks_like: fn(&str) -> bool| looks_like(line);
        let candidates = [
            (is(iolog::is_one), Self::Iolog),
            (is(csv::is_one), Self::Csv),
            (is(blkparse::is_one), Self::Blkparse),
        ];
        let found = candidates.into_iter().find(|(is_one, _)| *is_one);
        found.map(|(_, encoding)| encoding)
    }
}

fn unknown(name: &str, beginning: &[u8]) -> TraceError {
    if beginning.is_empty() {
        return TraceError::new(name, "is empty, not a trace");
    }
    let line = beginning.split(|byte| *byte == b'\n').next();
    TraceError::line(
        name,
        1,
        line.unwrap_or_default(),
        "is no trace that is known: must be CSV (ts_us,op,offset_bytes,len_bytes), \
         blktrace's files, blkparse's text or an iolog of fio; --format=csv|blktrace|fio \
         says which where the beginning is damaged",
    )
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// This was requested.
    Request(Request),
    /// Nothing about requests.
    Nothing,
    /// From here on there are no requests.
    End,
}

/// Knows what lines say. An error is what would be right.
pub(crate) trait LineReader {
    /// What the line says that has that number, from 1.
    fn read_line(
        &mut self,
        number: u64,
        line: &str,
        volumes: &mut Volumes,
    ) -> Result<Said, &'static str>;
}

/// Gives every request of a source of lines to `give`.
pub(crate) fn for_each_line(
    source: &Source,
    reader: &mut dyn LineReader,
    volumes: &mut Volumes,
    give: &mut dyn FnMut(Request),
) -> Result<(), TraceError> {
    use std::io::{BufRead, Read};
    let mut lines = source.read()?;
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let mut limited = (&mut lines).take(MAX_LINE_BYTES);
        let length = limited
            .read_until(b'\n', &mut bytes)
            .map_err(|error| after(source.name(), number, &error))?;
        if length == 0 {
            break;
        }
        let wrong = |advice| TraceError::line(source.name(), number, &bytes, advice);
        if length as u64 == MAX_LINE_BYTES {
            return Err(wrong("must be shorter than 64 KiB"));
        }
        let line = String::from_utf8_lossy(&bytes);
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let said = reader.read_line(number, line, volumes).map_err(wrong)?;
        match said {
            Said::Request(request) if request.length > 0 => {
                give(request.checked().map_err(wrong)?);
            }
            Said::Request(_) | Said::Nothing => {}
            Said::End => break,
        }
    }
    Ok(())
}

fn after(name: &str, number: u64, error: &std::io::Error) -> TraceError {
    TraceError::new(name, &format!("after line {}: {error}", number - 1))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn guessed(text: &[u8]) -> Option<Encoding> {
        Encoding::guess(text)
    }

    #[test]
    fn the_beginning_tells_what_a_file_is() {
        for (text, encoding) in [
            (&b"12,R,4096,512\n"[..], Encoding::Csv),
            (b"\n0.5,w,0,1\n", Encoding::Csv),
            (b"ts_us,op,offset_bytes,len_bytes\n", Encoding::Csv),
            (b"fio version 3 iolog\n0 /f add\n", Encoding::Iolog),
            (b"fio version 9 iolog\n", Encoding::Iolog),
            (
                b"  8,0    3        1     0.000000000   697  G   W 223490 + 8 [kjournald]\n",
                Encoding::Blkparse,
            ),
            (&0x6561_7407u32.to_le_bytes(), Encoding::Blktrace),
            (&0x6561_7406u32.to_be_bytes(), Encoding::Blktrace),
        ] {
            assert_eq!(guessed(text), Some(encoding), "{text:?}");
        }
        for text in [&b""[..], b"\n\n", b"hello world\n", b"a,b,c,d\n", b"1,2\n"] {
            assert_eq!(guessed(text), None, "{text:?}");
        }
    }
}
