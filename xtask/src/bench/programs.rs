//! What is measured, built; and what it is measured with, installed.

use std::path::PathBuf;
use std::process::Command;

use crate::cargo::{build_ceiling, build_filter, build_server};
use crate::failure::Failure;
use crate::run::output;
use crate::tools;

pub(super) struct Programs {
    pub(super) filter: PathBuf,
    pub(super) larder: PathBuf,
    pub(super) ceiling: PathBuf,
    /// Whether Larder knows `cache-readahead`.
    pub(super) has_readahead: bool,
}

impl Programs {
    pub(super) fn prepare() -> Result<Self, Failure> {
        tools::ensure(&[
            tools::NBDKIT,
            tools::FIO,
            tools::QEMU_IMG,
            tools::QEMU_NBD,
            tools::QEMU_STORAGE_DAEMON,
            tools::NBD_SERVER,
            tools::MKE2FS,
            tools::NGINX,
            tools::NGINX_ECHO,
            tools::SETPRIV,
            tools::UNSHARE,
        ])?;
        tools::ensure_python_nbd()?;
        let larder = build_server()?;
        let help = output(Command::new(&larder).args(["serve", "--help"]))?;
        Ok(Self {
            filter: build_filter()?,
            larder,
            ceiling: build_ceiling()?,
            has_readahead: help.contains("--cache-readahead"),
        })
    }
}
