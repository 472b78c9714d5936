//! A log file that is opened anew on request and put aside when it has grown enough.
//!
//! Names and limits as `logger/log.go` of nats-server has them: a file that was put aside is called
//! `<file>.YYYY.MM.DD.HH.MM.SS.nnnnnnnnn`, and the files that are kept include the one being written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

/// Readable for the group, which is how log collectors are let in.
const MODE: u32 = 0o640;

const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year].[month].[day].[hour].[minute].[second].[subsecond digits:9]");

/// Where a log goes, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFileSettings {
    /// Appended to when it exists.
    pub path: PathBuf,
    /// Bytes after which the file is put aside; none: never.
    pub size_limit: Option<u64>,
    /// Files to keep, the one being written included; none: all.
    pub max_files: Option<usize>,
}

/// The open file.
#[derive(Debug)]
pub(super) struct LogFile {
    settings: LogFileSettings,
    file: File,
    /// Bytes in the file, those of earlier processes included.
    size_bytes: u64,
    /// Above which it is put aside; more than the setting after a failed attempt.
    limit_bytes: Option<u64>,
}

/// What became of a file that had grown enough.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rotated {
    pub(super) backup: PathBuf,
    /// Older ones that were removed, the oldest first.
    pub(super) purged: Vec<PathBuf>,
}

impl LogFile {
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(settings: LogFileSettings) -> io::Result<Self> {
        let file = append(&settings.path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self {
            limit_bytes: settings.size_limit,
            settings,
            file,
            size_bytes,
        })
    }

    /// Opens the path again: whoever renamed the file has it to themselves from now on. On an error
    /// the old file is kept.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.settings.clone())?;
        Ok(())
    }

    /// Appends whole lines.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.size_bytes += lines.len() as u64;
        Ok(())
    }

    pub(super) fn is_full(&self) -> bool {
        self.limit_bytes
            .is_some_and(|limit| self.size_bytes > limit)
    }

    /// Puts the file aside under a name made of `now`, begins a new one, and removes what is
    /// too old to be kept. On an error the file grows to twice its limit before the next attempt.
    ///
    /// # Errors
    /// The system's; lines go on into the old file, which may have its new name already.
    pub(super) fn rotate(&mut self, now: OffsetDateTime) -> io::Result<Rotated> {
        let rotated = self.put_aside(now);
        if rotated.is_err() {
            self.limit_bytes = self.limit_bytes.map(|limit| limit.saturating_mul(2));
        }
        rotated
    }

    fn put_aside(&mut self, now: OffsetDateTime) -> io::Result<Rotated> {
        let stamp = now.format(STAMP).map_err(io::Error::other)?;
        let path = &self.settings.path;
        let mut backup = path.clone().into_os_string();
        backup.push(".");
        backup.push(stamp);
        let backup = PathBuf::from(backup);
        fs::rename(path, &backup)?;
        self.reopen()?;
        Ok(Rotated {
            backup,
            purged: self.purge(),
        })
    }

    /// Removes what is too many. What cannot be removed is tried again at the next rotation.
    fn purge(&self) -> Vec<PathBuf> {
        let Some(max_files) = self.settings.max_files else {
            return Vec::new();
        };
        // One is the file being written.
        let keep = max_files.saturating_sub(1);
        let mut backups = backups(&self.settings.path).unwrap_or_default();
        backups.sort();
        backups.truncate(backups.len().saturating_sub(keep));
        backups.retain(|backup| fs::remove_file(backup).is_ok());
        backups
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(MODE)
        .open(path)
}

/// Files beside `path` that are called like it, with a time stamp of ours behind.
fn backups(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.strip_prefix(&prefix).is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Groups of 4, 2, 2, 2, 2, 2 and 9 digits, with dots between.
fn is_stamp(text: &str) -> bool {
    let groups = text.split('.').map(|group| {
        let digits = group.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some(group.len())
    });
    groups.eq([4, 2, 2, 2, 2, 2, 9].map(Some))
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    fn settings(dir: &Path, max_files: Option<usize>) -> LogFileSettings {
        LogFileSettings {
            path: dir.join("broker.log"),
            size_limit: Some(10),
            max_files,
        }
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_gets_the_time_in_its_name_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        // Not ours: a stranger's name must survive.
        fs::write(dir.path().join("broker.log.old"), "x").unwrap();
        let mut log = LogFile::open(settings(dir.path(), Some(3))).unwrap();
        let start = datetime!(2026-11-22 21:30:05.000000007 UTC);
        for nr in 0..4 {
            assert!(!log.is_full());
            log.append(format!("line {nr} and more\n").as_bytes())
                .unwrap();
            assert!(log.is_full());
            let rotated = log.rotate(start + Duration::seconds(nr)).unwrap();
            assert_eq!(rotated.purged.len(), usize::from(nr >= 2), "{rotated:?}");
        }
        assert_eq!(
            names(dir.path()),
            [
                "broker.log",
                "broker.log.2026.11.22.21.30.07.000000007",
                "broker.log.2026.11.22.21.30.08.000000007",
                "broker.log.old",
            ]
        );
        let backup = dir.path().join("broker.log.2026.11.22.21.30.08.000000007");
        assert_eq!(fs::read_to_string(backup).unwrap(), "line 3 and more\n");
    }

    #[test]
    fn all_files_are_kept_without_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = LogFile::open(settings(dir.path(), None)).unwrap();
        let start = datetime!(2026-11-22 21:30 UTC);
        for nr in 0..5 {
            log.rotate(start + Duration::seconds(nr)).unwrap();
        }
        assert_eq!(names(dir.path()).len(), 6);
    }

    #[test]
    fn what_an_earlier_process_wrote_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("broker.log"), "more than ten bytes\n").unwrap();
        let log = LogFile::open(settings(dir.path(), None)).unwrap();
        assert!(log.is_full());
    }

    #[test]
    fn lines_follow_the_renamed_file_until_it_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.log");
        let moved = dir.path().join("moved.log");
        let mut log = LogFile::open(settings(dir.path(), None)).unwrap();
        log.append(b"one\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        log.append(b"two\n").unwrap();
        log.reopen().unwrap();
        log.append(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_grows_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broker.log");
        let mut log = LogFile::open(settings(dir.path(), None)).unwrap();
        log.append(b"eleven bytes\n").unwrap();
        // Somebody removed it: there is nothing to rename.
        fs::remove_file(&path).unwrap();
        log.rotate(datetime!(2026-11-22 21:30 UTC)).unwrap_err();
        assert!(!log.is_full(), "the limit has doubled");
        log.append(b"still taken\n").unwrap();
        assert!(log.is_full());
    }
}
