//! Cache directories that are not used: one line says why, and nothing in them is changed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod keep;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use keep::{BOTH, Front, Kept, LIMIT, assert_warm, refusal_in};
use larder_e2e::{Larder, MIB, Mount, Nbdkit, Scratch, read_at, write_at};
use twox_hash::XxHash3_64;

#[test]
fn one_directory_is_used_by_one_process_at_a_time_which_is_named() {
    for front in BOTH {
        let kept = Kept::new();
        let server = kept.start(front, &["cache-id=golden"]);
        for other in BOTH {
            // With a disk of its own: nothing but the directory is in the way.
            let mut second = Kept::new();
            second.directory = kept.directory.clone();
            let told = second.refusal(other, &["cache-id=golden"]);
            let pid = format!("pid {}", server.pid());
            let path = kept.directory.display().to_string();
            assert!(told.contains(&pid) && told.contains(&path), "{told}");
        }
        kept.check(&server, &kept.content);
        server.stop();
        // Who was refused has harmed nothing.
        assert_warm(&kept.live(front, &["cache-id=golden"], &kept.content));
    }
}

#[test]
fn a_killed_process_has_no_directory_any_more() {
    for front in BOTH {
        let kept = Kept::new();
        kept.start(front, &[]).kill();
        kept.live(front, &[], &kept.content);
    }
}

#[test]
fn a_directory_of_somebody_elses_is_refused_and_left_alone() {
    for front in BOTH {
        let kept = Kept::new();
        fs::create_dir(&kept.directory).unwrap();
        fs::write(kept.directory.join("letter"), "dear").unwrap();
        fs::write(kept.directory.join("map"), "of the world").unwrap();
        let before = kept.files();
        let told = kept.refusal(front, &[]);
        assert!(told.contains(&*kept.directory.to_string_lossy()), "{told}");
        let mut after = kept.files();
        // That somebody asked may be seen.
        after.remove(&kept.directory.join("lock"));
        assert_eq!(after, before);
    }
}

#[test]
fn an_empty_directory_is_used() {
    for front in BOTH {
        let kept = Kept::new();
        fs::create_dir(&kept.directory).unwrap();
        kept.warm(front, &["cache-id=golden"]);
        assert_warm(&kept.live(front, &["cache-id=golden"], &kept.content));
    }
}

/// Writes another major version into both copies of the superblock; with `sum` the checksums fit afterwards.
fn make_newer(directory: &Path, sum: bool) {
    const PAGE: usize = 4096;
    let path = directory.join("superblock");
    for copy in 0..2 {
        let offset = copy * PAGE as u64;
        let mut page = read_at(&path, offset, PAGE as u64);
        page[8..10].copy_from_slice(&2_u16.to_le_bytes());
        if sum {
            let checksum = XxHash3_64::oneshot_with_seed(0, &page[..PAGE - 8]);
            page[PAGE - 8..].copy_from_slice(&checksum.to_le_bytes());
        }
        write_at(&path, offset, &page);
    }
}

/// Asserts that the directory is refused by both front ends with all of `words`, and nothing in it is changed.
fn assert_left_alone(kept: &Kept, words: &[&str]) {
    let path = kept.directory.display().to_string();
    for front in BOTH {
        let before = kept.files();
        let told = kept.refusal(front, &["cache-id=golden"]);
        for word in words.iter().chain([&&*path]) {
            assert!(told.contains(word), "{word}: {told}");
        }
        let (mut before, mut after) = (before, kept.files());
        for files in [&mut before, &mut after] {
            files.remove(&kept.directory.join("lock"));
        }
        assert!(before == after, "something was changed");
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let kept = Kept::new();
    kept.warm(Front::Server, &["cache-id=golden"]);
    make_newer(&kept.directory, true);
    let newer =
        "superblock is of format 2.0, and this program knows formats up to 1.0: use a newer one";
    assert_left_alone(&kept, &[newer]);
}

#[test]
fn a_damaged_superblock_is_refused_and_left_alone() {
    let kept = Kept::new();
    kept.warm(Front::Server, &["cache-id=golden"]);
    make_newer(&kept.directory, false);
    assert_left_alone(&kept, &["superblock is damaged: its checksum does not fit"]);
}

#[test]
fn one_damaged_copy_of_the_superblock_is_no_loss() {
    for copy in 0..2 {
        let kept = Kept::new();
        kept.warm(Front::Server, &[]);
        write_at(
            &kept.directory.join("superblock"),
            copy * 4096 + 100,
            &[0xa5; 20],
        );
        assert_warm(&kept.live(Front::Server, &[], &kept.content));
    }
}

#[test]
fn a_file_of_another_cache_is_refused_by_name_or_not_used() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    let other = Kept::new();
    other.warm(Front::Server, &[]);
    let names = ["map", "map.copy", "sums", "volumes", "slots", "journal"];
    for name in names {
        let kept = kept.copy();
        fs::copy(other.directory.join(name), kept.directory.join(name)).unwrap();
        assert_left_alone(&kept, &[name]);
    }
}

#[test]
fn a_file_that_was_cut_is_refused_by_name() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    for name in ["map", "sums", "journal"] {
        let kept = kept.copy();
        let file = File::options()
            .write(true)
            .open(kept.directory.join(name))
            .unwrap();
        file.set_len(4096 + 100).unwrap();
        assert_left_alone(&kept, &[name]);
    }
}

#[test]
fn names_in_the_directory_are_not_followed_elsewhere() {
    for front in BOTH {
        let kept = Kept::new();
        fs::create_dir(&kept.directory).unwrap();
        let elsewhere = kept.scratch.path("elsewhere");
        fs::write(&elsewhere, "precious").unwrap();
        for name in ["slots", "lock", "journal", "superblock.new"] {
            symlink(&elsewhere, kept.directory.join(name)).unwrap();
            let _ = kept.refusal(front, &[]);
            assert_eq!(fs::read(&elsewhere).unwrap(), b"precious", "{name}");
            fs::remove_dir_all(&kept.directory).unwrap();
            fs::create_dir(&kept.directory).unwrap();
        }
    }
}

#[test]
fn a_directory_that_cannot_be_is_refused_with_path_and_reason() {
    for front in BOTH {
        let mut kept = Kept::new();
        let file = kept.scratch.path("file");
        fs::write(&file, "content").unwrap();
        let deep = kept.scratch.path("missing").join("cache");
        let mounted = kept.scratch.make_dir("read-only");
        let mount = Mount::read_only_tmpfs(&mounted);
        for (directory, reason) in [
            (file.clone(), "must be a directory"),
            (file.join("below"), "must be a directory"),
            (
                deep,
                "missing is not there, and only the directory itself is made",
            ),
            (mounted.clone(), "Read-only file system"),
            (mounted.join("cache"), "Read-only file system"),
        ] {
            kept.directory = directory;
            let told = kept.refusal(front, &[]);
            let path = kept.directory.display().to_string();
            assert!(told.contains(&path) && told.contains(reason), "{told}");
        }
        mount.unmount();
    }
}

#[test]
fn a_file_system_without_room_for_the_directorys_books_is_refused() {
    for front in BOTH {
        let mut kept = Kept::new();
        let small = kept.scratch.make_dir("small");
        let mount = Mount::tmpfs(&small, MIB);
        kept.directory = small.join("cache");
        let told = kept.refusal(front, &[]);
        assert!(told.contains("No space left on device"), "{told}");
        mount.unmount();
    }
}

/// Asserts that the filter is refused with these parameters, with all of `words`.
fn assert_filter_refused(parameters: &[&str], words: &[&str]) {
    let scratch = Scratch::new();
    let output = Nbdkit::larder(&scratch)
        .plugin("memory", ["16M"])
        .parameters(parameters)
        .try_to_start();
    let told = refusal_in(&output);
    assert_has(&told, parameters, words);
}

/// The same of the server.
fn assert_server_refused(parameters: &[&str], words: &[&str]) {
    let kept = Kept::new();
    let server = Larder::serve(&kept.scratch).file(&kept.image);
    let told = server.parameters(parameters).refusal();
    assert_has(&told, parameters, words);
}

fn assert_has(told: &str, parameters: &[&str], words: &[&str]) {
    for word in words {
        assert!(told.contains(word), "{parameters:?}: {told}");
    }
    assert!(!Path::new("/c").exists());
}

#[test]
fn parameters_that_do_not_go_with_a_directory_are_refused() {
    for (parameters, words) in [
        (&["cache-dir="][..], &["cache-dir=", "directory"][..]),
        (&["cache-dir=~/cache"], &["cache-dir=~/cache", "~"]),
        (&["cache-id=a"], &["cache-id=a", "cache-dir"]),
        (&["cache-dir=/c", "cache-id="], &["cache-id=", "1 to 4096"]),
        (
            &["cache-dir=/c", "cache-exports=connection"],
            &["cache-exports=connection", "cache-dir"],
        ),
        (
            &["cache-dir=/c", "cache-min-block-size=16M"],
            &["cache-min-block-size=16M", "8M", "cache-dir"],
        ),
        (
            &["cache-dir=/c", "cache-max-size=31M"],
            &["cache-max-size=31M", "32M", "cache-dir"],
        ),
        (&["cache-directory=/c"], &["did you mean cache-dir?"]),
        (&["cachedir=/c"], &["did you mean cache-dir?"]),
        (&["cache-uuid=1"], &["did you mean cache-id?"]),
    ] {
        assert_filter_refused(parameters, words);
    }
    for (parameters, words) in [
        (["cache-id=a", LIMIT], ["cache-id=a", "cache-dir"]),
        (
            ["cache-dir=/c", "cache-max-size=31M"],
            ["cache-max-size=31M", "32M"],
        ),
        (
            ["cache-dir=/c", "cache-min-block-size=16M"],
            ["cache-min-block-size=16M", "8M"],
        ),
    ] {
        assert_server_refused(&parameters, &words);
    }
}

#[test]
fn flushes_in_the_cache_without_what_they_need_are_refused() {
    for (parameters, words) in [
        (
            &["cache-flush=cache"][..],
            &["cache-flush=cache", "cache-dir=PATH"][..],
        ),
        (
            &["cache-dir=/c", "cache-flush=cache"],
            &["cache-flush=cache", "cache-id=TEXT"],
        ),
        (
            &["cache-dir=/c", "cache-flush=cache", "cache=writethrough"],
            &["cache-flush=cache", "cache=writeback", "writethrough"],
        ),
        (
            &["cache=unsafe", "cache-flush=cache", "cache-dir=/c"],
            &["cache-flush=cache", "cache=writeback", "unsafe"],
        ),
        (
            &["cache-dir=/c", "cache-flush=cache", "cache-dirty-share=0"],
            &["cache-dirty-share=0", "1 to 100"],
        ),
        (
            &["cache-writeback=ordered"],
            &["cache-writeback=ordered", "cache-flush=cache"],
        ),
        (
            &["cache-writeback=ordered", "cache-flush=cache"],
            &["cache-flush=cache", "cache-dir=PATH"],
        ),
    ] {
        assert_filter_refused(parameters, words);
    }
    for (parameters, words) in [
        (
            ["cache-flush=cache", LIMIT],
            ["cache-flush=cache", "cache-dir=PATH"],
        ),
        (
            ["cache-flush=cache", "cache=unsafe"],
            ["cache-flush=cache", "cache=writeback"],
        ),
        (
            ["cache-dir=/c", "cache-writeback=ordered"],
            ["cache-writeback=ordered", "cache-flush=cache"],
        ),
    ] {
        assert_server_refused(&parameters, &words);
    }
}

#[test]
fn a_server_that_cannot_listen_leaves_the_directory_as_a_clean_end_does() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    // A file that is no socket is not replaced.
    let taken = kept.scratch.path("taken").display().to_string();
    fs::write(&taken, "").unwrap();
    let told = kept
        .server(&[])
        .without_socket()
        .parameter(&format!("listen=unix:{taken}"))
        .refusal();
    assert!(told.contains(&taken), "{told}");
    assert_warm(&kept.live(Front::Server, &[], &kept.content));
}

/// A name in the way of a file is nothing that can be written over.
#[test]
fn a_directory_in_the_place_of_a_file_is_refused() {
    for front in BOTH {
        let kept = Kept::new();
        kept.warm(front, &["cache-id=golden"]);
        let slots = kept.directory.join("slots");
        fs::remove_file(&slots).unwrap();
        fs::create_dir(&slots).unwrap();
        let told = kept.refusal(front, &["cache-id=golden"]);
        assert!(told.contains("slots"), "{told}");
    }
}

#[test]
fn other_bytes_in_the_lock_do_not_matter() {
    let kept = Kept::new();
    kept.warm(Front::Server, &[]);
    let lock = File::create(kept.directory.join("lock")).unwrap();
    lock.write_all_at(&[0xff; 10_000], 0).unwrap();
    assert_warm(&kept.live(Front::Server, &[], &kept.content));
}
