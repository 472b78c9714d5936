//! What applications rely on in streaming, line by line, and the tests that show it: `streaming_checklist/table.md`.
//!
//! The table cannot rot: a test that is gone, a line that is missing, and a claim without test or reason fail here.

use std::{collections::BTreeSet, fmt::Write as _, fs};

use tests::programs;

const TABLE: &str = include_str!("streaming_checklist/table.md");

/// Every group of lines and how many it has, so that none is left out by accident.
const GROUPS: [(&str, u32); 15] = [
    ("C", 36),
    ("H", 18),
    ("P", 32),
    ("S", 25),
    ("SP", 21),
    ("U", 12),
    ("D", 19),
    ("Q", 27),
    ("A", 17),
    ("R", 14),
    ("L", 12),
    ("T", 23),
    ("I", 12),
    ("N", 16),
    ("X", 13),
];

struct Row<'a> {
    line: &'a str,
    claim: &'a str,
    answer: Answer<'a>,
}

enum Answer<'a> {
    /// Files from the root of the tree, and test functions in them.
    Tests(Vec<(String, &'a str)>),
    /// Why there is nothing to test here.
    Nothing(&'a str),
}

/// Rows of the tables, without headings and rules.
fn rows(table: &str) -> impl Iterator<Item = Row<'_>> {
    table.lines().filter_map(|line| {
        let row = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let cells: Vec<&str> = row.split(" | ").collect();
        let [line, claim, shown_by] = cells[..] else {
            panic!("not three cells: {row}");
        };
        (line != "Line").then(|| Row {
            line,
            claim,
            answer: answer(shown_by),
        })
    })
}

fn answer(cell: &str) -> Answer<'_> {
    if let Some(reason) = cell.strip_prefix("none: ") {
        return Answer::Nothing(reason);
    }
    let mut tests = Vec::new();
    for share in cell.split("; ") {
        let (file, names) = share.split_once(": ").unwrap_or((share, ""));
        tests.extend(names.split(", ").map(|name| (path(file), name)));
    }
    Answer::Tests(tests)
}

/// The file that a name in the table stands for, from the root of the tree.
fn path(file: &str) -> String {
    if let Some(name) = file.strip_prefix("core/") {
        format!("broker/core/src/streaming/tests/{name}.rs")
    } else if let Some(name) = file.strip_prefix("wire/") {
        format!("tests/tests/{name}.rs")
    } else {
        file.to_owned()
    }
}

/// Whether a source has a test function of this name that runs.
fn has_test(source: &str, name: &str) -> bool {
    let Some(at) = source.find(&format!("fn {name}(")) else {
        return false;
    };
    let attributes = source[..at].rsplit("\n\n").next().unwrap_or_default();
    let runs = attributes.contains("#[test]") || attributes.contains("#[tokio::test");
    runs && !attributes.contains("#[ignore")
}

/// What is wrong with a row; empty if nothing.
fn complaints(row: &Row<'_>) -> String {
    let mut text = String::new();
    if row.claim.is_empty() {
        let _ = writeln!(text, "{}: claims nothing", row.line);
    }
    match &row.answer {
        Answer::Nothing("") => {
            let _ = writeln!(text, "{}: neither test nor reason", row.line);
        }
        Answer::Nothing(_) => {}
        Answer::Tests(tests) => {
            for (file, name) in tests {
                let source = fs::read_to_string(programs::root().join(file));
                if !source.is_ok_and(|source| has_test(&source, name)) {
                    let _ = writeln!(text, "{}: no test {name:?} in {file}", row.line);
                }
            }
        }
    }
    text
}

#[test]
fn every_line_has_its_tests_or_a_reason() {
    let text: String = rows(TABLE).map(|row| complaints(&row)).collect();
    assert!(text.is_empty(), "\n{text}");
}

#[test]
fn no_line_is_missing_or_there_twice() {
    let lines: Vec<&str> = rows(TABLE).map(|row| row.line).collect();
    let once: BTreeSet<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    assert_eq!(once.len(), lines.len(), "a line is there twice");
    let all: BTreeSet<String> = GROUPS
        .iter()
        .flat_map(|(group, count)| (1..=*count).map(move |number| format!("{group}-{number:02}")))
        .collect();
    let missing: Vec<_> = all.difference(&once).collect();
    let unknown: Vec<_> = once.difference(&all).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "{missing:?} {unknown:?}"
    );
}

#[test]
fn a_row_without_a_test_that_runs_is_complained_about() {
    let wrong = [
        "| C-01 | a | core/connect: no_such_test |",
        "| C-01 | a | core/no_such_file: a_live_client_keeps_its_id |",
        "| C-01 | a | core/connect |",
        "| C-01 | a | core/harness: with |",
        "| C-01 | a | none:  |",
    ];
    for text in wrong {
        let row = rows(text).next().unwrap();
        assert!(!complaints(&row).is_empty(), "{text}");
    }
    let right = "| C-01 | a | core/connect: a_live_client_keeps_its_id |";
    assert!(complaints(&rows(right).next().unwrap()).is_empty());
}
