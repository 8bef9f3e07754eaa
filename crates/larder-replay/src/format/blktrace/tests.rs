use super::*;

const READ: u32 = 1;
const QUEUE: u32 = 1 << 4;

/// One event, as a little-endian or a big-endian machine writes it.
#[derive(Clone, Copy)]
struct Written {
    time_ns: u64,
    sector: u64,
    bytes: u32,
    action: u32,
    device: u32,
    payload: u16,
}

const QUEUED_READ: Written = Written {
    time_ns: 0,
    sector: 8,
    bytes: 4096,
    action: (READ | QUEUE) << 16 | QUEUED,
    device: 8 << 20,
    payload: 0,
};

impl Written {
    fn bytes(self, is_big_endian: bool) -> Vec<u8> {
        let fields = [
            (u64::from(MAGIC | VERSION), 4),
            (1, 4),
            (self.time_ns, 8),
            (self.sector, 8),
            (self.bytes.into(), 4),
            (self.action.into(), 4),
            (77, 4),
            (self.device.into(), 4),
            (0, 4),
            (0, 2),
            (self.payload.into(), 2),
        ];
        let mut bytes = Vec::new();
        for (value, length) in fields {
            if is_big_endian {
                bytes.extend(&value.to_be_bytes()[8 - length..]);
            } else {
                bytes.extend(&value.to_le_bytes()[..length]);
            }
        }
        bytes.extend(vec![b'x'; self.payload.into()]);
        bytes
    }
}

fn source(bytes: &[u8]) -> Source {
    Source::copy("trace", bytes, &std::env::temp_dir()).expect("a copy")
}

fn file(events: &[Written]) -> Source {
    let bytes: Vec<u8> = events.iter().flat_map(|one| one.bytes(false)).collect();
    source(&bytes)
}

fn read(sources: &[Source]) -> Result<Vec<Request>, String> {
    let mut requests = Vec::new();
    for_each(sources, &mut Volumes::default(), &mut |one| {
        requests.push(one)
    })
    .map_err(|error| error.to_string())?;
    Ok(requests)
}

fn request(volume: u32, kind: Kind, first: u64, length: u64) -> Request {
    Request {
        volume,
        kind,
        offset: first * 512,
        length,
    }
}

#[test]
fn events_of_either_byte_order_are_requests() {
    for is_big_endian in [false, true] {
        let mut write = QUEUED_READ;
        write.action = (WRITES | QUEUE) << 16 | HAS_CGROUP | QUEUED;
        write.payload = 8;
        write.device = 253 << 20 | 17;
        let mut trim = QUEUED_READ;
        trim.action = (WRITES | DISCARDS | QUEUE) << 16 | QUEUED;
        let events = [QUEUED_READ, write, trim];
        let bytes: Vec<u8> = events
            .iter()
            .flat_map(|one| one.bytes(is_big_endian))
            .collect();
        let expected = vec![
            request(0, Kind::Read, 8, 4096),
            request(1, Kind::Write, 8, 4096),
            request(0, Kind::Trim, 8, 4096),
        ];
        assert_eq!(read(&[source(&bytes)]), Ok(expected));
    }
}

#[test]
fn what_is_no_request_is_passed_over() {
    let mut note = QUEUED_READ;
    note.action = NOTE << 16;
    note.payload = 13;
    let mut command = QUEUED_READ;
    command.action = (COMMAND | QUEUE) << 16 | QUEUED;
    let mut flush = QUEUED_READ;
    flush.bytes = 0;
    let mut issued = QUEUED_READ;
    issued.action = READ << 16 | 7;
    let requests = read(&[file(&[note, command, flush, issued, QUEUED_READ])]);
    assert_eq!(requests, Ok(vec![request(0, Kind::Read, 8, 4096)]));
}

#[test]
fn files_of_several_processors_are_merged_by_time() {
    let at = |time_ns, sector| Written {
        time_ns,
        sector,
        ..QUEUED_READ
    };
    let files = [
        file(&[at(10, 1), at(40, 4)]),
        file(&[]),
        file(&[at(20, 2), at(30, 3), at(50, 5)]),
    ];
    let order: Vec<u64> = read(&files)
        .expect("read")
        .iter()
        .map(|request| request.offset / 512)
        .collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

#[test]
fn completions_count_where_nothing_was_queued() {
    let mut completed = QUEUED_READ;
    completed.action = READ << 16 | COMPLETED;
    completed.sector = 99;
    assert_eq!(
        read(&[file(&[completed])]),
        Ok(vec![request(0, Kind::Read, 99, 4096)])
    );
    assert_eq!(
        read(&[file(&[completed]), file(&[QUEUED_READ])]),
        Ok(vec![request(0, Kind::Read, 8, 4096)])
    );
}

#[test]
fn damage_is_told_with_its_place() {
    let mut bytes = QUEUED_READ.bytes(false);
    bytes.extend(QUEUED_READ.bytes(false));
    let mut damaged = bytes.clone();
    damaged[49] = 0;
    let message = read(&[source(&damaged)]).expect_err("refused");
    assert_eq!(
        message,
        "trace: event at byte 48: begins with 0x65610007: \
         must be an event of blktrace version 7 (magic 0x65617407)"
    );
    bytes.pop();
    let message = read(&[source(&bytes)]).expect_err("refused");
    assert!(message.contains("the file ends within it"), "{message}");
    let mut other_version = QUEUED_READ.bytes(true);
    other_version[3] = 6;
    let message = read(&[source(&other_version)]).expect_err("refused");
    assert!(message.contains("begins with 0x65617406"), "{message}");
    let far = Written {
        sector: u64::MAX / 512,
        ..QUEUED_READ
    };
    let message = read(&[file(&[far])]).expect_err("refused");
    assert!(message.contains("must not be more than 2^63"), "{message}");
}
