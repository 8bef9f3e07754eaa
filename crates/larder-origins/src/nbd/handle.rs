//! One client's view of the export: requests with a deadline, tried again on the next session; and
//! what that client is told of losses.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use larder::{Capabilities, Extent, Fua, Origin, RequestLimits, ZeroOptions};
use nbd_wire::{Command, CommandFlags};

use super::ledger::{Losses, Told};
use super::pool::Pool;
use super::reply::{Answer, Asked, Refusal, give_back};
use super::session::{Call, Ended, Meaning};

#[derive(Debug)]
pub(super) struct Handle {
    pool: Arc<Pool>,
    capabilities: Capabilities,
    told: Arc<Told>,
}

impl Handle {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self {
            pool: Arc::clone(pool),
            capabilities: pool.export().capabilities(pool.read_only()),
            told: Arc::new(pool.ledger().opened()),
        }
    }

    fn check(&self, offset: u64, length_bytes: u64, maximum_bytes: u64) -> io::Result<()> {
        let end = offset.checked_add(length_bytes);
        let fits = end.is_some_and(|end| end <= self.size()) && length_bytes <= maximum_bytes;
        fits.then_some(())
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Sends the call until it is answered or its deadline has passed.
    fn call(&self, call: &Call<'_>, deadline: Instant) -> io::Result<Answer> {
        loop {
            let session = self.pool.session(deadline)?;
            match session.call(call, deadline) {
                Ended::Answered(answer) => return Ok(answer),
                Ended::Refused(refusal) => return Err(self.refused(call.command, &refusal)),
                Ended::Lost => {}
                Ended::TooLate => return Err(self.pool.too_late()),
            }
        }
    }

    fn refused(&self, command: Command, refusal: &Refusal) -> io::Error {
        let error = io::Error::from_raw_os_error(refusal.error.to_errno());
        let words = match refusal.message.as_str() {
            "" => error.to_string(),
            message => format!("{error} ({message})"),
        };
        self.pool.report().refused(name(command), &words);
        error
    }

    /// A change, durable on return with `fua`.
    fn change(&self, call: Call<'_>, fua: bool) -> io::Result<()> {
        let deadline = self.pool.deadline();
        let before = self.pool.ledger().losses();
        let is_native = fua && self.capabilities.fua == Fua::Native;
        let call = Call {
            flags: call.flags
                | if is_native {
                    CommandFlags::FUA
                } else {
                    CommandFlags::empty()
                },
            meaning: if is_native {
                Meaning::Durable
            } else {
                Meaning::Change
            },
            ..call
        };
        self.call(&call, deadline)?;
        if fua && !is_native {
            self.flush_until(deadline, before)?;
        }
        Ok(())
    }

    /// Flushes, unless a loss has to be told of that the handle does not know or that happened
    /// since there were `before` losses.
    fn flush_until(&self, deadline: Instant, before: Losses) -> io::Result<()> {
        if !self.capabilities.flush {
            return self.settle(before);
        }
        let call = Call {
            command: Command::FLUSH,
            flags: CommandFlags::empty(),
            offset: 0,
            length_bytes: 0,
            payload: &[],
            asked: Asked::Outcome,
            meaning: Meaning::Flush(&self.told),
        };
        loop {
            self.check_losses(before)?;
            let session = self.pool.session(deadline)?;
            match session.call(&call, deadline) {
                // A loss before this session began, or another's refused flush, is not made good
                // by this one.
                Ended::Answered(_) => return self.check_losses(before),
                Ended::Refused(refusal) => return Err(self.refused(call.command, &refusal)),
                Ended::Lost => {}
                Ended::TooLate => return Err(self.pool.too_late()),
            }
        }
    }

    /// A flush where the server has none: what it has acknowledged so far is as durable there as it ever gets.
    fn settle(&self, before: Losses) -> io::Result<()> {
        self.check_losses(before)?;
        self.pool.ledger().settle(before);
        // What was lost before it could count as durable.
        self.check_losses(before)
    }

    fn check_losses(&self, before: Losses) -> io::Result<()> {
        if !self.pool.ledger().is_owed(&self.told, before) {
            return Ok(());
        }
        let message = format!(
            "{}: the connection was lost with unflushed writes, or a flush failed",
            self.pool.report().address()
        );
        Err(io::Error::new(io::ErrorKind::ConnectionReset, message))
    }
}

impl Origin for Handle {
    fn size(&self) -> u64 {
        self.pool.export().size_bytes
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn limits(&self) -> RequestLimits {
        self.pool.export().limits
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let length_bytes = buffer.len() as u64;
        self.check(offset, length_bytes, self.limits().maximum.into())?;
        if buffer.is_empty() {
            return Ok(());
        }
        let call = Call {
            command: Command::READ,
            flags: CommandFlags::empty(),
            offset,
            length_bytes,
            payload: &[],
            asked: Asked::Data,
            meaning: Meaning::Plain,
        };
        match self.call(&call, self.pool.deadline())? {
            Answer::Data(data) if data.len() == buffer.len() => {
                buffer.copy_from_slice(&data);
                give_back(data);
                Ok(())
            }
            _ => Err(io::Error::other("a read without its data")),
        }
    }

    fn write(&self, offset: u64, data: &[u8], fua: bool) -> io::Result<()> {
        let length_bytes = data.len() as u64;
        self.check(offset, length_bytes, self.limits().maximum.into())?;
        if data.is_empty() {
            return Ok(());
        }
        let call = change_call(Command::WRITE, offset, length_bytes);
        self.change(
            Call {
                payload: data,
                ..call
            },
            fua,
        )
    }

    fn flush(&self) -> io::Result<()> {
        let before = self.pool.ledger().losses();
        self.flush_until(self.pool.deadline(), before)
    }

    fn zero(&self, offset: u64, length: u64, options: ZeroOptions) -> io::Result<()> {
        self.check(offset, length, u32::MAX.into())?;
        if length == 0 {
            return Ok(());
        }
        let mut flags = CommandFlags::empty();
        flags.set(CommandFlags::NO_HOLE, !options.may_trim);
        flags.set(CommandFlags::FAST_ZERO, options.fast);
        let call = change_call(Command::WRITE_ZEROES, offset, length);
        self.change(Call { flags, ..call }, options.fua)
    }

    fn trim(&self, offset: u64, length: u64, fua: bool) -> io::Result<()> {
        self.check(offset, length, u32::MAX.into())?;
        if length == 0 {
            return Ok(());
        }
        self.change(change_call(Command::TRIM, offset, length), fua)
    }

    fn extents(&self, offset: u64, length: u64, one: bool) -> io::Result<Vec<Extent>> {
        self.check(offset, length, u32::MAX.into())?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let mut flags = CommandFlags::empty();
        flags.set(CommandFlags::REQ_ONE, one);
        let call = Call {
            command: Command::BLOCK_STATUS,
            flags,
            offset,
            length_bytes: length,
            payload: &[],
            asked: Asked::Status,
            meaning: Meaning::Plain,
        };
        match self.call(&call, self.pool.deadline())? {
            Answer::Extents(mut extents) if !extents.is_empty() => {
                if one {
                    extents.truncate(1);
                }
                Ok(extents)
            }
            _ => Err(io::Error::other("a block status without extents")),
        }
    }
}

fn change_call(command: Command, offset: u64, length_bytes: u64) -> Call<'static> {
    Call {
        command,
        flags: CommandFlags::empty(),
        offset,
        length_bytes,
        payload: &[],
        asked: Asked::Outcome,
        meaning: Meaning::Change,
    }
}

fn name(command: Command) -> &'static str {
    match command {
        Command::READ => "read",
        Command::WRITE => "write",
        Command::FLUSH => "flush",
        Command::TRIM => "trim",
        Command::WRITE_ZEROES => "write zeroes",
        Command::BLOCK_STATUS => "block status",
        _ => "request",
    }
}
