use super::*;
use crate::{
    account::Accounts,
    auth::{
        Authorization,
        settings::{
            AuthSettings, Login, PermissionSettings, ResponseSettings, Secret, SubjectRules,
            UserSettings,
        },
    },
    effect::HandlerId,
};

const NO_LIMITS: SubscriptionLimits = SubscriptionLimits {
    count: None,
    tokens: None,
};
const TARGET: Target = Target::Internal(HandlerId(0));

struct World {
    accounts: Accounts,
    anonymous: Arc<User>,
}

fn world() -> World {
    let authorization = Authorization::new(&AuthSettings::default()).unwrap();
    World {
        accounts: Accounts::new(None),
        anonymous: authorization.without_connect().unwrap(),
    }
}

impl World {
    fn session(&self) -> Session {
        self.session_of(Arc::clone(&self.anonymous))
    }

    fn session_of(&self, user: Arc<User>) -> Session {
        Session::new(Some(user), Arc::clone(self.accounts.global()))
    }

    fn connect(
        &self,
        session: &mut Session,
        json: &str,
    ) -> Result<Vec<Arc<Subscription>>, ConnectError> {
        let options = session.read_connect(json.as_bytes()).unwrap();
        let user = Arc::clone(&self.anonymous);
        session.connect(&options, true, user, Arc::clone(self.accounts.global()))
    }
}

/// The one user of a configuration.
fn user(permissions: PermissionSettings) -> Arc<User> {
    let settings = AuthSettings {
        users: vec![UserSettings {
            account: "$G".into(),
            login: Login::Password {
                user: "u".into(),
                password: Secret::default(),
            },
            permissions: Some(permissions),
            connection_types: Vec::new(),
        }],
        no_auth_user: Some("u".into()),
        ..AuthSettings::default()
    };
    let authorization = Authorization::new(&settings).unwrap();
    authorization.without_connect().unwrap()
}

fn rules(allow: &[&str], deny: &[&str]) -> SubjectRules {
    let owned = |entries: &[&str]| entries.iter().map(|&entry| entry.to_owned()).collect();
    SubjectRules {
        allow: owned(allow),
        deny: owned(deny),
    }
}

fn subscribe(session: &mut Session, subject: &str, sid: &str) -> Option<Arc<Subscription>> {
    match session
        .subscribe(subject.as_bytes(), b"", sid.as_bytes(), &NO_LIMITS, TARGET)
        .unwrap()
    {
        Subscribed::New(new) => Some(new),
        Subscribed::Duplicate => None,
    }
}

fn refusal<'a>(
    session: &mut Session,
    subject: &'a str,
    group: &'a str,
    limits: &SubscriptionLimits,
) -> ServerError<'a> {
    let (subject, group) = (subject.as_bytes(), group.as_bytes());
    session
        .subscribe(subject, group, b"1", limits, TARGET)
        .unwrap_err()
}

#[test]
fn connect_refuses_unknown_protocols_and_lone_no_responders() {
    let world = world();
    let mut session = world.session();
    assert!(session.read_connect(b"{").is_err());
    for (json, error) in [
        (r#"{"protocol":2}"#, ServerError::InvalidClientProtocol),
        (r#"{"protocol":-1}"#, ServerError::InvalidClientProtocol),
        (
            r#"{"no_responders":true}"#,
            ServerError::NoRespondersRequiresHeaders,
        ),
    ] {
        let refused = world.connect(&mut session, json).unwrap_err();
        assert_eq!(refused.reply(), error);
    }
    assert!(!session.is_connected());
}

#[test]
fn headers_take_both_sides() {
    let world = world();
    let mut session = world.session();
    let json = br#"{"headers":true,"no_responders":true}"#;
    let options = session.read_connect(json).unwrap();
    let account = Arc::clone(world.accounts.global());
    let refused = session.connect(&options, false, Arc::clone(&world.anonymous), account);
    let error = ConnectError::NoRespondersWithoutHeaders;
    assert_eq!(refused.unwrap_err(), error);
}

#[test]
fn a_second_connect_keeps_what_it_does_not_mention_and_ends_subscriptions() {
    let world = world();
    let mut session = world.session();
    subscribe(&mut session, "early", "1");
    let ended = world.connect(&mut session, r#"{"verbose":false,"echo":false}"#);
    assert!(ended.unwrap().is_empty());
    assert!(session.pedantic && !session.verbose && !session.echo);
    let ended = world.connect(&mut session, r#"{"pedantic":false}"#);
    assert_eq!(ended.unwrap().len(), 1);
    assert!(!session.pedantic && !session.verbose && !session.echo);
}

#[test]
fn a_second_connect_keeps_headers_protocol_and_description() {
    let world = world();
    let mut session = world.session();
    let first = r#"{"headers":true,"no_responders":true,"protocol":1,"name":"n","user":"u"}"#;
    world.connect(&mut session, first).unwrap();
    world.connect(&mut session, r#"{"lang":"go"}"#).unwrap();
    assert!(session.headers && session.no_responders && session.async_info);
    let client = session.client().unwrap();
    assert_eq!((client.name(), client.lang()), ("n", "go"));
    assert_eq!(client.claim, Some(Claim::Name("u".into())));
    let refused = world.connect(&mut session, r#"{"headers":false}"#);
    let error = ConnectError::NoRespondersWithoutHeaders;
    assert_eq!(refused.unwrap_err(), error);
}

#[test]
fn subscriptions_do_not_follow_into_another_account() {
    let world = world();
    let mut session = world.session();
    subscribe(&mut session, "a", "1");
    let options = session.read_connect(b"{}").unwrap();
    let other = world.accounts.declare("A");
    let ended = session.connect(&options, true, Arc::clone(&world.anonymous), other);
    assert_eq!(ended.unwrap().len(), 1);
    assert_eq!(&*session.account().name, "A");
}

#[test]
fn the_first_of_two_equal_sids_stays() {
    let mut session = world().session();
    let first = subscribe(&mut session, "a", "1").unwrap();
    assert!(subscribe(&mut session, "b", "1").is_none());
    assert!(Arc::ptr_eq(&session.unsubscribe(b"1", 0).unwrap(), &first));
    assert!(session.unsubscribe(b"1", 0).is_none());
}

#[test]
fn an_exhausted_subscription_does_not_take_its_successor_along() {
    let mut session = world().session();
    let first = subscribe(&mut session, "a", "1").unwrap();
    session.unsubscribe(b"1", 0);
    subscribe(&mut session, "a", "1");
    session.exhausted(&first);
    assert_eq!(session.subscription_count(), 1);
}

#[test]
fn bad_subjects_and_the_reserved_group_are_answered() {
    let mut session = world().session();
    let error = refusal(&mut session, "a..b", "", &NO_LIMITS);
    assert_eq!(error, ServerError::InvalidSubject);
    let denied = ServerError::SubscriptionDenied {
        subject: b"a",
        queue_group: b"_sys_",
    };
    assert_eq!(refusal(&mut session, "a", "_sys_", &NO_LIMITS), denied);
}

#[test]
fn limits_on_subscriptions_are_answered() {
    let mut session = world().session();
    let limits = SubscriptionLimits {
        count: Some(1),
        tokens: Some(3),
    };
    let error = refusal(&mut session, "a.b.c.d", "", &limits);
    assert_eq!(error, ServerError::TooManyTokens(b"a.b.c.d"));
    subscribe(&mut session, "a.b.c", "9");
    let error = refusal(&mut session, "a", "", &limits);
    assert_eq!(error, ServerError::MaxSubscriptions);
}

#[test]
fn rights_are_asked_for_subscriptions_and_publications() {
    let permissions = PermissionSettings {
        publish: rules(&["p.*"], &["p.no"]),
        subscribe: rules(&["s.>"], &[]),
        responses: None,
    };
    let mut session = world().session_of(user(permissions));
    let now = Instant::now();
    assert!(!session.publishes_freely());
    assert!(session.may_publish(b"p.yes", now));
    assert!(!session.may_publish(b"p.no", now) && !session.may_publish(b"q", now));
    assert!(subscribe(&mut session, "s.a", "1").is_some());
    let denied = ServerError::SubscriptionDenied {
        subject: b"t",
        queue_group: b"",
    };
    assert_eq!(refusal(&mut session, "t", "", &NO_LIMITS), denied);
}

#[test]
fn a_reply_may_be_answered_once_where_responses_are_allowed() {
    let permissions = PermissionSettings {
        responses: Some(ResponseSettings::default()),
        ..PermissionSettings::default()
    };
    let mut session = world().session_of(user(permissions));
    let now = Instant::now();
    assert!(!session.may_publish(b"_INBOX.1", now));
    session.note_reply(b"_INBOX.1", now);
    assert!(session.may_publish(b"_INBOX.1", now));
    assert!(!session.may_publish(b"_INBOX.1", now));
}

#[test]
fn narrowed_rights_end_the_subscriptions_concerned() {
    let mut session = world().session();
    subscribe(&mut session, "a", "1");
    subscribe(&mut session, "b", "2");
    let permissions = PermissionSettings {
        subscribe: rules(&["a"], &[]),
        ..PermissionSettings::default()
    };
    let revoked = session.change_user(user(permissions));
    assert_eq!(revoked.len(), 1);
    assert_eq!(&*revoked[0].subject, b"b");
    assert_eq!(session.subscription_count(), 1);
}

#[test]
fn only_the_first_ping_after_connect_is_special() {
    let world = world();
    let mut session = world.session();
    assert!(!session.pinged());
    world.connect(&mut session, r#"{"protocol":1}"#).unwrap();
    assert!(!session.takes_info());
    assert!(session.pinged());
    assert!(session.takes_info());
    assert!(!session.pinged());
}
