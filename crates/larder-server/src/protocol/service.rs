//! One connection from beginning to end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use larder::Log;

use super::budget::Common;
use super::handshake::{Agreed, Handshake};
use super::input::Input;
use super::output::{Output, SEND_PATIENCE};
use super::session::Session;
use super::tls::TlsSettings;
use super::transport::{self, GOODBYE, Receiver};
use crate::exports::Exports;
use crate::rate_limit::RateLimit;
use crate::stopping::Registered;
use crate::stream::Stream;

/// What connections are served.
pub(crate) struct Service {
    /// What can be had.
    pub(crate) exports: Arc<Exports>,
    /// Encryption, where it is offered.
    pub(crate) tls: Option<TlsSettings>,
    /// How long a client may take to choose its export.
    pub(crate) handshake_timeout: Duration,
    /// Memory and threads that clients share.
    pub(crate) common: Common,
    /// Where errors are told.
    pub(crate) log: Arc<dyn Log>,
    /// Requests that failed.
    pub(crate) failures: RateLimit,
}

impl Service {
    /// Serves one connection until it ends, on the calling thread.
    pub(crate) fn serve(&self, stream: Stream, registered: &Registered) {
        let (mut receiver, mut sender) = transport::split(stream);
        let handshake =
            Handshake::new(&mut receiver, &mut sender, &self.exports, self.tls.as_ref());
        let agreed = handshake.run_within(self.handshake_timeout);
        match agreed {
            Ok(Some(agreed)) => {
                registered.is_served();
                // Where that cannot be, a client that does not take its replies is waited for.
                let _ = sender.wait_briefly();
                let output = Output::new(sender, &self.common.bytes, SEND_PATIENCE);
                receiver = self.transmit(agreed, receiver, &output);
                sender = output.into_sender();
            }
            Ok(None) => {}
            Err(error) => self.tell(&error),
        }
        if receiver.limit(Some(GOODBYE)).is_ok() {
            sender.finish();
            drain(&mut receiver);
        }
    }

    /// Serves the requests of a client, and lets it leave.
    fn transmit(&self, agreed: Agreed, receiver: Receiver, output: &Output) -> Receiver {
        let session = Session {
            client: agreed.client,
            terms: agreed.terms,
            allowed: agreed.allowed,
            log: &*self.log,
            common: &self.common,
            failures: &self.failures,
            is_leaving: AtomicBool::new(false),
            stream: output.stream().clone(),
            block_bytes: agreed.block_bytes,
        };
        let mut input = Input::new(receiver);
        session.serve(&mut input, output);
        input.into_receiver()
    }

    fn tell(&self, error: &io::Error) {
        if self.log.verbose() {
            self.log.debug(&format!("a handshake ended: {error}"));
        }
    }
}

/// Receives what still comes, or else closing the socket could take from the peer what it has
/// not read yet. Within limits: a peer that goes on sending is not waited for.
fn drain(receiver: &mut Receiver) {
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..64 {
        match receiver.receive(&mut buffer) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}
