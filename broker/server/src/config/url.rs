//! URLs of servers, as `routes` and `-cluster` have them.

use broker_core::{auth::settings::Secret, cluster::settings::RouteUrl};

use super::file::host_port;

/// Says nothing about the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("not a URL such as nats-route://user:password@host:6222")]
    Form,
    #[error("expected cluster password to be set")]
    Password,
}

/// An address and who is meant to use it.
#[derive(Debug)]
pub(super) struct ServerUrl {
    pub(super) host: String,
    /// As written: 0 and -1 are left to the caller.
    pub(super) port: i64,
    pub(super) login: Option<(String, Secret)>,
}

/// `scheme://[user:password@]host:port`, nothing behind it.
///
/// # Errors
/// It is something else, or there is a user without a password.
pub(super) fn server(text: &str) -> Result<ServerUrl, UrlError> {
    let (scheme, rest) = text.trim().split_once("://").ok_or(UrlError::Form)?;
    if !["nats-route", "nats", "tls"].contains(&scheme) {
        return Err(UrlError::Form);
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let login = match login {
        Some(login) => {
            let (user, password) = login.split_once(':').ok_or(UrlError::Password)?;
            let password = Secret::new(decoded(password)?);
            Some((decoded(user)?, password))
        }
        None => None,
    };
    match host_port(address) {
        Some((Some(host), port)) if !host.contains(['/', '?', '#', ' ']) => {
            Ok(ServerUrl { host, port, login })
        }
        _ => Err(UrlError::Form),
    }
}

/// A server to connect to.
///
/// # Errors
/// As [`server`]; a port is needed.
pub(super) fn route(text: &str) -> Result<RouteUrl, UrlError> {
    let ServerUrl { host, port, login } = server(text)?;
    match u16::try_from(port) {
        Ok(port) if port > 0 => Ok(RouteUrl { host, port, login }),
        _ => Err(UrlError::Form),
    }
}

/// With `%2F` and the like replaced.
fn decoded(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit(), digit());
        let (Some(high), Some(low)) = (high, low) else {
            return Err(UrlError::Form);
        };
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| UrlError::Form)?);
    }
    String::from_utf8(bytes).map_err(|_| UrlError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_a_host_a_port_and_perhaps_a_login() {
        let route = route("nats-route://ro%40me:p%3A1@[::1]:6222").unwrap();
        assert_eq!((route.host.as_str(), route.port), ("::1", 6222));
        let (user, password) = route.login.unwrap();
        assert_eq!((user.as_str(), password.expose()), ("ro@me", "p:1"));
        assert!(server("nats://h:-1").is_ok_and(|url| url.port == -1 && url.login.is_none()));
    }

    #[test]
    fn what_is_no_route_is_refused_without_being_shown() {
        for text in [
            "",
            "h:6222",
            "nats://h",
            "nats://h:0",
            "nats://h:70000",
            "http://h:1",
            "nats://:1",
            "nats://u:%zz@h:1",
            "nats://h:1/path",
            "nats://u:%ff@h:1",
        ] {
            assert_eq!(route(text), Err(UrlError::Form), "{text}");
        }
        assert_eq!(route("nats://u@h:1"), Err(UrlError::Password));
    }
}
