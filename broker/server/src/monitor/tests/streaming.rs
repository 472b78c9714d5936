//! Documents of streaming.

use serde_json::json;

use super::*;

#[tokio::test]
async fn serverz_and_storez_have_the_keys_of_the_reference_in_order() {
    let served = Served::new(sample_monitor()).await;
    let serverz = served.get("/streaming/serverz").await.body;
    let expected = "cluster_id server_id version go state now start_time uptime clients subscriptions channels total_msgs total_bytes in_msgs in_bytes out_msgs out_bytes open_fds max_fds";
    assert_eq!(keys(&serverz).join(" "), expected);
    assert!(serverz.contains("\"state\": \"FT_ACTIVE\""), "{serverz}");
    let storez = served.get("/streaming/storez").await.body;
    assert_eq!(
        keys(&storez).join(" "),
        "cluster_id server_id now type limits total_msgs total_bytes"
    );
    let limits = &served.json("/streaming/storez").await["limits"];
    assert_eq!(
        limits.to_string(),
        json!({"max_channels": 7, "max_msgs": 1_000_000, "max_bytes": 1_024_000_000, "max_age": 0, "max_subscriptions": 1000, "max_inactivity": 0}).to_string()
    );
}

#[tokio::test]
async fn lists_are_sorted_and_paged_with_the_numbers_echoed() {
    let served = Served::new(sample_monitor()).await;
    let all = served.json("/streaming/channelsz?limit=x&offset=-3").await;
    assert_eq!(all["names"], json!(["a\"b", "bar.>", "foo"]));
    assert_eq!(
        (&all["limit"], &all["offset"], &all["count"], &all["total"]),
        (&json!(1024), &json!(0), &json!(3), &json!(3))
    );
    let one = served.json("/streaming/channelsz?limit=1&offset=1").await;
    assert_eq!(one["names"], json!(["bar.>"]));
    assert_eq!((&one["count"], &one["total"]), (&json!(1), &json!(3)));
    let beyond = served.json("/streaming/clientsz?offset=9&limit=0").await;
    assert_eq!(
        (&beyond["clients"], &beyond["limit"], &beyond["count"]),
        (&json!([]), &json!(1024), &json!(0))
    );
    let clients = served.get("/streaming/clientsz").await.body;
    assert_eq!(
        keys(&clients).join(" "),
        "cluster_id server_id now offset limit count total clients"
    );
}

#[tokio::test]
async fn subscriptions_are_shown_when_asked_for() {
    let served = Served::new(sample_monitor()).await;
    let channels = served.json("/streaming/channelsz?subs=1").await;
    assert!(channels.get("names").is_none());
    assert!(channels["channels"][0].get("subscriptions").is_none());
    assert_eq!(
        channels["channels"][2]["subscriptions"][0].to_string(),
        json!({"client_id": "me", "inbox": "_INBOX.1", "ack_inbox": "_INBOX.2", "queue_name": "dur:grp", "is_durable": true, "is_offline": false, "max_inflight": 1024, "ack_wait": 30, "last_sent": 8, "pending_count": 3, "is_stalled": false}).to_string()
    );
    let clients = served.json("/streaming/clientsz?subs=1").await;
    assert_eq!(
        clients["clients"][0]["subscriptions"]["foo"][0]["last_sent"],
        8
    );
}

#[tokio::test]
async fn one_client_or_channel_is_an_object_of_its_own_or_not_found() {
    let served = Served::new(sample_monitor()).await;
    let client = served.json("/streaming/clientsz?client=me").await;
    assert_eq!(
        client.to_string(),
        json!({"id": "me", "hb_inbox": "_INBOX.me", "subs_count": 1}).to_string()
    );
    let channel = served.json("/streaming/channelsz?channel=foo&subs=1").await;
    assert_eq!(channel["subscriptions"][0]["client_id"], "me");
    let missing = served.get("/streaming/channelsz?channel=nope").await;
    assert_eq!(
        (missing.status, missing.body.trim()),
        (404, "Channel nope not found")
    );
    let missing = served.get("/streaming/clientsz?client=nope").await;
    assert_eq!(
        (missing.status, missing.body.trim()),
        (404, "Client nope not found")
    );
    assert_eq!(served.get("/nothing").await.status, 404);
}

#[tokio::test]
async fn a_callback_makes_a_script_and_angle_brackets_are_escaped() {
    let served = Served::new(sample_monitor()).await;
    let answer = served.get("/streaming/channelsz?callback=show").await;
    assert!(
        answer.head.contains("content-type: application/javascript"),
        "{}",
        answer.head
    );
    assert!(
        answer.body.starts_with("show({\n  \"cluster_id\"") && answer.body.ends_with("})"),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(r"bar.\u003e"), "{}", answer.body);
    let refused = served.get("/streaming/serverz?callback=alert(1)").await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn the_sidecar_and_probes_learn_active_from_standby() {
    let served = Served::new(sample_monitor()).await;
    assert_eq!(served.get("/streaming/isFTActive").await.status, 200);
    assert_eq!(
        served.json("/lockz").await,
        json!({"state": "active", "owner_id": "owner1"})
    );

    let standby = Values {
        lock: LockState::Standby,
        ..Values::default()
    };
    let served = Served::new(standby.monitor()).await;
    assert_eq!(served.get("/streaming/isFTActive").await.status, 204);
    assert_eq!(
        served.json("/streaming/serverz").await["state"],
        "FT_STANDBY"
    );
}
