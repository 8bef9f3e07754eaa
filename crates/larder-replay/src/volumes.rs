//! Which numbers the volumes of a trace have.

use hashbrown::HashMap;

/// Names of volumes, numbered from 0 in the order in which they first come.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    numbers: HashMap<String, u32>,
    last: Option<(String, u32)>,
}

impl Volumes {
    /// The number of the volume of that name.
    pub(crate) fn number(&mut self, name: &str) -> u32 {
        // Nearly always it is the volume of the request before.
        if let Some((last, number)) = &self.last
            && last == name
        {
            return *number;
        }
        let next = self.numbers.len() as u32;
        let number = *self.numbers.entry_ref(name).or_insert(next);
        self.last = Some((name.to_owned(), number));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut volumes = Volumes::default();
        let numbers = ["a", "b", "b", "a", "c"].map(|name| volumes.number(name));
        assert_eq!(numbers, [0, 1, 1, 0, 2]);
    }
}
