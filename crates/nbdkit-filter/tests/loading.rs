//! Loading into a real nbdkit: the documentation's example, parameters, flags, and double loading.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;

use common::{Folder, Server, filter, nbdkit_ends, nbdkit_version, text_of, with_filter};

#[test]
fn the_example_in_the_documentation_locks_a_disk() {
    let lock = with_filter("lock");
    let server = Server::start(&[&lock, "memory", "1M"]);
    server.client("assert h.is_read_only()\nfails(errno.EPERM, lambda: h.pwrite(b'x' * 512, 0))");
    server.stop_well();

    let server = Server::start(&[&lock, "memory", "1M", "unlock=yes"]);
    server.client(
        "assert not h.is_read_only()\n\
         h.pwrite(b'x' * 512, 512)\n\
         h.zero(256, 512)\n\
         h.flush()\n\
         assert h.pread(1024, 0) == bytes(768) + b'x' * 256",
    );
    server.stop_well();
}

#[test]
fn the_example_explains_itself() {
    let output = nbdkit_ends(&[&with_filter("lock"), "memory", "--help"]);
    let text = text_of(&output);
    assert!(text.contains("filter: lock"), "{text}");
    assert!(text.contains("unlock=BOOL"), "{text}");
}

#[test]
fn a_wrong_value_ends_nbdkit_with_status_1() {
    let output = nbdkit_ends(&[&with_filter("lock"), "memory", "1M", "unlock=perhaps"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text_of(&output).contains("could not decipher boolean"),
        "{}",
        text_of(&output)
    );
}

#[test]
fn everything_passes_through_unchanged() {
    let server = Server::start(&[&with_filter("probe"), "memory", "1M"]);
    let bare = Server::start(&["memory", "1M"]);
    let tell = "print([getattr(h, name)() for name in ('is_read_only', 'can_flush', 'can_fua', \
                'can_trim', 'can_zero', 'can_fast_zero', 'can_cache', 'can_multi_conn', \
                'is_rotational', 'get_size')] + \
                [h.get_block_size(i) for i in range(3)] + \
                [h.can_meta_context('base:allocation')])";
    assert_eq!(server.client(tell), bare.client(tell));
    server.client(
        "h.pwrite(b'a' * 4096, 0, nbd.CMD_FLAG_FUA)\n\
         h.trim(512, 0)\n\
         h.zero(512, 512)\n\
         h.cache(4096, 0)\n\
         h.flush()\n\
         assert h.pread(4096, 0)[1024:] == b'a' * 3072",
    );
    server.stop_well();
}

#[test]
fn the_plugins_description_and_constraints_pass_through() {
    let plugin = [
        "eval",
        "get_size=echo 1M",
        "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
        "export_description=echo hello",
        "block_size=echo 512 4096 1M",
    ];
    let filter = with_filter("probe");
    let mut arguments = vec![filter.as_str()];
    arguments.extend(plugin);
    let server = Server::start(&arguments);
    server.unconnected_client(
        "h.set_full_info(True)\n\
         h.connect_uri(uri)\n\
         assert h.get_export_description() == 'hello'\n\
         assert [h.get_block_size(i) for i in range(3)] == [512, 4096, 1 << 20]",
    );
    server.stop_well();
}

#[test]
fn an_empty_name_arrives_as_the_plugins_default_export() {
    let server = Server::start(&[
        &with_filter("probe"),
        "eval",
        "get_size=echo 1M",
        "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
        "list_exports=printf 'NAMES\\nfirst\\nsecond\\n'",
        "default_export=echo first",
    ]);
    server.client("h.pread(512, 0)");
    server.unconnected_client(&format!("h.connect_uri({:?})", server.uri_of("second")));
    server.unconnected_client(
        "h.set_opt_mode(True)\n\
         h.connect_uri(uri)\n\
         names = []\n\
         h.opt_list(lambda name, description: names.append(name) or 0)\n\
         assert names == ['first', 'second'], names",
    );
    let log = server.stop_well();
    assert!(log.contains("probe: open \"first\""), "{log}");
    assert!(log.contains("probe: open \"second\""), "{log}");
    assert!(!log.contains("probe: open \"\""), "{log}");
}

#[test]
fn parameters_are_parsed_as_nbdkit_does() {
    let server = Server::start(&[
        &with_filter("probe"),
        "memory",
        "1M",
        "probe-size=2M",
        "probe-boolean=On",
        "probe-unsigned=0x10",
        "probe-path=a/b",
        "probe-real-path=/usr/../usr",
    ]);
    let log = server.stop_well();
    let here = std::env::current_dir().unwrap();
    for line in [
        "size 2097152",
        "boolean true",
        "unsigned 16",
        &format!("path {}/a/b", here.display()),
        "real path /usr",
    ] {
        assert!(
            log.contains(&format!("probe: {line}\n")),
            "no {line:?} in:\n{log}"
        );
    }
    for wrong in [
        "probe-size=2X",
        "probe-unsigned=-1",
        "probe-real-path=/nonexistent",
        "probe=x",
    ] {
        let output = nbdkit_ends(&[&with_filter("probe"), "memory", "1M", wrong]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{wrong}: {}",
            text_of(&output)
        );
    }
}

#[test]
fn a_parameter_nobody_knows_goes_to_the_plugin() {
    let output = nbdkit_ends(&[&with_filter("probe"), "memory", "1M", "nobodys=1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text_of(&output).contains("unknown parameter 'nobodys'"),
        "{}",
        text_of(&output)
    );
}

#[test]
fn a_debug_flag_is_set_from_the_command_line() {
    let server = Server::start(&[&with_filter("probe"), "-D", "probe.loud=3", "memory", "1M"]);
    assert!(server.stop_well().contains("probe: loud=3"));
    let server = Server::start(&[&with_filter("probe"), "memory", "1M"]);
    assert!(!server.stop_well().contains("probe: loud"));
}

#[test]
fn a_filter_that_cannot_load_is_exit_status_1() {
    let output = nbdkit_ends(&[&with_filter("probe"), "-D", "probe.loud=-1", "memory", "1M"]);
    assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
    for message in ["not loaded, as told", "the filter could not be loaded"] {
        assert!(text_of(&output).contains(message), "{}", text_of(&output));
    }
}

#[test]
fn debug_messages_show_with_verbose_only() {
    let server = Server::start(&["-v", &with_filter("lock"), "memory", "1M"]);
    assert!(server.stop_well().contains("debug: lock: this is nbdkit "));
}

#[test]
fn the_life_of_a_filter_ends_with_cleanup_and_unload() {
    let server = Server::start(&[&with_filter("probe"), "memory", "1M"]);
    let log = server.stop_well();
    let cleanup = log.find("probe: cleanup").unwrap();
    assert!(log.find("probe: unload").unwrap() > cleanup, "{log}");
    let output = nbdkit_ends(&[&with_filter("probe"), "memory", "--help"]);
    assert!(
        text_of(&output).contains("probe: unload"),
        "{}",
        text_of(&output)
    );
}

#[test]
fn dump_plugin_is_asked_since_1_36() {
    let output = nbdkit_ends(&[&with_filter("probe"), "memory", "--dump-plugin"]);
    let asked = text_of(&output).contains("probe_says=hello");
    assert_eq!(asked, nbdkit_version() >= (1, 36), "{}", text_of(&output));
}

#[test]
fn a_filter_is_in_the_chain_only_once() {
    let folder = Folder::new();
    let copy = folder.file("copy.so");
    fs::copy(filter("lock"), &copy).unwrap();
    let first = with_filter("lock");
    for second in [first.clone(), format!("--filter={}", copy.display())] {
        let arguments = [&first, "-U", "-", &second, "memory", "1M", "--run", "true"];
        let output = nbdkit_ends(&arguments);
        assert_eq!(output.status.code(), Some(1), "{}", text_of(&output));
        let message = "filter lock can be in the chain only once";
        assert!(text_of(&output).contains(message), "{}", text_of(&output));
    }
}

#[test]
fn two_filters_of_this_binding_share_a_chain() {
    let (lock, probe) = (with_filter("lock"), with_filter("probe"));
    for pair in [[&lock, &probe], [&probe, &lock]] {
        let server = Server::start(&[pair[0], pair[1], "memory", "1M", "unlock=1"]);
        server.client("h.pwrite(b'x' * 512, 0)\nassert h.pread(512, 0) == b'x' * 512");
        server.stop_well();
    }
}
