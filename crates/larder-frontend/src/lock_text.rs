//! Who has a cache directory, for whoever finds it locked: the text in its file `lock`.

use std::io;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use larder::{Medium, MediumFile};

/// The file's name, as FORMAT.md has it.
const FILE_NAME: &str = "lock";

/// This process, and when it was asked.
pub fn lock_text() -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    format!("pid {} started {}", process::id(), date_and_time(seconds))
}

/// The text of a directory that this process has locked. The lock goes over a fork to the child, the number in the text does
/// not: so the file is held, as the child may have another user and could not open it.
pub struct LockText {
    file: Box<dyn MediumFile>,
    pid: AtomicU32,
}

impl std::fmt::Debug for LockText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockText")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl LockText {
    /// The text that has just been written.
    pub fn of(medium: &dyn Medium) -> io::Result<Self> {
        Ok(Self {
            file: medium.open(FILE_NAME)?,
            pid: AtomicU32::new(process::id()),
        })
    }

    /// Writes it anew where this is another process by now.
    pub fn renew(&self) -> io::Result<()> {
        if self.pid.swap(process::id(), Ordering::Relaxed) == process::id() {
            return Ok(());
        }
        let text = lock_text();
        self.file.set_length(0)?;
        self.file.write(0, text.as_bytes())
    }
}

/// The second `seconds` after the beginning of 1970, in UTC, as people read it.
fn date_and_time(seconds: u64) -> String {
    const PER_DAY: u64 = 86_400;
    let (days, second) = (seconds / PER_DAY, seconds % PER_DAY);
    // Years begin in March here, so that the day that may be missing is their last. 400 of them have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + carry;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

#[cfg(test)]
mod tests {
    use larder::medium::DirectoryMedium;

    use super::*;

    /// As `date -u -d @N '+%F %T UTC'` says.
    #[test]
    fn times_are_told_as_date_tells_them() {
        for (seconds, told) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_799, "2000-02-29 23:59:59 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_709_251_200, "2024-03-01 00:00:00 UTC"),
            (1_795_295_696, "2026-11-21 21:14:56 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(date_and_time(seconds), told);
        }
    }

    #[test]
    fn another_process_writes_its_own_number() {
        let path = std::env::temp_dir().join(format!("larder-lock-text-{}", process::id()));
        std::fs::create_dir(&path).unwrap();
        let medium = DirectoryMedium::open(&path).unwrap();
        let _lock = medium.lock(FILE_NAME).unwrap();
        let text = LockText::of(&medium).unwrap();
        text.renew().unwrap();
        let told = || std::fs::read_to_string(path.join(FILE_NAME)).unwrap();
        assert_eq!(told(), "", "the same process has nothing to say");
        std::fs::write(
            path.join(FILE_NAME),
            "pid 1 and a lot more that is longer than ours",
        )
        .unwrap();
        text.pid.store(1, Ordering::Relaxed);
        text.renew().unwrap();
        let begin = format!("pid {} started 2", process::id());
        assert!(
            told().starts_with(&begin) && told().ends_with(" UTC"),
            "{}",
            told()
        );
        std::fs::remove_dir_all(&path).unwrap();
    }
}
