//! Bugs to be planted in the broker, each a patch below `planted/`: what is wrong in words, then `Found by:` what the run says
//! in which it is found, and perhaps `Faults:` the kinds without which it takes long. `tests/tools/planted` plants
//! them. Here it is only seen that each still fits the sources.

use std::{fs, path::PathBuf, process::Command};

use tests::programs;

fn patches() -> Vec<PathBuf> {
    let folder = programs::root().join("tests/tests/store_faults/planted");
    let entries = fs::read_dir(folder).unwrap();
    let mut patches: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    patches.sort();
    patches
}

#[test]
fn every_bug_can_be_planted() {
    let patches = patches();
    assert!(!patches.is_empty());
    for patch in patches {
        let text = fs::read_to_string(&patch).unwrap();
        assert!(text.contains("\nFound by: "), "{}", patch.display());
        let mut command = Command::new("git");
        command.current_dir(programs::root());
        let output = command.args(["apply", "--check"]).arg(&patch).output();
        let output = output.unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} does not fit any more, plant its bug anew: {words}",
            patch.display()
        );
    }
}
