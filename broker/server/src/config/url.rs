//! URLs of servers, as `routes`, `-cluster` and `-nats_server` have them.

use broker_core::{auth::settings::Secret, cluster::settings::RouteUrl};

use super::{ExternalLogin, NatsServer, file::host_port};

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

/// What an external NATS server is not called. Shows what was written only where no password can be in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExternalUrlError {
    #[error("malformed url: {0}: expected nats://host:port or tls://host:port")]
    Single(String),
    #[error("malformed url in the list: expected nats://user:password@host:port,...")]
    List,
}

/// Where a NATS server listens, unless it is said.
const DEFAULT_PORT: u16 = 4222;

/// External NATS servers: one with scheme and port, or, in a text with a comma or a login, several that
/// need neither (`buildServerURLs`).
///
/// # Errors
/// Not such a text.
pub(super) fn external(text: &str) -> Result<Vec<NatsServer>, ExternalUrlError> {
    if text.contains([',', '@']) {
        let servers = text.split(',').map(str::trim);
        let servers = servers.map(|one| nats_server(one, Some(DEFAULT_PORT)));
        return servers.collect::<Option<_>>().ok_or(ExternalUrlError::List);
    }
    let server = text.contains("://").then(|| nats_server(text, None));
    match server.flatten() {
        Some(server) => Ok(vec![server]),
        None => Err(ExternalUrlError::Single(text.to_owned())),
    }
}

/// `[scheme://][user:password@|token@]host[:port]`.
fn nats_server(text: &str, port: Option<u16>) -> Option<NatsServer> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let tls = match scheme {
        "nats" => false,
        "tls" => true,
        _ => return None,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let (host, port) = match (host_port(address), port) {
        (Some((Some(host), port)), _) => (host, u16::try_from(port).ok()?),
        (_, Some(port)) if !address.contains(':') => (address.to_owned(), port),
        _ => return None,
    };
    let legal = !host.is_empty() && !host.contains(['/', '?', '#', ' ', '[', ']']);
    let server = NatsServer {
        host,
        port,
        tls,
        login: login.map(external_login).transpose().ok()?,
        certificate_name: None,
    };
    (legal && port > 0).then_some(server)
}

/// What has no colon is a token.
fn external_login(text: &str) -> Result<ExternalLogin, UrlError> {
    let none = ExternalLogin::default();
    Ok(match text.split_once(':') {
        Some((user, password)) => ExternalLogin {
            user: decoded(user)?,
            password: Secret::new(decoded(password)?),
            ..none
        },
        None => ExternalLogin {
            token: Secret::new(decoded(text)?),
            ..none
        },
    })
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

    fn addresses(text: &str) -> Vec<String> {
        let servers = external(text).unwrap();
        servers.iter().map(NatsServer::address).collect()
    }

    #[test]
    fn one_external_server_needs_scheme_and_port_and_several_do_not() {
        assert_eq!(addresses("nats://127.0.0.1:5223"), ["127.0.0.1:5223"]);
        assert_eq!(addresses("nats://[::1]:5223/"), ["[::1]:5223"]);
        assert_eq!(
            addresses("nats://a:1, tls://u:p@b:2,c:3 ,d"),
            ["a:1", "b:2", "c:3", "d:4222"]
        );
        for text in [
            "127.0.0.1:5223",
            "nats://127.0.0.1",
            "127.0.0.1",
            "nats://:1",
            "http://h:1",
            "nats://h:0",
        ] {
            let refused = ExternalUrlError::Single(text.to_owned());
            assert_eq!(external(text), Err(refused), "{text}");
        }
        for text in ["nats://a:1,", "nats://u:%zz@h:1", "nats://u:p@h:x", "a b,c"] {
            assert_eq!(external(text), Err(ExternalUrlError::List), "{text}");
        }
    }

    #[test]
    fn an_external_server_is_told_a_user_and_a_password_or_a_token() {
        let servers = external("tls://u%40x:p%3A1@a:1,nats://t0ken@b:2").unwrap();
        assert!(servers[0].tls && !servers[1].tls);
        let logins: Vec<_> = servers.into_iter().map(|one| one.login.unwrap()).collect();
        assert_eq!(
            (logins[0].user.as_str(), logins[0].password.expose()),
            ("u@x", "p:1")
        );
        assert_eq!(
            (logins[1].user.as_str(), logins[1].token.expose()),
            ("", "t0ken")
        );
    }
}
