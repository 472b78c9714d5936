//! Password files: `host:port:database:user:password` a line, as libpq reads them (PostgreSQL, "The Password File").

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tracing::warn;

/// Whom a password is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

/// The password of the first line that fits. A file that others may read is not used, as with libpq; one that is not
/// there is nothing to tell of.
pub(super) fn password(file: &Path, login: Login<'_>) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(
            "password file {} is not used, because others than its owner may use it; make it mode 0600",
            file.display()
        );
        return None;
    }
    match fs::read_to_string(file) {
        Ok(text) => find(&text, login),
        Err(error) => {
            warn!("password file {} is not used: {error}", file.display());
            None
        }
    }
}

fn find(text: &str, login: Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    text.lines().find_map(|line| {
        if line.starts_with('#') {
            return None;
        }
        let mut fields = fields(line);
        let password = (fields.len() == 5).then(|| fields.pop())??;
        let fits = fields
            .iter()
            .zip(wanted)
            .all(|(field, wanted)| field == "*" || field == wanted);
        fits.then_some(password)
    })
}

/// A colon or a backslash that belongs to a field has a backslash before it. The password reaches to the end of the
/// line.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let is_last = fields.len() == 5;
        let field = fields.last_mut().expect("there is always one");
        match character {
            '\\' => field.extend(characters.next()),
            ':' if !is_last => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'_> = Login {
        host: "db.example",
        port: 5432,
        database: "stan",
        user: "me",
    };

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# of the old host\nold:5432:stan:me:wrong\nbroken\n*:*:other:me:wrong\n\
                    db.example:*:*:me:right\n*:*:*:*:late";
        assert_eq!(find(text, LOGIN).as_deref(), Some("right"));
        let stranger = Login {
            user: "you",
            ..LOGIN
        };
        assert_eq!(find(text, stranger).as_deref(), Some("late"));
        let other = Login {
            host: "nowhere",
            port: 1,
            ..LOGIN
        };
        assert_eq!(find("nowhere:2:stan:me:x", other), None);
    }

    #[test]
    fn colons_and_backslashes_can_be_part_of_a_field() {
        let line = r"db.example:5432:stan:me:a\:b\\c:d";
        assert_eq!(find(line, LOGIN).as_deref(), Some(r"a:b\c:d"));
        let login = Login {
            host: "fe80::1",
            ..LOGIN
        };
        let line = r"fe80\:\:1:5432:stan:me:x";
        assert_eq!(find(line, login).as_deref(), Some("x"));
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "*:*:*:*:x").unwrap();
        for (mode, expected) in [(0o600, Some("x")), (0o640, None)] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(password(file.path(), LOGIN).as_deref(), expected);
        }
    }
}
