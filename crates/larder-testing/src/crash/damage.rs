//! What may happen to files besides a crash: bits flip, files are cut, another cache's file is put in place of ours.

use super::bytes::Bytes;
use super::check::{Rule, Violation, is_touched, unless_panic};
use super::history::History;
use super::image::Image;
use super::judge::{Demand, Judge};
use super::machine::Machine;
use super::store::Subject;
use super::value::SECTOR_BYTES;
use crate::random::Random;

/// What happens.
#[derive(Clone, Debug)]
pub enum Damage {
    /// One bit of a file is another.
    Flip(String, u64),
    /// A file is shorter.
    Cut(String, u64),
    /// A file is gone.
    Gone(String),
    /// A file is another's.
    Swapped(String, Bytes),
}

impl Damage {
    /// Something that can happen to the image; files come from the other one.
    pub fn draw(random: &mut Random, image: &Image, other: &Image) -> Option<Self> {
        let names: Vec<&String> = image.names.keys().collect();
        let count = names.len() as u64;
        let name = names.get(random.below(count.max(1)) as usize)?.to_string();
        let length = image.file(&name)?.length();
        Some(match random.below(10) {
            0 => Self::Gone(name),
            1 => Self::Cut(name, random.below(length.max(1))),
            2 => Self::Swapped(name.clone(), other.file(&name)?.clone()),
            _ if length > 0 => Self::Flip(name, random.below(length * 8)),
            _ => return None,
        })
    }

    /// It happens.
    pub fn happen(&self, image: &mut Image) {
        match self {
            Self::Flip(name, bit) => {
                if let Some(file) = image.file_mut(name) {
                    let mut byte = [0];
                    file.get(bit / 8, &mut byte);
                    file.put(bit / 8, &[byte[0] ^ (1 << (bit % 8))]);
                }
            }
            Self::Cut(name, length) => {
                if let Some(file) = image.file_mut(name) {
                    file.set_length(*length);
                }
            }
            Self::Gone(name) => {
                image.names.remove(name);
            }
            Self::Swapped(name, bytes) => {
                if let Some(file) = image.file_mut(name) {
                    *file = bytes.clone();
                }
            }
        }
    }
}

/// Starts on damaged files. It may refuse, but touches nothing then, apart from the file named `lock`; reads may fail;
/// what is read is right.
pub fn check(
    subject: &dyn Subject,
    history: &History,
    judge: &Judge<'_>,
    image: &Image,
    demand: Demand,
    lock: &str,
) -> Result<bool, Violation> {
    let machine = Machine::new(image.clone(), 0);
    let mut store = match unless_panic("damaged", || subject.start(&machine))? {
        Ok(store) => store,
        Err(reason) if is_touched(&machine.recording(), lock) => {
            let message = format!("refused ({reason}) and written to all the same");
            return Err(Violation::new(Rule::Opens, message));
        }
        Err(_) => return Ok(false),
    };
    for volume in 0..history.volumes() {
        for sector in 0..history.sectors {
            let mut bytes = [0; SECTOR_BYTES];
            let read = || store.read(volume, sector, &mut bytes);
            if unless_panic("damaged", read)?.is_ok() {
                judge
                    .judge(volume, sector, &bytes, demand)
                    .map_err(|(rule, message)| Violation::new(rule, message))?;
            }
        }
    }
    Ok(true)
}
