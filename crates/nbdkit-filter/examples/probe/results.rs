//! Wrong answers, by name.

use nbdkit_filter::{Error, Extent, ExtentList, Next, OpenRequest, Result};

/// Errors that nbdkit aborts on if they reach it: an errno of 0, and "not supported" from `zero`.
pub(crate) fn fail(what: &str, callback: &str) -> Result<()> {
    match (what, callback) {
        ("errno", "pread") => Err(Error::from_errno(0)),
        ("zero-unsupported", "zero") => Err(Error::from_errno(libc::EOPNOTSUPP)),
        ("message", "pread") => Err(Error::new(libc::ENOSPC, "100%s full \0 of %n")),
        _ => Ok(()),
    }
}

/// Opening the next layer twice, failing after it has been opened, or keeping its refusal secret.
pub(crate) fn open(what: &str, request: &mut OpenRequest<'_>) -> Result<()> {
    let name = request.export_name();
    match what {
        "open-twice" => {
            request.open_next(false, name)?;
            request.open_next(false, name)
        }
        "open-late-error" => {
            request.open_next(false, name)?;
            Err(Error::new(libc::EIO, "changed my mind"))
        }
        "open-readonly" => request.open_next(true, name),
        "open-swallowed" => {
            let _ = request.open_next(false, name);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Lists that nbdkit aborts on.
pub(crate) fn extents(
    what: &str,
    next: &Next,
    count: u32,
    offset: u64,
    list: &mut ExtentList<'_>,
) -> Result<()> {
    let extent = |offset, length| Extent {
        offset,
        length,
        hole: false,
        zero: true,
    };
    let half = u64::from(count) / 2;
    match what {
        "extents-none" => Ok(()),
        "extents-elsewhere" => list.add(extent(offset + half, half)),
        "extents-before" => list.add(extent(offset - half, 2 * half)),
        "extents-empty" => list.add(extent(offset, 0)),
        "extents-gap" => {
            list.add(extent(offset, half))?;
            list.add(extent(offset + half + 1, half))
        }
        "extents-endless" => list.add(extent(offset, u64::MAX - offset)),
        "extents-beyond" => list.add(extent(offset, 2 * next.size())),
        "extents-two-parts" => {
            list.add(extent(offset, half))?;
            next.extents_into(count - half as u32, offset + half, false, list)
        }
        _ => next.extents_into(count, offset, false, list),
    }
}
