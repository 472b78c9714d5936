//! Accounts: subjects of different accounts never meet.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::{
    auth::settings::{GLOBAL_ACCOUNT, SYSTEM_ACCOUNT},
    sublist::SharedSublist,
};

/// One account. Lives as long as the process; a reload that takes it away leaves it without users.
#[derive(Debug)]
pub struct Account {
    pub name: Arc<str>,
    /// Place in [`Accounts`], by which workers keep what they know of it.
    pub index: usize,
    pub sublist: SharedSublist,
}

/// All accounts by name. The lock is for changes and for names; whoever belongs to an account holds
/// it.
#[derive(Debug)]
pub struct Accounts {
    all: RwLock<HashMap<Arc<str>, Arc<Account>>>,
    global: Arc<Account>,
    system: Arc<Account>,
}

impl Accounts {
    /// The global account, and that of the server itself.
    #[must_use]
    pub fn new(system: Option<&str>) -> Self {
        let system = system.unwrap_or(SYSTEM_ACCOUNT);
        let mut all = HashMap::new();
        let global = Self::get_or_add(&mut all, GLOBAL_ACCOUNT);
        let system = Self::get_or_add(&mut all, system);
        Self {
            all: RwLock::new(all),
            global,
            system,
        }
    }

    /// Where everyone is who is given no other.
    #[must_use]
    pub fn global(&self) -> &Arc<Account> {
        &self.global
    }

    /// The server's own.
    #[must_use]
    pub fn system(&self) -> &Arc<Account> {
        &self.system
    }

    /// An account that exists.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Account>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned()
    }

    /// The account of that name, made if there is none. Only for names that the configuration gives.
    pub fn declare(&self, name: &str) -> Arc<Account> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        Self::get_or_add(&mut all, name)
    }

    /// All of them, in the order in which they were declared.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Account>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = all.values().cloned().collect();
        list.sort_unstable_by_key(|account| account.index);
        list
    }

    fn get_or_add(all: &mut HashMap<Arc<str>, Arc<Account>>, name: &str) -> Arc<Account> {
        if let Some(known) = all.get(name) {
            return Arc::clone(known);
        }
        let account = Arc::new(Account {
            name: name.into(),
            index: all.len(),
            sublist: SharedSublist::default(),
        });
        all.insert(Arc::clone(&account.name), Arc::clone(&account));
        account
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaring_twice_gives_the_same_account() {
        let accounts = Accounts::new(None);
        let first = accounts.declare("A");
        assert!(Arc::ptr_eq(&first, &accounts.declare("A")));
        assert!(Arc::ptr_eq(&accounts.declare("$G"), accounts.global()));
        assert!(accounts.find("B").is_none());
        let names: Vec<_> = accounts.list().iter().map(|one| one.name.clone()).collect();
        assert_eq!(names, ["$G".into(), "$SYS".into(), "A".into()]);
    }
}
