//! A terminal, written to by a thread of its own: whoever looks at it may stop it (Ctrl-S), and that must not stop the
//! server, its end, or who gives up.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use indicatif::ProgressBar;

/// Messages that wait for a stopped terminal. Further ones that tell no error are left out, and their number is told.
const MOST_WAITING: u64 = 4096;

/// What the bar at the end of the terminal is to show.
#[derive(Debug)]
pub(crate) enum Figures {
    /// A text.
    Text(String),
    /// How far it has come.
    Position(u64),
}

#[derive(Debug)]
enum Order {
    /// A line on standard error.
    Say(String),
    /// A line on standard output, and who waits for it.
    Print(String, Sender<()>),
    /// Another bar, or none any more.
    Draw(Option<ProgressBar>),
    /// There are figures for the bar.
    Update,
    /// Who waits for all that came before.
    Answer(Sender<()>),
}

/// Standard error, and standard output where it may be the same terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    orders: Sender<Order>,
    /// Messages among them.
    waiting: Arc<AtomicU64>,
    /// Only the latest are of interest: they do not queue.
    figures: Arc<Mutex<Option<Figures>>>,
    /// Messages that found no room.
    left_out: Arc<AtomicU64>,
}

impl Terminal {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel();
        let waiting = Arc::<AtomicU64>::default();
        let figures = Arc::<Mutex<Option<Figures>>>::default();
        let left_out = Arc::<AtomicU64>::default();
        let mut writer = Writer {
            bar: None,
            waiting: Arc::clone(&waiting),
            figures: Arc::clone(&figures),
            left_out: Arc::clone(&left_out),
        };
        thread::Builder::new()
            .name("larder-terminal".to_owned())
            .spawn(move || writer.run(&inbox))?;
        Ok(Self {
            orders,
            waiting,
            figures,
            left_out,
        })
    }

    /// Writes a line to standard error, some time.
    pub(crate) fn say(&self, line: String) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.orders.send(Order::Say(line));
    }

    /// The same, unless too many wait already.
    pub(crate) fn mention(&self, line: String) {
        if self.waiting.load(Ordering::Relaxed) < MOST_WAITING {
            self.say(line);
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line to standard output, which is out of this process on return.
    pub(crate) fn print(&self, line: String) {
        let (sender, is_out) = mpsc::channel();
        let _ = self.orders.send(Order::Print(line, sender));
        let _ = is_out.recv();
    }

    /// Draws `bar` below all that is written from now on, or nothing any more.
    pub(crate) fn draw(&self, bar: Option<ProgressBar>) {
        let _ = self.orders.send(Order::Draw(bar));
    }

    /// Has the bar show these figures.
    pub(crate) fn update(&self, figures: Figures) {
        if lock(&self.figures).replace(figures).is_none() {
            let _ = self.orders.send(Order::Update);
        }
    }

    /// Waits until all that came before has been written, or no longer than `patience` if it is given.
    pub(crate) fn settle(&self, patience: Option<Duration>) {
        let (sender, is_out) = mpsc::channel();
        let Some(patience) = patience else {
            let _ = self.orders.send(Order::Answer(sender));
            let _ = is_out.recv();
            return;
        };
        let _ = self.orders.send(Order::Answer(sender));
        let _ = is_out.recv_timeout(patience);
    }
}

/// The thread's side. Nothing here fails: a terminal that has gone away must not stop a server.
struct Writer {
    bar: Option<ProgressBar>,
    waiting: Arc<AtomicU64>,
    figures: Arc<Mutex<Option<Figures>>>,
    left_out: Arc<AtomicU64>,
}

impl Writer {
    fn run(&mut self, inbox: &Receiver<Order>) {
        for order in inbox {
            match order {
                Order::Say(line) => {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    self.say(&line);
                }
                Order::Print(line, is_out) => {
                    self.around_bar(|| {
                        let mut out = io::stdout().lock();
                        let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
                    });
                    let _ = is_out.send(());
                }
                Order::Draw(next) => {
                    if let Some(old) = std::mem::replace(&mut self.bar, next) {
                        old.finish_and_clear();
                    }
                }
                Order::Update => self.update(),
                Order::Answer(is_out) => {
                    self.say("");
                    let _ = is_out.send(());
                }
            }
        }
    }

    fn say(&self, line: &str) {
        let left_out = match self.left_out.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            number => format!("larder: {number} messages are left out here\n"),
        };
        let text = format!("{left_out}{line}");
        if !text.is_empty() {
            self.around_bar(|| {
                let _ = io::stderr().write_all(text.as_bytes());
            });
        }
    }

    fn update(&self) {
        let figures = lock(&self.figures).take();
        match (figures, &self.bar) {
            (Some(Figures::Text(text)), Some(bar)) => {
                bar.set_message(text);
                bar.tick();
            }
            (Some(Figures::Position(position)), Some(bar)) => bar.set_position(position),
            _ => {}
        }
    }

    fn around_bar(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn lock(figures: &Mutex<Option<Figures>>) -> MutexGuard<'_, Option<Figures>> {
    figures.lock().unwrap_or_else(PoisonError::into_inner)
}
