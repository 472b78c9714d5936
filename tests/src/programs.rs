//! Where the programs are that the tests start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
}

/// A program of ours, next to the running test.
///
/// # Errors
/// With the command that builds it.
pub fn ours(name: &str) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("asking for the own path")?;
    let program = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file());
    program.with_context(|| {
        format!("{name} is not built: run `cargo build --workspace` first (`make test` does)")
    })
}

/// A program that `tests/tools/obtain` brings, such as `etcd`.
///
/// # Errors
/// With the command that brings it.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    obtained(&format!("bin/{name}"))
}

/// A class with `main`, among what `tests/tools/obtain` compiled into a folder.
///
/// # Errors
/// With the command that brings it.
pub fn java(folder: &str, class: &str) -> anyhow::Result<Command> {
    let classes = obtained(&format!("{folder}/classes"))?;
    let packages = obtained(&format!("{folder}/packages"))?;
    let path = format!("{}:{}/*", classes.display(), packages.display());
    let mut command = Command::new("java");
    // Short runs on a shared machine: no compiler threads that outlive them.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
    command.args([&path, class]);
    Ok(command)
}

/// A file or folder in what `tests/tools/obtain` brings.
///
/// # Errors
/// With the command that brings it.
pub fn obtained(path: &str) -> anyhow::Result<PathBuf> {
    let full = root().join("target/tools").join(path);
    ensure!(
        full.exists(),
        "{path} is not on this machine: run `make tools` first (`make test` does)"
    );
    Ok(full)
}
