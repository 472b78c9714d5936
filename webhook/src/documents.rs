//! Injection without a cluster: YAML documents in, the same documents with their pods injected out.

use std::fmt;

use serde_json::Value;

use crate::facts::{Facts, FixedFacts};
use crate::inject::{self, Injection, Outcome, Refusal, Request, Workload};

/// The text is not YAML, or cannot be written as such.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The author of the text is at fault.
    #[error("not valid YAML")]
    Read(#[source] Box<serde_saphyr::Error>),
    /// A value that YAML cannot express.
    #[error("the result cannot be written as YAML")]
    Write(#[source] serde_saphyr::ser::Error),
}

/// What became of one document.
#[derive(Debug)]
pub struct Report {
    /// `Kind namespace/name`.
    pub subject: String,
    /// What happened to its pod.
    pub result: Result<Verdict, Refusal>,
}

/// What happened to a pod that was not refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Left as it is.
    Left {
        /// Why, in a few words.
        because: &'static str,
        /// What the author should know.
        warnings: Vec<String>,
    },
    /// Injected.
    Injected {
        /// Role of the pod.
        role: &'static str,
        /// Whether anything had to be changed.
        changed: bool,
        /// What the author should know.
        warnings: Vec<String>,
    },
}

impl fmt::Display for Report {
    /// A line for the result, and one for each warning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.subject)?;
        let warnings = match &self.result {
            Err(refusal) => return write!(f, "refused: {refusal}"),
            Ok(Verdict::Left { because, warnings }) => {
                write!(f, "left as it is: {because}")?;
                warnings
            }
            Ok(Verdict::Injected {
                role,
                changed,
                warnings,
            }) => {
                let state = if *changed {
                    "injected"
                } else {
                    "already injected"
                };
                write!(f, "{state} as {role}")?;
                warnings
            }
        };
        warnings
            .iter()
            .try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}

/// All documents of a text; empty ones are left out and Lists are taken apart.
///
/// # Errors
/// When the text is not YAML.
pub fn read(text: &str) -> Result<Vec<Value>, DocumentError> {
    // As kubectl reads them: a leading zero makes a file mode octal.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| DocumentError::Read(Box::new(error)))?;
    let items = documents.into_iter().flat_map(|mut document| {
        if document["kind"] != "List" {
            return vec![document];
        }
        match document["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    });
    Ok(items.filter(|document| !document.is_null()).collect())
}

/// The documents as one text.
///
/// # Errors
/// When a document has a value that YAML cannot express.
pub fn write(documents: &[Value]) -> Result<String, DocumentError> {
    let mut text = String::new();
    for document in documents {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&serde_saphyr::to_string(document).map_err(DocumentError::Write)?);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    Ok(text)
}

/// Injects every pod and pod template among the documents, in place, and reports on each.
pub fn inject(
    documents: &mut [Value],
    facts: &FixedFacts,
    config: &Injection,
    namespace: &str,
) -> Vec<Report> {
    documents
        .iter_mut()
        .filter_map(|document| inject_one(document, facts, config, namespace))
        .collect()
}

fn inject_one(
    document: &mut Value,
    facts: &FixedFacts,
    config: &Injection,
    namespace: &str,
) -> Option<Report> {
    let kind = document["kind"].as_str()?.to_owned();
    let metadata = &document["metadata"];
    let name = metadata["name"]
        .as_str()
        .or_else(|| metadata["generateName"].as_str());
    let name = name.unwrap_or_default().to_owned();
    let namespace = document["metadata"]["namespace"]
        .as_str()
        .unwrap_or(namespace)
        .to_owned();
    let place = pod_place(&kind)?;
    let pod = document.pointer(place).cloned().unwrap_or_default();
    let workload = (!place.is_empty()).then_some(Workload {
        kind: &kind,
        name: &name,
    });
    let facts_of_namespace = facts.own_namespace(&namespace)?;
    let request = Request {
        pod: &pod,
        namespace: &facts_of_namespace,
        workload,
    };
    let result = inject::desired(&request, facts, config)
        .and_then(|outcome| settle(outcome, document, place));
    Some(Report {
        subject: format!("{kind} {namespace}/{name}"),
        result,
    })
}

/// Where the pod is in an object of this kind; nothing for kinds that make no pods.
fn pod_place(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment"
        | "StatefulSet"
        | "DaemonSet"
        | "ReplicaSet"
        | "ReplicationController"
        | "Job" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

fn settle(outcome: Outcome, document: &mut Value, place: &str) -> Result<Verdict, Refusal> {
    match outcome {
        Outcome::Left { because, warnings } => Ok(Verdict::Left { because, warnings }),
        Outcome::Injected {
            patch,
            role,
            warnings,
        } => {
            let applied = document
                .pointer_mut(place)
                .is_some_and(|pod| json_patch::patch(pod, &patch).is_ok());
            if !applied {
                let path = place.trim_start_matches('/').replace('/', ".");
                return Err(Refusal::Malformed {
                    path,
                    expected: "a pod template",
                });
            }
            Ok(Verdict::Injected {
                role,
                changed: !patch.is_empty(),
                warnings,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_taken_apart_and_empty_documents_left_out() {
        let documents =
            read("---\nkind: Job\n---\n---\nkind: List\nitems: [{kind: Pod}, {kind: Service}]\n")
                .unwrap();
        let kinds: Vec<_> = documents
            .iter()
            .map(|document| document["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["Job", "Pod", "Service"]);
    }

    #[test]
    fn file_modes_are_octal_and_quoted_words_stay_text() {
        let documents = read("a: 0440\nb: \"true\"\nc: '0440'\n").unwrap();
        assert_eq!(
            documents[0],
            serde_json::json!({"a": 288, "b": "true", "c": "0440"})
        );
        let text = write(&documents).unwrap();
        assert_eq!(read(&text).unwrap(), documents, "{text}");
    }

    #[test]
    fn what_is_no_yaml_is_refused() {
        assert!(matches!(read("a: [1"), Err(DocumentError::Read(_))));
    }
}
