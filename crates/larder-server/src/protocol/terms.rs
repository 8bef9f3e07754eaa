//! What client and server have agreed on, and whether a request keeps to it.

use nbd_wire::{Command, CommandFlags, ErrorCode, MAX_PAYLOAD_BYTES, Request, RequestFormat};

use super::contexts::Context;
use super::replies::ReplyForm;

/// What was agreed in the handshake, besides the export.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// The form of replies, and with it that of requests.
    pub(crate) form: ReplyForm,
    /// What block status answers.
    pub(crate) contexts: Vec<Context>,
}

/// What an export allows on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// The export's size.
    pub(crate) size_bytes: u64,
    /// Changes.
    pub(crate) write: bool,
    /// Flush.
    pub(crate) flush: bool,
    /// Force unit access.
    pub(crate) fua: bool,
    /// Trim.
    pub(crate) trim: bool,
    /// Zero that is refused where it would be slow.
    pub(crate) fast_zero: bool,
}

/// Why a request is not done, and what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For programs.
    pub(crate) error: ErrorCode,
    /// For people.
    pub(crate) reason: &'static str,
}

const fn refusal(error: ErrorCode, reason: &'static str) -> Refusal {
    Refusal { error, reason }
}

/// Checks all that can be known of a request without doing it.
pub(crate) fn check(request: &Request, terms: &Terms, allowed: &Allowed) -> Result<(), Refusal> {
    let known = match request.command {
        Command::READ if terms.form.chunks => CommandFlags::DF,
        Command::READ | Command::CACHE => CommandFlags::empty(),
        Command::WRITE => CommandFlags::PAYLOAD_LEN,
        Command::FLUSH if allowed.flush => CommandFlags::empty(),
        Command::TRIM if allowed.trim || !allowed.write => CommandFlags::empty(),
        Command::WRITE_ZEROES if allowed.fast_zero => {
            CommandFlags::NO_HOLE | CommandFlags::FAST_ZERO
        }
        Command::WRITE_ZEROES => CommandFlags::NO_HOLE,
        Command::BLOCK_STATUS if !terms.contexts.is_empty() => CommandFlags::REQ_ONE,
        Command::BLOCK_STATUS => {
            let reason = "block status without a metadata context agreed on";
            return Err(refusal(ErrorCode::INVALID, reason));
        }
        _ => return Err(refusal(ErrorCode::INVALID, "a command that is not offered")),
    };
    let everywhere = match allowed.fua {
        true => CommandFlags::FUA,
        false => CommandFlags::empty(),
    };
    let is_payload_flag_wrong = terms.form.format == RequestFormat::Compact
        && request.flags.contains(CommandFlags::PAYLOAD_LEN);
    if !(known | everywhere).contains(request.flags) || is_payload_flag_wrong {
        return Err(refusal(ErrorCode::INVALID, "a flag that is not offered"));
    }
    let changes = [Command::WRITE, Command::TRIM, Command::WRITE_ZEROES];
    if changes.contains(&request.command) && !allowed.write {
        return Err(refusal(ErrorCode::PERM, "the export is read-only"));
    }
    if request.command == Command::FLUSH {
        return Ok(());
    }
    check_range(request, allowed.size_bytes)
}

fn check_range(request: &Request, size_bytes: u64) -> Result<(), Refusal> {
    if request.length_bytes == 0 {
        return Err(refusal(ErrorCode::INVALID, "a request for no bytes"));
    }
    let payload = u64::from(MAX_PAYLOAD_BYTES);
    match request.command {
        Command::READ if request.length_bytes > payload => {
            return Err(refusal(ErrorCode::OVERFLOW, "a read of more than 32 MiB"));
        }
        Command::WRITE if request.length_bytes > payload => {
            return Err(refusal(ErrorCode::INVALID, "a write of more than 32 MiB"));
        }
        _ => {}
    }
    let end = request.offset.checked_add(request.length_bytes);
    if end.is_some_and(|end| end <= size_bytes) {
        return Ok(());
    }
    let error = match request.command {
        Command::WRITE | Command::WRITE_ZEROES => ErrorCode::NO_SPACE,
        _ => ErrorCode::INVALID,
    };
    Err(refusal(error, "past the end of the export"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Allowed = Allowed {
        size_bytes: 1 << 30,
        write: true,
        flush: true,
        fua: true,
        trim: true,
        fast_zero: true,
    };

    fn request(command: Command, flags: CommandFlags, offset: u64, length_bytes: u64) -> Request {
        Request {
            flags,
            command,
            cookie: 0,
            offset,
            length_bytes,
        }
    }

    fn terms() -> Terms {
        Terms {
            form: ReplyForm {
                chunks: true,
                format: RequestFormat::Compact,
            },
            contexts: vec![Context::Allocation],
        }
    }

    fn error_of(request: Request, allowed: Allowed) -> Option<ErrorCode> {
        check(&request, &terms(), &allowed)
            .err()
            .map(|refusal| refusal.error)
    }

    #[test]
    fn ranges_end_at_the_exports_end() {
        let none = CommandFlags::empty();
        let end = 1 << 30;
        for (command, past) in [
            (Command::READ, ErrorCode::INVALID),
            (Command::WRITE, ErrorCode::NO_SPACE),
            (Command::WRITE_ZEROES, ErrorCode::NO_SPACE),
            (Command::TRIM, ErrorCode::INVALID),
            (Command::CACHE, ErrorCode::INVALID),
            (Command::BLOCK_STATUS, ErrorCode::INVALID),
        ] {
            let error = |offset, length| error_of(request(command, none, offset, length), ALL);
            assert_eq!(error(end - 512, 512), None, "{command:?}");
            assert_eq!(error(end - 512, 513), Some(past), "{command:?}");
            assert_eq!(error(u64::MAX, 2), Some(past), "{command:?}");
            assert_eq!(error(0, 0), Some(ErrorCode::INVALID), "{command:?}");
        }
        assert_eq!(error_of(request(Command::FLUSH, none, 0, 0), ALL), None);
    }

    #[test]
    fn payloads_end_at_32_mib() {
        let none = CommandFlags::empty();
        let error = |command, length| error_of(request(command, none, 0, length), ALL);
        assert_eq!(error(Command::READ, 32 << 20), None);
        let more = (32 << 20) + 1;
        assert_eq!(error(Command::READ, more), Some(ErrorCode::OVERFLOW));
        assert_eq!(error(Command::WRITE, more), Some(ErrorCode::INVALID));
        assert_eq!(error(Command::WRITE_ZEROES, more), None);
    }

    #[test]
    fn what_is_not_offered_is_refused() {
        let read_only = Allowed {
            write: false,
            fua: false,
            trim: false,
            fast_zero: false,
            ..ALL
        };
        let none = CommandFlags::empty();
        for command in [Command::WRITE, Command::TRIM, Command::WRITE_ZEROES] {
            let error = error_of(request(command, none, 0, 512), read_only);
            assert_eq!(error, Some(ErrorCode::PERM), "{command:?}");
        }
        for (command, flags) in [
            (Command::READ, CommandFlags::FUA),
            (Command::READ, CommandFlags::REQ_ONE),
            (Command::READ, CommandFlags::PAYLOAD_LEN),
            (Command::READ, CommandFlags::from_bits_retain(1 << 12)),
            (Command(99), none),
        ] {
            let error = error_of(request(command, flags, 0, 512), read_only);
            assert_eq!(error, Some(ErrorCode::INVALID), "{command:?} {flags:?}");
        }
        let df = request(Command::READ, CommandFlags::DF, 0, 512);
        assert!(check(&df, &terms(), &ALL).is_ok());
        assert!(check(&df, &Terms::default(), &ALL).is_err());
        let status = request(Command::BLOCK_STATUS, none, 0, 512);
        assert!(check(&status, &Terms::default(), &ALL).is_err());
    }
}
