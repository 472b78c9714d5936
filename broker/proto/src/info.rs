//! The JSON of `INFO` and `CONNECT`.

use std::io::Write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json;

/// `INFO` as sent to clients. Fields that are false or empty are left out, except for the few that
/// the reference always sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// An nkey of type server.
    pub server_id: String,
    pub server_name: String,
    /// Clients read features off it.
    pub version: String,
    pub proto: u8,
    /// Some clients insist on the key; the value is free text.
    pub go: String,
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
    /// TLS may follow, or not.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Nobody chose the cluster's name.
    #[serde(skip_serializing_if = "is_false")]
    pub cluster_dynamic: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Lame duck: no new connections are taken.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// Marks the `INFO` after the first `PONG`, which tells a client what became of it.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// The account is the server's own.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl ServerInfo {
    /// The whole line. The blank before CR LF is what the reference sends, and some clients split on it.
    #[must_use]
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = b"INFO ".to_vec();
        serde_json::to_writer(&mut line, self).expect("strings, numbers and booleans are JSON");
        line.write_all(b" \r\n").expect("a vector takes any bytes");
        line
    }
}

/// What a client said of itself, with the reference's defaults for what it left out.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    pub verbose: bool,
    pub pedantic: bool,
    pub echo: bool,
    pub protocol: i64,
    pub headers: bool,
    pub no_responders: bool,
    pub name: String,
    pub lang: String,
    pub version: String,
    pub user: String,
    pub pass: String,
    pub auth_token: String,
    pub nkey: String,
    pub sig: String,
    /// The account that the client would like to be in. Accounts follow from users, so that whoever names
    /// one is refused, as by the reference.
    pub account: String,
    /// That account is to be made. Refused likewise.
    pub new_account: bool,
    /// Something was said, be it nothing, about who the client is.
    pub shows_credentials: bool,
}

impl std::fmt::Debug for ConnectOptions {
    /// Leaves credentials out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("echo", &self.echo)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            protocol: 0,
            headers: false,
            no_responders: false,
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            user: String::new(),
            pass: String::new(),
            auth_token: String::new(),
            nkey: String::new(),
            sig: String::new(),
            account: String::new(),
            new_account: false,
            shows_credentials: false,
        }
    }
}

/// `CONNECT` was not a JSON object of the right types. The reference closes without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CONNECT is not valid JSON")]
pub struct BadConnect;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    verbose: Option<bool>,
    pedantic: Option<bool>,
    echo: Option<bool>,
    protocol: Option<i64>,
    headers: Option<bool>,
    no_responders: Option<bool>,
    name: Option<String>,
    lang: Option<String>,
    version: Option<String>,
    user: Option<String>,
    pass: Option<String>,
    auth_token: Option<String>,
    nkey: Option<String>,
    sig: Option<String>,
    account: Option<String>,
    new_account: Option<bool>,
}

impl ConnectOptions {
    /// Takes over what is given; absent keys keep their value. Keys match in any case, as in the
    /// reference, and unknown ones are ignored.
    ///
    /// # Errors
    /// Not an object, or a value of the wrong type; nothing was taken over.
    pub fn update(&mut self, json: &[u8]) -> Result<(), BadConnect> {
        let members = json::members(json).ok_or(BadConnect)?;
        // One by one, because a value of the wrong type counts even where a later one replaces it.
        let given = members
            .into_iter()
            .map(|member| Given::deserialize(Value::Object([member].into_iter().collect())))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| BadConnect)?;
        for given in given {
            self.take_over(given);
        }
        Ok(())
    }

    fn take_over(&mut self, given: Given) {
        fn take<T>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        let shown = [
            &given.user,
            &given.pass,
            &given.auth_token,
            &given.nkey,
            &given.sig,
        ];
        self.shows_credentials |= shown.into_iter().any(Option::is_some);
        take(&mut self.verbose, given.verbose);
        take(&mut self.pedantic, given.pedantic);
        take(&mut self.echo, given.echo);
        take(&mut self.protocol, given.protocol);
        take(&mut self.headers, given.headers);
        take(&mut self.no_responders, given.no_responders);
        take(&mut self.name, given.name);
        take(&mut self.lang, given.lang);
        take(&mut self.version, given.version);
        take(&mut self.user, given.user);
        take(&mut self.pass, given.pass);
        take(&mut self.auth_token, given.auth_token);
        take(&mut self.nkey, given.nkey);
        take(&mut self.sig, given.sig);
        take(&mut self.account, given.account);
        take(&mut self.new_account, given.new_account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_leaves_out_false_and_empty_and_ends_with_a_blank() {
        let info = ServerInfo {
            server_id: "NA".into(),
            server_name: "n".into(),
            version: "2.9.24".into(),
            proto: 1,
            go: "rust".into(),
            host: "127.0.0.1".into(),
            port: 4222,
            headers: true,
            max_payload: 1_048_576,
            client_id: 5,
            client_ip: "127.0.0.1".into(),
            ..ServerInfo::default()
        };
        let expected = "INFO {\"server_id\":\"NA\",\"server_name\":\"n\",\"version\":\"2.9.24\",\
             \"proto\":1,\"go\":\"rust\",\"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\
             \"max_payload\":1048576,\"client_id\":5,\"client_ip\":\"127.0.0.1\"} \r\n";
        assert_eq!(String::from_utf8(info.to_line()).unwrap(), expected);
    }

    #[test]
    fn connect_defaults_hold_until_said_otherwise() {
        let mut options = ConnectOptions::default();
        options.update(b"{}").unwrap();
        assert!(options.verbose && options.pedantic && options.echo);
        options
            .update(br#"{"Verbose":false,"lang":"go","whatever":[1],"name":null}"#)
            .unwrap();
        assert!(!options.verbose && options.pedantic);
        assert_eq!(options.lang, "go");
        options.update(br#"{"pedantic":false}"#).unwrap();
        assert!(!options.verbose && !options.pedantic);
    }

    #[test]
    fn connect_takes_null_for_nothing_and_the_last_of_several() {
        let mut options = ConnectOptions::default();
        options.update(b"null").unwrap();
        assert_eq!(options, ConnectOptions::default());
        options
            .update(br#"{"Name":"a","lang":"x","name":"b","NAME":null,"LANG":"y"}"#)
            .unwrap();
        assert_eq!((&*options.name, &*options.lang), ("b", "y"));
    }

    #[test]
    fn connect_refuses_what_is_not_an_object_of_the_right_types() {
        for bad in [
            "",
            "[]",
            "{",
            r#"{"verbose":"yes"}"#,
            r#"{"protocol":1.5}"#,
            r#"{"verbose":"yes","verbose":true}"#,
        ] {
            assert_eq!(
                ConnectOptions::default().update(bad.as_bytes()),
                Err(BadConnect),
                "{bad}"
            );
        }
    }

    #[test]
    fn credentials_do_not_show_in_debug() {
        let mut options = ConnectOptions::default();
        options
            .update(br#"{"pass":"hunter2","auth_token":"hunter2"}"#)
            .unwrap();
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
