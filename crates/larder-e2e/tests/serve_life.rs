//! How `larder serve` starts, what it tells whom, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use larder_e2e::{
    Client, EvalDisk, KIB, Larder, MIB, Nbdkit, Random, Request, Scratch, Server, assert_filled,
    assert_same_bytes, output_of, read_at, run, sparse_file, wait_until, wait_within,
};

const SIZE: u64 = 64 * MIB;

fn start(scratch: &Scratch) -> (Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, SIZE);
    (Larder::serve(scratch).file(&image).start(), image)
}

/// Writes until the server is gone, several requests in flight; `acknowledged` is told after each
/// answer. Returns which blocks were acknowledged.
fn write_until_the_end(socket: &Path, first: u64, acknowledged: impl Fn()) -> Vec<u64> {
    let mut client = Client::connect(socket);
    let mut written = Vec::new();
    let mut in_flight = Vec::new();
    for block in first.. {
        let offset = block % 512 * 64 * KIB;
        let request = Request::write(offset, &content(block), larder_e2e::Flags::NONE);
        let Ok(cookie) = client.submit(&request) else {
            break;
        };
        in_flight.push((block, cookie));
        if in_flight.len() == 8 {
            let (block, cookie) = in_flight.remove(0);
            if client.wait(cookie).is_err() {
                break;
            }
            written.push(block);
            acknowledged();
        }
    }
    for (block, cookie) in in_flight {
        if client.wait(cookie).is_ok() {
            written.push(block);
        }
    }
    written
}

/// What the writer of a block writes there.
fn content(block: u64) -> Vec<u8> {
    Random::new(block).bytes(64 * KIB)
}

#[test]
fn sigterm_under_load_loses_nothing_that_was_acknowledged() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch);
    let socket = server.socket().to_owned();
    let (sender, acknowledged) = std::sync::mpsc::channel();
    let writer = std::thread::spawn(move || {
        write_until_the_end(&socket, 0, || {
            let _ = sender.send(());
        })
    });
    // It is in the midst of it.
    for _ in 0..2000 {
        acknowledged.recv().unwrap();
    }
    server.stop();
    let written = writer.join().unwrap();
    assert!(written.len() >= 2000);
    // Requests after the last answer may have been done, or not.
    let last = *written.last().unwrap();
    for block in written
        .iter()
        .rev()
        .take(512)
        .filter(|block| **block + 504 > last)
    {
        let got = read_at(&image, block % 512 * 64 * KIB, 64 * KIB);
        assert_same_bytes(&format!("block {block} of {last}"), &got, &content(*block));
    }
}

#[test]
fn sigint_ends_as_sigterm_does() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch);
    let mut client = Client::connect(server.socket());
    client.write(1000, &[1; 5000]).unwrap();
    let socket = server.socket().to_owned();
    server.interrupt();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
    assert_filled("the origin's file", &read_at(&image, 1000, 5000), 1);
    assert!(!socket.exists(), "the socket is left over");
}

/// A server with dirty data over a disk whose flush fails from now on.
fn start_over_a_failing_disk(scratch: &Scratch) -> (Server, Server, Client) {
    let disk = EvalDisk::read_only(scratch, MIB).writable().flushable();
    let origin = Nbdkit::bare(scratch)
        .plugin("eval", disk.parameters())
        .start();
    let server = Larder::serve(scratch).origin(origin.uri()).start();
    let mut client = Client::connect(server.socket());
    client.write(64 * KIB, &[1; 4096]).unwrap();
    fs::write(disk.flush_fault(), "").unwrap();
    (server, origin, client)
}

fn assert_loss_is_named(server: Server) {
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 1, "{}", exit.output);
    let is_told = |line: &str| line.contains("lost") && line.contains("4096 bytes at 65536");
    assert!(exit.output.lines().any(is_told), "{}", exit.output);
}

#[test]
fn what_cannot_be_written_back_at_the_end_is_named_and_ends_with_1() {
    let scratch = Scratch::new();
    let (server, _origin, _client) = start_over_a_failing_disk(&scratch);
    server.terminate();
    assert_loss_is_named(server);
}

/// A server with a dirty block over an origin each of whose writes takes that long.
fn start_over_a_slow_origin(scratch: &Scratch, seconds: u32) -> (Server, Server, PathBuf) {
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let origin = Nbdkit::bare(scratch)
        .below("delay")
        .file(&image)
        .parameter(&format!("delay-write={seconds}"))
        .start();
    // Whoever runs the tests may ignore what a terminal's end sends, and that would be inherited.
    let server = Larder::serve(scratch)
        .origin(origin.uri())
        .start_by(&["env", "--default-signal=HUP"]);
    let mut client = Client::connect(server.socket());
    client.write(64 * KIB, &[1; 4096]).unwrap();
    server.terminate();
    wait_until("it writes back", || {
        server.output().contains("writing back")
    });
    (server, origin, image)
}

/// Asks for the end until it has come.
fn insist(server: &mut Server) {
    wait_until("it gives up", || {
        let is_running = server.is_running();
        if is_running {
            server.terminate();
        }
        !is_running
    });
}

#[test]
fn who_asks_again_later_has_the_server_give_up_and_name_what_is_lost() {
    let scratch = Scratch::new();
    let (mut server, _origin, _image) = start_over_a_slow_origin(&scratch, 60);
    insist(&mut server);
    assert_loss_is_named(server);
}

#[test]
fn what_comes_right_after_the_first_signal_and_a_hangup_at_any_time_lose_nothing() {
    let scratch = Scratch::new();
    let (server, _origin, image) = start_over_a_slow_origin(&scratch, 4);
    let started = std::time::Instant::now();
    server.terminate();
    wait_until("the first signal is long past", || {
        server.hang_up();
        started.elapsed() > Duration::from_millis(1500)
    });
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
    assert_filled("written back", &read_at(&image, 64 * KIB, 4096), 1);
}

#[test]
fn giving_up_on_nothing_is_no_failure() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let origin = Nbdkit::bare(&scratch)
        .below("delay")
        .file(&image)
        .parameter("delay-read=60")
        .start();
    let mut server = Larder::serve(&scratch).origin(origin.uri()).start();
    let mut client = Client::connect(server.socket());
    // It is waited for.
    client.submit(&Request::read(0, 4096)).unwrap();
    insist(&mut server);
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
}

#[test]
fn giving_up_on_a_command_is_a_failure_since_its_status_is_not_known() {
    let scratch = Scratch::new();
    // The command does not end because it is asked to, and nothing is written.
    let command = "trap '' TERM; echo under way; read -r forever < \"$FIFO\"";
    let fifo = scratch.path("fifo");
    run("mkfifo", [&fifo]);
    let mut server = Larder::serve(&scratch)
        .origin("memory:1M")
        .environment("FIFO", &fifo)
        .start_running(command, "under way");
    insist(&mut server);
    let exit = server.wait_for_exit();
    // The command, which is left, ends with its input.
    fs::write(&fifo, "\n").unwrap();
    assert_eq!(exit.code, 1, "{}", exit.output);
}

#[test]
fn in_writethrough_mode_a_last_flush_that_fails_is_named_and_ends_with_1() {
    let scratch = Scratch::new();
    let disk = EvalDisk::read_only(&scratch, MIB).writable().flushable();
    let origin = Nbdkit::bare(&scratch)
        .plugin("eval", disk.parameters())
        .start();
    let server = Larder::serve(&scratch)
        .origin(origin.uri())
        .parameter("cache=writethrough")
        .start();
    let mut client = Client::connect(server.socket());
    client.write(64 * KIB, &[1; 4096]).unwrap();
    fs::write(disk.flush_fault(), "").unwrap();
    server.terminate();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 1, "{}", exit.output);
    let is_told = |line: &str| line.contains("not flushed") && line.contains("4096 bytes at 65536");
    assert!(exit.output.lines().any(is_told), "{}", exit.output);
}

#[test]
fn a_command_finds_the_server_and_gives_it_its_status() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let output = Larder::serve(&scratch).file(&image).run_captive(
        "test \"$uri\" = \"$nbd\" && test -S \"$unixsocket\" && \
         qemu-io -f raw -c 'write -P 7 0 64k' \"$uri\" && exit 17",
    );
    assert_eq!(output.status.code(), Some(17), "{output:?}");
    assert_filled("written back", &read_at(&image, 0, 64 * KIB), 7);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("serving"), "stdout is the command's: {said}");
    for (command, status) in [("true", 0), ("false", 1), ("kill -9 $$", 137)] {
        let output = Larder::serve(&scratch).file(&image).run_captive(command);
        assert_eq!(output.status.code(), Some(status), "{command}: {output:?}");
    }
}

#[test]
fn a_command_without_a_flush_loses_nothing() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let writer = env!("CARGO_BIN_EXE_write-without-flush");
    let command = format!("{writer} \"$unixsocket\"");
    let output = Larder::serve(&scratch).file(&image).run_captive(&command);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_filled("the origin's file", &read_at(&image, 0, 64 * KIB), 7);
}

#[test]
fn a_command_that_is_asked_to_end_can_still_write() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let command = "trap 'qemu-io -f raw -c \"write -P 7 0 64k\" -c flush \"$uri\" && exit 5' TERM; \
                   echo under way; while true; do sleep 0.1; done";
    let server = Larder::serve(&scratch)
        .file(&image)
        .start_running(command, "under way");
    server.terminate();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 5, "{}", exit.output);
    assert_filled("the origin's file", &read_at(&image, 0, 64 * KIB), 7);
}

#[test]
fn what_a_command_has_started_is_served_though_its_shell_has_ended() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    // The outer shell ends as soon as it is asked to.
    let command = "sh -c 'trap \"qemu-io -f raw -c \\\"write -P 7 0 64k\\\" -c flush \\\"$uri\\\"; exit\" TERM; \
                   echo under way; while true; do sleep 0.1; done'; true";
    let server = Larder::serve(&scratch)
        .file(&image)
        .start_running(command, "under way");
    server.terminate();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 128 + 15, "{}", exit.output);
    assert_filled("the origin's file", &read_at(&image, 0, 64 * KIB), 7);
}

#[test]
fn all_that_a_command_has_started_is_asked_to_end() {
    let scratch = Scratch::new();
    let process = scratch.path("process");
    let command = "sh -c 'echo $$ > \"$PROCESS\"; echo under way; exec sleep 60'; true";
    let server = Larder::serve(&scratch)
        .origin("memory:1M")
        .environment("PROCESS", &process)
        .start_running(command, "under way");
    let number = fs::read_to_string(&process).unwrap();
    let process = Path::new("/proc").join(number.trim());
    assert!(process.exists());
    server.terminate();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 128 + 15, "{}", exit.output);
    wait_within(Duration::from_secs(20), "the command has ended", || {
        !process.exists()
    });
}

#[test]
fn a_server_ends_with_its_last_client_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let mut server = Larder::serve(&scratch)
        .file(&image)
        .flag("--exit-with-last-client")
        .start();
    let mut first = Client::connect(server.socket());
    let second = Client::connect(server.socket());
    first.write(1000, &[1; 5000]).unwrap();
    second.disconnect_and_wait();
    // A list is no client.
    let _ = Client::list_exports(server.socket()).unwrap();
    assert!(server.is_running());
    first.disconnect_and_wait();
    let exit = server.wait_for_exit();
    assert_eq!(exit.code, 0, "{}", exit.output);
    assert_filled("written back", &read_at(&image, 1000, 5000), 1);
}

#[test]
fn the_process_number_is_in_the_pidfile_while_it_serves() {
    let scratch = Scratch::new();
    let pid_file = scratch.path("pid-file");
    let server = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter(&format!("pidfile={}", pid_file.display()))
        .start();
    let expected = format!("{}\n", server.pid());
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), expected);
    server.stop();
    assert!(!pid_file.exists());
}

#[test]
fn what_is_served_is_told_on_standard_output_and_all_else_on_standard_error() {
    let scratch = Scratch::new();
    let larder = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter("cache=unsafe")
        .flag("--exit-with-last-client");
    let child = larder
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("it serves", || {
        Client::try_connect_to(larder.socket(), "").is_ok()
    });
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(
        told.starts_with("larder: serving memory:1048576 (1.00 MiB, "),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
    let uri = format!("nbd+unix:///?socket={}", larder.socket().display());
    assert!(told.trim_end().ends_with(&format!(" at {uri}")), "{told}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.lines().all(|line| line.starts_with("larder: ")),
        "{said}"
    );
}

/// What a launcher does that gives its command sockets: systemd's own.
#[test]
fn sockets_from_the_service_manager_are_served() {
    let scratch = Scratch::new();
    let socket = scratch.path("activated");
    let listen = format!("--listen={}", socket.display());
    let larder = Larder::serve(&scratch).without_socket().origin("memory:1M");
    let tmpdir = format!("--setenv=TMPDIR={}", larder.tmpdir().display());
    let mut command = Command::new("systemd-socket-activate");
    command.args([&listen, &tmpdir]).arg(Larder::program());
    command.args(["serve", "--exit-with-last-client", "memory:1M"]);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("systemd-socket-activate, of the Debian package systemd");
    // It starts the server when somebody connects.
    wait_until("it listens", || socket.exists());
    let mut client = Client::connect(&socket);
    client.write(0, &[1; 4096]).unwrap();
    client.disconnect_and_wait();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("nbd+unix:///?socket="), "{output:?}");
    assert!(socket.exists(), "it is not the server's to remove");
}

#[test]
fn the_service_manager_is_told_when_clients_can_connect() {
    let scratch = Scratch::new();
    let path = scratch.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let larder = Larder::serve(&scratch)
        .origin("memory:1M")
        .environment("NOTIFY_SOCKET", &path);
    let socket = larder.socket().to_owned();
    let server = std::thread::spawn(move || larder.start());
    let receive = || {
        let mut message = [0; 4096];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let wait_for = |told: &str| {
        while !receive().lines().any(|line| line.starts_with(told)) {}
    };
    wait_for("READY=1");
    let mut client = Client::connect(&socket);
    client.write(0, &[1; 4096]).unwrap();
    drop(client);
    server.join().unwrap().stop();
    wait_for("STOPPING=1");
}

#[test]
fn the_service_manager_gives_more_time_while_the_server_writes_back() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let origin = Nbdkit::bare(&scratch)
        .below("delay")
        .file(&image)
        .parameter("delay-write=1")
        .start();
    let path = scratch.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let server = Larder::serve(&scratch)
        .origin(origin.uri())
        .environment("NOTIFY_SOCKET", &path)
        .start();
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 4096]).unwrap();
    server.stop();
    // All has been said.
    manager.set_nonblocking(true).unwrap();
    let mut said = String::new();
    let mut message = [0; 4096];
    while let Ok(length) = manager.recv(&mut message) {
        said.push_str(&String::from_utf8_lossy(&message[..length]));
    }
    let (_, end) = said.split_once("STOPPING=1\n").expect("it says so");
    assert!(
        end.contains("STATUS=writing back, 4.00 KiB left\nEXTEND_TIMEOUT_USEC=300000000\n"),
        "{said}"
    );
}

#[test]
fn the_units_for_systemd_are_right() {
    let scratch = Scratch::new();
    let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../larder-server/systemd");
    let program = Larder::program().display().to_string();
    for unit in ["larder.service", "larder.socket"] {
        let text = fs::read_to_string(given.join(unit)).unwrap();
        fs::write(
            scratch.path(unit),
            text.replace("/usr/bin/larder", &program),
        )
        .unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    verify.args([
        scratch.path("larder.service"),
        scratch.path("larder.socket"),
    ]);
    let output = verify.output();
    let output = output.expect("systemd-analyze, of the Debian package systemd");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains(&scratch.path("").display().to_string()),
        "{said}"
    );
    // What it starts, with the configuration that comes with it.
    let service = fs::read_to_string(given.join("larder.service")).unwrap();
    let started = service.lines().find_map(|l| l.strip_prefix("ExecStart="));
    let configuration = given.join("larder.toml").display().to_string();
    let started = started
        .unwrap()
        .replace("/etc/larder/larder.toml", &configuration);
    let mut words = started.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/larder"));
    let output = output_of(Command::new(program).args(words).args(["--run", "true"]));
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn an_address_in_use_is_refused_with_one_line() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1M").tcp().start();
    let unix = format!("unix:{}", server.socket().display());
    let tcp = format!("tcp:127.0.0.1:{}", server.port());
    for (address, words) in [(unix, "is listening there already"), (tcp, "in use")] {
        let other = Larder::serve(&scratch).without_socket().origin("memory:1M");
        let line = other.parameter(&format!("listen={address}")).refusal();
        assert!(line.contains(&address) && line.contains(words), "{line}");
    }
    let _ = Client::connect(server.socket());
    let told = run("nbdinfo", [&server.tcp_uri()]);
    assert!(told.contains("export-size: 1048576"), "{told}");
}

#[test]
fn by_default_both_addresses_of_localhost_are_served_and_nothing_else() {
    let scratch = Scratch::new();
    let hosts = scratch.path("hosts");
    let names = "127.0.0.1 localhost both\n::1 localhost\n192.0.2.1 both\n";
    fs::write(&hosts, names).unwrap();
    // The port may be anybody's, so the machine has no other network, and names of its own.
    let script = format!(
        "mount --bind {} /etc/hosts && ip link set lo up && exec \"$@\"",
        hosts.display()
    );
    let alone = ["unshare", "--net", "--mount", "sh", "-c", &script, "sh"];
    for (listen, told, reached, warnings) in [
        (
            None,
            "nbd://localhost:10809",
            &["127.0.0.1", "[::1]"][..],
            0,
        ),
        (
            Some("listen=tcp:[::1]:10809"),
            "nbd://[::1]:10809",
            &["[::1]"],
            0,
        ),
        (
            Some("listen=tcp:both:10809"),
            "nbd://both:10809",
            &["127.0.0.1"],
            1,
        ),
    ] {
        let larder = Larder::serve(&scratch).without_socket().origin("memory:1M");
        let server = larder.parameters(listen).start_by(&alone);
        assert_eq!(server.tcp_uri(), told);
        let network = format!("--net=/proc/{}/ns/net", server.pid());
        for host in reached {
            let uri = format!("nbd://{host}");
            let size = run("nsenter", [&network, "nbdinfo", "--size", &uri]);
            assert_eq!(size, "1048576\n", "{uri}");
        }
        let listening = run("nsenter", [&network, "ss", "-Hltn"]);
        assert_eq!(listening.lines().count(), reached.len(), "{listening}");
        let output = server.stop().output;
        let warned = output.lines().filter(|l| l.contains("warning"));
        assert_eq!(warned.count(), warnings, "{output}");
        assert_eq!(
            output.contains("listen=tcp:both:10809: not on 192.0.2.1: Cannot assign"),
            warnings == 1
        );
    }
}

#[test]
fn a_write_past_the_limit_on_file_sizes_is_an_error_and_ends_nothing() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, 8 * MIB);
    // In units of 512 bytes: 4 MiB.
    let limited = ["sh", "-c", "ulimit -f 8192; exec \"$@\"", "sh"];
    let server = Larder::serve(&scratch)
        .file(&image)
        .parameters(["cache=writethrough", "cache-max-size=1M"])
        .start_by(&limited);
    let mut client = Client::connect(server.socket());
    client.write(3 * MIB, &[1; 4096]).unwrap();
    let error = client.write(6 * MIB, &[2; 4096]).unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error}");
    assert_filled("within it", &client.read(3 * MIB, 4096).unwrap(), 1);
    assert_filled("past it", &client.read(6 * MIB, 4096).unwrap(), 0);
    client.flush().unwrap();
    server.stop();
    assert_filled("the origin's file", &read_at(&image, 3 * MIB, 4096), 1);
}

#[test]
fn a_socket_that_a_killed_server_left_is_replaced() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1M").start();
    let socket = server.socket().to_owned();
    server.kill();
    assert!(socket.exists());
    let error = Client::try_connect_to(&socket, "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let larder = Larder::serve(&scratch).origin("memory:1M");
    let server = larder
        .parameter(&format!("listen=unix:{}", socket.display()))
        .start();
    let _ = Client::connect(&socket);
    server.stop();
}

#[test]
fn a_sockets_permissions_are_as_asked_for() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter("socket-mode=640")
        .parameter("socket-owner=nobody:nogroup")
        .start();
    let metadata = fs::metadata(server.socket()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
    let owner = run(
        "stat",
        ["-c", "%U:%G", &server.socket().display().to_string()],
    );
    assert_eq!(owner.trim(), "nobody:nogroup");
}

#[test]
fn a_configuration_file_says_what_the_command_line_does_not() {
    let scratch = Scratch::new();
    let image = scratch.path("image");
    sparse_file(&image, MIB);
    let configuration = scratch.path("larder.toml");
    let text = format!(
        "cache = \"unsafe\"\nread-only = false\n[[export]]\nname = \"disk\"\norigin = {:?}\n",
        image.display().to_string()
    );
    fs::write(&configuration, text).unwrap();
    let config = format!("config={}", configuration.display());
    let server = Larder::serve(&scratch)
        .parameter(&config)
        .parameter("cache=writethrough")
        .start();
    let mut client = Client::connect_to(server.socket(), "disk");
    client.write(0, &[1; 4096]).unwrap();
    assert_filled("written through", &read_at(&image, 0, 4096), 1);
    drop(client);
    server.stop();
    fs::write(&configuration, "cache = \"unsafe\"\ncach-max-size = 1\n").unwrap();
    let line = Larder::serve(&scratch).parameter(&config).refusal();
    assert!(
        line.contains("line 2") && line.contains("cach-max-size"),
        "{line}"
    );
}

#[test]
fn wrong_options_are_refused_with_one_line() {
    let scratch = Scratch::new();
    for (parameter, words) in [
        ("cache=none", &["cache=none", "writeback"][..]),
        ("cache-max-size=1K", &["cache-max-size=1K", "1M"]),
        ("cache-max-sise=1M", &["cache-max-sise", "cache-max-size"]),
        ("cache-exports=shared", &["cache-exports", "separate"]),
        ("listen=1234", &["listen=1234", "unix:PATH"]),
        ("max-connections=0", &["max-connections=0"]),
    ] {
        let larder = Larder::serve(&scratch).origin("memory:1M");
        let line = larder.parameter(parameter).refusal();
        for word in words {
            assert!(line.contains(word), "{word} is not in: {line}");
        }
    }
}

#[test]
fn what_a_killed_server_had_flushed_is_on_the_origin() {
    let scratch = Scratch::new();
    let (server, image) = start(&scratch);
    let mut client = Client::connect(server.socket());
    client.write(0, &[1; 1 << 20]).unwrap();
    client.flush().unwrap();
    client.write(MIB, &[2; 1 << 20]).unwrap();
    server.kill();
    assert_filled("flushed", &read_at(&image, 0, MIB), 1);
    assert_filled("not flushed", &read_at(&image, MIB, MIB), 0);
    // A new one serves the origin as it is.
    let server = Larder::serve(&scratch).file(&image).start();
    let mut client = Client::connect(server.socket());
    assert_filled("flushed", &client.read(0, MIB).unwrap(), 1);
    assert_filled("not flushed", &client.read(MIB, MIB).unwrap(), 0);
}

#[test]
fn no_more_clients_than_asked_for_are_served_at_a_time() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch)
        .origin("memory:1M")
        .parameter("max-connections=2")
        .start();
    let first = Client::connect(server.socket());
    let _second = Client::connect(server.socket());
    assert!(Client::try_connect_to(server.socket(), "").is_err());
    let is_told = |line: &str| line.contains("max-connections");
    assert!(server.output().lines().any(is_told), "{}", server.output());
    first.disconnect_and_wait();
    wait_until("there is room again", || {
        Client::try_connect_to(server.socket(), "").is_ok()
    });
}

#[test]
fn help_and_version_are_told() {
    for (option, word) in [("--help", "--cache-max-size"), ("--version", "larder ")] {
        let mut command = Command::new(Larder::program());
        if option == "--help" {
            command.arg("serve");
        }
        let output = output_of(command.arg(option));
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(told.contains(word), "{told}");
    }
}
