//! The JSON with which two servers introduce themselves, read and written alike.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::json;

/// What a server says of itself, or, with `ip`, of a third one that it has heard of.
///
/// Unknown fields are ignored; false and empty ones are left out. Pools, compression and origins of
/// leaf nodes have no field: a peer that does not find them keeps to one plain connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteInfo {
    /// An nkey of type server.
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    /// From 1 on, updates are understood.
    pub proto: i64,
    pub go: String,
    /// Of the listener for routes.
    pub host: String,
    pub port: u16,
    pub headers: bool,
    /// Bytes; -1 if unlimited.
    pub max_payload: i64,
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The name was made up and gives way to a configured one.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// `nats-route://host:port/`, where the server is to be reached.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectPermission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectPermission>,
    /// Lame duck.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// `host:port` of the server's own listener for clients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
}

/// Filters; `deny` wins, and no `allow` allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectPermission {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// The first line of the server that dialled.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteConnect {
    pub echo: bool,
    pub verbose: bool,
    pub pedantic: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    pub tls_required: bool,
    pub headers: bool,
    /// The server's id.
    pub name: String,
    pub cluster: String,
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    /// Said by clients only, which are at the wrong port then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// Said by gateways only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
}

impl fmt::Debug for RouteConnect {
    /// Leaves credentials out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteConnect")
            .field("headers", &self.headers)
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("cluster_dynamic", &self.cluster_dynamic)
            .field("lang", &self.lang)
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

/// A peer's introduction was not a JSON object of the right types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's introduction is not valid JSON")]
pub struct BadHandshake;

impl RouteInfo {
    /// Reads the argument of `INFO`.
    ///
    /// # Errors
    /// Not an object, or a value of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, BadHandshake> {
        json::object(json).ok_or(BadHandshake)
    }

    /// The whole line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        line(b"INFO ", self, b" \r\n")
    }
}

impl RouteConnect {
    /// Reads the argument of `CONNECT`.
    ///
    /// # Errors
    /// Not an object, or a value of the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, BadHandshake> {
        json::object(json).ok_or(BadHandshake)
    }

    /// The whole line.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        line(b"CONNECT ", self, b"\r\n")
    }
}

fn line<T: Serialize>(verb: &[u8], object: &T, end: &[u8]) -> Vec<u8> {
    let json = serde_json::to_vec(object).expect("strings, numbers and booleans are JSON");
    [verb, &json, end].concat()
}

fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_introduction_of_a_new_server_is_read_and_the_rest_of_it_ignored() {
        let json = br#"{"server_id":"NB","server_name":"b","version":"2.15.2","proto":1,
            "git_commit":"x","go":"go1.26","host":"0.0.0.0","port":6222,"headers":true,
            "max_payload":1048576,"client_id":7,"cluster":"C","lnoc":true,"info_on_connect":true,
            "route_pool_size":3,"ip":null,"import":{"allow":["a.>"]},"connect_urls":["10.0.0.1:4222"]}"#;
        let info = RouteInfo::from_json(json).unwrap();
        assert_eq!(
            (info.server_id.as_str(), info.port, info.proto),
            ("NB", 6222, 1)
        );
        assert_eq!(info.import.unwrap().allow, ["a.>"]);
        assert_eq!(info.connect_urls, ["10.0.0.1:4222"]);
    }

    #[test]
    fn nothing_is_announced_that_would_change_the_dialect() {
        let info = RouteInfo {
            server_id: "NA".into(),
            server_name: "a".into(),
            version: "2.9.24".into(),
            proto: 1,
            go: "rust".into(),
            host: "h".into(),
            port: 6222,
            headers: true,
            max_payload: 10,
            cluster: "C".into(),
            ..RouteInfo::default()
        };
        assert_eq!(
            String::from_utf8(info.to_line()).unwrap(),
            "INFO {\"server_id\":\"NA\",\"server_name\":\"a\",\"version\":\"2.9.24\",\"proto\":1,\
             \"go\":\"rust\",\"host\":\"h\",\"port\":6222,\"headers\":true,\"max_payload\":10,\
             \"cluster\":\"C\"} \r\n"
        );
        assert_eq!(
            RouteInfo::from_json(&serde_json::to_vec(&info).unwrap()),
            Ok(info)
        );
    }

    #[test]
    fn the_first_line_is_that_of_the_reference() {
        let connect = RouteConnect {
            echo: true,
            headers: true,
            name: "NA".into(),
            cluster: "C".into(),
            ..RouteConnect::default()
        };
        assert_eq!(
            String::from_utf8(connect.to_line()).unwrap(),
            "CONNECT {\"echo\":true,\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
             \"headers\":true,\"name\":\"NA\",\"cluster\":\"C\"}\r\n"
        );
    }

    #[test]
    fn credentials_are_read_but_not_shown() {
        let connect = RouteConnect::from_json(br#"{"user":"u","pass":"hunter2"}"#).unwrap();
        assert_eq!(connect.pass, "hunter2");
        assert!(!format!("{connect:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_not_an_object_of_the_right_types_is_refused() {
        for bad in ["", "[]", "{", r#"{"port":"x"}"#, r#"{"port":70000}"#] {
            assert_eq!(
                RouteInfo::from_json(bad.as_bytes()),
                Err(BadHandshake),
                "{bad}"
            );
        }
        assert_eq!(RouteConnect::from_json(br#"{"pass":1}"#), Err(BadHandshake));
    }
}
