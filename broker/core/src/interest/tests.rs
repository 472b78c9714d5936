use super::*;
use crate::account::Accounts;

fn account() -> Arc<Account> {
    Arc::clone(Accounts::new(None).global())
}

fn add(account: &Account, subject: &str, group: &str, target: Target) -> Arc<Subscription> {
    let one = Arc::new(Subscription::new(
        subject.as_bytes(),
        group.as_bytes(),
        b"9",
        target,
    ));
    account.sublist.change(|list| list.insert(Arc::clone(&one)));
    one
}

fn subscribe(account: &Account, subject: &str, group: &str, connection: u64) -> Arc<Subscription> {
    let target = Target::Connection(Arc::new(Peer::new(connection, 0, 0)));
    add(account, subject, group, target)
}

#[test]
fn a_change_is_seen_at_the_next_look() {
    let (account, mut cache) = (account(), InterestCache::default());
    assert!(cache.look_up(b"a.b", &account).is_empty());
    let one = subscribe(&account, "a.*", "", 1);
    let interest = cache.look_up(b"a.b", &account);
    assert_eq!(&interest.plain[0].prefix[..], b"HMSG a.b 9 ");
    account.sublist.change(|list| list.remove(&one));
    assert!(cache.look_up(b"a.b", &account).is_empty());
}

#[test]
fn accounts_do_not_meet() {
    let accounts = Accounts::new(None);
    let (one, other) = (accounts.declare("A"), accounts.declare("B"));
    let mut cache = InterestCache::default();
    subscribe(&one, ">", "", 1);
    assert!(cache.look_up(b"a", &other).is_empty());
    assert_eq!(cache.look_up(b"a", &one).plain.len(), 1);
    assert!(cache.look_up(b"a", accounts.global()).is_empty());
}

#[test]
fn inboxes_that_come_and_go_leave_other_subjects_cached() {
    let (account, mut cache) = (account(), InterestCache::default());
    subscribe(&account, "work", "", 1);
    let before = cache.look_up(b"work", &account);
    subscribe(&account, "_INBOX.1", "", 2);
    subscribe(&account, "_INBOX.2.*", "", 2);
    assert!(Rc::ptr_eq(&before, &cache.look_up(b"work", &account)));
    subscribe(&account, "wor*", "", 3);
    assert!(Rc::ptr_eq(&before, &cache.look_up(b"work", &account)));
    subscribe(&account, ">", "", 3);
    assert!(!Rc::ptr_eq(&before, &cache.look_up(b"work", &account)));
}

#[test]
fn size_stays_bounded() {
    let (account, mut cache) = (account(), InterestCache::default());
    subscribe(&account, ">", "", 1);
    for number in 0..2 * MAX_SUBJECTS {
        cache.look_up(number.to_string().as_bytes(), &account);
        let cached = &cache.accounts[account.index];
        assert!(cached.subjects.len() <= MAX_SUBJECTS);
        assert_eq!(cached.deliveries, cached.subjects.len());
    }
}

#[test]
fn two_parts_of_one_connection_make_messages_go_singly() {
    let (account, mut cache) = (account(), InterestCache::default());
    subscribe(&account, "a", "q", 1);
    subscribe(&account, "a", "q", 1);
    subscribe(&account, "a", "", 2);
    assert!(!cache.look_up(b"a", &account).singly);
    subscribe(&account, ">", "", 1);
    assert!(cache.look_up(b"a", &account).singly);
}

#[test]
fn another_server_stands_once_however_much_it_wants() {
    let (account, mut cache) = (account(), InterestCache::default());
    let peer = Arc::new(Peer::new(7, 0, 0));
    let route = |weight| Target::Route {
        peer: Arc::clone(&peer),
        weight,
    };
    add(&account, "a", "", route(1));
    add(&account, "*", "", route(1));
    assert!(!cache.look_up(b"a", &account).singly);
    add(&account, "a", "q", route(3));
    subscribe(&account, "a", "q", 1);
    let interest = cache.look_up(b"a", &account);
    assert!(interest.singly && interest.plain.is_empty());
    assert_eq!(interest.routes.len(), 1);
    assert!(interest.routes[0].plain);
    assert_eq!(interest.groups[0].remote, [(0, 3)]);
    assert_eq!(interest.groups[0].members.len(), 1);
}
