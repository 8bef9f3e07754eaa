//! The `larder` command.
#![allow(missing_docs, dead_code)]
mod export;
mod exports;
mod protocol;
mod stream;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
struct FileOrigin(std::fs::File, u64);
impl larder::Origin for FileOrigin {
    fn size(&self) -> u64 {
        self.1
    }
    fn capabilities(&self) -> larder::Capabilities {
        larder::Capabilities {
            write: true,
            flush: true,
            parallel: true,
            multi_conn: true,
            ..Default::default()
        }
    }
    fn limits(&self) -> larder::RequestLimits {
        Default::default()
    }
    fn read(&self, o: u64, b: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(b, o)
    }
    fn write(&self, o: u64, b: &[u8], _: bool) -> std::io::Result<()> {
        self.0.write_all_at(b, o)
    }
    fn flush(&self) -> std::io::Result<()> {
        self.0.sync_data()
    }
    fn zero(&self, _: u64, _: u64, _: larder::ZeroOptions) -> std::io::Result<()> {
        unimplemented!()
    }
    fn trim(&self, _: u64, _: u64, _: bool) -> std::io::Result<()> {
        unimplemented!()
    }
    fn extents(&self, _: u64, _: u64, _: bool) -> std::io::Result<Vec<larder::Extent>> {
        unimplemented!()
    }
}
struct L;
impl larder::Log for L {
    fn error(&self, m: &str) {
        eprintln!("{m}")
    }
    fn warning(&self, m: &str) {
        eprintln!("{m}")
    }
    fn debug(&self, m: &str) {
        eprintln!("{m}")
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&args[1])
        .unwrap();
    let size = file.metadata().unwrap().len();
    let dir = std::env::var("TMPDIR").unwrap_or("/var/tmp".into());
    let cf = larder::cache_file::TemporaryFile::create_in(dir.as_ref()).unwrap();
    let config = larder::Config {
        cache_on_read: larder::CacheOnRead::Always,
        background: true,
        ..Default::default()
    };
    let cache = larder::Cache::new(
        config,
        Box::new(cf),
        Arc::new(larder::SystemClock::default()),
        Arc::new(L),
    )
    .unwrap();
    let exports = Arc::new(exports::Exports(vec![export::Export {
        volume: cache.volume(""),
        origin: Arc::new(FileOrigin(file, size)),
    }]));
    let service = Arc::new(protocol::Service {
        exports,
        tls: None,
        handshake_timeout: std::time::Duration::from_secs(10),
        log: Arc::new(L),
    });
    let _ = std::fs::remove_file(&args[2]);
    let l = std::os::unix::net::UnixListener::bind(&args[2]).unwrap();
    for s in l.incoming() {
        let service = service.clone();
        std::thread::spawn(move || service.serve(stream::Stream::Unix(s.unwrap())));
    }
}
