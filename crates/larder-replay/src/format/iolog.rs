//! fio's iolog, versions 2 and 3. Each file that it names is a volume.

use super::{LineReader, Said};
use crate::request::{Kind, Request};
use crate::volumes::Volumes;

const HEADING: &str = "must be 'fio version 2 iolog' or 'fio version 3 iolog'";
const RIGHT_2: &str = "must be 'filename action' or 'filename action offset length' with add, open, \
                       close, wait, read, write, sync, datasync or trim as action";
const RIGHT_3: &str = "must be 'timestamp filename action' or 'timestamp filename action offset \
                       length' with add, open, close, read, write, sync, datasync or trim as action";

/// Whether a file that begins so is one, of whatever version.
pub(crate) fn is_one(line: &str) -> bool {
    line.starts_with("fio version ") && line.ends_with(" iolog")
}

/// Reads the lines.
#[derive(Default)]
pub(crate) struct Iolog {
    has_time: bool,
}

impl LineReader for Iolog {
    fn read_line(
        &mut self,
        number: u64,
        line: &str,
        volumes: &mut Volumes,
    ) -> Result<Said, &'static str> {
        if number == 1 {
            self.has_time = match line {
                "fio version 2 iolog" => false,
                "fio version 3 iolog" => true,
                _ => return Err(HEADING),
            };
            return Ok(Said::Nothing);
        }
        let right = if self.has_time { RIGHT_3 } else { RIGHT_2 };
        self.parse(line, volumes).ok_or(right)
    }
}

impl Iolog {
    fn parse(&self, line: &str, volumes: &mut Volumes) -> Option<Said> {
        let mut fields = line.split_ascii_whitespace();
        if self.has_time {
            let _: u64 = fields.next()?.parse().ok()?;
        }
        let name = fields.next()?;
        let kind = match fields.next()? {
            "read" => Some(Kind::Read),
            "write" => Some(Kind::Write),
            "trim" => Some(Kind::Trim),
            "sync" | "datasync" | "wait" => None,
            // What is done to the file itself has no range.
            "add" | "open" | "close" => return fields.next().is_none().then_some(Said::Nothing),
            _ => return None,
        };
        let offset: u64 = fields.next()?.parse().ok()?;
        let length: u64 = fields.next()?.parse().ok()?;
        if fields.next().is_some() {
            return None;
        }
        Some(match kind {
            Some(kind) => Said::Request(Request {
                volume: volumes.number(name),
                kind,
                offset,
                length,
            }),
            None => Said::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Vec<Request>, &'static str> {
        let mut volumes = Volumes::default();
        let mut iolog = Iolog::default();
        let mut requests = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            if let Said::Request(request) = iolog.read_line(at as u64 + 1, line, &mut volumes)? {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    fn request(volume: u32, kind: Kind, offset: u64, length: u64) -> Request {
        Request {
            volume,
            kind,
            offset,
            length,
        }
    }

    #[test]
    fn version_2() {
        let requests = read(&[
            "fio version 2 iolog",
            "/a add",
            "/b add",
            "/b open",
            "/b write 4096 512",
            "/b wait 1000 0",
            "/a read 0 65536",
            "/a sync 0 0",
            "/b trim 8192 4096",
            "/b close",
        ]);
        let expected = vec![
            request(0, Kind::Write, 4096, 512),
            request(1, Kind::Read, 0, 65536),
            request(0, Kind::Trim, 8192, 4096),
        ];
        assert_eq!(requests, Ok(expected));
    }

    #[test]
    fn version_3() {
        let requests = read(&[
            "fio version 3 iolog",
            "0 /a add",
            "1 /a open",
            "7 /a read 4096 512",
            "9 /a datasync 0 0",
            "9 /a close",
        ]);
        assert_eq!(requests, Ok(vec![request(0, Kind::Read, 4096, 512)]));
    }

    #[test]
    fn what_is_no_action_is_refused() {
        assert_eq!(read(&["fio version 1 iolog"]), Err(HEADING));
        for line in [
            "/a",
            "/a dance",
            "/a read 1",
            "/a read x 1",
            "/a read 1 2 3",
            "/a add 1",
        ] {
            assert_eq!(read(&["fio version 2 iolog", line]), Err(RIGHT_2), "{line}");
        }
        for line in ["/a read 1 2", "7 /a", "1 /a read 1"] {
            assert_eq!(read(&["fio version 3 iolog", line]), Err(RIGHT_3), "{line}");
        }
    }
}
