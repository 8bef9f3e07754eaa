//! A client that says what it likes inside TLS.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use nbd_wire::{OptionCode, ReplyType};
use rustix::event::{PollFd, PollFlags, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::raw::RawClient;

/// What trusts an authority's certificate, in a file.
pub fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

/// Starts TLS. What the client says from now on is said inside.
pub fn start_tls(client: &mut RawClient, config: &Arc<ClientConfig>) {
    let reply = client.last_reply(OptionCode::STARTTLS, b"");
    assert_eq!(reply, ReplyType::ACK);
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
    session
        .complete_io(&mut client.stream)
        .expect("a handshake");
    let (outside, inside) = UnixStream::pair().unwrap();
    outside
        .set_read_timeout(client.stream.read_timeout().unwrap())
        .unwrap();
    let encrypted = std::mem::replace(&mut client.stream, outside);
    // It ends with the connection.
    thread::spawn(move || carry(session, encrypted, inside));
}

/// Carries what is said between both ends, until the server closes its own.
fn carry(mut session: ClientConnection, mut encrypted: UnixStream, mut inside: UnixStream) {
    let mut buffer = vec![0; 64 << 10];
    let mut is_over = false;
    loop {
        while session.wants_write() {
            if session.write_tls(&mut encrypted).is_err() {
                return;
            }
        }
        let mut watched = vec![PollFd::new(&encrypted, PollFlags::IN)];
        if !is_over {
            watched.push(PollFd::new(&inside, PollFlags::IN));
        }
        poll(&mut watched, None).unwrap();
        let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[0] {
            let ended = matches!(session.read_tls(&mut encrypted), Ok(0) | Err(_));
            if session.process_new_packets().is_err() {
                return;
            }
            while let Ok(count @ 1..) = session.reader().read(&mut buffer) {
                if inside.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            if ended {
                return;
            }
        }
        if ready.get(1) == Some(&true) {
            match inside.read(&mut buffer) {
                Ok(count @ 1..) => session.writer().write_all(&buffer[..count]).unwrap(),
                _ => {
                    is_over = true;
                    session.send_close_notify();
                    while session.wants_write() && session.write_tls(&mut encrypted).is_ok() {}
                    let _ = encrypted.shutdown(Shutdown::Write);
                }
            }
        }
    }
}
