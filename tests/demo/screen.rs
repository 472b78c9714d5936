//! What the demonstration prints: steps, a table, and differences in colour on a terminal.

use std::io::{IsTerminal, Write};

use similar::{ChangeTag, TextDiff};

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

pub(crate) fn step(text: &str) {
    println!("\n{} {}", paint("1;36", "==>"), paint("1", text));
}

pub(crate) fn fact(name: &str, value: &str) {
    println!("    {name:<22} {value}");
}

/// A line that is written over by the next; nothing where nobody looks.
pub(crate) fn progress(done: usize, of: usize) {
    if std::io::stdout().is_terminal() {
        let width = 40 * done / of;
        print!("\r    [{:<40}] {done}/{of}\r", "#".repeat(width));
        // Only for the eye.
        let _ = std::io::stdout().flush();
    }
}

pub(crate) fn failure(error: &anyhow::Error) {
    eprintln!("{} {error:#}", paint("1;31", "demo failed:"));
}

/// Lines that were added or taken away, with one line of context around them.
pub(crate) fn difference(title: &str, before: &str, after: &str) {
    println!("\n    {}", paint("1", title));
    let diff = TextDiff::from_lines(before, after);
    for (nr, group) in diff.grouped_ops(1).iter().enumerate() {
        if nr > 0 {
            println!("    {}", paint("2", "..."));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value().trim_end();
            match change.tag() {
                ChangeTag::Insert => println!("    {}", paint("32", &format!("+ {line}"))),
                ChangeTag::Delete => println!("    {}", paint("31", &format!("- {line}"))),
                ChangeTag::Equal => println!("    {}", paint("2", &format!("  {line}"))),
            }
        }
    }
}

pub(crate) fn table(rows: &[(String, String)]) {
    let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let values = rows.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
    let line = format!("    +{}+{}+", "-".repeat(names + 2), "-".repeat(values + 2));
    println!("\n{line}");
    for (name, value) in rows {
        println!("    | {name:<names$} | {value:>values$} |");
    }
    println!("{line}");
}
