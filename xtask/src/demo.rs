//! `cargo xtask demo`: a plugin served through the filter, to be looked at with any NBD client.

use std::process::Command;

use crate::cargo::build_filter;
use crate::failure::Failure;
use crate::port::free_port;
use crate::run::run as run_command;
use crate::tools;

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    tools::ensure(&[tools::NBDKIT])?;
    let filter = build_filter()?;
    let port = free_port()?;
    let uri = format!("nbd://127.0.0.1:{port}");
    let default = ["memory".to_owned(), "1G".to_owned()];
    let plugin = if arguments.is_empty() {
        &default
    } else {
        arguments
    };
    println!(
        "\
{} served at {uri} through Larder, until Ctrl-C. In another terminal:

  nbdinfo {uri}
  nbdcopy {uri} copy.img
  qemu-img convert -O qcow2 {uri} copy.qcow2
  qemu-io -f raw -c 'write -P 7 0 64k' -c 'read -P 7 0 64k' {uri}
",
        plugin.join(" ")
    );
    run_command(
        Command::new("nbdkit")
            .args(["--foreground", "--ipaddr", "127.0.0.1", "--port"])
            .arg(port.to_string())
            .arg(format!("--filter={}", filter.display()))
            .args(plugin),
    )
}
