//! Block status tells the truth.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use larder_e2e::{
    Client, EvalDisk, Flags, KIB, MIB, Model, Nbdkit, Random, Request, Scratch, assert_filled,
    read_file, sparse_file, write_at,
};

const SIZE: u64 = 16 * MIB;

#[test]
fn extents_show_dirty_data_as_data() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    let mut model = Model::new(vec![0; SIZE as usize]);
    let mut random = Random::new(1);
    for (offset, length) in [(1000, 4000), (100_000, 1), (MIB - 1, 3), (SIZE - 513, 513)] {
        let bytes = random.bytes(length);
        client.write(offset, &bytes).unwrap();
        model.write(offset, &bytes);
    }
    assert_filled("nothing is flushed", &read_file(&image), 0);
    let extents = client.extents_of(0, SIZE).unwrap();
    model.check_extents(0, &extents);
    let zeros: u64 = extents.iter().filter(|e| e.zero).map(|e| e.length).sum();
    assert!(zeros > SIZE - MIB, "the rest is still a hole: {extents:?}");
}

#[test]
fn extents_show_cached_zeros_as_zeros() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    let data = Random::new(2).bytes(SIZE);
    write_at(&image, 0, &data);
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    let mut model = Model::new(data);
    client.zero(2 * MIB, 3 * MIB).unwrap();
    model.zero(2 * MIB, 3 * MIB);
    assert_eq!(
        read_file(&image)[2 << 20],
        model_byte(&image),
        "not flushed"
    );
    let extents = client.extents_of(2 * MIB, 3 * MIB).unwrap();
    assert!(extents.iter().all(|extent| extent.zero), "{extents:?}");
    model.check_extents(0, &client.extents_of(0, SIZE).unwrap());
}

/// The byte at 2 MiB that the test above put into the file: random bytes are never zero.
fn model_byte(image: &std::path::Path) -> u8 {
    let byte = read_file(image)[2 << 20];
    assert_ne!(byte, 0);
    byte
}

#[test]
fn zeros_are_no_hole_where_none_is_allowed() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    write_at(&image, 0, &Random::new(3).bytes(SIZE));
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    client
        .call(&Request::zero(MIB, MIB, Flags::NO_HOLE))
        .unwrap();
    let extents = client.extents_of(MIB, MIB).unwrap();
    assert!(extents.iter().all(|extent| !extent.hole), "{extents:?}");
    assert_filled("what is read", &client.read(MIB, MIB).unwrap(), 0);
}

#[test]
fn extents_beside_dirty_data_are_the_plugins() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    write_at(&image, 4 * MIB, &Random::new(4).bytes(MIB));
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    client.write(8 * MIB, &[1; 4096]).unwrap();
    let extents = client.extents_of(0, 8 * MIB).unwrap();
    let mut position = 0;
    for extent in &extents {
        let is_data = (4 * MIB..5 * MIB).contains(&position);
        assert_eq!(extent.zero, !is_data, "at {position}: {extents:?}");
        position += extent.length;
    }
    assert_eq!(position, 8 * MIB);
}

#[test]
fn extents_of_a_plugin_that_has_none_are_data() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable().flushable();
    let server = Nbdkit::larder(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    let extents = client.extents_of(0, MIB).unwrap();
    assert_eq!(extents.iter().map(|e| e.length).sum::<u64>(), MIB);
    assert!(extents.iter().all(|e| !e.hole && !e.zero), "{extents:?}");
}

#[test]
fn extents_after_a_flush_agree_with_what_is_read() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    write_at(&image, 0, &Random::new(5).bytes(SIZE));
    let server = Nbdkit::larder(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    client.zero(MIB + 100, 2 * MIB).unwrap();
    client.trim(8 * MIB, 64 * KIB).unwrap();
    client.write(2 * MIB, &[9; 10]).unwrap();
    client.flush().unwrap();
    let whole = client.read(0, SIZE).unwrap();
    let model = Model::new(whole);
    model.check_extents(0, &client.extents_of(0, SIZE).unwrap());
}
