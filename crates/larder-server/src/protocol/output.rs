//! The sending half, shared by all who answer one client's requests.
//!
//! One thread sends at a time. What others have to send meanwhile waits for it, and goes out together
//! with the next send. The thread that receives never waits for the client here for long: a client that sends its
//! requests before it takes its replies would wait for it in turn. What does not go out at once it hands over
//! to a thread that only sends. A client that takes nothing for a long time is let go.
//!
//! Lock order: the queue and the sender are never held together.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::budget::{Budget, Charge};
use super::reply_buffer::ReplyBuffer;
use super::transport::{BRIEFLY, Sender};
use crate::stream::Stream;

/// Bytes of replies that may wait while somebody sends. Who has more waits as well.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Bytes past which they wait only if the client does not take them: so much stays in a processor's cache until it is
/// sent.
const FEW_WAITING_BYTES: usize = 128 << 10;
/// Bytes that may wait whatever others have.
const OWN_WAITING_BYTES: usize = 256 << 10;
/// How often who waits looks whether others have left more room.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a client may take nothing while replies wait for it.
pub(crate) const SEND_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The sending half. Once a send has failed the connection is over: both directions are ended, so
/// that whoever receives notices.
#[derive(Debug)]
pub(crate) struct Output {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// Used by whose turn it is to send.
    sender: Mutex<Sender>,
    /// Ended without the lock, which a send that waits for the client holds.
    stream: Stream,
    is_broken: AtomicBool,
    /// How long the client may take nothing.
    patience: Duration,
}

/// What came of [`Output::send_now`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Now {
    /// The replies are sent, or somebody else's to send.
    Done,
    /// They are still the caller's: for [`Output::send`].
    Kept,
    /// Something is left for [`Output::send_rest`].
    Rest,
}

#[derive(Debug)]
struct Queue {
    /// Somebody sends, or has handed over what is left.
    is_sending: bool,
    /// What is left is for the thread that only sends.
    is_handed_over: bool,
    /// Nothing will be handed over any more.
    is_closed: bool,
    waiting: Vec<u8>,
    /// What waits beyond the client's own share.
    charge: Charge,
    /// What is being sent and has waited so.
    charge_of_sent: Charge,
    /// The client has not taken replies in the time that is waited for it, and none since.
    is_stuck: bool,
    /// Threads that wait for a change: where there are none, nobody is woken.
    waiters: usize,
}

impl Output {
    /// Nothing sent yet. What waits beyond the client's own share is of the budget, and a client that takes nothing
    /// for as long as `patience` is let go.
    pub(crate) fn new(sender: Sender, budget: &Arc<Budget>, patience: Duration) -> Self {
        Self {
            queue: Mutex::new(Queue {
                is_sending: false,
                is_handed_over: false,
                is_closed: false,
                waiting: Vec::new(),
                charge: Charge::new(budget),
                charge_of_sent: Charge::new(budget),
                is_stuck: false,
                waiters: 0,
            }),
            patience,
            changed: Condvar::new(),
            stream: sender.stream().clone(),
            sender: Mutex::new(sender),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Sends the replies, or leaves them to who is sending, and empties the buffer. Waits for the client as long as it takes.
    pub(crate) fn send(&self, replies: &mut ReplyBuffer) {
        if self.begin(replies, None) {
            let sent = self.sender().send_some(replies.as_slice());
            // What is left was copied: it is not kept twice while the client is waited for.
            replies.clear();
            self.go_on(sent);
        }
        replies.clear();
    }

    /// The same without waiting for the client for long. False if something is left: then it is
    /// the caller's to [`Output::hand_over`], or to [`Output::send_rest`].
    pub(crate) fn send_at_once(&self, replies: &mut ReplyBuffer) -> bool {
        if !self.begin(replies, Some(Instant::now() + BRIEFLY)) {
            replies.clear();
            return true;
        }
        let mut sent = self.sender().send_some(replies.as_slice());
        replies.clear();
        loop {
            match sent {
                Ok(false) => return false,
                Ok(true) => match self.next_waiting() {
                    Some(bytes) => sent = self.sender().send_some(&bytes),
                    None => return true,
                },
                Err(_) => {
                    self.abort();
                    return true;
                }
            }
        }
    }

    /// The same without waiting for anybody: for who holds something that others wait for.
    pub(crate) fn send_now(&self, replies: &mut ReplyBuffer) -> Now {
        let mut queue = self.queue();
        if replies.is_empty() || self.is_broken() {
            replies.clear();
            return Now::Done;
        }
        if queue.is_sending {
            if queue.waiting.len() >= MAX_WAITING_BYTES || !queue.may_wait(replies.len()) {
                return Now::Kept;
            }
            queue.waiting.extend_from_slice(replies.as_slice());
            replies.clear();
            return Now::Done;
        }
        queue.is_sending = true;
        drop(queue);
        let sent = self.sender().send_now(replies.as_slice());
        replies.clear();
        match sent {
            Ok(true) if self.end_if_nothing_waits() => Now::Done,
            Ok(_) => Now::Rest,
            Err(_) => {
                self.abort();
                Now::Done
            }
        }
    }

    /// Leaves the rest of a send to the thread in [`Output::send_for_others`].
    pub(crate) fn hand_over(&self) {
        self.queue().is_handed_over = true;
        self.changed.notify_all();
    }

    /// Sends the rest, waiting for the client as long as it takes.
    pub(crate) fn send_rest(&self) {
        self.go_on(Ok(false));
    }

    /// Sends what is handed over, until nothing will be any more.
    pub(crate) fn send_for_others(&self) {
        loop {
            let mut queue = self.queue();
            while !queue.is_handed_over && !queue.is_closed {
                queue = self.wait(queue);
            }
            if !std::mem::take(&mut queue.is_handed_over) {
                return;
            }
            drop(queue);
            self.send_rest();
        }
    }

    /// Nothing will be handed over any more.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify_all();
    }

    /// Ends the connection at once, whoever receives or sends.
    pub(crate) fn abort(&self) {
        self.is_broken.store(true, Ordering::SeqCst);
        self.stream.shutdown_both();
        let mut queue = self.queue();
        queue.waiting = Vec::new();
        queue.charge.shrink_to(0);
        drop(queue);
        self.changed.notify_all();
    }

    /// Whether nothing can be sent any more.
    pub(crate) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::SeqCst)
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The sending half again.
    pub(crate) fn into_sender(self) -> Sender {
        self.sender
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is the caller's turn to send. If not, the replies wait for who is sending; until `deadline` only if
    /// they are few.
    fn begin(&self, replies: &ReplyBuffer, deadline: Option<Instant>) -> bool {
        if replies.is_empty() {
            return false;
        }
        let mut queue = self.queue();
        while queue.is_sending && !self.is_broken() {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let is_brief = left.is_some_and(|left| !left.is_zero()) && !queue.is_stuck;
            let most = if is_brief {
                FEW_WAITING_BYTES
            } else {
                MAX_WAITING_BYTES
            };
            if queue.waiting.len() < most && queue.may_wait(replies.len()) {
                break;
            }
            let time = left.filter(|_| is_brief).unwrap_or(LOOK_AGAIN);
            queue = self.wait_for(queue, time);
            queue.is_stuck |=
                is_brief && deadline.is_some_and(|deadline| deadline <= Instant::now());
        }
        if self.is_broken() {
            return false;
        }
        if queue.is_sending {
            queue.waiting.extend_from_slice(replies.as_slice());
            return false;
        }
        queue.is_sending = true;
        true
    }

    fn go_on(&self, mut sent: io::Result<bool>) {
        loop {
            sent = match sent {
                Ok(false) => self.send_more(),
                Ok(true) => match self.next_waiting() {
                    Some(bytes) => self.sender().send_some(&bytes),
                    None => return,
                },
                Err(_) => return self.abort(),
            }
        }
    }

    fn send_more(&self) -> io::Result<bool> {
        let mut sender = self.sender();
        let sent = sender.send_rest();
        match sender.stuck_for() < self.patience {
            true => sent,
            false => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// What waits. If nothing does, sending ends.
    fn next_waiting(&self) -> Option<Vec<u8>> {
        let mut queue = self.queue();
        queue.is_stuck = false;
        queue.charge_of_sent = queue.charge.split_off();
        if queue.waiting.is_empty() {
            self.end_sending(&mut queue);
            return None;
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.changed.notify_all();
        Some(waiting)
    }

    fn end_if_nothing_waits(&self) -> bool {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            self.end_sending(&mut queue);
        }
        !queue.is_sending
    }

    fn end_sending(&self, queue: &mut Queue) {
        queue.is_sending = false;
        if queue.waiters > 0 {
            self.changed.notify_all();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'q>(&self, mut queue: MutexGuard<'q, Queue>) -> MutexGuard<'q, Queue> {
        queue.waiters += 1;
        let waited = self.changed.wait(queue);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        queue.waiters -= 1;
        queue
    }

    fn wait_for<'q>(
        &self,
        mut queue: MutexGuard<'q, Queue>,
        time: Duration,
    ) -> MutexGuard<'q, Queue> {
        queue.waiters += 1;
        let waited = self.changed.wait_timeout(queue, time);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.waiters -= 1;
        queue
    }

    fn sender(&self) -> MutexGuard<'_, Sender> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether there is room for so many more bytes to wait. If so they are charged.
    fn may_wait(&mut self, more: usize) -> bool {
        let all = self.waiting.len() + more;
        self.charge
            .grow_to(all.saturating_sub(OWN_WAITING_BYTES) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use nbd_wire::Sink;

    use super::super::transport;
    use super::*;

    fn pair() -> (Output, UnixStream) {
        pair_within(&Arc::new(Budget::new(1 << 30)), SEND_PATIENCE)
    }

    fn pair_within(budget: &Arc<Budget>, patience: Duration) -> (Output, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut receiver, sender) = transport::split(Stream::unix(ours).unwrap());
        receiver.limit(None).unwrap();
        sender.wait_briefly().unwrap();
        (Output::new(sender, budget, patience), theirs)
    }

    fn replies(byte: u8, count: usize) -> ReplyBuffer {
        let mut buffer = ReplyBuffer::default();
        buffer.put(&vec![byte; count]);
        buffer
    }

    #[test]
    fn what_a_client_does_not_take_is_handed_over_and_nothing_overtakes_it() {
        let (output, mut client) = pair();
        assert!(output.send_at_once(&mut replies(1, 10)));
        // More than any socket's buffer.
        assert!(!output.send_at_once(&mut replies(2, 8 << 20)));
        assert!(output.send_at_once(&mut replies(3, 10)));
        output.send(&mut replies(4, 10));
        output.hand_over();
        output.close();
        thread::scope(|scope| {
            scope.spawn(|| output.send_for_others());
            let mut received = vec![0; (8 << 20) + 30];
            client.read_exact(&mut received).unwrap();
            let mut expected = vec![1; 10];
            expected.extend(vec![2; 8 << 20]);
            expected.extend([3; 10]);
            expected.extend([4; 10]);
            assert!(received == expected);
        });
        // Whose turn it is has been given back.
        assert!(output.send_at_once(&mut replies(5, 1)));
        client.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn who_must_not_wait_does_not_and_nothing_is_lost_or_out_of_order() {
        let budget = Arc::new(Budget::new(1 << 20));
        let (output, mut client) = pair_within(&budget, SEND_PATIENCE);
        assert_eq!(output.send_now(&mut replies(1, 10)), Now::Done);
        // More than any socket's buffer.
        assert_eq!(output.send_now(&mut replies(2, 8 << 20)), Now::Rest);
        // Left to the one above.
        assert_eq!(output.send_now(&mut replies(3, 10)), Now::Done);
        // More than may wait.
        let mut large = replies(4, 4 << 20);
        assert_eq!(output.send_now(&mut large), Now::Kept);
        thread::scope(|scope| {
            scope.spawn(|| output.send_rest());
            scope.spawn(|| output.send(&mut large));
            let mut expected = vec![1; 10];
            expected.extend(vec![2; 8 << 20]);
            expected.extend([3; 10]);
            expected.extend(vec![4; 4 << 20]);
            let mut received = vec![0; expected.len()];
            client.read_exact(&mut received).unwrap();
            assert!(received == expected);
        });
        assert_eq!(output.send_now(&mut replies(5, 1)), Now::Done);
        client.read_exact(&mut [0]).unwrap();
        drop(client);
        assert_eq!(output.send_now(&mut replies(6, 1)), Now::Done);
        assert!(output.is_broken());
    }

    #[test]
    fn a_client_that_has_gone_breaks_it_and_nobody_waits() {
        let (output, client) = pair();
        assert!(!output.send_at_once(&mut replies(1, 8 << 20)));
        drop(client);
        output.send_rest();
        assert!(output.is_broken());
        output.send(&mut replies(2, 8 << 20));
        assert!(output.send_at_once(&mut replies(3, 8 << 20)));
    }

    #[test]
    fn a_client_that_takes_nothing_for_long_is_let_go() {
        let budget = Arc::new(Budget::new(1 << 30));
        let (output, mut client) = pair_within(&budget, Duration::from_millis(300));
        output.send_at_once(&mut replies(1, 8 << 20));
        output.send(&mut replies(2, 1 << 20));
        let began = Instant::now();
        output.send_rest();
        assert!(output.is_broken() && began.elapsed() < Duration::from_secs(30));
        // What it had not taken is gone, and nothing is left of the charge.
        let mut received = Vec::new();
        client.read_to_end(&mut received).unwrap();
        assert!(received.len() < 8 << 20);
        drop(output);
        assert!(Charge::new(&budget).grow_to(1 << 30));
    }

    #[test]
    fn replies_beyond_the_own_share_wait_only_while_the_budget_lasts() {
        let budget = Arc::new(Budget::new(1 << 20));
        let (output, mut client) = pair_within(&budget, SEND_PATIENCE);
        assert!(!output.send_at_once(&mut replies(1, 8 << 20)));
        // Its own, and all of the budget.
        output.send(&mut replies(2, OWN_WAITING_BYTES + (1 << 20)));
        assert!(!Charge::new(&budget).grow_to(1));
        output.hand_over();
        let most = (8 << 20) + OWN_WAITING_BYTES + (1 << 20);
        thread::scope(|scope| {
            scope.spawn(|| output.send(&mut replies(3, 1000)));
            scope.spawn(|| output.send_for_others());
            let mut received = vec![0; most + 1000];
            client.read_exact(&mut received).unwrap();
            assert!(received[most..].iter().all(|byte| *byte == 3));
            output.close();
        });
        assert!(Charge::new(&budget).grow_to(1 << 20));
    }
}
