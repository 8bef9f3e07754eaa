//! Volumes: each export has its own content, its own size, its own dirty data.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::PathBuf;

use larder_e2e::{
    Client, EvalDisk, KIB, MIB, Nbdkit, Random, Scratch, assert_filled, assert_same_bytes,
    read_file, sparse_file, write_at,
};

/// A directory of files with random content, of these names and sizes.
fn directory_of(scratch: &Scratch, files: &[(&str, u64)]) -> (PathBuf, Vec<Vec<u8>>) {
    let directory = scratch.make_dir("exports");
    let mut contents = Vec::new();
    for (number, (name, size)) in files.iter().enumerate() {
        let content = Random::new(number as u64).bytes(*size);
        sparse_file(&directory.join(name), *size);
        write_at(&directory.join(name), 0, &content);
        contents.push(content);
    }
    (directory, contents)
}

#[test]
fn exports_are_not_mixed_up() {
    let scratch = Scratch::new();
    let (directory, mut contents) = directory_of(&scratch, &[("a", MIB), ("b", MIB)]);
    let server = Nbdkit::larder(&scratch)
        .plugin("file", [format!("dir={}", directory.display())])
        .parameter("cache-on-read=true")
        .start();
    let mut a = Client::connect_to(server.socket(), "a");
    let mut b = Client::connect_to(server.socket(), "b");
    assert_same_bytes("a", &a.read(0, MIB).unwrap(), &contents[0]);
    assert_same_bytes("b", &b.read(0, MIB).unwrap(), &contents[1]);

    a.write(100, &[1; 5000]).unwrap();
    contents[0][100..5100].fill(1);
    assert_same_bytes(
        "b after a write to a",
        &b.read(0, MIB).unwrap(),
        &contents[1],
    );
    b.flush().unwrap();
    a.flush().unwrap();
    assert_same_bytes("file a", &read_file(&directory.join("a")), &contents[0]);
    assert_same_bytes("file b", &read_file(&directory.join("b")), &contents[1]);
}

#[test]
fn a_smaller_export_leaves_the_larger_whole() {
    let scratch = Scratch::new();
    let sizes = [("large", 10 * MIB + 123), ("small", 300 * KIB + 7)];
    let (directory, mut contents) = directory_of(&scratch, &sizes);
    let server = Nbdkit::larder(&scratch)
        .plugin("file", [format!("dir={}", directory.display())])
        .parameter("cache-on-read=true")
        .start();
    let mut clients: Vec<Client> = Vec::new();
    for (number, (name, size)) in sizes.iter().enumerate() {
        let mut client = Client::connect_to(server.socket(), name);
        assert_eq!(client.export().size, *size, "{name}");
        client.write(size - 1000, &[7; 1000]).unwrap();
        let at = contents[number].len() - 1000;
        contents[number][at..].fill(7);
        clients.push(client);
    }
    for (number, (name, size)) in sizes.iter().enumerate() {
        let got = clients[number].read(0, *size).unwrap();
        assert_same_bytes(name, &got, &contents[number]);
        clients[number].flush().unwrap();
        let in_file = read_file(&directory.join(name));
        assert_same_bytes(&format!("file {name}"), &in_file, &contents[number]);
    }
}

#[test]
fn exports_share_one_limit_and_lose_nothing() {
    let scratch = Scratch::new();
    let sizes = [("a", 4 * MIB), ("b", 4 * MIB), ("c", 4 * MIB)];
    let (directory, _) = directory_of(&scratch, &sizes);
    let server = Nbdkit::larder(&scratch)
        .plugin("file", [format!("dir={}", directory.display())])
        .parameter("cache-max-size=2M")
        .start();
    let mut clients: Vec<Client> = sizes
        .iter()
        .map(|(name, _)| Client::connect_to(server.socket(), name))
        .collect();
    let contents: Vec<Vec<u8>> = (10..13).map(|s| Random::new(s).bytes(4 * MIB)).collect();
    for offset in (0..4 * MIB).step_by(64 << 10) {
        for (client, content) in clients.iter_mut().zip(&contents) {
            let at = offset as usize;
            client.write(offset, &content[at..at + (64 << 10)]).unwrap();
        }
    }
    for ((client, content), (name, size)) in clients.iter_mut().zip(&contents).zip(sizes) {
        assert_same_bytes(name, &client.read(0, size).unwrap(), content);
        client.flush().unwrap();
        assert_same_bytes(name, &read_file(&directory.join(name)), content);
    }
}

#[test]
fn the_list_of_exports_is_the_plugins() {
    let scratch = Scratch::new();
    let (directory, _) = directory_of(&scratch, &[("a", MIB), ("b", MIB)]);
    let server = Nbdkit::larder(&scratch)
        .plugin("file", [format!("dir={}", directory.display())])
        .start();
    let mut names = Client::list_exports(server.socket()).unwrap();
    names.sort();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_refused_export_leaves_the_server_serving() {
    let scratch = Scratch::new();
    let (directory, contents) = directory_of(&scratch, &[("a", MIB)]);
    let server = Nbdkit::larder(&scratch)
        .plugin("file", [format!("dir={}", directory.display())])
        .start();
    assert!(Client::try_connect_to(server.socket(), "missing").is_err());
    let mut client = Client::connect_to(server.socket(), "a");
    assert_same_bytes("a", &client.read(0, MIB).unwrap(), &contents[0]);
}

#[test]
fn the_empty_name_is_the_plugins_default_export() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB)
        .writable()
        .flushable()
        .with("default_export", "echo main");
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut unnamed = Client::connect_to(server.socket(), "");
    let mut named = Client::connect_to(server.socket(), "main");
    unnamed.write(5, b"unflushed").unwrap();
    assert_eq!(named.read(5, 9).unwrap(), b"unflushed");
}

#[test]
fn separate_exports_are_the_default() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["1M"]).start();
    let mut x = Client::connect_to(server.socket(), "x");
    let mut y = Client::connect_to(server.socket(), "y");
    x.write(0, &[1; 4096]).unwrap();
    assert_filled("what is read", &x.read(0, 4096).unwrap(), 1);
    assert_filled("y is a volume of its own", &y.read(0, 4096).unwrap(), 0);
}

#[test]
fn shared_exports_are_one_volume() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["1M"])
        .parameter("cache-exports=shared")
        .start();
    let mut x = Client::connect_to(server.socket(), "x");
    let mut y = Client::connect_to(server.socket(), "y");
    x.write(0, &[1; 4096]).unwrap();
    assert_filled("y is the same volume", &y.read(0, 4096).unwrap(), 1);
}

#[test]
fn connection_exports_are_a_volume_for_each_connection() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch)
        .plugin("memory", ["1M"])
        .parameter("cache-exports=connection")
        .start();
    let mut first = Client::connect(server.socket());
    let mut second = Client::connect(server.socket());
    first.write(0, &[1; 4096]).unwrap();
    assert_filled("what is read", &first.read(0, 4096).unwrap(), 1);
    assert_filled("what is read", &second.read(0, 4096).unwrap(), 0);
    first.flush().unwrap();
    assert_filled("read from the plugin", &second.read(0, 4096).unwrap(), 1);
}

#[test]
fn a_second_name_of_equal_size_is_warned_about_once() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["1M"]).start();
    for name in ["x", "y", "z", "y", "x"] {
        drop(Client::connect_to(server.socket(), name));
    }
    let output = server.stop().output;
    let warnings = output.matches("cache-exports").count();
    assert_eq!(warnings, 1, "{output}");
}

#[test]
fn one_export_is_not_warned_about() {
    let scratch = Scratch::new();
    let server = Nbdkit::larder(&scratch).plugin("memory", ["1M"]).start();
    for _ in 0..3 {
        drop(Client::connect_to(server.socket(), "x"));
    }
    let output = server.stop().output;
    assert!(!output.contains("cache-exports"), "{output}");
}
