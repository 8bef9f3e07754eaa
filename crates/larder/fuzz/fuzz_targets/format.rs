//! The bytes of a cache directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| larder::format_properties::format(input));
