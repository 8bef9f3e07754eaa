//! A filter for this crate's tests: steered by its parameters, it does what a filter must not do
//! and logs what came of it. `probe=MODE` or `probe=MODE:DETAIL`; the modes are in [`Mode`].

mod forbidden;
mod results;
mod threads;

use std::ffi::CString;
use std::sync::Arc;

use nbdkit_filter::{
    BlockSize, Config, Connection, Error, ExtentList, Filter, Next, NextDefaultExport, OpenRequest,
    Result, ThreadModel, Value, ZeroOptions, debug_flag, error,
};

use threads::Running;

debug_flag!(probe_debug_loud);

/// What to do.
#[derive(Clone, Debug, Default)]
enum Mode {
    /// Pass everything on.
    #[default]
    Plain,
    /// In `prepare`, call the next layer in every way that nbdkit could abort on.
    Forbidden,
    /// Answer something wrong: see `results.rs`.
    Wrong(String),
    /// Panic in the callback of that name.
    Panic(String),
    /// After the first read, go on reading from another thread until that fails.
    Linger,
    /// Serve reads from helper threads.
    Helpers,
    /// In `finalize`, write from the connection's thread and then from a helper.
    Late,
}

struct Probe {
    mode: Mode,
    model: Option<ThreadModel>,
}

impl Probe {
    fn panic_in(&self, callback: &str) {
        panic_if(&self.mode, callback);
    }
}

fn panic_if(mode: &Mode, callback: &str) {
    if matches!(mode, Mode::Panic(wanted) if wanted == callback) {
        panic!("as told, in {callback}");
    }
}

impl Filter for Probe {
    const NAME: &'static std::ffi::CStr = c"probe";
    const LONGNAME: Option<&'static std::ffi::CStr> = Some(c"the binding's probe");
    const CONFIG_HELP: Option<&'static std::ffi::CStr> = Some(c"probe=MODE  What to try.");
    type Connection = Client;

    fn load() -> Result<Self> {
        if probe_debug_loud.value() < 0 {
            return Err(Error::invalid("probe: not loaded, as told"));
        }
        if probe_debug_loud.is_set() {
            error!("probe: loud={}", probe_debug_loud.value());
        }
        Ok(Self {
            mode: Mode::Plain,
            model: None,
        })
    }

    fn config(&mut self, key: &str, value: Value<'_>) -> Result<Config> {
        match key {
            "probe" => self.mode = mode(value.text()?)?,
            "probe-model" => {
                self.model = Some(match value.text()? {
                    "all-requests" => ThreadModel::SerializeAllRequests,
                    "requests" => ThreadModel::SerializeRequests,
                    other => return Err(Error::invalid(format!("no model {other}"))),
                });
            }
            "probe-size" => error!("probe: size {}", value.size()?),
            "probe-boolean" => error!("probe: boolean {}", value.boolean()?),
            "probe-unsigned" => error!("probe: unsigned {}", value.unsigned("probe-unsigned")?),
            "probe-path" => error!("probe: path {}", value.absolute_path()?.display()),
            "probe-real-path" => error!("probe: real path {}", value.real_path()?.display()),
            _ => return Ok(Config::PassOn),
        }
        self.panic_in("config");
        Ok(Config::Taken)
    }

    fn config_complete(&mut self) -> Result<()> {
        self.panic_in("config_complete");
        Ok(())
    }

    fn thread_model(&mut self) -> Result<ThreadModel> {
        self.panic_in("thread_model");
        Ok(self.model.unwrap_or(ThreadModel::Parallel))
    }

    fn get_ready(&mut self, model: ThreadModel) -> Result<()> {
        self.panic_in("get_ready");
        error!("probe: ready {model:?}");
        Ok(())
    }

    fn after_fork(&self) -> Result<()> {
        self.panic_in("after_fork");
        Ok(())
    }

    fn cleanup(&self) {
        self.panic_in("cleanup");
        error!("probe: cleanup");
    }

    fn unload(&self) {
        self.panic_in("unload");
        error!("probe: unload");
    }

    fn dump_plugin(&self) {
        println!("probe_says=hello");
    }

    fn preconnect(&self, _readonly: bool) -> Result<()> {
        self.panic_in("preconnect");
        Ok(())
    }

    fn default_export(&self, next: &NextDefaultExport<'_>) -> Result<Option<CString>> {
        self.panic_in("default_export");
        Ok(next.default_export())
    }

    fn open(&self, request: &mut OpenRequest<'_>) -> Result<Client> {
        self.panic_in("open");
        error!("probe: open \"{}\"", request.export_name_lossy());
        if let Mode::Wrong(what) = &self.mode {
            results::open(what, request)?;
        }
        Ok(Client {
            mode: self.mode.clone(),
            running: Arc::default(),
        })
    }
}

fn mode(text: &str) -> Result<Mode> {
    let (name, detail) = text.split_once(':').unwrap_or((text, ""));
    Ok(match name {
        "forbidden" => Mode::Forbidden,
        "wrong" => Mode::Wrong(detail.to_owned()),
        "panic" => Mode::Panic(detail.to_owned()),
        "linger" => Mode::Linger,
        "helpers" => Mode::Helpers,
        "late" => Mode::Late,
        _ => return Err(Error::invalid(format!("probe=\"{text}\" is not a mode"))),
    })
}

/// One client.
struct Client {
    mode: Mode,
    running: Arc<Running>,
}

impl Client {
    /// Panics or answers wrong if that is the mode.
    fn at(&self, callback: &str) -> Result<()> {
        panic_if(&self.mode, callback);
        match &self.mode {
            Mode::Wrong(what) => results::fail(what, callback),
            _ => Ok(()),
        }
    }

    fn wrong(&self, what: &str) -> bool {
        matches!(&self.mode, Mode::Wrong(wanted) if wanted == what)
    }
}

impl Connection for Client {
    fn prepare(&mut self, next: &Next, _readonly: bool) -> Result<()> {
        self.at("prepare")?;
        if let Mode::Forbidden = self.mode {
            forbidden::try_all(next);
        }
        Ok(())
    }

    fn finalize(&self, next: &Next) -> Result<()> {
        self.at("finalize")?;
        if let Mode::Late = self.mode {
            threads::write_late(next);
        }
        Ok(())
    }

    fn get_size(&self, next: &Next) -> Result<u64> {
        self.at("get_size")?;
        Ok(if self.wrong("size") {
            u64::MAX
        } else {
            next.size()
        })
    }

    fn block_size(&self, next: &Next) -> Result<Option<BlockSize>> {
        self.at("block_size")?;
        Ok(match self.wrong("block-size") {
            true => Some(BlockSize {
                minimum: 3,
                preferred: 2,
                maximum: 1,
            }),
            false => next.block_size(),
        })
    }

    fn can_write(&self, next: &Next) -> Result<bool> {
        self.at("can_write")?;
        // Writes that the next layer does not take: the requests then fail, one by one.
        Ok(self.wrong("can-write") || next.capabilities().write)
    }

    fn pread(&self, next: &Next, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.at("pread")?;
        match self.mode {
            Mode::Linger => threads::linger(next, &self.running, buffer, offset),
            Mode::Helpers => threads::read_with_helpers(next, buffer, offset),
            _ => next.pread(buffer, offset),
        }
    }

    fn pwrite(&self, next: &Next, data: &[u8], offset: u64, fua: bool) -> Result<()> {
        self.at("pwrite")?;
        next.pwrite(data, offset, fua)
    }

    fn flush(&self, next: &Next) -> Result<()> {
        self.at("flush")?;
        next.flush()
    }

    fn trim(&self, next: &Next, count: u32, offset: u64, fua: bool) -> Result<()> {
        self.at("trim")?;
        next.trim(count, offset, fua)
    }

    fn zero(&self, next: &Next, count: u32, offset: u64, options: ZeroOptions) -> Result<()> {
        self.at("zero")?;
        next.zero(count, offset, options)
    }

    fn extents(
        &self,
        next: &Next,
        count: u32,
        offset: u64,
        one: bool,
        list: &mut ExtentList<'_>,
    ) -> Result<()> {
        self.at("extents")?;
        match &self.mode {
            Mode::Wrong(what) => results::extents(what, next, count, offset, list),
            _ => next.extents_into(count, offset, one, list),
        }
    }

    fn cache(&self, next: &Next, count: u32, offset: u64) -> Result<()> {
        self.at("cache")?;
        next.cache(count, offset)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        panic_if(&self.mode, "close");
    }
}

/// A result as a test reads it in the log.
fn told(result: Result<()>) -> String {
    let Err(error) = result else {
        return "OK".to_owned();
    };
    let names = [
        (libc::EROFS, "EROFS"),
        (libc::EINVAL, "EINVAL"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EIO, "EIO"),
        (libc::EBUSY, "EBUSY"),
        (libc::ESHUTDOWN, "ESHUTDOWN"),
    ];
    match names.iter().find(|(number, _)| *number == error.errno()) {
        Some((_, name)) => (*name).to_owned(),
        None => error.errno().to_string(),
    }
}

nbdkit_filter::register!(Probe);
