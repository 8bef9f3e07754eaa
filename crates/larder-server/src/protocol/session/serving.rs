//! One client's threads: one receives, the others work, and they change places.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};

use super::super::in_flight::InFlight;
use super::super::input::Input;
use super::super::output::Output;
use super::super::workers::{Task, Workers};
use super::Session;
use super::receiving::{Hand, Receiving};

/// How receiving ended; a panic is the outer error.
type Ended = thread::Result<io::Result<()>>;

/// What one client's threads share.
pub(super) struct Serving<'s> {
    session: &'s Session<'s>,
    output: &'s Output,
    pub(super) in_flight: &'s InFlight,
    pub(super) workers: Workers<'s>,
    /// Held by who receives.
    hand: Mutex<Hand<'s>>,
    ended: Mutex<Ended>,
}

/// What a thread is after its turn at receiving.
#[derive(PartialEq, Eq)]
enum Afterwards {
    /// One of the others, since one of them receives.
    Worker,
    /// Nothing: no more requests come.
    Nothing,
}

impl<'s> Serving<'s> {
    pub(super) fn new(
        session: &'s Session<'s>,
        (input, output): (&'s mut Input, &'s Output),
        in_flight: &'s InFlight,
    ) -> Self {
        Self {
            session,
            output,
            in_flight,
            workers: Workers::new(&session.common.threads),
            hand: Mutex::new(Hand::new(input)),
            ended: Mutex::new(Ok(Ok(()))),
        }
    }

    /// Serves until no more requests come and all have been answered.
    pub(super) fn run(self) -> Ended {
        thread::scope(|scope| {
            if self.receive(scope) == Afterwards::Worker {
                self.work(scope);
            }
        });
        self.ended
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does that counts among the workers.
    pub(super) fn work<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) {
        while let Some(task) = self.workers.next() {
            match task {
                Task::Job(job) => self.session.work(job, self.output),
                Task::Receive => {
                    if self.receive(scope) == Afterwards::Nothing {
                        return;
                    }
                }
            }
        }
    }

    fn receive<'scope, 'env>(&'env self, scope: &'scope Scope<'scope, 'env>) -> Afterwards {
        let received = {
            let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
            let mut receiving = Receiving {
                serving: self,
                session: self.session,
                output: self.output,
                scope,
                hand: &mut hand,
            };
            catch_unwind(AssertUnwindSafe(|| receiving.run()))
        };
        let ended = match received {
            Ok(Ok(Some(job))) => {
                self.workers.wake_receiver();
                self.session.work(job, self.output);
                return Afterwards::Worker;
            }
            Ok(ended) => Ok(ended.map(|_| ())),
            Err(panic) => {
                self.output.abort();
                Err(panic)
            }
        };
        self.session.is_leaving.store(true, Ordering::SeqCst);
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = ended;
        self.workers.close();
        self.output.close();
        Afterwards::Nothing
    }
}
