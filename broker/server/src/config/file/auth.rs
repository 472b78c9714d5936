//! Who may come: `authorization`, of clients and of routes, and `accounts`.

use broker_core::auth::settings::{
    ConnectionType, GLOBAL_ACCOUNT, Login, PermissionSettings, Secret, UserSettings,
};
use broker_proto::conf::{Entry, Map, Value};

use super::{
    Reader,
    permissions::Queues,
    value::{Bare, Keys},
};

pub(in super::super) const AUTHORIZATION: Keys = &[
    &["user", "username"],
    &["password", "pass"],
    &["token"],
    &["timeout"],
    &["users"],
    &["default_permissions", "default_permission", "permissions"],
    &["auth_callout", "auth_hook"],
    &["proxy_required"],
];

pub(in super::super) const USER: Keys = &[
    &["user", "username"],
    &["password", "pass"],
    &["nkey"],
    &["permissions", "permission", "authorization"],
    &["allowed_connection_types", "connection_types", "clients"],
    &["proxy_required"],
];

pub(in super::super) const ACCOUNT: Keys = &[
    &["users"],
    &["default_permissions"],
    &["nkey"],
    &["imports"],
    &["exports"],
    &["mappings", "maps"],
    &["limits"],
    &["jetstream"],
    &["msg_trace", "trace_dest"],
];

/// Longest time for authentication that is not suspicious, as in `server/opts.go`.
const LONG_TIMEOUT_NANOS: i64 = 60_000_000_000;

/// What an `authorization` block says.
#[derive(Debug, Default)]
pub(super) struct Authorization {
    pub(super) user: String,
    pub(super) password: Secret,
    pub(super) token: Secret,
    /// 0 where there is none.
    pub(super) timeout_nanos: i64,
    pub(super) users: Option<Vec<UserSettings>>,
    pub(super) permissions: Option<PermissionSettings>,
}

impl Reader<'_> {
    pub(super) fn client_authorization(&mut self, entry: &Entry) {
        let block = self.authorization(entry, Queues::Allowed);
        if block.permissions.is_some() && block.users.is_none() {
            let text = "permissions need a users list: a single user or token has all rights";
            self.problem_at(&entry.at, text);
        }
        let auth = &mut self.draft.auth;
        auth.at = Some(entry.at.clone());
        auth.user = block.user;
        auth.password = block.password;
        auth.token = block.token;
        auth.timeout_nanos = block.timeout_nanos;
        auth.users.extend(block.users.unwrap_or_default());
    }

    pub(super) fn authorization(&mut self, entry: &Entry, queues: Queues) -> Authorization {
        let mut block = Authorization::default();
        let Some(map) = self.map(entry) else {
            return block;
        };
        for entry in map.entries() {
            match self.field(entry, AUTHORIZATION) {
                Some("user") => block.user = self.credential(entry).unwrap_or_default(),
                Some("password") => {
                    block.password = Secret::new(self.credential(entry).unwrap_or_default());
                }
                Some("token") => {
                    block.token = Secret::new(self.credential(entry).unwrap_or_default());
                }
                Some("timeout") => {
                    block.timeout_nanos = self.nanos(entry, Bare::Seconds).unwrap_or_default();
                    if block.timeout_nanos > LONG_TIMEOUT_NANOS {
                        self.warning(
                            entry,
                            "timeout is high, consider keeping it under 60 seconds",
                        );
                    }
                }
                Some("users") => block.users = Some(self.users(entry, GLOBAL_ACCOUNT)),
                Some("default_permissions") => block.permissions = self.permissions(entry, queues),
                Some(_) => self.no_auth_option(entry),
                None => {}
            }
        }
        apply_defaults(block.users.iter_mut().flatten(), block.permissions.as_ref());
        block
    }

    /// An empty credential is a mistake: it would mean none at all.
    fn credential(&mut self, entry: &Entry) -> Option<String> {
        let text = self.text(entry)?;
        if text.is_empty() {
            self.problem(&entry.value, &format!("{} is empty", entry.key));
        }
        Some(text)
    }

    fn no_auth_option(&mut self, entry: &Entry) {
        if entry.value.as_bool() != Some(false) {
            let text = format!("{} cannot be used: it is not supported", entry.key);
            self.problem(&entry.value, &text);
        }
    }

    fn users(&mut self, entry: &Entry, account: &str) -> Vec<UserSettings> {
        let Some(items) = entry.value.as_array() else {
            self.mismatch(entry, "list of users");
            return Vec::new();
        };
        let mut users = Vec::new();
        for item in items {
            match item.as_map() {
                Some(map) => users.extend(self.user(item, map, account)),
                None => {
                    let got = item.type_name();
                    let text = format!("expected user entry to be a map/struct, got {got}");
                    self.problem(item, &text);
                }
            }
        }
        users
    }

    fn user(&mut self, item: &Value, map: &Map, account: &str) -> Option<UserSettings> {
        let (mut user, mut password, mut nkey) = (String::new(), None, String::new());
        let mut permissions = None;
        let mut connection_types = Vec::new();
        for entry in map.entries() {
            match self.field(entry, USER) {
                Some("user") => user = self.text(entry)?,
                Some("password") => password = Some(Secret::new(self.credential(entry)?)),
                Some("nkey") => nkey = self.credential(entry)?,
                Some("permissions") => permissions = self.permissions(entry, Queues::Allowed),
                Some("allowed_connection_types") => {
                    connection_types = self.connection_types(entry);
                }
                Some(_) => self.no_auth_option(entry),
                None => {}
            }
        }
        let login = if nkey.is_empty() {
            if user.is_empty() {
                self.problem(item, "User entry requires a user");
                return None;
            }
            Login::Password {
                user,
                password: password.unwrap_or_default(),
            }
        } else if !user.is_empty() || password.is_some() {
            self.problem(item, "Nkey users do not take usernames or passwords");
            return None;
        } else {
            Login::Nkey(nkey)
        };
        Some(UserSettings {
            account: account.to_owned(),
            login,
            permissions,
            connection_types,
        })
    }

    fn connection_types(&mut self, entry: &Entry) -> Vec<ConnectionType> {
        let mut types = Vec::new();
        for (name, at) in self.words(entry) {
            match connection_type(&name) {
                Some(kind) => types.push(kind),
                None => {
                    let name = name.to_ascii_uppercase();
                    self.problem_at(&at, &format!("invalid connection types [{name:?}]"));
                }
            }
        }
        if entry.value.as_array().is_some_and(<[_]>::is_empty) {
            let text = format!("{} is an empty list", entry.key);
            self.problem(&entry.value, &text);
        }
        types
    }

    /// Names alone, or names with what belongs to them.
    pub(super) fn accounts(&mut self, entry: &Entry) {
        let auth = &mut self.draft.auth;
        auth.at.get_or_insert_with(|| entry.at.clone());
        if entry.value.as_array().is_some() {
            for (name, at) in self.words(entry) {
                if self.draft.auth.accounts.contains(&name) {
                    self.problem_at(&at, &format!("Duplicate Account Entry: {name}"));
                } else if name == GLOBAL_ACCOUNT {
                    self.problem_at(&at, &format!("{name:?} is a Reserved Account"));
                } else {
                    self.draft.auth.accounts.push(name);
                }
            }
            return;
        }
        let Some(map) = self.map(entry) else { return };
        for entry in map.entries() {
            if entry.key == GLOBAL_ACCOUNT {
                let text = format!("{:?} is a Reserved Account", entry.key);
                self.problem_at(&entry.at, &text);
            } else if entry.value.as_map().is_some() || !entry.referenced {
                self.account(entry);
            }
        }
    }

    fn account(&mut self, entry: &Entry) {
        let name = &entry.key;
        let Some(map) = self.map(entry) else { return };
        let (mut users, mut permissions) = (Vec::new(), None);
        for entry in map.entries() {
            match self.field(entry, ACCOUNT) {
                Some("users") => users = self.users(entry, name),
                Some("default_permissions") => {
                    permissions = self.permissions(entry, Queues::Allowed);
                }
                Some("nkey") => {
                    self.text(entry);
                    self.warning(
                        entry,
                        "nkey has no effect: accounts are known by their names",
                    );
                }
                Some(_) => self.no_account_option(entry),
                None => {}
            }
        }
        apply_defaults(users.iter_mut(), permissions.as_ref());
        self.draft.auth.accounts.push(name.clone());
        self.draft.auth.users.extend(users);
    }

    /// Asks for nothing only where it is empty or off.
    fn no_account_option(&mut self, entry: &Entry) {
        let is_empty = match entry.value.as_map() {
            Some(map) => map.is_empty(),
            None => super::is_neutral(&entry.value),
        };
        if !is_empty {
            let text = format!(
                "{} cannot be used: accounts are for isolation only",
                entry.key
            );
            self.problem(&entry.value, &text);
        }
    }
}

fn apply_defaults<'u>(
    users: impl Iterator<Item = &'u mut UserSettings>,
    permissions: Option<&PermissionSettings>,
) {
    for user in users.filter(|user| user.permissions.is_none()) {
        user.permissions = permissions.cloned();
    }
}

fn connection_type(name: &str) -> Option<ConnectionType> {
    Some(match name.to_ascii_uppercase().as_str() {
        "STANDARD" => ConnectionType::Standard,
        "WEBSOCKET" => ConnectionType::Websocket,
        "LEAFNODE" => ConnectionType::Leafnode,
        "LEAFNODE_WS" => ConnectionType::LeafnodeWs,
        "MQTT" => ConnectionType::Mqtt,
        "MQTT_WS" => ConnectionType::MqttWs,
        "IN_PROCESS" => ConnectionType::InProcess,
        _ => return None,
    })
}
