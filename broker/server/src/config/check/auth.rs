//! Who may come.

use std::time::Duration;

use broker_core::auth::{
    Authorization,
    settings::{AuthSettings, Login, SYSTEM_ACCOUNT},
};
use broker_proto::conf::Position;

use super::{
    super::{TlsListener, draft::Draft},
    Problems, text,
};

/// For credentials to arrive, where nothing is said and there is no TLS (`server/const.go`).
const TIMEOUT: Duration = Duration::from_secs(2);
/// What there is after a handshake, where nothing is said (`getDefaultAuthTimeout`).
const AFTER_HANDSHAKE: Duration = Duration::from_secs(1);

/// The settings, and the time for a client to show who it is.
pub(super) fn settings(draft: &Draft, tls: Option<&TlsListener>) -> (AuthSettings, Duration) {
    let auth = &draft.auth;
    let settings = AuthSettings {
        token: (!auth.token.is_empty()).then(|| auth.token.clone()),
        single: (!auth.user.is_empty() || !auth.password.is_empty())
            .then(|| (auth.user.clone(), auth.password.clone())),
        users: auth.users.clone(),
        accounts: auth.accounts.clone(),
        system_account: text(&auth.system_account),
        no_auth_user: text(&auth.no_auth_user),
        // Who declares any user means that nobody comes in without being one.
        authorization_block: true,
        map_certificates: tls.is_some_and(|tls| tls.map_certificates),
    };
    let timeout = match (u64::try_from(auth.timeout_nanos), tls) {
        (Ok(0), Some(tls)) => tls.timeout + AFTER_HANDSHAKE,
        (Ok(0) | Err(_), _) => TIMEOUT,
        (Ok(nanos), _) => Duration::from_nanos(nanos),
    };
    (settings, timeout)
}

/// Whether the settings make sense, and mean what they seem to.
pub(super) fn check(draft: &Draft, settings: &AuthSettings, problems: &mut Problems<'_>) {
    let place = |name| draft.places.get(name);
    let at = draft.auth.at.as_ref();
    let is_open =
        settings.token.is_none() && settings.single.is_none() && settings.users.is_empty();
    if is_open && at.is_some() {
        // The reference lets everybody in, which nobody asks for in these words.
        let text = "no user, password or token is given, so that everybody could come in; \
                    declare users, or leave authorization and accounts out";
        problems.add_at(at, text);
    }
    if is_open && settings.map_certificates {
        let text = "verify_and_map needs users that certificates can be mapped to";
        problems.add_at(draft.tls.at.as_ref(), text);
    }
    if draft.auth.timeout_nanos < 0 {
        problems.add_at(at, "authorization timeout must be longer than 0s");
    }
    only_system_users(settings, at, problems);
    passwords(settings, at, problems);
    match Authorization::new(settings) {
        Ok(authorization) if authorization.has_plaintext_secrets() => {
            let text = "Plaintext passwords detected, use nkeys or bcrypt";
            problems.warnings.push(text.to_owned());
        }
        Ok(_) => {}
        Err(error) => {
            let at = at.or(place("no_auth_user")).or(place("system_account"));
            let error = anyhow::Error::from(error);
            problems.add_at(at, &format!("{error:#}"));
        }
    }
    system_account(draft, problems);
}

/// The reference lets everybody else in then (`sysAccOnlyNoAuthUser`).
fn only_system_users(settings: &AuthSettings, at: Option<&Position>, problems: &mut Problems<'_>) {
    let system = settings.system_account.as_deref().unwrap_or(SYSTEM_ACCOUNT);
    let users = &settings.users;
    if !users.is_empty()
        && settings.no_auth_user.is_none()
        && users.iter().all(|user| user.account == system)
    {
        let text = "all users belong to the system account: clients without credentials are \
                    refused, unless no_auth_user names a user for them";
        problems.warnings.push(super::placed(at, text));
    }
}

fn passwords(settings: &AuthSettings, at: Option<&Position>, problems: &mut Problems<'_>) {
    if let Some((user, password)) = &settings.single
        && !settings.map_certificates
        && (user.is_empty() || password.is_empty())
    {
        problems.add_at(at, "a user needs a password, and a password a user");
    }
    for user in &settings.users {
        if let Login::Password { user, password } = &user.login
            && password.is_empty()
            && !settings.map_certificates
        {
            let text = format!("user {user:?} has no password: its name is enough to come in");
            problems.warnings.push(super::placed(at, &text));
        }
    }
}

fn system_account(draft: &Draft, problems: &mut Problems<'_>) {
    let auth = &draft.auth;
    if auth.no_system_account && !auth.system_account.is_empty() {
        let text = "no_system_account contradicts system_account";
        problems.about("no_system_account", text);
    } else if auth.no_system_account {
        let text = "no_system_account has no effect: who has no user of it cannot reach it";
        problems.warn_about("no_system_account", text);
    }
}
