"""Times single requests that fio cannot: prints the seconds that they took.

client.py flush URI BYTES   writes that many bytes in order, then times a flush
client.py zero URI BYTES    times zeroing that many bytes
"""

import sys
import time

import nbd

WRITE_BYTES = 1 << 20
ZERO_BYTES = 32 << 20


def main(what, uri, size):
    disk = nbd.NBD()
    disk.connect_uri(uri)
    if what == "flush":
        for offset in range(0, size, WRITE_BYTES):
            disk.pwrite(bytes([1 + offset // WRITE_BYTES % 255]) * WRITE_BYTES, offset)
    start = time.monotonic()
    if what == "flush":
        disk.flush()
    else:
        for offset in range(0, size, ZERO_BYTES):
            disk.zero(ZERO_BYTES, offset)
    print(time.monotonic() - start)
    sys.stdout.flush()


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
