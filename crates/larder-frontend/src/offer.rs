//! What a client is offered, from the mode and from what the origin can do.
//!
//! In writeback and unsafe mode a change ends in the cache, so most of what an origin lacks can be
//! offered all the same. In writethrough mode the origin answers for itself. On a connection that
//! may not write, nothing that changes is offered, and flush only if the origin has it.

use larder::{Capabilities, Fua, Mode};

/// What a client is offered on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Flush.
    pub flush: bool,
    /// Force unit access.
    pub fua: Fua,
    /// Trim.
    pub trim: bool,
    /// Zero.
    pub zero: bool,
    /// Zero that is refused where it would be slow.
    pub fast_zero: bool,
}

impl Offer {
    /// What `mode` makes of an origin that can do `origin`.
    pub fn new(mode: Mode, origin: &Capabilities) -> Self {
        if !origin.write {
            return Self {
                flush: origin.flush,
                fua: Fua::None,
                trim: false,
                zero: false,
                fast_zero: false,
            };
        }
        match mode {
            Mode::Writeback => Self {
                // Without an origin's flush it means written back.
                flush: true,
                fua: Fua::Native,
                trim: origin.trim,
                zero: true,
                fast_zero: true,
            },
            Mode::Unsafe => Self {
                flush: true,
                fua: Fua::Native,
                // It is a zero in the cache.
                trim: true,
                zero: true,
                fast_zero: true,
            },
            Mode::Writethrough => Self {
                // Of what the origin lost, a client hears by its flush.
                flush: origin.takes_flush(),
                fua: origin.fua,
                trim: origin.trim,
                zero: true,
                fast_zero: origin.fast_zero,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Capabilities = Capabilities {
        write: true,
        flush: false,
        tells_losses: false,
        fua: Fua::None,
        trim: false,
        zero: false,
        fast_zero: false,
        extents: false,
        multi_conn: false,
        parallel: true,
    };

    #[test]
    fn writeback_offers_flush_and_fua_over_an_origin_without() {
        let offer = Offer::new(Mode::Writeback, &BARE);
        assert!(offer.flush && offer.zero && offer.fast_zero && !offer.trim);
        assert_eq!(offer.fua, Fua::Native);
    }

    #[test]
    fn unsafe_offers_trim_over_an_origin_without() {
        let offer = Offer::new(Mode::Unsafe, &BARE);
        assert!(offer.flush && offer.zero && offer.fast_zero && offer.trim);
        assert_eq!(offer.fua, Fua::Native);
    }

    #[test]
    fn writethrough_offers_what_the_origin_has() {
        let offer = Offer::new(Mode::Writethrough, &BARE);
        assert!(offer.zero && !offer.flush && !offer.fast_zero && !offer.trim);
        assert_eq!(offer.fua, Fua::None);
        let forgetful = Capabilities {
            tells_losses: true,
            ..BARE
        };
        assert!(Offer::new(Mode::Writethrough, &forgetful).flush);
        let rich = Capabilities {
            flush: true,
            trim: true,
            fast_zero: true,
            fua: Fua::Emulated,
            ..BARE
        };
        let offer = Offer::new(Mode::Writethrough, &rich);
        assert!(offer.flush && offer.zero && offer.fast_zero && offer.trim);
        assert_eq!(offer.fua, Fua::Emulated);
    }

    #[test]
    fn without_write_nothing_that_changes_is_offered() {
        for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
            for flush in [false, true] {
                let origin = Capabilities {
                    write: false,
                    flush,
                    ..BARE
                };
                let offer = Offer::new(mode, &origin);
                assert!(!offer.trim && !offer.zero && !offer.fast_zero);
                assert_eq!(offer.fua, Fua::None);
                assert_eq!(offer.flush, flush);
            }
        }
    }
}
