//! What the tests of the HTTP origin share: a scripted server, a log that is kept, small objects.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "test files include this module")]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use larder::{Log, Origin};
use larder_origins::{HttpAddress, OpenError, Options, Source};

/// A request as the scripted server sees it.
pub struct Request {
    /// Counted from 0 over all connections.
    pub number: usize,
    /// Counted from 0.
    pub connection: usize,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// First and last byte asked for.
    pub fn range(&self) -> (usize, usize) {
        let range = self
            .header("range")
            .expect("a range")
            .strip_prefix("bytes=")
            .expect("bytes");
        let (first, last) = range.split_once('-').expect("one range");
        (
            first.parse().expect("a number"),
            last.parse().expect("a number"),
        )
    }
}

/// What the scripted server does with a request.
pub enum Reply {
    /// Sends these bytes and waits for the next request.
    Send(Vec<u8>),
    /// Sends these bytes and closes the connection.
    SendAndClose(Vec<u8>),
    /// Sends these bytes, and then nothing, with the connection open.
    SendAndHang(Vec<u8>),
    /// Sends the first bytes, takes its time, and sends the others.
    SendInTwo(Vec<u8>, Duration, Vec<u8>),
}

/// A server whose every answer a test decides. Ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct State {
    script: Box<Script>,
    stopped: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

impl Server {
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State {
            script: Box::new(script),
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            streams: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || shared.accept(&listener));
        Self { address, state }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        for stream in self.state.streams.lock().expect("streams").iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl State {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let connection = self.connections.fetch_add(1, Ordering::SeqCst);
            let mut streams = self.streams.lock().expect("streams");
            streams.push(stream.try_clone().expect("a second handle"));
            let state = Arc::clone(self);
            thread::spawn(move || state.serve(connection, &stream));
        }
    }

    fn serve(&self, connection: usize, mut stream: &TcpStream) {
        let mut input = BufReader::new(stream);
        while let Some(mut request) = read_request(&mut input) {
            request.connection = connection;
            request.number = self.requests.fetch_add(1, Ordering::SeqCst);
            match (self.script)(&request) {
                Reply::Send(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
                Reply::SendAndClose(bytes) => {
                    let _ = stream.write_all(&bytes);
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
                Reply::SendInTwo(first, pause, others) => {
                    let _ = stream.write_all(&first);
                    thread::sleep(pause);
                    if stream.write_all(&others).is_err() {
                        return;
                    }
                }
                Reply::SendAndHang(bytes) => {
                    let _ = stream.write_all(&bytes);
                    // Ends when the peer or the test closes it.
                    let _ = read_request(&mut input);
                    return;
                }
            }
        }
    }
}

fn read_request(input: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    if input.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.split(' ').nth(1)?.to_string();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_string(), value.trim().to_string()));
    }
    Some(Request {
        number: 0,
        connection: 0,
        path,
        headers,
    })
}

/// An answer with a Content-Length.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    [text.as_bytes(), body].concat()
}

/// The right answer to a range request.
pub fn part(request: &Request, content: &[u8], validator: (&str, &str)) -> Vec<u8> {
    let (first, last) = request.range();
    if first >= content.len() {
        let range = format!("bytes */{}", content.len());
        return answer(
            "416 Range Not Satisfiable",
            &[("Content-Range", &range)],
            b"",
        );
    }
    let last = last.min(content.len() - 1);
    let range = format!("bytes {first}-{last}/{}", content.len());
    answer(
        "206 Partial Content",
        &[("Content-Range", &range), validator],
        &content[first..=last],
    )
}

pub const ETAG: (&str, &str) = ("ETag", "\"one\"");

/// Bytes that differ from place to place.
pub fn content(length: usize) -> Vec<u8> {
    (0..length as u64)
        .map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8)
        .collect()
}

/// A log that a test looks into.
#[derive(Default)]
pub struct KeptLog {
    messages: Mutex<Vec<String>>,
}

impl KeptLog {
    /// Errors and warnings.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = self.all();
        messages.retain(|message| !message.starts_with("debug: "));
        messages
    }

    pub fn all(&self) -> Vec<String> {
        self.messages.lock().expect("messages").clone()
    }

    fn keep(&self, message: String) {
        self.messages.lock().expect("messages").push(message);
    }
}

impl Log for KeptLog {
    fn error(&self, message: &str) {
        self.keep(format!("error: {message}"));
    }

    fn warning(&self, message: &str) {
        self.keep(format!("warning: {message}"));
    }

    fn debug(&self, message: &str) {
        self.keep(format!("debug: {message}"));
    }

    fn verbose(&self) -> bool {
        true
    }
}

/// Opens an address with a timeout.
pub struct Opener {
    pub log: Arc<KeptLog>,
    pub options: Options,
}

impl Opener {
    pub fn new() -> Self {
        let log = Arc::new(KeptLog::default());
        let options = Options {
            read_only: true,
            timeout: Duration::from_secs(20),
            http_headers: Vec::new(),
            tls_ca: None,
            log: Arc::clone(&log) as Arc<dyn Log>,
        };
        Self { log, options }
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = timeout;
        self
    }

    pub fn source(&self, url: &str) -> Result<Box<dyn Source>, OpenError> {
        let address = larder_origins::Address::Http(HttpAddress::parse(url)?);
        larder_origins::open(&address, &self.options)
    }

    pub fn origin(&self, url: &str) -> Arc<dyn Origin> {
        let source = self.source(url).unwrap_or_else(|error| panic!("{error}"));
        source.connect().expect("a handle")
    }

    pub fn refused(&self, url: &str) -> String {
        self.source(url).expect_err("an error").to_string()
    }
}

pub fn read(origin: &dyn Origin, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0xEE; length];
    origin.read(offset, &mut buffer).map(|()| buffer)
}

/// Waits for a condition; fails after 20 seconds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}
