//! The HTTP origin against nginx, plain and with TLS. Needs the Debian packages nginx-light and openssl.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod http_support;

use std::fs::{self, File, FileTimes};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use http_support::{Opener, content, read, wait_until};

/// A directory of a test's own, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("larder-http-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("files")).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("files").join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running nginx, killed when it is dropped.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(scratch: &Scratch, port: u16, listen: &str, server: &str) -> Self {
        let (prefix, root) = (&scratch.0, scratch.0.join("files"));
        let configuration = prefix.join("nginx.conf");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {name};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid nginx.pid;
            events {{ }}
            http {{
                log_format connection $connection;
                access_log connections connection;
                {temporary}
                server {{ listen 127.0.0.1:{port} {listen}; root {}; {server} }}
            }}",
            root.display()
        );
        fs::write(&configuration, text).expect("nginx's configuration");
        let mut child = Command::new(nginx())
            .arg("-p")
            .arg(prefix)
            .arg("-c")
            .arg(&configuration)
            .arg("-e")
            .arg(prefix.join("error.log"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot run nginx (Debian package nginx-light): {error}")
            });
        wait_until("nginx serves", || {
            let ended = child.try_wait().expect("nginx's state");
            let told = || fs::read_to_string(prefix.join("error.log"));
            assert!(ended.is_none(), "nginx ended: {:?}", told());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self { child, port }
    }

    /// How many connections had a request.
    fn connections(&self, scratch: &Scratch) -> usize {
        let log = fs::read_to_string(scratch.0.join("connections")).expect("nginx's log");
        log.lines().collect::<std::collections::HashSet<_>>().len()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Debian keeps it where only root's PATH looks.
fn nginx() -> &'static str {
    let debian = "/usr/sbin/nginx";
    if Path::new(debian).exists() {
        debian
    } else {
        "nginx"
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn openssl(scratch: &Scratch, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(&scratch.0)
        .output()
        .unwrap_or_else(|error| panic!("cannot run openssl (Debian package openssl): {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}

/// Writes a file that nobody has changed for a while.
fn publish(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let times = FileTimes::new().set_modified(an_hour_ago);
    file.set_times(times).unwrap();
}

#[test]
fn a_file_is_read_by_many_threads() {
    let scratch = Scratch::new("plain");
    let bytes = content(5_000_000);
    publish(&scratch.file("disk image"), &bytes);
    publish(&scratch.file("empty"), b"");
    let nginx = Nginx::start(&scratch, free_port(), "", "");
    let opener = Opener::new();
    let origin = opener.origin(&nginx.url("/disk%20image"));
    assert_eq!(origin.size(), 5_000_000);
    assert_eq!(read(&*origin, 0, bytes.len()).unwrap(), bytes);
    thread::scope(|scope| {
        for thread in 0..8 {
            let (origin, bytes) = (&origin, &bytes);
            scope.spawn(move || {
                for turn in 0..100 {
                    let offset = (thread * 1_234_567 + turn * 7_654_321) % 4_900_000;
                    let length = 1 + (turn * 977) % 90_000;
                    assert_eq!(
                        read(&**origin, offset as u64, length).unwrap(),
                        bytes[offset..][..length]
                    );
                }
            });
        }
    });
    let connections = nginx.connections(&scratch);
    assert!(connections <= 8, "{connections} connections");
    assert_eq!(opener.origin(&nginx.url("/empty")).size(), 0);
    let error = opener.refused(&nginx.url("/missing"));
    assert!(error.contains("404 Not Found"), "{error}");
    assert!(
        opener.log.messages().is_empty(),
        "{:?}",
        opener.log.messages()
    );
}

#[test]
fn a_file_that_is_replaced_is_an_error() {
    let scratch = Scratch::new("replaced");
    publish(&scratch.file("disk"), content(100_000));
    let nginx = Nginx::start(&scratch, free_port(), "", "");
    let opener = Opener::new();
    let origin = opener.origin(&nginx.url("/disk"));
    read(&*origin, 0, 100).unwrap();
    // Another size is another ETag even within the same second.
    publish(&scratch.file("new"), vec![1; 100_001]);
    fs::rename(scratch.file("new"), scratch.file("disk")).unwrap();
    for _ in 0..2 {
        let error = read(&*origin, 0, 100).unwrap_err().to_string();
        assert!(
            error.contains("has changed at the server (ETag was "),
            "{error}"
        );
    }
    assert_eq!(opener.log.messages().len(), 1);
}

#[test]
fn reads_resume_when_the_server_comes_back() {
    let scratch = Scratch::new("killed");
    let bytes = content(2_000_000);
    publish(&scratch.file("disk"), &bytes);
    let port = free_port();
    let first = Nginx::start(&scratch, port, "", "");
    let opener = Opener::new();
    let origin = opener.origin(&first.url("/disk"));
    // Outlives the readers.
    let mut nginx = Some(first);
    let (stop, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for thread in 0..8 {
            let (origin, bytes, stop, reads) = (&origin, &bytes, &stop, &reads);
            scope.spawn(move || {
                let mut offset = thread * 200_000;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(
                        read(&**origin, offset as u64, 60_000).unwrap(),
                        bytes[offset..][..60_000]
                    );
                    reads.fetch_add(1, Ordering::SeqCst);
                    offset = (offset + 61_000) % 1_900_000;
                }
            });
        }
        let told = |text: &str| {
            opener
                .log
                .messages()
                .iter()
                .filter(|message| message.contains(text))
                .count()
        };
        let more = |count: usize| {
            let before = reads.load(Ordering::SeqCst);
            wait_until("reads go on", || {
                reads.load(Ordering::SeqCst) > before + count
            });
        };
        for turn in 1..=3 {
            more(50);
            drop(nginx.take());
            wait_until("the loss is noticed", || {
                told("trying again for up to") >= turn
            });
            nginx = Some(Nginx::start(&scratch, port, "", ""));
            wait_until("it is told", || told("answers again") >= turn);
            more(50);
        }
        stop.store(true, Ordering::SeqCst);
    });
}

#[test]
fn basic_authentication() {
    let scratch = Scratch::new("basic");
    publish(&scratch.file("disk"), content(1000));
    let hash = openssl(&scratch, &["passwd", "-apr1", "pa:ss word"]);
    fs::write(scratch.0.join("users"), format!("al:{hash}")).unwrap();
    let users = scratch.0.join("users");
    let server = format!(
        "auth_basic \"files\"; auth_basic_user_file {};",
        users.display()
    );
    let nginx = Nginx::start(&scratch, free_port(), "", &server);
    let with = |user: &str| {
        nginx
            .url("/disk")
            .replace("http://", &format!("http://{user}@"))
    };
    let origin = Opener::new().origin(&with("al:pa%3Ass%20word"));
    assert_eq!(read(&*origin, 9, 90).unwrap(), content(1000)[9..99]);
    for url in [with("al:wrong"), nginx.url("/disk")] {
        let error = Opener::new().refused(&url);
        assert!(
            error.contains("401 Unauthorized") && !error.contains("wrong"),
            "{error}"
        );
    }
    let mut opener = Opener::new();
    let header = ("authorization".into(), "Basic YWw6cGE6c3Mgd29yZA==".into());
    opener.options.http_headers.push(header);
    assert_eq!(opener.origin(&nginx.url("/disk")).size(), 1000);
}

/// An authority and a certificate of it for a name.
fn certificate(scratch: &Scratch, name: &str) {
    fs::write(scratch.0.join("names"), format!("subjectAltName={name}\n")).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for arguments in [
        format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority -days 2"),
        format!("req {key} -keyout server.key -out server.csr -subj /CN=server"),
        String::from(
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2 -extfile names",
        ),
    ] {
        openssl(scratch, &arguments.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn tls() {
    let scratch = Scratch::new("tls");
    let bytes = content(3_000_000);
    publish(&scratch.file("disk"), &bytes);
    certificate(&scratch, "IP:127.0.0.1");
    let server = format!(
        "ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key;",
        scratch.0.display()
    );
    let nginx = Nginx::start(&scratch, free_port(), "ssl", &server);
    let url = nginx.url("/disk").replace("http:", "https:");

    let mut opener = Opener::new();
    opener.options.tls_ca = Some(scratch.0.join("ca.pem"));
    let origin = opener.origin(&url);
    assert_eq!(read(&*origin, 0, bytes.len()).unwrap(), bytes);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (origin, bytes) = (&origin, &bytes);
            scope.spawn(move || {
                for turn in 0..50 {
                    let offset = (thread * 1_234_567 + turn * 7_654_321) % 2_900_000;
                    assert_eq!(
                        read(&**origin, offset as u64, 70_000).unwrap(),
                        bytes[offset..][..70_000]
                    );
                }
            });
        }
    });
    let connections = nginx.connections(&scratch);
    assert!(connections <= 4, "{connections} connections");
    assert!(
        opener.log.messages().is_empty(),
        "{:?}",
        opener.log.messages()
    );

    let error = opener.refused(&url.replace("127.0.0.1", "localhost"));
    assert!(
        error.ends_with("the server's certificate is not for this host"),
        "{error}"
    );
    let error = Opener::new().refused(&url);
    assert!(
        error.contains("comes from an authority that is not trusted here"),
        "{error}"
    );
    let error = opener.refused(&nginx.url("/disk"));
    assert!(error.contains("400 Bad Request"), "{error}");
    opener.options.tls_ca = Some(scratch.0.join("server.key"));
    let error = opener.refused(&url);
    assert!(
        error.contains("origin-tls-ca=") && error.contains("server.key: it has no certificate"),
        "{error}"
    );
    opener.options.tls_ca = Some(scratch.0.join("none"));
    let error = opener.refused(&url);
    assert!(error.contains("none: No such file"), "{error}");
}

#[test]
fn self_signed_certificates() {
    for (constraint, accepted) in [("CA:FALSE", true), ("CA:TRUE", false)] {
        let scratch = Scratch::new(&constraint.replace(':', "-"));
        publish(&scratch.file("disk"), content(1000));
        let arguments = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out own.pem -subj /CN=own -days 2 \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,{constraint}"
        );
        openssl(&scratch, &arguments.split_whitespace().collect::<Vec<_>>());
        let own = scratch.0.join("own.pem");
        let server = format!(
            "ssl_certificate {0}/own.pem; ssl_certificate_key {0}/key.pem;",
            scratch.0.display()
        );
        let nginx = Nginx::start(&scratch, free_port(), "ssl", &server);
        let url = nginx.url("/disk").replace("http:", "https:");
        let mut opener = Opener::new();
        opener.options.tls_ca = Some(own);
        match accepted {
            true => assert_eq!(opener.origin(&url).size(), 1000),
            false => assert!(
                opener
                    .refused(&url)
                    .contains("is an authority's own (CA:TRUE)")
            ),
        }
    }
}

#[test]
fn https_to_a_server_without_tls() {
    let scratch = Scratch::new("no-tls");
    let nginx = Nginx::start(&scratch, free_port(), "", "");
    let error = Opener::new().refused(&nginx.url("/disk").replace("http:", "https:"));
    assert!(
        error.ends_with("the server does not speak TLS (https) here"),
        "{error}"
    );
}
