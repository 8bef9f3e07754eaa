//! From crash to crash along a run.

use super::image::Image;
use super::log::Recording;
use super::world::World;
use crate::random::Random;

/// A place in a recording. Moving on is cheap, and so is what a crash leaves: it shares all that is durable.
pub struct Walk<'a> {
    recording: &'a Recording,
    world: World,
    position: usize,
}

impl<'a> Walk<'a> {
    /// The beginning.
    pub fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            world: World::new(&recording.start, recording.seed),
            position: 0,
        }
    }

    /// Where it is.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Moves on to a later position.
    pub fn advance_to(&mut self, position: usize) {
        for event in &self.recording.events[self.position..position] {
            self.world.apply(event);
        }
        self.position = position;
    }

    /// What a crash here leaves.
    pub fn crash(&self, random: &mut Random) -> Image {
        self.world.survive(random)
    }
}
