//! All connections to one server process. They are made before any is used, and the loss of one
//! ends all.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nbd_wire::{Command, CommandFlags};

use super::export::Dialect;
use super::given_up::{GivenUp, Turn};
use super::ledger::{Ledger, SessionNumber, Told};
use super::link::{Books, Effect, Link, Patience, Sent, Waited};
use super::reply::{Answer, Asked, Assembly, Refusal};
use super::report::Report;
use super::slot::{Outcome, Slot};
use super::sync::lock;
use super::transport::{Closer, Receiver, Sender, Until};
use crate::reason::reason;

/// How often a connection that may be of no use is looked at.
const SUSPICION: Duration = Duration::from_millis(200);

/// A payload that is worth the choice of few connections.
const LARGE_BYTES: usize = 256 << 10;

/// A connection that is ready for requests.
pub(super) struct Connection {
    pub(super) dialect: Dialect,
    pub(super) halves: (Sender, Receiver, Closer),
}

/// A request, however often it has to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) command: Command,
    pub(super) flags: CommandFlags,
    pub(super) offset: u64,
    pub(super) length_bytes: u64,
    /// The data of a write; otherwise empty.
    pub(super) payload: &'a [u8],
    pub(super) asked: Asked,
    pub(super) meaning: Meaning<'a>,
}

/// What a request means for durability.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning<'a> {
    /// Nothing: it changes nothing.
    Plain,
    /// A change that is durable when it is acknowledged.
    Durable,
    /// A change that is not durable when it is acknowledged.
    Change,
    /// A flush by the handle that was told so much.
    Flush(&'a Arc<Told>),
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum Ended {
    Answered(Answer),
    Refused(Refusal),
    /// The session is lost: the call is for the next one.
    Lost,
    /// The deadline passed.
    TooLate,
}

impl Call<'_> {
    /// What it changes.
    fn changed(&self) -> Option<Range<u64>> {
        match self.meaning {
            Meaning::Durable | Meaning::Change => {
                Some(self.offset..self.offset + self.length_bytes)
            }
            Meaning::Plain | Meaning::Flush(_) => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Session {
    number: SessionNumber,
    dialect: Dialect,
    links: Vec<Link>,
    /// How many of them large payloads go by, once the server was seen to do several requests of one at once.
    for_large: usize,
    ledger: Arc<Ledger>,
    given_up: GivenUp,
    report: Arc<Report>,
    /// No byte comes for so long though something was asked: the connection may be of no use.
    patience: Duration,
    started: Instant,
    next_link: AtomicUsize,
    is_ending: AtomicBool,
    reason: Mutex<String>,
}

impl Session {
    /// Begins with these connections, at least one, all of the same dialect, of which `for_large` are enough for large
    /// payloads.
    pub(super) fn start(
        (connections, for_large): (Vec<Connection>, usize),
        ledger: &Arc<Ledger>,
        report: &Arc<Report>,
        patience: Duration,
    ) -> io::Result<Arc<Self>> {
        let dialect = connections.first().map(|first| first.dialect);
        let mut links = Vec::new();
        for connection in connections {
            links.push(Link::new(connection.dialect, connection.halves));
        }
        let session = Arc::new(Self {
            number: ledger.begin(),
            dialect: dialect.unwrap_or_default(),
            links,
            for_large,
            ledger: Arc::clone(ledger),
            given_up: GivenUp::default(),
            report: Arc::clone(report),
            patience,
            started: Instant::now(),
            next_link: AtomicUsize::new(0),
            is_ending: AtomicBool::new(false),
            reason: Mutex::default(),
        });
        for index in 0..session.links.len() {
            let of_thread = Arc::clone(&session);
            let spawned = thread::Builder::new()
                .name("nbd-receive".to_owned())
                .spawn(move || of_thread.receive(index));
            if let Err(error) = spawned {
                session.lose(&format!("a thread cannot be started: {error}"));
                return Err(error);
            }
        }
        Ok(session)
    }

    fn receive(&self, index: usize) {
        let end = End::new(self);
        end.because(self.links[index].receive(self.books()));
    }

    fn books(&self) -> Books<'_> {
        Books {
            ledger: &self.ledger,
            session: self.number,
            given_up: &self.given_up,
        }
    }

    /// Whether requests can be sent.
    pub(super) fn is_live(&self) -> bool {
        self.ledger.is_live(self.number)
    }

    /// How many connections it has.
    pub(super) fn connections(&self) -> usize {
        self.links.len()
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Why it was lost.
    pub(super) fn reason(&self) -> String {
        lock(&self.reason).clone()
    }

    /// Ends the session. What was in flight is lost.
    fn lose(&self, reason: &str) {
        // Before the loss is seen by others, so that they find it.
        if self.is_live() {
            reason.clone_into(&mut lock(&self.reason));
        }
        let lose = || self.ledger.lose(self.number);
        let is_lost = if self.is_ending.load(Ordering::Relaxed) {
            lose().is_some()
        } else {
            self.report.lost(reason, lose)
        };
        if is_lost {
            self.links.iter().for_each(Link::close);
            self.given_up.end();
        }
    }

    /// Ends the session as the protocol wants it.
    pub(super) fn disconnect(&self) {
        if self.is_live() {
            self.is_ending.store(true, Ordering::Relaxed);
            self.links.iter().for_each(Link::say_farewell);
            self.lose("disconnected");
        }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn call(&self, call: &Call<'_>, deadline: Instant) -> Ended {
        if let Some(range) = call.changed()
            && let Err(ended) = self.wait_for_turn(&range, deadline)
        {
            return ended;
        }
        let Some(effect) = self.effect(call.meaning) else {
            return Ended::Lost;
        };
        let number = self.choose_link(call.payload.len());
        let link = &self.links[number];
        let slot = Arc::new(Slot::default());
        let assembly = Assembly::new(call.asked, call.offset, call.length_bytes, self.dialect);
        let sent = link.send(
            (call.command, call.flags),
            (call.offset, call.payload),
            (call.length_bytes, assembly),
            (effect, Arc::clone(&slot)),
            Until {
                deadline,
                patience: self.patience,
            },
        );
        match sent {
            Ok(Sent::Out) => {}
            Ok(Sent::Never) => return Ended::TooLate,
            Err(error) => self.lose(&reason(&error)),
        }
        match self.wait(link, &slot, deadline) {
            None => {
                if let Some(range) = call.changed() {
                    self.given_up.add(range, number, &slot);
                }
                Ended::TooLate
            }
            Some(Outcome::Lost) => Ended::Lost,
            Some(Outcome::Replied(Ok(answer))) => Ended::Answered(answer),
            Some(Outcome::Replied(Err(refusal))) => Ended::Refused(refusal),
        }
    }

    /// What the reply of a request means that is sent after this. `None` if the session was lost.
    fn effect(&self, meaning: Meaning<'_>) -> Option<Effect> {
        let covered = || self.ledger.cover(self.number);
        Some(match meaning {
            Meaning::Plain => Effect::None,
            Meaning::Change => Effect::Change(self.ledger.refusals()),
            Meaning::Durable => Effect::Durable(covered()?),
            Meaning::Flush(told) => Effect::Flush(covered()?, Arc::clone(told)),
        })
    }

    /// Waits until no older change of the range can come after one that is sent now.
    ///
    /// The older one had its whole time, and this one too: at the deadline, a connection that was
    /// silent is of no use, and would keep the next change waiting as well.
    fn wait_for_turn(&self, range: &Range<u64>, deadline: Instant) -> Result<(), Ended> {
        let began = Instant::now();
        match self.given_up.wait(range, deadline) {
            Turn::Free => Ok(()),
            Turn::Over => Err(Ended::Lost),
            Turn::TooLate(number) => {
                let silent = silence(&self.links[number], began);
                if silent >= self.patience {
                    self.lose_silent(silent);
                }
                Err(Ended::TooLate)
            }
        }
    }

    /// Whether every request that waits, on any link, changes nothing.
    fn has_only_reads(&self) -> bool {
        self.links.iter().all(Link::has_only_reads)
    }

    fn lose_silent(&self, silent: Duration) {
        self.lose(&format!("no answer for {:.1} s", silent.as_secs_f64()));
    }

    /// The number of the link with the fewest requests; in turn where they are equal.
    fn choose_link(&self, payload_bytes: usize) -> usize {
        let is_for_few = payload_bytes >= LARGE_BYTES && self.links.iter().any(Link::is_parallel);
        let count = match is_for_few {
            true => self.for_large.clamp(1, self.links.len()),
            false => self.links.len(),
        };
        let first = self.next_link.fetch_add(1, Ordering::Relaxed) % count;
        let mut best = first;
        for step in 1..count {
            let number = (first + step) % count;
            if self.links[number].outstanding() < self.links[best].outstanding() {
                best = number;
            }
        }
        best
    }

    /// Waits for a reply, until then; this thread may be the one that receives. It does so only in the first half of its
    /// time, so that it need not leave in the middle of somebody's reply.
    fn wait_until(
        &self,
        link: &Link,
        slot: &Slot,
        sent: Instant,
        (until, deadline): (Instant, Instant),
    ) -> Waited {
        let mut end = End::new(self);
        // In the middle of somebody's reply. Where changes are in flight it is borne longer, see `wait`.
        let is_over = || {
            let is_suspicious = Instant::now() >= deadline || silence(link, sent) >= self.patience;
            is_suspicious && (self.has_only_reads() || Instant::now() >= deadline + self.patience)
        };
        let patience = Patience {
            until,
            receive_until: sent + self.patience,
            is_over: &is_over,
        };
        let waited = link.wait(slot, &patience, self.books());
        end.reason = None;
        waited
    }

    /// Waits for a reply; meanwhile looks whether the connection is silent. `None` at the deadline.
    ///
    /// Reads can be asked for again at no risk. A change may just take long, and if it were sent
    /// again on another connection, the first could still come after it: it has its whole time. So
    /// a silent connection is borne while a change is in flight on any, since all end together.
    fn wait(&self, link: &Link, slot: &Slot, deadline: Instant) -> Option<Outcome> {
        let sent = Instant::now();
        loop {
            let suspicious = link.last_received().max(sent) + self.patience;
            let is_suspicious = suspicious <= Instant::now();
            let again = Instant::now() + SUSPICION;
            let until = if is_suspicious { again } else { suspicious };
            match self.wait_until(link, slot, sent, (until.min(deadline), deadline)) {
                Waited::Done(outcome) => return Some(outcome),
                Waited::Not => {}
                // The loss has filled the slot.
                Waited::Ended(reason) => End::new(self).because(reason),
            }
            let now = Instant::now();
            let silent = silence(link, sent);
            let is_silent = silent >= self.patience;
            if is_silent && (now >= deadline || self.has_only_reads()) {
                // Or another thread does, which may not have come to this slot yet: it is waited for.
                self.lose_silent(silent);
            }
            if now >= deadline {
                return slot.give_up();
            }
        }
    }
}

/// Ends the session when dropped, also by a panic, if there is a reason.
struct End<'a> {
    session: &'a Session,
    reason: Option<Cow<'static, str>>,
}

impl<'a> End<'a> {
    fn new(session: &'a Session) -> Self {
        Self {
            session,
            reason: Some(Cow::Borrowed("receiving failed")),
        }
    }

    fn because(mut self, reason: String) {
        self.reason = Some(Cow::Owned(reason));
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        // A server that hangs up on the first farewell must not cut the others off.
        if let Some(reason) = &self.reason
            && !self.session.is_ending.load(Ordering::Relaxed)
        {
            self.session.lose(reason);
        }
    }
}

/// For how long the link has received nothing, counted from `since` at the earliest.
fn silence(link: &Link, since: Instant) -> Duration {
    Instant::now().saturating_duration_since(link.last_received().max(since))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::super::transport::Channel;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Silent;
    impl larder::Log for Silent {
        fn error(&self, _: &str) {}
        fn warning(&self, _: &str) {}
        fn debug(&self, _: &str) {}
    }

    /// So many connections, the first of which is enough for large payloads, their other ends, and their own ends again.
    fn session_of(
        count: usize,
        patience: Duration,
    ) -> (Arc<Session>, Vec<UnixStream>, Vec<UnixStream>) {
        let pairs = (0..count).map(|_| UnixStream::pair().unwrap());
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.unzip();
        let again = ours.iter().map(|own| own.try_clone().unwrap()).collect();
        let connection = |stream| Connection {
            dialect: Dialect::default(),
            halves: Channel::over(stream).split().unwrap(),
        };
        let connections = ours.into_iter().map(connection).collect();
        let report = Arc::new(Report::new("test".into(), Arc::new(Silent)));
        let ledger = Arc::default();
        let session = Session::start((connections, 1), &ledger, &report, patience).unwrap();
        (session, theirs, again)
    }

    fn chosen(session: &Session, payload_bytes: usize) -> BTreeSet<usize> {
        (0..8).map(|_| session.choose_link(payload_bytes)).collect()
    }

    #[test]
    fn large_payloads_go_by_few_links_once_the_server_does_several_requests_of_one_at_once() {
        let (session, _theirs, _) = session_of(4, PATIENCE);
        let all = BTreeSet::from([0, 1, 2, 3]);
        assert_eq!(chosen(&session, LARGE_BYTES), all);
        // One after the other: more links are more at once.
        session.links[2].answer_in_order(&[1, 2]);
        assert_eq!(chosen(&session, LARGE_BYTES), all);
        session.links[2].answer_in_order(&[2, 1]);
        assert_eq!(chosen(&session, LARGE_BYTES), BTreeSet::from([0]));
        assert_eq!(chosen(&session, LARGE_BYTES - 1), all);
        session.lose("the end of the test");
    }

    fn read() -> Call<'static> {
        Call {
            command: Command::READ,
            flags: CommandFlags::empty(),
            offset: 0,
            length_bytes: 512,
            payload: &[],
            asked: Asked::Data,
            meaning: Meaning::Plain,
        }
    }

    fn write(payload: &[u8]) -> Call<'_> {
        Call {
            command: Command::WRITE,
            length_bytes: payload.len() as u64,
            payload,
            asked: Asked::Outcome,
            meaning: Meaning::Change,
            ..read()
        }
    }

    /// Fills the connection until it takes nothing more.
    fn fill(stream: &UnixStream) {
        stream.set_nonblocking(true).unwrap();
        while (&mut &*stream).write(&[0; 4096]).is_ok() {}
        while (&mut &*stream).write(&[0]).is_ok() {}
        stream.set_nonblocking(false).unwrap();
    }

    #[test]
    fn a_change_whose_time_is_over_before_it_can_be_sent_hurts_nobody() {
        let (session, theirs, ours) = session_of(1, PATIENCE);
        fill(&ours[0]);
        let brief = || Instant::now() + Duration::from_millis(50);
        assert!(matches!(
            session.call(&write(&[1; 512]), brief()),
            Ended::TooLate
        ));
        assert!(session.is_live());
        assert_eq!(session.links[0].outstanding(), 0);
        // Nothing is in the way of the next change of the same place.
        thread::scope(|scope| {
            let all = scope.spawn(|| {
                let mut bytes = Vec::new();
                (&theirs[0]).read_to_end(&mut bytes).unwrap();
                bytes
            });
            assert!(matches!(
                session.call(&write(&[2; 512]), Instant::now() + Duration::from_secs(1)),
                Ended::TooLate
            ));
            session.lose("the end of the test");
            let bytes = all.join().unwrap();
            assert!(bytes.ends_with(&[2; 512]));
            let is_first = |part: &[u8]| part == [1; 512];
            assert!(!bytes.windows(512).any(is_first), "something was sent");
        });
    }

    #[test]
    fn a_link_whose_server_takes_nothing_is_left_alone() {
        let (session, _theirs, ours) = session_of(2, PATIENCE);
        fill(&ours[0]);
        let deadline = Instant::now() + PATIENCE / 2;
        thread::scope(|scope| {
            // By the first link: it is the first call.
            let stuck = scope.spawn(|| session.call(&write(&[1; 512]), deadline));
            while session.links[0].outstanding() == 0 && !stuck.is_finished() {
                thread::yield_now();
            }
            let chosen = chosen(&session, 512);
            session.lose("the end of the test");
            assert!(matches!(stuck.join().unwrap(), Ended::Lost));
            assert_eq!(chosen, BTreeSet::from([1]));
        });
        assert_eq!(session.links[0].outstanding(), 0);
    }

    /// So slowly that the rest would come long after its time.
    #[test]
    fn what_is_in_its_middle_long_after_its_deadline_ends_the_session() {
        let (session, theirs, _ours) = session_of(1, Duration::from_millis(200));
        let payload = vec![7; 8 << 20];
        let deadline = Instant::now() + Duration::from_millis(100);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = [0; 4 << 10];
                while matches!((&theirs[0]).read(&mut bytes), Ok(1..)) {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let ended = session.call(&write(&payload), deadline);
            // However it ended, so does who reads.
            session.lose("the end of the test");
            assert!(matches!(ended, Ended::Lost), "{ended:?}");
            assert_eq!(
                session.reason(),
                "the server takes no more requests in time"
            );
        });
    }

    #[test]
    fn what_is_in_its_middle_at_its_deadline_is_sent_to_its_end() {
        let (session, theirs, _ours) = session_of(1, PATIENCE);
        let payload = vec![7; 8 << 20];
        let deadline = Instant::now() + Duration::from_millis(100);
        thread::scope(|scope| {
            let call = scope.spawn(|| session.call(&write(&payload), deadline));
            // Late, but not too late.
            let late = deadline + Duration::from_millis(800);
            thread::sleep(late.saturating_duration_since(Instant::now()));
            let mut bytes = vec![0; 28 + payload.len()];
            (&theirs[0]).read_exact(&mut bytes).unwrap();
            assert!(bytes[28..] == payload);
            assert!(matches!(call.join().unwrap(), Ended::TooLate));
            assert!(session.is_live());
        });
        session.lose("the end of the test");
    }

    #[test]
    fn a_read_waits_for_who_ends_the_silent_session_instead_of_failing_before_its_deadline() {
        let (session, _theirs, _) = session_of(4, Duration::from_millis(20));
        let deadline = Instant::now() + PATIENCE;
        thread::scope(|scope| {
            // Another thread has found the session silent, and has not come to closing its links.
            assert_eq!(session.ledger.lose(session.number), Some(false));
            let reader = scope.spawn(|| session.call(&read(), deadline));
            let is_asked = || session.links.iter().any(|link| link.outstanding() > 0);
            while !is_asked() && !reader.is_finished() {
                thread::yield_now();
            }
            // Longer than it is patient.
            thread::sleep(Duration::from_millis(100));
            session.links.iter().for_each(Link::close);
            assert!(matches!(reader.join().unwrap(), Ended::Lost));
        });
    }
}
