//! A configuration is refused with a place in it, or means the same after it was printed.

use broker_proto::conf::{self, Kind, Map, Resolver, Source, Value};

/// Knows some variables and one file, so that both are met.
struct Surroundings;

impl Resolver for Surroundings {
    fn include(&self, from: &str, path: &str) -> Result<Source, String> {
        let text = match path {
            "a" => "included: [1, {b: $A}]",
            "b" => "include a; include b",
            _ => return Err(format!("{from} has no {path}")),
        };
        Ok(Source {
            name: path.to_owned(),
            text: text.to_owned(),
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        let value = match name {
            "A" => "[1, 'two', 3k]",
            "B" => "$A",
            "C" => "$C",
            _ => return None,
        };
        Some(value.to_owned())
    }
}

pub(crate) fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(map) = conf::parse("input", &text, &Surroundings) else {
        return;
    };
    let printed = map.to_string();
    match conf::parse("printed", &printed, &conf::Isolated) {
        Ok(again) => assert!(same_maps(&map, &again), "{printed}"),
        Err(error) => panic!("{error} in what was printed:\n{printed}"),
    }
}

/// Equal but for the places, which printing moves.
fn same_maps(one: &Map, two: &Map) -> bool {
    let same = |(one, two): (&conf::Entry, &conf::Entry)| {
        one.key == two.key && same_values(&one.value, &two.value)
    };
    one.entries().count() == two.entries().count() && one.entries().zip(two.entries()).all(same)
}

fn same_values(one: &Value, two: &Value) -> bool {
    match (&one.kind, &two.kind) {
        (Kind::Map(one), Kind::Map(two)) => same_maps(one, two),
        (Kind::Array(one), Kind::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same_values(one, two))
        }
        (one, two) => format!("{one:?}") == format!("{two:?}"),
    }
}
