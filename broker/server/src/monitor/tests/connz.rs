//! `/connz`: columns, order, filters, pages.

use serde_json::json;

use super::*;

/// Ids in the order shown.
async fn ids(served: &Served, query: &str) -> Vec<u64> {
    let connz = served.json(&format!("/connz?{query}")).await;
    let items = connz["connections"].as_array().unwrap().iter();
    items.map(|one| one["cid"].as_u64().unwrap()).collect()
}

/// Keys of the objects in a list, in the order written.
fn item_keys(body: &str, indent: usize) -> Vec<String> {
    let start = format!("{}\"", " ".repeat(indent));
    let lines = body.lines().filter_map(|line| line.strip_prefix(&start));
    lines
        .map(|line| line.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_connection_has_the_keys_of_the_reference_in_order() {
    let served = Served::new(sample_monitor()).await;
    let body = served.get("/connz?cid=4").await.body;
    assert_eq!(
        keys(&body).join(" "),
        "server_id now num_connections total offset limit connections"
    );
    let plain = "cid kind type ip port start last_activity rtt uptime idle pending_bytes in_msgs out_msgs in_bytes out_bytes stalls subscriptions name lang version tls_version tls_cipher_suite tls_first";
    assert_eq!(item_keys(&body, 6).join(" "), plain);
    let body = served.get("/connz?cid=4&auth=1&subs=1").await.body;
    let all = plain.replace("tls_first", "tls_peer_certs tls_first")
        + " authorized_user account subscriptions_list name_tag";
    assert_eq!(item_keys(&body, 6).join(" "), all);
    let body = served.get("/connz?cid=5&state=closed&auth=1").await.body;
    assert_eq!(
        item_keys(&body, 6).join(" "),
        "cid kind type ip port start last_activity stop reason uptime idle pending_bytes in_msgs out_msgs in_bytes out_bytes subscriptions name_tag",
        "what is empty is not shown"
    );
}

#[tokio::test]
async fn each_value_is_in_its_column() {
    let served = Served::new(sample_monitor()).await;
    let connz = served.json("/connz?cid=4&auth=true&subs=detail").await;
    assert_eq!(
        (
            &connz["server_id"],
            &connz["num_connections"],
            &connz["total"],
            &connz["limit"]
        ),
        (&json!("NID"), &json!(1), &json!(3), &json!(1))
    );
    let mut one = connz["connections"][0].clone();
    let columns = one.as_object_mut().unwrap();
    for time in ["start", "last_activity"] {
        let text = columns.remove(time).unwrap();
        assert!(text.as_str().unwrap().ends_with('Z'), "{text}");
    }
    // These go on while the test runs.
    let uptime = columns.remove("uptime").unwrap();
    let idle = columns.remove("idle").unwrap();
    assert!(uptime.as_str().unwrap().starts_with("16m"), "{uptime}");
    assert!(!idle.as_str().unwrap().starts_with("16m"), "{idle}");
    assert_eq!(
        one,
        json!({
            "cid": 4, "kind": "Client", "type": "nats", "ip": "127.0.0.1", "port": 50_004,
            "rtt": "1.25ms", "pending_bytes": 11,
            "in_msgs": 12, "in_bytes": 13, "out_msgs": 14, "out_bytes": 15, "stalls": 16,
            "subscriptions": 2, "name": "a<b", "lang": "rust", "version": "1.2",
            "tls_version": "1.3", "tls_cipher_suite": "TLS_AES_128_GCM_SHA256",
            "tls_peer_certs": [{"subject": "CN=me", "spki_sha256": "0a".repeat(32), "cert_sha256": "f1".repeat(32)}],
            "tls_first": true, "authorized_user": "ann", "account": "A", "name_tag": "A",
            "subscriptions_list_detail": [
                {"subject": "bar", "qgroup": "group", "sid": "9", "msgs": 44, "max": 5, "cid": 4},
                {"subject": "foo.>", "sid": "2", "msgs": 44, "cid": 4},
            ],
        })
    );
    let closed = served.json("/connz?cid=6&state=any").await["connections"][0].clone();
    assert_eq!(
        (
            &closed["reason"],
            &closed["uptime"],
            &closed["idle"],
            &closed["subscriptions"]
        ),
        (
            &json!("Client Closed"),
            &json!("1m10s"),
            &json!("5s"),
            &json!(9)
        )
    );
}

#[tokio::test]
async fn credentials_are_shown_on_request_and_tokens_never() {
    let served = Served::new(sample_monitor()).await;
    let plain = served.get("/connz?state=any&subs=detail").await.body;
    for hidden in [
        "authorized_user",
        "account",
        "tls_peer_certs",
        "name_tag",
        "ann",
    ] {
        assert!(!plain.contains(hidden), "{hidden} in\n{plain}");
    }
    let one = &served.json("/connz?auth=1&cid=7").await["connections"][0];
    assert_eq!(one["authorized_user"], "[REDACTED]");
    assert_eq!(one["name_tag"], "$G");
    assert!(one.get("account").is_none(), "the global one is not named");
}

#[tokio::test]
async fn every_order_is_that_of_the_reference() {
    let served = Served::new(sample_monitor()).await;
    for (query, expected) in [
        ("", [3, 4, 7]),
        ("sort=cid", [3, 4, 7]),
        ("sort=start", [3, 4, 7]),
        ("sort=subs", [4, 7, 3]),
        ("sort=pending", [4, 3, 7]),
        ("sort=msgs_to", [4, 3, 7]),
        ("sort=msgs_from", [7, 4, 3]),
        ("sort=bytes_to", [3, 4, 7]),
        ("sort=bytes_from", [4, 7, 3]),
        ("sort=last", [3, 4, 7]),
        ("sort=idle", [7, 4, 3]),
        ("sort=uptime", [7, 4, 3]),
        ("sort=rtt", [4, 3, 7]),
    ] {
        assert_eq!(ids(&served, query).await, expected, "{query}");
    }
    for (query, expected) in [
        ("", [5, 6]),
        ("&sort=start", [5, 6]),
        ("&sort=stop", [5, 6]),
        ("&sort=reason", [6, 5]),
        ("&sort=uptime", [6, 5]),
        ("&sort=idle", [5, 6]),
        ("&sort=subs", [6, 5]),
    ] {
        let query = format!("state=closed{query}");
        assert_eq!(ids(&served, &query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn filters_leave_what_they_name() {
    let served = Served::new(sample_monitor()).await;
    for (query, total, expected) in [
        ("state=ANY", 5, vec![3, 4, 5, 6, 7]),
        ("acc=A", 1, vec![4]),
        ("acc=nobody", 0, vec![]),
        ("acc=$G&state=all", 3, vec![3, 5, 7]),
        ("user=ann", 3, vec![4]),
        ("user=nobody", 3, vec![]),
        // Not a user's name, whatever it looks like.
        ("user=%5BREDACTED%5D", 3, vec![]),
        ("mqtt_client=x", 3, vec![]),
        ("cid=6", 3, vec![]),
        ("cid=6&state=any", 5, vec![6]),
        ("filter_subject=bar", 3, vec![3, 4, 7]),
    ] {
        assert_eq!(ids(&served, query).await, expected, "{query}");
        let connz = served.json(&format!("/connz?{query}")).await;
        assert_eq!(connz["total"], total, "{query}");
    }
}

#[tokio::test]
async fn pages_are_cut_from_the_sorted_whole() {
    let served = Served::new(sample_monitor()).await;
    for (query, expected) in [
        ("limit=1", vec![3]),
        ("offset=1&limit=1", vec![4]),
        ("offset=1", vec![4, 7]),
        ("offset=3", vec![]),
        (
            "offset=9223372036854775807&limit=9223372036854775807",
            vec![],
        ),
        ("offset=1&limit=9223372036854775807", vec![4, 7]),
        ("offset=-9223372036854775808&limit=-1", vec![3, 4, 7]),
    ] {
        assert_eq!(ids(&served, query).await, expected, "{query}");
    }
    let connz = served
        .json("/connz?offset=1&limit=9223372036854775807&subs=1")
        .await;
    assert_eq!(
        (
            &connz["offset"],
            &connz["limit"],
            &connz["total"],
            &connz["num_connections"]
        ),
        (&json!(1), &json!(i64::MAX), &json!(3), &json!(2))
    );
    assert_eq!(
        connz["connections"][1]["subscriptions_list"],
        json!(["foo.*"])
    );
}

#[tokio::test]
async fn wrong_parameters_are_refused_as_plain_text() {
    let served = Served::new(sample_monitor()).await;
    for (query, expected) in [
        ("sort=zzz", "invalid sorting option: zzz"),
        ("sort=stop", "sort by stop only valid on closed connections"),
        ("state=%3Cb%3E", "Error decoding state for <b>"),
        (
            "limit=x",
            "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax",
        ),
    ] {
        let answer = served.get(&format!("/connz?{query}")).await;
        assert_eq!((answer.status, answer.body.as_str()), (400, expected));
        assert!(
            answer
                .head
                .contains("content-type: text/plain; charset=utf-8")
                && answer.head.contains("x-content-type-options: nosniff"),
            "{}",
            answer.head
        );
    }
}
