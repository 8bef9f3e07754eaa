//! Messages, through nbdkit: where they end up is the user's choice (`--log`).

use std::ffi::CString;

use crate::api;
use crate::error::Error;

/// Logs a message at nbdkit's error level, with nbdkit's prefix.
pub fn error(message: &str) {
    match api::get() {
        // SAFETY: "%s" takes one C string, which lives until the call has returned.
        Some(api) => unsafe { (api.error)(c"%s".as_ptr(), printable(message).as_ptr()) },
        None => eprintln!("error: {message}"),
    }
}

/// Logs a message that is shown only with `nbdkit -v`.
pub fn debug(message: &str) {
    match api::get() {
        // SAFETY: as in `error`.
        Some(api) => unsafe { (api.debug)(c"%s".as_ptr(), printable(message).as_ptr()) },
        None => eprintln!("debug: {message}"),
    }
}

/// Logs what an error has to say, if that has not been done.
pub(crate) fn failure(error_: &Error) {
    if let Some(message) = error_.message() {
        error(message);
    }
}

/// A C string that shows NULs instead of ending at them.
fn printable(message: &str) -> CString {
    CString::new(message.replace('\0', "\\0")).unwrap_or_default()
}

/// Logs at nbdkit's error level, with the arguments of `format!`.
#[macro_export]
macro_rules! error {
    ($($argument:tt)*) => { $crate::log::error(&::std::format!($($argument)*)) };
}

/// Logs a message that is shown only with `nbdkit -v`, with the arguments of `format!`.
#[macro_export]
macro_rules! debug {
    ($($argument:tt)*) => { $crate::log::debug(&::std::format!($($argument)*)) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_nul_does_not_end_a_message() {
        assert_eq!(super::printable("a\0b").as_c_str(), c"a\\0b");
        assert_eq!(super::printable("100%s").as_c_str(), c"100%s");
    }
}
