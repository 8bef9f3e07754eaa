//! All files and names of a machine at one moment. The machine has one that moves with it, and whoever looks at crashes
//! moves another along the machine's log: both come to the same.

use super::file::{Covered, FileState};
use super::image::Image;
use super::log::{CallNumber, Effect, Event};
use super::names::{FileNumber, NameChange, NameState};
use crate::random::{Random, mix};

/// Files, names, and what runs.
#[derive(Clone, Debug)]
pub struct World {
    files: Vec<FileState>,
    names: NameState,
    /// Those of [`Image::garbage`].
    garbage: Vec<String>,
    origins: usize,
    in_flight: Vec<CallNumber>,
    syncs: Vec<(Covered, Option<FileNumber>)>,
    seed: u64,
}

impl World {
    /// What was left becomes what is there. The seed decides what failed syncs leave.
    pub fn new(image: &Image, seed: u64) -> Self {
        let mut world = Self {
            files: Vec::new(),
            names: NameState::new(image.names.clone()),
            garbage: image.garbage.clone(),
            origins: image.origins,
            in_flight: Vec::new(),
            syncs: Vec::new(),
            seed,
        };
        for (number, bytes) in image.files.iter().enumerate() {
            let mut names = image.names.iter().filter(|(_, file)| **file == number);
            let tears = names.any(|(name, _)| image.garbage.contains(name));
            world.files.push(FileState::new(bytes.clone(), tears));
        }
        world
    }

    /// A file.
    pub fn file(&self, file: FileNumber) -> &FileState {
        &self.files[file]
    }

    /// The names.
    pub fn names(&self) -> &NameState {
        &self.names
    }

    /// The number of the next file.
    pub fn next_file(&self) -> FileNumber {
        self.files.len()
    }

    /// How many of the first files are origins.
    pub fn origins(&self) -> usize {
        self.origins
    }

    /// It happens.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Began(call, effect) => {
                self.begin(*call, effect);
                self.in_flight.push(*call);
            }
            Event::Ended(call, is_well) => {
                self.in_flight.retain(|one| one != call);
                self.end_sync(*call, *is_well);
            }
        }
    }

    fn begin(&mut self, call: CallNumber, effect: &Effect) {
        match effect {
            Effect::Write(file, offset, data) => self.files[*file].write(call, *offset, data),
            Effect::Extend(file, length) => self.files[*file].extend(call, *length),
            Effect::SetLength(file, length) => self.files[*file].set_length(call, *length),
            Effect::Sync(file) => self.begin_sync(call, Some(*file)),
            Effect::SyncNames => self.begin_sync(call, None),
            Effect::Name(change) => {
                if let NameChange::Create(name, _) = change {
                    let tears = self.garbage.contains(name);
                    self.files.push(FileState::new(Default::default(), tears));
                }
                self.names.change(call, change);
            }
            Effect::Nothing => {}
        }
    }

    fn begin_sync(&mut self, sync: CallNumber, file: Option<FileNumber>) {
        let in_flight = self.in_flight.clone();
        self.syncs.push((Covered { sync, in_flight }, file));
    }

    fn end_sync(&mut self, call: CallNumber, is_well: bool) {
        let found = self.syncs.iter().position(|(one, _)| one.sync == call);
        let Some((covered, file)) = found.map(|place| self.syncs.swap_remove(place)) else {
            return;
        };
        match (file, is_well) {
            (Some(file), true) => self.files[file].synced(&covered),
            (Some(file), false) => {
                let random = Random::new(mix(self.seed, call));
                self.files[file].sync_failed(&covered, random);
            }
            (None, true) => self.names.synced(&covered),
            (None, false) => self.names.sync_failed(&covered),
        }
    }

    /// What every crash leaves.
    pub fn durable(&self) -> Image {
        let files = self.files.iter();
        Image {
            files: files.map(|file| file.durable().clone()).collect(),
            names: self.names.durable().clone(),
            garbage: self.garbage.clone(),
            origins: self.origins,
        }
    }

    /// What a crash leaves.
    pub fn survive(&self, random: &mut Random) -> Image {
        let files = self.files.iter();
        Image {
            files: files.map(|file| file.survive(random)).collect(),
            names: self.names.survive(random),
            garbage: self.garbage.clone(),
            origins: self.origins,
        }
    }
}
