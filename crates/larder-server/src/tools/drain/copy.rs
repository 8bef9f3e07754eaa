//! Copying what only the directory has to a file, which is as long as the volume and has holes where the origin's data belongs; and beside it, as
//! JSON, the list of what counts.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use larder::drain::{Exported, Holding, Output};
use larder_frontend::report::{one_line, reason};

use super::{Emptying, amount, nothing, print, refused, shown};
use crate::cli::Wrong;
use crate::tools::bar::with_bar;
use crate::tools::json::{ExportJson, to_text};

/// A file that is being written.
struct Sparse<'f>(&'f File);

impl Output for Sparse<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}

impl Emptying {
    /// False if something is not in the file.
    pub(super) fn copy(&self, to: &Path, name: Option<&str>) -> Result<bool, Wrong> {
        let holding = match name {
            Some(name) => Some(self.named(name)?),
            None => self.only_one("--output")?,
        };
        let Some(holding) = holding else {
            return Ok(true);
        };
        if holding.is_empty() {
            print(&nothing(&holding));
            return Ok(true);
        }
        let list = list_of(to);
        let (file, list_file) = (make(to)?, make(&list)?);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| cannot("written", &path, &error)
        };
        file.set_len(holding.size_bytes).map_err(failed(to))?;
        let exported = with_bar("copying", |tell| {
            let mut output = Sparse(&file);
            let tell = &mut |at: larder::drain::Progress| tell(at.done_bytes, at.total_bytes);
            self.drain.export(holding.number, &mut output, tell)
        });
        let exported = exported.map_err(|error| refused(&self.path, &error))?;
        let json = ExportJson::new(&self.path, &holding, &exported);
        let text = to_text(&json).map_err(Wrong::refusal)?;
        (&list_file)
            .write_all(text.as_bytes())
            .map_err(failed(&list))?;
        // What is discarded next must not have been the only copy.
        file.sync_all().map_err(failed(to))?;
        list_file.sync_all().map_err(failed(&list))?;
        sync_names(to).map_err(failed(to))?;
        self.report(&holding, &exported, to, &list);
        Ok(exported.left.is_empty())
    }

    fn report(&self, holding: &Holding, exported: &Exported, to: &Path, list: &Path) {
        let bytes = |is_zero: bool| {
            let ranges = exported.ranges.iter();
            let of_kind = ranges.filter(|range| range.is_zero == is_zero);
            of_kind.map(|range| range.length).sum::<u64>()
        };
        let copied = amount(bytes(false), bytes(true));
        let (to, list) = (path_text(to), path_text(list));
        let name = shown(&holding.name);
        print(&format!(
            "{name}: {copied} is in {to}, at the places that {list} names; all else in it is the origin's to say\n"
        ));
        self.name_left(&holding.name, &exported.left, "are not in the file");
    }
}

/// The list beside a file.
fn list_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

fn make(path: &Path) -> Result<File, Wrong> {
    let made = OpenOptions::new().write(true).create_new(true).open(path);
    made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let path = path_text(path);
            Wrong::refusal(format!("{path}: it is there already: name a new file"))
        }
        _ => cannot("made", path, &error),
    })
}

/// Makes the names of new files durable.
fn sync_names(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn cannot(doing: &str, path: &Path, error: &io::Error) -> Wrong {
    let (path, reason) = (path_text(path), reason(error));
    Wrong::refusal(format!("{path}: it cannot be {doing}: {reason}"))
}

fn path_text(path: &Path) -> String {
    one_line(&path.display().to_string())
}
