//! Documents of the server as a whole: varz, health, routes, subscriptions, accounts; paths and HTTPS.

use std::collections::BTreeMap;

use broker_core::auth::settings::SubjectRules;
use serde_json::json;
use time::macros::datetime;

use super::{
    super::{
        facts::{ClusterFacts, TlsFacts},
        source::KindCounts,
    },
    *,
};

#[tokio::test]
async fn varz_has_the_keys_of_the_reference_in_order() {
    let plain = Values {
        details: None,
        ..Values::default()
    };
    let served = Served::new(plain.monitor()).await;
    let body = served.get("/varz").await.body;
    let expected = "server_id server_name version proto go host port max_connections ping_interval ping_max http_host http_port http_base_path https_port auth_timeout max_control_line max_payload max_pending cluster gateway leaf mqtt websocket jetstream tls_timeout write_deadline start now uptime mem cores gomaxprocs cpu connections total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs in_client_bytes out_msgs out_bytes out_client_msgs out_client_bytes slow_consumers stale_connections stalled_clients subscriptions http_req_stats config_load_time config_digest system_account slow_consumer_stats stale_connection_stats disk_io_wait_stats";
    assert_eq!(keys(&body).join(" "), expected);
    assert!(body.contains("\n  \"cluster\": {},\n"), "{body}");
    assert!(
        body.contains("\n  \"ping_interval\": 120000000000,\n"),
        "{body}"
    );
    assert!(body.contains("\n  \"tls_timeout\": 2,\n"), "{body}");
    let value = served.json("/varz").await;
    assert_eq!(
        value["http_req_stats"]["/varz"], 2,
        "this request is counted as well"
    );
    assert!(value["mem"].as_u64().unwrap() > 1 << 20);
    assert_eq!(value["uptime"], "0s");
}

/// Everything that can be shown is, and no two values are alike.
fn everything() -> (Facts, Values) {
    let mut facts = facts();
    let tls = TlsFacts {
        required: true,
        verify: true,
        timeout: Duration::from_millis(500),
    };
    facts.client.auth_required = true;
    facts.client.auth_timeout = Duration::from_secs(3);
    facts.client.tls = Some(tls);
    facts.client.max_connections = None;
    facts.client.max_subscriptions = std::num::NonZeroUsize::new(99);
    facts.client.write_timeout = Some("retry");
    facts.http.base_path = "/mon".to_owned();
    facts.cluster = Some(ClusterFacts {
        host: "::".to_owned(),
        port: 6222,
        auth_timeout: Duration::from_secs(4),
        write_deadline: Some(Duration::from_secs(3)),
        write_timeout: Some("close"),
        urls: vec!["h:1".to_owned()],
        tls: Some(tls),
        import: Some(SubjectRules {
            allow: Vec::new(),
            deny: vec!["x".to_owned()],
        }),
        export: None,
    });
    facts.tags = vec!["a:b".to_owned()];
    facts.metadata = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let traffic = |msgs| Traffic {
        msgs,
        bytes: msgs * 10,
    };
    let core = CoreFigures {
        connections: 1,
        total_connections: 2,
        cluster_name: "C1".to_owned(),
        routes: 3,
        remotes: 4,
        received: traffic(5),
        sent: traffic(6),
        received_from_clients: traffic(7),
        sent_to_clients: traffic(8),
        slow_consumers: KindCounts {
            clients: 9,
            routes: 10,
        },
        stale_connections: KindCounts {
            clients: 11,
            routes: 12,
        },
        stalled_clients: 13,
        subscriptions: 14,
        connect_urls: vec!["c:2".to_owned()],
        certificate_not_after: Some(datetime!(2030-01-02 03:04:05 UTC)),
        route_certificate_not_after: Some(datetime!(2031-01-02 03:04:05 UTC)),
    };
    let values = Values {
        core,
        ..Values::default()
    };
    (facts, values)
}

#[tokio::test]
async fn varz_shows_each_figure_in_its_place() {
    let (facts, values) = everything();
    let served = Served::new(Monitor::new(facts, Box::new(values))).await;
    let body = served.get("/mon/varz").await.body;
    let keys = keys(&body).join(" ");
    for (after, key) in [
        (
            "port",
            "auth_required tls_required tls_verify connect_urls max_connections max_subscriptions ping_interval",
        ),
        ("write_deadline", "write_timeout start"),
        ("config_digest", "tags metadata system_account"),
        ("disk_io_wait_stats", "tls_cert_not_after"),
    ] {
        assert!(keys.contains(&format!(" {after} {key}")), "{keys}");
    }
    let varz = served.json("/mon/varz").await;
    for (key, expected) in [
        ("max_connections", json!(-1)),
        ("max_subscriptions", json!(99)),
        ("auth_timeout", json!(3)),
        ("tls_timeout", json!(0.5)),
        ("http_base_path", json!("/mon")),
        ("connections", json!(1)),
        ("total_connections", json!(2)),
        ("routes", json!(3)),
        ("remotes", json!(4)),
        ("in_msgs", json!(5)),
        ("in_bytes", json!(50)),
        ("out_msgs", json!(6)),
        ("out_bytes", json!(60)),
        ("in_client_msgs", json!(7)),
        ("in_client_bytes", json!(70)),
        ("out_client_msgs", json!(8)),
        ("out_client_bytes", json!(80)),
        ("slow_consumers", json!(19)),
        ("stale_connections", json!(23)),
        ("stalled_clients", json!(13)),
        ("subscriptions", json!(14)),
        ("http_req_stats", json!({"/varz": 2})),
        (
            "slow_consumer_stats",
            json!({"clients": 9, "routes": 10, "gateways": 0, "leafs": 0}),
        ),
        (
            "stale_connection_stats",
            json!({"clients": 11, "routes": 12, "gateways": 0, "leafs": 0}),
        ),
        ("tls_cert_not_after", json!("2030-01-02T03:04:05Z")),
        (
            "cluster",
            json!({
                "name": "C1", "addr": "::", "cluster_port": 6222, "auth_timeout": 4, "urls": ["h:1"],
                "tls_timeout": 0.5, "tls_required": true, "tls_verify": true, "pool_size": -1,
                "write_deadline": 3_000_000_000_u64, "write_timeout": "close",
                "tls_cert_not_after": "2031-01-02T03:04:05Z",
            }),
        ),
    ] {
        assert_eq!(varz[key], expected, "{key}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_is_shown_but_not_the_start() {
    let monitor = sample_monitor();
    let served = Served::new(Arc::clone(&monitor)).await;
    let before = served.json("/varz").await;
    let mut next = facts();
    next.client.max_payload = 7;
    monitor.reloaded(next);
    let after = served.json("/varz").await;
    assert_eq!(
        (&after["max_payload"], &after["start"]),
        (&json!(7), &before["start"])
    );
    assert_ne!(after["config_load_time"], before["config_load_time"]);
}

#[tokio::test]
async fn health_fails_while_clients_are_refused() {
    for (health, status, body) in [
        (Health::Serving, 200, r#"{"status":"ok"}"#),
        (
            Health::NotAccepting,
            500,
            r#"{"status":"error","error":"failed to be ready for connections after 1ms: server"}"#,
        ),
    ] {
        let values = Values {
            health,
            ..Values::default()
        };
        let served = Served::new(values.monitor()).await;
        let answer = served.get("/healthz?js-enabled-only=true").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
        assert!(
            answer.head.contains("access-control-allow-origin: *"),
            "{}",
            answer.head
        );
        assert_eq!(served.get("/healthz?js-enabled-only=x").await.status, 400);
    }
}

#[tokio::test]
async fn routes_are_shown_by_id_with_what_they_are_restricted_to() {
    let (facts, values) = everything();
    let served = Served::new(Monitor::new(facts, Box::new(values))).await;
    let body = served.get("/mon/routez").await.body;
    assert_eq!(
        keys(&body).join(" "),
        "server_id server_name now import num_routes routes"
    );
    let mut routez = served.json("/mon/routez?subs=detail").await;
    assert_eq!(
        (&routez["import"], &routez["num_routes"]),
        (&json!({"deny": ["x"]}), &json!(2))
    );
    assert_eq!(routez["routes"][1]["is_configured"], true);
    assert!(routez["routes"][1].get("rtt").is_none());
    let route = routez["routes"][0].as_object_mut().unwrap();
    for time in ["start", "last_activity"] {
        assert!(route.remove(time).unwrap().is_string());
    }
    // These go on while the test runs.
    let (uptime, idle) = (
        route.remove("uptime").unwrap(),
        route.remove("idle").unwrap(),
    );
    assert!(uptime.as_str().unwrap().contains('m'), "{uptime}");
    assert!(!idle.as_str().unwrap().contains('m'), "{idle}");
    assert_eq!(
        Value::Object(route.clone()),
        json!({
            "rid": 8, "remote_id": "NR8", "remote_name": "remote8", "did_solicit": true,
            "is_configured": false, "ip": "::1", "port": 6222, "rtt": "434\u{b5}s", "import": {"allow": ["a.>"]}, "pending_size": 31, "in_msgs": 32,
            "out_msgs": 34, "in_bytes": 33, "out_bytes": 35, "subscriptions": 1,
            "subscriptions_list_detail": [{"subject": "foo", "sid": "A foo", "msgs": 48, "cid": 8}],
            "compression": "off",
        })
    );
}

#[tokio::test]
async fn subscriptions_are_counted_listed_and_tested() {
    let served = Served::new(sample_monitor()).await;
    let body = served.get("/subsz").await.body;
    assert_eq!(
        keys(&body).join(" "),
        "server_id now num_subscriptions num_cache num_inserts num_removes num_matches cache_hit_rate max_fanout avg_fanout total offset limit"
    );
    let mut subsz = served.json("/subscriptionsz?subs=1&limit=2&offset=1").await;
    let subsz = subsz.as_object_mut().unwrap();
    for varying in ["server_id", "now"] {
        subsz.remove(varying).unwrap();
    }
    assert_eq!(
        Value::Object(subsz.clone()),
        json!({
            "num_subscriptions": 21, "num_cache": 4, "num_inserts": 23, "num_removes": 2,
            "num_matches": 8, "cache_hit_rate": 0.75, "max_fanout": 24, "avg_fanout": 1.25,
            "total": 3, "offset": 1, "limit": 2,
            "subscriptions_list": [
                {"account": "A", "account_tag": "A", "subject": "bar", "qgroup": "group", "sid": "9", "msgs": 44, "max": 5, "cid": 4},
                {"account": "A", "account_tag": "A", "subject": "foo.>", "sid": "2", "msgs": 44, "cid": 4},
            ],
        })
    );
    for (query, subjects) in [
        ("test=foo.x", vec!["foo.*", "foo.>"]),
        ("test=bar", vec!["bar"]),
        ("test=nothing", vec![]),
        ("acc=$G", vec!["foo.*"]),
        ("test=foo.x&offset=9223372036854775807", vec![]),
    ] {
        let subsz = served.json(&format!("/subsz?subs=1&{query}")).await;
        let listed = subsz["subscriptions_list"].as_array();
        let listed: Vec<_> = listed.into_iter().flatten().collect();
        let shown: Vec<_> = listed
            .iter()
            .map(|one| one["subject"].as_str().unwrap())
            .collect();
        assert_eq!(shown, subjects, "{query}");
    }
    assert_eq!(served.get("/subsz?test=foo.*").await.status, 400);
}

#[tokio::test]
async fn accounts_are_named_detailed_and_counted() {
    let served = Served::new(sample_monitor()).await;
    let names = served.json("/accountz").await;
    assert_eq!(names["accounts"], json!(["$SYS", "A", "B"]));
    assert_eq!(names["system_account"], "$SYS");
    let body = served.get("/accountz?acc=$SYS").await.body;
    assert_eq!(
        keys(&body).join(" "),
        "server_id now system_account account_detail"
    );
    let detail = &served.json("/accountz?acc=$SYS").await["account_detail"];
    assert_eq!(
        *detail,
        json!({
            "account_name": "$SYS", "update_time": "1970-01-01T00:00:00Z", "is_system": true,
            "expired": false, "complete": true, "jetstream_enabled": false,
            "leafnode_connections": 0, "client_connections": 0, "subscriptions": 21,
            "name_tag": "$SYS",
            "sublist_stats": {"num_subscriptions": 21, "num_cache": 4, "num_inserts": 23,
                "num_removes": 2, "num_matches": 8, "cache_hit_rate": 0.75, "max_fanout": 24,
                "avg_fanout": 1.25},
        })
    );
    let missing = served.get("/accountz?acc=nope").await;
    assert_eq!(
        (missing.status, missing.body.as_str()),
        (400, "Account nope does not exist")
    );
    let none = json!({"msgs": 0, "bytes": 0});
    let used = served.json("/accstatz").await;
    assert_eq!(
        used["account_statz"],
        json!([{
            "acc": "A", "name": "A", "conns": 3, "leafnodes": 0, "total_conns": 3,
            "num_subscriptions": 21, "slow_consumers": 49,
            "sent": {"msgs": 41, "bytes": 42, "gateways": none, "leafs": none,
                "routes": {"msgs": 43, "bytes": 44}},
            "received": {"msgs": 45, "bytes": 46, "gateways": none, "leafs": none,
                "routes": {"msgs": 47, "bytes": 48}},
        }])
    );
    let all = served.json("/accstatz?unused=1").await;
    assert_eq!(all["account_statz"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn what_there_is_not_is_shown_as_empty() {
    let served = Served::new(sample_monitor()).await;
    for (path, expected) in [
        (
            "/gatewayz",
            "server_id now outbound_gateways inbound_gateways",
        ),
        ("/leafz", "server_id now leafnodes leafs"),
        (
            "/jsz",
            "memory storage reserved_memory reserved_storage accounts ha_assets api server_id now disabled config streams consumers messages bytes total",
        ),
    ] {
        let body = served.get(path).await.body;
        assert_eq!(keys(&body).join(" "), expected);
    }
    assert_eq!(served.json("/leafz").await["leafs"], json!([]));
}

#[tokio::test]
async fn pages_of_what_is_off_do_not_exist() {
    let mut without_streaming = facts();
    without_streaming.streaming = None;
    let values = Values {
        details: None,
        ..Values::default()
    };
    let served = Served::new(Monitor::new(without_streaming, Box::new(values))).await;
    for path in PATHS {
        let kept = ["/", "/gatewayz", "/healthz", "/jsz", "/leafz", "/varz"].contains(&path);
        let expected = if kept { 200 } else { 404 };
        assert_eq!(served.get(path).await.status, expected, "{path}");
    }
    let index = served.get("/").await.body;
    for (page, linked) in [("varz", true), ("connz", false), ("streaming", false)] {
        assert_eq!(index.contains(&format!("href=./{page}>")), linked, "{page}");
    }
}

#[tokio::test]
async fn all_pages_are_below_the_base_path() {
    let (facts, values) = everything();
    let served = Served::new(Monitor::new(facts, Box::new(values))).await;
    for path in PATHS {
        let below = if path == "/" {
            "/mon".to_owned()
        } else {
            format!("/mon{path}")
        };
        assert!(
            [200, 204].contains(&served.get(&below).await.status),
            "{below}"
        );
        let outside = served.get(path).await;
        assert_eq!(
            (outside.status, outside.body.as_str()),
            (404, "404 page not found\n"),
            "{path}"
        );
    }
    assert!(
        served
            .get("/mon")
            .await
            .body
            .contains("<a href=./mon/connz>")
    );
    let counts = &served.json("/mon/varz").await["http_req_stats"];
    assert_eq!(counts.as_object().unwrap().len(), PATHS.len(), "{counts}");
}

#[tokio::test]
async fn a_base_path_is_taken_literally() {
    let (mut facts, values) = everything();
    facts.http.base_path = "/:a/*b/{c}".to_owned();
    let served = Served::new(Monitor::new(facts, Box::new(values))).await;
    assert_eq!(served.get("/:a/*b/{c}/varz").await.status, 200);
    assert_eq!(served.get("/x/y/z/varz").await.status, 404);
}

#[tokio::test]
async fn whatever_the_method_a_request_only_looks() {
    let served = Served::new(sample_monitor()).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let answer = ask(served.address, method, "/healthz").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "{\"status\":\"ok\"}")
        );
    }
    let head = ask(served.address, "HEAD", "/healthz").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
