//! A trace: requests in order, from one file or several.
//!
//! Files of blktrace are merged by time, since it writes one for each processor. Others are read one
//! after the other, as if they were one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::TraceError;
use crate::format::blkparse::{Blkparse, Counts};
use crate::format::csv::Csv;
use crate::format::iolog::Iolog;
use crate::format::{Encoding, Format, LineReader, blktrace, for_each_line};
use crate::request::Request;
use crate::source::Source;
use crate::volumes::Volumes;

/// The path that means standard input.
const STANDARD_INPUT: &str = "-";

/// A trace that can be read any number of times.
#[derive(Debug)]
pub struct Trace {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Lines(Source, Encoding),
    /// Of one trace.
    Blktrace(Vec<Source>),
}

impl Trace {
    /// Opens files: `-` is standard input, and the name that blktrace was given stands for all
    /// files that it made, `NAME.blktrace.0` and so on. What can be read only once is copied
    /// into a file in `directory`. Without a `format` the content tells.
    ///
    /// # Errors
    /// A file that cannot be read or is no trace.
    pub fn open(
        paths: &[PathBuf],
        format: Option<Format>,
        directory: &Path,
    ) -> Result<Self, TraceError> {
        let mut sources = Vec::new();
        for path in paths {
            if path.as_os_str() == STANDARD_INPUT {
                let input = io::stdin().lock();
                sources.push(Source::copy("standard input", input, directory)?);
                continue;
            }
            for path in files_of(path) {
                sources.push(Source::open(&path, directory)?);
            }
        }
        Self::of(sources, format)
    }

    /// A trace of these sources, in this order.
    ///
    /// # Errors
    /// A source that cannot be read or is no trace.
    pub fn of(sources: Vec<Source>, format: Option<Format>) -> Result<Self, TraceError> {
        let mut parts = Vec::new();
        for source in sources {
            match (Encoding::of(&source, format)?, parts.last_mut()) {
                (Encoding::Blktrace, Some(Part::Blktrace(sources))) => sources.push(source),
                (Encoding::Blktrace, _) => parts.push(Part::Blktrace(vec![source])),
                (encoding, _) => parts.push(Part::Lines(source, encoding)),
            }
        }
        Ok(Self { parts })
    }

    /// Gives every request to `give`, in order.
    ///
    /// # Errors
    /// Damage, with its place. What came before it has been given.
    pub fn for_each(&self, mut give: impl FnMut(Request)) -> Result<(), TraceError> {
        let mut volumes = Volumes::default();
        for part in &self.parts {
            match part {
                Part::Blktrace(sources) => blktrace::for_each(sources, &mut volumes, &mut give)?,
                Part::Lines(source, encoding) => {
                    let mut reader = line_reader(source, *encoding)?;
                    for_each_line(source, &mut *reader, &mut volumes, &mut give)?;
                }
            }
        }
        Ok(())
    }
}

fn line_reader(source: &Source, encoding: Encoding) -> Result<Box<dyn LineReader>, TraceError> {
    Ok(match encoding {
        Encoding::Iolog => Box::new(Iolog::default()),
        Encoding::Blkparse => Box::new(Blkparse {
            counts: Counts::in_text(source)?,
        }),
        Encoding::Csv | Encoding::Blktrace => Box::new(Csv),
    })
}

/// The path, or all files that blktrace made of that name.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let of_processor = |number: usize| {
        let mut name = OsString::from(path);
        name.push(format!(".blktrace.{number}"));
        PathBuf::from(name)
    };
    if fs::exists(path).unwrap_or(true) {
        return vec![path.to_owned()];
    }
    let files: Vec<PathBuf> = (0..)
        .map(of_processor)
        .take_while(|path| fs::exists(path).unwrap_or(false))
        .collect();
    if files.is_empty() {
        // The system says best what is wrong with it.
        return vec![path.to_owned()];
    }
    files
}
