//! The filter as nbdkit sees it: from the command line to the end.
//!
//! The cache file is made, or the cache directory opened, in `get_ready`: after every parameter is known, before nbdkit
//! changes its user, goes into the background or serves anybody.

use std::ffi::CStr;
use std::sync::Arc;

use larder_frontend::{Defaults, Parameters, Parser, PlainParser, Settings};
use nbdkit_filter::{Config, Error, Filter, OpenRequest, Result, ThreadModel, Value};

use crate::client::Client;
use crate::report;
use crate::running::Running;
use crate::spelling;

/// The filter.
pub(crate) struct Larder {
    parameters: Parameters,
    /// None until `config_complete`.
    settings: Option<Settings>,
    /// None until `get_ready`.
    running: Option<Arc<Running>>,
}

impl Larder {
    fn running(&self) -> Result<&Arc<Running>> {
        self.running
            .as_ref()
            .ok_or_else(|| Error::invalid("cache: not ready"))
    }
}

/// nbdkit's own parsers decide what is accepted, so that users may type what they always could. But
/// they also print a line of their own when they refuse, which names neither the parameter nor
/// what would be right. Texts that are surely wrong are therefore not shown to them, and get our
/// one line.
struct NbdkitParser;

impl Parser for NbdkitParser {
    fn size(&self, text: &str) -> Option<u64> {
        PlainParser
            .size(text)
            .is_some()
            .then(|| nbdkit_filter::parse_size(text).ok())
            .flatten()
    }

    fn unsigned(&self, name: &str, text: &str) -> Option<u32> {
        PlainParser
            .unsigned(name, text)
            .is_some()
            .then(|| nbdkit_filter::parse_unsigned(name, text).ok())
            .flatten()
    }

    fn boolean(&self, text: &str) -> Option<bool> {
        PlainParser
            .boolean(text)
            .is_some()
            .then(|| nbdkit_filter::parse_bool(text).ok())
            .flatten()
    }
}

impl Filter for Larder {
    const NAME: &'static CStr = c"cache";
    const LONGNAME: Option<&'static CStr> = Some(c"Larder block cache");
    const DESCRIPTION: Option<&'static CStr> = Some(
        c"Keeps copies of a slow plugin's blocks in a file. In place of nbdkit's cache filter.",
    );
    const CONFIG_HELP: Option<&'static CStr> = Some(
        c"cache=MODE                   When writes reach the plugin: writeback (default),
                             writethrough or unsafe.
cache-flush=WHERE            Where what is flushed is durable: origin (default), or
                             cache: in cache-dir, and written back later.
cache-writeback=ORDER        With cache-flush=cache, how the plugin gets what was
                             flushed: unordered (default), or ordered: flush by
                             flush, so that it has an older disk, and a whole one.
cache-min-block-size=SIZE    Unit of caching, a power of two from 4K to 2G
                             (default 64K).
cache-max-size=SIZE          Limit on the cache's size on disk, at least 1M
                             (default none).
cache-high-threshold=PCT     Blocks are dropped above this share of the limit
                             (default 95).
cache-low-threshold=PCT      ... until less than this share is used (default 80).
cache-on-read=BOOL|/PATH     Keep what is read, always or while /PATH exists
                             (default false).
cache-exports=WHICH          Volumes: separate by export name (default), shared
                             by all names, or one for each connection.
cache-dirty-age=SECONDS|off  Write back what is older without a flush
                             (default off; 30 with cache-flush=cache).
cache-dirty-share=PCT        Write back the oldest when more of cache-max-size is
                             dirty (default none; 50 with cache-flush=cache,
                             not with cache-writeback=ordered).
cache-readahead=SIZE|off     Fetch at most so much ahead of sequential readers,
                             where reads are kept (default off).
cache-dir=PATH               Keep the cache in this directory, where the next
                             start finds it (default: it ends with nbdkit).
cache-id=TEXT                What the plugin serves, in your own words: without
                             the same words the next start keeps nothing.
TMPDIR                       Environment: where the cache file goes
                             (default /var/tmp) without cache-dir.",
    );

    type Connection = Client;

    fn load() -> Result<Self> {
        let defaults = Defaults {
            // A name and a size are all that a filter sees of what a plugin serves.
            is_blind: true,
            ..Defaults::default()
        };
        Ok(Self {
            parameters: Parameters::new(defaults),
            settings: None,
            running: None,
        })
    }

    fn config(&mut self, key: &str, value: Value<'_>) -> Result<Config> {
        let value = value.path().as_os_str();
        if spelling::is_for_next(key) {
            return Ok(Config::PassOn);
        }
        self.parameters
            .set(key, value, &NbdkitParser)
            .map_err(|error| Error::invalid(error.to_string()))?;
        Ok(Config::Taken)
    }

    fn config_complete(&mut self) -> Result<()> {
        let settings = self
            .parameters
            .finish()
            .map_err(|error| Error::invalid(error.to_string()))?;
        for warning in &settings.warnings {
            report::warning(warning);
        }
        self.settings = Some(settings);
        Ok(())
    }

    fn get_ready(&mut self, model: ThreadModel) -> Result<()> {
        let settings = self
            .settings
            .take()
            .ok_or_else(|| Error::invalid("cache: the parameters are not complete"))?;
        let background = model == ThreadModel::Parallel;
        self.running = Some(Arc::new(Running::new(settings, background)?));
        Ok(())
    }

    fn after_fork(&self) -> Result<()> {
        self.running()?.start()
    }

    fn cleanup(&self) {
        if let Some(running) = &self.running {
            running.end();
        }
    }

    fn dump_plugin(&self) {
        println!("larder_version={}", env!("CARGO_PKG_VERSION"));
        println!(
            "larder_features=cache-exports,cache-dirty-age,cache-readahead,cache-dir,cache-id,cache-flush,\
             cache-dirty-share,cache-writeback"
        );
    }

    fn open(&self, request: &mut OpenRequest<'_>) -> Result<Client> {
        Ok(Client::new(self.running()?, request.export_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_frontend::spelling::NAMES;

    #[test]
    fn help_and_manual_name_every_parameter() {
        let help = Larder::CONFIG_HELP
            .and_then(|help| help.to_str().ok())
            .unwrap();
        let manual = include_str!("../nbdkit-larder-filter.1").replace("\\-", "-");
        for name in NAMES {
            assert!(
                help.lines()
                    .any(|line| line.starts_with(&format!("{name}="))),
                "{name}"
            );
            assert!(manual.contains(&format!("{name}=")), "{name}");
        }
    }
}
