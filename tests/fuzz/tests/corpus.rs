//! What fuzzing has found worth keeping still keeps the laws, and nothing lies around that no target reads.

use std::{collections::BTreeSet, fs, path::Path};

use tests_fuzz::TARGETS;

/// For the repository's sake.
const MOST_BYTES: u64 = 200_000;

fn corpus() -> &'static Path {
    concat!(env!("CARGO_MANIFEST_DIR"), "/corpus").as_ref()
}

#[test]
fn every_kept_input_keeps_the_law_of_its_target() {
    let mut bytes = 0;
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let mut inputs = 0;
        for file in fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let input = fs::read(&path).unwrap();
            let kept = std::panic::catch_unwind(|| (target.run)(&input));
            assert!(kept.is_ok(), "{}", path.display());
            bytes += input.len() as u64;
            inputs += 1;
        }
        println!("{}: {inputs} inputs", target.name);
        assert!(inputs > 0, "{} has no inputs", target.name);
    }
    assert!(bytes < MOST_BYTES, "{bytes} bytes: minimise the corpus");
}

#[test]
fn every_folder_and_every_program_has_its_target() {
    let targets: BTreeSet<_> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(names(corpus()), targets);
    let programs = corpus().with_file_name("libfuzzer").join("fuzz_targets");
    assert_eq!(names(&programs), targets);
}
