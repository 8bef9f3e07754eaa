//! Who does which work.
//!
//! If the sizes are known, the trace is read once: this thread reads and surveys, others simulate, each
//! some of the sizes. If the sizes depend on the footprint, it is read twice. What is kept of
//! the trace is its blocks, not its requests, and, for the optimum alone, four bytes for each use of a
//! block.

use std::fmt;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use larder::{BlocksUsed, Config, PolicySimulation};

use crate::error::TraceError;
use crate::next_use::NextUses;
use crate::optimum::optimum_misses;
use crate::recency::Recency;
use crate::request::{Kind, Request};
use crate::survey::{Event, Survey};
use crate::trace::Trace;

/// Requests that are handed on at once.
const BATCH: usize = 8192;
/// Batches that may wait for a slow simulation.
const BATCHES_WAITING: usize = 4;

/// The sizes of the caches.
pub enum Sizes<'s> {
    /// These.
    Known(Vec<Config>),
    /// Chosen once the trace is known.
    Chosen(&'s dyn Fn(&Survey) -> Vec<Config>),
}

impl fmt::Debug for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(configs) => f.debug_tuple("Known").field(configs).finish(),
            Self::Chosen(_) => f.write_str("Chosen"),
        }
    }
}

/// What is to be found out.
#[derive(Debug)]
pub struct Replay<'s> {
    /// The block size, in bytes, that all configurations have.
    pub block_bytes: u64,
    /// The caches.
    pub sizes: Sizes<'s>,
    /// Whether the optimum's misses are wanted.
    pub with_optimum: bool,
}

/// What was found out.
#[derive(Debug)]
pub struct Replayed {
    /// What kind of trace it is.
    pub survey: Survey,
    /// By size, in rising order.
    pub sizes: Vec<AtSize>,
}

/// What a cache of one size would have met.
#[derive(Clone, Debug)]
pub struct AtSize {
    /// The cache.
    pub config: Config,
    /// How many blocks fit.
    pub capacity_blocks: u64,
    /// The engine's policy, for reads.
    pub reads: BlocksUsed,
    /// The engine's policy, for writes.
    pub writes: BlocksUsed,
    /// Misses of LRU, with all of the space.
    pub lru_misses: u64,
    /// Misses of the optimum, with all of the space, if wanted.
    pub optimum_misses: Option<u64>,
}

/// Why nothing was found out.
#[derive(Debug)]
pub enum ReplayError {
    /// The trace cannot be read.
    Trace(TraceError),
    /// A cache cannot be.
    Config(larder::Error),
    /// The trace has more distinct blocks than can be counted, 2^32 - 2.
    TooManyBlocks,
    /// The trace uses blocks more often than the optimum can tell apart, 2^32 - 1.
    TooManyUses,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trace(error) => error.fmt(f),
            Self::Config(error) => error.fmt(f),
            Self::TooManyBlocks => f.write_str(
                "the trace touches more than 4294967294 blocks; \
                 a larger cache-min-block-size makes them fewer",
            ),
            Self::TooManyUses => f.write_str(
                "the trace uses blocks more than 4294967295 times, \
                 too often for the optimum; --no-optimum leaves it out",
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// What caches would have met.
///
/// # Errors
/// See [`ReplayError`].
pub fn replay(trace: &Trace, wanted: Replay<'_>) -> Result<Replayed, ReplayError> {
    let mut study = Study {
        survey: Survey::new(wanted.block_bytes),
        recency: Recency::default(),
        next_uses: wanted.with_optimum.then(NextUses::default),
    };
    let mut caches = match wanted.sizes {
        Sizes::Known(configs) => {
            let caches = Simulated::all(configs)?;
            simulate(trace, caches, |request| study.count(request))?
        }
        Sizes::Chosen(choose) => {
            trace
                .for_each(|request| study.count(&request))
                .map_err(ReplayError::Trace)?;
            study.check()?;
            let caches = Simulated::all(choose(&study.survey))?;
            simulate(trace, caches, |_| {})?
        }
    };
    study.check()?;
    caches.sort_by_key(|cache| cache.simulation.capacity_blocks());
    Ok(study.finish(caches))
}

/// What is learnt of the trace beside the engine's policy.
struct Study {
    survey: Survey,
    recency: Recency,
    next_uses: Option<NextUses>,
}

impl Study {
    fn count(&mut self, request: &Request) {
        let (recency, next_uses) = (&mut self.recency, &mut self.next_uses);
        self.survey.count(request, |event| match event {
            Event::Used(block) => {
                recency.use_block(block);
                if let Some(next_uses) = next_uses {
                    next_uses.use_block(block);
                }
            }
            Event::Dropped(block) => {
                recency.drop_block(block);
                if let Some(next_uses) = next_uses {
                    next_uses.drop_block(block);
                }
            }
        });
    }

    fn check(&self) -> Result<(), ReplayError> {
        if self.survey.is_too_large() {
            return Err(ReplayError::TooManyBlocks);
        }
        match &self.next_uses {
            Some(uses) if uses.is_too_long() => Err(ReplayError::TooManyUses),
            _ => Ok(()),
        }
    }

    fn finish(self, caches: Vec<Simulated>) -> Replayed {
        let capacities: Vec<u64> = caches
            .iter()
            .map(|cache| u64::from(cache.simulation.capacity_blocks()))
            .collect();
        let lru_misses = self.recency.misses(&capacities);
        let optimum = self.next_uses.map(|uses| all_optimum(&uses, &capacities));
        let sizes = caches.into_iter().enumerate().map(|(at, cache)| AtSize {
            config: cache.config,
            capacity_blocks: capacities[at],
            reads: cache.reads,
            writes: cache.writes,
            lru_misses: lru_misses[at],
            optimum_misses: optimum.as_ref().map(|misses| misses[at]),
        });
        Replayed {
            sizes: sizes.collect(),
            survey: self.survey,
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The optimum's misses at each size, several at a time.
fn all_optimum(next_uses: &NextUses, capacities: &[u64]) -> Vec<u64> {
    let mut misses = Vec::new();
    for some in capacities.chunks(processors()) {
        misses.extend(thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|capacity| scope.spawn(move || optimum_misses(next_uses, *capacity)))
                .collect();
            threads.into_iter().map(result_of).collect::<Vec<u64>>()
        }));
    }
    misses
}

fn result_of<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    // A panic of a thread is a panic here.
    thread
        .join()
        .unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// One cache and what it met.
struct Simulated {
    config: Config,
    simulation: PolicySimulation,
    reads: BlocksUsed,
    writes: BlocksUsed,
}

impl Simulated {
    fn all(configs: Vec<Config>) -> Result<Vec<Self>, ReplayError> {
        configs
            .into_iter()
            .map(|config| {
                Ok(Self {
                    simulation: PolicySimulation::new(&config)?,
                    config,
                    reads: BlocksUsed::default(),
                    writes: BlocksUsed::default(),
                })
            })
            .collect::<Result<_, larder::Error>>()
            .map_err(ReplayError::Config)
    }

    fn request(&mut self, request: &Request) {
        let Request {
            volume,
            kind,
            offset,
            length,
        } = *request;
        match kind {
            Kind::Read => add(
                &mut self.reads,
                self.simulation.read(volume, offset, length),
            ),
            Kind::Write => add(
                &mut self.writes,
                self.simulation.write(volume, offset, length),
            ),
            Kind::Trim => self.simulation.trim(volume, offset, length),
        }
    }
}

fn add(sum: &mut BlocksUsed, used: BlocksUsed) {
    sum.hits += used.hits;
    sum.misses += used.misses;
}

type Batch = Arc<Vec<Request>>;

/// Gives every request to all caches, and to `count`.
fn simulate(
    trace: &Trace,
    caches: Vec<Simulated>,
    mut count: impl FnMut(&Request),
) -> Result<Vec<Simulated>, ReplayError> {
    let shares = share(caches, processors());
    thread::scope(|scope| {
        let (senders, threads): (Vec<SyncSender<Batch>>, Vec<_>) = shares
            .into_iter()
            .map(|caches| {
                let (sender, receiver) = sync_channel(BATCHES_WAITING);
                (sender, scope.spawn(|| simulate_share(receiver, caches)))
            })
            .unzip();
        let mut batch = Vec::with_capacity(BATCH);
        let send = |batch: Vec<Request>| {
            let batch = Arc::new(batch);
            for sender in &senders {
                // Whoever does not listen has panicked, which is met below.
                let _ = sender.send(Arc::clone(&batch));
            }
        };
        let read = trace.for_each(|request| {
            count(&request);
            batch.push(request);
            if batch.len() == BATCH {
                send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
            }
        });
        send(batch);
        drop(senders);
        let caches = threads.into_iter().flat_map(result_of).collect();
        read.map_err(ReplayError::Trace)?;
        Ok(caches)
    })
}

fn simulate_share(requests: Receiver<Batch>, mut caches: Vec<Simulated>) -> Vec<Simulated> {
    for batch in requests {
        for cache in &mut caches {
            batch.iter().for_each(|request| cache.request(request));
        }
    }
    caches
}

/// Deals the caches out, like cards.
fn share(caches: Vec<Simulated>, shares: usize) -> Vec<Vec<Simulated>> {
    let mut dealt: Vec<Vec<Simulated>> = (0..shares).map(|_| Vec::new()).collect();
    for (at, cache) in caches.into_iter().enumerate() {
        dealt[at % shares].push(cache);
    }
    dealt.retain(|share| !share.is_empty());
    dealt
}
