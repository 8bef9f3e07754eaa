//! Writing back: each export to its origin.

use std::sync::Arc;

use larder::Log;
use larder::drain::{Holding, WriteBack, WrittenBack};
use larder_frontend::report::{one_line, reason};
use larder_origins::Source;

use super::way::Origins;
use super::{Emptying, amount, nothing, print, refused, shown};
use crate::cli::Wrong;
use crate::console::Console;
use crate::settings::ExportSettings;
use crate::tools::bar::with_bar;

/// An export of which there is something to be written back.
struct Target<'o> {
    export: &'o ExportSettings,
    holding: Holding,
    source: Box<dyn Source>,
}

impl Emptying {
    pub(super) fn write_back(&mut self, asked: &Origins) -> Result<bool, Wrong> {
        // All of them are there before anything is written.
        let targets = self.targets(asked)?;
        let mut is_done = true;
        for target in &targets {
            is_done &= self.write_back_one(target, asked)?;
        }
        for other in self.drain.holdings() {
            let is_named = asked.exports.iter().any(|it| it.name == other.name);
            if !is_named && !other.is_empty() {
                let held = amount(other.dirty_bytes, other.zero_bytes);
                let name = shown(&other.name);
                print(&format!(
                    "{name}: {held} is still only here: give its origin, too\n"
                ));
            }
        }
        Ok(is_done)
    }

    fn targets<'o>(&self, asked: &'o Origins) -> Result<Vec<Target<'o>>, Wrong> {
        let log = Arc::new(Console::new(false));
        let options = larder_origins::Options {
            read_only: false,
            timeout: asked.timeout,
            http_headers: Vec::new(),
            tls_ca: asked.tls_ca.clone(),
            log,
        };
        let mut targets = Vec::new();
        for export in &asked.exports {
            let holding = self.named(&export.name)?;
            if holding.is_empty() {
                print(&nothing(&holding));
                continue;
            }
            let source = larder_origins::open(&export.address, &options)
                .map_err(|error| Wrong::refusal(one_line(&error.to_string())))?;
            targets.push(Target {
                export,
                holding,
                source,
            });
        }
        Ok(targets)
    }

    fn write_back_one(&mut self, target: &Target<'_>, asked: &Origins) -> Result<bool, Wrong> {
        let address = &target.export.address;
        let origin = target.source.connect().map_err(|error| {
            let message = format!("{address}: {}", reason(&error));
            Wrong::refusal(one_line(&message))
        })?;
        let how = WriteBack {
            cache_id: asked.cache_id.clone(),
            force: asked.force,
        };
        let Holding { number, name, .. } = &target.holding;
        let done = with_bar("writing back", |tell| {
            self.drain.write_back(*number, &*origin, &how, &mut |at| {
                tell(at.done_bytes, at.total_bytes);
            })
        });
        let done = done.map_err(|error| refused(&self.path, &error))?;
        let WrittenBack {
            written_bytes,
            zeroed_bytes,
            left,
            is_forced,
            assumed,
        } = &done;
        if let Some(what) = assumed {
            self.console.warning(&format!(
                "{}: {what}, which is taken for what the cache itself wrote before it ended without being closed: if anybody else \
                 has changed it since, it is a mixture of both now",
                shown(name)
            ));
        }
        let end = match (is_forced, left.is_empty()) {
            (false, _) => "",
            (true, true) => "; the export is forgotten",
            (true, false) => "; not everything, so all of it is kept",
        };
        let written = amount(*written_bytes, *zeroed_bytes);
        let address = one_line(&address.to_string());
        print(&format!(
            "{}: {written} is on {address}{end}\n",
            shown(name)
        ));
        self.name_left(name, left, "are still only in the cache");
        Ok(left.is_empty())
    }
}
