//! Configurations under which both servers are compared, and who may come there.

/// One configuration, in words that both servers understand.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) config: &'static str,
    /// What clients put into CONNECT, right and wrong ones; the first is always right.
    pub(crate) logins: &'static [&'static str],
}

/// Small enough that sessions reach it.
pub(crate) const MAX_PAYLOAD: usize = 600;
/// Room for every CONNECT that a session sends.
pub(crate) const MAX_CONTROL_LINE: usize = 500;

/// Everybody may do everything.
pub(crate) const OPEN: Profile = Profile {
    name: "open",
    config: "max_payload: 600\nmax_control_line: 500\n",
    logins: &["", "", r#""user":"ignored","pass":"x""#],
};

/// Limits on subscriptions.
pub(crate) const LIMITS: Profile = Profile {
    name: "limits",
    config: "max_payload: 600\nmax_control_line: 500\nmax_subscriptions: 3\nmax_sub_tokens: 3\n",
    logins: &[""],
};

/// One user.
pub(crate) const SINGLE: Profile = Profile {
    name: "single",
    config: r#"
max_payload: 600, max_control_line: 500
authorization { user: joe, password: "s3cret", timeout: 60 }
"#,
    logins: &[
        r#""user":"joe","pass":"s3cret""#,
        r#""user":"joe","pass":"s3cret""#,
        r#""user":"joe","pass":"S3cret""#,
        r#""user":"joe""#,
        r#""user":"Joe","pass":"s3cret""#,
        r#""auth_token":"s3cret""#,
        "",
    ],
};

/// One token.
pub(crate) const TOKEN: Profile = Profile {
    name: "token",
    config: r#"
max_payload: 600, max_control_line: 500
authorization { token: "t0ken", timeout: 60 }
"#,
    logins: &[
        r#""auth_token":"t0ken""#,
        r#""auth_token":"t0ken","user":"joe","pass":"x""#,
        r#""auth_token":"t0ke""#,
        r#""auth_token":"""#,
        r#""user":"t0ken""#,
        r#""user":"joe","pass":"t0ken""#,
        "",
    ],
};

/// Users with permissions of all kinds; the hash is of `hashed` (bcrypt, the cheapest).
pub(crate) const USERS: Profile = Profile {
    name: "users",
    config: r#"
max_payload: 600, max_control_line: 500
authorization {
  timeout: 60
  default_permissions { publish: { deny: ["*.c.>"] }, subscribe: { deny: ["*.c.c"] } }
  users: [
    { user: all, password: x, permissions: {} }
    { user: default, password: x }
    { user: hash, password: "$2a$04$abcdefghijklmnopqrstuu369LYjJlegQeGD0CWsjs58fASePKjWq" }
    { user: pub, password: x, permissions: { publish: ["*.a", "*.a.>", "*.*.b"], subscribe: ">" } }
    { user: sub, password: x, permissions: {
        subscribe: { allow: ["*.a.*", "*.b", "*._r.>", "_INBOX.>"], deny: ["*.a.c", "*.b"] } } }
    { user: overlap, password: x, permissions: {
        publish: { allow: [">"], deny: ["*.b.*"] }, subscribe: { deny: ["*.a.b", "*.*.c"] } } }
    { user: queue, password: x, permissions: {
        subscribe: { allow: ["*.a.> qaa*", "*.a.> q*.x", "*.b", "*.c v1.>"], deny: ["*.b qb*", "*.a.c", "*.*.b >"] } } }
    { user: reply, password: x, permissions: {
        subscribe: ">", allow_responses: { max: 2, expires: "1h" } } }
    { user: one, password: x, permissions: {
        publish: "*.c.>", subscribe: ">", allow_responses: true } }
    { user: many, password: x, permissions: {
        publish: { deny: "*.b" }, subscribe: ">", allow_responses: { max: -1, expires: "-1s" } } }
    { user: nothing, password: x, permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } } }
  ]
}
"#,
    logins: &[
        r#""user":"all","pass":"x""#,
        r#""user":"all","pass":"x""#,
        r#""user":"all","pass":"x""#,
        r#""user":"default","pass":"x""#,
        r#""user":"hash","pass":"hashed""#,
        r#""user":"hash","pass":"hash""#,
        r#""user":"pub","pass":"x""#,
        r#""user":"sub","pass":"x""#,
        r#""user":"overlap","pass":"x""#,
        r#""user":"overlap","pass":"x""#,
        r#""user":"queue","pass":"x""#,
        r#""user":"queue","pass":"x""#,
        r#""user":"reply","pass":"x""#,
        r#""user":"reply","pass":"x""#,
        r#""user":"one","pass":"x""#,
        r#""user":"many","pass":"x""#,
        r#""user":"nothing","pass":"x""#,
        r#""user":"nobody","pass":"x""#,
        "",
    ],
};

/// Whoever says nothing is somebody.
pub(crate) const NO_AUTH_USER: Profile = Profile {
    name: "no_auth_user",
    config: r#"
max_payload: 600, max_control_line: 500
authorization {
  timeout: 60
  users: [
    { user: guest, password: g, permissions: {
        publish: ["*.a", "*.a.>", "*._r.>"], subscribe: { deny: "*.b.>" } } }
    { user: joe, password: x }
  ]
}
no_auth_user: guest
"#,
    logins: &[
        "",
        "",
        r#""user":"joe","pass":"x""#,
        r#""user":"guest","pass":"g""#,
        r#""user":"guest","pass":"x""#,
        r#""user":"joe""#,
        r#""pass":"x""#,
        r#""auth_token":"x""#,
    ],
};

/// Accounts do not hear each other.
pub(crate) const ACCOUNTS: Profile = Profile {
    name: "accounts",
    config: r#"
max_payload: 600, max_control_line: 500
accounts {
  A: { users: [ { user: a, password: x }, { user: a2, password: x, permissions: { publish: { deny: "*.b" } } } ] }
  B: { users: [ { user: b, password: x } ] }
  SYS: { users: [ { user: sys, password: x } ] }
}
system_account: SYS
authorization { timeout: 60, users: [ { user: g, password: x } ] }
"#,
    logins: &[
        r#""user":"a","pass":"x""#,
        r#""user":"a","pass":"x""#,
        r#""user":"a2","pass":"x""#,
        r#""user":"b","pass":"x""#,
        r#""user":"b","pass":"x""#,
        r#""user":"g","pass":"x""#,
        r#""user":"g","pass":"x","account":"A""#,
        r#""user":"a","pass":"y""#,
        "",
    ],
};

/// All of them.
pub(crate) const PROFILES: [&Profile; 7] = [
    &OPEN,
    &LIMITS,
    &SINGLE,
    &TOKEN,
    &USERS,
    &NO_AUTH_USER,
    &ACCOUNTS,
];
