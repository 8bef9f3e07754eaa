//! Encrypted connections to nbdkit and qemu-nbd.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod nbd_support;

use std::fs;
use std::path::PathBuf;

use nbd_support::{Scratch, nbdkit, open_uri, pattern, qemu_nbd, read, run, try_open};

const SIZE: u64 = 8 << 20;

/// An authority, a server's certificate for localhost and a client's, as nbdkit and libnbd name them.
fn certificates(scratch: &Scratch, name: &str) -> PathBuf {
    let directory = scratch.path(name);
    fs::create_dir(&directory).unwrap();
    let path = |file: &str| directory.join(file).to_str().unwrap().to_owned();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-noenc",
    ];
    let ca = [
        "req",
        "-x509",
        "-days",
        "2",
        "-subj",
        "/CN=authority",
        "-keyout",
        &path("ca-key.pem"),
        "-out",
        &path("ca-cert.pem"),
        "-addext",
        "keyUsage=critical,keyCertSign",
    ];
    run("openssl", "openssl", &[&ca[..], &key].concat());
    for (who, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let request = [
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            &format!("/CN={who}"),
            "-CA",
            &path("ca-cert.pem"),
            "-CAkey",
            &path("ca-key.pem"),
            "-keyout",
            &path(&format!("{who}-key.pem")),
            "-out",
            &path(&format!("{who}-cert.pem")),
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
            "-addext",
            &format!("extendedKeyUsage={usage}"),
            "-addext",
            "keyUsage=critical,digitalSignature,keyEncipherment",
        ];
        run("openssl", "openssl", &[&request[..], &key].concat());
    }
    directory
}

#[test]
fn nbdkit_with_certificates() {
    let scratch = Scratch::new();
    let certificates = certificates(&scratch, "pki");
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let directory = certificates.to_str().unwrap();
    let _peer = nbdkit(
        &socket,
        &[
            "--tls=require",
            "--tls-verify-peer",
            &format!("--tls-certificates={directory}"),
            "file",
            image.to_str().unwrap(),
        ],
    );
    let at = format!("socket={}", socket.display());
    let error = try_open(&format!("nbd+unix:///?{at}"), |_| {})
        .err()
        .unwrap();
    assert!(
        error.contains("the server demands TLS: write nbds:"),
        "{error}"
    );
    let opened = open_uri(&format!("nbds+unix:///?{at}&tls-certificates={directory}"));
    let handle = opened.handle();
    assert!(read(&*handle, 0, SIZE as usize) == pattern(0, SIZE as usize));
    // Both directions at once, more than any buffer holds.
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let handle = &handle;
            scope.spawn(move || {
                let at = thread % 2 * (4 << 20);
                for _ in 0..3 {
                    if thread % 2 == 0 {
                        handle.write(at, &pattern(at, 4 << 20), false).unwrap();
                    } else {
                        assert!(read(&**handle, at, 4 << 20) == pattern(at, 4 << 20));
                    }
                }
            });
        }
    });
    handle.flush().unwrap();
    assert!(fs::read(&image).unwrap() == pattern(0, SIZE as usize));
    assert!(
        opened.log.messages().is_empty(),
        "{:?}",
        opened.log.messages()
    );
}

#[test]
fn who_is_not_trusted_is_refused() {
    let scratch = Scratch::new();
    let (ours, other) = (
        certificates(&scratch, "ours"),
        certificates(&scratch, "other"),
    );
    let socket = scratch.path("s");
    let directory = ours.to_str().unwrap();
    let _peer = nbdkit(
        &socket,
        &[
            "--tls=require",
            &format!("--tls-certificates={directory}"),
            "memory",
            "1M",
        ],
    );
    let uri = format!("nbds+unix:///?socket={}", socket.display());
    // Any authority at all, so that it is the trust that is missing.
    let wrong = format!("{uri}&tls-certificates={}", other.display());
    let error = try_open(&wrong, |_| {}).err().unwrap();
    assert!(error.contains("TLS: invalid peer certificate"), "{error}");
    let wrong = format!("{uri}&tls-certificates={directory}&tls-hostname=elsewhere");
    let error = try_open(&wrong, |_| {}).err().unwrap();
    assert!(error.contains("TLS: invalid peer certificate"), "{error}");
    let opened = try_open(&uri, |options| {
        options.tls_ca = Some(ours.join("ca-cert.pem"))
    });
    assert_eq!(read(&*opened.unwrap().handle(), 0, 512), [0; 512]);
    let error = try_open(&format!("{uri}&tls-certificates=/no/such"), |_| {})
        .err()
        .unwrap();
    assert!(
        error.contains("tls-certificates=/no/such: not a directory"),
        "{error}"
    );
}

#[test]
fn a_directory_without_certificates_does_not_mean_the_systems_authorities() {
    let scratch = Scratch::new();
    let directory = scratch.path("pki");
    fs::create_dir(&directory).unwrap();
    let uri = format!(
        "nbds+unix:///?socket=/no/such&tls-certificates={}",
        directory.display()
    );
    let refused = || try_open(&uri, |_| {}).err().unwrap();
    fs::write(directory.join("ca-certs.pem"), "misspelt").unwrap();
    assert!(
        refused().contains("neither ca-cert.pem nor"),
        "{}",
        refused()
    );
    // There, and not to be read.
    std::os::unix::fs::symlink("ca-cert.pem", directory.join("ca-cert.pem")).unwrap();
    assert!(refused().contains("pki/ca-cert.pem: "), "{}", refused());
}

#[test]
fn a_server_without_tls_is_not_talked_to() {
    let scratch = Scratch::new();
    let certificates = certificates(&scratch, "pki");
    let socket = scratch.path("s");
    let _peer = nbdkit(&socket, &["memory", "1M"]);
    let uri = format!(
        "nbds+unix:///?socket={}&tls-certificates={}",
        socket.display(),
        certificates.display()
    );
    let error = try_open(&uri, |_| {}).err().unwrap();
    assert!(error.contains("the server has no TLS"), "{error}");
}

#[test]
fn qemu_nbd_with_certificates_over_unix() {
    let scratch = Scratch::new();
    let certificates = certificates(&scratch, "pki");
    let (socket, image) = (scratch.path("s"), scratch.image("d", SIZE));
    let directory = certificates.to_str().unwrap();
    let _peer = qemu_nbd(
        &socket,
        &[
            "--object",
            &format!("tls-creds-x509,id=tls0,endpoint=server,dir={directory},verify-peer=on"),
            "--tls-creds",
            "tls0",
            "-x",
            "disk",
            "-f",
            "raw",
            image.to_str().unwrap(),
        ],
    );
    let opened = open_uri(&format!(
        "nbds+unix:///disk?socket={}&tls-certificates={directory}&tls-hostname=localhost",
        socket.display()
    ));
    let handle = opened.handle();
    assert!(read(&*handle, 0, 1 << 20) == pattern(0, 1 << 20));
    handle.write(0, b"secret", true).unwrap();
    assert_eq!(read(&*handle, 0, 6), b"secret");
}
