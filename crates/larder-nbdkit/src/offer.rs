//! What a client is offered, from the mode and from what the plugin can do.
//!
//! In writeback and unsafe mode a change ends in the cache, so most of what a plugin lacks can be
//! offered all the same. In writethrough mode the plugin answers for itself. On a connection that
//! may not write, nothing that changes is offered, and flush only if the plugin has it.

use larder::{Mode, RequestLimits};
use nbdkit_filter::{BlockSize, Capabilities, Fua, Zero};

/// What a client is offered on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Flush.
    pub(crate) flush: bool,
    /// Force unit access.
    pub(crate) fua: Fua,
    /// Trim.
    pub(crate) trim: bool,
    /// Zero.
    pub(crate) zero: Zero,
    /// Zero that is refused where it would be slow.
    pub(crate) fast_zero: bool,
}

impl Offer {
    /// What `mode` makes of a plugin that can do `plugin`.
    pub(crate) fn new(mode: Mode, plugin: &Capabilities) -> Self {
        if !plugin.write {
            return Self {
                flush: plugin.flush,
                fua: Fua::None,
                trim: false,
                zero: Zero::None,
                fast_zero: false,
            };
        }
        match mode {
            Mode::Writeback => Self {
                // Without a plugin's flush it means written back.
                flush: true,
                fua: Fua::Native,
                trim: plugin.trim,
                zero: Zero::Native,
                fast_zero: true,
            },
            Mode::Unsafe => Self {
                flush: true,
                fua: Fua::Native,
                // It is a zero in the cache.
                trim: true,
                zero: Zero::Native,
                fast_zero: true,
            },
            Mode::Writethrough => Self {
                flush: plugin.flush,
                fua: plugin.fua,
                trim: plugin.trim,
                zero: Zero::Native,
                fast_zero: plugin.fast_zero,
            },
        }
    }
}

/// The block size constraints a client is told, for blocks of `block_bytes` over a plugin that
/// asks for `plugin`.
pub(crate) fn block_size(block_bytes: u64, plugin: Option<BlockSize>) -> BlockSize {
    // A block is at most 2 GiB.
    let block = u32::try_from(block_bytes).unwrap_or(1 << 31);
    match plugin {
        None => BlockSize {
            minimum: 1,
            preferred: block,
            maximum: u32::MAX,
        },
        Some(asked) if block <= asked.maximum => BlockSize {
            preferred: asked.preferred.max(block),
            ..asked
        },
        Some(asked) => asked,
    }
}

/// No request of ours is longer, whatever a plugin would take: it is the longest nbdkit itself
/// makes of a client's, and each takes that much memory.
const LONGEST_BYTES: u32 = 64 << 20;

/// What our requests to a plugin that asks for `plugin` keep to.
pub(crate) fn request_limits(plugin: Option<BlockSize>) -> RequestLimits {
    let Some(asked) = plugin else {
        return RequestLimits::default();
    };
    let maximum = match asked.maximum {
        u32::MAX => RequestLimits::DEFAULT_MAXIMUM_BYTES,
        named => named.min(LONGEST_BYTES),
    };
    RequestLimits {
        minimum: asked.minimum,
        preferred: asked.preferred,
        maximum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Capabilities = Capabilities {
        write: true,
        flush: false,
        rotational: false,
        trim: false,
        zero: Zero::Emulate,
        fast_zero: false,
        extents: false,
        fua: Fua::None,
        multi_conn: false,
        cache: nbdkit_filter::Cache::None,
    };

    #[test]
    fn writeback_offers_flush_and_fua_over_a_plugin_without() {
        let offer = Offer::new(Mode::Writeback, &BARE);
        assert!(offer.flush && offer.fast_zero && !offer.trim);
        assert_eq!((offer.fua, offer.zero), (Fua::Native, Zero::Native));
    }

    #[test]
    fn unsafe_offers_trim_over_a_plugin_without() {
        let offer = Offer::new(Mode::Unsafe, &BARE);
        assert!(offer.flush && offer.fast_zero && offer.trim);
        assert_eq!((offer.fua, offer.zero), (Fua::Native, Zero::Native));
    }

    #[test]
    fn writethrough_offers_what_the_plugin_has() {
        let offer = Offer::new(Mode::Writethrough, &BARE);
        assert!(!offer.flush && !offer.fast_zero && !offer.trim);
        assert_eq!((offer.fua, offer.zero), (Fua::None, Zero::Native));
        let rich = Capabilities {
            flush: true,
            trim: true,
            fast_zero: true,
            fua: Fua::Emulate,
            ..BARE
        };
        let offer = Offer::new(Mode::Writethrough, &rich);
        assert!(offer.flush && offer.fast_zero && offer.trim);
        assert_eq!(offer.fua, Fua::Emulate);
    }

    #[test]
    fn without_write_nothing_that_changes_is_offered() {
        for mode in [Mode::Writeback, Mode::Writethrough, Mode::Unsafe] {
            for flush in [false, true] {
                let plugin = Capabilities {
                    write: false,
                    flush,
                    ..BARE
                };
                let offer = Offer::new(mode, &plugin);
                assert!(!offer.trim && !offer.fast_zero);
                assert_eq!((offer.fua, offer.zero), (Fua::None, Zero::None));
                assert_eq!(offer.flush, flush);
            }
        }
    }

    #[test]
    fn block_size_is_the_original_filters_answer() {
        let sizes = |minimum, preferred, maximum| BlockSize {
            minimum,
            preferred,
            maximum,
        };
        for (block, plugin, told) in [
            (64 << 10, None, sizes(1, 65536, u32::MAX)),
            (1 << 31, None, sizes(1, 1 << 31, u32::MAX)),
            (
                64 << 10,
                Some(sizes(512, 4096, 65536)),
                sizes(512, 65536, 65536),
            ),
            (
                64 << 10,
                Some(sizes(512, 4096, 32768)),
                sizes(512, 4096, 32768),
            ),
            (
                4 << 10,
                Some(sizes(512, 65536, u32::MAX)),
                sizes(512, 65536, u32::MAX),
            ),
            (64 << 10, Some(sizes(1, 512, 4096)), sizes(1, 512, 4096)),
        ] {
            assert_eq!(block_size(block, plugin), told);
        }
    }

    #[test]
    fn our_requests_keep_within_what_the_plugin_asks() {
        let limits = |minimum, preferred, maximum| {
            let limits = request_limits(Some(BlockSize {
                minimum,
                preferred,
                maximum,
            }));
            (limits.minimum, limits.maximum)
        };
        assert_eq!(request_limits(None).maximum, 32 << 20);
        assert_eq!(limits(512, 4096, u32::MAX), (512, 32 << 20));
        assert_eq!(limits(512, 4096, 65536), (512, 65536));
        assert_eq!(limits(1, 4096, 1 << 30), (1, 64 << 20));
    }
}
