//! Other servers, as their own manuals have them set up for speed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::directory::Directory;
use super::process;
use crate::failure::Failure;
use crate::run::output;
use crate::tools;

/// nbd-server has no export without a name.
pub(super) const NBD_SERVER_EXPORT: &str = "disk";
const CONNECTIONS: &str = "16";

/// Leaves nothing behind: nbd-server goes into the background, so it lives in a process namespace that ends with the
/// program that we started.
const IN_NAMESPACE: [&str; 4] = ["--user", "--map-root-user", "--pid", "--fork"];
const NBD_SERVER: &str = "\"$0\" -C \"$1\" && exec sleep infinity";

/// `qemu-nbd` of a qcow2 overlay that keeps what is read.
pub(super) fn qemu_nbd(
    socket: &Path,
    image: &Path,
    directory: &Directory,
) -> Result<Command, Failure> {
    let overlay = overlay(image, directory)?;
    let mut command = process::command("qemu-nbd", directory.path());
    command.args(["--persistent", "--shared", CONNECTIONS, "--socket"]);
    command.arg(socket).arg("--image-opts").arg(format!(
        "driver=copy-on-read,file.driver=qcow2,file.file.driver=file,file.file.filename={},\
         file.backing.driver=raw,file.backing.file.driver=file,file.backing.file.filename={}",
        overlay.display(),
        image.display()
    ));
    Ok(command)
}

/// `qemu-storage-daemon` of the same, with a thread of its own for the export.
pub(super) fn qemu_storage_daemon(
    socket: &Path,
    image: &Path,
    directory: &Directory,
) -> Result<Command, Failure> {
    let overlay = overlay(image, directory)?;
    let (image, overlay) = (image.display(), overlay.display());
    let mut command = process::command("qemu-storage-daemon", directory.path());
    command
        .args(["--object", "iothread,id=thread", "--nbd-server"])
        .arg(format!(
            "addr.type=unix,addr.path={},max-connections={CONNECTIONS}",
            socket.display()
        ));
    for node in [
        format!("driver=file,node-name=image-file,filename={image},aio=io_uring,read-only=on"),
        "driver=raw,node-name=image,file=image-file,read-only=on".to_owned(),
        format!("driver=file,node-name=overlay-file,filename={overlay},aio=io_uring"),
        "driver=qcow2,node-name=overlay,file=overlay-file,backing=image".to_owned(),
        "driver=copy-on-read,node-name=disk,file=overlay".to_owned(),
    ] {
        command.args(["--blockdev", &node]);
    }
    command.args([
        "--export",
        "nbd,id=export,node-name=disk,name=,writable=on,iothread=thread",
    ]);
    Ok(command)
}

/// An empty overlay of the image, on the same file system.
fn overlay(image: &Path, directory: &Directory) -> Result<PathBuf, Failure> {
    let overlay = directory.path().join("overlay.qcow2");
    let _ = fs::remove_file(&overlay);
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    output(command.arg(image).arg(&overlay))?;
    Ok(overlay)
}

/// `nbd-server`, which has a process for each client.
pub(super) fn nbd_server(
    socket: &Path,
    image: &Path,
    directory: &Directory,
) -> Result<Command, Failure> {
    let configuration = directory.path().join("nbd-server.conf");
    let text = format!(
        "[generic]\nunixsock = {}\n[{NBD_SERVER_EXPORT}]\nexportname = {}\nflush = true\nsplice = true\n",
        socket.display(),
        image.display()
    );
    fs::write(&configuration, text).map_err(|e| Failure::at(&configuration, &e))?;
    let mut command = process::command("unshare", directory.path());
    // Root needs no user namespace for it.
    let options = &IN_NAMESPACE[if tools::is_root() { 2 } else { 0 }..];
    command
        .args(options)
        .args(["--kill-child", "sh", "-c", NBD_SERVER]);
    command.arg(tools::NBD_SERVER.0).arg(configuration);
    Ok(command)
}
