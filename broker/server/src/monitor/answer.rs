//! Answers in the form of the reference servers: indented JSON with Go's escapes, and plain refusals.

use axum::{
    http::{
        HeaderName, StatusCode,
        header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;

/// Anybody's page may read what anybody may ask for.
const JSON: [(HeaderName, &str); 2] = [
    (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (CONTENT_TYPE, "application/json"),
];

/// JSON with an indent of two.
pub(crate) fn document(content: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(content) {
        Ok(text) => (JSON, escape(&text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// JSON on one line.
pub(crate) fn compact(status: StatusCode, content: &impl Serialize) -> Response {
    match serde_json::to_string(content) {
        Ok(text) => (status, JSON, escape(&text)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// As [`document`], or a call of the function that `callback` names: streaming documents have that.
pub(crate) fn document_or_call(content: &impl Serialize, callback: Option<&str>) -> Response {
    let Some(callback) = callback else {
        return document(content);
    };
    // Anything else would run as script on the page that asked.
    if !callback
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"_$.".contains(&byte))
    {
        return (StatusCode::BAD_REQUEST, "invalid callback\n").into_response();
    }
    match serde_json::to_string_pretty(content) {
        Ok(text) => {
            let call = format!("{callback}({})", escape(&text));
            ([(CONTENT_TYPE, "application/javascript")], call).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The text may repeat what came with the request; nobody shall take it for a page.
pub(crate) fn refusal(status: StatusCode, text: String) -> Response {
    let head = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, head, text).into_response()
}

/// As Go's encoder does. In JSON these characters stand only inside of strings.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for next in text.chars() {
        match next {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    escaped
}
