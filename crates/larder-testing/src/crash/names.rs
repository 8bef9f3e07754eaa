//! The names of a medium: which are durable, and what a crash may leave of the others.

use std::collections::BTreeMap;

use super::file::Covered;
use super::log::CallNumber;
use crate::random::Random;

/// Which file, for as long as the world exists; a name is not one.
pub type FileNumber = usize;

/// Files by name.
pub type Names = BTreeMap<String, FileNumber>;

/// A change of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    /// A new file.
    Create(String, FileNumber),
    /// The file of the first gets the second name, whose file is gone if there was one.
    Rename(String, String, FileNumber),
    /// A file loses its name.
    Remove(String, FileNumber),
}

impl NameChange {
    /// Does it. It is about the file, whatever has survived of the changes before it.
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Create(name, file) => {
                names.insert(name.clone(), *file);
            }
            Self::Rename(from, to, file) => {
                take_away(names, from, *file);
                names.insert(to.clone(), *file);
            }
            Self::Remove(name, file) => take_away(names, name, *file),
        }
    }
}

/// The name goes, unless it is another file's.
fn take_away(names: &mut Names, name: &str, file: FileNumber) {
    if names.get(name) == Some(&file) {
        names.remove(name);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Safety {
    Pending,
    Durable,
    /// A sync of it has failed: no later one saves it.
    Limbo,
}

#[derive(Clone, Debug)]
struct Pending {
    call: CallNumber,
    change: NameChange,
    safety: Safety,
}

/// The names.
#[derive(Clone, Debug, Default)]
pub struct NameState {
    current: Names,
    durable: Names,
    /// In order; the first is never durable.
    pending: Vec<Pending>,
}

impl NameState {
    /// Names all of which are durable.
    pub fn new(names: Names) -> Self {
        Self {
            current: names.clone(),
            durable: names,
            pending: Vec::new(),
        }
    }

    /// What is found now.
    pub fn current(&self) -> &Names {
        &self.current
    }

    /// What no crash can take away.
    pub fn durable(&self) -> &Names {
        &self.durable
    }

    /// A change.
    pub fn change(&mut self, call: CallNumber, change: &NameChange) {
        change.apply(&mut self.current);
        self.pending.push(Pending {
            call,
            change: change.clone(),
            safety: Safety::Pending,
        });
    }

    /// A sync has succeeded.
    pub fn synced(&mut self, covered: &Covered) {
        self.settle(covered, Safety::Durable);
        let is_open = |one: &Pending| one.safety != Safety::Durable;
        let closed = self.pending.iter().position(is_open);
        for one in self.pending.drain(..closed.unwrap_or(self.pending.len())) {
            one.change.apply(&mut self.durable);
        }
    }

    /// A sync has failed.
    pub fn sync_failed(&mut self, covered: &Covered) {
        self.settle(covered, Safety::Limbo);
    }

    fn settle(&mut self, covered: &Covered, safety: Safety) {
        for one in &mut self.pending {
            if covered.has(one.call) && one.safety == Safety::Pending {
                one.safety = safety;
            }
        }
    }

    /// What a crash leaves.
    pub fn survive(&self, random: &mut Random) -> Names {
        let mut left = self.durable.clone();
        let percent = random.pick(&[0, 50, 100]);
        for one in &self.pending {
            if one.safety == Safety::Durable || random.chance(percent) {
                one.change.apply(&mut left);
            }
        }
        left
    }
}
