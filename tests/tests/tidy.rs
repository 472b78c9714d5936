//! Rules about the tree itself, as far as neither the compiler nor a linter knows them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tests::programs;

/// Folders at the top, beside those that begin with a dot.
const ROOMS: [&str; 6] = ["broker", "certs", "deploy", "sidecar", "tests", "webhook"];

/// Never looked into: what git keeps and what is built.
const FOREIGN: [&str; 4] = [".git", "target", "node_modules", "__pycache__"];

/// All files of the tree, as paths from its root.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![programs::root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if FOREIGN.contains(&&*entry.file_name().to_string_lossy()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(programs::root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Text files with their contents; those with one of the endings, or all.
fn texts(endings: &[&str]) -> impl Iterator<Item = (PathBuf, String)> {
    files()
        .into_iter()
        .filter(|path| {
            let ending = path.extension().unwrap_or_default().to_string_lossy();
            endings.is_empty() || endings.contains(&&*ending)
        })
        .filter_map(|path| {
            let text = fs::read_to_string(programs::root().join(&path)).ok()?;
            Some((path, text))
        })
}

/// Fails with all complaints at once.
fn expect_none(rule: &str, complaints: &[String]) {
    assert!(
        complaints.is_empty(),
        "{rule}:\n  {}",
        complaints.join("\n  ")
    );
}

#[test]
fn only_the_known_rooms_are_at_the_top() {
    let strangers: Vec<_> = fs::read_dir(programs::root())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .filter(|name| !ROOMS.contains(&&**name))
        .collect();
    expect_none("folders that are no room of this house", &strangers);
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    // The tree and the home of whoever runs this, and homes of anybody.
    let own = programs::root().display().to_string();
    let home = std::env::var("HOME").unwrap_or_default();
    let places: Vec<_> = [own, home, "/home".to_owned(), "/Users".to_owned()]
        .into_iter()
        .filter(|place| place.len() > 1)
        .collect();
    let mut complaints = Vec::new();
    for (path, text) in texts(&[]) {
        if path.ends_with("tests/tests/tidy.rs") {
            continue;
        }
        for (line, nr) in text.lines().zip(1..) {
            if places.iter().any(|place| names_place(line, place)) {
                complaints.push(format!("{}:{nr}: {}", path.display(), line.trim()));
            }
        }
    }
    expect_none("paths of one machine", &complaints);
}

/// Whether the line has `place/...` as a path of its own, not as the end of another.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        let begins =
            before.is_none_or(|before| !before.is_alphanumeric() && !"./-_}>*".contains(before));
        begins && after == Some('/')
    })
}

#[test]
fn nothing_is_left_to_be_written() {
    // In two pieces, so that this file does not find itself.
    let needles = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let complaints: Vec<_> = texts(&["rs"])
        .flat_map(|(path, text)| {
            needles
                .iter()
                .filter(|needle| text.contains(**needle))
                .map(|needle| format!("{}: {needle}", path.display()))
                .collect::<Vec<_>>()
        })
        .collect();
    expect_none("unfinished code", &complaints);
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let complaints: Vec<_> = texts(&["rs"])
        // Unit tests are part of the module that their folder is called after, which says it.
        .filter(|(path, _)| !path.ends_with("tests.rs"))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(path, _)| path.display().to_string())
        .collect();
    expect_none("no //! at the beginning", &complaints);
}

#[test]
fn every_golden_file_has_a_counterpart() {
    let mut cases: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in files() {
        if path.components().any(|part| part.as_os_str() == "golden") {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let case = name.split('.').next().unwrap_or_default();
            cases
                .entry(path.with_file_name(case))
                .or_default()
                .push(path);
        }
    }
    let complaints: Vec<_> = cases
        .values()
        .filter(|files| files.len() < 2)
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    expect_none(
        "golden files without input or without expectation",
        &complaints,
    );
}

#[test]
fn every_link_within_the_tree_leads_somewhere() {
    let mut complaints = Vec::new();
    for (path, text) in texts(&["md"]) {
        let folder = programs::root().join(path.parent().unwrap_or(Path::new("")));
        for target in links(&text) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://") || target.starts_with("mailto:");
            if !outside && !file.is_empty() && !folder.join(file).exists() {
                complaints.push(format!("{}: {target}", path.display()));
            }
        }
    }
    expect_none("dead links", &complaints);
}

/// Targets of `[text](target)` and `[name]: target`.
fn links(text: &str) -> Vec<&str> {
    let inline = text
        .match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split([')', ' ', '\n']).next());
    let named = text
        .lines()
        .filter(|line| line.starts_with('['))
        .filter_map(|line| line.split_once("]: "))
        .map(|(_, target)| target.trim());
    inline.chain(named).collect()
}

#[test]
fn links_and_places_are_told_from_what_looks_like_them() {
    assert_eq!(
        links("see [a](b.md#c) and\n[d]: e/f.md\narray[0](x)"),
        ["b.md#c", "x", "e/f.md"]
    );
    assert!(names_place("cd /home/me", "/home"));
    assert!(names_place("path=\"/home/me\"", "/home"));
    assert!(!names_place("https://example.org/home/page", "/home"));
    assert!(!names_place("/homeless/x", "/home"));
}
