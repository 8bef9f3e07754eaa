//! The accepting thread with real sockets, whatever is spoken through them.

use std::io::Read;
use std::net::TcpStream;

use super::*;
use crate::exports::Exports;
use crate::listen::{self, ListenAddress, Place};
use crate::testing::Told;

struct Scene {
    stopping: Stopping,
    log: Arc<Told>,
    port: u16,
    thread: JoinHandle<()>,
}

impl Scene {
    fn new(max_connections: usize) -> Self {
        let address = ListenAddress::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        let listeners = listen::open(
            &[address],
            crate::settings::SocketSettings::default(),
            &crate::cleanup::Cleanup::default(),
            &crate::console::Console::new(false),
        );
        let listeners = listeners.unwrap();
        let Some(Place::Tcp(_, port)) = listeners[0].place() else {
            panic!("no place");
        };
        let (stopping, log) = (Stopping::new().unwrap(), Arc::new(Told::default()));
        let service = Service {
            exports: Arc::new(Exports::new(Vec::new())),
            tls: None,
            handshake_timeout: Duration::from_secs(10),
            failures: RateLimit::default(),
            common: crate::protocol::Common::default(),
            log: Arc::<Told>::clone(&log),
        };
        let acceptor = Acceptor {
            listeners,
            service: Arc::new(service),
            stopping: stopping.clone(),
            log: Arc::<Told>::clone(&log),
            max_connections,
            messages: Messages::default(),
            traffic: Arc::default(),
        };
        Self {
            stopping,
            log,
            port,
            thread: acceptor.start().unwrap(),
        }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }
}

#[test]
fn the_end_is_heard_while_nobody_comes_and_nobody_can_come_later() {
    let scene = Scene::new(1);
    scene.stopping.begin();
    scene.thread.join().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", scene.port)).is_err());
}

#[test]
fn whoever_is_too_many_is_closed_at_once_and_told_once() {
    let scene = Scene::new(0);
    for _ in 0..3 {
        let mut client = scene.connect();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    }
    let told = scene.log.messages();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].ends_with("there are 0 connections already (max-connections)"));
    scene.stopping.begin();
    scene.thread.join().unwrap();
}

#[test]
fn connections_end_with_the_server() {
    let scene = Scene::new(10);
    let mut client = scene.connect();
    scene.stopping.begin();
    scene.thread.join().unwrap();
    assert_eq!(scene.stopping.wait_for_all(Duration::from_secs(30)), 0);
    // A greeting may come, and then the end.
    let mut received = Vec::new();
    let _ = client.read_to_end(&mut received);
}

#[test]
fn lack_of_descriptors_is_not_one_clients_matter() {
    for (errno, is_ones) in [
        (Errno::MFILE, false),
        (Errno::NFILE, false),
        (Errno::NOBUFS, false),
        (Errno::NOMEM, false),
        (Errno::BADF, false),
        (Errno::CONNABORTED, true),
        (Errno::INTR, true),
    ] {
        assert_eq!(is_of_one_client(&errno.into()), is_ones, "{errno:?}");
    }
}
