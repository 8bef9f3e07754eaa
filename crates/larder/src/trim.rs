//! Trims: passed on for whole sectors, and only then dropped from the cache.
//!
//! Parts of sectors are neither passed on nor dropped: a trim is advice, and so what stays in the
//! cache stays equal to the origin.

use crate::client::Client;
use crate::config::Mode;
use crate::origin::MAX_RANGE_BYTES;
use crate::volume::MAX_ZERO_RANGES;
use crate::{Error, ErrorKind, Fua, survival, through, zero};

/// Does what a client's trim means in the cache's mode.
pub(crate) fn trim(client: &Client, offset: u64, length: u64, fua: bool) -> Result<(), Error> {
    let volume = &*client.volume;
    let Some((start, end)) = zero::whole_sectors(volume, offset, length) else {
        return Ok(());
    };
    if client.store().config.mode == Mode::Unsafe {
        if volume.zero_ranges() >= MAX_ZERO_RANGES {
            // It is advice, and ranges of zeros are counted.
            return Ok(());
        }
        client
            .store()
            .trace(|| format!("trim {length} bytes at {offset}: zero by state"));
        zero::set_zero(volume, start, end, true);
        return Ok(());
    }
    if !client.attached.capabilities.trim {
        return Err(Error::new(
            ErrorKind::NotSupported,
            "the origin cannot trim",
        ));
    }
    let _range = volume.ranges.lock(start, end);
    // What takes the place of a promise is one. And what is not durable is counted. Asked with the range lock: nothing of it is sent to the origin
    // from here on, and what was sent and is not flushed yet counts as promised.
    let fua = fua
        || (volume.flushes_to_cache()
            && (volume.unflushed.is_long() || through::is_promised(volume, start, end)));
    let _guard = volume.poison_on_panic();
    client.check_poison()?;
    survival::revoke(volume, &[(start, end)])?;
    let failures_before = volume.durability.all_failures();
    match trim_origin(client, start, end, fua) {
        Ok(()) => {
            client.store().trace(|| {
                format!(
                    "trim {} bytes at {start}: passed on and dropped",
                    end - start
                )
            });
            let forget = || through::forget(client, start, end);
            through::following(client, (start, end), fua, failures_before, forget);
            through::followed_durably(client, (start, end), fua)
        }
        Err(cause) => {
            let context = format!("trim of {} bytes at {start} on the origin", end - start);
            Err(through::refused(client, (start, end), context, cause))
        }
    }
}

fn trim_origin(client: &Client, start: u64, end: u64, fua: bool) -> std::io::Result<()> {
    let attached = &client.attached;
    let each = fua && attached.capabilities.fua == Fua::Native;
    let send = || {
        let mut at = start;
        while at < end {
            let stop = end.min(at + MAX_RANGE_BYTES / 2);
            attached.origin.trim(at, stop - at, each)?;
            at = stop;
        }
        if fua && !each {
            attached.flush()
        } else {
            Ok(())
        }
    };
    if fua {
        client.volume.durably(attached, send)
    } else {
        send()
    }
}
