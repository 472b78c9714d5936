//! Streaming: names, heartbeats, limits and the store.

use super::{
    super::{
        Encryption, StoreKind, StreamingSettings,
        draft::Draft,
        limits::{Limits, Own, StoreLimits},
    },
    Problems, path,
};

/// Of a server without streaming the defaults, which nobody reads.
pub(super) fn settings(
    draft: &Draft,
    problems: &mut Problems<'_>,
) -> (StreamingSettings, StoreKind, Option<Encryption>) {
    if draft.streaming == Some(false) {
        let streaming = streaming(&Draft::default(), problems);
        return (streaming, StoreKind::Memory, None);
    }
    let store = match store(draft) {
        Ok(store) => store,
        Err(problem) => {
            problems.add(&problem);
            StoreKind::Memory
        }
    };
    let encryption = encryption(draft).unwrap_or_else(|problem| {
        problems.add(&problem);
        None
    });
    (streaming(draft, problems), store, encryption)
}

fn encryption(draft: &Draft) -> Result<Option<Encryption>, String> {
    if !draft.encrypts() {
        return Ok(None);
    }
    let cipher = draft.encryption_cipher.parse().map_err(|error| {
        let name = &draft.encryption_cipher;
        format!("{error}: {name:?}: expected AES or CHACHA")
    })?;
    if draft.encryption_key.is_empty() {
        return Err(
            "encryption key required: NATS_STREAMING_ENCRYPTION_KEY, or encryption_key in a file"
                .to_owned(),
        );
    }
    let key = draft.encryption_key.clone();
    Ok(Some(Encryption { cipher, key }))
}

fn streaming(draft: &Draft, problems: &mut Problems<'_>) -> StreamingSettings {
    for (name, value) in [
        ("cluster_id", &draft.cluster_id),
        ("discover_prefix", &draft.discover_prefix),
    ] {
        if !is_part_of_subject(value) {
            let text = format!("{name} {value:?} cannot be part of a subject");
            problems.about(name, text);
        }
    }
    if draft.partitioning && draft.channels.is_empty() {
        problems.about("partitioning", "stan: no configured channel");
    }
    StreamingSettings {
        cluster_id: draft.cluster_id.clone(),
        discover_prefix: draft.discover_prefix.clone(),
        hb_interval: problems.span("hb_interval", draft.hb_interval_nanos),
        hb_timeout: problems.span("hb_timeout", draft.hb_timeout_nanos),
        hb_fail_count: problems.small("hb_fail_count", draft.hb_fail_count),
        replace_durable: draft.replace_durable,
        partitioning: draft.partitioning,
        limits: limits(draft, problems),
    }
}

/// Whole tokens without wildcards.
fn is_part_of_subject(value: &str) -> bool {
    let bad = |token: &str| token.is_empty() || token == "*" || token == ">";
    !value.contains(|next: char| next.is_whitespace() || next.is_control())
        && !value.split('.').any(bad)
}

fn limits(draft: &Draft, problems: &mut Problems<'_>) -> StoreLimits {
    let mut unsigned = |name: &str, value: i64| {
        u64::try_from(value).unwrap_or_else(|_| {
            problems.add(&format!("max {name} limit cannot be negative ({value})"));
            0
        })
    };
    let Own {
        max_msgs,
        max_bytes,
        max_age_nanos,
        max_subs,
        max_inactivity_nanos,
    } = draft.limits;
    let general = Limits {
        max_msgs: unsigned("messages", max_msgs),
        max_bytes: unsigned("bytes", max_bytes),
        max_age_nanos: unsigned("age", max_age_nanos),
        max_subs: unsigned("subscriptions", max_subs),
        max_inactivity_nanos: unsigned("inactivity", max_inactivity_nanos),
    };
    let max_channels = unsigned("channels", draft.max_channels);
    let channels = draft.channels.iter();
    let entries = channels
        .map(|channel| (channel.pattern.clone(), channel.own))
        .collect();
    let limits = StoreLimits::new(max_channels, general, entries);
    let literal = limits.literal_channels();
    if max_channels > 0 && literal as u64 > max_channels {
        problems.add(&format!(
            "too many channels defined ({literal}). The max channels limit is set to {max_channels}"
        ));
    }
    limits
}

fn store(draft: &Draft) -> Result<StoreKind, String> {
    let refuse = |text: &str| Err(text.to_owned());
    match draft.store.to_ascii_uppercase().as_str() {
        "MEMORY" => Ok(StoreKind::Memory),
        "FILE" => match path(&draft.dir) {
            Some(dir) => Ok(StoreKind::File { dir }),
            None => refuse("for FILE stores, root directory must be specified (-dir)"),
        },
        "SQL" => match draft.sql_driver.as_str() {
            // The source alone says it, and nothing else is offered.
            "postgres" | "" if draft.sql_source.is_empty() => refuse(
                "the SQL store needs a source: streaming { sql { source: ... } } in the -sc file, or STANCHION_SQL_SOURCE",
            ),
            "postgres" | "" => Ok(StoreKind::Sql {
                source: draft.sql_source.clone(),
            }),
            "mysql" => refuse("sql driver \"mysql\" is not supported yet: only postgres"),
            other => Err(format!("sql: unknown driver {other:?}: only postgres")),
        },
        _ => Err(format!(
            "unsupported store type: {}: expected MEMORY, FILE or SQL",
            draft.store
        )),
    }
}
