//! A cache belongs to its origins: what is another origin, or has changed, is read anew.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use keep::{BOTH, Front, Kept, LIMIT, SIZE, assert_dropped, assert_warm, read_export};
use larder_e2e::{
    Client, Exit, Larder, Random, Scratch, Server, WebServer, assert_same_bytes, random_file,
    sparse_file, wait_until, write_at,
};

/// File systems tell times to the tick of a clock: waits until what is changed beside this file has a later time than
/// all that was changed before.
fn let_a_tick_pass(file: &Path) {
    let probe = file.with_extension("tick");
    let time_of_a_change = || {
        fs::write(&probe, b"x").unwrap();
        fs::metadata(&probe).unwrap().modified().unwrap()
    };
    let before = time_of_a_change();
    wait_until("the clock has ticked", || time_of_a_change() > before);
}

/// What the server reads after `change` was made to its file between two lives.
fn served_after(change: impl FnOnce(&Path) -> Vec<u8>, why: &str) {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    let_a_tick_pass(&kept.image);
    let content = change(&kept.image);
    let exit = kept.live(Front::Server, &[], &content);
    assert_dropped(&exit, why);
    assert_warm(&kept.live(Front::Server, &[], &content));
}

#[test]
fn a_file_that_was_rewritten_is_read_anew() {
    served_after(|image| random_file(image, SIZE, 2), "modified");
}

#[test]
fn a_file_of_which_one_byte_was_changed_is_read_anew() {
    let change = |image: &Path| {
        write_at(image, 777, &[0]);
        fs::read(image).unwrap()
    };
    served_after(change, "modified");
}

#[test]
fn a_file_that_another_one_has_replaced_is_read_anew() {
    let change = |image: &Path| {
        let other = image.with_extension("other");
        let content = random_file(&other, SIZE, 2);
        let times = fs::metadata(image).unwrap().modified().unwrap();
        let file = File::options().write(true).open(&other).unwrap();
        file.set_times(FileTimes::new().set_modified(times))
            .unwrap();
        fs::rename(&other, image).unwrap();
        content
    };
    served_after(change, "inode");
}

#[test]
fn a_file_that_was_only_touched_is_read_anew_too() {
    let change = |image: &Path| {
        let file = File::options().write(true).open(image).unwrap();
        let times = FileTimes::new().set_modified(SystemTime::now());
        file.set_times(times).unwrap();
        fs::read(image).unwrap()
    };
    served_after(change, "modified");
}

#[test]
fn a_change_after_a_server_was_killed_that_had_written_is_told_as_one_that_may_be_anybodys() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    let told = |exit: &Exit| {
        let is_told = |line: &&str| line.contains("taken for what the cache itself wrote");
        exit.output.lines().filter(is_told).count()
    };
    let written = |byte: u8| {
        let server = kept.start(Front::Server, &[]);
        let mut client = Client::connect(server.socket());
        client.write(0, &[byte; 4096]).unwrap();
        client.flush().unwrap();
        (server, client)
    };
    let (server, client) = written(1);
    client.disconnect_and_wait();
    assert_eq!(told(&server.stop()), 0);
    let (server, client) = written(2);
    server.kill();
    drop(client);
    let_a_tick_pass(&kept.image);
    write_at(&kept.image, SIZE / 2, &[9; 512]);
    let lives = [(); 2].map(|()| {
        let server = kept.start(Front::Server, &[]);
        let mut client = Client::connect(server.socket());
        assert_eq!(client.read(0, 4096).unwrap(), [2; 4096]);
        drop(client);
        told(&server.stop())
    });
    assert_eq!(lives, [1, 0]);
}

#[test]
fn another_size_is_another_disk() {
    for front in BOTH {
        for size in [SIZE - 4096, SIZE + 4096, SIZE / 2] {
            let kept = Kept::new();
            kept.warm(front, &["cache-id=golden"]);
            let content = random_file(&kept.image, size, 2);
            let exit = kept.live(front, &["cache-id=golden"], &content);
            let warned = exit.output.contains(&SIZE.to_string());
            assert!(
                warned && exit.output.contains(&size.to_string()),
                "{}",
                exit.output
            );
        }
    }
}

#[test]
fn a_cache_id_is_the_operators_word_and_another_one_is_another_disk() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &["cache-id=monday"]);
        assert_warm(&kept.live(front, &["cache-id=monday"], &kept.content));
        let content = random_file(&kept.image, SIZE, 2);
        let exit = kept.live(front, &["cache-id=tuesday"], &content);
        assert_dropped(&exit, "tuesday");
        assert!(exit.output.contains("monday"), "{}", exit.output);
        assert_warm(&kept.live(front, &["cache-id=tuesday"], &content));
        let exit = kept.live(front, &["cache-id=monday"], &content);
        assert_dropped(&exit, "monday");
    }
}

#[test]
fn a_cache_id_does_not_make_a_changed_file_the_same_where_the_server_sees_it() {
    let kept = Kept::new();
    kept.warm(Front::Server, &["cache-id=golden"]);
    let_a_tick_pass(&kept.image);
    let content = random_file(&kept.image, SIZE, 2);
    let exit = kept.live(Front::Server, &["cache-id=golden"], &content);
    assert_dropped(&exit, "modified");
}

fn serve_two(scratch: &Scratch, images: &[std::path::PathBuf; 2]) -> Server {
    Larder::serve(scratch)
        .origin(format!("a={}", images[0].display()))
        .origin(format!("b={}", images[1].display()))
        .parameters([
            LIMIT,
            &format!("cache-dir={}", scratch.path("cache").display()),
        ])
        .verbose()
        .start()
}

#[test]
fn of_two_exports_only_the_one_that_changed_is_read_anew() {
    let scratch = Scratch::new();
    let images = ["a", "b"].map(|name| scratch.path(name));
    let mut contents = [1, 2].map(|seed| random_file(&images[seed - 1], SIZE, seed as u64));
    let check = |server: &Server, contents: &[Vec<u8>; 2]| {
        for (name, content) in ["a", "b"].iter().zip(contents) {
            let bytes = read_export(server.socket(), name);
            assert_same_bytes(name, &bytes, content);
        }
    };
    let server = serve_two(&scratch, &images);
    check(&server, &contents);
    server.stop();
    let_a_tick_pass(&images[1]);
    contents[1] = random_file(&images[1], SIZE, 3);
    let server = serve_two(&scratch, &images);
    check(&server, &contents);
    let exit = server.stop();
    let asked = exit.stats().value("origin_read_bytes");
    assert!((SIZE..2 * SIZE).contains(&asked), "{asked}");
    // Names that have changed places are not the disks that they were.
    let swapped = [images[1].clone(), images[0].clone()];
    let server = serve_two(&scratch, &swapped);
    contents.swap(0, 1);
    check(&server, &contents);
    server.stop();
}

#[test]
fn an_export_that_is_left_out_for_once_is_found_afterwards() {
    let scratch = Scratch::new();
    let images = ["a", "b"].map(|name| scratch.path(name));
    let contents = [1, 2].map(|seed| random_file(&images[seed - 1], SIZE, seed as u64));
    let check = |server: &Server, name: &str| {
        let content = &contents[usize::from(name == "b")];
        assert_same_bytes(name, &read_export(server.socket(), name), content);
    };
    let server = serve_two(&scratch, &images);
    check(&server, "a");
    check(&server, "b");
    server.stop();
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let server = Larder::serve(&scratch)
        .origin(format!("a={}", images[0].display()))
        .parameters([LIMIT, &directory])
        .verbose()
        .start();
    check(&server, "a");
    assert_warm(&server.stop());
    let server = serve_two(&scratch, &images);
    check(&server, "b");
    assert_warm(&server.stop());
}

fn set_modified(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).unwrap();
    let times = FileTimes::new().set_modified(time);
    file.set_times(times).unwrap();
}

fn serve_web(kept: &Kept, uri: &str) -> Server {
    Larder::serve(&kept.scratch)
        .origin(uri)
        .parameters([LIMIT, &kept.parameter()])
        .verbose()
        .start()
}

#[test]
fn an_object_of_a_web_server_is_the_same_as_long_as_its_etag_is() {
    let kept = Kept::new();
    let files = kept.scratch.make_dir("files");
    let image = files.join("image");
    let content = random_file(&image, SIZE, 5);
    // nginx makes its ETag of size and time, and times have seconds.
    set_modified(&image, SystemTime::UNIX_EPOCH);
    let web = WebServer::on_port(&kept.scratch, &files, "");
    let live = |content: &[u8]| {
        let server = serve_web(&kept, &web.uri("image"));
        kept.check(&server, content);
        server.stop()
    };
    live(&content);
    assert_warm(&live(&content));
    let changed = random_file(&image, SIZE, 6);
    set_modified(&image, SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    assert_dropped(&live(&changed), "ETag");
    assert_warm(&live(&changed));
}

#[test]
fn an_object_that_was_too_new_is_read_anew_whatever_the_cache_id() {
    let kept = Kept::new();
    let files = kept.scratch.make_dir("files");
    let image = files.join("image");
    let web = WebServer::on_port(&kept.scratch, &files, "");
    // Its second is not over while this test runs.
    let later = SystemTime::now() + Duration::from_secs(3600);
    let live = |seed| {
        let content = random_file(&image, SIZE, seed);
        set_modified(&image, later);
        let server = Larder::serve(&kept.scratch)
            .origin(web.uri("image"))
            .parameters([LIMIT, &kept.parameter(), "cache-id=golden"])
            .verbose()
            .start();
        kept.check(&server, &content);
        server.stop()
    };
    live(5);
    assert_dropped(&live(6), "too new when it was opened");
}

#[test]
fn another_object_of_a_web_server_is_not_taken_for_the_first_though_its_etag_is_the_same() {
    let kept = Kept::new();
    let files = kept.scratch.make_dir("files");
    let contents = [("one", 5), ("two", 6)].map(|(name, seed)| {
        let content = random_file(&files.join(name), SIZE, seed);
        set_modified(&files.join(name), SystemTime::UNIX_EPOCH);
        content
    });
    let web = WebServer::on_port(&kept.scratch, &files, "");
    for (name, content) in ["one", "two"].iter().zip(&contents) {
        let server = serve_web(&kept, &web.uri(name));
        kept.check(&server, content);
        server.stop();
    }
}

#[test]
fn memory_is_not_kept() {
    let kept = Kept::new();
    let told = Larder::serve(&kept.scratch)
        .origin("memory:1M")
        .parameter(&kept.parameter())
        .refusal();
    let text = kept.directory.display().to_string();
    assert!(told.starts_with(&format!("cache-dir={text}: ")), "{told}");
    assert!(told.contains("memory:1048576"), "{told}");
    assert!(!kept.directory.exists());
}

#[test]
fn a_device_needs_a_cache_id() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    // Whole sectors.
    let size = SIZE / 512 * 512;
    sparse_file(&image, size);
    let content = Random::new(7).bytes(size);
    write_at(&image, 0, &content);
    let device = larder_e2e::LoopDevice::attach(&image);
    let directory = format!("cache-dir={}", scratch.path("cache").display());
    let live = |more: &[&str]| {
        let server = Larder::serve(&scratch)
            .file(&device.device)
            .parameters([LIMIT, &directory])
            .parameters(more)
            .verbose()
            .start();
        assert_same_bytes("the device", &keep::read_all(&server), &content);
        server.stop()
    };
    live(&[]);
    let exit = live(&[]);
    assert!(exit.stats().value("origin_read_bytes") >= size);
    live(&["cache-id=golden"]);
    assert_warm(&live(&["cache-id=golden"]));
    device.detach();
}
