//! Opening: what is there is judged first, and only then changed.

use std::sync::{Arc, Mutex};

use super::{Found, Home, Opened, Wanted};
use crate::directory::SlotNumber;
use crate::medium::{Medium, MediumFile};
use crate::persist::contents::Contents;
use crate::persist::files::{self, Files, Identity};
use crate::persist::header::Role;
use crate::persist::journal::{Begin, Journal, Place};
use crate::persist::lock;
use crate::persist::making::{self, Plan};
use crate::persist::open_error::{OpenError, THE_DIRECTORY};
use crate::persist::queue_log::{self, BadQueue, BadQueues, FoundQueue, JudgedQueues};
use crate::persist::recover::Recovery;
use crate::persist::refusal::Finding;
use crate::persist::shape::{
    LARGEST_BLOCK_BYTES, PAGE_BYTES, SMALLEST_BLOCK_BYTES, Shape, journal_bytes,
};
use crate::persist::sums::Uuid;
use crate::persist::superblock::{FILE_NAME, State, Superblock};
use crate::persist::superblocks::{self, Superblocks};
use crate::persist::tables::Tables;

/// The smallest limit on a directory, in bytes.
const SMALLEST_LIMIT_BYTES: u64 = 32 << 20;

impl Home {
    /// Locks the directory, makes it with a journal of that length or checks it, and recovers what a crash has left. When this returns, it is
    /// durable that it is in use.
    ///
    /// # Errors
    /// It is refused: then nothing was written but the lock's text. Or the system failed: then the next start finds what this one has found.
    pub(crate) fn open_with(
        medium: Arc<dyn Medium>,
        wanted: &Wanted,
        journal_bytes: u64,
    ) -> Result<Opened, OpenError> {
        let opened = Self::find(medium, wanted, journal_bytes)?;
        let nothing_else = |_: SlotNumber| false;
        opened.home.tables.check_entries(&nothing_else)?;
        opened.home.begin()?;
        Ok(opened)
    }

    /// The same for whoever reads every entry anyway. That may refuse the directory, and so comes before [`Home::begin`], and that before anything is
    /// written.
    pub(crate) fn find(
        medium: Arc<dyn Medium>,
        wanted: &Wanted,
        journal_bytes: u64,
    ) -> Result<Opened, OpenError> {
        let shape = wanted.check()?;
        // Somebody else's directory does not even get a lock file.
        contents(&*medium)?;
        let lock = lock::take(&*medium, &wanted.lock_text)?;
        let is_made = contents(&*medium)? != Contents::Cache;
        if is_made {
            let uuid = Uuid::from_random(wanted.uuid_bits);
            let identity = Identity { uuid, shape };
            making::make(
                &*medium,
                Plan {
                    identity,
                    journal_bytes,
                },
            )?;
        }
        Self::find_locked(medium, lock, wanted, is_made)
    }

    /// As [`Home::find`], of a directory that must be there: none is made. Also what is wrong with its queues, where that is to be told.
    pub(crate) fn find_existing(
        medium: Arc<dyn Medium>,
        wanted: &Wanted,
        bad_queues: BadQueues,
    ) -> Result<(Opened, Vec<BadQueue>), OpenError> {
        wanted.check()?;
        let missing = || OpenError::of_file(FILE_NAME, Finding::Missing);
        if contents(&*medium)? != Contents::Cache {
            return Err(missing());
        }
        let lock = lock::take(&*medium, &wanted.lock_text)?;
        if contents(&*medium)? != Contents::Cache {
            return Err(missing());
        }
        let tables = load(&*medium, wanted)?;
        let superblock = tables.superblocks().current().clone();
        let mut judged = JudgedQueues::read(&*medium, &superblock)?;
        judged = judged.unless(bad_queues)?;
        let found = find_state(&tables, false)?;
        let mut opened = Self::opened(medium, lock, tables, (found, Vec::new()))?;
        judged.compare(&opened.volumes);
        judged = judged.unless(bad_queues)?;
        opened.queues = judged.found;
        Ok((opened, judged.bad))
    }

    fn find_locked(
        medium: Arc<dyn Medium>,
        lock: Box<dyn MediumFile>,
        wanted: &Wanted,
        is_made: bool,
    ) -> Result<Opened, OpenError> {
        let tables = load(&*medium, wanted)?;
        let Superblock {
            uuid,
            shape,
            session,
            ..
        } = *tables.superblocks().current();
        // Before recovery writes anything.
        let queues = FoundQueue::all(&*medium, uuid, shape, session)?;
        let found = find_state(&tables, is_made)?;
        Self::opened(medium, lock, tables, (found, queues))
    }

    /// Begins the session of a directory of which everything that is read was found to be right. When this returns, it is durable that it is in
    /// use.
    pub(crate) fn begin(&self) -> Result<(), OpenError> {
        self.begin_session()?;
        queue_log::tidy(&*self.medium);
        Ok(())
    }

    fn begin_session(&self) -> Result<(), OpenError> {
        let mut superblocks = self.tables.superblocks();
        let current = superblocks.current().clone();
        if current.state == State::InUse {
            // Recovery has begun it.
            return Ok(());
        }
        // Who was killed may have written a copy and not synced it.
        superblocks.renew()?;
        superblocks.write_first(Superblock {
            state: State::InUse,
            session: current.session + 1,
            ..current
        })?;
        superblocks.settle()
    }

    fn opened(
        medium: Arc<dyn Medium>,
        lock: Box<dyn MediumFile>,
        tables: Tables,
        (found, queues): (Found, Vec<FoundQueue>),
    ) -> Result<Opened, OpenError> {
        let volumes = tables.read_volumes()?;
        let superblock = tables.superblocks().current().clone();
        let begin = Begin {
            place: Place {
                file_name: Role::Journal.file_name().into(),
                ring_start: PAGE_BYTES,
            },
            seed: tables.seed,
            ring_bytes: superblock.journal_bytes,
            session: match superblock.state {
                State::InUse => superblock.session,
                State::Clean => superblock.session + 1,
            },
            tail: superblock.tail,
            end: superblock.tail,
        };
        let journal = Journal::new(files::open(&*medium, Role::Journal)?.into(), begin);
        let slots = Some(files::open(&*medium, Role::Slots)?);
        Ok(Opened {
            home: Self {
                tables,
                journal,
                checkpoint: Mutex::default(),
                is_read_durable: found == Found::Clean,
                slots,
                medium,
                _lock: lock,
            },
            found,
            volumes,
            queues,
            slots_numbered: superblock.slots_numbered,
        })
    }
}

impl Wanted {
    /// The length of a journal that is made.
    pub(crate) fn journal_bytes(&self) -> u64 {
        let limit = self.max_size_bytes.unwrap_or(u64::MAX);
        journal_bytes(limit)
    }

    /// What can be judged without the directory. Tells the shape of one that is made.
    fn check(&self) -> Result<Shape, OpenError> {
        self.check_limit(SMALLEST_LIMIT_BYTES)?;
        let wanted = self.block_bytes.unwrap_or(self.default_block_bytes);
        Shape::new(wanted).ok_or(OpenError::ImpossibleBlock {
            wanted,
            smallest: SMALLEST_BLOCK_BYTES,
            largest: LARGEST_BLOCK_BYTES,
        })
    }

    fn check_limit(&self, needed: u64) -> Result<(), OpenError> {
        match self.max_size_bytes {
            Some(wanted) if wanted < needed => Err(OpenError::TooSmall { wanted, needed }),
            _ => Ok(()),
        }
    }

    /// Whether the cache that was found is what is asked for.
    fn check_found(&self, superblock: &Superblock) -> Result<(), OpenError> {
        let found = superblock.shape.block_bytes();
        if let Some(wanted) = self.block_bytes
            && wanted != found
        {
            return Err(OpenError::BlockSize { found, wanted });
        }
        // Its journal stays as long as it is, and must leave room for something else.
        self.check_limit(superblock.journal_bytes.saturating_mul(2))
    }
}

/// What the directory is, if it is not somebody else's.
fn contents(medium: &dyn Medium) -> Result<Contents, OpenError> {
    let unread = OpenError::io(THE_DIRECTORY, "read");
    let names = medium.names().map_err(unread)?;
    match Contents::of(names.iter().map(String::as_bytes)) {
        Contents::Foreign(name) => Err(OpenError::Foreign {
            name: String::from_utf8_lossy(&name).into_owned(),
        }),
        contents => Ok(contents),
    }
}

/// Opens the files of a cache. Writes nothing.
fn load(medium: &dyn Medium, wanted: &Wanted) -> Result<Tables, OpenError> {
    let file = files::open_named(medium, FILE_NAME)?;
    let chosen = superblocks::read(&*file)?;
    wanted.check_found(&chosen.superblock)?;
    let files = Files::open(medium, &chosen.superblock)?;
    Ok(Tables::new(files, Superblocks::new(file, chosen)))
}

/// What the directory was. After a session that was not ended one begins.
fn find_state(tables: &Tables, is_made: bool) -> Result<Found, OpenError> {
    let state = tables.superblocks().current().state;
    match state {
        State::Clean if is_made => Ok(Found::Made),
        State::Clean => Ok(Found::Clean),
        State::InUse => recover(tables),
    }
}

/// Begins a session after one that was not ended.
fn recover(tables: &Tables) -> Result<Found, OpenError> {
    let recovery = Recovery::read(tables)?;
    let frames = recovery.frames();
    {
        let mut superblocks = tables.superblocks();
        superblocks.renew()?;
        superblocks.settle()?;
    }
    recovery.write(tables)?;
    Ok(Found::Crashed { frames })
}
