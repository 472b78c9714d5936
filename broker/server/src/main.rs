//! `stanchion-broker`: see the library.

fn main() -> std::process::ExitCode {
    broker_server::run()
}
