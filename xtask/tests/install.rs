//! `cargo xtask install` and `uninstall`, in a mount namespace where nbdkit's directories and
//! dpkg's database are copies. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of the test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/tmp/larder-install-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text_of(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = text_of(&output);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// What nbdkit says of its own directories.
fn config(key: &str) -> PathBuf {
    let config = succeed(Command::new("nbdkit").arg("--dump-config"));
    let value = |line: &str| Some(line.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    config.lines().find_map(value).unwrap().into()
}

/// A view of the system in which everything that `install` changes is a copy.
struct CopiedSystem {
    holder: Child,
    filters: PathBuf,
    man1: PathBuf,
    _scratch: Scratch,
}

impl CopiedSystem {
    fn new() -> Self {
        let scratch = Scratch::new();
        let filters = config("filterdir");
        let man1 = config("mandir").join("man1");
        let script = "
            copies=$1; shift
            for directory; do
                copy=$copies/$(echo $directory | tr / _)
                cp -a $directory $copy
                mount --bind $copy $directory
            done
            echo ready
            exec sleep infinity";
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-ec", script])
            .args([Path::new("sh"), &scratch.0, &filters, &man1])
            .arg("/var/lib/dpkg")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let stdout = holder.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut ready)
            .expect("a private mount namespace, which needs root");
        Self {
            holder,
            filters,
            man1,
            _scratch: scratch,
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--mount").arg("--target");
        command.arg(self.holder.id().to_string()).arg("--");
        command.arg(program);
        command
    }

    fn xtask(&self, arguments: &[&str]) -> String {
        succeed(self.command(env!("CARGO_BIN_EXE_xtask")).args(arguments))
    }

    /// All files of the directories that installing touches, with their content's checksums and
    /// their modes, and dpkg's diversions.
    fn state(&self) -> String {
        let script = "cd $1; ls -l | cut -c1-10; cksum *; cd $2; cksum nbdkit*; dpkg-divert --list";
        let mut sh = self.command("sh");
        sh.args(["-c", script, "sh"]);
        succeed(sh.arg(&self.filters).arg(&self.man1))
    }

    fn help_of(&self, filter: &str) -> String {
        let mut nbdkit = self.command("nbdkit");
        let filter = format!("--filter={filter}");
        succeed(nbdkit.args(["--help", &filter, "memory"]))
    }
}

impl Drop for CopiedSystem {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn install_makes_nbdkit_and_man_find_it_and_uninstall_undoes_it() {
    let system = CopiedSystem::new();
    let before = system.state();
    system.xtask(&["install"]);
    assert!(system.help_of("larder").contains("cache-exports="));
    assert!(!system.help_of("cache").contains("cache-exports="));
    let mut man = system.command("man");
    succeed(man.args(["--where", "1", "nbdkit-larder-filter"]));
    let installed = system.state();
    system.xtask(&["install"]);
    assert_eq!(system.state(), installed, "a second time changes nothing");
    system.xtask(&["uninstall"]);
    assert_eq!(system.state(), before);
}

#[test]
fn install_as_cache_takes_the_originals_place_and_uninstall_restores_it() {
    let system = CopiedSystem::new();
    let before = system.state();
    system.xtask(&["install", "--as", "cache"]);
    assert!(system.help_of("cache").contains("cache-exports="));
    let owner = succeed(
        system
            .command("dpkg-divert")
            .arg("--truename")
            .arg(system.filters.join("nbdkit-cache-filter.so")),
    );
    assert!(owner.contains("before-larder"), "dpkg knows: {owner}");
    let installed = system.state();
    system.xtask(&["install", "--as", "cache"]);
    assert_eq!(system.state(), installed, "a second time changes nothing");
    system.xtask(&["uninstall"]);
    assert_eq!(system.state(), before);
    let said = system.xtask(&["uninstall"]);
    assert!(said.contains("nothing was installed"), "{said}");
    assert_eq!(system.state(), before);
}

#[test]
fn both_ways_of_installing_can_be_undone_at_once() {
    let system = CopiedSystem::new();
    let before = system.state();
    system.xtask(&["install", "--as", "cache"]);
    system.xtask(&["install"]);
    assert!(system.help_of("cache").contains("cache-exports="));
    system.xtask(&["uninstall"]);
    assert_eq!(system.state(), before);
}

/// Directories that dpkg knows nothing of, with a file in the place of nbdkit's cache filter.
struct Directories {
    scratch: Scratch,
    cache: PathBuf,
}

impl Directories {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir(scratch.0.join("filters")).unwrap();
        fs::create_dir_all(scratch.0.join("man/man1")).unwrap();
        let cache = scratch.0.join("filters/nbdkit-cache-filter.so");
        fs::write(&cache, "the original").unwrap();
        Self { scratch, cache }
    }

    fn xtask(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .arg("--filterdir")
            .arg(self.scratch.0.join("filters"))
            .arg("--mandir")
            .arg(self.scratch.0.join("man"))
            .output()
            .unwrap()
    }

    fn files(&self) -> Vec<String> {
        let find =
            |directory: &str| succeed(Command::new("find").args([&self.scratch.0.join(directory)]));
        let mut files: Vec<String> = ["filters", "man"]
            .iter()
            .flat_map(|d| find(d).lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        files.sort();
        files
    }
}

#[test]
fn files_that_dpkg_does_not_own_are_restored_too() {
    let directories = Directories::new();
    let before = directories.files();
    let output = directories.xtask(&["install", "--as", "cache"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_ne!(fs::read(&directories.cache).unwrap(), b"the original");
    assert_ne!(directories.files(), before);
    let output = directories.xtask(&["uninstall"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(fs::read(&directories.cache).unwrap(), b"the original");
    assert_eq!(directories.files(), before);
}

#[test]
fn an_interrupted_installation_can_be_undone_and_finished() {
    let directories = Directories::new();
    let before = directories.files();
    // As it is between giving the original its second name and taking the first.
    let second_name = directories
        .scratch
        .0
        .join("filters/nbdkit-cache-filter.so.before-larder");
    fs::hard_link(&directories.cache, &second_name).unwrap();
    let output = directories.xtask(&["uninstall"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(fs::read(&directories.cache).unwrap(), b"the original");
    assert_eq!(directories.files(), before);

    fs::hard_link(&directories.cache, &second_name).unwrap();
    let output = directories.xtask(&["install", "--as", "cache"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(fs::read(&second_name).unwrap(), b"the original");
    let output = directories.xtask(&["uninstall"]);
    assert!(output.status.success(), "{}", text_of(&output));
    assert_eq!(fs::read(&directories.cache).unwrap(), b"the original");
    assert_eq!(directories.files(), before);
}

#[test]
fn without_an_original_there_is_no_place_to_take() {
    let directories = Directories::new();
    fs::remove_file(&directories.cache).unwrap();
    let output = directories.xtask(&["install", "--as", "cache"]);
    assert!(!output.status.success());
    let said = text_of(&output);
    assert!(
        said.contains("nbdkit-cache-filter.so is not there"),
        "{said}"
    );
    assert!(!directories.cache.exists());
}

#[test]
fn wrong_options_are_refused_before_anything_is_done() {
    for (arguments, word) in [
        (&["install", "--as", "cow"][..], "cow"),
        (&["install", "--sa", "cache"], "--sa"),
        (&["install", "--as"], "--as"),
        (&["uninstall", "now"], "now"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(arguments)
            .output()
            .unwrap();
        let said = text_of(&output);
        assert!(!output.status.success(), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
    }
}

#[test]
fn a_missing_directory_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(["install", "--filterdir", "/nowhere/at/all"])
        .output()
        .unwrap();
    let said = text_of(&output);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("/nowhere/at/all"), "{said}");
}
