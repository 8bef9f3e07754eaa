//! Calls to the next layer from threads of the filter's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use nbdkit_filter::{Next, Result, error};

use crate::told;

/// What a lingering thread needs to know of its connection.
#[derive(Debug, Default)]
pub(crate) struct Running {
    callbacks: AtomicU32,
    lingering: AtomicBool,
}

/// Serves the read, and once per connection leaves a thread behind that reads on until it is
/// refused. The thread tells when it has read while no read of the client's was running.
pub(crate) fn linger(
    next: &Next,
    running: &Arc<Running>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<()> {
    running.callbacks.fetch_add(1, Ordering::SeqCst);
    if !running.lingering.swap(true, Ordering::SeqCst) {
        let (next, running) = (next.clone(), running.clone());
        thread::spawn(move || read_on(&next, &running));
    }
    let result = next.pread(buffer, offset);
    running.callbacks.fetch_sub(1, Ordering::SeqCst);
    result
}

fn read_on(next: &Next, running: &Running) {
    let mut sector = [0; 512];
    let mut told_outside = false;
    loop {
        let outside = running.callbacks.load(Ordering::SeqCst) == 0;
        let result = next.pread(&mut sector, 0);
        if result.is_err() {
            error!(
                "probe: lingering ended: {}, open={}",
                told(result),
                next.is_open()
            );
            return;
        }
        if outside && next.is_parallel() && !told_outside {
            told_outside = true;
            error!("probe: lingering read outside");
        }
    }
}

/// Serves a read in four pieces, each on a thread, and from the callback's own thread.
pub(crate) fn read_with_helpers(next: &Next, buffer: &mut [u8], offset: u64) -> Result<()> {
    let piece = buffer.len().div_ceil(4).max(1);
    thread::scope(|scope| {
        let helpers: Vec<_> = buffer
            .chunks_mut(piece)
            .zip((offset..).step_by(piece))
            .map(|(piece, offset)| scope.spawn(move || next.pread(piece, offset)))
            .collect();
        next.pread(&mut [0; 1], offset)?;
        helpers
            .into_iter()
            .try_for_each(|helper| match helper.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

/// Writes in `finalize`: from the connection's thread, then from a helper.
pub(crate) fn write_late(next: &Next) {
    error!(
        "probe: late from here: {}",
        told(next.pwrite(b"here", 0, false))
    );
    thread::scope(|scope| {
        scope.spawn(|| {
            error!(
                "probe: late from helper: {}",
                told(next.pwrite(b"help", 512, false))
            );
        });
    });
    error!("probe: late flush: {}", told(next.flush()));
}
