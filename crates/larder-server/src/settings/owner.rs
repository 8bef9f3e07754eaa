//! The owner of Unix sockets, by name or number.
//!
//! Names are looked up by getent(1), which asks what the system asks (files, LDAP and others)
//! without loading its modules into this process.

use std::process::{Command, Stdio};

use larder_frontend::ParameterError;

use crate::options::Text;

/// A user, and a group where one was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The user's number.
    pub(crate) user: u32,
    /// The group's number.
    pub(crate) group: Option<u32>,
}

/// What `USER[:GROUP]` means on this system.
pub(super) fn owner(name: &str, text: &Option<Text>) -> Result<Option<Owner>, ParameterError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let wrong = |advice: String| ParameterError::new(name, text.as_os_str(), advice);
    let typed = text.as_os_str().to_str().unwrap_or_default();
    let (user, group) = match typed.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (typed, None),
    };
    if user.is_empty() || group.is_some_and(str::is_empty) {
        return Err(wrong("must be USER or USER:GROUP".to_owned()));
    }
    let find = |database, word: &str| {
        number(database, word).ok_or_else(|| {
            wrong(format!(
                "there is no such entry in {database}; a number will do"
            ))
        })
    };
    Ok(Some(Owner {
        user: find("passwd", user)?,
        group: group.map(|group| find("group", group)).transpose()?,
    }))
}

/// The number of a user or a group.
fn number(database: &str, word: &str) -> Option<u32> {
    if word.chars().all(|digit| digit.is_ascii_digit()) {
        // The largest number means `nobody said` to the system.
        return word.parse().ok().filter(|number| *number != u32::MAX);
    }
    let output = Command::new("getent")
        .args(["--", database, word])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.lines().next()?.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Option<Owner>, String> {
        owner("socket-owner", &Some(text.into())).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_numbers_are_found() {
        let root = |group| Ok(Some(Owner { user: 0, group }));
        assert_eq!(asked("root"), root(None));
        assert_eq!(asked("0:0"), root(Some(0)));
        assert_eq!(asked("root:root"), root(Some(0)));
        assert_eq!(owner("socket-owner", &None), Ok(None));
    }

    #[test]
    fn who_is_not_there_is_told() {
        for text in [
            "",
            ":",
            "root:",
            ":root",
            "no-such-user",
            "root:no-such",
            "4294967295",
        ] {
            let told = asked(text).expect_err("refused");
            assert!(
                told.starts_with(&format!("socket-owner={text}: ")),
                "{told}"
            );
        }
    }
}
