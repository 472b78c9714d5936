//! The port of clients.

use std::num::NonZeroUsize;

use super::{
    super::{Bind, ClientPort, WriteTimeout, draft::Draft, duration::GoDuration},
    Problems, text, tls,
};

/// Port of clients where none is given.
const CLIENT_PORT: u16 = 4222;
/// Above it the reference warns.
const LARGE_PAYLOAD_BYTES: usize = 8 << 20;
const LAME_DUCK_MIN_SECS: u64 = 30;

pub(super) fn port(draft: &Draft, host: &str, problems: &mut Problems<'_>) -> ClientPort {
    // Texts of this function that are not in lower case, or have a place: `server/opts.go`.
    if draft.server_name.contains(char::is_whitespace) {
        problems.about("server_name", "server name cannot contain spaces");
    }
    let tls = tls::listener(&draft.tls, tls::Of::Clients, problems);
    plain_text(draft, tls.as_ref(), problems);
    let (max_payload, max_pending) = sizes(draft, problems);
    let port = ClientPort {
        bind: Bind {
            host: host.to_owned(),
            port: problems
                .port("port", draft.client.port)
                .unwrap_or(CLIENT_PORT),
        },
        advertise: problems.advertise("client_advertise", &draft.client_advertise),
        server_name: text(&draft.server_name),
        tls,
        allow_non_tls: draft.allow_non_tls,
        max_connections: usize::try_from(draft.max_connections).ok(),
        max_subscriptions: bound(draft.max_subscriptions),
        max_sub_tokens: max_sub_tokens(draft.max_sub_tokens, problems),
        max_closed_clients: problems.count("max_closed_clients", draft.max_closed_clients),
        max_control_line: problems.positive("max_control_line", draft.max_control_line),
        max_payload,
        max_pending,
        ping_interval: problems.span("ping_interval", draft.ping_interval_nanos),
        ping_max: problems.small("ping_max", draft.ping_max),
        write_deadline: problems.span("write_deadline", draft.write_deadline_nanos),
        write_timeout: write_timeout(&draft.write_timeout, problems),
        no_header_support: draft.no_header_support,
        no_fast_producer_stall: draft.no_fast_producer_stall,
        lame_duck_duration: problems.span("lame_duck_duration", draft.lame_duck_duration_nanos),
        lame_duck_grace_period: std::time::Duration::ZERO,
        server_tags: draft.server_tags.clone(),
        server_metadata: draft.server_metadata.clone(),
        connect_error_reports: problems.small("connect_error_reports", draft.connect_error_reports),
        reconnect_error_reports: problems
            .small("reconnect_error_reports", draft.reconnect_error_reports),
    };
    lame_duck(port, draft.lame_duck_grace_period_nanos, problems)
}

/// Both the largest body and what may wait for a client.
fn sizes(draft: &Draft, problems: &mut Problems<'_>) -> (usize, usize) {
    let max_payload = problems.positive("max_payload", draft.max_payload);
    let max_pending = problems.count("max_pending", draft.max_pending);
    if max_pending == 0 {
        problems.about("max_pending", "max_pending 0 is out of range");
    } else if max_payload > max_pending {
        let text = format!(
            "max_payload ({max_payload}) cannot be higher than max_pending ({max_pending})"
        );
        problems.about("max_payload", text);
    }
    if max_payload > LARGE_PAYLOAD_BYTES {
        // Wording of `server/server.go`.
        let text = "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor \
                    performance";
        problems.warn_about("max_payload", text);
    }
    (max_payload, max_pending)
}

fn lame_duck(mut port: ClientPort, grace_nanos: i64, problems: &mut Problems<'_>) -> ClientPort {
    let duration = port.lame_duck_duration;
    if duration.as_secs() < LAME_DUCK_MIN_SECS {
        let text = format!(
            "invalid lame_duck_duration of {}, minimum is {LAME_DUCK_MIN_SECS} seconds",
            GoDuration(duration)
        );
        problems.about("lame_duck_duration", text);
        return port;
    }
    match u64::try_from(grace_nanos) {
        Ok(nanos) => port.lame_duck_grace_period = std::time::Duration::from_nanos(nanos),
        Err(_) => problems.about(
            "lame_duck_grace_period",
            "invalid lame_duck_grace_period, needs to be positive",
        ),
    }
    let grace = port.lame_duck_grace_period;
    if grace >= duration {
        let text = format!(
            "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
            GoDuration(grace),
            GoDuration(duration)
        );
        problems.about("lame_duck_grace_period", text);
    }
    port
}

fn plain_text(draft: &Draft, tls: Option<&super::super::TlsListener>, problems: &mut Problems<'_>) {
    match tls {
        _ if !draft.allow_non_tls => {}
        None => problems.warn_about("allow_non_tls", "allow_non_tls has no effect without TLS"),
        Some(tls) if tls.settings.verify => problems.warn_about(
            "allow_non_tls",
            "allow_non_tls lets clients in that show no certificate, although verify is set",
        ),
        Some(_) => {}
    }
}

/// Wording of `server/opts.go`.
fn max_sub_tokens(value: Option<i64>, problems: &mut Problems<'_>) -> Option<NonZeroUsize> {
    let value = value?;
    if value > i64::from(u8::MAX) {
        problems.about("max_sub_tokens", "max_sub_tokens value is too big");
    } else if value <= 0 {
        problems.about("max_sub_tokens", "max_sub_tokens value can not be negative");
    }
    bound(value)
}

fn write_timeout(value: &str, problems: &mut Problems<'_>) -> WriteTimeout {
    value.parse().unwrap_or_else(|text| {
        problems.about("write_timeout", text);
        WriteTimeout::Default
    })
}

/// 0 and below mean unlimited.
fn bound(value: i64) -> Option<NonZeroUsize> {
    NonZeroUsize::new(usize::try_from(value).unwrap_or(0))
}
