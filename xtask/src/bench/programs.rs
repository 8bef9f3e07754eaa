//! What is measured, built; and what it is measured with, installed.

use std::path::PathBuf;

use crate::cargo::{build_ceiling, build_filter, build_server};
use crate::failure::Failure;
use crate::tools;

pub(super) struct Programs {
    pub(super) filter: PathBuf,
    pub(super) larder: PathBuf,
    pub(super) ceiling: PathBuf,
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
        Ok(Self {
            filter: build_filter()?,
            larder: build_server()?,
            ceiling: build_ceiling()?,
        })
    }
}
