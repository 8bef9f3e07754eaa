//! Who reads in order: the streams among the reads of one connection.
//!
//! Only reads that miss are told here, and the rare hit of a *marker*: the block at which a stream is to be fetched
//! further. A read that begins where an earlier one ended makes a candidate; the third in a row makes a stream. By chance that
//! happens to random readers once in a great while, and candidates are all that they can push out.
//!
//! A stream's *window* is what is fetched ahead of it at once. It doubles each time the reader has come through what the last
//! one was, so that it only grows while the reader goes on.
//!
//! Positions are block numbers; `end` is the block after the last.

use std::ops::Range;

/// Streams of one connection.
const STREAMS: usize = 8;
/// Runs of reads that may become streams.
const CANDIDATES: usize = 8;
/// Reads in order that make a stream.
const RUN: u32 = 3;
/// How far behind a stream a read may be that was only overtaken, in reads of its length.
const OVERTAKEN_READS: u64 = 64;

/// Names a stream for as long as it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamNumber(u64);

/// The blocks of a read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    first: u64,
    /// The first block of which the read has the first byte.
    from: u64,
    end: u64,
}

impl Asked {
    /// A read of the blocks from `first` up to `end`; `whole`: it has the first one's first byte.
    pub(crate) fn new(first: u64, end: u64, whole: bool) -> Self {
        Self {
            first,
            from: if whole { first } else { first + 1 },
            end,
        }
    }

    /// How many there are.
    pub(crate) fn blocks(self) -> u64 {
        self.end - self.first
    }

    /// Whether it goes on from somewhere between two places, and beyond the first.
    fn goes_on_from(self, first: u64, last: u64) -> bool {
        self.from <= last && self.end > first
    }
}

/// How large windows are, in blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// The first one, at least.
    pub first: u64,
    /// The largest.
    pub most: u64,
}

/// How a read that missed goes on with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    /// Whose it is.
    pub stream: StreamNumber,
    /// How many blocks may be fetched beyond the read.
    pub blocks: u64,
}

/// What is to be fetched ahead of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Whose it is.
    pub stream: StreamNumber,
    /// Which blocks.
    pub blocks: Range<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Candidate {
    /// Where the next read of the run begins; 0 for none.
    next: u64,
    reads: u32,
    last_used: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    number: StreamNumber,
    /// The end of what was asked for.
    next: u64,
    /// The end of what is here or will be.
    ahead: u64,
    window: u64,
    /// A read from here on has come through the last window.
    doubles_at: u64,
    /// The reader that comes here wants the next window.
    marker: Option<u64>,
    /// What nobody has begun to fetch yet.
    due: Range<u64>,
    last_used: u64,
}

/// The streams of one connection.
#[derive(Debug)]
pub(crate) struct Streams {
    windows: Windows,
    /// Windows are fetched while the reader reads: they become due rather than part of its reads.
    in_background: bool,
    streams: Vec<Stream>,
    candidates: [Candidate; CANDIDATES],
    last_number: u64,
    moment: u64,
}

impl Streams {
    pub(crate) fn new(windows: Windows, in_background: bool) -> Self {
        Self {
            windows,
            in_background,
            streams: Vec::new(),
            candidates: [Candidate::default(); CANDIDATES],
            last_number: 0,
            moment: 0,
        }
    }

    /// A read has missed, while so many other blocks are being waited for. Tells how it may be made longer if it is a stream's, and
    /// windows are not fetched in the background.
    pub(crate) fn missed(&mut self, asked: Asked, others: u64) -> Option<Growth> {
        self.moment += 1;
        let place = match self.streams.iter().position(|stream| stream.is_met(asked)) {
            Some(place) => place,
            // Told twice, or overtaken by its neighbours.
            None if self.streams.iter().any(|stream| stream.has_passed(asked)) => return None,
            None => self.begin_or_go_on(asked)?,
        };
        let stream = &mut self.streams[place];
        stream.last_used = self.moment;
        stream.go_on(asked);
        if self.in_background {
            // A reader that asks for so much at once waits for less than one that finds it being fetched.
            if 2 * others < self.windows.most {
                stream.post(self.windows.most);
            }
            return None;
        }
        stream.grow(asked, self.windows.most);
        Some(Growth {
            stream: stream.number,
            blocks: stream.window,
        })
    }

    /// Notes a read that goes on with no stream. The place of the stream that it makes, if it does.
    fn begin_or_go_on(&mut self, asked: Asked) -> Option<usize> {
        let follows =
            |one: &&mut Candidate| one.reads > 0 && asked.from <= one.next && one.next < asked.end;
        let Some(candidate) = self.candidates.iter_mut().find(follows) else {
            self.begin_candidate(asked);
            return None;
        };
        candidate.last_used = self.moment;
        candidate.next = asked.end;
        candidate.reads += 1;
        if candidate.reads < RUN {
            return None;
        }
        *candidate = Candidate::default();
        Some(self.begin(asked))
    }

    /// Notes a read that may be the first of a run, unless it is told again.
    fn begin_candidate(&mut self, asked: Asked) {
        let is_known = |one: &Candidate| one.reads > 0 && one.next == asked.end;
        if self.candidates.iter().any(is_known) {
            return;
        }
        let oldest = self.candidates.iter_mut().min_by_key(|one| one.last_used);
        if let Some(oldest) = oldest {
            *oldest = Candidate {
                next: asked.end,
                reads: 1,
                last_used: self.moment,
            };
        }
    }

    /// Makes a stream that goes on with `asked`. One that lost its way near here is the same, and keeps its window.
    fn begin(&mut self, asked: Asked) -> usize {
        let Windows { first, most } = self.windows;
        let is_near = |stream: &Stream| {
            let reach = stream.window + OVERTAKEN_READS * asked.blocks();
            stream.next <= asked.end + reach && asked.first <= stream.ahead + reach
        };
        let near = self.streams.iter().position(is_near);
        let (window, doubles_at) = match near {
            Some(place) => (self.streams[place].window, self.streams[place].doubles_at),
            None => {
                let window = (2 * asked.blocks()).max(first).min(most);
                (window, asked.end + window)
            }
        };
        self.last_number += 1;
        let stream = Stream {
            number: StreamNumber(self.last_number),
            next: asked.first,
            ahead: asked.first,
            window,
            doubles_at,
            marker: None,
            due: 0..0,
            last_used: self.moment,
        };
        let place = near.or_else(|| self.place_of_oldest());
        match place {
            Some(place) => self.streams[place] = stream,
            None => self.streams.push(stream),
        }
        place.unwrap_or(self.streams.len() - 1)
    }

    /// The stream that makes way for a new one, if there are as many as there may be.
    fn place_of_oldest(&self) -> Option<usize> {
        if self.streams.len() < STREAMS {
            return None;
        }
        let by_age = |place: &usize| self.streams[*place].last_used;
        (0..self.streams.len()).min_by_key(by_age)
    }

    /// A read was made longer: what follows is here, or will be, up to `end`.
    pub(crate) fn grew(&mut self, number: StreamNumber, end: u64) {
        let stream = self.streams.iter_mut().find(|one| one.number == number);
        if let Some(stream) = stream {
            stream.ahead = stream.ahead.max(end);
        }
    }

    /// A reader has come to that block, which is here.
    pub(crate) fn reached(&mut self, block: u64) {
        self.moment += 1;
        let at_marker = |stream: &&mut Stream| stream.marker == Some(block);
        if let Some(stream) = self.streams.iter_mut().find(at_marker) {
            stream.last_used = self.moment;
            stream.go_on(Asked::new(block, block + 1, true));
            stream.post(self.windows.most);
        }
    }

    /// What is fetched ahead of a stream could not be had: it is none any more.
    pub(crate) fn failed(&mut self, number: StreamNumber) {
        self.streams.retain(|stream| stream.number != number);
    }

    /// What is to be fetched next, of the stream that was used last.
    pub(crate) fn take_due(&mut self) -> Option<Window> {
        let is_due = |stream: &&mut Stream| !stream.due.is_empty();
        let due = self.streams.iter_mut().filter(is_due);
        let stream = due.max_by_key(|stream| stream.last_used)?;
        Some(Window {
            stream: stream.number,
            blocks: std::mem::take(&mut stream.due),
        })
    }

    /// Whether anything is to be fetched.
    pub(crate) fn is_due(&self) -> bool {
        self.streams.iter().any(|stream| !stream.due.is_empty())
    }

    /// A bit for each marker: that of its number's last six bits.
    pub(crate) fn markers(&self) -> u64 {
        let markers = self.streams.iter().filter_map(|stream| stream.marker);
        markers.fold(0, |bits, marker| bits | 1 << (marker & 63))
    }
}

impl Stream {
    /// Whether a read is the stream's next: it begins where the last one ended, or within what is fetched ahead.
    fn is_met(&self, asked: Asked) -> bool {
        asked.goes_on_from(self.next, self.ahead.max(self.next))
    }

    /// Whether a read is one that the stream has come by lately.
    fn has_passed(&self, asked: Asked) -> bool {
        let reach = OVERTAKEN_READS * asked.blocks();
        asked.end <= self.next && self.next <= asked.end + reach
    }

    /// The reader has come so far.
    fn go_on(&mut self, asked: Asked) {
        self.next = self.next.max(asked.end);
        self.ahead = self.ahead.max(self.next);
        // What the reader has asked for itself need not be fetched ahead any more.
        self.due.start = self.due.start.max(self.next);
    }

    /// Doubles the window if the read has come through the last one.
    fn grow(&mut self, asked: Asked, most: u64) {
        if asked.first >= self.doubles_at {
            self.window = (self.window * 2).min(most);
            self.doubles_at = asked.end + self.window;
        }
    }

    /// Makes the next window due if the reader has come to the marker. There are never more than two ahead of it.
    fn post(&mut self, most: u64) {
        match self.marker {
            Some(marker) if self.next <= marker => return,
            Some(_) => self.window = (self.window * 2).min(most),
            None => {}
        }
        let goal = self.ahead + self.window;
        // What nobody has begun to fetch yet is part of it.
        let start = if self.due.is_empty() {
            self.ahead
        } else {
            self.due.start
        };
        self.due = start..goal;
        self.marker = Some(self.ahead);
        self.ahead = goal;
    }
}

#[cfg(test)]
mod tests;
