//! TLS between clients and `larder serve`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::Path;

use larder_e2e::{
    Certificates, Client, Larder, MIB, Nbdkit, Plan, Scratch, Server, assert_same_bytes,
    random_file, read_file, run, run_expecting_failure, run_workload, sparse_file,
};

const SIZE: u64 = 8 * MIB;

/// `larder serve` with certificates.
fn larder(scratch: &Scratch, certificates: &Certificates, policy: &str) -> Larder {
    let directory = certificates.directory().display();
    Larder::serve(scratch)
        .parameter(&format!("tls={policy}"))
        .parameter(&format!("tls-certificates={directory}"))
        // Certificates are for a host's name, which a Unix socket has not.
        .parameter("listen=tcp:localhost:0")
}

/// Its address for clients that find certificates in `directory`.
fn address(server: &Server, directory: &Path) -> String {
    let port = server.port();
    format!(
        "nbds://localhost:{port}/?tls-certificates={}",
        directory.display()
    )
}

#[test]
fn clients_choose_when_tls_is_on() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let server = larder(&scratch, &certificates, "on")
        .origin("memory:1M")
        .start();
    let told = run("nbdinfo", [&server.uri()]);
    assert!(told.contains("newstyle-fixed without TLS"), "{told}");
    let told = run("nbdinfo", [address(&server, certificates.directory())]);
    assert!(told.contains("newstyle-fixed with TLS"), "{told}");
}

#[test]
fn tls_that_is_required_refuses_clients_without() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let server = larder(&scratch, &certificates, "require")
        .origin("memory:1M")
        .start();
    assert!(
        server.tcp_uri().starts_with("nbds://"),
        "{}",
        server.output()
    );
    run("nbdinfo", [address(&server, certificates.directory())]);
    run_expecting_failure("nbdinfo", [&server.uri()]);
    // NBD_REP_ERR_TLS_REQD, and an end of the connection where there is no such answer.
    let error = Client::try_connect_to(server.socket(), "").unwrap_err();
    assert!(error.to_string().contains("0x80000005"), "{error}");
    let error = Client::list_exports(server.socket()).unwrap_err();
    assert!(error.to_string().contains("0x80000005"), "{error}");
    assert!(Client::try_connect_by_name(server.socket(), "").is_err());
}

#[test]
fn a_server_without_tls_refuses_to_start_it() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let server = Larder::serve(&scratch).origin("memory:1M").tcp().start();
    run_expecting_failure("nbdinfo", [address(&server, certificates.directory())]);
    let told = run("nbdinfo", [&server.tcp_uri()]);
    assert!(told.contains("newstyle-fixed without TLS"), "{told}");
}

#[test]
fn nbdcopy_and_qemu_img_copy_over_tls() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let image = scratch.path("image");
    let bytes = random_file(&image, SIZE, 1);
    let server = larder(&scratch, &certificates, "require")
        .file(&image)
        .start();
    let uri = address(&server, certificates.directory());
    let copy = scratch.path("copy").display().to_string();
    run("nbdcopy", [&uri, &copy]);
    assert_same_bytes("what was copied out", &read_file(Path::new(&copy)), &bytes);
    let other = random_file(Path::new(&copy), SIZE, 2);
    run("nbdcopy", ["--flush", &copy, &uri]);
    assert_same_bytes("what was copied in", &read_file(&image), &other);

    let directory = certificates.directory().display();
    let object = format!("tls-creds-x509,id=tls0,endpoint=client,dir={directory}");
    let source = format!(
        "driver=nbd,server.type=inet,server.host=localhost,server.port={},tls-creds=tls0",
        server.port()
    );
    run(
        "qemu-img",
        [
            "convert",
            "--object",
            &object,
            "--image-opts",
            &source,
            "-O",
            "raw",
            &copy,
        ],
    );
    assert_same_bytes("qemu-img's copy", &read_file(Path::new(&copy)), &other);
}

#[test]
fn clients_must_show_certificates_where_they_are_verified() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let strangers = Certificates::make(&scratch, "strangers");
    std::fs::copy(
        certificates.file("ca-cert.pem"),
        strangers.file("ca-cert.pem"),
    )
    .unwrap();
    let server = larder(&scratch, &certificates, "require")
        .flag("--tls-verify-peer")
        .origin("memory:1M")
        .start();
    run("nbdinfo", [address(&server, certificates.directory())]);
    run_expecting_failure("nbdinfo", [address(&server, &certificates.anonymous())]);
    run_expecting_failure("nbdinfo", [address(&server, strangers.directory())]);
    // The server goes on.
    run("nbdinfo", [address(&server, certificates.directory())]);
}

#[test]
fn clients_may_show_no_certificate_but_no_other_where_it_is_optional() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let strangers = Certificates::make(&scratch, "strangers");
    std::fs::copy(
        certificates.file("ca-cert.pem"),
        strangers.file("ca-cert.pem"),
    )
    .unwrap();
    let anonymous = certificates.anonymous();
    for policy in ["on", "require"] {
        let server = larder(&scratch, &certificates, policy)
            .parameter("tls-verify-peer=optional")
            .origin("memory:1M")
            .start();
        run("nbdinfo", [address(&server, certificates.directory())]);
        run("nbdinfo", [address(&server, &anonymous)]);
        run_expecting_failure("nbdinfo", [address(&server, strangers.directory())]);
    }
    // Or else clients without TLS would be served without a certificate.
    let line = larder(&scratch, &certificates, "on")
        .parameter("tls-verify-peer=true")
        .origin("memory:1M")
        .refusal();
    assert!(
        line.contains("tls-verify-peer=true: needs tls=require"),
        "{line}"
    );
}

#[test]
fn clients_need_no_certificate_otherwise() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let server = larder(&scratch, &certificates, "require")
        .origin("memory:1M")
        .start();
    run("nbdinfo", [address(&server, &certificates.anonymous())]);
}

#[test]
fn wrong_tls_settings_are_refused_with_one_line() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let directory = certificates.directory().display().to_string();
    let start = || Larder::serve(&scratch).origin("memory:1M");
    let line = start().parameter("tls-psk=keys").refusal();
    assert!(
        line.contains("tls-psk") && line.contains("tls-certificates"),
        "{line}"
    );
    let line = start().parameter("tls=require").refusal();
    assert!(line.contains("tls-certificates"), "{line}");
    std::fs::remove_file(certificates.file("server-key.pem")).unwrap();
    let with =
        |policy: &str| start().parameters([policy, &format!("tls-certificates={directory}")]);
    let line = with("tls=require").refusal();
    assert!(line.contains("server-key.pem"), "{line}");
}

/// An nbdkit whose nbd plugin does TLS, for clients without.
fn decrypting_front(scratch: &Scratch, server: &Server, certificates: &Certificates) -> Server {
    let directory = certificates.directory().display();
    Nbdkit::bare(scratch)
        .plugin(
            "nbd",
            [
                "hostname=localhost".to_owned(),
                format!("port={}", server.port()),
                "tls=require".to_owned(),
                format!("tls-certificates={directory}"),
            ],
        )
        .start()
}

#[test]
fn random_requests_over_tls_agree_with_a_byte_array() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let image = scratch.path("image");
    let _ = random_file(&image, SIZE, 1);
    let server = larder(&scratch, &certificates, "require")
        .file(&image)
        .start();
    let front = decrypting_front(&scratch, &server, &certificates);
    let model = run_workload(front.socket(), &image, &Plan::moderate(4));
    front.stop();
    server.stop();
    model.check("the file at the end", 0, &read_file(&image));
}

#[test]
fn a_gibibyte_of_random_reads_and_writes_over_tls_is_verified() {
    let scratch = Scratch::new();
    let certificates = Certificates::make(&scratch, "pki");
    let image = scratch.path("image");
    sparse_file(&image, 256 * MIB);
    let server = larder(&scratch, &certificates, "require")
        .file(&image)
        .start();
    // fio's own connections take no certificates from an address.
    let front = decrypting_front(&scratch, &server, &certificates);
    run(
        "fio",
        [
            "--name=verify",
            "--ioengine=nbd",
            &format!("--uri={}", front.uri()),
            &format!("--aux-path={}", scratch.path("").display()),
            "--rw=randwrite",
            "--bsrange=512-1M",
            "--iodepth=16",
            "--size=256M",
            "--io_size=512M",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
        ],
    );
    front.stop();
    server.stop();
}
