//! Two copies of a page, of which either is enough, and the newer one counts.

use super::refusal::Finding;
use super::sums::Uuid;

/// What is kept in two copies.
pub(super) trait Copied: PartialEq {
    /// One more each time that it is written.
    fn generation(&self) -> u64;

    /// Whose it is.
    fn uuid(&self) -> Uuid;
}

/// The copy that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Newer<T> {
    pub value: T,
    /// Which of the two it is.
    pub copy: usize,
    /// Whether the other says the same.
    pub other_is_as_new: bool,
}

/// What two copies say together: the newer one of those that are whole.
///
/// # Errors
/// Neither is whole; or one is, and is of a newer version; or they are of two caches.
pub(super) fn choose<T: Copied>(copies: [Result<T, Finding>; 2]) -> Result<Newer<T>, Finding> {
    let (value, other, copy) = match copies {
        [Ok(first), Ok(second)] => {
            check_pair(&first, &second)?;
            match first.generation() >= second.generation() {
                true => (first, Some(second), 0),
                false => (second, Some(first), 1),
            }
        }
        [Ok(first), Err(Finding::Damaged | Finding::NotOurs)] => (first, None, 0),
        [Err(Finding::Damaged | Finding::NotOurs), Ok(second)] => (second, None, 1),
        // A whole copy that means nothing to this program counts more than one that does.
        [Ok(_), Err(finding)] | [Err(finding), Ok(_)] => return Err(finding),
        [Err(first), Err(second)] => return Err(telling(first, second)),
    };
    Ok(Newer {
        other_is_as_new: other.is_some_and(|other| other == value),
        value,
        copy,
    })
}

/// The one that tells more.
fn telling(first: Finding, second: Finding) -> Finding {
    match (&first, &second) {
        (Finding::NotOurs, _) => second,
        (Finding::Damaged, Finding::NotOurs) => first,
        (Finding::Damaged, _) => second,
        _ => first,
    }
}

fn check_pair<T: Copied>(first: &T, second: &T) -> Result<(), Finding> {
    if first.uuid() != second.uuid() {
        return Err(Finding::OtherCache {
            found: second.uuid(),
            expected: first.uuid(),
        });
    }
    if first.generation() == second.generation() && first != second {
        return Err(super::bytes::Malformed("its two copies disagree").into());
    }
    Ok(())
}
