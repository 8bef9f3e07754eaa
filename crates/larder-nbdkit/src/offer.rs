//! What a client is offered and what our requests keep to, in nbdkit's words.

use larder::{Mode, RequestLimits};
use larder_frontend::Offer;
use nbdkit_filter::{BlockSize, Capabilities, Fua, Zero};

use crate::origin;

/// What `mode` makes of a plugin that can do `plugin`.
pub(crate) fn offer(mode: Mode, plugin: &Capabilities) -> Offer {
    let capabilities = larder::Capabilities {
        // nbdkit has it for a plugin without a zero of its own as well: to refuse is fast.
        fast_zero: plugin.fast_zero,
        ..origin::capabilities(plugin, false)
    };
    Offer::new(mode, &capabilities)
}

/// How durable requests are offered.
pub(crate) fn fua(offered: larder::Fua) -> Fua {
    match offered {
        larder::Fua::None => Fua::None,
        larder::Fua::Emulated => Fua::Emulate,
        larder::Fua::Native => Fua::Native,
    }
}

/// How zero requests are offered: where they are, as requests of their own.
pub(crate) fn zero(offered: bool) -> Zero {
    if offered { Zero::Native } else { Zero::None }
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

    #[test]
    fn writethrough_offers_what_nbdkit_says_of_the_plugin() {
        for fast_zero in [false, true] {
            let plugin = Capabilities {
                write: true,
                zero: Zero::Emulate,
                fast_zero,
                fua: Fua::Emulate,
                ..Capabilities::default()
            };
            let offer = offer(Mode::Writethrough, &plugin);
            assert_eq!(offer.fast_zero, fast_zero);
            assert_eq!(
                (fua(offer.fua), zero(offer.zero)),
                (Fua::Emulate, Zero::Native)
            );
        }
    }

    #[test]
    fn a_read_only_plugin_is_offered_without_zero_and_fua() {
        let offer = offer(Mode::Writeback, &Capabilities::default());
        assert_eq!((fua(offer.fua), zero(offer.zero)), (Fua::None, Zero::None));
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
