//! What of a block is present, in its slot or as zeros, and where what is read goes.

use crate::client::Client;
use crate::latch::Latched;
use crate::pin::Pin;
use crate::sector::{BlockNumber, Mask, Piece};
use crate::{Error, ErrorKind};

/// Where what is read goes.
pub(crate) struct Target<'b> {
    offset: u64,
    /// Nowhere, if the range is only to be fetched.
    buffer: Option<&'b mut [u8]>,
    /// Who is to have it as soon as it is whole, once.
    taker: Option<Taker<'b>>,
}

/// Takes what was read.
pub(crate) type Taker<'b> = &'b mut dyn FnMut(&[u8]);

impl<'b> Target<'b> {
    pub(crate) fn new(offset: u64, buffer: &'b mut [u8]) -> Self {
        Self {
            offset,
            buffer: Some(buffer),
            taker: None,
        }
    }

    /// The same for somebody who waits for the whole.
    pub(crate) fn for_taker(offset: u64, buffer: &'b mut [u8], taker: Taker<'b>) -> Self {
        Self {
            taker: Some(taker),
            ..Self::new(offset, buffer)
        }
    }

    pub(crate) fn nowhere(offset: u64) -> Self {
        Self {
            offset,
            buffer: None,
            taker: None,
        }
    }

    /// Whether somebody still waits for the whole.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.taker.is_some()
    }

    /// Every byte is in its place: whoever waits for the whole has it now.
    pub(crate) fn hand_over(&mut self) {
        if let (Some(taker), Some(buffer)) = (self.taker.take(), self.buffer.as_deref()) {
            taker(buffer);
        }
    }

    /// The place for the bytes from `start` to `end` of the volume.
    pub(crate) fn place(&mut self, start: u64, end: u64) -> Option<&mut [u8]> {
        let buffer = self.buffer.as_deref_mut()?;
        Some(&mut buffer[(start - self.offset) as usize..(end - self.offset) as usize])
    }

    /// The first byte that is read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn is_nowhere(&self) -> bool {
        self.buffer.is_none()
    }
}

/// Copies what is in the slot or zero by state, and gives the sectors that are not.
pub(crate) fn copy_present(
    client: &Client,
    pin: &Pin<'_>,
    piece: &Piece,
    target: &mut Target<'_>,
) -> Result<Mask, Error> {
    loop {
        let outcome = {
            let state = pin.latch_shared();
            copy_latched(&state, piece, target)
        };
        match outcome {
            Ok(missing) => return Ok(missing),
            // Each round at least one sector is given up, unless it can be read by then.
            Err(unreadable) => drop_unreadable(client, pin, unreadable)?,
        }
    }
}

/// The same with the latch held by the caller. Fails with the sectors that the cache file does not
/// give back.
pub(crate) fn copy_latched(
    state: &impl Latched,
    piece: &Piece,
    target: &mut Target<'_>,
) -> Result<Mask, Mask> {
    let volume = state.volume();
    let geometry = volume.geometry();
    let touched = geometry.touched(piece);
    let valid = state.valid & touched;
    let mut missing = touched - valid;
    let base = geometry.base(piece.number);
    let clip = |run: (u32, u32)| {
        let start = geometry.sector_start(run.0).max(piece.start);
        (start, geometry.sector_start(run.1).min(piece.end))
    };
    if let Some(slot) = state.slot {
        for run in valid.runs() {
            let (start, end) = clip(run);
            if let Some(place) = target.place(base + start, base + end) {
                let read = state.read_slot(start, place);
                read.map_err(|_| Mask::span(run.0, run.1))?;
            }
        }
        if !valid.is_empty() {
            volume.store().touched(slot);
        }
    }
    if !missing.is_empty() {
        let zero = volume.zero_mask(piece.number) & missing;
        for run in zero.runs() {
            let (start, end) = clip(run);
            if let Some(place) = target.place(base + start, base + end) {
                place.fill(0);
            }
        }
        missing -= zero;
    }
    Ok(missing)
}

/// The cache file does not give these sectors back: clean ones come from the origin again, dirty
/// ones are lost.
pub(crate) fn drop_unreadable(client: &Client, pin: &Pin<'_>, sectors: Mask) -> Result<(), Error> {
    let volume = &client.volume;
    // Until it is decided what the slots hold, nobody can tell whether this one can be read.
    volume.store().slots.doubts().await_decision();
    client.check_poison()?;
    let mut state = pin.latch();
    // Written anew since, perhaps.
    let sectors = unreadable(&state, pin.number(), sectors & state.valid);
    let lost = sectors & state.unsettled();
    if let Some(run) = lost.first_run() {
        let (start, end) = volume.geometry().bytes_of(pin.number(), run, volume.size());
        let message = format!(
            "volume '{}': the cache file cannot be read back at {start} for {} bytes that the origin does not have",
            volume.name(),
            end - start
        );
        volume.store().log.error(&message);
        return Err(Error::new(ErrorKind::CacheFile, message));
    }
    state.drop_sectors(sectors);
    Ok(())
}

/// Those of the sectors that the cache file does not give back now.
fn unreadable(state: &impl Latched, number: BlockNumber, sectors: Mask) -> Mask {
    let volume = state.volume();
    let geometry = volume.geometry();
    let mut failed = Mask::EMPTY;
    for run in sectors.runs() {
        let (start, end) = geometry.bytes_of(number, run, volume.size());
        let mut buffer = vec![0; (end - start) as usize];
        let within = start - geometry.base(number);
        if state.read_slot(within, &mut buffer).is_err() {
            failed |= Mask::span(run.0, run.1);
        }
    }
    failed
}
