//! Who gets which message, on one worker and over two.

use super::Server;

#[test]
fn messages_arrive_as_published() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB foo 1\r\nSUB foo two\r\n");
    subscriber.sync();
    publisher.send("PUB foo 0005\r\nhello\r\nPUB foo reply.to 0\r\n\r\npub\tfoo  1\nx\r\n");
    subscriber.expect("MSG foo 1 0005\r\nhello\r\nMSG foo two 0005\r\nhello\r\n");
    subscriber.expect("MSG foo 1 reply.to 0\r\n\r\nMSG foo two reply.to 0\r\n\r\n");
    subscriber.expect("MSG foo 1 1\r\nx\r\nMSG foo two 1\r\nx\r\n");
}

#[test]
fn wildcards_match_and_published_wildcards_are_literal() {
    let server = Server::start();
    let (mut subscriber, mut publisher) = (server.client(), server.client());
    subscriber.send("SUB foo.* 1\r\nSUB bar.> 2\r\n");
    subscriber.sync();
    publisher.send("PUB foo 0\r\n\r\nPUB foo.a.b 0\r\n\r\nPUB bar 0\r\n\r\nPUB foo..a 0\r\n\r\n");
    publisher.send("PUB foo.a 0\r\n\r\nPUB foo.* 0\r\n\r\nPUB bar.a.b 0\r\n\r\n");
    subscriber.expect("MSG foo.a 1 0\r\n\r\nMSG foo.* 1 0\r\n\r\nMSG bar.a.b 2 0\r\n\r\n");
}

#[test]
fn each_queue_group_gets_one_copy() {
    let server = Server::start();
    let mut members: Vec<_> = (0..4).map(|_| server.client()).collect();
    for (number, member) in members.iter_mut().enumerate() {
        // The same group through different filters is one group.
        let filter = if number % 2 == 0 { "work" } else { "*" };
        member.send(&format!("SUB {filter} q {number}\r\n"));
        member.sync();
    }
    let mut other = server.client();
    other.send("SUB work r 9\r\nSUB work 10\r\n");
    other.sync();
    let mut publisher = server.client();
    for _ in 0..200 {
        publisher.send("PUB work 1\r\nx\r\n");
    }
    publisher.sync();
    other.drain(200 * ("MSG work 9 1\r\nx\r\n".len() + "MSG work 10 1\r\nx\r\n".len()));
    let mut total = 0;
    for (number, member) in members.iter_mut().enumerate() {
        let message = format!("MSG work {number} 1\r\nx\r\n");
        // Nothing of the group's can come after the answer to this: the publisher's messages were
        // routed and handed over before its own PONG.
        member.send("SUB mark.er m\r\nPUB mark.er 0\r\n\r\n");
        let mut share = 0;
        loop {
            let line = member.line();
            if line.starts_with("MSG mark.er m") {
                break;
            }
            assert_eq!(line + &member.line(), message);
            share += 1;
        }
        assert!((15..=95).contains(&share), "{share} of 200");
        total += share;
    }
    assert_eq!(total, 200);
}

#[test]
fn unsubscribe_with_a_maximum_counts_from_the_beginning() {
    let server = Server::start();
    let mut client = server.client();
    client.send("SUB a 1\r\nPUB a 1\r\n1\r\nPUB a 1\r\n2\r\nUNSUB 1 3\r\n");
    client.send("PUB a 1\r\n3\r\nPUB a 1\r\n4\r\nPING\r\n");
    client.expect("MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\nMSG a 1 1\r\n3\r\nPONG\r\n");
    client.send("SUB a 1\r\nPUB a 1\r\n5\r\nUNSUB 1 1\r\nPUB a 1\r\n6\r\nPING\r\n");
    client.expect("MSG a 1 1\r\n5\r\nPONG\r\n");
    assert_eq!(server.stats().snapshot().subscriptions, 0);
}

#[test]
fn a_maximum_is_exact_with_publishers_on_both_workers() {
    let server = Server::start();
    let mut subscriber = server.client();
    subscriber.send("SUB a 1\r\nUNSUB 1 5000\r\n");
    subscriber.sync();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut publisher = server.client();
                for _ in 0..20 {
                    publisher.send(&"PUB a 1\r\nx\r\n".repeat(100));
                }
                publisher.sync();
            });
        }
    });
    subscriber.drain(5000 * "MSG a 1 1\r\nx\r\n".len());
    subscriber.sync();
    super::eventually("subscription removed", || {
        server.stats().snapshot().subscriptions == 0
    });
    subscriber.sync();
}

#[test]
fn request_and_reply_over_inboxes() {
    let server = Server::start();
    let (mut service, mut requester) = (server.modern_client(), server.modern_client());
    service.send("SUB help 1\r\n");
    service.sync();
    requester.send("SUB _INBOX.x.* 1\r\nPUB help _INBOX.x.7 2\r\nme\r\n");
    service.expect("MSG help 1 _INBOX.x.7 2\r\nme\r\n");
    service.send("PUB _INBOX.x.7 3\r\nyes\r\n");
    requester.expect("MSG _INBOX.x.7 1 3\r\nyes\r\n");
}

#[test]
fn nobody_there_is_told_only_to_those_who_asked_for_it() {
    let server = Server::start();
    let mut modern = server.modern_client();
    modern.send("SUB inbox.* 1\r\nPUB nobody inbox.7 2\r\nhi\r\n");
    modern.expect("HMSG inbox.7 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n");
    modern.send("HPUB nobody inbox.8 1 1\r\nx\r\nPUB nobody 0\r\n\r\nPING\r\n");
    modern
        .expect("HMSG inbox.8 1 38 38\r\nNATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n\r\nPONG\r\n");
    modern.send("UNSUB 1\r\nSUB inbox.* q 2\r\nPUB nobody inbox.9 0\r\n\r\nPING\r\n");
    modern.expect("PONG\r\n");

    let mut plain = server.client();
    plain.send("SUB inbox.* 1\r\nPUB nobody inbox.7 0\r\n\r\nPING\r\n");
    plain.expect("PONG\r\n");
}

#[test]
fn own_messages_are_not_echoed_on_request() {
    let server = Server::start();
    let options =
        r#"{"verbose":false,"pedantic":false,"echo":false,"headers":true,"no_responders":true}"#;
    let mut muted = server.client_with(options);
    muted.send("SUB a 1\r\nSUB a q 2\r\nSUB r 3\r\nPUB a r 2\r\nhi\r\n");
    // Own subscriptions do not count as somebody, so even this is a request to nobody.
    muted.expect("HMSG r 3 33 33\r\nNATS/1.0 503\r\nNats-Subject: a\r\n\r\n\r\n");
    let mut other = server.client();
    other.send("PUB a 2\r\nho\r\n");
    muted.expect("MSG a 1 2\r\nho\r\nMSG a 2 2\r\nho\r\n");
}

#[test]
fn headers_reach_those_who_understand_them_and_are_stripped_for_others() {
    let server = Server::start();
    // One of each kind on each worker.
    let mut modern = [server.modern_client(), server.modern_client()];
    let mut plain = [server.client(), server.client()];
    for client in modern.iter_mut().chain(&mut plain) {
        client.send("SUB a 1\r\n");
        client.sync();
    }
    modern[0].send("HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nHPUB a 0 2\r\nho\r\n");
    for client in &mut modern {
        client.expect("HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nMSG a 1 2\r\nho\r\n");
    }
    for client in &mut plain {
        client.expect("MSG a 1 r 2\r\nhi\r\nMSG a 1 2\r\nho\r\n");
    }
}

#[test]
fn order_is_kept_in_a_large_fan_out_over_workers() {
    const MESSAGES: usize = 20_000;
    let server = Server::start();
    let mut subscribers: Vec<_> = (0..6).map(|_| server.client()).collect();
    for subscriber in &mut subscribers {
        subscriber.send("SUB n.* 1\r\n");
        subscriber.sync();
    }
    let messages = |verb: &str, sid: &str| {
        (0..MESSAGES).fold(String::new(), |all, number| {
            all + &format!("{verb} n.{}{sid} 5\r\n{number:05}\r\n", number / 3 % 2)
        })
    };
    let (input, output) = (messages("PUB", ""), messages("MSG", " 1"));
    std::thread::scope(|scope| {
        scope.spawn(|| server.client().send(&input));
        for subscriber in &mut subscribers {
            scope.spawn(|| subscriber.expect(&output));
        }
    });
}

#[test]
fn subscriptions_of_a_closed_connection_vanish() {
    let server = Server::start();
    let mut gone = server.client();
    gone.send("SUB a 1\r\nSUB b.* q 2\r\n");
    gone.sync();
    assert_eq!(server.stats().snapshot().subscriptions, 2);
    drop(gone);
    super::eventually("subscriptions gone", || {
        server.stats().snapshot().subscriptions == 0
    });
}
