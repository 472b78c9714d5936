//! The table of users as it is made from settings. Whatever is wrong with them is found here.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use thiserror::Error;

use super::{
    Authorization,
    certificate::DistinguishedName,
    nkey,
    permissions::{PermissionError, Permissions},
    settings::{AuthSettings, GLOBAL_ACCOUNT, Login, SYSTEM_ACCOUNT, UserSettings},
    user::{Password, Proof, User, UserKind},
};

/// A configuration that contradicts itself or cannot be understood. The operator must mend it; the
/// words are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AuthError {
    #[error("Cannot have a user/pass and token")]
    SingleAndToken,
    #[error("Can not have a single user/pass and a users array")]
    SingleAndUsers,
    #[error("Can not have a token and a users array")]
    TokenAndUsers,
    #[error("Can not have a single user/pass and accounts")]
    SingleAndAccounts,
    #[error("Can not have a token and accounts")]
    TokenAndAccounts,
    #[error("Duplicate user \"{0}\" detected")]
    DuplicateUser(String),
    #[error("Duplicate nkey \"{0}\" detected")]
    DuplicateNkey(String),
    #[error("Not a valid public nkey for a user: \"{0}\"")]
    Nkey(String),
    #[error("no_auth_user: \"{0}\" present, but users/nkeys are not defined")]
    NoAuthUserWithoutUsers(String),
    #[error(
        "no_auth_user: \"{0}\" not present as user or nkey in authorization block or account \
         configuration"
    )]
    UnknownNoAuthUser(String),
    #[error("error resolving system account: account missing: \"{0}\"")]
    UnknownSystemAccount(String),
    #[error("user \"{user}\" belongs to account \"{account}\", which is not declared")]
    UnknownAccount { user: String, account: String },
    #[error("permissions of \"{user}\": {source}")]
    Permissions {
        user: String,
        source: PermissionError,
    },
}

impl Authorization {
    /// Builds the table.
    ///
    /// # Errors
    /// The settings contradict themselves, or name what does not exist.
    pub fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        check_modes(settings)?;
        let accounts = Accounts::new(settings)?;
        let mut built = Self {
            users: HashMap::default(),
            nkeys: HashMap::default(),
            single: single_user(settings, &accounts),
            mapped: settings.map_certificates.then(Vec::new),
            no_auth_user: None,
            invites: settings.no_auth_user.is_some(),
            anonymous: Arc::new(anonymous(&accounts)),
            accounts: accounts.names.iter().cloned().collect(),
        };
        for entry in &settings.users {
            built.add(entry, &accounts)?;
        }
        built.no_auth_user = match &settings.no_auth_user {
            Some(name) => Some(built.find_no_auth_user(name)?),
            None if settings.authorization_block => None,
            None => built.admit_beside_system_users(&accounts),
        };
        Ok(built)
    }

    fn add(&mut self, entry: &UserSettings, accounts: &Accounts) -> Result<(), AuthError> {
        let (kind, name) = match &entry.login {
            Login::Password { user, .. } => (UserKind::Named, user),
            Login::Nkey(key) => (UserKind::Nkey, key),
        };
        let permissions = entry.permissions.clone().map(Permissions::new).transpose();
        let user = Arc::new(User {
            kind,
            name: name.as_str().into(),
            account: accounts.of(name, &entry.account)?,
            permissions: permissions
                .map_err(|source| AuthError::Permissions {
                    user: name.clone(),
                    source,
                })?
                .map(Arc::new),
            connection_types: entry.connection_types.clone(),
            proof: self.proof(&entry.login)?,
        });
        if kind == UserKind::Nkey {
            return match self.nkeys.insert(name.as_str().into(), user) {
                Some(_) => Err(AuthError::DuplicateNkey(name.clone())),
                None => Ok(()),
            };
        }
        if let Some(mapped) = &mut self.mapped
            && let Some(distinguished) = DistinguishedName::parse(name)
        {
            mapped.push((distinguished, Arc::clone(&user)));
        }
        match self.users.insert(name.as_str().into(), user) {
            Some(_) => Err(AuthError::DuplicateUser(name.clone())),
            None => Ok(()),
        }
    }

    fn proof(&self, login: &Login) -> Result<Proof, AuthError> {
        match login {
            Login::Password { password, .. } => {
                let password = Password::new(password.clone());
                Ok(match self.mapped {
                    Some(_) => Proof::Certificate(password),
                    None => Proof::Password(password),
                })
            }
            Login::Nkey(text) => nkey::decode(nkey::Kind::User, text)
                .map(Proof::Key)
                .ok_or_else(|| AuthError::Nkey(text.clone())),
        }
    }

    fn find_no_auth_user(&self, name: &str) -> Result<Arc<User>, AuthError> {
        if self.users.is_empty() && self.nkeys.is_empty() {
            return Err(AuthError::NoAuthUserWithoutUsers(name.to_owned()));
        }
        let user = self.users.get(name).or_else(|| self.nkeys.get(name));
        user.cloned()
            .ok_or_else(|| AuthError::UnknownNoAuthUser(name.to_owned()))
    }

    /// Users of the system account alone do not close the broker to everybody else, unless other
    /// accounts are declared: as in the reference.
    fn admit_beside_system_users(&self, accounts: &Accounts) -> Option<Arc<User>> {
        let mut users = self.users.values().chain(self.nkeys.values()).peekable();
        let admits = users.peek().is_some()
            && users.all(|user| user.account == accounts.system)
            && self.accounts.len() == 2;
        admits.then(|| Arc::clone(&self.anonymous))
    }
}

/// Accounts that exist, and the names of the two that always do.
struct Accounts {
    names: BTreeSet<Arc<str>>,
    global: Arc<str>,
    system: Arc<str>,
}

impl Accounts {
    fn new(settings: &AuthSettings) -> Result<Self, AuthError> {
        let global: Arc<str> = GLOBAL_ACCOUNT.into();
        let mut names: BTreeSet<Arc<str>> = settings
            .accounts
            .iter()
            .map(|name| name.as_str().into())
            .collect();
        let system = match &settings.system_account {
            Some(name) if name != SYSTEM_ACCOUNT => names
                .get(name.as_str())
                .cloned()
                .ok_or_else(|| AuthError::UnknownSystemAccount(name.clone()))?,
            _ => SYSTEM_ACCOUNT.into(),
        };
        names.extend([Arc::clone(&global), Arc::clone(&system)]);
        Ok(Self {
            names,
            global,
            system,
        })
    }

    /// The account of a user.
    fn of(&self, user: &str, account: &str) -> Result<Arc<str>, AuthError> {
        let known = self.names.get(account);
        known.cloned().ok_or_else(|| AuthError::UnknownAccount {
            user: user.to_owned(),
            account: account.to_owned(),
        })
    }
}

/// At most one of token, single user and list of users.
fn check_modes(settings: &AuthSettings) -> Result<(), AuthError> {
    let elsewhere = |user: &UserSettings| user.account != GLOBAL_ACCOUNT;
    let in_accounts = settings.users.iter().any(elsewhere);
    match (&settings.single, &settings.token) {
        (Some(_), Some(_)) => Err(AuthError::SingleAndToken),
        _ if settings.users.is_empty() => Ok(()),
        (Some(_), None) if in_accounts => Err(AuthError::SingleAndAccounts),
        (Some(_), None) => Err(AuthError::SingleAndUsers),
        (None, Some(_)) if in_accounts => Err(AuthError::TokenAndAccounts),
        (None, Some(_)) => Err(AuthError::TokenAndUsers),
        (None, None) => Ok(()),
    }
}

fn anonymous(accounts: &Accounts) -> User {
    User {
        kind: UserKind::Anonymous,
        name: "".into(),
        account: Arc::clone(&accounts.global),
        permissions: None,
        connection_types: Vec::new(),
        proof: Proof::Nothing,
    }
}

fn single_user(settings: &AuthSettings, accounts: &Accounts) -> Option<Arc<User>> {
    let (kind, name, secret) = match (&settings.single, &settings.token) {
        (Some((name, password)), _) => (UserKind::Named, name.as_str(), password),
        (None, Some(token)) => (UserKind::Token, "", token),
        (None, None) => return None,
    };
    Some(Arc::new(User {
        kind,
        name: name.into(),
        proof: Proof::Password(Password::new(secret.clone())),
        ..anonymous(accounts)
    }))
}
