//! A server that lies: never wrong data, never a panic, never a hang.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::Fua;
use nbd_support::scripted::{CONTEXT_ID, Disk, Offer, Peer, Scripted, hang_up};
use nbd_support::{Opened, Random, Scratch, open_socket, pattern, read, try_open};
use nbd_wire::{
    Chunk, ChunkFlags, ChunkHeader, ChunkType, Descriptor, ErrorCode, OptionCode, Request,
    RequestFormat, SimpleReply, TransmissionFlags,
};

const SIZE: usize = 1 << 20;

fn disk() -> Arc<Disk> {
    let mut content = pattern(0, SIZE);
    // Holes that an honest server may send as such.
    content[65536..131_072].fill(0);
    Disk::new(content)
}

fn open_quick(socket: &Path) -> Result<Opened, String> {
    try_open(
        &format!("nbd+unix:///?socket={}", socket.display()),
        |options| {
            options.timeout = Duration::from_secs(10);
        },
    )
}

/// A server whose first connection answers each read with `lie`.
fn read_lied_to(
    offer: Offer,
    lie: impl Fn(&mut Peer, &Request) -> io::Result<()> + Send + Sync + 'static,
) -> (Vec<u8>, Vec<String>) {
    let scratch = Scratch::new();
    let disk = disk();
    let server = Scripted::start(&scratch.path("s"), offer, move |peer, request, data| {
        if peer.number == 0 {
            return lie(peer, request);
        }
        disk.answer(peer, request, data)
    });
    let opened = open_quick(&server.socket).unwrap();
    let data = read(&*opened.handle(), 4096, 4096);
    (data, opened.log.messages())
}

fn raw(
    peer: &mut Peer,
    request: &Request,
    kind: u16,
    payload: &[u8],
    claimed: u64,
) -> io::Result<()> {
    let header = ChunkHeader {
        flags: ChunkFlags::DONE,
        kind: ChunkType(kind),
        cookie: request.cookie,
        offset: request.offset,
        length_bytes: claimed,
    };
    let mut bytes = Vec::new();
    header.encode(&mut bytes, peer.format);
    bytes.extend_from_slice(payload);
    peer.stream.write_all(&bytes)
}

fn hole(offset: u64, length_bytes: u32) -> Chunk<'static> {
    Chunk::Hole {
        offset,
        length_bytes,
    }
}

type Lie = fn(&mut Peer, &Request) -> io::Result<()>;

/// Each would be wrong data if it were believed, or memory that the request does not bound.
const LIES: &[(&str, Lie)] = &[
    ("unknown cookie", |peer, request| {
        let other = Request {
            cookie: request.cookie + 1,
            ..*request
        };
        peer.data(&other, &pattern(9, 4096))
    }),
    ("answered twice", |peer, request| {
        let data = pattern(9, 10);
        peer.chunk(
            request,
            false,
            &Chunk::Data {
                offset: request.offset,
                data: &data,
            },
        )?;
        peer.chunk(
            request,
            false,
            &Chunk::Data {
                offset: request.offset,
                data: &data,
            },
        )
    }),
    ("hole over data", |peer, request| {
        let data = pattern(9, 4096);
        peer.chunk(
            request,
            false,
            &Chunk::Data {
                offset: request.offset,
                data: &data,
            },
        )?;
        peer.chunk(request, true, &hole(request.offset + 100, 10))
    }),
    ("a part missing", |peer, request| {
        peer.chunk(request, true, &hole(request.offset, 4095))
    }),
    ("nothing at all", |peer, request| {
        peer.chunk(request, true, &Chunk::None)
    }),
    ("an empty chunk in between", |peer, request| {
        peer.chunk(request, false, &Chunk::None)
    }),
    ("before the range", |peer, request| {
        peer.chunk(
            request,
            true,
            &Chunk::Data {
                offset: request.offset - 1,
                data: &[0; 4096],
            },
        )
    }),
    ("past the range", |peer, request| {
        peer.chunk(
            request,
            true,
            &Chunk::Data {
                offset: request.offset + 1,
                data: &[0; 4096],
            },
        )
    }),
    ("an offset that overflows", |peer, request| {
        peer.chunk(request, true, &hole(u64::MAX - 5, 4096))
    }),
    ("a hole that is too long", |peer, request| {
        peer.chunk(request, true, &hole(request.offset, u32::MAX))
    }),
    ("an empty hole", |peer, request| {
        peer.chunk(request, true, &hole(request.offset, 0))
    }),
    ("data without data", |peer, request| {
        raw(peer, request, 1, &request.offset.to_be_bytes(), 8)
    }),
    ("data without an offset", |peer, request| {
        raw(peer, request, 1, &[0; 4], 4)
    }),
    ("data of 4 GiB", |peer, request| {
        raw(
            peer,
            request,
            1,
            &request.offset.to_be_bytes(),
            u32::MAX.into(),
        )
    }),
    ("a status", |peer, request| {
        let run = Descriptor {
            length_bytes: 4096,
            status: 3,
        };
        let status = Chunk::Status {
            context_id: CONTEXT_ID,
            descriptors: vec![run],
        };
        peer.chunk(request, true, &status)
    }),
    ("an unknown type", |peer, request| {
        raw(peer, request, 99, &[], 0)
    }),
    ("an error of 4 GiB", |peer, request| {
        raw(peer, request, 0x8001, &[], u32::MAX.into())
    }),
    ("an error that is none", |peer, request| {
        peer.fail(request, ErrorCode(0))
    }),
    ("an error elsewhere", |peer, request| {
        let chunk = Chunk::Error {
            error: ErrorCode::IO,
            message: "",
            offset: Some(0),
        };
        peer.chunk(request, true, &chunk)
    }),
    (
        "an error whose message is longer than it",
        |peer, request| raw(peer, request, 0x8001, &[0, 0, 0, 5, 0xff, 0xff], 6),
    ),
    ("a simple reply", |peer, request| {
        peer.simple(request.cookie, ErrorCode(0))?;
        peer.stream.write_all(&[0; 4096])
    }),
    ("not a reply", |peer, _| {
        peer.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    }),
    ("half a header", |peer, request| {
        let reply = SimpleReply {
            error: ErrorCode(0),
            cookie: request.cookie,
        };
        peer.stream.write_all(&reply.encode()[..7])?;
        Err(hang_up())
    }),
    ("half the data", |peer, request| {
        raw(
            peer,
            request,
            1,
            &[&request.offset.to_be_bytes()[..], &[0; 100]].concat(),
            8 + 4096,
        )?;
        Err(hang_up())
    }),
];

#[test]
fn a_lie_closes_the_connection_and_the_read_is_right() {
    for extended in [false, true] {
        for (name, lie) in LIES {
            let offer = Offer {
                extended,
                ..Offer::default()
            };
            let (data, log) = read_lied_to(offer, lie);
            assert!(data == pattern(4096, 4096), "{name}");
            assert!(
                log.iter().any(|line| line.contains("connection is lost")),
                "{name}: {log:?}"
            );
        }
    }
}

#[test]
fn a_chunk_of_another_format_or_request_is_a_lie() {
    let offer = || Offer {
        extended: true,
        ..Offer::default()
    };
    let (data, _) = read_lied_to(offer(), |peer, request| {
        peer.format = RequestFormat::Compact;
        peer.data(request, &[1; 4096])
    });
    assert!(data == pattern(4096, 4096));
    let (data, _) = read_lied_to(offer(), |peer, request| {
        let data = [1; 4096];
        let chunk = Chunk::Data {
            offset: request.offset,
            data: &data,
        };
        let moved = Request {
            offset: 0,
            ..*request
        };
        peer.chunk(&moved, true, &chunk)
    });
    assert!(data == pattern(4096, 4096));
}

#[test]
fn chunks_in_any_order_make_the_read() {
    for extended in [false, true] {
        let scratch = Scratch::new();
        let disk = disk();
        let random = Mutex::new(Random::new(7));
        let offer = Offer {
            extended,
            ..Offer::default()
        };
        let server = Scripted::start(&scratch.path("s"), offer, move |peer, request, _| {
            shuffled(
                peer,
                request,
                &disk.slice(request),
                &mut random.lock().unwrap(),
            )
        });
        let opened = open_socket(&server.socket);
        let handle = opened.handle();
        let expected = self::disk().content();
        for round in 0..100 {
            let (offset, length) = (round * 1000, 1 + round as usize * 700);
            let data = read(&*handle, offset, length);
            assert!(data == expected[offset as usize..][..length], "{round}");
        }
        assert_eq!(opened.log.messages(), Vec::<String>::new());
    }
}

/// Honest, in pieces out of order, holes among them.
fn shuffled(
    peer: &mut Peer,
    request: &Request,
    data: &[u8],
    random: &mut Random,
) -> io::Result<()> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let length = (1 + random.below(data.len() as u64) as usize).min(data.len() - start);
        pieces.push((start, length));
        start += length;
    }
    for index in (1..pieces.len()).rev() {
        pieces.swap(index, random.below(index as u64 + 1) as usize);
    }
    for (start, length) in &pieces {
        let data = &data[*start..start + length];
        let offset = request.offset + *start as u64;
        if data.iter().all(|byte| *byte == 0) {
            peer.chunk(request, false, &hole(offset, *length as u32))?;
        } else {
            peer.chunk(request, false, &Chunk::Data { offset, data })?;
        }
    }
    peer.chunk(request, true, &Chunk::None)
}

#[test]
fn seeded_lies_never_become_data() {
    // At once, since most of the time is spent waiting before connecting again.
    std::thread::scope(|scope| {
        for seed in 0..16 {
            scope.spawn(move || lied_to_by(seed));
        }
    });
}

fn lied_to_by(seed: u64) {
    let scratch = Scratch::new();
    let disk = disk();
    let random = Arc::new(Mutex::new(Random::new(seed)));
    let offer = Offer {
        extended: seed % 2 == 1,
        ..Offer::default()
    };
    let server = Scripted::start(&scratch.path("s"), offer, move |peer, request, _| {
        let mut random = random.lock().unwrap();
        match random.below(40) {
            0 => LIES[random.below(LIES.len() as u64) as usize].1(peer, request),
            1 => mutated(peer, request, &mut random),
            2 => Err(hang_up()),
            _ => shuffled(peer, request, &disk.slice(request), &mut random),
        }
    });
    let opened = open_quick(&server.socket).unwrap();
    let expected = self::disk().content();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (handle, expected) = (opened.handle(), &expected);
            scope.spawn(move || {
                let mut random = Random::new(seed * 100 + thread + 1);
                for _ in 0..20 {
                    let offset = random.below(SIZE as u64 - 65536);
                    let length = 1 + random.below(65536) as usize;
                    let mut data = vec![0xee; length];
                    match handle.read(offset, &mut data) {
                        Ok(()) => {
                            assert!(data == expected[offset as usize..][..length], "seed {seed}");
                        }
                        Err(error) => {
                            let is_its_own = error.raw_os_error().is_some();
                            assert!(is_its_own || error.kind() == io::ErrorKind::TimedOut);
                        }
                    }
                }
            });
        }
    });
}

/// Part of an honest reply's header, with one bit turned, and then the end: what follows could be
/// data with a bit turned, which nobody could tell.
fn mutated(peer: &mut Peer, request: &Request, random: &mut Random) -> io::Result<()> {
    let header = ChunkHeader {
        flags: ChunkFlags::DONE,
        kind: ChunkType::NONE,
        cookie: request.cookie,
        offset: request.offset,
        length_bytes: 0,
    };
    let mut bytes = Vec::new();
    header.encode(&mut bytes, peer.format);
    let bit = random.below(bytes.len() as u64 * 8) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
    peer.stream.write_all(&bytes)?;
    Err(hang_up())
}

#[test]
fn errors_are_the_requests_own() {
    for (extended, structured) in [(false, false), (false, true), (true, true)] {
        let scratch = Scratch::new();
        let disk = disk();
        let offer = Offer {
            extended,
            structured,
            ..Offer::default()
        };
        let server = Scripted::start(&scratch.path("s"), offer, move |peer, request, data| {
            if request.offset >= 8192 {
                return peer.fail(request, ErrorCode::NO_SPACE);
            }
            disk.answer(peer, request, data)
        });
        let opened = open_socket(&server.socket);
        let handle = opened.handle();
        for _ in 0..3 {
            let error = handle.read(8192, &mut [0; 512]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(28));
            let error = handle.write(8192, &[0; 512], false).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(28));
            assert_eq!(read(&*handle, 0, 512), pattern(0, 512));
        }
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn an_error_after_data_is_an_error() {
    let scratch = Scratch::new();
    let server = Scripted::start(&scratch.path("s"), Offer::default(), |peer, request, _| {
        let data = pattern(0, 512);
        peer.chunk(
            request,
            false,
            &Chunk::Data {
                offset: request.offset,
                data: &data,
            },
        )?;
        let offset = Some(request.offset + 512);
        let error = Chunk::Error {
            error: ErrorCode::IO,
            message: "bad sector",
            offset,
        };
        peer.chunk(request, false, &error)?;
        peer.chunk(request, true, &Chunk::None)
    });
    let opened = open_socket(&server.socket);
    let error = opened.handle().read(0, &mut [0; 1024]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5));
    assert!(opened.log.has("bad sector"));
}

#[test]
fn a_status_may_be_shorter_or_longer_than_asked() {
    for extended in [false, true] {
        let scratch = Scratch::new();
        let offer = Offer {
            extended,
            ..Offer::default()
        };
        let server = Scripted::start(&scratch.path("s"), offer, |peer, request, _| {
            let run = |length_bytes, status| Descriptor {
                length_bytes,
                status,
            };
            let descriptors = match request.offset {
                0 => vec![run(512, 3)],
                _ => vec![
                    run(512, 0),
                    run(1024, 2),
                    run(4_000_000_000, 1),
                    run(512, 0),
                ],
            };
            let status = Chunk::Status {
                context_id: CONTEXT_ID,
                descriptors,
            };
            peer.chunk(request, true, &status)
        });
        let handle = open_socket(&server.socket).handle();
        let extents = |offset, one| {
            let extents = handle.extents(offset, 4096, one).unwrap();
            let parts = extents.into_iter();
            parts
                .map(|run| (run.length, run.hole, run.zero))
                .collect::<Vec<_>>()
        };
        assert_eq!(extents(0, false), [(512, true, true)]);
        let all = [
            (512, false, false),
            (1024, false, true),
            (2560, true, false),
        ];
        assert_eq!(extents(4096, false), all);
        assert_eq!(extents(4096, true), all[..1]);
    }
}

#[test]
fn a_false_status_is_a_lie() {
    let lies: [Lie; 4] = [
        |peer, request| peer.done(request),
        |peer, request| peer.simple(request.cookie, ErrorCode(0)),
        |peer, request| {
            let run = Descriptor {
                length_bytes: 4096,
                status: 3,
            };
            peer.chunk(
                request,
                true,
                &Chunk::Status {
                    context_id: 5,
                    descriptors: vec![run],
                },
            )
        },
        |peer, request| {
            let run = Descriptor {
                length_bytes: 0,
                status: 3,
            };
            let descriptors = vec![run];
            peer.chunk(
                request,
                true,
                &Chunk::Status {
                    context_id: CONTEXT_ID,
                    descriptors,
                },
            )
        },
    ];
    for lie in lies {
        let scratch = Scratch::new();
        let disk = disk();
        let server = Scripted::start(
            &scratch.path("s"),
            Offer::default(),
            move |peer, request, data| match peer.number {
                0 => lie(peer, request),
                _ => disk.answer(peer, request, data),
            },
        );
        let opened = open_quick(&server.socket).unwrap();
        let extents = opened.handle().extents(0, 4096, false).unwrap();
        assert!(extents.len() == 1 && !extents[0].hole && !extents[0].zero);
        assert!(opened.log.has("broke the protocol"));
    }
}

#[test]
fn every_handshake_comes_to_terms() {
    for extended in [false, true] {
        for structured in [false, true] {
            for (go, fixed, no_zeroes) in [
                (true, true, true),
                (false, true, false),
                (false, false, false),
                (false, false, true),
            ] {
                let scratch = Scratch::new();
                let disk = disk();
                let offer = Offer {
                    extended,
                    structured,
                    go,
                    fixed,
                    no_zeroes,
                    ..Offer::default()
                };
                let server = Scripted::start(
                    &scratch.path("s"),
                    offer.clone(),
                    move |peer, request, data| disk.answer(peer, request, data),
                );
                let handle = open_socket(&server.socket).handle();
                assert_eq!(handle.size(), SIZE as u64);
                assert_eq!(read(&*handle, 4096, 4096), pattern(4096, 4096), "{offer:?}");
                handle.write(0, b"x", false).unwrap();
                handle.flush().unwrap();
                let asked = server.options.lock().unwrap()[0].clone();
                if fixed {
                    assert_eq!(asked[0], OptionCode::EXTENDED_HEADERS);
                    assert_eq!(asked.contains(&OptionCode::STRUCTURED_REPLY), !extended);
                }
                assert_eq!(
                    handle.capabilities().extents,
                    fixed && (extended || structured)
                );
                assert_eq!(handle.capabilities().fua, Fua::Native);
            }
        }
    }
}

#[test]
fn handshakes_that_cannot_succeed_are_named() {
    type Change = fn(&mut Offer);
    let cases: [(Change, &str); 5] = [
        (
            |offer| offer.demands_tls = true,
            "the server demands TLS: write nbds:",
        ),
        (
            |offer| offer.flags |= TransmissionFlags::READ_ONLY,
            "--read-only would do",
        ),
        (
            |offer| offer.block_size = Some((3, 4096, 4096)),
            "make no sense",
        ),
        (|offer| offer.size = u64::MAX, "past 8 EiB"),
        (
            |offer| offer.block_size = Some((65536, 65536, 32768)),
            "make no sense",
        ),
    ];
    for (change, named) in cases {
        let scratch = Scratch::new();
        let mut offer = Offer::default();
        change(&mut offer);
        let server = Scripted::start(&scratch.path("s"), offer, |_, _, _| Ok(()));
        let error = open_quick(&server.socket).err().unwrap();
        assert!(error.contains(named) && !error.contains('\n'), "{error}");
        assert!(error.starts_with("nbd+unix:///?socket="), "{error}");
    }
}

#[test]
fn garbage_instead_of_a_handshake_is_an_error() {
    let oldstyle = [
        &b"NBDMAGIC"[..],
        &0x0000_4202_8186_1253_u64.to_be_bytes(),
        &[0; 136],
    ]
    .concat();
    let endless = [&b"NBDMAGICIHAVEOPT\x00\x03"[..], &[0xff; 4096]].concat();
    let wrong = b"SSH-2.0-OpenSSH_9.2 and more".to_vec();
    for (greeting, named) in [
        (oldstyle, "oldstyle"),
        (endless, "not the NBD protocol"),
        (wrong, "not an NBD server"),
        (vec![], "hung up"),
    ] {
        let scratch = Scratch::new();
        let socket = scratch.path("s");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&greeting).unwrap();
            if !greeting.is_empty() {
                let _ = io::copy(&mut stream, &mut io::sink());
            }
        });
        let error = open_quick(&socket).err().unwrap();
        assert!(error.contains(named), "{error}");
        thread.join().unwrap();
    }
}
