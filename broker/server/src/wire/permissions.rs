//! What users may publish and subscribe to, in the words of the reference, and what is withheld.

use std::time::Duration;

use broker_core::auth::settings::{
    PermissionSettings, ResponseSettings, SubjectRules, UserSettings,
};

use super::{
    Client, Server,
    auth::{user, users},
};

pub(super) fn rules(allow: &[&str], deny: &[&str]) -> SubjectRules {
    let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect();
    SubjectRules {
        allow: owned(allow),
        deny: owned(deny),
    }
}

pub(super) fn restricted(
    name: &str,
    publish: SubjectRules,
    subscribe: SubjectRules,
) -> UserSettings {
    UserSettings {
        permissions: Some(PermissionSettings {
            publish,
            subscribe,
            responses: None,
        }),
        ..user(name, "x")
    }
}

/// A server with one restricted user, "me", and one who may do everything, "all".
fn server(publish: SubjectRules, subscribe: SubjectRules) -> Server {
    let auth = users([restricted("me", publish, subscribe), user("all", "x")]);
    Server::with(|config| config.auth = auth)
}

pub(super) fn login(server: &Server, name: &str) -> Client {
    server.login(&format!(
        "\"user\":\"{name}\",\"pass\":\"x\",\"headers\":true"
    ))
}

#[test]
fn forbidden_publications_are_reported_and_reach_nobody() {
    let server = server(rules(&["a.*", "b.>"], &["a.no", "b.*.no"]), rules(&[], &[]));
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    all.send("SUB > 1\r\n");
    all.sync();
    for subject in ["a", "a.b.c", "a.no", "b.x.no", "c", "a.*.x", "$SYS.x"] {
        me.send(&format!("PUB {subject} 2\r\nhi\r\n"));
        me.expect(&format!(
            "-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n"
        ));
        me.send(&format!("HPUB {subject} 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"));
        me.expect(&format!(
            "-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n"
        ));
    }
    for subject in ["a.b", "b.c", "b.c.d"] {
        me.send(&format!("PUB {subject} 2\r\nhi\r\n"));
    }
    me.sync();
    all.expect("MSG a.b 1 2\r\nhi\r\nMSG b.c 1 2\r\nhi\r\nMSG b.c.d 1 2\r\nhi\r\n");
    all.sync();
}

#[test]
fn a_forbidden_publication_among_others_takes_none_of_them_along() {
    let server = server(rules(&["a"], &[]), rules(&[], &[]));
    let mut me = login(&server, "me");
    me.send("SUB a 1\r\nPUB a 1\r\n1\r\nPUB b 1\r\n2\r\nPUB a 1\r\n3\r\nPING\r\n");
    me.expect("MSG a 1 1\r\n1\r\n-ERR 'Permissions Violation for Publish to \"b\"'\r\n");
    me.expect("MSG a 1 1\r\n3\r\nPONG\r\n");
}

#[test]
fn verbose_clients_get_no_ok_for_what_is_forbidden() {
    let server = server(rules(&["a"], &[]), rules(&["a"], &[]));
    let mut me = server.client_with(r#"{"user":"me","pass":"x"}"#);
    me.expect("+OK\r\n");
    me.send("PUB b 0\r\n\r\nSUB b 1\r\nSUB a 2\r\nPUB a 0\r\n\r\nPING\r\n");
    me.expect("-ERR 'Permissions Violation for Publish to \"b\"'\r\n");
    me.expect("-ERR 'Permissions Violation for Subscription to \"b\"'\r\n");
    me.expect("+OK\r\n+OK\r\nMSG a 2 0\r\n\r\nPONG\r\n");
}

#[test]
fn forbidden_subscriptions_are_reported_with_their_group() {
    let server = server(rules(&[], &[]), rules(&["a.*", "q one.*"], &["a.no"]));
    let mut me = login(&server, "me");
    for subject in ["a.>", "a.no", ">", "*.b", "q", "_INBOX.x"] {
        me.send(&format!("SUB {subject} 1\r\n"));
        me.expect(&format!(
            "-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n"
        ));
    }
    me.send("SUB q two 1\r\n");
    me.expect("-ERR 'Permissions Violation for Subscription to \"q\" using queue \"two\"'\r\n");
    me.send("SUB q one.b 1\r\nSUB a.* 2\r\nSUB a.b 3\r\n");
    me.sync();
}

#[test]
fn what_overlaps_a_deny_entry_is_withheld_from_plain_subscriptions_and_groups() {
    let server = server(rules(&[], &[]), rules(&[], &["a.*.no", "s.>"]));
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    me.send("SUB a.> 1\r\nSUB a.b.* 2\r\nSUB a.> g 3\r\nSUB > 4\r\nSUB > h 5\r\n");
    me.sync();
    let send = |all: &mut Client, subject: &str| {
        all.send(&format!("PUB {subject} 0\r\n\r\n"));
        all.sync();
    };
    send(&mut all, "a.b.no");
    send(&mut all, "a.c.no");
    send(&mut all, "s.x");
    me.sync();
    send(&mut all, "a.b.yes");
    let mut got: Vec<_> = (0..5)
        .map(|_| {
            let line = me.line();
            me.expect("\r\n");
            line
        })
        .collect();
    got.sort();
    let expected = [1, 2, 3, 4, 5].map(|sid| format!("MSG a.b.yes {sid} 0\r\n"));
    assert_eq!(got, expected);
    me.sync();
}

#[test]
fn a_member_that_may_not_have_a_message_leaves_it_to_the_others() {
    let server = server(rules(&[], &[]), rules(&[], &["a.no"]));
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    me.send("SUB a.* g 1\r\n");
    me.sync();
    all.send("SUB a.* g 1\r\n");
    for _ in 0..50 {
        all.send("PUB a.no 0\r\n\r\n");
        all.expect("MSG a.no 1 0\r\n\r\n");
    }
    me.sync();
}

#[test]
fn an_answer_is_allowed_as_often_and_as_long_as_configured() {
    for (max, expires) in [
        (Some(1), None),
        (Some(3), None),
        (None, Some(Duration::ZERO)),
    ] {
        let mut me = restricted("me", rules(&[], &[]), rules(&[], &[]));
        me.permissions = Some(PermissionSettings {
            responses: Some(ResponseSettings { max, expires }),
            ..PermissionSettings::default()
        });
        let server = Server::with(|config| config.auth = users([me, user("all", "x")]));
        let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
        me.send("SUB ask 1\r\n");
        me.sync();
        let denied = |subject: &str| {
            format!("-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n")
        };
        // Not asked yet.
        me.send("PUB box 0\r\n\r\n");
        me.expect(&denied("box"));
        all.send("SUB box 1\r\nPUB ask box 0\r\n\r\n");
        all.sync();
        me.expect("MSG ask 1 box 0\r\n\r\n");
        let allowed = max.filter(|_| expires.is_none()).unwrap_or(0);
        for _ in 0..allowed {
            me.send("PUB box 0\r\n\r\n");
            me.sync();
            all.expect("MSG box 1 0\r\n\r\n");
        }
        me.send("PUB box 0\r\n\r\nPUB box.x 0\r\n\r\n");
        me.expect(&denied("box"));
        me.expect(&denied("box.x"));
        all.sync();
    }
}

#[test]
fn reserved_subjects_and_replies_are_refused_for_everybody() {
    let server = Server::start();
    let mut client = server.modern_client();
    client.send("SUB > 1\r\n");
    client.sync();
    for subject in ["_GR_.x", "$GR.x", "$NRG.x"] {
        client.send(&format!("PUB {subject} 0\r\n\r\n"));
        client.expect(&format!(
            "-ERR 'Permissions Violation for Publish to \"{subject}\"'\r\n"
        ));
    }
    for reply in ["_R_.", "_R_.x", "_GR_.x", "$GR.x", "$JS.ACK.x"] {
        client.send(&format!(
            "PUB a {reply} 0\r\n\r\nHPUB a {reply} 12 12\r\nNATS/1.0\r\n\r\n\r\n"
        ));
        let error =
            format!("-ERR 'Permissions Violation for Publish with Reply of \"{reply}\"'\r\n");
        client.expect(&error);
        client.expect(&error);
    }
    for reply in ["_R", "_GR_.", "$JS.ACK."] {
        client.send(&format!("PUB a {reply} 0\r\n\r\n"));
        client.expect(&format!("MSG a 1 {reply} 0\r\n\r\n"));
    }
}

#[test]
fn internal_subjects_are_under_permissions_as_all_others() {
    let server = server(
        rules(&["_STAN.pub.me.>"], &[]),
        rules(&["_INBOX.me.>"], &["_STAN.>"]),
    );
    let (mut me, mut all) = (login(&server, "me"), login(&server, "all"));
    for subject in ["_STAN.>", "_STAN.pub.*.>", "_STAN.ack.x", ">", "*.pub.you"] {
        me.send(&format!("SUB {subject} 1\r\nSUB {subject} g 2\r\n"));
        me.expect(&format!(
            "-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n"
        ));
        me.expect(&format!(
            "-ERR 'Permissions Violation for Subscription to \"{subject}\" using queue \"g\"'\r\n"
        ));
    }
    me.send("PUB _STAN.pub.you.a 0\r\n\r\n");
    me.expect("-ERR 'Permissions Violation for Publish to \"_STAN.pub.you.a\"'\r\n");
    all.send("SUB _STAN.pub.> 1\r\n");
    all.sync();
    me.send("PUB _STAN.pub.me.a 0\r\n\r\n");
    me.sync();
    all.expect("MSG _STAN.pub.me.a 1 0\r\n\r\n");
}
