//! A cached volume belongs to its origin: whether it is still the one that was cached.
//!
//! Asked when a connection joins a volume that nobody uses. An origin that changes while it is being cached is nobody's to notice.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::Survival;
use super::load::FoundVolume;
use crate::attached::Attached;
use crate::config::{FlushTo, Mode};
use crate::directory::VolumeNumber;
use crate::origin::{Origin, OriginVersion};
use crate::persist::bytes::Malformed;
use crate::persist::op::volume::{MAX_TEXT_BYTES, RecordedVersion};
use crate::persist::op::{Op, VolumeId, VolumeRecord};
use crate::persist::sums::Incarnation;
use crate::sector::{Geometry, Mask};
use crate::sync;
use crate::volume::Volume;
use crate::{Error, ErrorKind};

/// What the cache directory has to do with a volume.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// One more than the incarnation that the directory knows it by; 0 if it does not.
    incarnation: AtomicU64,
    /// As the directory knew it at the start.
    found: OnceLock<FoundVolume>,
    /// Its origin has been compared with what the directory says.
    is_judged: AtomicBool,
    /// The origin was written to since it was last asked for its version.
    is_changed: AtomicBool,
    /// What the origin held when this life of the cache began is durable there.
    is_flushed: AtomicBool,
    /// So many blocks are dirty for the directory.
    sealed_blocks: AtomicUsize,
}

impl Kept {
    /// A volume that the directory knew at the start.
    pub(crate) fn of_record(record: &VolumeRecord, full: Mask) -> Self {
        let kept = Self::default();
        kept.set_incarnation(record.id.incarnation);
        let found = FoundVolume {
            id: record.id,
            size_bytes: record.size_bytes,
            full,
        };
        // Nobody else has it yet.
        let _ = kept.found.set(found);
        kept
    }

    /// What the directory calls the volume of that number.
    pub(crate) fn id(&self, volume: VolumeNumber) -> Option<VolumeId> {
        let incarnation = self.incarnation.load(Ordering::SeqCst).checked_sub(1)? as u32;
        Some(VolumeId {
            volume,
            incarnation: Incarnation(incarnation),
        })
    }

    fn set_incarnation(&self, incarnation: Incarnation) {
        let number = u64::from(incarnation.0) + 1;
        self.incarnation.store(number, Ordering::SeqCst);
    }

    pub(crate) fn found(&self) -> Option<FoundVolume> {
        self.found.get().copied()
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.is_judged.load(Ordering::SeqCst)
    }

    /// Whether what is read from the origin stays there.
    pub(crate) fn is_flushed(&self) -> bool {
        self.is_flushed.load(Ordering::SeqCst)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed.load(Ordering::SeqCst)
    }

    /// The directory may call a block dirty that it did not before.
    pub(crate) fn block_sealed(&self) {
        self.sealed_blocks.fetch_add(1, Ordering::SeqCst);
    }

    /// It does not any more.
    pub(crate) fn block_unsealed(&self) {
        self.sealed_blocks.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether the directory may call any block dirty.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed_blocks.load(Ordering::SeqCst) > 0
    }

    /// The directory knows that the origin is written to.
    pub(crate) fn changes(&self) {
        if !self.is_changed() {
            self.is_changed.store(true, Ordering::SeqCst);
        }
    }
}

/// What an origin says of itself.
struct Claimed {
    size_bytes: u64,
    sector_shift: u8,
    cache_id: String,
    version: Option<RecordedVersion>,
}

/// Since when the origin has not been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    AnEarlierLife,
    /// Clients of this life of the cache have used it, and perhaps changed it.
    ThisLife {
        is_changed: bool,
    },
}

/// What came of comparing.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    /// It is, and an earlier life has changed it and was not there to see what it was then. What differs, by that life or by
    /// anybody else.
    SameForAllThatIsKnown(String),
    /// Why nothing that is cached can be used.
    Other(String),
}

/// A connection is about to join the volume, which nobody uses: compares its origin with the one that was cached, and forgets what
/// is cached if it is another one. Called with the lock on joining held, once the geometry is decided.
pub(crate) fn judge(volume: &Volume, origin: &dyn Origin) -> Result<(), Error> {
    let Some(survival) = &volume.store().survival else {
        return Ok(());
    };
    if volume.is_private() {
        return Ok(());
    }
    let claimed = claimed(volume, origin, volume.geometry())?;
    check_durable(survival, volume, &claimed, volume.geometry())?;
    let is_over = volume.kept.is_judged() && !volume.is_dirty();
    if volume.store().flushes_to_cache() && volume.kept.is_sealed() && is_over {
        // All of it is on the origin. If the directory cannot be told, that counts below.
        let _ = super::flush(volume);
    }
    let Some(known) = known(survival, volume) else {
        return record(survival, volume, claimed);
    };
    let since = match volume.kept.is_judged() {
        true => Since::ThisLife {
            is_changed: volume.kept.is_changed(),
        },
        false => Since::AnEarlierLife,
    };
    let verdict = compare(&known, &claimed, since);
    if let Verdict::SameForAllThatIsKnown(what) = &verdict {
        volume.store().log.warning(&format!(
            "volume '{}': {what}, which is taken for what the cache itself wrote before it ended without being closed: if anybody \
             else has changed it since, what is cached is wrong, and another cache-id drops it",
            volume.name()
        ));
    }
    match verdict {
        Verdict::Same | Verdict::SameForAllThatIsKnown(_) => {
            let accepted = VolumeRecord {
                version: claimed.version.or(known.version),
                changed_since_version: false,
                ..known
            };
            set(survival, volume, accepted)
        }
        Verdict::Other(_) if volume.is_empty() => {
            survival.forget(volume);
            record(survival, volume, claimed)
        }
        Verdict::Other(why) if volume.has_unwritten() || volume.kept.is_sealed() => {
            Err(refusal(volume, &why))
        }
        Verdict::Other(why) => {
            volume.store().log.warning(&format!(
                "volume '{}': what is cached of it is dropped: {why}",
                volume.name()
            ));
            volume.forget_clean();
            survival.forget(volume);
            record(survival, volume, claimed)
        }
    }
}

/// The same of a volume that was found with data that its origin does not have, before anybody has joined it: only refuses.
pub(crate) fn check_found(
    volume: &Volume,
    origin: &dyn Origin,
    geometry: Geometry,
) -> Result<(), Error> {
    let Some(survival) = &volume.store().survival else {
        return Ok(());
    };
    let claimed = claimed(volume, origin, geometry)?;
    check_durable(survival, volume, &claimed, geometry)?;
    let known = known(survival, volume);
    match known.map(|known| compare(&known, &claimed, Since::AnEarlierLife)) {
        Some(Verdict::Other(why)) => Err(refusal(volume, &why)),
        Some(Verdict::Same | Verdict::SameForAllThatIsKnown(_)) | None => Ok(()),
    }
}

/// What is dirty is another disk's.
fn refusal(volume: &Volume, why: &str) -> Error {
    let ways_out = match volume.store().config.flush_to == FlushTo::Cache {
        true => WAYS_OUT,
        false => "",
    };
    let message = format!(
        "volume '{}' has data that could not be written to the origin, and the origin is another one now: {why}{ways_out}",
        volume.name()
    );
    Error::new(ErrorKind::Config, message)
}

/// What was flushed into the directory must find its origin again, and a sector must fit into its journal.
fn check_durable(
    survival: &Survival,
    volume: &Volume,
    claimed: &Claimed,
    geometry: Geometry,
) -> Result<(), Error> {
    let (sector, most) = (geometry.sector_bytes(), survival.released_bytes());
    if volume.store().config.flush_to != FlushTo::Cache {
        return Ok(());
    }
    if sector > most && volume.store().flushes_to_cache() {
        let message = format!(
            "cache-flush=cache: volume '{}' is cached in sectors of {sector} bytes, and the journal in '{}' takes at most {most}: \
             a directory made with a larger cache-max-size, or a smaller cache-min-block-size, would do",
            volume.name(),
            survival.path
        );
        return Err(Error::new(ErrorKind::Config, message));
    }
    if claimed.version.is_some() || !claimed.cache_id.is_empty() {
        return Ok(());
    }
    let message = format!(
        "cache-flush=cache needs cache-id, a name for the origin's content: the origin of volume '{}' does not say which one it is",
        volume.name()
    );
    Err(Error::new(ErrorKind::Config, message))
}

/// What an operator can do where the origin is not the one that the data was written for.
const WAYS_OUT: &str = "; 'larder drain --output FILE DIR' saves the data to a file, 'larder drain --discard DIR' forgets it, \
     and 'larder drain --force DIR ORIGIN' writes it to the origin all the same";

/// What the directory is to say of the volume now.
fn known(survival: &Survival, volume: &Volume) -> Option<VolumeRecord> {
    let table = sync::lock(&survival.volumes);
    let known = table.get(volume.kept.id(volume.number())?)?;
    Some(known.record.clone())
}

/// Before anything that is read from the origin is listed: what was written to it before, and not flushed, perhaps by an earlier life of this
/// cache, must not go away after it was listed. If it cannot be flushed, nothing is listed.
pub(crate) fn settle(volume: &Volume, attached: &Attached) {
    let kept = &volume.kept;
    if volume.store().survival.is_none() || kept.is_flushed() {
        return;
    }
    // One that has no flush has nothing to lose, or nobody can help it.
    let is_flushed = attached.flush().is_ok() && flush_below(attached).is_ok();
    kept.is_flushed.store(is_flushed, Ordering::SeqCst);
}

/// The queue's flush says nothing of what others have written to the origin itself.
fn flush_below(attached: &Attached) -> std::io::Result<()> {
    let queued = attached.queued.as_ref();
    queued.map_or(Ok(()), |queued| queued.flush_below())
}

fn claimed(volume: &Volume, origin: &dyn Origin, geometry: Geometry) -> Result<Claimed, Error> {
    let version = origin.version().map_err(|error| {
        let context = format!(
            "volume '{}': asking the origin for its version",
            volume.name()
        );
        Error::with_source(ErrorKind::Origin, context, error)
    })?;
    Ok(Claimed {
        size_bytes: origin.size(),
        sector_shift: geometry.sector_bytes().trailing_zeros() as u8,
        cache_id: volume.store().config.cache_id.clone().unwrap_or_default(),
        version: version.and_then(recorded),
    })
}

/// One that is too long to be recorded is none.
fn recorded(version: OriginVersion) -> Option<RecordedVersion> {
    let OriginVersion { stable, changing } = version;
    let fits = stable.len() <= MAX_TEXT_BYTES && changing.len() <= MAX_TEXT_BYTES;
    fits.then_some(RecordedVersion { stable, changing })
}

fn compare(known: &VolumeRecord, now: &Claimed, since: Since) -> Verdict {
    let difference = |what: &str, was: &str, is: &str| format!("{what} was {was}, and is {is} now");
    let differ = |what: &str, was: &str, is: &str| Verdict::Other(difference(what, was, is));
    if known.cache_id != now.cache_id {
        return differ("cache-id", &quoted(&known.cache_id), &quoted(&now.cache_id));
    }
    if known.size_bytes != now.size_bytes {
        let (was, is) = (known.size_bytes, now.size_bytes);
        return differ("the origin's size", &was.to_string(), &is.to_string());
    }
    if known.sector_shift != now.sector_shift {
        let bytes = |shift: u8| (1_u64 << shift).to_string();
        let (was, is) = (bytes(known.sector_shift), bytes(now.sector_shift));
        return differ("the sector size", &was, &is);
    }
    let is_changed = since == Since::ThisLife { is_changed: true };
    let is_ours = known.changed_since_version || is_changed;
    match (&known.version, &now.version) {
        (Some(was), Some(is)) if was.stable != is.stable => {
            differ("the origin", &shown(&was.stable), &shown(&is.stable))
        }
        (Some(was), Some(is)) if was.changing != is.changing => {
            let (was, is) = (shown(&was.changing), shown(&is.changing));
            match since {
                _ if !is_ours => differ("the origin's version", &was, &is),
                Since::AnEarlierLife => {
                    Verdict::SameForAllThatIsKnown(difference("the origin's version", &was, &is))
                }
                Since::ThisLife { .. } => Verdict::Same,
            }
        }
        (Some(_), Some(_)) => Verdict::Same,
        _ if !now.cache_id.is_empty() => Verdict::Same,
        // As without a directory: clients come and go, and the front end says whose volume it is.
        (None, _) if since != Since::AnEarlierLife => Verdict::Same,
        (Some(was), None) => differ("the origin's version", &shown(&was.changing), "unknown"),
        (None, _) => Verdict::Other(
            "the origin does not say whether it is still what it was, and no cache-id says so"
                .to_owned(),
        ),
    }
}

fn quoted(text: &str) -> String {
    match text {
        "" => "not given".to_owned(),
        text => format!("'{text}'"),
    }
}

fn shown(version: &[u8]) -> String {
    format!("'{}'", String::from_utf8_lossy(version).escape_debug())
}

/// The volume is new to the directory. One whose name is too long to be recorded is cached as without a directory.
fn record(survival: &Survival, volume: &Volume, now: Claimed) -> Result<(), Error> {
    if volume.name().len() > MAX_TEXT_BYTES {
        return Ok(());
    }
    volume.kept.is_flushed.store(false, Ordering::SeqCst);
    let mut given = None;
    let said = survival.say_of_new(|incarnation| {
        given = Some(incarnation);
        Op::Volume(VolumeRecord {
            id: VolumeId {
                volume: volume.number(),
                incarnation,
            },
            size_bytes: now.size_bytes,
            sector_shift: now.sector_shift,
            changed_since_version: false,
            has_queue: false,
            name: volume.name().to_owned(),
            cache_id: now.cache_id,
            version: now.version,
        })
    });
    recorded_as(survival, volume, said, given)
}

fn set(survival: &Survival, volume: &Volume, record: VolumeRecord) -> Result<(), Error> {
    let incarnation = record.id.incarnation;
    let said = survival.say(Op::Volume(record));
    recorded_as(survival, volume, said, Some(incarnation))
}

/// What became of saying so.
fn recorded_as(
    survival: &Survival,
    volume: &Volume,
    said: Result<(), Malformed>,
    incarnation: Option<Incarnation>,
) -> Result<(), Error> {
    said.map_err(|what| {
        let message = format!(
            "volume '{}' cannot be recorded in the cache directory '{}': {what}",
            volume.name(),
            survival.path
        );
        Error::new(ErrorKind::Config, message)
    })?;
    if let Some(incarnation) = incarnation {
        volume.kept.set_incarnation(incarnation);
    }
    // In unsafe mode nothing that was sent is on the origin for good.
    if volume.store().config.mode != Mode::Unsafe {
        volume.kept.is_changed.store(false, Ordering::SeqCst);
    }
    volume.kept.is_judged.store(true, Ordering::SeqCst);
    Ok(())
}

/// The volume has a queue in the directory from now on: said with the first change, and so before anything is in it.
pub(crate) fn note_queue(survival: &Survival, volume: &Volume) -> Result<(), Error> {
    match known(survival, volume) {
        Some(known) if !known.has_queue => {
            let record = VolumeRecord {
                has_queue: true,
                ..known
            };
            let incarnation = record.id.incarnation;
            let said = survival.say(Op::Volume(record));
            recorded_as(survival, volume, said, Some(incarnation))
        }
        _ => Ok(()),
    }
}

/// The last connection that may write has left, and everything is on the origin: what it says of itself now is the version that is
/// cached, if it was us who changed it.
pub(crate) fn left(volume: &Volume, origin: &dyn Origin) {
    let Some(survival) = &volume.store().survival else {
        return;
    };
    let queue = volume.queue.get();
    // Whoever sends something after this says first that the origin changes.
    let _nobody_sends = queue.as_ref().map(|queue| queue.send_at_once());
    let is_whole = !volume.has_unwritten() && volume.store().config.mode != Mode::Unsafe;
    if volume.is_private() || !volume.kept.is_changed() || !is_whole {
        return;
    }
    let Ok(Some(version)) = origin.version() else {
        return;
    };
    let known = known(survival, volume);
    if let (Some(known), Some(version)) = (known, recorded(version)) {
        let record = VolumeRecord {
            version: Some(version),
            changed_since_version: false,
            ..known
        };
        if survival.say(Op::Volume(record)).is_ok() {
            volume.kept.is_changed.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(changing: &str) -> Option<RecordedVersion> {
        Some(RecordedVersion {
            stable: b"inode 7".to_vec(),
            changing: changing.as_bytes().to_vec(),
        })
    }

    fn known() -> VolumeRecord {
        VolumeRecord {
            id: VolumeId {
                volume: VolumeNumber(0),
                incarnation: Incarnation(0),
            },
            size_bytes: 4096,
            sector_shift: 9,
            changed_since_version: false,
            has_queue: false,
            name: "disk".to_owned(),
            cache_id: String::new(),
            version: version("noon"),
        }
    }

    fn now() -> Claimed {
        Claimed {
            size_bytes: 4096,
            sector_shift: 9,
            cache_id: String::new(),
            version: version("noon"),
        }
    }

    #[test]
    fn an_origin_is_the_same_if_everything_is() {
        assert_eq!(
            compare(&known(), &now(), Since::AnEarlierLife),
            Verdict::Same
        );
        let other = |change: fn(&mut Claimed)| {
            let mut now = now();
            change(&mut now);
            match compare(&known(), &now, Since::AnEarlierLife) {
                Verdict::Other(why) => why,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            other(|now| now.version = version("one")),
            "the origin's version was 'noon', and is 'one' now"
        );
        assert_eq!(
            other(|now| now.size_bytes = 8192),
            "the origin's size was 4096, and is 8192 now"
        );
        assert_eq!(
            other(|now| now.cache_id = "b".to_owned()),
            "cache-id was not given, and is 'b' now"
        );
        assert!(other(|now| now.sector_shift = 12).contains("sector size was 512"));
        assert!(other(|now| now.version = None).contains("is unknown now"));
    }

    #[test]
    fn what_we_changed_ourselves_is_told_by_what_stays() {
        let changed = VolumeRecord {
            changed_since_version: true,
            ..known()
        };
        let mut later = now();
        later.version = version("one");
        match compare(&changed, &later, Since::AnEarlierLife) {
            Verdict::SameForAllThatIsKnown(what) => {
                assert!(what.contains("is 'one' now"), "{what}")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            compare(&known(), &later, Since::ThisLife { is_changed: true }),
            Verdict::Same
        );
        later.version = Some(RecordedVersion {
            stable: b"inode 8".to_vec(),
            changing: b"one".to_vec(),
        });
        assert!(matches!(
            compare(&changed, &later, Since::ThisLife { is_changed: true }),
            Verdict::Other(_)
        ));
    }

    #[test]
    fn a_cache_id_does_not_vouch_for_another_version() {
        let known = VolumeRecord {
            cache_id: "golden-1".to_owned(),
            ..known()
        };
        let now = Claimed {
            cache_id: "golden-1".to_owned(),
            version: version("one"),
            ..now()
        };
        let verdict = compare(&known, &now, Since::AnEarlierLife);
        assert!(matches!(verdict, Verdict::Other(_)), "{verdict:?}");
    }

    #[test]
    fn without_a_version_only_a_cache_id_tells() {
        let unversioned = |cache_id: &str| {
            let known = VolumeRecord {
                version: None,
                cache_id: cache_id.to_owned(),
                ..known()
            };
            let now = Claimed {
                version: None,
                cache_id: cache_id.to_owned(),
                ..now()
            };
            compare(&known, &now, Since::AnEarlierLife)
        };
        assert_eq!(unversioned("golden-1"), Verdict::Same);
        assert!(matches!(unversioned(""), Verdict::Other(_)));
        let known = VolumeRecord {
            version: None,
            ..known()
        };
        let now = Claimed {
            version: None,
            ..now()
        };
        let since = Since::ThisLife { is_changed: false };
        assert_eq!(compare(&known, &now, since), Verdict::Same);
    }
}
