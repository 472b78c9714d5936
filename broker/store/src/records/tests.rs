use super::*;

fn info_row() -> ServerInfoRow {
    let info = ServerInfo {
        cluster_id: "test".to_owned(),
        ..ServerInfo::default()
    };
    ServerInfoRow {
        id: "test".to_owned(),
        proto: info.encode_to_vec(),
        version: SCHEMA_VERSION,
    }
}

fn channel(id: u32, name: &str, max_sequence: u64) -> ChannelRow {
    ChannelRow {
        id: ChannelId(id),
        name: name.to_owned(),
        limits: RecordedLimits::default(),
        max_sequence,
    }
}

/// Messages that were counted at the start, of 10 bytes in all.
fn held(id: u32, first: u64, last: u64) -> HeldRow {
    HeldRow {
        channel: ChannelId(id),
        first,
        last,
        last_timestamp: 5,
        recorded: None,
        behind: Some((last - first + 1, 10)),
    }
}

fn subscription(channel: u32, id: u64, last_sent: u64) -> SubscriptionRow {
    SubscriptionRow {
        channel: ChannelId(channel),
        id,
        last_sent,
        proto: SubState::default().encode_to_vec(),
    }
}

fn arrays(subscription: u64, pending: &str, acks: &str) -> PendingRow {
    let column = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    PendingRow {
        subscription,
        pending: column(pending),
        acks: column(acks),
        ..PendingRow::default()
    }
}

fn one_channel(subscriptions: Vec<SubscriptionRow>, pending: Vec<PendingRow>) -> RecoveredChannel {
    let rows = StoredRows {
        server_info: Some(info_row()),
        channels: vec![channel(1, "foo", 0)],
        subscriptions,
        pending,
        last_channel_id: 1,
        ..StoredRows::default()
    };
    rows.assemble().unwrap().channels.remove(0)
}

fn pending_of(rows: Vec<PendingRow>) -> Vec<u64> {
    let recovered = one_channel(vec![subscription(1, 1, 0)], rows);
    let pending = &recovered.subscriptions[0].pending;
    pending.iter().map(|sequence| sequence.0).collect()
}

#[test]
fn nothing_stored_recovers_nothing() {
    let recovered = StoredRows::default().assemble().unwrap();
    assert_eq!(recovered, Recovered::default());
}

#[test]
fn channels_without_server_info_are_corrupt() {
    let rows = StoredRows {
        last_channel_id: 1,
        ..StoredRows::default()
    };
    assert!(matches!(rows.assemble(), Err(StoreError::Corrupt(_))));
}

#[test]
fn another_version_or_cluster_column_is_corrupt() {
    for (id, version) in [("test", 2), ("other", 1)] {
        let rows = StoredRows {
            server_info: Some(ServerInfoRow {
                id: id.to_owned(),
                version,
                ..info_row()
            }),
            ..StoredRows::default()
        };
        assert!(matches!(rows.assemble(), Err(StoreError::Corrupt(_))));
    }
}

#[test]
fn client_without_record_is_made_from_its_columns() {
    let rows = StoredRows {
        server_info: Some(info_row()),
        clients: vec![ClientRow {
            id: "old".to_owned(),
            heartbeat_inbox: "hb".to_owned(),
            proto: None,
        }],
        ..StoredRows::default()
    };
    let clients = rows.assemble().unwrap().clients;
    assert_eq!(clients[0].id, "old");
    assert_eq!(clients[0].hb_inbox, "hb");
}

#[test]
fn a_damaged_client_is_made_from_its_columns() {
    let other = ClientInfo {
        id: "other".to_owned(),
        ..ClientInfo::default()
    };
    let row = |proto| ClientRow {
        id: "me".to_owned(),
        heartbeat_inbox: "hb".to_owned(),
        proto: Some(proto),
    };
    for proto in [vec![0xff], other.encode_to_vec()] {
        let client = row(proto).decode();
        assert_eq!((&*client.id, &*client.hb_inbox), ("me", "hb"));
    }
}

#[test]
fn damaged_records_stop_no_others_and_no_sequence_is_given_again() {
    let damaged = SubscriptionRow {
        proto: vec![0xff],
        ..subscription(1, 1, 50)
    };
    let pending = vec![
        arrays(1, "[7]", ""),
        arrays(2, "[3", ""),
        arrays(2, "[4]", "nonsense"),
    ];
    let channel = one_channel(vec![damaged, subscription(1, 2, 9)], pending);
    assert_eq!(channel.last, Sequence(50));
    assert_eq!(channel.subscriptions.len(), 1);
    assert_eq!(channel.subscriptions[0].state.id, 2);
    assert_eq!(channel.subscriptions[0].pending, [Sequence(4)]);
}

#[test]
fn pending_acked_and_pending_again_stays_pending() {
    let rows = vec![
        arrays(1, "[5,3,4]", ""),
        arrays(1, "", "[4]"),
        arrays(1, "[4]", ""),
    ];
    assert_eq!(pending_of(rows), [3, 4, 5]);
}

#[test]
fn stale_ack_row_cancels_nothing_later() {
    let rows = vec![arrays(1, "", "[7]"), arrays(1, "[7]", "[7]")];
    assert_eq!(pending_of(rows), [7]);
}

#[test]
fn both_kinds_of_pending_rows_count() {
    let single = PendingRow {
        subscription: 1,
        sequence: 9,
        ..PendingRow::default()
    };
    let rows = vec![arrays(1, "[2]", ""), single, arrays(1, "", "[2]")];
    let channel = one_channel(vec![subscription(1, 1, 0)], rows);
    assert_eq!(channel.subscriptions[0].pending, [Sequence(9)]);
    assert_eq!(channel.subscriptions[0].state.last_sent, 9);
}

#[test]
fn last_sent_bounds_the_last_sequence_from_below() {
    let channel = one_channel(vec![subscription(1, 1, 100)], Vec::new());
    assert_eq!(
        (channel.first, channel.last),
        (Sequence(101), Sequence(100))
    );
}

#[test]
fn max_sequence_raises_last_and_keeps_first() {
    let rows = StoredRows {
        server_info: Some(info_row()),
        channels: vec![channel(1, "foo", 20)],
        held: vec![held(1, 3, 8)],
        last_channel_id: 1,
        ..StoredRows::default()
    };
    let channel = rows.assemble().unwrap().channels.remove(0);
    assert_eq!((channel.first, channel.last), (Sequence(3), Sequence(20)));
}

#[test]
fn of_two_channels_with_one_name_the_fuller_is_served() {
    let rows = StoredRows {
        server_info: Some(info_row()),
        channels: vec![
            channel(1, "foo", 0),
            channel(2, "bar", 0),
            channel(3, "foo", 0),
        ],
        held: vec![held(1, 1, 1), held(3, 1, 5)],
        last_channel_id: 3,
        ..StoredRows::default()
    };
    let channels = rows.assemble().unwrap().channels;
    let ids: Vec<_> = channels.iter().map(|channel| channel.id.0).collect();
    assert_eq!(ids, [2, 3]);
}

#[test]
fn sequences_are_written_as_the_reference_reads_them() {
    assert_eq!(encode_sequences(&[Sequence(3), Sequence(40)]), b"[3,40]");
    assert_eq!(encode_sequences(&[]), b"[]");
}

/// Totals of a channel that holds messages `first` to `last`, of which a record tells `recorded` (first, last, messages,
/// bytes) and the database counted those behind.
fn totals_of(
    (first, last): (u64, u64),
    recorded: Option<(u64, u64, u64, u64)>,
    behind: Option<(u64, u64)>,
) -> (u64, u64, bool) {
    let recorded = recorded.map(|(first, last, messages, bytes)| Totals {
        first: Sequence(first),
        last: Sequence(last),
        messages,
        bytes,
    });
    HeldRow {
        recorded,
        behind,
        ..held(1, first, last)
    }
    .totals()
}

#[test]
fn what_came_behind_the_record_is_added() {
    let recorded = Some((3, 8, 5, 500));
    assert_eq!(totals_of((3, 10), recorded, Some((2, 70))), (7, 570, true));
    assert_eq!(totals_of((3, 8), recorded, Some((0, 0))), (5, 500, true));
}

#[test]
fn a_record_of_what_is_all_gone_counts_for_nothing() {
    assert_eq!(
        totals_of((9, 10), Some((3, 8, 5, 500)), Some((2, 70))),
        (2, 70, true)
    );
}

#[test]
fn where_messages_were_removed_or_too_many_came_it_is_a_guess() {
    let recorded = Some((3, 8, 6, 600));
    assert_eq!(totals_of((5, 10), recorded, Some((2, 70))), (6, 600, false));
    assert_eq!(
        totals_of((3, 5_002), recorded, None),
        (5_000, 500_000, false)
    );
    assert_eq!(totals_of((1, 5_000), None, None), (5_000, 0, false));
}
