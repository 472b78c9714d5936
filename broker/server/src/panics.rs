//! What a panic does: the process ends, in every build and whichever thread it was. A panic is a bug of
//! ours that may have left anything half done. What was acknowledged is in the store, clients come back by
//! themselves, and a start takes milliseconds; a process that lives on with a dead worker helps nobody.

use std::{panic, process};

/// From now on, after the message that a panic prints anyway.
pub(crate) fn end_the_process() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::process::ExitStatusExt, process::Command, thread};

    use super::*;

    /// Set in the process that shall end.
    const CHILD: &str = "STANCHION_TEST_OF_PANICS";
    const ABORTED: i32 = 6;

    #[test]
    fn a_panic_of_any_thread_ends_the_process_and_says_why() {
        if env::var_os(CHILD).is_some() {
            end_the_process();
            let _ = thread::spawn(|| panic!("on purpose")).join();
            process::exit(0);
        }
        let this = "panics::tests::a_panic_of_any_thread_ends_the_process_and_says_why";
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", this, "--nocapture"]).env(CHILD, "1");
        let ended = child.output().unwrap();
        assert_eq!(ended.status.signal(), Some(ABORTED));
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(said.contains("on purpose"), "{said}");
    }
}
