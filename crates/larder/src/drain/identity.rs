//! Whether an origin is the one that was cached: asked before anything is written to it.
//!
//! The rules are those by which the engine judges an origin that is found again (`survival/identity.rs`), with one difference: where nobody
//! ever said anything by which the origin could be told, what is clean is worthless, and what was written is not. So that is no reason
//! to refuse an origin which the operator has named.

use crate::Origin;
use crate::persist::op::VolumeRecord;
use crate::persist::op::volume::{MAX_TEXT_BYTES, RecordedVersion};

/// What came of comparing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It says so itself, or the operator does.
    Same,
    /// It is, and the cache has changed it and was not there to see what it was then. What differs, by the cache or by anybody else.
    SameForAllThatIsKnown(String),
    /// Nothing says otherwise, and nothing could.
    Unknown,
    /// Only its name could tell, which is this, and was not given.
    Unnamed(String),
    /// What differs.
    Other(String),
}

impl Verdict {
    /// Whether it is the origin that was cached, as far as that can be known.
    pub(super) fn is_same(&self) -> bool {
        matches!(self, Self::Same | Self::SameForAllThatIsKnown(_))
    }

    /// What differs, and is taken for the cache's own change.
    pub(super) fn assumed(&self) -> Option<&str> {
        match self {
            Self::SameForAllThatIsKnown(what) => Some(what),
            _ => None,
        }
    }

    /// Whether only force has an origin written to that was judged so.
    pub(super) fn is_forced(&self) -> bool {
        matches!(self, Self::Other(_) | Self::Unnamed(_))
    }
}

/// What stands for the version of an origin that was written to although it was another one: no origin says this of itself. Whoever
/// finds it knows that the volume is not of any origin, until all of it is drained and it is gone.
const FORCED: &[u8] = b"none: written to another origin by force";

/// The origin's version, if it has one that can be recorded.
pub(super) fn version(origin: &dyn Origin) -> std::io::Result<Option<RecordedVersion>> {
    let version = origin.version()?.map(|version| RecordedVersion {
        stable: version.stable,
        changing: version.changing,
    });
    let fits = |it: &RecordedVersion| {
        it.stable.len() <= MAX_TEXT_BYTES && it.changing.len() <= MAX_TEXT_BYTES
    };
    Ok(version.filter(fits))
}

/// Compares the origin that was cached with one of this size and version, which the operator may have given a cache-id.
pub(super) fn compare(
    known: &VolumeRecord,
    size: u64,
    version: Option<&RecordedVersion>,
    cache_id: Option<&str>,
) -> Verdict {
    let difference = |what: &str, was: &str, is: &str| format!("{what} was {was}, and is {is} now");
    let differ = |what: &str, was: &str, is: &str| Verdict::Other(difference(what, was, is));
    if let Some(given) = cache_id
        && given != known.cache_id
    {
        return differ("cache-id", &quoted(&known.cache_id), &quoted(given));
    }
    if known.size_bytes != size {
        let was = known.size_bytes.to_string();
        return differ("the origin's size", &was, &size.to_string());
    }
    let is_named = cache_id.is_some_and(|given| !given.is_empty());
    match (&known.version, version) {
        (Some(was), Some(is)) if was.stable != is.stable => {
            differ("the origin", &shown(&was.stable), &shown(&is.stable))
        }
        (Some(was), Some(is)) if was.changing != is.changing => {
            let (was, is) = (shown(&was.changing), shown(&is.changing));
            let what = difference("the origin's version", &was, &is);
            match known.changed_since_version {
                true => Verdict::SameForAllThatIsKnown(what),
                false => Verdict::Other(what),
            }
        }
        (Some(_), Some(_)) => Verdict::Same,
        _ if is_named => Verdict::Same,
        (Some(was), None) => differ("the origin's version", &shown(&was.changing), "unknown"),
        (None, _) if !known.cache_id.is_empty() => Verdict::Unnamed(quoted(&known.cache_id)),
        (None, _) => Verdict::Unknown,
    }
}

/// What is to be known of the volume before an origin gets any of it.
pub(super) fn before(known: &VolumeRecord, verdict: &Verdict) -> VolumeRecord {
    let forced = || RecordedVersion {
        stable: FORCED.to_vec(),
        changing: Vec::new(),
    };
    VolumeRecord {
        changed_since_version: true,
        version: match verdict.is_forced() {
            true => Some(forced()),
            false => known.version.clone(),
        },
        ..known.clone()
    }
}

/// What is to be known of it once the origin, which says this of itself now, has everything.
pub(super) fn after(known: &VolumeRecord, version: RecordedVersion) -> VolumeRecord {
    VolumeRecord {
        version: Some(version),
        changed_since_version: false,
        ..known.clone()
    }
}

fn quoted(text: &str) -> String {
    match text {
        "" => "not given".to_owned(),
        text => format!("'{}'", text.escape_debug()),
    }
}

fn shown(version: &[u8]) -> String {
    format!("'{}'", String::from_utf8_lossy(version).escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::VolumeNumber;
    use crate::persist::op::VolumeId;
    use crate::persist::sums::Incarnation;

    fn version(stable: &str, changing: &str) -> RecordedVersion {
        RecordedVersion {
            stable: stable.as_bytes().to_vec(),
            changing: changing.as_bytes().to_vec(),
        }
    }

    fn known(cache_id: &str, version: Option<RecordedVersion>) -> VolumeRecord {
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
            cache_id: cache_id.to_owned(),
            version,
        }
    }

    fn why(verdict: Verdict) -> String {
        match verdict {
            Verdict::Other(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_differs_is_told() {
        let noon = version("inode 7", "noon");
        let known = known("a", Some(noon.clone()));
        let compared = |size, version: &RecordedVersion, cache_id| {
            compare(&known, size, Some(version), cache_id)
        };
        assert_eq!(compared(4096, &noon, None), Verdict::Same);
        assert_eq!(compared(4096, &noon, Some("a")), Verdict::Same);
        assert_eq!(
            why(compared(8192, &noon, None)),
            "the origin's size was 4096, and is 8192 now"
        );
        assert_eq!(
            why(compared(4096, &noon, Some("b"))),
            "cache-id was 'a', and is 'b' now"
        );
        assert_eq!(
            why(compared(4096, &version("inode 7", "one"), Some("a"))),
            "the origin's version was 'noon', and is 'one' now"
        );
        assert_eq!(
            why(compared(4096, &version("inode 8", "noon"), None)),
            "the origin was 'inode 7', and is 'inode 8' now"
        );
    }

    #[test]
    fn what_the_cache_changed_itself_is_told_by_what_stays() {
        let ours = before(&known("", Some(version("inode 7", "noon"))), &Verdict::Same);
        let compared = |version| compare(&ours, 4096, Some(&version), None);
        assert_eq!(compared(version("inode 7", "noon")), Verdict::Same);
        let later = compared(version("inode 7", "one"));
        let what = "the origin's version was 'noon', and is 'one' now";
        assert_eq!(later, Verdict::SameForAllThatIsKnown(what.to_owned()));
        assert!(later.is_same() && !later.is_forced());
        assert!(why(compared(version("inode 8", "noon"))).contains("'inode 8'"));
    }

    #[test]
    fn where_nothing_was_ever_known_nothing_is_refused() {
        let nothing = known("", None);
        assert_eq!(compare(&nothing, 4096, None, None), Verdict::Unknown);
        let now = version("inode 7", "noon");
        assert_eq!(compare(&nothing, 4096, Some(&now), None), Verdict::Unknown);
        assert!(why(compare(&nothing, 512, None, None)).contains("size"));
        let named = known("rack 7", None);
        assert_eq!(
            compare(&named, 4096, None, None),
            Verdict::Unnamed("'rack 7'".to_owned())
        );
        assert_eq!(compare(&named, 4096, None, Some("rack 7")), Verdict::Same);
        let versioned = known("", Some(now));
        assert!(why(compare(&versioned, 4096, None, None)).contains("is unknown now"));
    }

    #[test]
    fn after_force_no_origin_is_the_one_that_was_cached() {
        let noon = version("inode 7", "noon");
        let known = known("", Some(noon.clone()));
        let forced = before(&known, &Verdict::Other(String::new()));
        let told = why(compare(&forced, 4096, Some(&noon), None));
        assert!(told.contains("by force"), "{told}");
        assert!(why(compare(&forced, 4096, None, None)).contains("unknown"));
    }
}
