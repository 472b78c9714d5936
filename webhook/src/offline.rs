//! The sub-command `inject`: documents from files, injected documents to standard output, a report to standard error.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use crate::config::InjectArgs;
use crate::documents;
use crate::facts::FixedFacts;

/// Runs it. Fails softly, with exit code 1, when a document was refused: the others are written all the same.
///
/// # Errors
/// When a file cannot be read or is not YAML.
pub fn inject(args: &InjectArgs) -> anyhow::Result<ExitCode> {
    let mut documents = Vec::new();
    for file in &args.files {
        documents.extend(read(file)?);
    }
    let facts = facts(args.namespaces.as_deref(), &documents)?;
    let config = args.injection.injection(true);
    let reports = documents::inject(&mut documents, &facts, &config, &args.namespace);
    for report in &reports {
        eprintln!("{report}");
    }
    let text = documents::write(&documents)?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("writing the result")?;
    let refused = reports.iter().any(|report| report.result.is_err());
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What the file and the documents say about namespaces and brokers; the documents win.
pub(crate) fn facts(file: Option<&Path>, documents: &[Value]) -> anyhow::Result<FixedFacts> {
    let known = file.map_or_else(|| Ok(Vec::new()), read)?;
    Ok(FixedFacts::from_documents(known.iter().chain(documents)))
}

fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
    } else {
        text =
            std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    }
    documents::read(&text).with_context(|| format!("reading {}", file.display()))
}
