//! What holds for any bytes. Each target is a function that panics when its law is broken; `libfuzzer/` looks for such
//! bytes, and an ordinary test replays what it has found worth keeping in `corpus/`.

mod client_parser;
mod configuration;
mod connect_json;
mod cut;
mod permissions;
mod route_parser;
mod streaming;
mod streaming_engine;
mod subjects;
mod universe;

/// A law and its name, which is also the name of its folder in `corpus/` and of its program in `libfuzzer/`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    /// Panics when the law does not hold for these bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 8] = [
    Target {
        name: "client_parser",
        run: client_parser::run,
    },
    Target {
        name: "configuration",
        run: configuration::run,
    },
    Target {
        name: "connect_json",
        run: connect_json::run,
    },
    Target {
        name: "permissions",
        run: permissions::run,
    },
    Target {
        name: "route_parser",
        run: route_parser::run,
    },
    Target {
        name: "streaming",
        run: streaming::run,
    },
    Target {
        name: "streaming_engine",
        run: streaming_engine::run,
    },
    Target {
        name: "subjects",
        run: subjects::run,
    },
];

/// Runs the target of that name.
///
/// # Panics
/// When its law does not hold, or there is none of that name.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("programs are named after targets").run)(input);
}
