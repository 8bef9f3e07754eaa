//! How far a tool has come, drawn at the end of standard error if that is a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Told how much is done of how much, in bytes.
pub(super) type Tell<'t> = dyn FnMut(u64, u64) + 't;

/// Does something with a bar that begins with what is being done.
pub(super) fn with_bar<T>(doing: &'static str, work: impl FnOnce(&mut Tell<'_>) -> T) -> T {
    if !io::stderr().is_terminal() {
        return work(&mut |_, _| {});
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let template = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(doing);
    let result = work(&mut |done, total| {
        if bar.length() != Some(total) {
            bar.set_length(total);
        }
        bar.set_position(done);
    });
    bar.finish_and_clear();
    result
}
