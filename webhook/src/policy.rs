//! Who may use which broker: the decision of the namespace that the broker lives in.
//!
//! Certificates are handed out by annotation, so without this any namespace could obtain one for any broker.

use crate::annotations::{ALLOW_NAMESPACES, list};
use crate::facts::NamespaceFacts;

/// The broker's namespace does not let this one in. Its owner can change that; the pod's author cannot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The namespace has no list of others.
    #[error(
        "namespace {broker} lets no other namespace use its brokers; \
         annotate it with {ALLOW_NAMESPACES}: {client}"
    )]
    NobodyAllowed {
        /// Namespace of the broker.
        broker: String,
        /// Namespace that asked.
        client: String,
    },
    /// The list does not name the one that asked.
    #[error(
        "namespace {broker} does not let {client} use its brokers; \
         its annotation {ALLOW_NAMESPACES} is {allowed:?}"
    )]
    NotAllowed {
        /// Namespace of the broker.
        broker: String,
        /// Namespace that asked.
        client: String,
        /// The list as written.
        allowed: String,
    },
}

/// Whether pods of `client` may use brokers that live in `broker`. A namespace may always use its own.
///
/// # Errors
/// When the broker's namespace does not allow it. Lists in a form that is not supported have been refused before
/// ([`NamespaceFacts::check`]); here they allow nobody.
pub fn check_grant(client: &str, broker: &NamespaceFacts) -> Result<(), GrantError> {
    if client == broker.name {
        return Ok(());
    }
    let Some(allowed) = broker.default_of(ALLOW_NAMESPACES) else {
        return Err(GrantError::NobodyAllowed {
            broker: broker.name.clone(),
            client: client.to_owned(),
        });
    };
    if list(allowed).any(|pattern| matches_glob(pattern.as_bytes(), client.as_bytes())) {
        return Ok(());
    }
    Err(GrantError::NotAllowed {
        broker: broker.name.clone(),
        client: client.to_owned(),
        allowed: allowed.to_owned(),
    })
}

/// `*` stands for any characters, also none. Linear but for one step back to the last star, so that no pattern is slow.
fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&byte) if byte == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((star, matched)) = last_star else {
                    return false;
                };
                last_star = Some((star, matched + 1));
                at_pattern = star + 1;
                at_text = matched + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(allowed: Option<&str>) -> NamespaceFacts {
        let mut facts = NamespaceFacts::bare("nats-io");
        if let Some(allowed) = allowed {
            facts
                .annotations
                .insert(ALLOW_NAMESPACES.to_owned(), allowed.to_owned());
        }
        facts
    }

    #[test]
    fn a_namespace_may_use_its_own_broker() {
        assert_eq!(check_grant("nats-io", &broker(None)), Ok(()));
    }

    #[test]
    fn nobody_else_may_without_a_grant() {
        let refusal = check_grant("app", &broker(None)).unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains("stanchion.dev/allow-namespaces: app")
        );
    }

    #[test]
    fn lists_and_globs_let_in_whom_they_name() {
        let broker = broker(Some("billing, team-*, *-prod"));
        for allowed in ["billing", "team-a", "team-", "shop-prod"] {
            assert_eq!(check_grant(allowed, &broker), Ok(()), "{allowed}");
        }
        for refused in ["billing2", "a-team-a", "prod", "shop-prod2"] {
            assert!(check_grant(refused, &broker).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_selector_lets_nobody_in() {
        assert!(check_grant("app", &broker(Some("selector:app"))).is_err());
    }

    #[test]
    fn stars_match_anything_also_several_times() {
        assert!(matches_glob(b"a*b*c", b"axxbyybzzc"));
        assert!(!matches_glob(b"a*b*c", b"axxbyybzz"));
        assert!(matches_glob(b"*", b""));
    }
}
