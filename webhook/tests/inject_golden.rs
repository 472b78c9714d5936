//! Golden files of injection: every `golden/inject/NAME.yaml` beside the expected `NAME.injected.yaml`.
//!
//! The report stands in comments above the documents. `STANCHION_BLESS=1` rewrites the expected files.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use webhook::documents::{self, Verdict};
use webhook::facts::FixedFacts;
use webhook::inject::Injection;

const SUFFIX: &str = ".injected.yaml";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inject")
}

fn config() -> Injection {
    Injection {
        sidecar_image: "stanchion-sidecar:golden".to_owned(),
        issuer_url: "https://stanchion-webhook.stanchion-system.svc:8444".to_owned(),
        trust_config_map: "stanchion-trust".to_owned(),
        native_sidecars: true,
    }
}

/// Names without suffix: of inputs, and of expected outputs.
fn names() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut inputs, mut outputs) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(SUFFIX) {
            outputs.insert(name.to_owned());
        } else if let Some(name) = name.strip_suffix(".yaml") {
            inputs.insert(name.to_owned());
        }
    }
    (inputs, outputs)
}

fn injected(text: &str) -> (String, Vec<documents::Report>) {
    let mut documents = documents::read(text).unwrap();
    let facts = FixedFacts::from_documents(&documents);
    let reports = documents::inject(&mut documents, &facts, &config(), "default");
    (documents::write(&documents).unwrap(), reports)
}

fn with_report(text: &str, reports: &[documents::Report]) -> String {
    let mut all = String::new();
    for report in reports {
        for line in report.to_string().lines() {
            writeln!(all, "# {line}").unwrap();
        }
    }
    all + text
}

#[test]
fn every_input_gives_the_expected_output() {
    let bless = std::env::var_os("STANCHION_BLESS").is_some();
    for name in names().0 {
        let input = std::fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
        let (text, reports) = injected(&input);
        let found = with_report(&text, &reports);
        let path = directory().join(format!("{name}{SUFFIX}"));
        if bless {
            std::fs::write(&path, &found).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{name}: run with STANCHION_BLESS=1 and read the difference"
        );
    }
}

#[test]
fn a_second_injection_changes_nothing() {
    for name in names().0 {
        let input = std::fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap();
        let (once, _) = injected(&input);
        let (twice, reports) = injected(&once);
        assert_eq!(once, twice, "{name}");
        for report in reports {
            let changed = matches!(report.result, Ok(Verdict::Injected { changed: true, .. }));
            assert!(!changed, "{name}: {report}");
        }
    }
}

#[test]
fn no_expected_output_is_an_orphan() {
    let (inputs, outputs) = names();
    let orphans: Vec<_> = outputs.difference(&inputs).collect();
    assert!(orphans.is_empty(), "{orphans:?}");
    assert!(!inputs.is_empty());
}
