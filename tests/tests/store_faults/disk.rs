//! Disks of some megabytes: one that is soon full, and one that forgets with the power what was not synchronised.
//! Making one takes the right to mount.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use broker_store::conformance::postgres_server;
use tempfile::TempDir;

/// Room for a database of a round beside what fills the rest.
const SMALL_BYTES: u64 = 64 << 20;

/// Room for a cluster, the log of its writes included.
const WHOLE_BYTES: u64 = 400 << 20;

/// Has ext4 forget all that it has not written yet, its journal included, and refuse everything from then on
/// (`EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, fs/ext4/ext4.h of Linux). The call takes a pointer, which
/// Rust cannot pass on without unsafe code.
const SHUT_DOWN: &str = "open(my $disk, '<', $ARGV[0]) or die $!; my $flags = pack('L', 2); \
     defined(ioctl($disk, 0x8004587d, $flags)) or die $!;";

/// Whether this process may mount.
pub(crate) fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// A folder that a disk is mounted on, until it is dropped.
#[derive(Debug)]
struct Mount {
    at: PathBuf,
    _folder: TempDir,
}

impl Mount {
    fn folder() -> anyhow::Result<Self> {
        let mut folder = tempfile::Builder::new();
        // The database's user passes through.
        folder.permissions(fs::Permissions::from_mode(0o755));
        let folder = folder.tempdir().context("making a folder for a disk")?;
        let at = folder.path().join("disk");
        fs::create_dir(&at).context("making a folder for a disk")?;
        Ok(Self {
            at,
            _folder: folder,
        })
    }

    fn mount(&self, what: &[&str]) -> anyhow::Result<()> {
        run(Command::new("mount").args(what).arg(&self.at))
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    fn fill(&self) -> anyhow::Result<()> {
        let mut filler = fs::File::create(self.filler()).context("filling a disk")?;
        for part in [1 << 20, 4096] {
            let zeros = vec![0; part];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling a disk"),
                }
            }
        }
        Ok(())
    }

    fn free(&self) -> anyhow::Result<()> {
        // Somebody who is just being started may have the file open for a moment yet, and a disk that loses its power
        // would have it again.
        let filler = OpenOptions::new().write(true).open(self.filler());
        let emptied = filler.and_then(|filler| {
            filler.set_len(0)?;
            filler.sync_all()
        });
        emptied
            .and_then(|()| fs::remove_file(self.filler()))
            .context("making room on a disk")
    }

    fn unmount(&self) -> anyhow::Result<()> {
        run(Command::new("umount").args(["--lazy"]).arg(&self.at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // It may not be mounted.
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output();
    let output = output.with_context(|| format!("running {}", program.display()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {words}", program.display());
    Ok(())
}

/// A disk in memory that can be filled. What tables hold is in the folder [`Self::tables`].
#[derive(Debug)]
pub(crate) struct SmallDisk(Mount);

impl SmallDisk {
    /// # Errors
    /// It may not be mounted.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let disk = Self(Mount::folder()?);
        let size = format!("size={SMALL_BYTES},mode=755");
        disk.0.mount(&["-t", "tmpfs", "-o", &size, "stanchion"])?;
        fs::create_dir(disk.tables()).context("making a folder for tables")?;
        postgres_server::hand_over(&disk.tables())?;
        Ok(disk)
    }

    /// The folder of a tablespace.
    pub(crate) fn tables(&self) -> PathBuf {
        self.0.at.join("tables")
    }

    /// Leaves no room.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        self.0.fill()
    }

    /// Leaves room again.
    ///
    /// # Errors
    /// It was not full.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        self.0.free()
    }
}

/// A disk with a journal, on which a whole cluster can live.
#[derive(Debug)]
pub(crate) struct WholeDisk {
    mount: Mount,
    image: PathBuf,
}

impl WholeDisk {
    /// # Errors
    /// It may not be mounted, or there is no ext4.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mount = Mount::folder()?;
        let image = mount.at.with_file_name("image");
        let file = fs::File::create(&image).context("making a disk")?;
        file.set_len(WHOLE_BYTES).context("making a disk")?;
        run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
        let disk = Self { mount, image };
        disk.power_on()?;
        Ok(disk)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.mount.at
    }

    /// Leaves no room.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(crate) fn fill(&self) -> anyhow::Result<()> {
        self.mount.fill()
    }

    /// Leaves room again.
    ///
    /// # Errors
    /// It was not full.
    pub(crate) fn free(&self) -> anyhow::Result<()> {
        self.mount.free()
    }

    /// All that was written so far stays, whatever happens.
    ///
    /// # Errors
    /// It cannot be synchronised.
    pub(crate) fn synchronise(&self) -> anyhow::Result<()> {
        run(Command::new("sync").arg("-f").arg(self.path()))
    }

    fn power_on(&self) -> anyhow::Result<()> {
        let image = self.image.display().to_string();
        self.mount.mount(&["-o", "loop", &image])
    }

    /// All that was not synchronised is lost; nothing can be written any more.
    ///
    /// # Errors
    /// It could not be shut down.
    pub(crate) fn lose_power(&self) -> anyhow::Result<()> {
        run(Command::new("perl")
            .args(["-e", SHUT_DOWN])
            .arg(&self.mount.at))
    }

    /// Comes back as it was when the power went. To be repeated as long as somebody else has it.
    ///
    /// # Errors
    /// It is in use, or its journal cannot be played.
    pub(crate) fn regain_power(&self) -> anyhow::Result<()> {
        if self.is_mounted()? {
            // Not lazily: mounted a second time it would be the same, still without power.
            run(Command::new("umount").arg(&self.mount.at))?;
        }
        // The same goes for a disk that another program has seen mounted and taken into a namespace of its own.
        let mut list = Command::new("losetup");
        let list = list.arg("-j").arg(&self.image).output();
        let attached = list.context("listing disks")?.stdout;
        ensure!(attached.is_empty(), "somebody else has the disk");
        self.power_on()
    }

    fn is_mounted(&self) -> anyhow::Result<bool> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("listing mounts")?;
        let at = self.mount.at.display().to_string();
        Ok(mounts
            .lines()
            .any(|mount| mount.split(' ').nth(1) == Some(&at)))
    }
}

#[cfg(test)]
mod tests {
    use ::tests::patience;

    use super::*;
    use crate::stage::PATIENCE;

    #[test]
    fn a_disk_without_power_forgets_what_was_not_synchronised() {
        if !may_mount() {
            println!("not shown: it takes the right to mount");
            return;
        }
        let disk = WholeDisk::new().unwrap();
        let (kept, lost) = (disk.path().join("kept"), disk.path().join("lost"));
        fs::write(&kept, b"kept").unwrap();
        disk.synchronise().unwrap();
        fs::write(&lost, b"lost").unwrap();

        disk.lose_power().unwrap();
        assert!(fs::write(&kept, b"more").is_err());
        // Others begin and end meanwhile who have seen it mounted.
        let back = patience::until("the disk is back", PATIENCE, async || disk.regain_power());
        crate::block_on(back).unwrap();

        assert_eq!(fs::read(&kept).unwrap(), b"kept");
        assert!(!lost.exists());
    }

    #[test]
    fn a_full_disk_has_room_again_when_it_is_freed() {
        if !may_mount() {
            println!("not shown: it takes the right to mount");
            return;
        }
        let disk = SmallDisk::new().unwrap();
        let file = disk.tables().join("table");
        disk.fill().unwrap();
        assert_eq!(
            fs::write(&file, [0; 4096]).unwrap_err().kind(),
            ErrorKind::StorageFull
        );
        disk.free().unwrap();
        fs::write(&file, [0; 4096]).unwrap();
    }
}
