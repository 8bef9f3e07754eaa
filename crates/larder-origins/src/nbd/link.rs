//! One connection to the server: who waits for which reply.
//!
//! Any number of threads send, one at a time; one receives (see `turns.rs`) and hands each reply to the thread that waits
//! for it. Who receives waits for nobody, so that a server that sends replies before it takes more requests is always
//! heard. A reply's data is received into memory of its own and copied once, by the thread that asked.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nbd_wire::{
    ChunkHeader, Command, CommandFlags, ErrorCode, Request, RequestFormat, SIMPLE_REPLY_BYTES,
    SIMPLE_REPLY_MAGIC, SimpleReply,
};

use super::export::Dialect;
use super::given_up::GivenUp;
use super::ledger::{Covered, Ledger, Refusals, SessionNumber, Told};
use super::reply::{Assembly, violation};
use super::slot::{Outcome, Slot};
use super::sync::{lock, wait_until};
use super::transport::{Closer, Receiver, Sender, Until};
use super::turns::{Reader, Turns};
use crate::reason::reason;

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// What a reply means for durability.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing: it changes nothing.
    None,
    /// A change that is durable.
    Durable(Covered),
    /// A change that is not durable, and that is sent when there were so many refusals.
    Change(Refusals),
    /// A flush of the handle that was told so much.
    Flush(Covered, Arc<Told>),
}

/// Where a reply is entered beside the slot of who waits for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Books<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) session: SessionNumber,
    pub(super) given_up: &'a GivenUp,
}

/// What became of a request that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way, or the link is closed: the slot tells.
    Out,
    /// Its time was over before anything of it was sent: the server knows nothing of it.
    Never,
}

/// How waiting for an outcome ended.
#[derive(Debug)]
pub(super) enum Waited {
    Done(Outcome),
    /// It has not come in time.
    Not,
    /// The connection has ended, by its fault or the server's, for this reason.
    Ended(String),
}

/// Until when a thread waits.
pub(super) struct Patience<'a> {
    /// For its outcome.
    pub(super) until: Instant,
    /// At most, where it receives what may be for others.
    pub(super) receive_until: Instant,
    /// For the rest of a reply that has begun.
    pub(super) is_over: &'a dyn Fn() -> bool,
}

/// A request that is not answered yet. Dropped, it counts as lost.
#[derive(Debug)]
struct Entry {
    assembly: Option<Assembly>,
    effect: Effect,
    slot: Arc<Slot>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.slot.fill(Outcome::Lost);
    }
}

/// A request that is to be sent counts until it is entered.
struct Coming<'l>(&'l AtomicUsize);

impl<'l> Coming<'l> {
    fn new(count: &'l AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Entries {
    is_closed: bool,
    /// The oldest first, who is likely to be answered first.
    by_cookie: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
pub(super) struct Link {
    dialect: Dialect,
    /// `None` while a thread sends.
    sender: Mutex<Option<Sender>>,
    sender_back: Condvar,
    entries: Mutex<Entries>,
    closer: Closer,
    next_cookie: AtomicU64,
    outstanding: AtomicUsize,
    /// How many threads want to send, or wait until the server takes something.
    coming: AtomicUsize,
    /// A reply has come before that of a request that was sent earlier.
    is_parallel: AtomicBool,
    turns: Turns,
}

impl Link {
    pub(super) fn new(
        dialect: Dialect,
        (sender, receiver, closer): (Sender, Receiver, Closer),
    ) -> Self {
        Self {
            dialect,
            turns: Turns::new(receiver),
            sender: Mutex::new(Some(sender)),
            sender_back: Condvar::new(),
            entries: Mutex::default(),
            closer,
            next_cookie: AtomicU64::new(1),
            outstanding: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            is_parallel: AtomicBool::new(false),
        }
    }

    /// How many requests wait for replies, or to be sent.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed) + self.coming.load(Ordering::Relaxed)
    }

    /// Whether the server was seen to do several of its requests at once.
    pub(super) fn is_parallel(&self) -> bool {
        self.is_parallel.load(Ordering::Relaxed)
    }

    /// When bytes last came.
    pub(super) fn last_received(&self) -> Instant {
        self.closer.last_received()
    }

    /// Whether every request that waits changes nothing.
    pub(super) fn has_only_reads(&self) -> bool {
        let is_read = |entry: &Entry| entry.assembly.as_ref().is_none_or(Assembly::is_read);
        lock(&self.entries).by_cookie.values().all(is_read)
    }

    /// Sends a request; its reply comes to the slot. An error ends the link, and the slot says so
    /// too. A link that is closed leaves the slot lost. One whose time is over before it was its turn hurts nobody else.
    pub(super) fn send(
        &self,
        (command, flags): (Command, CommandFlags),
        (offset, payload): (u64, &[u8]),
        (length_bytes, assembly): (u64, Assembly),
        (effect, slot): (Effect, Arc<Slot>),
        until: Until,
    ) -> io::Result<Sent> {
        let entry = Entry {
            assembly: Some(assembly),
            effect,
            slot,
        };
        let coming = Coming::new(&self.coming);
        // Taken before the entry is made, so that a request that never went out waits for nothing.
        let Some(mut sender) = self.take_sender(until.deadline) else {
            return Ok(Sent::Never);
        };
        let ready = sender.is_ready(until);
        if !matches!(ready, Ok(true)) {
            self.return_sender(sender);
            return ready.map(|_| Sent::Never);
        }
        // In the order in which they are sent.
        let cookie = self.next_cookie.fetch_add(1, Ordering::Relaxed);
        let request = Request {
            flags: flags | self.payload_flag(command),
            command,
            cookie,
            offset,
            length_bytes,
        };
        let mut header = Vec::with_capacity(32);
        request.encode(&mut header, self.dialect.format);
        let is_entered = self.enter(cookie, entry);
        drop(coming);
        let sent = if is_entered {
            sender.send(&header, payload, until)
        } else {
            Ok(())
        };
        self.return_sender(sender);
        sent.map(|()| Sent::Out)
    }

    fn return_sender(&self, sender: Sender) {
        *lock(&self.sender) = Some(sender);
        self.sender_back.notify_one();
    }

    /// With extended headers, whether a length is that of a payload is said of each request.
    fn payload_flag(&self, command: Command) -> CommandFlags {
        let has_payload = command == Command::WRITE;
        match self.dialect.format {
            RequestFormat::Extended if has_payload => CommandFlags::PAYLOAD_LEN,
            _ => CommandFlags::empty(),
        }
    }

    /// The right to send. `None` at the deadline.
    fn take_sender(&self, deadline: Instant) -> Option<Sender> {
        let mut place = lock(&self.sender);
        loop {
            if let Some(sender) = place.take() {
                return Some(sender);
            }
            if Instant::now() >= deadline {
                return None;
            }
            place = wait_until(&self.sender_back, place, deadline);
        }
    }

    fn enter(&self, cookie: u64, entry: Entry) -> bool {
        let mut entries = lock(&self.entries);
        if entries.is_closed {
            return false;
        }
        entries.by_cookie.insert(cookie, entry);
        self.outstanding
            .store(entries.by_cookie.len(), Ordering::Relaxed);
        true
    }

    fn leave(&self, cookie: u64) -> io::Result<Entry> {
        let mut entries = lock(&self.entries);
        let oldest = entries.by_cookie.first_key_value();
        let is_first = oldest.is_none_or(|(oldest, _)| *oldest == cookie);
        let entry = entries.by_cookie.remove(&cookie);
        self.outstanding
            .store(entries.by_cookie.len(), Ordering::Relaxed);
        if !is_first {
            self.is_parallel.store(true, Ordering::Relaxed);
        }
        entry.ok_or_else(|| violation("a reply to nothing that was asked"))
    }

    /// Ends the link: what waits is lost.
    pub(super) fn close(&self) {
        let lost = {
            let mut entries = lock(&self.entries);
            entries.is_closed = true;
            self.outstanding.store(0, Ordering::Relaxed);
            std::mem::take(&mut entries.by_cookie)
        };
        self.closer.close();
        self.turns.close();
        drop(lost);
    }

    /// Tells the server that this is the end.
    pub(super) fn say_farewell(&self) {
        let deadline = Instant::now() + FAREWELL;
        let Some(mut sender) = self.take_sender(deadline) else {
            return;
        };
        let request = Request {
            flags: CommandFlags::empty(),
            command: Command::DISCONNECT,
            cookie: 0,
            offset: 0,
            length_bytes: 0,
        };
        let mut header = Vec::new();
        request.encode(&mut header, self.dialect.format);
        // A server that does not take it learns by the end of the connection.
        let _ = sender.send(&header, &[], Until::just(deadline));
        let _ = sender.finish(Until::just(deadline));
        self.return_sender(sender);
    }

    /// What the link's own thread does: receives when it is its turn, until the connection ends. Returns why it did.
    pub(super) fn receive(&self, books: Books<'_>) -> String {
        while let Some(mut reader) = self.turns.take_own() {
            loop {
                let received = reader.wait(None);
                let received =
                    received.and_then(|_| self.receive_reply(&mut reader.within(&|| false), books));
                if let Err(error) = received {
                    return why(&error);
                }
                if self.turns.is_shared() {
                    break;
                }
            }
            self.give_back(reader);
        }
        "closed".to_owned()
    }

    /// Waits for a reply, and receives if nobody does.
    pub(super) fn wait(&self, slot: &Slot, patience: &Patience<'_>, books: Books<'_>) -> Waited {
        let mut is_asked = false;
        let waited = loop {
            if let Some(outcome) = slot.take() {
                break Waited::Done(outcome);
            }
            let now = Instant::now();
            if now >= patience.until {
                break Waited::Not;
            }
            let may_receive = now < patience.receive_until;
            if may_receive && let Some(reader) = self.turns.take() {
                is_asked = false;
                match self.receive_until(slot, reader, patience, books) {
                    Ok(()) => continue,
                    Err(error) => return Waited::Ended(why(&error)),
                }
            }
            if is_asked && !may_receive {
                self.ask_next();
            }
            is_asked = slot.wait(patience.until, may_receive);
        };
        if is_asked {
            self.ask_next();
        }
        waited
    }

    /// Receives until the slot is filled or the time is over.
    fn receive_until(
        &self,
        slot: &Slot,
        mut reader: Reader,
        patience: &Patience<'_>,
        books: Books<'_>,
    ) -> io::Result<()> {
        let until = patience.until.min(patience.receive_until);
        while !slot.is_filled() && Instant::now() < until && reader.wait(Some(until))? {
            self.receive_reply(&mut reader.within(patience.is_over), books)?;
        }
        self.give_back(reader);
        Ok(())
    }

    fn give_back(&self, reader: Reader) {
        self.turns.give_back(reader);
        self.ask_next();
    }

    /// Sees to it that somebody receives, if replies are owed and nobody does.
    fn ask_next(&self) {
        if !self.turns.is_free() {
            return;
        }
        let is_asked = {
            let entries = lock(&self.entries);
            let mut waiting = entries.by_cookie.values();
            entries.by_cookie.is_empty() || waiting.any(|entry| entry.slot.ask())
        };
        if !is_asked {
            self.turns.call_own();
        }
    }

    fn receive_reply(&self, reader: &mut impl Read, books: Books<'_>) -> io::Result<()> {
        let mut header = [0; 32];
        reader.read_exact(&mut header[..4])?;
        let magic = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let format = self.dialect.format;
        if self.dialect.is_structured && ChunkHeader::is_magic(magic, format) {
            let header = &mut header[..ChunkHeader::bytes(format)];
            reader.read_exact(&mut header[4..])?;
            let header = ChunkHeader::decode(header, format).map_err(|error| violation(error.0))?;
            let mut entry = self.leave(header.cookie)?;
            let Some(assembly) = &mut entry.assembly else {
                return Err(violation("a reply after the last"));
            };
            if !assembly.take_chunk(&header, reader)? {
                // A link that was closed meanwhile drops the entry.
                self.enter(header.cookie, entry);
                return Ok(());
            }
            return settle(entry, books);
        }
        if magic != SIMPLE_REPLY_MAGIC || format == RequestFormat::Extended {
            return Err(violation("a reply does not begin with its magic"));
        }
        let mut header_bytes = [0; SIMPLE_REPLY_BYTES];
        header_bytes[..4].copy_from_slice(&header[..4]);
        reader.read_exact(&mut header_bytes[4..])?;
        let header = SimpleReply::decode(&header_bytes).map_err(|error| violation(error.0))?;
        let mut entry = self.leave(header.cookie)?;
        if let Some(assembly) = &mut entry.assembly {
            assembly.take_simple(header.error, reader)?;
        }
        settle(entry, books)
    }
}

/// Why a connection has ended.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the server hung up".to_owned(),
        io::ErrorKind::InvalidData => format!("the server broke the protocol: {error}"),
        _ => reason(error),
    }
}

/// Hands a whole reply to who waits for it, if the session still lives; otherwise it is lost.
fn settle(mut entry: Entry, books: Books<'_>) -> io::Result<()> {
    let (ledger, session) = (books.ledger, books.session);
    let Some(assembly) = entry.assembly.take() else {
        return Ok(());
    };
    let result = assembly.finish()?;
    if let Err(refusal) = &result
        && refusal.error == ErrorCode::SHUTDOWN
    {
        return Err(io::Error::other("the server is ending"));
    }
    let refusal = result.as_ref().err().map(|refusal| refusal.error);
    let mut is_given_up = false;
    entry.slot.fill_if(|is_waited_for| {
        is_given_up = !is_waited_for;
        let counts = match (&entry.effect, refusal) {
            (Effect::Change(before), None) => ledger.acknowledge(session, *before),
            (Effect::Flush(covered, _), None) => ledger.flushed(session, *covered),
            // Who has given up was told of another failure, and may have written since.
            (Effect::Flush(covered, told), Some(_)) => {
                ledger.refused(session, *covered, is_waited_for.then_some(&**told))
            }
            (Effect::Durable(covered), Some(error)) if may_tell_of_others(error) => {
                ledger.refused(session, *covered, None)
            }
            (Effect::None | Effect::Durable(_) | Effect::Change(_), _) => ledger.is_live(session),
        };
        counts.then_some(Outcome::Replied(result))
    });
    if is_given_up {
        books.given_up.answered();
    }
    Ok(())
}

/// Whether the refusal of a change that was to be durable may be that of the server's own flush, which tells once
/// of a failure that concerns all that was unflushed.
fn may_tell_of_others(error: ErrorCode) -> bool {
    ![ErrorCode::NOT_SUPPORTED, ErrorCode::PERM].contains(&error)
}

#[cfg(test)]
impl Link {
    /// As if so many requests were sent, and answered in this order.
    pub(super) fn answer_in_order(&self, cookies: &[u64]) {
        use super::reply::Asked;
        for cookie in 1..=cookies.len() as u64 {
            let entry = Entry {
                assembly: Some(Assembly::new(Asked::Outcome, 0, 0, self.dialect)),
                effect: Effect::None,
                slot: Arc::default(),
            };
            assert!(self.enter(cookie, entry));
        }
        for cookie in cookies {
            drop(self.leave(*cookie));
        }
    }
}
