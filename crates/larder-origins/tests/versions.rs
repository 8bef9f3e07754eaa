//! What tells the content of an origin from others: what a cache that survives relies on. Needs root, for a loop device.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
mod http_support;

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::SystemTime;

use common::loop_device::LoopDevice;
use common::scratch::Scratch;
use http_support::{ETAG, Opener, Reply, Server, content, part};
use larder::{Origin, OriginVersion};

fn version(origin: &dyn Origin) -> OriginVersion {
    origin.version().unwrap().expect("a version")
}

/// Opens the file as a server that is started now.
fn version_of(path: &Path) -> OriginVersion {
    let source = common::open(path, true).unwrap();
    version(&*source.connect().unwrap())
}

/// File systems tell times to the tick of a clock: waits until what is changed beside this file has a later time than
/// all that was changed before.
fn let_a_tick_pass(file: &Path) {
    let probe = file.with_extension("tick");
    let time_of_a_change = || {
        fs::write(&probe, b"x").unwrap();
        fs::metadata(&probe).unwrap().modified().unwrap()
    };
    let before = time_of_a_change();
    while time_of_a_change() <= before {
        thread::yield_now();
    }
}

fn both() -> [Scratch; 2] {
    [Scratch::on_disk(), Scratch::on_tmpfs()]
}

#[test]
fn a_file_that_nobody_changes_keeps_its_version_under_any_path() {
    let _turn = common::turn();
    for scratch in both() {
        let path = scratch.file("disk", 100_000);
        let before = version_of(&path);
        let_a_tick_pass(&path);
        let source = common::open(&path, false).unwrap();
        let origin = source.connect().unwrap();
        origin.read(0, &mut [0; 4096]).unwrap();
        origin.flush().unwrap();
        assert_eq!(version(&*origin), before);
        drop((origin, source));
        assert_eq!(version_of(&path), before);
        // The inode is the file; that its name has changed is a change of it as well, which costs a cache and no more.
        fs::rename(&path, scratch.path("moved")).unwrap();
        assert_eq!(version_of(&scratch.path("moved")).stable, before.stable);
    }
}

#[test]
fn a_file_is_the_same_though_its_device_has_another_number() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 16 << 20);
    let mounted = scratch.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let path = mounted.join("disk");
    let mount = |device: &LoopDevice| {
        let arguments = [device.path().as_os_str(), mounted.as_os_str()];
        common::run("mount", "mount", &arguments);
    };
    let look_and_unmount = || {
        let found = (fs::metadata(&path).unwrap().dev(), version_of(&path));
        common::run("mount", "umount", &[mounted.as_os_str()]);
        found
    };
    let first = LoopDevice::over(&image, &[]);
    let arguments = [OsStr::new("-q"), first.path().as_os_str()];
    common::run("e2fsprogs", "mkfs.ext4", &arguments);
    mount(&first);
    fs::write(&path, [7; 5000]).unwrap();
    let (first_number, first_version) = look_and_unmount();
    // The first is still there and keeps its number.
    let second = LoopDevice::over(&image, &[]);
    mount(&second);
    let (second_number, second_version) = look_and_unmount();
    assert_ne!(first_number, second_number);
    assert_eq!(first_version, second_version);
}

#[test]
fn every_change_of_a_file_is_another_version_for_handles_that_were_there_too() {
    let _turn = common::turn();
    let write = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.write_all_at(b"x", 7).unwrap();
    };
    let write_and_hide_it = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"y", 7).unwrap();
        file.set_times(FileTimes::new().set_modified(modified))
            .unwrap();
    };
    let touch = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH);
        file.set_times(times).unwrap();
    };
    let grow = |path: &Path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(200_000).unwrap();
    };
    let changes: [&dyn Fn(&Path); 4] = [&write, &write_and_hide_it, &touch, &grow];
    for scratch in both() {
        let path = scratch.file("disk", 100_000);
        let source = common::open(&path, false).unwrap();
        let origin = source.connect().unwrap();
        for (number, change) in changes.iter().enumerate() {
            let before = version(&*origin);
            let_a_tick_pass(&path);
            change(&path);
            let after = version(&*origin);
            assert_eq!(after.stable, before.stable, "change {number}");
            assert_ne!(after.changing, before.changing, "change {number}");
        }
        let before = version(&*origin);
        let_a_tick_pass(&path);
        origin.write(0, b"ours", true).unwrap();
        assert_ne!(version(&*origin).changing, before.changing);
    }
}

#[test]
fn another_file_at_the_same_path_is_another_for_who_opens_it() {
    let _turn = common::turn();
    for scratch in both() {
        let path = scratch.file("disk", 100_000);
        let source = common::open(&path, false).unwrap();
        let before = version(&*source.connect().unwrap());
        scratch.file("new", 100_000);
        fs::rename(scratch.path("new"), &path).unwrap();
        assert_ne!(version_of(&path).stable, before.stable);
        // Who had the first one open still has it.
        assert_eq!(version(&*source.connect().unwrap()).stable, before.stable);
    }
}

#[test]
fn devices_and_memory_have_none() {
    let _turn = common::turn();
    let scratch = Scratch::on_disk();
    let image = scratch.file("image", 1 << 20);
    let device = LoopDevice::over(&image, &[]);
    for origin in [device.path().to_owned(), "memory:1M".into()] {
        let source = common::open(&origin, false).unwrap();
        let version = source.connect().unwrap().version().unwrap();
        assert_eq!(version, None, "{origin:?}");
    }
}

/// The version of an object of a web server that says this of it.
fn version_on_the_web(validator: (&'static str, &'static str)) -> Option<OriginVersion> {
    let bytes = content(10_000);
    let server = Server::start(move |request| Reply::Send(part(request, &bytes, validator)));
    let opener = Opener::new();
    let origin = opener.origin(&server.url("/disk"));
    let before = server.requests();
    let found = origin.version().unwrap();
    assert_eq!(
        server.requests(),
        before,
        "what was pinned need not be asked"
    );
    // The port is any free one, and a part of the address.
    found.map(|version| OriginVersion {
        stable: Vec::new(),
        ..version
    })
}

#[test]
fn objects_of_web_servers_have_one_where_the_server_tells_it() {
    let one = version_on_the_web(ETAG).unwrap();
    assert_eq!(version_on_the_web(ETAG).unwrap(), one);
    let other = version_on_the_web(("ETag", "\"two\"")).unwrap();
    assert_ne!(other.changing, one.changing);
    let at = |date: &'static str| version_on_the_web(("Last-Modified", date));
    let time = at("Sat, 21 Nov 2026 21:14:56 GMT\r\nDate: Sat, 21 Nov 2026 21:14:58 GMT");
    assert!(time.unwrap().changing.ends_with(b" 21:14:56 GMT"));
    let undated = at("Sat, 21 Nov 2026 21:14:56 GMT");
    assert!(undated.unwrap().changing.ends_with(b" 21:14:56 GMT"));
    assert_eq!(version_on_the_web(("ETag", "W/\"weak\"")), None);
    assert_eq!(version_on_the_web(("X-Nothing", "at all")), None);
}

/// What is changed in the same second has the same time, and nginx's ETag with it.
#[test]
fn an_object_that_is_too_new_has_another_one_each_time_it_is_opened() {
    let new = "Sat, 21 Nov 2026 21:14:56 GMT\r\nDate: Sat, 21 Nov 2026 21:14:57 GMT";
    let of_nginx = "Sat, 21 Nov 2026 21:14:56 GMT\r\nDate: Sat, 21 Nov 2026 21:14:57 GMT\r\n\
                    ETag: \"6b0209d0-2710\"";
    for given in [new, of_nginx] {
        let opened = || version_on_the_web(("Last-Modified", given)).expect("a version");
        assert_ne!(opened().changing, opened().changing, "{given}");
    }
}
