use super::*;

const WINDOWS: Windows = Windows { first: 2, most: 16 };

fn streams(in_background: bool) -> Streams {
    Streams::new(WINDOWS, in_background)
}

fn whole(first: u64, end: u64) -> Asked {
    Asked::new(first, end, true)
}

/// How much longer than one block the reads of those blocks are made.
fn grown(streams: &mut Streams, blocks: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let grow = |block| {
        let growth = streams.missed(whole(block, block + 1), 0);
        if let Some(growth) = growth {
            streams.grew(growth.stream, block + 1 + growth.blocks);
        }
        growth.map_or(0, |growth| growth.blocks)
    };
    blocks.into_iter().map(grow).collect()
}

/// What is due after misses of those blocks.
fn due(streams: &mut Streams, blocks: impl IntoIterator<Item = u64>) -> Option<Range<u64>> {
    for block in blocks {
        assert_eq!(streams.missed(whole(block, block + 1), 0), None);
    }
    streams.take_due().map(|window| window.blocks)
}

/// SplitMix64: seeded, so that a failure replays.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[test]
fn the_third_miss_in_order_makes_a_stream_whose_window_doubles() {
    let mut streams = streams(false);
    assert_eq!(grown(&mut streams, [5, 6, 7]), [0, 0, 2]);
    // The reader comes through each window, and misses at its end.
    assert_eq!(
        grown(&mut streams, [10, 15, 24, 41, 58]),
        [4, 8, 16, 16, 16]
    );
}

#[test]
fn a_stream_that_its_reader_leaves_does_not_grow() {
    let mut streams = streams(false);
    assert_eq!(grown(&mut streams, [5, 6, 7, 10]), [0, 0, 2, 4]);
    assert_eq!(grown(&mut streams, [100, 200, 300, 90, 80, 70]), [0; 6]);
    // Whoever goes on gets what was right then.
    assert_eq!(grown(&mut streams, [15]), [8]);
}

#[test]
fn strides_backward_reads_and_repeated_ones_are_no_streams() {
    let mut streams = streams(false);
    let strides = (0..100).map(|step| 7 * step);
    assert!(
        grown(&mut streams, strides)
            .iter()
            .all(|blocks| *blocks == 0)
    );
    assert!(
        grown(&mut streams, (0..100).rev().map(|step| 10_000 + step))
            .iter()
            .all(|blocks| *blocks == 0)
    );
    assert_eq!(grown(&mut streams, [20_000; 10]), [0; 10]);
}

#[test]
fn reads_within_a_block_do_not_go_on_with_what_ended_before_it() {
    let mut streams = streams(false);
    for block in 0..10 {
        assert_eq!(streams.missed(Asked::new(block, block + 1, false), 0), None);
    }
}

#[test]
fn reads_that_begin_and_end_within_blocks_are_in_order_too() {
    let mut streams = streams(false);
    // Each has the last part of one block and the first of the next.
    let mut growths = (0..4).map(|block| streams.missed(Asked::new(block, block + 2, false), 0));
    assert_eq!(growths.next(), Some(None));
    assert_eq!(growths.next(), Some(None));
    assert!(growths.all(|growth| growth.is_some()));
}

#[test]
fn random_reads_of_a_large_disk_make_no_stream() {
    let mut state = 1;
    for in_background in [false, true] {
        let mut streams = streams(in_background);
        for _ in 0..200_000 {
            let block = random(&mut state) % 100_000;
            assert_eq!(streams.missed(whole(block, block + 1), 0), None);
        }
        assert_eq!((streams.is_due(), streams.markers()), (false, 0));
    }
}

#[test]
fn interleaved_streams_among_random_reads_are_told_apart() {
    let mut streams = streams(false);
    let mut state = 1;
    let mut longest = [0; 4];
    let mut next = [0, 100_000, 200_000, 300_000];
    for _ in 0..40 {
        for stream in 0..4 {
            let blocks = grown(&mut streams, [next[stream]])[0];
            longest[stream] = blocks;
            next[stream] += 1 + blocks;
            grown(&mut streams, [1_000_000 + random(&mut state) % 1_000_000]);
        }
    }
    assert_eq!(longest, [WINDOWS.most; 4]);
}

#[test]
fn neighbours_that_overtake_each_other_are_one_stream() {
    for in_background in [false, true] {
        let mut streams = streams(in_background);
        let mut state = 1;
        // Each read is told twice, up to 16 places later than it should be.
        let mut order: Vec<(u64, u64)> = (0..2000)
            .map(|read| (read / 2 + random(&mut state) % 16, read / 2))
            .collect();
        order.sort_unstable();
        let mut last = 0;
        for (_, block) in order {
            last = streams
                .missed(whole(block, block + 1), 0)
                .map_or(last, |growth| growth.blocks);
        }
        if in_background {
            let due = streams.take_due().unwrap();
            assert!(
                due.blocks.start >= 990 && due.blocks.end <= 1000 + 2 * WINDOWS.most,
                "{due:?}"
            );
        } else {
            assert_eq!(last, WINDOWS.most);
        }
        assert!(streams.streams.len() <= 2, "{:?}", streams.streams);
    }
}

#[test]
fn a_stream_that_lost_its_way_keeps_its_window() {
    let mut streams = streams(false);
    grown(&mut streams, [5, 6, 7, 10, 15, 24]);
    // Somebody else had fetched up to 50.
    assert_eq!(grown(&mut streams, [50, 51, 52]), [0, 0, 16]);
}

#[test]
fn a_window_is_due_when_the_reader_comes_to_the_last_one() {
    let mut streams = streams(true);
    assert_eq!(due(&mut streams, [5, 6]), None);
    assert_eq!(due(&mut streams, [7]), Some(8..10));
    assert_eq!(streams.markers(), 1 << 8);
    streams.reached(8);
    assert_eq!(due(&mut streams, []), Some(10..14));
    for nothing in [8, 9, 11, 74] {
        streams.reached(nothing);
    }
    assert!(!streams.is_due());
    streams.reached(10);
    assert_eq!(due(&mut streams, []), Some(14..22));
    // The reader was faster, and missed what was due.
    assert_eq!(due(&mut streams, [14]), Some(22..38));
    streams.reached(22);
    assert_eq!(due(&mut streams, []), Some(38..54));
}

#[test]
fn never_more_than_two_windows_are_ahead() {
    let mut streams = streams(true);
    let mut most = 0;
    for block in 0..1000 {
        streams.missed(whole(block, block + 1), 0);
        streams.reached(block);
        let Some(Stream { ahead, .. }) = streams.streams.first() else {
            continue;
        };
        most = most.max(ahead - (block + 1));
    }
    assert_eq!(most, 2 * WINDOWS.most - 1);
}

#[test]
fn what_the_reader_has_asked_for_is_not_due_any_more() {
    let mut streams = streams(true);
    for block in 5..9 {
        streams.missed(whole(block, block + 1), 0);
    }
    let due = streams.take_due().unwrap().blocks;
    assert_eq!(due, 9..14);
    streams.reached(10);
    streams.missed(whole(9, 40), 0);
    let due = streams.take_due().unwrap().blocks;
    assert_eq!(due.start, 40);
}

#[test]
fn what_failed_is_no_stream_any_more() {
    let mut streams = streams(true);
    for block in [5, 6, 7, 105, 106, 107] {
        streams.missed(whole(block, block + 1), 0);
    }
    let window = streams.take_due().unwrap();
    assert_eq!(window.blocks, 108..110);
    streams.failed(window.stream);
    streams.reached(108);
    assert_eq!(streams.take_due().unwrap().blocks, 8..10);
    assert_eq!(streams.markers(), 1 << 8);
    assert!(!streams.is_due());
}

#[test]
fn streams_make_way_for_new_ones() {
    let mut streams = streams(false);
    for stream in 0..3 * STREAMS as u64 {
        let first = stream * 10_000;
        assert_eq!(grown(&mut streams, first..first + 3), [0, 0, 2]);
    }
    assert_eq!(streams.streams.len(), STREAMS);
}
