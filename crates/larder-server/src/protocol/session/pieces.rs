//! Large requests when the budget of all clients is used up: in pieces within the client's own share.
//!
//! The receiving thread does them itself, one piece after the other, so that nobody waits for what others
//! hold. That is slower, and what the client sends behind such a request waits for it.

use std::io;

use nbd_wire::{CommandFlags, Request};

use super::super::in_flight::Permit;
use super::super::replies::Part;
use super::receiving::Receiving;

/// Bytes of a piece: a multiple of the usual block sizes, so that aligned requests stay aligned.
const PIECE_BYTES: usize = 256 << 10;

impl<'s: 'env, 'env> Receiving<'_, '_, 'env, 's> {
    /// Writes a payload of which the beginning is here, for which there is this permit, and receives and writes the rest.
    /// After an error the rest is only received.
    pub(super) fn write_in_pieces(
        &mut self,
        request: &Request,
        beginning: Vec<u8>,
        permit: Permit<'s>,
    ) -> io::Result<()> {
        let session = self.session;
        let fua = request.flags.contains(CommandFlags::FUA);
        // Checked to be at most 32 MiB.
        let length = request.length_bytes as usize;
        let here = beginning.len();
        let mut written = session.client.write(request.offset, &beginning, fua);
        drop((beginning, permit));
        let mut buffer = vec![0; PIECE_BYTES.min(length)];
        for start in (here..length).step_by(PIECE_BYTES) {
            self.send();
            let piece = &mut buffer[..PIECE_BYTES.min(length - start)];
            self.hand.input.receive_exactly(piece)?;
            let offset = request.offset + start as u64;
            written = written.and_then(|()| session.client.write(offset, piece, fua));
        }
        match written {
            Ok(()) => session.form().done(&mut self.hand.replies, request),
            Err(error) => session.failed(request, &error, &mut self.hand.replies),
        }
        Ok(())
    }

    /// Answers what has not been answered yet of a read.
    pub(super) fn read_in_pieces(
        &mut self,
        request: &Request,
        mut answered: usize,
    ) -> io::Result<()> {
        let session = self.session;
        let form = session.form();
        let length = request.length_bytes as usize;
        if form.part_bytes(request) > PIECE_BYTES {
            return self.read_whole_in_pieces(request);
        }
        while answered < length {
            let part_length = form.part_bytes(request).min(length - answered);
            let part = Part {
                offset: request.offset + answered as u64,
                length: part_length,
                is_last: answered + part_length == length,
            };
            let fill = |space: &mut [u8]| session.client.read(part.offset, space).map(|()| true);
            if let Err(error) = form.read(&mut self.hand.replies, request, part, fill) {
                session.failed(request, &error, &mut self.hand.replies);
                return Ok(());
            }
            answered += part_length;
            self.send();
        }
        Ok(())
    }

    /// Answers a read whose reply may not be in parts. It begins by saying that all is well: an error past its first
    /// piece can only end the connection, as the protocol has it. No other reply may come between its pieces, nor
    /// after the last before such an error: by then nothing else is under way.
    fn read_whole_in_pieces(&mut self, request: &Request) -> io::Result<()> {
        let session = self.session;
        self.send();
        self.serving.in_flight.wait_until_idle();
        let length = request.length_bytes as usize;
        for start in (0..length).step_by(PIECE_BYTES) {
            let piece = PIECE_BYTES.min(length - start);
            let before = self.hand.replies.len();
            if start == 0 {
                session.form().data_header(&mut self.hand.replies, request);
            }
            let space = self.hand.replies.space(piece);
            let read = session.client.read(request.offset + start as u64, space);
            if let Err(error) = read {
                self.hand.replies.truncate(before);
                if start > 0 {
                    session.tell_failure(&error.to_string());
                    return Err(io::Error::other(error.to_string()));
                }
                session.failed(request, &error, &mut self.hand.replies);
                return Ok(());
            }
            self.send();
        }
        Ok(())
    }
}
