//! The table at the end, for a terminal.

use std::fmt::Write;

use crate::figures::{Quantity, Spread};
use crate::goals::Outcome;
use crate::results::{Measured, Party, Results, Verdict};

const HEAD: [&str; 8] = [
    "shape",
    "ours",
    "reference",
    "ratio",
    "of floor",
    "work a CPU-second",
    "memory, ours / reference",
    "goals",
];

/// Both tables: the shapes, then the goals.
pub(crate) fn text(results: &Results) -> String {
    let mut rows = vec![HEAD.map(str::to_owned).to_vec()];
    rows.extend(results.shapes.iter().map(|shape| row(results, shape)));
    let mut text = format!("\n{} beside {}\n\n", results.ours, results.reference);
    text += &columns(&rows);

    let goals = results.verdicts.iter().map(goal);
    let head = ["goal", "shape", "quantity", "wanted", "seen", ""].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head.to_vec()).chain(goals).collect();
    text += "\n";
    text += &columns(&rows);
    for (is, remark) in [
        (
            results.noisy,
            "Others used the machine: the figures prove nothing.",
        ),
        (
            results.quick,
            "The passes were short: the figures prove nothing.",
        ),
    ] {
        if is {
            writeln!(text, "\n{remark}").expect("a string takes everything");
        }
    }
    text
}

fn row(results: &Results, shape: &Measured) -> Vec<String> {
    let headline = shape.figure(shape.headline);
    let value = |spread: fn(&crate::results::Figure) -> Spread| match headline {
        Some(figure) => shape.headline.show(spread(figure).median),
        None => String::new(),
    };
    let ratio = |quantity, party| {
        let figure = shape.figure(quantity);
        let ratio = figure.and_then(|figure| figure.ratio_to(party));
        ratio.map_or(String::new(), |ratio| ratio.to_string())
    };
    let memory = shape.figure(Quantity::Memory).map(|figure| {
        let show = |spread: Spread| Quantity::Memory.show(spread.median);
        format!("{} / {}", show(figure.ours), show(figure.reference))
    });
    let verdicts: Vec<_> = results.of(shape).map(mark).collect();
    vec![
        shape.key.to_owned(),
        value(|figure| figure.ours),
        value(|figure| figure.reference),
        ratio(shape.headline, Party::Reference),
        ratio(shape.headline, Party::Floor),
        ratio(Quantity::PerCpuSecond, Party::Reference),
        memory.unwrap_or_default(),
        verdicts.join(" "),
    ]
}

fn mark(verdict: &Verdict) -> String {
    match verdict.outcome {
        Outcome::Met => format!("{}+", verdict.goal),
        Outcome::Missed => format!("{}-", verdict.goal),
    }
}

fn goal(verdict: &Verdict) -> Vec<String> {
    let outcome = match verdict.outcome {
        Outcome::Met => "met",
        Outcome::Missed => "missed",
    };
    vec![
        verdict.goal.to_owned(),
        verdict.shape.to_owned(),
        verdict.quantity.name().to_owned(),
        verdict.wanted.clone(),
        verdict.seen.clone(),
        outcome.to_owned(),
    ]
}

/// Columns as wide as their widest cell.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a", "bcd"], ["efgh", "i"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "a     bcd\nefgh  i\n");
    }
}
