//! The `larder` command: a caching NBD server, and what helps to choose its size.
//!
//! | file | decides |
//! |---|---|
//! | `cli`, `options`, `config_file` | what may be typed, and where |
//! | `settings` | what it means, checked before anything starts |
//! | `serve` | the order of the start |
//! | `life`, `signals`, `write_back` | when and how the server ends |
//! | `listen`, `stream`, `accept`, `stopping` | sockets: where, how clients come in, how they are let go |
//! | `export`, `exports`, `read_only` | what is served |
//! | `keeper` | who writes back when no client is there |
//! | `storage` | the cache, and how large it may become |
//! | `mapped_file`, `mapped_medium` | the cache file, read without system calls; the same in a cache directory |
//! | `captive` | the command that the server runs for |
//! | `console`, `live_line`, `rate_limit`, `uri` | what is said |
//! | `memory` | that memory goes back to the system |
//! | `pidfile`, `cleanup` | what is left in the file system, and goes at the end |
//! | `protocol` | NBD |
//! | `replay` | what caches would have missed of a trace |
//! | `tools` | what a cache directory holds, whether it is as it was written, and how it is emptied |

use std::env;
use std::process;
use std::sync::Arc;

mod accept;
mod ahead;
mod captive;
mod cleanup;
mod cli;
mod config_file;
mod console;
mod export;
mod exports;
mod keeper;
mod life;
mod listen;
mod live_line;
mod mapped_file;
mod mapped_medium;
mod memory;
mod options;
mod pidfile;
mod protocol;
mod rate_limit;
mod read_only;
mod replay;
mod serve;
mod service_manager;
mod settings;
mod signals;
mod stopping;
mod storage;
mod stream;
mod terminal;
mod tools;
mod traffic;
mod uri;
mod write_back;

#[cfg(test)]
mod testing;

use cli::{Asked, Wrong};
use console::Console;
use options::Options;
use settings::Settings;

fn main() {
    memory::give_back_large_buffers();
    let code = match cli::parse(env::args_os()) {
        Ok(Asked::Told) => 0,
        Ok(Asked::Serve(options)) => serve(*options),
        Ok(Asked::Replay(options)) => match replay::replay(&options) {
            Ok(()) => 0,
            Err(message) => refuse(&message),
        },
        Ok(Asked::Inspect(options)) => match tools::inspect(&options) {
            Ok(()) => 0,
            Err(wrong) => end_with(&wrong),
        },
        Ok(Asked::Scrub(options)) => match tools::scrub(&options) {
            Ok(is_whole) => i32::from(!is_whole),
            Err(wrong) => end_with(&wrong),
        },
        Ok(Asked::Drain(options)) => match tools::drain(&options) {
            Ok(is_done) => i32::from(!is_done),
            Err(wrong) => end_with(&wrong),
        },
        Err(wrong) => end_with(&wrong),
    };
    // Whoever is left, such as a thread that watches for signals, ends with the process.
    process::exit(code);
}

fn serve(options: Options) -> i32 {
    let settings = match settings(options) {
        Ok(settings) => settings,
        Err(message) => return refuse(&message),
    };
    let console = Arc::new(Console::with_terminal(settings.verbose));
    match serve::serve(&settings, &console) {
        Ok(code) => code.into(),
        Err(message) => refuse(&message),
    }
}

fn settings(options: Options) -> Result<Settings, String> {
    match options.config.clone() {
        Some(path) => {
            let file = config_file::read(&path)?;
            Settings::with_file(options, file, &path)
        }
        None => Settings::new(&options),
    }
}

/// One line that says why nothing is done.
fn refuse(message: &str) -> i32 {
    end_with(&Wrong::refusal(message.to_owned()))
}

fn end_with(wrong: &Wrong) -> i32 {
    Console::new(false).say(&wrong.message);
    wrong.status
}
