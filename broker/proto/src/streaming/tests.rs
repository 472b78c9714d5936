//! Exact encodings that every client produces and accepts.

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn is_golden<M: Message + Default + PartialEq>(message: &M, golden: &str) {
    assert_eq!(hex(&message.encode_to_vec()), golden);
    assert!(&M::decode(&bytes_of(golden)[..]).unwrap() == message);
}

#[test]
fn connect_messages_match_their_golden_bytes() {
    let old = ConnectRequest {
        client_id: "me".into(),
        heartbeat_inbox: "_INBOX.hb".into(),
        ..ConnectRequest::default()
    };
    is_golden(&old, "0a026d6512095f494e424f582e6862");
    let new = ConnectRequest {
        protocol: 1,
        conn_id: "c1".into(),
        ping_interval: 5,
        ping_max_out: 3,
        ..old
    };
    is_golden(&new, "0a026d6512095f494e424f582e686218012202633128053003");
    let refused = ConnectResponse {
        error: "stan: clientID already registered".into(),
        ..ConnectResponse::default()
    };
    is_golden(
        &refused,
        "2a217374616e3a20636c69656e74494420616c72656164792072656769737465726564",
    );
    is_golden(
        &CloseRequest {
            client_id: "me".into(),
        },
        "0a026d65",
    );
    is_golden(
        &Ping {
            conn_id: "c1".into(),
        },
        "0a026331",
    );
    let replaced = PingResponse {
        error: "client has been replaced or is no longer registered".into(),
    };
    is_golden(
        &replaced,
        "0a33636c69656e7420686173206265656e207265706c61636564206f72206973206e6f206c6f6e6765722072656769737465726564",
    );
}

#[test]
fn publish_messages_match_their_golden_bytes() {
    let message = PubMsg {
        client_id: "me".into(),
        guid: "G1".into(),
        subject: "foo".into(),
        data: "hello".into(),
        conn_id: "c1".into(),
        ..PubMsg::default()
    };
    is_golden(&message, "0a026d65120247311a03666f6f2a0568656c6c6f32026331");
    is_golden(
        &PubAck {
            guid: "G1".into(),
            error: String::new(),
        },
        "0a024731",
    );
    is_golden(
        &PubAck {
            guid: "G1".into(),
            error: "too many channels".into(),
        },
        "0a0247311211746f6f206d616e79206368616e6e656c73",
    );
}

#[test]
fn subscription_messages_match_their_golden_bytes() {
    let durable = SubscriptionRequest {
        client_id: "me".into(),
        subject: "foo".into(),
        q_group: "q".into(),
        inbox: "_INBOX.s".into(),
        max_in_flight: 1024,
        ack_wait_in_secs: 30,
        durable_name: "d".into(),
        start_position: StartPosition::SequenceStart.into(),
        start_sequence: 7,
        start_time_delta: 0,
    };
    is_golden(
        &durable,
        "0a026d651203666f6f1a017122085f494e424f582e73288008301e3a016450035807",
    );
    let by_time = SubscriptionRequest {
        client_id: "me".into(),
        subject: "foo".into(),
        inbox: "_INBOX.s".into(),
        max_in_flight: 1,
        ack_wait_in_secs: 1,
        start_position: StartPosition::TimeDeltaStart.into(),
        start_time_delta: 1_000_000_000,
        ..SubscriptionRequest::default()
    };
    is_golden(
        &by_time,
        "0a026d651203666f6f22085f494e424f582e73280130015002608094ebdc03",
    );
    is_golden(
        &SubscriptionResponse {
            ack_inbox: "_INBOX.a".into(),
            error: String::new(),
        },
        "12085f494e424f582e61",
    );
    let unsubscribe = UnsubscribeRequest {
        client_id: "me".into(),
        subject: "foo".into(),
        inbox: "_INBOX.a".into(),
        durable_name: String::new(),
    };
    is_golden(&unsubscribe, "0a026d651203666f6f1a085f494e424f582e61");
}

#[test]
fn delivered_messages_match_their_golden_bytes() {
    let first = MsgProto {
        sequence: 1,
        subject: "foo".into(),
        data: "hello".into(),
        timestamp: 1_600_000_000_000_000_000,
        ..MsgProto::default()
    };
    is_golden(&first, "08011203666f6f220568656c6c6f28808080c5ddf0959a16");
    let again = MsgProto {
        redelivered: true,
        redelivery_count: 2,
        ..first
    };
    is_golden(
        &again,
        "08011203666f6f220568656c6c6f28808080c5ddf0959a1630013802",
    );
    is_golden(
        &Ack {
            subject: "foo".into(),
            sequence: 1,
        },
        "0a03666f6f1001",
    );
}

#[test]
fn persisted_records_match_their_golden_bytes() {
    let offline = SubState {
        id: 3,
        client_id: "me".into(),
        inbox: "_INBOX.s".into(),
        ack_inbox: "_INBOX.a".into(),
        max_in_flight: 1024,
        ack_wait_in_secs: 30,
        durable_name: "d".into(),
        last_sent: 7,
        is_durable: true,
        is_closed: true,
        ..SubState::default()
    };
    is_golden(
        &offline,
        "080312026d6522085f494e424f582e732a085f494e424f582e61308008381e420164480750015801",
    );
    let shadow = SubState {
        id: 4,
        q_group: "d:q".into(),
        inbox: "_INBOX.s".into(),
        ack_inbox: "_INBOX.a".into(),
        max_in_flight: 10,
        ack_wait_in_secs: 30,
        last_sent: 9,
        is_durable: true,
        ..SubState::default()
    };
    is_golden(
        &shadow,
        "08041a03643a7122085f494e424f582e732a085f494e424f582e61300a381e48095001",
    );
    let client = ClientInfo {
        id: "me".into(),
        hb_inbox: "_INBOX.hb".into(),
        conn_id: "c1".into(),
        protocol: 1,
        ping_interval: 5,
        ping_max_out: 3,
    };
    is_golden(
        &client,
        "0a026d6512095f494e424f582e68621a026331200128053003",
    );
    let server = ServerInfo {
        cluster_id: "tc".into(),
        discovery: "_STAN.discover.tc".into(),
        publish: "_STAN.pub.tc".into(),
        subscribe: "_STAN.sub.tc".into(),
        unsubscribe: "_STAN.unsub.tc".into(),
        close: "_STAN.close.tc".into(),
        sub_close: "_STAN.subclose.tc".into(),
        acks_subs: "_STAN.ack.tc".into(),
        node_id: String::new(),
    };
    is_golden(
        &server,
        "0a02746312115f5354414e2e646973636f7665722e74631a0c5f5354414e2e7075622e7463220c5f5354414e2e7375622e74632a0e5f5354414e2e756e7375622e7463320e5f5354414e2e636c6f73652e74633a115f5354414e2e737562636c6f73652e7463420c5f5354414e2e61636b2e7463",
    );
}

#[test]
fn a_negative_integer_takes_ten_bytes() {
    let request = SubscriptionRequest {
        max_in_flight: -1,
        ..SubscriptionRequest::default()
    };
    is_golden(&request, "28ffffffffffffffffff01");
}

#[test]
fn the_word_dummy_is_no_message() {
    fn is_refused<M: Message + Default>() {
        assert!(M::decode(&b"dummy"[..]).is_err());
    }
    is_refused::<ConnectRequest>();
    is_refused::<CloseRequest>();
    is_refused::<Ping>();
    is_refused::<SubscriptionRequest>();
    is_refused::<UnsubscribeRequest>();
    is_refused::<Ack>();
    is_refused::<CtrlMsg>();
    assert!(PubMsgView::decode(b"dummy").is_err());
    assert!(AckView::decode(b"dummy").is_none());
}
