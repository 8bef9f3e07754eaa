//! Clients that drop their connections anywhere, send anything, send it slowly, do not read, and come in
//! crowds: others are served as if they were not there, and nothing is left of them afterwards.
//!
//! `LARDER_SEED` replays another seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod hostile;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hostile::mutation::Mutator;
use hostile::origins::Origin;
use hostile::raw::{Form, RawClient, opening};
use hostile::spoilt::{Tally, Victim, check_written, count_replies, send_options};
use hostile::usage::{Usage, assert_steady};
use larder_e2e::{
    Client, Larder, MIB, Random, Scratch, Server, random_file, read_file, sparse_file, wait_until,
    write_at,
};
use nbd_wire::{Command, CommandFlags, ExportRequest, OptionCode, OptionHeader, Request};

const SIZE: u64 = 64 * MIB;
const NONE: CommandFlags = CommandFlags::empty();

fn image(scratch: &Scratch, name: &str) -> std::path::PathBuf {
    let image = scratch.path(name);
    sparse_file(&image, SIZE);
    image
}

/// A client that does nothing wrong, on the lower half of an export, and knows what it must read.
struct Good {
    client: Client,
    random: Random,
    expected: Vec<u8>,
}

impl Good {
    fn new(server: &Server, export: &str) -> Self {
        Self {
            client: Client::connect_to(server.socket(), export),
            random: Random::new(Random::seed_or(1)),
            expected: vec![0; SIZE as usize / 2],
        }
    }

    /// One write and one read, which must be right.
    fn step(&mut self) {
        let length = self.random.between(1, 20_000);
        let offset = self.random.below(SIZE / 2 - length);
        let range = |offset: u64| offset as usize..(offset + length) as usize;
        let bytes = self.random.bytes(length);
        self.client.write(offset, &bytes).expect("a write");
        self.expected[range(offset)].copy_from_slice(&bytes);
        let offset = self.random.below(SIZE / 2 - length);
        let read = self.client.read(offset, length).expect("a read");
        assert!(read == self.expected[range(offset)], "read at {offset}");
    }

    /// What it wrote is on the origin once it has flushed.
    fn check(mut self, image: &Path) {
        self.client.flush().expect("a flush");
        let lower = &read_file(image)[..self.expected.len()];
        assert!(lower == self.expected, "the image differs");
    }
}

/// Messages that are right, each in one piece, that change nothing in the lower half.
fn messages(form: Form) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for (number, (command, length)) in [
        (Command::READ, 4096),
        (Command::READ, 300_000),
        (Command::WRITE, 512),
        (Command::WRITE, 100_000),
        (Command::FLUSH, 0),
        (Command::TRIM, 65536),
        (Command::CACHE, 65536),
        (Command::WRITE_ZEROES, 70_000),
        (Command::BLOCK_STATUS, 1 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        let is_flagged = command == Command::WRITE && form == Form::Extended;
        let mut message = Vec::new();
        Request {
            flags: if is_flagged {
                CommandFlags::PAYLOAD_LEN
            } else {
                NONE
            },
            command,
            cookie: number as u64,
            offset: SIZE / 2 + number as u64 * 900_000,
            length_bytes: length,
        }
        .encode(&mut message, form.format());
        if command == Command::WRITE {
            message.resize(message.len() + length as usize, 0x55);
        }
        messages.push(message);
    }
    messages
}

fn form(random: &mut Random) -> Form {
    Form::ALL[random.below(3) as usize]
}

/// Where the crowd's large reads find data, and where its writes go: as [`messages`] has them.
const READ: Range<u64> = SIZE / 2 + 900_000..SIZE / 2 + 900_000 + READ_BYTES;
const READ_BYTES: u64 = 300_000;
const WRITES: [Range<u64>; 2] = [
    SIZE / 2 + 1_800_000..SIZE / 2 + 1_800_512,
    SIZE / 2 + 2_700_000..SIZE / 2 + 2_800_000,
];
const CONNECTIONS_OF_A_CROWD: usize = 500;

#[test]
fn two_thousand_connections_dropped_anywhere_harm_nobody() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    write_at(&image, READ.start, &[7; READ_BYTES as usize]);
    let server = Larder::serve(&scratch).file(&image).start();
    let mut good = Good::new(&server, "");
    good.step();
    let mut random = Random::new(Random::seed_or(1));
    let before = Usage::of(server.pid());
    let crowds = [0; 4].map(|_| {
        drop_a_crowd(&server, &mut good, &mut random);
        Usage::wait_for_return(server.pid(), &before, 16 << 10);
        Usage::of(server.pid())
    });
    assert_steady(&crowds);
    good.step();
    good.check(&image);
    let exit = server.stop();
    assert!(!exit.output.contains("panic"), "{}", exit.output);
    let upper = &read_file(&image)[SIZE as usize / 2..];
    let (start, end) = (
        (READ.start - SIZE / 2) as usize,
        (READ.end - SIZE / 2) as usize,
    );
    assert!(
        upper[start..end].iter().all(|&byte| byte == 7),
        "what was only read"
    );
    check_written(&upper[..start], SIZE / 2, &WRITES);
    check_written(&upper[end..], READ.end, &WRITES);
}

/// Further connections that come, and are dropped, while others are served.
fn drop_a_crowd(server: &Server, good: &mut Good, random: &mut Random) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let mut open = Vec::new();
            for _ in 0..CONNECTIONS_OF_A_CROWD {
                open.push(match random.one_in(3) {
                    true => dropped_in_a_reply(server, random),
                    false => dropped_somewhere(server, random),
                });
                if open.len() > 50 {
                    let leaving = random.below(open.len() as u64) as usize;
                    drop(open.swap_remove(leaving));
                }
            }
            drop(open);
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) && !crowd.is_finished() {
            good.step();
        }
    });
}

/// A connection on which a part of something sensible has been said, and perhaps a part of the answer heard.
fn dropped_somewhere(server: &Server, random: &mut Random) -> RawClient {
    let form = form(random);
    let mut said = [&3_u32.to_be_bytes()[..], &opening("", form)].concat();
    let handshake = said.len() as u64;
    let requests = messages(form);
    for _ in 0..random.below(8) {
        said.extend_from_slice(&requests[random.below(requests.len() as u64) as usize]);
    }
    let cut = match random.one_in(2) {
        true => random.below(handshake + 1),
        false => random.below(said.len() as u64 + 1),
    };
    let mut client = RawClient::connect(server.socket());
    client.send(&said[..cut as usize]);
    if random.one_in(3) {
        // The greeting comes in any case.
        client.receive(random.between(1, 18) as usize).unwrap();
    }
    if random.one_in(4) {
        client.end_sending();
    }
    client
}

/// A connection on which replies with data have been heard up to some byte.
fn dropped_in_a_reply(server: &Server, random: &mut Random) -> RawClient {
    let mut client = RawClient::open(server.socket(), "", form(random));
    let count = random.between(1, 4);
    for _ in 0..count {
        let range = (READ.start, READ_BYTES);
        client.submit(Command::READ, NONE, range, b"");
    }
    // Headers come on top of the data.
    let heard = random.between(1, count * READ_BYTES);
    client.receive(heard as usize).expect("what was asked for");
    client
}

/// Of each kind, in each of two crowds.
const CONNECTIONS: usize = 1400;
const MESSAGES_EACH: usize = 40;

#[test]
fn a_hundred_thousand_spoilt_messages_are_answered_and_leave_nothing_behind() {
    let scratch = Scratch::new();
    let (calm, mangled) = (image(&scratch, "calm"), image(&scratch, "mangled"));
    let image = scratch.path("victim");
    let content = random_file(&image, SIZE, 1);
    let victim = Victim {
        name: "victim",
        content: &content,
    };
    let server = Larder::serve(&scratch)
        .origin(format!("calm={}", calm.display()))
        .origin(format!("mangled={}", mangled.display()))
        .origin(format!("victim={}", image.display()))
        .start();
    let mut good = Good::new(&server, "calm");
    // What one sane client of each kind takes is no leak.
    for form in Form::ALL {
        RawClient::open(server.socket(), "victim", form).read(0, 32 * MIB);
    }
    good.step();
    let seed = Random::seed_or(1);
    let before = Usage::of(server.pid());
    let (mut requests, mut options, mut replies) = (Tally::default(), Tally::default(), 0);
    let crowds = [0, 1].map(|crowd| {
        let seeds = seed.wrapping_add(crowd << 32);
        let heard = send_a_crowd(&server, &mut good, &victim, seeds);
        requests += heard.requests;
        options += heard.options;
        replies += heard.replies;
        Usage::wait_for_return(server.pid(), &before, 48 << 10);
        Usage::of(server.pid())
    });
    assert_steady(&crowds);
    println!("{requests:?} {options:?} {replies}");
    assert!(requests.answered() + options.answered() >= 100_000);
    assert!(requests.done > 10_000 && requests.refused > 10_000);
    assert!(options.done > 1000 && options.refused > 1000);
    assert!(
        replies > 10_000,
        "to messages that do not end where they say"
    );
    let whole = (0..SIZE).step_by(MIB as usize);
    let mut client = RawClient::open(server.socket(), "victim", Form::Structured);
    whole.for_each(|offset| victim.check(offset, &client.read(offset, MIB).data));
    drop(client);
    good.step();
    good.check(&calm);
    let exit = server.stop();
    assert!(!exit.output.contains("panic"), "{}", exit.output);
    victim.check(0, &read_file(&image));
}

/// What a crowd was told.
#[derive(Default)]
struct Heard {
    requests: Tally,
    options: Tally,
    /// To what was cut, repeated, or put together from others.
    replies: usize,
}

/// Sends spoilt messages of all kinds on so many connections, while others are served.
fn send_a_crowd(server: &Server, good: &mut Good, victim: &Victim<'_>, seeds: u64) -> Heard {
    let heard = Mutex::new(Heard::default());
    let next = AtomicUsize::new(0);
    let send = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= 2 * CONNECTIONS {
                break;
            }
            let seed = seeds.wrapping_add(number as u64);
            let socket = server.socket();
            match number % 6 {
                0..2 => {
                    let open = |name: &str, form| RawClient::open(socket, name, form);
                    let tally = victim.send_requests(open, seed, MESSAGES_EACH);
                    heard.lock().unwrap().requests += tally;
                }
                2 => {
                    let tally = send_options(socket, seed, MESSAGES_EACH);
                    heard.lock().unwrap().options += tally;
                }
                _ => {
                    let replies = send_spoilt(server, seed);
                    heard.lock().unwrap().replies += replies;
                }
            }
        }
    };
    thread::scope(|scope| {
        let crowd = [(); 4].map(|()| scope.spawn(send));
        while !crowd.iter().all(|client| client.is_finished()) {
            good.step();
        }
    });
    heard.into_inner().unwrap()
}

/// One connection's messages, which need not end where they say, every third of them before an export is
/// chosen. How many replies there were.
fn send_spoilt(server: &Server, seed: u64) -> usize {
    let mut mutator = Mutator::new(seed);
    let form = Form::ALL[mutator.below(3)];
    let options = opening("mangled", form);
    let mut said = 3_u32.to_be_bytes().to_vec();
    let seeds = if mutator.below(3) == 0 {
        let export = ExportRequest {
            name: "mangled",
            infos: Vec::new(),
        };
        vec![
            options,
            OptionHeader::encode(OptionCode::INFO, &export.encode()),
            OptionHeader::encode(OptionCode::LIST, b""),
            OptionHeader::encode(OptionCode::STARTTLS, b""),
            OptionHeader::encode(OptionCode::EXPORT_NAME, b"mangled"),
            OptionHeader::encode(OptionCode::ABORT, b""),
        ]
    } else {
        said.extend(options);
        messages(form)
    };
    for _ in 0..MESSAGES_EACH / 4 {
        said.extend(mutator.mutated(&seeds));
    }
    let mut client = RawClient::connect(server.socket());
    // The server may end the connection before it has heard everything.
    let _ = client.stream.write_all(&said);
    let _ = client.stream.shutdown(Shutdown::Write);
    count_replies(&client.rest())
}

/// Sends as much as the server takes without being read from.
fn send_until_stuck(client: &mut RawClient, mut next: impl FnMut(&mut Vec<u8>), most: u64) -> u64 {
    client.stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    let mut message = Vec::new();
    let mut last = Instant::now();
    while sent < most {
        if message.is_empty() {
            next(&mut message);
        }
        match client.stream.write(&message) {
            Ok(count) => {
                sent += count as u64;
                message.drain(..count);
                last = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if last.elapsed() > Duration::from_secs(1) {
                    break;
                }
                thread::yield_now();
            }
            Err(error) => panic!("after {sent} bytes: {error}"),
        }
    }
    sent
}

fn request(command: Command, offset: u64, length_bytes: u64) -> Vec<u8> {
    let mut message = Vec::new();
    Request {
        flags: NONE,
        command,
        cookie: 1,
        offset,
        length_bytes,
    }
    .encode(&mut message, Form::Structured.format());
    message
}

#[test]
fn who_is_slow_or_silent_holds_up_nobody_else() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    let server = Larder::serve(&scratch).file(&image).start();
    let mut good = Good::new(&server, "");
    good.step();
    // Some never read what they asked for, hits and others.
    let mut silent = Vec::new();
    for command in [Command::READ, Command::BLOCK_STATUS, Command::READ] {
        let mut client = RawClient::open(server.socket(), "", Form::Structured);
        let mut number = 0;
        let length = if command == Command::READ {
            1 << 20
        } else {
            SIZE / 2
        };
        let next = |message: &mut Vec<u8>| {
            number += 1;
            message.extend(request(
                command,
                SIZE / 2 + number % 31 * MIB,
                length.min(MIB),
            ));
        };
        send_until_stuck(&mut client, next, 8 << 20);
        silent.push(client);
    }
    // Some stop in the middle of a header, a payload, a handshake.
    for cut in [1, 27, 28, 29, 4000, 90_000] {
        let mut client = RawClient::open(server.socket(), "", Form::Structured);
        let mut write = request(Command::WRITE, SIZE / 2, 100_000);
        write.resize(100_028, 1);
        client.send(&write[..cut]);
        silent.push(client);
    }
    silent.push(RawClient::connect(server.socket()));
    // Some send byte by byte, what needs no long answer: they do not read.
    let mut slow: Vec<(RawClient, Vec<u8>)> = Form::ALL
        .into_iter()
        .map(|form| {
            let said = [
                &3_u32.to_be_bytes()[..],
                &opening("", form),
                &messages(form)[2..].concat(),
            ];
            (RawClient::connect(server.socket()), said.concat())
        })
        .collect();
    for number in 0..2000 {
        good.step();
        for (client, said) in &mut slow {
            client.send(&said[number..=number]);
        }
    }
    good.check(&image);
    drop(silent);
    server.stop();
}

#[test]
fn a_handshake_has_a_deadline() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    let larder = Larder::serve(&scratch).file(&image);
    let server = larder.parameter("handshake-timeout=1").start();
    let served = RawClient::open(server.socket(), "", Form::Structured);
    let silent = RawClient::connect(server.socket());
    let half = RawClient::greet(server.socket());
    let mut flooding = RawClient::greet(server.socket());
    let list = |message: &mut Vec<u8>| {
        message.extend(OptionHeader::encode(OptionCode::LIST, b""));
    };
    flooding.stream.set_nonblocking(true).unwrap();
    let mut message = Vec::new();
    list(&mut message);
    // Until the server ends it, which it does although its own replies are not read.
    wait_until("the one that floods is let go", || {
        for _ in 0..1000 {
            match flooding.stream.write(&message) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return true,
                _ => {}
            }
        }
        false
    });
    assert_eq!(silent.rest().len(), 18);
    assert_eq!(half.rest(), b"");
    // The time is that of the whole handshake, however often something comes.
    let began = Instant::now();
    let mut slow = RawClient::greet(server.socket());
    let endless = OptionHeader::encode(OptionCode(99), &[0; 60]);
    assert!(slow.trickle(endless), "it took its time");
    assert!(began.elapsed() >= Duration::from_secs(1), "something else");
    // Nobody waits for those that have been served.
    let mut served = served;
    assert_eq!(served.read(0, 512).data, [0; 512]);
    server.stop();
}

#[test]
fn who_is_one_too_many_is_let_go_at_once() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    let larder = Larder::serve(&scratch).file(&image);
    let server = larder.parameter("max-connections=5").start();
    let mut served: Vec<RawClient> = (0..5)
        .map(|_| RawClient::open(server.socket(), "", Form::Structured))
        .collect();
    for _ in 0..20 {
        assert_eq!(RawClient::connect(server.socket()).rest(), b"");
    }
    for client in &mut served {
        assert_eq!(client.read(0, 512).data, [0; 512]);
    }
    drop(served.pop());
    wait_until("there is room again", || {
        let mut client = RawClient::connect(server.socket());
        client.receive(18).is_ok()
    });
    server.stop();
}

#[test]
fn a_hint_about_everything_does_not_hold_up_the_end() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 1 << 40);
    let server = Larder::serve(&scratch)
        .file(&image)
        .parameter("cache-max-size=64M")
        .start();
    let mut client = RawClient::open(server.socket(), "", Form::Extended);
    for _ in 0..10 {
        client.submit(Command::CACHE, NONE, (0, 1 << 40), b"");
    }
    // It is worked on, beside others.
    assert_eq!(client.read(1 << 39, 512).data, [0; 512]);
    let leaving = RawClient::open(server.socket(), "", Form::Extended);
    client.submit(Command::DISCONNECT, NONE, (0, 0), b"");
    for _ in 0..10 {
        assert_eq!(client.answer().expect("an answer").error, 0);
    }
    assert_eq!(client.rest(), b"");
    let mut client = leaving;
    client.submit(Command::CACHE, NONE, (0, 1 << 40), b"");
    assert_eq!(client.read(1 << 38, 512).data, [0; 512]);
    server.stop();
}

#[test]
fn ranges_of_terabytes_are_done_without_memory_for_each_block() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    let size = 8 << 40;
    sparse_file(&image, size);
    let server = Larder::serve(&scratch).file(&image).start();
    let mut client = RawClient::open(server.socket(), "", Form::Extended);
    client.write(size / 2, &[1; 4096]);
    let before = Usage::of(server.pid());
    for command in [Command::BLOCK_STATUS, Command::WRITE_ZEROES, Command::TRIM] {
        for range in [(0, size), (1, size - 2), (4096, size - 8192)] {
            let answer = client.call(command, NONE, range, b"");
            assert_eq!(answer.error, 0, "{command:?} {range:?}");
        }
    }
    let flush = client.call(Command::FLUSH, NONE, (0, 0), b"");
    assert_eq!(flush.error, 0);
    assert_eq!(client.read(size / 2, 4096).data, [0; 4096]);
    let after = Usage::of(server.pid());
    assert!(
        after.is_like(
            &Usage {
                threads: 99,
                ..before
            },
            32 << 10
        ),
        "{before:?} {after:?}"
    );
    server.stop();
}

#[test]
fn a_flood_of_large_writes_at_a_stuck_origin_takes_bounded_memory() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    let delay = ["--filter=delay", "wdelay=600"];
    let origin = Origin::nbdkit(&scratch, &image, &delay);
    let server = Larder::serve(&scratch)
        .origin(origin.address(""))
        .parameter("cache=writethrough")
        .parameter("origin-timeout=900")
        .start();
    let mut good = Client::connect(server.socket());
    assert_eq!(good.read(0, 65536).expect("a read"), vec![0; 65536]);
    let before = Usage::of(server.pid());
    let mut floods = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::open(server.socket(), "", Form::Structured);
        let next = |message: &mut Vec<u8>| {
            message.extend(request(Command::WRITE, MIB, 32 * MIB));
            message.resize(message.len() + 32 * MIB as usize, 7);
        };
        let sent = send_until_stuck(&mut client, next, 1 << 30);
        assert!(sent < 100 * MIB, "{sent} bytes were taken");
        floods.push(client);
        // Others do not wait.
        for _ in 0..100 {
            assert_eq!(good.read(0, 65536).expect("a hit"), vec![0; 65536]);
        }
    }
    let now = Usage::of(server.pid());
    let most = before.rss_anon_kib + 2 * (64 << 10) + (32 << 10);
    assert!(now.rss_anon_kib < most, "{before:?} {now:?}");
}

#[test]
fn the_end_does_not_wait_for_ever_for_who_does_not_read() {
    let scratch = Scratch::new();
    let image = image(&scratch, "image");
    let larder = Larder::serve(&scratch).file(&image);
    let server = larder.parameter("origin-timeout=1").start();
    let mut good = Good::new(&server, "");
    good.step();
    let mut silent = Vec::new();
    for length in [MIB, 32 * MIB] {
        let mut client = RawClient::open(server.socket(), "", Form::Structured);
        let next = |message: &mut Vec<u8>| message.extend(request(Command::READ, 0, length));
        send_until_stuck(&mut client, next, MIB);
        silent.push(client);
    }
    server.stop();
    // What was acknowledged is written back all the same.
    assert!(read_file(&image)[..good.expected.len()] == good.expected);
}
