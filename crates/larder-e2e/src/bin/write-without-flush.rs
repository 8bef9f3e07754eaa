//! Writes 64 KiB of sevens to the beginning of the disk served at a Unix socket, and leaves without
//! a flush: the command that a captive nbdkit runs in a test.

use std::env;
use std::path::PathBuf;

use larder_e2e::Client;

fn main() -> std::io::Result<()> {
    let socket = PathBuf::from(env::args_os().nth(1).unwrap_or_default());
    let mut client = Client::try_connect_to(&socket, "")?;
    client.write(0, &[7; 64 << 10])?;
    client.disconnect_and_wait();
    Ok(())
}
