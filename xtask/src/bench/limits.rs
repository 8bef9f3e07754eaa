//! What a row runs into, as profiles of it showed: for rows whose bounds are missed, or kept to only just.

/// By the row's number.
pub(super) fn of(number: &str) -> Option<&'static str> {
    Some(match number {
        "1" | "2" => {
            "Of the 12 µs of processor time that nbdkit takes for a request, 11 are the kernel's, in system calls that \
             bare nbdkit makes as well (socket, page cache, waking threads). The engine adds 0.3 to 0.5 µs, most of it \
             waiting for memory: the block's bucket in the table and its change count. nbdkit's own choice of threads \
             moves the figures of either by more than that from one start to the next."
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
            "64 MiB pass through two page caches and a socket in 60 to 90 ms on two processors: the page faults of nbdkit's own \
             memory plugin and of its threads' buffers are the largest part, then the copies. More requests under way (24, \
             32) and a larger socket buffer gain nothing. The delay of 5 ms itself is waited for a dozen times."
        }
        "14 index" => {
            "A hit looks at one line of the table, but with so many blocks every one of them is a miss of the processor's \
             cache and of its address translation. With huge pages for the heap \
             (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`) half of what is lost comes back."
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
        assert_eq!(told.count(), 7);
    }
}
