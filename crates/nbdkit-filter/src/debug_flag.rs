//! Debug flags: `-D NAME.flag=1` sets an exported C int (nbdkit-plugin(3), "Debug Flags").
//!
//! nbdkit looks for the symbol `NAME_debug_flag` (dots and dashes become underscores) in the
//! filter's library and writes it before `load`.

use std::sync::atomic::{AtomicI32, Ordering};

/// An int that nbdkit sets from the command line.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct DebugFlag(AtomicI32);

impl DebugFlag {
    /// The flag with the value it has if the user says nothing.
    pub const fn new(value: i32) -> Self {
        Self(AtomicI32::new(value))
    }

    /// What the user set.
    pub fn value(&self) -> i32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether it is not 0.
    pub fn is_set(&self) -> bool {
        self.value() != 0
    }
}

/// Defines and exports a debug flag; its name is `FILTERNAME_debug_FLAG`.
///
/// ```no_run
/// nbdkit_filter::debug_flag!(cache_debug_verbose);
///
/// fn chatty() -> bool {
///     cache_debug_verbose.is_set() // nbdkit -D cache.verbose=1
/// }
/// ```
#[macro_export]
macro_rules! debug_flag {
    ($name:ident) => {
        #[doc = "A debug flag that nbdkit's option -D sets."]
        #[allow(non_upper_case_globals, unsafe_code)]
        #[unsafe(no_mangle)]
        pub static $name: $crate::DebugFlag = $crate::DebugFlag::new(0);
    };
}
