//! What `larder serve` can serve: memory, files, devices, and what other servers serve.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};

use larder_e2e::{
    Background, Certificates, Client, Larder, LoopDevice, MIB, Nbdkit, OriginServer, Plan, Scratch,
    WebServer, assert_filled, assert_same_bytes, free_port, random_file, read_at, read_file, run,
    run_workload,
};

/// Whole sectors, since not every origin has others.
const SIZE: u64 = 16 * MIB;

fn image(scratch: &Scratch) -> (PathBuf, Vec<u8>) {
    let path = scratch.path("image");
    let bytes = random_file(&path, SIZE, 1);
    (path, bytes)
}

/// Random requests over an origin that is, in the end, that file.
fn is_written_and_read(larder: Larder, file: &Path) {
    let server = larder.start();
    let model = run_workload(server.socket(), file, &Plan::moderate(2));
    server.stop();
    model.check("the origin's file at the end", 0, &read_file(file));
}

#[test]
fn memory_is_sparse_and_gone_with_the_server() {
    let scratch = Scratch::new();
    let server = Larder::serve(&scratch).origin("memory:1T").start();
    let mut client = Client::connect(server.socket());
    assert_eq!(client.export().size, 1 << 40);
    client.write(1 << 39, &[1; 5000]).unwrap();
    client.flush().unwrap();
    client.disconnect_and_wait();
    let mut client = Client::connect(server.socket());
    assert_filled("written", &client.read(1 << 39, 5000).unwrap(), 1);
    assert_filled("not written", &client.read(0, MIB).unwrap(), 0);
    drop(client);
    server.stop();
}

#[test]
fn a_file_is_served() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    is_written_and_read(Larder::serve(&scratch).file(&file), &file);
}

#[test]
fn a_block_device_is_served() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let device = LoopDevice::attach(&file);
    is_written_and_read(Larder::serve(&scratch).file(&device.device), &file);
    device.detach();
}

#[test]
fn nbdkit_is_served_over_a_unix_socket() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let origin = Nbdkit::bare(&scratch).file(&file).start();
    is_written_and_read(Larder::serve(&scratch).origin(origin.uri()), &file);
}

#[test]
fn nbdkit_is_served_over_tcp() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let (_origin, uri) = nbdkit_on_port(&scratch, &file, &[]);
    is_written_and_read(Larder::serve(&scratch).origin(uri), &file);
}

#[test]
fn nbdkit_is_served_over_tls() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let certificates = Certificates::make(&scratch, "pki");
    let directory = format!("--tls-certificates={}", certificates.directory().display());
    let (_origin, uri) = nbdkit_on_port(&scratch, &file, &["--tls=require", &directory]);
    let uri = uri.replace("nbd://", "nbds://");
    let authority = certificates.file("ca-cert.pem").display().to_string();
    let larder = Larder::serve(&scratch).origin(&uri);
    is_written_and_read(
        larder.parameter(&format!("origin-tls-ca={authority}")),
        &file,
    );
    // Nobody knows its authority otherwise.
    let refusal = Larder::serve(&scratch)
        .origin(&uri)
        .parameter("origin-timeout=2")
        .refusal();
    assert!(refusal.contains("certificate"), "{refusal}");
}

/// nbdkit on a port of localhost, and its address.
fn nbdkit_on_port(scratch: &Scratch, file: &Path, options: &[&str]) -> (Background, String) {
    let port = free_port();
    let pid_file = scratch.path("origin.pid");
    let mut command = std::process::Command::new("nbdkit");
    command.args(["--foreground", "--ipaddr", "127.0.0.1"]);
    command.args(["--port", &port.to_string(), "--pidfile"]);
    command.arg(&pid_file).args(options).arg("file").arg(file);
    let origin = Background::start(command, || pid_file.exists());
    (origin, format!("nbd://localhost:{port}"))
}

#[test]
fn qemu_nbd_is_served() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let origin = OriginServer::qemu_on_unix(&scratch, &file);
    is_written_and_read(Larder::serve(&scratch).origin(origin.uri()), &file);
    drop(origin);
    let origin = OriginServer::qemu_on_tcp(&file);
    is_written_and_read(Larder::serve(&scratch).origin(origin.uri()), &file);
}

#[test]
fn nbd_server_is_served() {
    let scratch = Scratch::new();
    let (file, _) = image(&scratch);
    let origin = OriginServer::nbd_server_on_unix(&scratch, &file);
    is_written_and_read(Larder::serve(&scratch).origin(origin.uri()), &file);
    drop(origin);
    let origin = OriginServer::nbd_server_on_tcp(&scratch, &file);
    is_written_and_read(Larder::serve(&scratch).origin(origin.uri()), &file);
}

/// What HTTP serves is read-only, and copied out exactly.
fn is_copied_out(larder: Larder, scratch: &Scratch, bytes: &[u8]) {
    let server = larder.start();
    assert!(server.output().contains("read-only"), "{}", server.output());
    assert!(Client::connect(server.socket()).export().is_read_only());
    let copy = scratch.path("copy");
    run("nbdcopy", [server.uri(), copy.display().to_string()]);
    assert_same_bytes("the copy", &read_file(&copy), bytes);
    server.stop();
}

#[test]
fn a_web_servers_file_is_served() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let bytes = random_file(&directory.join("disk.img"), SIZE + 1237, 1);
    let web = WebServer::on_port(&scratch, &directory, "");
    let larder = Larder::serve(&scratch).origin(web.uri("disk.img"));
    is_copied_out(larder, &scratch, &bytes);
}

#[test]
fn a_web_servers_file_is_served_over_tls() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let bytes = random_file(&directory.join("disk.img"), SIZE + 1237, 1);
    let certificates = Certificates::make(&scratch, "pki");
    let web = WebServer::with_tls(&scratch, &directory, &certificates);
    let larder = Larder::serve(&scratch).origin(web.uri("disk.img"));
    let authority = certificates.file("ca-cert.pem").display().to_string();
    let trusting = larder.parameter(&format!("origin-tls-ca={authority}"));
    is_copied_out(trusting, &scratch, &bytes);
    let stranger = Larder::serve(&scratch).origin(web.uri("disk.img"));
    let refusal = stranger.parameter("origin-timeout=2").refusal();
    assert!(refusal.contains("certificate"), "{refusal}");
}

#[test]
fn exports_of_one_server_are_not_mixed_up() {
    let scratch = Scratch::new();
    let names = ["", "a", "b"];
    let files = names.map(|name| scratch.path(&format!("image-{name}")));
    let contents: Vec<Vec<u8>> = files
        .iter()
        .zip(1..)
        .map(|(f, s)| random_file(f, SIZE, s))
        .collect();
    let larder = files
        .iter()
        .zip(names)
        .fold(Larder::serve(&scratch), |larder, (file, name)| {
            larder.origin(format!("{name}={}", file.display()))
        });
    let server = larder.parameter("cache-max-size=4M").start();
    let mut clients = names.map(|name| Client::connect_to(server.socket(), name));
    for offset in (0..SIZE).step_by(1 << 20) {
        for (client, bytes) in clients.iter_mut().zip(&contents) {
            let got = client.read(offset, MIB).unwrap();
            let at = offset as usize;
            assert_same_bytes("what is read", &got, &bytes[at..at + (1 << 20)]);
        }
    }
    for (client, byte) in clients.iter_mut().zip(1..) {
        client.write(0, &[byte; 5000]).unwrap();
    }
    let [first, ..] = &mut clients;
    first.flush().unwrap();
    assert_filled("flushed", &read_at(&files[0], 0, 5000), 1);
    assert_same_bytes("another's", &read_file(&files[1]), &contents[1]);
    drop(clients);
    server.stop();
    for (file, byte) in files.iter().zip(1..) {
        assert_filled("at the end", &read_at(file, 0, 5000), byte);
    }
    assert_same_bytes(
        "the rest",
        &read_file(&files[2])[5000..],
        &contents[2][5000..],
    );
}

#[test]
fn memory_a_file_and_a_web_servers_object_share_a_cache_and_stay_apart() {
    let scratch = Scratch::new();
    let (file, bytes) = image(&scratch);
    let directory = scratch.make_dir("www");
    let object = random_file(&directory.join("disk.img"), SIZE, 2);
    let web = WebServer::on_port(&scratch, &directory, "");
    let server = Larder::serve(&scratch)
        .origin(format!("memory=memory:{SIZE}"))
        .origin(format!("file={}", file.display()))
        .origin(format!("web={}", web.uri("disk.img")))
        .parameter("cache-max-size=4M")
        .start();
    let connected = ["memory", "file", "web"].map(|name| Client::connect_to(server.socket(), name));
    let [mut memory, mut file_client, mut web_client] = connected;
    assert!(web_client.export().is_read_only());
    let error = web_client.write(0, &[1; 512]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(1));
    // The same places of all of them, more than the cache holds, twice.
    let mut expected = [vec![0; SIZE as usize], bytes, object];
    for round in 1..=2_u8 {
        for offset in (0..SIZE).step_by(1 << 20) {
            let at = offset as usize..offset as usize + 5000;
            memory.write(offset, &[round; 5000]).unwrap();
            expected[0][at.clone()].fill(round);
            file_client.write(offset, &[round + 10; 5000]).unwrap();
            expected[1][at].fill(round + 10);
            let clients = [&mut memory, &mut file_client, &mut web_client];
            for (client, bytes) in clients.into_iter().zip(&expected) {
                let got = client.read(offset, MIB).unwrap();
                let at = offset as usize;
                assert_same_bytes("what is read", &got, &bytes[at..at + (1 << 20)]);
            }
        }
    }
    memory.flush().unwrap();
    file_client.flush().unwrap();
    assert_same_bytes("the file", &read_file(&file), &expected[1]);
    drop((memory, file_client, web_client));
    server.stop();
    let on_web = read_file(&directory.join("disk.img"));
    assert_same_bytes("the object", &on_web, &expected[2]);
}

#[test]
fn a_web_servers_redirects_are_followed() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let bytes = random_file(&directory.join("disk.img"), MIB, 1);
    let statuses = [301, 302, 303, 307, 308];
    let redirects = statuses
        .map(|status| format!("location = /{status} {{ return {status} /disk.img; }}"))
        .join(" ");
    let web = WebServer::on_port(&scratch, &directory, &redirects);
    for status in statuses {
        let larder = Larder::serve(&scratch).origin(web.uri(&status.to_string()));
        is_copied_out(larder, &scratch, &bytes);
    }
}

#[test]
fn an_origin_that_cannot_be_written_is_served_read_only_where_that_is_asked_for() {
    let scratch = Scratch::new();
    let (file, bytes) = image(&scratch);
    let origin = Nbdkit::bare(&scratch).flag("-r").file(&file).start();
    let line = Larder::serve(&scratch).origin(origin.uri()).refusal();
    assert!(line.contains("--read-only"), "{line}");
    let larder = Larder::serve(&scratch).origin(origin.uri());
    is_copied_out(larder.flag("--read-only"), &scratch, &bytes);
}

#[test]
fn an_origin_that_cannot_be_served_is_refused_with_one_line() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let _ = random_file(&directory.join("disk.img"), MIB, 1);
    let web = WebServer::on_port(&scratch, &directory, "max_ranges 0;");
    let missing = scratch.path("missing.img").display().to_string();
    let nobody = format!("nbd://127.0.0.1:{}", free_port());
    for (origin, words) in [
        (
            missing.as_str(),
            &["missing.img", "no such file", "nbd://"][..],
        ),
        (&directory.display().to_string(), &["www", "directory"]),
        ("memory:1X", &["1X", "memory:1G"]),
        ("memory", &["memory:SIZE"]),
        ("ftp://host/disk", &["ftp://", "http://"]),
        ("nbd+unix:///disk", &["socket"]),
        (&nobody, &["127.0.0.1", "refused"]),
        (&web.uri("disk.img"), &["disk.img", "range"]),
        (&web.uri("nothing.img"), &["nothing.img", "404"]),
    ] {
        let larder = Larder::serve(&scratch).origin(origin);
        let line = larder.parameter("origin-timeout=1").refusal();
        for word in words {
            assert!(line.contains(word), "{word} is not in: {line}");
        }
    }
}

#[test]
fn a_web_server_gets_its_user_its_password_and_its_headers() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let bytes = random_file(&directory.join("disk.img"), MIB, 1);
    // Basic authentication as of user:passw0rd.
    let demands = r#"if ($http_authorization != "Basic dXNlcjpwYXNzdzByZA==") { return 401; }
        if ($http_x_key != "a key") { return 403; } if ($http_x_other != "b") { return 403; }"#;
    let web = WebServer::on_port(&scratch, &directory, demands);
    let headers = scratch.path("headers");
    std::fs::write(&headers, "X-Key: a key\n\nX-Other:b\n").unwrap();
    let uri = web.uri("disk.img").replace("//", "//user:passw0rd@");
    let with_headers = format!("http-header=@{}", headers.display());
    let larder = Larder::serve(&scratch).origin(&uri);
    is_copied_out(larder.parameter(&with_headers), &scratch, &bytes);
    let refusal = Larder::serve(&scratch).origin(&uri).refusal();
    assert!(refusal.contains("403"), "{refusal}");
    let refusal = Larder::serve(&scratch)
        .origin(web.uri("disk.img"))
        .parameter(&with_headers)
        .refusal();
    assert!(refusal.contains("401"), "{refusal}");
}

#[test]
fn each_web_server_gets_its_own_headers_and_none_of_anothers() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let _ = random_file(&directory.join("disk.img"), MIB, 1);
    let [one, other] = [("a", "b"), ("b", "a")].map(|(own, foreign)| {
        let demands = format!(
            "if ($http_x_{own} = '') {{ return 403; }} if ($http_x_{foreign}) {{ return 400; }}"
        );
        WebServer::on_port(&scratch, &directory, &demands)
    });
    let config = scratch.path("larder.toml");
    let export = |name: &str, web: &WebServer| {
        format!(
            "[[export]]\nname = \"{name}\"\norigin = \"{}\"\nhttp-header = [\"X-{name}: s3cret\"]\n",
            web.uri("disk.img")
        )
    };
    std::fs::write(&config, export("a", &one) + &export("b", &other)).unwrap();
    let larder = Larder::serve(&scratch).flag(&format!("--config={}", config.display()));
    // It does not start unless both servers give what is asked for.
    larder.start().stop();
    let refusal = Larder::serve(&scratch)
        .origin(format!("a={}", one.uri("disk.img")))
        .origin(format!("b={}", other.uri("disk.img")))
        .parameter("http-header=X-a: s3cret")
        .refusal();
    assert!(
        refusal.starts_with("http-header: would go to "),
        "{refusal}"
    );
    assert!(!refusal.contains("s3cret"), "{refusal}");
}

#[test]
fn what_is_wrong_about_origins_is_told_by_its_name() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let _ = random_file(&directory.join("disk.img"), MIB, 1);
    let web = WebServer::on_port(&scratch, &directory, "").uri("disk.img");
    let no_pem = directory.join("disk.img").display().to_string();
    for (origin, parameter, told) in [
        (
            "memory:1M",
            "origin-tls-ca=/no/such",
            "origin-tls-ca=/no/such: has no effect",
        ),
        (
            &web,
            "origin-tls-ca=/no/such",
            "origin-tls-ca=/no/such: No such file or directory",
        ),
        (
            &web,
            &format!("origin-tls-ca={no_pem}"),
            &format!("origin-tls-ca={no_pem}: "),
        ),
        (
            "memory:1M",
            "http-header=X: y",
            "http-header: has no effect",
        ),
        (
            &web,
            "http-header=Range: bytes=0-0",
            "http-header=range: cannot be given",
        ),
    ] {
        let larder = Larder::serve(&scratch).origin(origin);
        let line = larder.parameter(parameter).refusal();
        assert!(line.contains(told), "{line}");
    }
    let larder = Larder::serve(&scratch).origin("a=memory:1M");
    let line = larder.origin("b=http://me:s3cret@").refusal();
    assert!(
        line.starts_with("export \"b\": ") && !line.contains("s3cret"),
        "{line}"
    );
}

#[test]
fn credentials_are_never_shown() {
    let scratch = Scratch::new();
    let directory = scratch.make_dir("www");
    let _ = random_file(&directory.join("disk.img"), MIB, 1);
    let web = WebServer::on_port(&scratch, &directory, "");
    let secret = web
        .uri("disk.img?token=s3cret")
        .replace("//", "//user:passw0rd@");
    let server = Larder::serve(&scratch)
        .origin(&secret)
        .parameter("http-header=X-Key: hidd3n")
        .verbose()
        .start();
    let _ = Client::connect(server.socket()).read(0, MIB).unwrap();
    let refused = Larder::serve(&scratch)
        .origin(secret.replace("disk.img", "nothing.img"))
        .refusal();
    let mut said = server.stop().output + &refused;
    // Addresses that are none, or others than was meant.
    for wrong in [
        "a/b=https://me:s3cret@host/d",
        "my:disk=https://me:s3cret@host/d",
        " https://me:s3cret@host/d",
        "'https://me:s3cret@host/d'",
        "https:/me:s3cret@host/d",
        "me:s3cret@host/d",
        "x=me:s3cret@host/d",
        "http://me:12/s3cret@host/d",
        "http://me:s3cret/12@host/d",
        "ftp://me:s3cret@host/d",
    ] {
        said += &Larder::serve(&scratch).origin(wrong).refusal();
        said += "\n";
    }
    for word in ["s3cret", "passw0rd", "hidd3n"] {
        assert!(!said.contains(word), "{word} is in:\n{said}");
    }
}
