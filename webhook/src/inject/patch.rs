//! A pod under change: every change is made on the raw document and noted as a JSON Patch operation.
//!
//! Only `add` operations come out, with missing parents first, and nothing that the pod already says is touched. The
//! document is never decoded into a typed Pod: fields that are newer than our bindings would be lost.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use serde_json::{Map, Value, json};

use super::Refusal;

/// The pod as it will be, and how it comes there.
#[derive(Debug)]
pub(super) struct Draft {
    pod: Value,
    operations: Vec<PatchOperation>,
}

impl Draft {
    pub(super) fn new(pod: &Value) -> Self {
        Self {
            pod: pod.clone(),
            operations: Vec::new(),
        }
    }

    /// The pod with all changes so far.
    #[cfg(test)]
    pub(super) fn pod(&self) -> &Value {
        &self.pod
    }

    pub(super) fn into_patch(self) -> Patch {
        Patch(self.operations)
    }

    /// What stands at a path; `null` where nothing does, as Kubernetes treats both alike.
    pub(super) fn at(&self, path: &[&str]) -> &Value {
        static NOTHING: Value = Value::Null;
        self.pod.pointer(pointer(path).as_str()).unwrap_or(&NOTHING)
    }

    /// The entries of an array; none where there is no array.
    pub(super) fn entries(&self, path: &[&str]) -> &[Value] {
        self.at(path).as_array().map_or(&[], Vec::as_slice)
    }

    /// Adds a member if there is none yet.
    pub(super) fn add_missing(
        &mut self,
        parent: &[&str],
        name: &str,
        value: Value,
    ) -> Result<(), Refusal> {
        let path = [parent, &[name]].concat();
        if self.at(&path).is_null() {
            self.set(parent, name, value)?;
        }
        Ok(())
    }

    /// Adds a member; where one of that name exists it is replaced, which is what `add` means on objects.
    pub(super) fn set(&mut self, parent: &[&str], name: &str, value: Value) -> Result<(), Refusal> {
        self.ensure(parent, json!({}))?;
        let object = self.object_mut(parent)?;
        object.insert(name.to_owned(), value.clone());
        self.note(&[parent, &[name]].concat(), value);
        Ok(())
    }

    /// Adds an entry at the end of an array.
    pub(super) fn append(&mut self, array: &[&str], value: Value) -> Result<(), Refusal> {
        self.ensure(array, json!([]))?;
        self.array_mut(array)?.push(value.clone());
        self.note(&[array, &["-"]].concat(), value);
        Ok(())
    }

    /// Adds an entry before all others of an array.
    pub(super) fn prepend(&mut self, array: &[&str], value: Value) -> Result<(), Refusal> {
        self.ensure(array, json!([]))?;
        self.array_mut(array)?.insert(0, value.clone());
        self.note(&[array, &["0"]].concat(), value);
        Ok(())
    }

    /// Makes `empty` out of a missing value, and of missing parents objects.
    fn ensure(&mut self, path: &[&str], empty: Value) -> Result<(), Refusal> {
        if !self.at(path).is_null() {
            return Ok(());
        }
        let Some((name, parent)) = path.split_last() else {
            return Err(malformed(path, "an object"));
        };
        self.ensure(parent, json!({}))?;
        match self.pod.pointer_mut(pointer(parent).as_str()) {
            Some(Value::Object(object)) => {
                object.insert((*name).to_owned(), empty.clone());
            }
            _ => return Err(malformed(parent, "an object")),
        }
        self.note(path, empty);
        Ok(())
    }

    fn object_mut(&mut self, path: &[&str]) -> Result<&mut Map<String, Value>, Refusal> {
        let value = self.pod.pointer_mut(pointer(path).as_str());
        value
            .and_then(Value::as_object_mut)
            .ok_or_else(|| malformed(path, "an object"))
    }

    fn array_mut(&mut self, path: &[&str]) -> Result<&mut Vec<Value>, Refusal> {
        let value = self.pod.pointer_mut(pointer(path).as_str());
        value
            .and_then(Value::as_array_mut)
            .ok_or_else(|| malformed(path, "an array"))
    }

    fn note(&mut self, path: &[&str], value: Value) {
        let path = pointer(path);
        self.operations
            .push(PatchOperation::Add(AddOperation { path, value }));
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

pub(super) fn malformed(path: &[&str], expected: &'static str) -> Refusal {
    Refusal::Malformed {
        path: path.join("."),
        expected,
    }
}

/// Whether `wanted` is part of `present`: all its members, and all its entries in their order. What an API server adds
/// by default does not matter.
pub(super) fn contains(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            present
                .get(name)
                .is_some_and(|present| contains(present, wanted))
        }),
        (Value::Array(present), Value::Array(wanted)) => {
            present.len() == wanted.len()
                && present
                    .iter()
                    .zip(wanted)
                    .all(|(present, wanted)| contains(present, wanted))
        }
        (present, wanted) => present == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(before: &Value, draft: Draft) -> Value {
        let (expected, patch) = (draft.pod().clone(), draft.into_patch());
        let mut after = before.clone();
        json_patch::patch(&mut after, &patch).unwrap();
        assert_eq!(after, expected);
        after
    }

    #[test]
    fn missing_parents_come_first() {
        let before = json!({"spec": null});
        let mut draft = Draft::new(&before);
        draft
            .append(&["spec", "volumes"], json!({"name": "v"}))
            .unwrap();
        draft
            .prepend(&["spec", "volumes"], json!({"name": "u"}))
            .unwrap();
        let after = applied(&before, draft);
        assert_eq!(
            after,
            json!({"spec": {"volumes": [{"name": "u"}, {"name": "v"}]}})
        );
    }

    #[test]
    fn keys_with_slash_and_tilde_are_escaped() {
        let before = json!({"metadata": {"annotations": {"a": "b"}}});
        let mut draft = Draft::new(&before);
        draft
            .set(
                &["metadata", "annotations"],
                "stanchion.dev/x~y",
                json!("1"),
            )
            .unwrap();
        assert_eq!(
            applied(&before, draft)["metadata"]["annotations"]["stanchion.dev/x~y"],
            json!("1")
        );
    }

    #[test]
    fn what_the_pod_says_is_kept() {
        let before = json!({"spec": {"priority": 1}});
        let mut draft = Draft::new(&before);
        draft.add_missing(&["spec"], "priority", json!(2)).unwrap();
        assert!(draft.into_patch().is_empty());
    }

    #[test]
    fn a_pod_of_the_wrong_shape_is_refused_by_path() {
        let mut draft = Draft::new(&json!({"spec": {"volumes": "none"}}));
        let refusal = draft.append(&["spec", "volumes"], json!({})).unwrap_err();
        assert_eq!(refusal.to_string(), "spec.volumes is not an array");
    }

    #[test]
    fn defaults_of_the_api_server_do_not_hide_a_part() {
        let wanted = json!({"secret": {"secretName": "s"}});
        assert!(contains(
            &json!({"secret": {"secretName": "s", "defaultMode": 420}}),
            &wanted
        ));
        assert!(!contains(&json!({"secret": {"secretName": "t"}}), &wanted));
    }
}
