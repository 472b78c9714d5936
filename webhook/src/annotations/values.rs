//! What the value of a key may look like: the check, and the words that tell a person what would be right.

use crate::names;

/// The values that a key takes.
#[derive(Debug)]
pub(crate) enum Values {
    /// Fixed words: those that work, and those whose feature does not exist yet.
    OneOf {
        now: &'static [&'static str],
        later: &'static [&'static str],
    },
    /// Fixed words, in any mixture of upper and lower case.
    OneOfAnyCase(&'static [&'static str]),
    /// `<namespace>/<name>`.
    Cluster,
    /// Streaming cluster IDs: letters, digits, `-` and `_`, as the reference accepts them.
    StreamingId,
    /// The name of a Kubernetes object: a DNS subdomain.
    ObjectName,
    /// A key of a Secret or ConfigMap.
    SecretKey,
    /// `*` or container names, separated by commas.
    Containers,
    /// Namespace names and globs, separated by commas.
    Namespaces,
    /// An absolute path without `..`, `:` or control characters.
    Path,
    /// `nats`, `stan` or both, or `none`.
    Variables,
    /// A template with `{pod}`, `{uid}`, `{namespace}` and `{container}`.
    ClientId,
    /// `cpu=<quantity>,memory=<quantity>`.
    Resources,
    /// `embedded`; later also `external:<host:port>`.
    Nats,
    /// Anything.
    Text,
}

impl Values {
    /// Whether the value may be used today.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        match self {
            Self::OneOf { now, .. } => now.contains(&value),
            Self::OneOfAnyCase(words) => words.contains(&value.to_ascii_lowercase().as_str()),
            Self::Cluster => value.split_once('/').is_some_and(|(namespace, name)| {
                names::is_label(namespace) && names::is_label(name)
            }),
            Self::StreamingId => names::is_client_id(value),
            Self::ObjectName => names::is_subdomain(value),
            Self::SecretKey => names::is_config_key(value),
            Self::Containers => value == "*" || all(value, names::is_label),
            Self::Namespaces => all(value, |item| names::is_label(&item.replace('*', "x"))),
            Self::Path => names::is_absolute_path(value),
            Self::Variables => {
                value == "none" || all(value, |item| matches!(item, "nats" | "stan"))
            }
            Self::ClientId => {
                !value.is_empty()
                    && placeholders(value).is_some_and(|names| names.iter().all(known))
            }
            Self::Resources => all(value, |item| {
                item.split_once('=').is_some_and(|(resource, quantity)| {
                    matches!(resource, "cpu" | "memory") && names::is_quantity(quantity)
                })
            }),
            Self::Nats => value == "embedded",
            Self::Text => true,
        }
    }

    /// Whether the value is part of the design and not of this release.
    pub(crate) fn will_accept(&self, value: &str) -> bool {
        match self {
            Self::OneOf { later, .. } => later.contains(&value),
            Self::Nats => value.starts_with("external:"),
            Self::Namespaces => value.starts_with("selector:"),
            _ => false,
        }
    }

    /// What would be right, to follow "it must be".
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::OneOf { now: words, .. } | Self::OneOfAnyCase(words) => words.join(" or "),
            Self::Cluster => "<namespace>/<name> of a broker".to_owned(),
            Self::StreamingId => "letters, digits, '-' and '_'".to_owned(),
            Self::ObjectName => "the name of a Kubernetes object".to_owned(),
            Self::SecretKey => "a key of the Secret: letters, digits, '-', '_' and '.'".to_owned(),
            Self::Containers => "'*' or container names, separated by commas".to_owned(),
            Self::Namespaces => {
                "namespace names, separated by commas, where '*' stands for any characters"
                    .to_owned()
            }
            Self::Path => "an absolute path without '..' and ':'".to_owned(),
            Self::Variables => "nats, stan, 'nats,stan' or none".to_owned(),
            Self::ClientId => {
                "a template of text and {pod}, {uid}, {namespace}, {container}".to_owned()
            }
            Self::Resources => {
                "cpu=<quantity>,memory=<quantity>, for example cpu=50m,memory=64Mi".to_owned()
            }
            Self::Nats => "embedded".to_owned(),
            Self::Text => "any text".to_owned(),
        }
    }

    /// The fixed words among the values, to find the one that was meant.
    pub(crate) fn words(&self) -> impl Iterator<Item = &'static str> {
        let words: &'static [&'static str] = match self {
            Self::OneOf { now, .. } => now,
            Self::OneOfAnyCase(words) => words,
            Self::Variables => &["nats", "stan", "none"],
            Self::Nats => &["embedded"],
            _ => &[],
        };
        words.iter().copied()
    }
}

/// The items of a comma-separated value.
pub(crate) fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

fn all(value: &str, accepts: impl Fn(&str) -> bool) -> bool {
    list(value).all(accepts)
}

fn known(placeholder: &&str) -> bool {
    matches!(*placeholder, "pod" | "uid" | "namespace" | "container")
}

/// The names between braces; nothing when a brace has no partner.
fn placeholders(template: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        if before.contains('}') {
            return None;
        }
        names.push(name);
        rest = after;
    }
    (!rest.contains('}')).then_some(names)
}
