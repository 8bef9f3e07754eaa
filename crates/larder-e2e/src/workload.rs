//! Random requests on several connections, each answer checked against a [`Model`].
//!
//! A round cuts the disk at random bytes into segments and deals them out to the connections:
//! they share blocks and sectors, but no byte, so that the model always knows what a byte must
//! be although requests run in parallel. Each connection keeps a few requests in flight, which
//! do not overlap. After a round the plugin's file is compared with the model. Then clients may leave, one
//! or all of them, and others come, each in a form of its own.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread;

use crate::client::{Client, Cookie, Flags, Form, Reply, Request};
use crate::image::{read_at, read_file};
use crate::model::Model;
use crate::random::Random;

const MAX_REQUEST_BYTES: u64 = 300 << 10;
const ENOTSUP: i32 = 95;

/// What to do, and how much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Replays the requests.
    pub seed: u64,
    /// How many connections.
    pub connections: u64,
    /// The forms that clients choose from.
    pub forms: &'static [Form],
    /// How many requests a connection keeps in flight. More than one can block for ever where
    /// the server reads no request before it has sent the last answer.
    pub in_flight_per_connection: usize,
    /// How often to start over with other segments.
    pub rounds: u64,
    /// Requests of all connections together in a round.
    pub requests_per_round: u64,
    /// Whether what was flushed must be in the plugin's file: not so in unsafe mode.
    pub flushes_reach_the_plugin: bool,
    /// Whether all that was acknowledged must be in the plugin's file: in writethrough mode.
    pub writes_reach_the_plugin: bool,
}

impl Plan {
    /// A plan of a moderate length for a server in writeback mode. `LARDER_SEED` replays it.
    #[must_use]
    pub fn moderate(connections: u64) -> Self {
        Self {
            seed: Random::seed_or(1),
            connections,
            forms: &[Form::Structured],
            in_flight_per_connection: 4,
            rounds: 2,
            requests_per_round: 300,
            flushes_reach_the_plugin: true,
            writes_reach_the_plugin: false,
        }
    }
}

/// Runs the plan against the default export of the server at `socket`, whose plugin serves
/// `file`. Returns what the disk must hold then.
pub fn run_workload(socket: &Path, file: &Path, plan: &Plan) -> Model {
    let announce = AnnounceOnPanic(plan);
    let mut random = Random::new(plan.seed);
    // Only its own figures, so that a plan's requests do not depend on who comes and goes.
    let mut coming = Random::new(!plan.seed);
    let mut clients: Vec<Client> = (0..plan.connections)
        .map(|_| connect(socket, plan, &mut coming))
        .collect();
    let model = Mutex::new(Model::new(read_file(file)));
    for round in 0..plan.rounds {
        if round > 0 {
            let leaving = leave(&mut clients, &mut coming);
            clients.extend((0..leaving).map(|_| connect(socket, plan, &mut coming)));
        }
        let segments = deal(&mut random, lock(&model).size(), plan.connections);
        thread::scope(|scope| {
            for (owner, client) in clients.iter_mut().enumerate() {
                let worker = Worker {
                    plan,
                    model: &model,
                    file,
                    own: segments[owner].clone(),
                    random: Random::new(random.next_u64()),
                    in_order: Random::new(plan.seed),
                    client,
                    pending: Vec::new(),
                };
                scope.spawn(move || worker.run());
            }
        });
        let chosen = random.below(plan.connections) as usize;
        lock(&model).settle();
        check_everything(&mut clients[chosen], &lock(&model), file, plan);
    }
    for client in clients {
        client.disconnect_and_wait();
    }
    drop(announce);
    model.into_inner().expect("no worker panicked")
}

fn connect(socket: &Path, plan: &Plan, random: &mut Random) -> Client {
    let form = plan.forms[random.below(plan.forms.len() as u64) as usize];
    Client::try_connect_in_form(socket, "", form)
        .unwrap_or_else(|error| panic!("a client of {form:?}: {error}"))
}

/// One client leaves, or all of them, or nobody. How many.
fn leave(clients: &mut Vec<Client>, random: &mut Random) -> usize {
    let count = match random.below(3) {
        0 => 0,
        1 => 1,
        _ => clients.len(),
    };
    for client in clients.drain(..count) {
        client.disconnect_and_wait();
    }
    count
}

fn lock(model: &Mutex<Model>) -> MutexGuard<'_, Model> {
    model.lock().expect("no worker panicked")
}

struct AnnounceOnPanic<'a>(&'a Plan);

impl Drop for AnnounceOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("replay with LARDER_SEED={}: {:?}", self.0.seed, self.0);
        }
    }
}

/// Cuts the disk into segments; returns those of each connection.
fn deal(random: &mut Random, size: u64, connections: u64) -> Vec<Vec<Range<u64>>> {
    let mut dealt = vec![Vec::new(); connections as usize];
    let mut start = 0;
    while start < size {
        let longest = if connections == 1 { size } else { 200_000 };
        let end = (start + random.between(1, longest)).min(size);
        dealt[random.below(connections) as usize].push(start..end);
        start = end;
    }
    dealt
}

/// With every connection idle: the cache, the block status and the plugin's file are right.
fn check_everything(client: &mut Client, model: &Model, file: &Path, plan: &Plan) {
    if plan.writes_reach_the_plugin {
        model.check("the plugin's file before a flush", 0, &read_file(file));
    }
    check_all_extents(client, model);
    client.flush().expect("flush");
    if plan.flushes_reach_the_plugin {
        model.check("the plugin's file after a flush", 0, &read_file(file));
    }
    let whole = client.read(0, model.size()).expect("read");
    model.check("the disk after a flush", 0, &whole);
    check_all_extents(client, model);
}

fn check_all_extents(client: &mut Client, model: &Model) {
    if client.has_block_status() {
        let extents = client.extents_of(0, model.size()).expect("block status");
        model.check_extents(0, &extents);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Read,
    Write(Vec<u8>, Flags),
    Zero(Flags),
    Trim(Flags),
    Cache,
    BlockStatus,
    Flush,
}

struct Pending {
    cookie: Cookie,
    range: Range<u64>,
    act: Act,
}

struct Worker<'a> {
    plan: &'a Plan,
    model: &'a Mutex<Model>,
    file: &'a Path,
    own: Vec<Range<u64>>,
    random: Random,
    /// Chooses reads that go on where another one ended.
    in_order: Random,
    client: &'a mut Client,
    pending: Vec<Pending>,
}

impl Worker<'_> {
    fn run(mut self) {
        if self.own.is_empty() {
            return;
        }
        for _ in 0..self.plan.requests_per_round / self.plan.connections {
            let act = self.choose_act();
            let range = self.choose_range(&act);
            let act = self.fill(act, &range);
            let is_read = matches!(act, Act::Read);
            self.make_way_for(&range);
            self.submit(range.clone(), act);
            if is_read && self.in_order.one_in(4) {
                self.read_on(range);
            }
        }
        while !self.pending.is_empty() {
            self.complete(0);
        }
    }

    /// Reads what follows a range in pieces of its length, which a cache may fetch ahead of.
    fn read_on(&mut self, mut range: Range<u64>) {
        let length = range.end - range.start;
        for _ in 0..self.in_order.between(2, 12) {
            range = range.end..range.end + length;
            if range.end > lock(self.model).size() {
                return;
            }
            self.make_way_for(&range);
            self.submit(range.clone(), Act::Read);
        }
    }

    fn choose_act(&mut self) -> Act {
        let export = self.client.export();
        let (can_trim, can_cache) = (export.can_trim(), export.can_cache());
        match self.random.below(100) {
            0..35 => Act::Write(Vec::new(), self.fua()),
            35..47 => Act::Zero(self.zero_flags()),
            47..53 if can_trim => Act::Trim(self.fua()),
            53..57 if can_cache => Act::Cache,
            57..65 if self.client.has_block_status() => Act::BlockStatus,
            65..69 => Act::Flush,
            _ => Act::Read,
        }
    }

    fn fua(&mut self) -> Flags {
        if self.client.export().can_fua() && self.random.one_in(8) {
            Flags::FUA
        } else {
            Flags::NONE
        }
    }

    fn zero_flags(&mut self) -> Flags {
        let mut flags = self.fua();
        if self.random.one_in(3) {
            flags = flags | Flags::NO_HOLE;
        }
        if self.client.export().can_fast_zero() && self.random.one_in(4) {
            flags = flags | Flags::FAST_ZERO;
        }
        flags
    }

    /// Reads may reach over other connections' bytes; all else stays in an own segment.
    fn choose_range(&mut self, act: &Act) -> Range<u64> {
        if matches!(act, Act::Flush) {
            return 0..0;
        }
        let segment = self.own[self.random.below(self.own.len() as u64) as usize].clone();
        let longest = match self.random.below(4) {
            0 => 700,
            1 => 9000,
            2 => 100_000,
            _ => MAX_REQUEST_BYTES,
        };
        let end_of_reach = match act {
            Act::Read | Act::Cache => lock(self.model).size(),
            _ => segment.end,
        };
        let start = segment.start + self.random.below(segment.end - segment.start);
        let length = self.random.between(1, longest).min(end_of_reach - start);
        let range = start..start + length;
        if self.random.one_in(3) {
            return aligned_part(&range).unwrap_or(range);
        }
        range
    }

    fn fill(&mut self, act: Act, range: &Range<u64>) -> Act {
        match act {
            Act::Write(_, flags) => Act::Write(self.random.bytes(range.end - range.start), flags),
            other => other,
        }
    }

    /// Completes requests until none in flight overlaps `range`, and there is room for one more.
    fn make_way_for(&mut self, range: &Range<u64>) {
        let overlaps = |p: &Pending| p.range.start < range.end && range.start < p.range.end;
        while let Some(position) = self.pending.iter().position(overlaps) {
            self.complete(position);
        }
        while self.pending.len() >= self.plan.in_flight_per_connection {
            self.complete(0);
        }
    }

    fn submit(&mut self, range: Range<u64>, act: Act) {
        let (offset, length) = (range.start, range.end - range.start);
        let request = match &act {
            Act::Read => Request::read(offset, length),
            Act::Write(bytes, flags) => Request::write(offset, bytes, *flags),
            Act::Zero(flags) => Request::zero(offset, length, *flags),
            Act::Trim(flags) => Request::trim(offset, length, *flags),
            Act::Cache => Request::cache(offset, length),
            Act::BlockStatus => Request::block_status(offset, length),
            Act::Flush => Request::flush(),
        };
        if matches!(act, Act::Write(..) | Act::Zero(_) | Act::Trim(_)) {
            lock(self.model).touch(offset, length);
        }
        let cookie = self.client.submit(&request).expect("sending a request");
        self.pending.push(Pending { cookie, range, act });
    }

    fn complete(&mut self, position: usize) {
        let Pending { cookie, range, act } = self.pending.remove(position);
        let result = self.client.wait(cookie);
        if let (Act::Zero(flags), Err(error)) = (&act, &result) {
            let refused = error.raw_os_error() == Some(ENOTSUP);
            if flags.contains(Flags::FAST_ZERO) && refused {
                return;
            }
        }
        let reply = result.unwrap_or_else(|e: io::Error| panic!("{act:?} of {range:?}: {e}"));
        self.account_for(&range, &act, &reply);
    }

    fn account_for(&mut self, range: &Range<u64>, act: &Act, reply: &Reply) {
        let (offset, length) = (range.start, range.end - range.start);
        let mut model = lock(self.model);
        match act {
            Act::Read => {
                model.check_untouched("read", offset, &reply.data);
                for own in parts_within(&self.own, range) {
                    let from = (own.start - offset) as usize;
                    let to = (own.end - offset) as usize;
                    model.check("read", own.start, &reply.data[from..to]);
                }
            }
            Act::BlockStatus => {
                let part = clip(&reply.extents, length);
                model.check_extents(offset, &part);
            }
            Act::Write(bytes, _) => model.write(offset, bytes),
            Act::Zero(_) => model.zero(offset, length),
            Act::Trim(_) => model.trim(offset, length),
            Act::Cache | Act::Flush => {}
        }
        let durable = match act {
            Act::Write(_, flags) | Act::Zero(flags) => flags.contains(Flags::FUA),
            _ => false,
        };
        if durable && self.plan.flushes_reach_the_plugin {
            let in_file = read_at(self.file, offset, length);
            model.check("the plugin's file after FUA", offset, &in_file);
        }
    }
}

/// The 4 KiB blocks that lie wholly in a range, if there are any.
fn aligned_part(range: &Range<u64>) -> Option<Range<u64>> {
    let aligned = range.start.next_multiple_of(4096)..range.end / 4096 * 4096;
    (aligned.start < aligned.end).then_some(aligned)
}

/// The parts of `range` that lie in the segments.
fn parts_within<'a>(
    segments: &'a [Range<u64>],
    range: &'a Range<u64>,
) -> impl Iterator<Item = Range<u64>> + 'a {
    segments
        .iter()
        .map(|own| own.start.max(range.start)..own.end.min(range.end))
        .filter(|part| part.start < part.end)
}

/// The extents of the first `length` bytes: a server may answer for more than was asked.
fn clip(extents: &[crate::Extent], length: u64) -> Vec<crate::Extent> {
    let mut left = length;
    let mut clipped = Vec::new();
    for extent in extents {
        let length = extent.length.min(left);
        left -= length;
        clipped.push(crate::Extent { length, ..*extent });
    }
    clipped
}
