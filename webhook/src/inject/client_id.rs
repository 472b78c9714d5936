//! `STAN_CLIENT_ID`: unique for each connection, and of legal characters whatever the pod is called.
//!
//! Streaming client IDs are letters, digits, `-` and `_`. A pod's name may also have dots, and is often not known yet
//! at admission, so that it can only be filled in by the kubelet; then the pod's uid stands in for it.

use serde_json::{Value, json};

use super::container::from_field;
use crate::names::{is_client_id, is_client_id_byte};

/// What clients read their ID from.
pub(super) const VARIABLE: &str = "STAN_CLIENT_ID";
const POD_NAME: &str = "STANCHION_POD_NAME";
const POD_UID: &str = "STANCHION_POD_UID";

/// What a client ID is made from.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The pod's name, or as much of it as is known.
    pub(super) pod_name: PodName<'a>,
    pub(super) namespace: &'a str,
    pub(super) container: &'a str,
    /// Whether the pod's name alone may be the ID of this container.
    pub(super) only_one: bool,
}

/// As much of a pod's name as is known at admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodName<'a> {
    Full(&'a str),
    /// What it will begin with.
    Prefix(&'a str),
}

/// The variable, after those that it refers to.
pub(super) fn variables(template: Option<&str>, subject: &Subject<'_>) -> Vec<Value> {
    let template = template.unwrap_or(if subject.only_one {
        "{pod}"
    } else {
        "{pod}-{container}"
    });
    let (value, uses_name, uses_uid) = expand(template, subject);
    if value == format!("$({POD_NAME})") {
        return vec![from_field(VARIABLE, "metadata.name")];
    }
    let mut variables = Vec::new();
    if uses_name {
        variables.push(from_field(POD_NAME, "metadata.name"));
    }
    if uses_uid {
        variables.push(from_field(POD_UID, "metadata.uid"));
    }
    variables.push(json!({"name": VARIABLE, "value": value}));
    variables
}

/// The value, and whether it refers to the pod's name and to its uid.
fn expand(template: &str, subject: &Subject<'_>) -> (String, bool, bool) {
    let (mut value, mut uses_name, mut uses_uid) = (String::new(), false, false);
    let mut rest = template;
    while let Some((literal, (name, after))) = rest
        .split_once('{')
        .and_then(|(literal, after)| Some((literal, after.split_once('}')?)))
    {
        value.push_str(&legal(literal));
        rest = after;
        match (name, subject.pod_name) {
            ("namespace", _) => value.push_str(&legal(subject.namespace)),
            ("container", _) => value.push_str(&legal(subject.container)),
            ("pod", PodName::Full(name)) if !is_client_id(name) => value.push_str(&legal(name)),
            ("pod", PodName::Prefix(prefix)) if !prefix.is_empty() && !is_client_id(prefix) => {
                value.push_str(&format!("{}$({POD_UID})", legal(prefix)));
                uses_uid = true;
            }
            ("pod", _) => {
                value.push_str(&format!("$({POD_NAME})"));
                uses_name = true;
            }
            _ => {
                value.push_str(&format!("$({POD_UID})"));
                uses_uid = true;
            }
        }
    }
    value.push_str(&legal(rest));
    (value, uses_name, uses_uid)
}

fn legal(text: &str) -> String {
    let replaced = text.chars().map(|c| {
        if c.is_ascii() && is_client_id_byte(c as u8) {
            c
        } else {
            '-'
        }
    });
    replaced.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(pod_name: PodName<'_>, only_one: bool) -> Subject<'_> {
        Subject {
            pod_name,
            namespace: "app",
            container: "worker",
            only_one,
        }
    }

    fn value(variables: &[Value]) -> &str {
        variables.last().unwrap()["value"].as_str().unwrap()
    }

    #[test]
    fn the_pod_name_alone_comes_from_the_kubelet() {
        let made = variables(None, &subject(PodName::Prefix("consumer-"), true));
        assert_eq!(made, [from_field("STAN_CLIENT_ID", "metadata.name")]);
    }

    #[test]
    fn a_second_container_has_an_id_of_its_own() {
        let made = variables(None, &subject(PodName::Full("consumer-0"), false));
        assert_eq!(made[0], from_field(POD_NAME, "metadata.name"));
        assert_eq!(value(&made), "$(STANCHION_POD_NAME)-worker");
    }

    #[test]
    fn a_name_with_dots_becomes_legal() {
        let known = variables(None, &subject(PodName::Full("a.b-0"), true));
        assert_eq!(value(&known), "a-b-0");
        let unknown = variables(None, &subject(PodName::Prefix("a.b-"), true));
        assert_eq!(value(&unknown), "a-b-$(STANCHION_POD_UID)");
    }

    #[test]
    fn illegal_text_in_a_template_is_replaced_and_refers_to_nothing() {
        let made = variables(
            Some("$(PATH) {namespace}/{uid}"),
            &subject(PodName::Full("p"), true),
        );
        assert_eq!(value(&made), "--PATH--app-$(STANCHION_POD_UID)");
    }
}
