//! The results as an SVG: one panel a shape, and in it how many times better than the reference we are.
//!
//! All panels share one logarithmic scale that begins at the reference, so that bars can be compared: to the right of
//! the line we are better, to the left worse. Colours are readable on light and on dark ground.

use std::fmt::Write;

use crate::figures::{Quantity, Spread};
use crate::goals::Outcome;
use crate::results::{Measured, Party, Results};

/// What a panel shows beside its headline, where it was measured.
const BESIDE: [Quantity; 2] = [Quantity::PerCpuSecond, Quantity::Memory];

const COLUMNS: usize = 2;
const PANEL_WIDTH: f64 = 470.0;
const GAP: f64 = 20.0;
const MARGIN: f64 = 24.0;
const HEADER: f64 = 64.0;
/// Of a panel: its title, and a line a bar.
const TITLE: f64 = 30.0;
const LINE: f64 = 36.0;
/// Below its bars: the names of the scale.
const FOOT: f64 = 22.0;

/// Where bars lie in a panel; before them their names, behind them their values.
const BAR_LEFT: f64 = 128.0;
const BAR_RIGHT: f64 = 368.0;
const BAR_HEIGHT: f64 = 12.0;
/// Ends of the scale, times better than the reference; what lies beyond is cut and still says its value.
const LEAST: f64 = 0.5;
const MOST: f64 = 64.0;
const TICKS: [f64; 8] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

const STYLE: &str = "\
text { font: 12px system-ui, sans-serif; fill: #57606a }
.head { font-size: 18px; font-weight: 600; fill: #24292f }
.title { font-size: 14px; font-weight: 600; fill: #24292f }
.value { font-weight: 600; fill: #24292f }
.small { font-size: 10px }
.met { fill: #1a7f37 } .missed { fill: #cf222e }
.panel { fill: none; stroke: #8c959f; stroke-opacity: .4 }
.tick { stroke: #8c959f; stroke-opacity: .3 } .one { stroke: #57606a }
.better { fill: #2f81f7 } .worse { fill: #d4743b } .spread { stroke: #24292f; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #9da7b3 } .head, .title, .value { fill: #e6edf3 }
.met { fill: #3fb950 } .missed { fill: #f85149 }
.one { stroke: #9da7b3 } .spread { stroke: #e6edf3 }
}";

/// The whole picture.
pub(crate) fn draw(results: &Results) -> String {
    let rows = results.shapes.len().div_ceil(COLUMNS);
    let bars = results.shapes.iter().map(|shape| bars(shape).len()).max();
    let panel_height = TITLE + LINE * bars.unwrap_or(0) as f64 + FOOT;
    let columns = COLUMNS as f64;
    let width = 2.0 * MARGIN + columns * PANEL_WIDTH + (columns - 1.0) * GAP;
    let height = HEADER + rows as f64 * (panel_height + GAP) + MARGIN;
    let mut svg = Svg::default();
    let size = format!("width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\"");
    svg.line(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} role=\"img\">"
    ));
    svg.line(&format!("<style>{STYLE}</style>"));
    let head = format!("{} beside {}", results.ours, results.reference);
    svg.text("head", (MARGIN, MARGIN + 10.0), &head);
    svg.text("", (MARGIN, MARGIN + 30.0), &remark(results));
    for (number, shape) in results.shapes.iter().enumerate() {
        let x = MARGIN + (number % COLUMNS) as f64 * (PANEL_WIDTH + GAP);
        let y = HEADER + (number / COLUMNS) as f64 * (panel_height + GAP);
        panel(&mut svg, (x, y), panel_height, results, shape);
    }
    svg.line("</svg>");
    svg.0
}

fn remark(results: &Results) -> String {
    let mut text = format!(
        "Times better than the reference (or what a bar names), same machine, by turns: median, and the spread of the rounds. {} cores.",
        results.cores
    );
    if results.noisy || results.quick {
        text += " A trial, not a measurement.";
    }
    text
}

/// Ours beside another party's in one quantity.
#[derive(Debug)]
struct Bar {
    name: String,
    quantity: Quantity,
    ours: Spread,
    other: Spread,
    ratio: Option<Spread>,
}

/// Of a panel: the headline beside all parties, then more beside the reference.
fn bars(shape: &Measured) -> Vec<Bar> {
    let mut bars = Vec::new();
    for quantity in std::iter::once(shape.headline).chain(BESIDE) {
        let Some(figure) = shape.figure(quantity) else {
            continue;
        };
        bars.push(Bar {
            name: quantity.name().to_owned(),
            quantity,
            ours: figure.ours,
            other: figure.reference,
            ratio: figure.ratio,
        });
        if quantity != shape.headline {
            continue;
        }
        for (party, beside) in &figure.beside {
            let party = match party {
                Party::ReferenceByDefault => "of default",
                Party::OursUnhindered => "unhindered",
                party => party.name(),
            };
            bars.push(Bar {
                name: format!("{}, {party}", quantity.name()),
                quantity,
                ours: figure.ours,
                other: beside.value,
                ratio: beside.ratio,
            });
        }
    }
    bars
}

fn panel(svg: &mut Svg, (x, y): (f64, f64), height: f64, results: &Results, shape: &Measured) {
    let outline = format!(
        "<rect class=\"panel\" x=\"{x}\" y=\"{y}\" width=\"{PANEL_WIDTH}\" height=\"{height}\" rx=\"6\"/>"
    );
    svg.line(&outline);
    svg.text("title", (x + 12.0, y + 20.0), shape.title);
    marks(svg, (x + PANEL_WIDTH - 12.0, y + 20.0), results, shape);

    let bottom = y + height - FOOT;
    for tick in TICKS {
        let at = x + position(tick);
        let class = if tick == 1.0 { "one" } else { "tick" };
        svg.rule(class, (at, y + TITLE), (at, bottom));
        let name = format!("{tick}x");
        svg.line(&format!(
            "<text class=\"small\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            bottom + 14.0
        ));
    }
    for (number, each) in bars(shape).iter().enumerate() {
        bar(svg, (x, y + TITLE + LINE * number as f64), each);
    }
}

/// A mark for every goal of a shape, from right to left: met when all that it asks for is. A pointer on it shows each.
fn marks(svg: &mut Svg, (mut right, y): (f64, f64), results: &Results, shape: &Measured) {
    let mut goals: Vec<(&str, bool, String)> = Vec::new();
    for verdict in results.of(shape) {
        let tip = format!(
            "{}: {} {}, seen {}",
            verdict.goal,
            verdict.quantity.name(),
            verdict.wanted,
            verdict.seen
        );
        let is_met = verdict.outcome == Outcome::Met;
        match goals.iter_mut().find(|(goal, ..)| *goal == verdict.goal) {
            Some((_, all_met, tips)) => {
                *all_met &= is_met;
                *tips = format!("{tips}; {tip}");
            }
            None => goals.push((verdict.goal, is_met, tip)),
        }
    }
    for (goal, is_met, tips) in goals {
        let (class, sign) = match is_met {
            true => ("met", '\u{2713}'),
            false => ("missed", '\u{2717}'),
        };
        svg.line(&format!(
            "<text class=\"{class}\" x=\"{right}\" y=\"{y}\" text-anchor=\"end\"><title>{}</title>{goal}{sign}</text>",
            escaped(&tips)
        ));
        right -= 42.0;
    }
}

fn bar(svg: &mut Svg, (x, y): (f64, f64), bar: &Bar) {
    let middle = y + LINE / 2.0 - 4.0;
    svg.text("", (x + 12.0, middle + 4.0), &bar.name);
    let both = format!(
        "{} / {}",
        bar.quantity.show(bar.ours.median),
        bar.quantity.show(bar.other.median)
    );
    svg.text("small", (x + 12.0, middle + 17.0), &both);
    let Some(better) = better(bar) else {
        return;
    };
    let (one, end) = (x + position(1.0), x + position(better.median));
    let class = if better.median >= 1.0 {
        "better"
    } else {
        "worse"
    };
    svg.line(&format!(
        "<rect class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\"/>",
        one.min(end),
        middle - BAR_HEIGHT / 2.0,
        (one - end).abs()
    ));
    let (low, high) = (x + position(better.min), x + position(better.max));
    svg.rule("spread", (low, middle), (high, middle));
    for at in [low, high] {
        svg.rule("spread", (at, middle - 4.0), (at, middle + 4.0));
    }
    svg.text(
        "value",
        (x + BAR_RIGHT + 10.0, middle + 4.0),
        &format!("{}x", short(better.median)),
    );
    let spread = format!("{}\u{2013}{}", short(better.min), short(better.max));
    svg.text("small", (x + BAR_RIGHT + 10.0, middle + 17.0), &spread);
}

/// Times better, whatever better means for the quantity.
fn better(bar: &Bar) -> Option<Spread> {
    let ratio = bar.ratio?;
    match bar.quantity.more_is_better() {
        true => Some(ratio),
        // Nothing used at all cannot be drawn.
        false if ratio.min > 0.0 => Some(ratio.inverse()),
        false => None,
    }
}

/// Distance of a ratio from the left of its panel.
fn position(ratio: f64) -> f64 {
    let part = (ratio.clamp(LEAST, MOST) / LEAST).log2() / (MOST / LEAST).log2();
    BAR_LEFT + part * (BAR_RIGHT - BAR_LEFT)
}

fn short(ratio: f64) -> String {
    if ratio >= 9.95 {
        format!("{ratio:.0}")
    } else {
        format!("{ratio:.2}")
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// Lines of markup.
#[derive(Debug, Default)]
struct Svg(String);

impl Svg {
    fn line(&mut self, markup: &str) {
        self.0 += markup;
        self.0 += "\n";
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let text = escaped(text);
        writeln!(
            self.0,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"
        )
        .expect("a string takes everything");
    }

    fn rule(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ends = format!(
            "x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"",
            from.0, from.1, to.0, to.1
        );
        self.line(&format!("<line class=\"{class}\" {ends}/>"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::figures::Sample;
    use crate::results::Round;
    use crate::shapes::SHAPES;

    fn results(ours: f64) -> Results {
        let sample = |value| {
            let mut sample = Sample::default();
            sample.set(SHAPES[0].headline, value);
            sample
        };
        let round = Round(BTreeMap::from([
            (Party::Ours, sample(ours)),
            (Party::Reference, sample(1.0)),
        ]));
        let shapes = vec![Measured::new(&SHAPES[0], vec![round])];
        Results::new(("a <b>".to_owned(), "c & d".to_owned()), false, shapes)
    }

    #[test]
    fn text_cannot_break_the_markup() {
        let svg = draw(&results(2.0));
        assert!(svg.contains("a &lt;b&gt; beside c &amp; d"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn a_goal_has_one_mark_and_is_met_only_as_a_whole() {
        let shape = SHAPES.iter().find(|shape| shape.key == "1:1-128").unwrap();
        let sample = |rate, per_cpu_second| {
            let mut sample = Sample::default();
            sample.set(Quantity::Rate, rate);
            sample.set(Quantity::PerCpuSecond, per_cpu_second);
            sample
        };
        let round = Round(BTreeMap::from([
            (Party::Ours, sample(10.0, 1.0)),
            (Party::Reference, sample(1.0, 1.0)),
        ]));
        let shapes = vec![Measured::new(shape, vec![round])];
        let results = Results::new((String::new(), String::new()), false, shapes);
        assert_eq!(results.verdicts.len(), 2, "one met, one missed");
        let svg = draw(&results);
        assert!(svg.contains("P10\u{2717}") && !svg.contains("P10\u{2713}"));
    }

    #[test]
    fn a_bar_points_to_the_side_on_which_we_are() {
        assert!(draw(&results(2.0)).contains("class=\"better\""));
        assert!(draw(&results(0.5)).contains("class=\"worse\""));
    }

    #[test]
    fn the_scale_is_logarithmic_and_has_ends() {
        let step = position(2.0) - position(1.0);
        assert!((position(4.0) - position(2.0) - step).abs() < 1e-9);
        assert_eq!(position(1000.0), BAR_RIGHT);
        assert_eq!(position(0.0), BAR_LEFT);
    }
}
