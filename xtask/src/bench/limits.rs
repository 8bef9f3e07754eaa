//! What a row runs into, as profiles of it showed: for rows whose bounds are missed, or kept to only just.

/// By the row's number.
pub(super) fn of(number: &str) -> Option<&'static str> {
    Some(match number {
        "1" | "2" => {
            "Luck with nbdkit's threads: the 16 that it has for a connection pass a lock around, and either one of them keeps it \
             for many requests or they wake each other for each. With four connections that is 0.4 or more than 2 switches of threads \
             for a request, 11 or 20 µs of processor time, and it changes from one second to the next, with a filter and \
             without one. 4 to 5 % of nbdkit's time are spent in Larder's filter, most of it waiting for memory: the block's \
             bucket in the table and the shard's lock. Those 0.5 µs also give the threads more time to wake each other: of \
             16 runs of two seconds each with four connections, 11 were of the slow kind, and 5 of 16 with nbdkit's own filter \
             that does nothing."
        }
        "3" => {
            "Three quarters of the time are two copies, out of the cache and into the socket, the second in the kernel; \
             the ceiling makes the same two. What is left to the server is the page faults of a mapping that is touched \
             for the first time, 2 to 3 % of the first pass over the image."
        }
        "5" => {
            "What is left is waking threads: a request through a cache passes two sockets more than one that asks the \
             origin directly. On the machine below, a thread that is woken on the other, idle processor begins 25 µs \
             later."
        }
        "6" => {
            "A new block costs 1 to 2 µs in the engine and the page of the file that the write goes to. As long as the whole \
             block was given its 16 pages at once, that was 17 µs under the file's one lock and the limit of the row; on \
             tmpfs the space is now promised and taken page by page."
        }
        "7" => {
            "nbdkit's memory plugin gets its memory page by page: without any delay and with one thread it takes 52 to 57 ms for \
             64 MiB from a socket on two processors. The delay before the first write is done comes to that. Two thirds of the \
             processor time are nbdkit's: 16,400 page faults for what it keeps and 4,000 to 5,000 for buffers of its threads. \
             More requests under way (24, 32) gain nothing."
        }
        "9 on disk" => {
            "Each write is two to ext4, one to the cache file and one to the origin, and a share of a flush: 2,850 flushes for \
             131,072 writes to a disk of 512 MiB, 46 writes each. The C filter never flushes, and loses nearly all blocks. \
             Bare nbdkit takes 26 µs of the kernel's time for a request, more than a third of it in \
             `ext4_block_write_begin`; the server takes 57, of which fdatasync is an eighth of all its time and waking \
             threads a quarter. One thread for a pass instead of several gains at most a tenth. The disk itself takes 28,000 \
             random writes a second with a flush after every 100."
        }
        "14 index" => {
            "A hit looks at one line of the table, but with so many blocks every one of them is a miss of the processor's \
             cache and of its address translation: of the 0.3 to 0.4 µs that a hit takes longer, nearly all are that one load. A \
             bare loop that loads a random line of 120 MiB and then reads 4 KiB of a file takes 20 % longer than one over few \
             lines, and 14 % with huge pages; so does the engine with its tables in huge pages, but now and then one insertion \
             then waits 4 to 5 ms for the system to clear such a page, which is worse than what it mends. The figure is the \
             engine's alone: a request through a server takes five to ten times as long as such a hit."
        }
        "18" => {
            "A write and its flush are two requests through a socket, one after the other, beside the one fdatasync that is all that fio on \
             a file waits for. Traces of it on the machine below: a thread that is woken on the other processor begins 15 to 50 µs \
             later, and there are three to five of those for each pair; where all of them happen to be quick, a pair takes 170 µs, and \
             else 200 to 270, where fio on a file takes 115 to 150. That is nbdkit's share too: with its file plugin on that very file \
             it gets 0.4 to 0.55 of what fio gets, the filter as much as that, and serve a little more. The frame that the flush makes \
             durable is written while its request is still under way, where it is foreseen; what the disk's own flush takes is not \
             saved by that. What was flushed before and was taken out of the journal costs one sync more when it is overwritten."
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::rows;
    use super::*;

    #[test]
    fn limits_are_told_of_rows_that_there_are() {
        let told = rows::all().filter(|row| of(row.number).is_some());
        assert_eq!(told.count(), 9);
    }
}
