//! What a server offers: size, capabilities, block sizes. It must not become less over
//! reconnections.

use larder::{Capabilities, Fua, RequestLimits};
use nbd_wire::{Info, RequestFormat, TransmissionFlags};

/// An export as the handshake found it.
#[derive(Clone, Debug)]
pub(super) struct Export {
    pub(super) size_bytes: u64,
    pub(super) flags: TransmissionFlags,
    pub(super) limits: RequestLimits,
    pub(super) dialect: Dialect,
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) format: RequestFormat,
    /// Replies come in chunks; always so with extended headers.
    pub(super) is_structured: bool,
    /// The server's number for `base:allocation`.
    pub(super) allocation_id: Option<u32>,
}

impl Export {
    /// Puts together what the server told. The error says what of it makes no sense.
    pub(super) fn new(
        size_bytes: u64,
        flags: TransmissionFlags,
        block_size: Option<Info<'_>>,
        dialect: Dialect,
    ) -> Result<Self, String> {
        let limits = match block_size {
            Some(Info::BlockSize {
                minimum,
                preferred,
                maximum,
            }) => limits(minimum, preferred, maximum)?,
            _ => RequestLimits::default(),
        };
        if !size_bytes.is_multiple_of(limits.minimum.into()) {
            return Err(format!(
                "its size of {size_bytes} bytes is not a multiple of its minimum block size of {}",
                limits.minimum
            ));
        }
        if size_bytes > i64::MAX as u64 {
            return Err(format!("its size of {size_bytes} bytes is past 8 EiB"));
        }
        Ok(Self {
            size_bytes,
            flags,
            limits,
            dialect,
        })
    }

    /// What handles can do.
    pub(super) fn capabilities(&self, read_only: bool) -> Capabilities {
        let has = |flag| self.flags.contains(flag);
        let write = !read_only && !has(TransmissionFlags::READ_ONLY);
        let flush = has(TransmissionFlags::SEND_FLUSH);
        let fua = match (has(TransmissionFlags::SEND_FUA), flush) {
            (true, _) => Fua::Native,
            (false, true) => Fua::Emulated,
            (false, false) => Fua::None,
        };
        let zero = write && has(TransmissionFlags::SEND_WRITE_ZEROES);
        Capabilities {
            write,
            flush,
            // Also where the server itself has no flush.
            tells_losses: true,
            fua: if write { fua } else { Fua::None },
            trim: write && has(TransmissionFlags::SEND_TRIM),
            zero,
            fast_zero: zero && has(TransmissionFlags::SEND_FAST_ZERO),
            extents: self.dialect.allocation_id.is_some(),
            // All handles share one session, which is what a flush covers.
            multi_conn: true,
            parallel: true,
        }
    }

    /// Whether several connections may be used as one.
    pub(super) fn is_multi_conn(&self) -> bool {
        self.flags.contains(TransmissionFlags::CAN_MULTI_CONN)
    }

    /// What was promised at first and is not kept by `now`.
    pub(super) fn broken_promise(&self, now: &Self, read_only: bool) -> Option<String> {
        if now.size_bytes != self.size_bytes {
            return Some(format!(
                "its size has changed from {} to {} bytes",
                self.size_bytes, now.size_bytes
            ));
        }
        let (old, new) = (self.limits, now.limits);
        if new.minimum > old.minimum || new.maximum < old.maximum {
            return Some(format!(
                "its block sizes have changed from {} to {} bytes into {} to {} bytes",
                old.minimum, old.maximum, new.minimum, new.maximum
            ));
        }
        let (old, new) = (self.capabilities(read_only), now.capabilities(read_only));
        let lost = [
            ("writes", old.write && !new.write),
            ("flush", old.flush && !new.flush),
            ("FUA", old.fua == Fua::Native && new.fua != Fua::Native),
            ("trim", old.trim && !new.trim),
            ("write zeroes", old.zero && !new.zero),
            ("fast zero", old.fast_zero && !new.fast_zero),
            ("block status", old.extents && !new.extents),
        ];
        lost.into_iter()
            .find(|(_, is_lost)| *is_lost)
            .map(|(what, _)| format!("it had {what} and has not any more"))
    }
}

/// The limits that a server's block sizes come to. A preference that makes no sense is not
/// followed; bounds that make none are an error.
fn limits(minimum: u32, preferred: u32, maximum: u32) -> Result<RequestLimits, String> {
    let default = RequestLimits::DEFAULT_MAXIMUM_BYTES;
    if !minimum.is_power_of_two() || minimum > 1 << 16 || maximum < minimum {
        return Err(format!(
            "its block sizes make no sense: minimum {minimum}, maximum {maximum}; \
             a minimum is a power of two up to 65536, and a maximum is not less"
        ));
    }
    let maximum = maximum.min(default) / minimum * minimum;
    let preferred = if preferred.is_power_of_two() {
        preferred.clamp(minimum, default)
    } else {
        minimum.max(4096)
    };
    Ok(RequestLimits {
        minimum,
        preferred,
        maximum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: TransmissionFlags =
        TransmissionFlags::all().difference(TransmissionFlags::READ_ONLY);

    fn export(size_bytes: u64, flags: TransmissionFlags) -> Export {
        Export::new(size_bytes, flags, None, Dialect::default()).unwrap()
    }

    #[test]
    fn flags_become_capabilities() {
        let all = export(4096, ALL).capabilities(false);
        assert!(all.write && all.flush && all.trim && all.zero && all.fast_zero);
        assert_eq!((all.fua, all.extents), (Fua::Native, false));
        let none = export(4096, TransmissionFlags::HAS_FLAGS).capabilities(false);
        assert!(
            none.tells_losses
                && none.write
                && !none.flush
                && !none.trim
                && !none.zero
                && !none.fast_zero
        );
        assert_eq!(none.fua, Fua::None);
        let flush = export(4096, TransmissionFlags::SEND_FLUSH).capabilities(false);
        assert_eq!(flush.fua, Fua::Emulated);
        for (flags, read_only) in [(ALL, true), (ALL | TransmissionFlags::READ_ONLY, false)] {
            let reading = export(4096, flags).capabilities(read_only);
            assert!(!reading.write && !reading.trim && !reading.zero && !reading.fast_zero);
        }
    }

    #[test]
    fn block_sizes_are_kept_or_refused() {
        let kept = limits(512, 65536, u32::MAX).unwrap();
        assert_eq!(
            (kept.minimum, kept.preferred, kept.maximum),
            (512, 65536, 32 << 20)
        );
        let odd = limits(512, 5000, 100_000).unwrap();
        assert_eq!((odd.preferred, odd.maximum), (4096, 99_840));
        for (minimum, maximum) in [(0, 1), (3, 4096), (512, 511), (1 << 17, 1 << 20)] {
            assert!(
                limits(minimum, 4096, maximum).is_err(),
                "{minimum} {maximum}"
            );
        }
        let block_size = Info::BlockSize {
            minimum: 4096,
            preferred: 4096,
            maximum: 4096,
        };
        assert!(Export::new(5000, ALL, Some(block_size), Dialect::default()).is_err());
        assert!(Export::new(u64::MAX, ALL, None, Dialect::default()).is_err());
    }

    #[test]
    fn what_is_lost_is_named() {
        let old = export(4096, ALL);
        assert_eq!(old.broken_promise(&export(4096, ALL), false), None);
        assert!(old.broken_promise(&export(8192, ALL), false).is_some());
        let smaller = ALL.difference(TransmissionFlags::SEND_TRIM);
        let broken = old.broken_promise(&export(4096, smaller), false);
        assert_eq!(broken.as_deref(), Some("it had trim and has not any more"));
        assert_eq!(old.broken_promise(&export(4096, smaller), true), None);
        assert_eq!(export(4096, smaller).broken_promise(&old, false), None);
    }
}
