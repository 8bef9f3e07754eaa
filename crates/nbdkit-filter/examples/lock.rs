//! A filter that makes a disk read-only unless its parameter `unlock=true` is given.

use nbdkit_filter::{Config, Connection, Filter, Next, OpenRequest, Result, Value};

struct Lock(bool);

struct Door(bool);

impl Filter for Lock {
    const NAME: &'static std::ffi::CStr = c"lock";
    const CONFIG_HELP: Option<&'static std::ffi::CStr> = Some(c"unlock=BOOL  Allow writing.");
    type Connection = Door;

    fn load() -> Result<Self> {
        Ok(Self(false))
    }

    fn config(&mut self, key: &str, value: Value<'_>) -> Result<Config> {
        if key != "unlock" {
            return Ok(Config::PassOn);
        }
        self.0 = value.boolean()?;
        Ok(Config::Taken)
    }

    fn open(&self, _request: &mut OpenRequest<'_>) -> Result<Door> {
        Ok(Door(self.0))
    }
}

impl Connection for Door {
    fn can_write(&self, next: &Next) -> Result<bool> {
        Ok(self.0 && next.capabilities().write)
    }
}

nbdkit_filter::register!(Lock);
