//! What the applications have to find out, as the libraries tell it of nats-streaming-server.

use serde_json::{Value, json};
use tests::streaming_client::Library;

/// But for `lost`, in which the server is frozen.
pub(crate) const SCENARIOS: [&str; 7] = [
    "connect",
    "publish",
    "positions",
    "durable",
    "queue",
    "redelivery",
    "leave",
];

/// The summary of an application.
pub(crate) fn result(scenario: &str, library: Library) -> Value {
    let mut found = match scenario {
        "connect" => connect(library),
        "publish" => json!({"acked": 200, "refused": "stan: invalid publish request", "last": 210}),
        "positions" => positions(library),
        "durable" => json!({
            "resumed": [5, 6, 7, 8, 9, 10], "redelivered": true,
            "duplicate": "stan: duplicate durable registration", "after_close": 11, "after_unsubscribe": 1,
        }),
        "queue" => json!({
            "shared": 100, "both": true, "resumed": 5, "after_unsubscribe": 1,
            "refused": "stan: durable name of a durable queue subscriber can't contain the character ':'",
        }),
        "redelivery" => json!({
            "first": [1, 2, 3], "again": [1, 2, 3], "redelivered": true, "then": [4, 5, 6],
            "auto": [1, 2, 3, 4, 5, 6],
        }),
        "leave" => json!({
            "after": 0, "twice": "stan: invalid subscription", "refused": "stan: invalid subject",
        }),
        "lost" => lost(library),
        other => panic!("no scenario {other}"),
    };
    found["event"] = "done".into();
    found
}

fn connect(library: Library) -> Value {
    let mut found = json!({
        "duplicate": "stan: clientID already registered",
        "invalid": "stan: invalid clientID: only alphanumeric and `-` or `_` characters allowed",
    });
    // The libraries' own words.
    found["elsewhere"] = match library {
        Library::Go => "stan: connect request timeout (possibly wrong cluster ID?)",
        Library::Node | Library::Java => "stan: connect request timeout",
        Library::Python => "stan: failed connecting to 'no-such-cluster'",
    }
    .into();
    match library {
        Library::Go | Library::Java => found["closed"] = "stan: connection closed".into(),
        Library::Node => found["closed"] = "stan: Connection closed".into(),
        // It would wait for an acknowledgement that it no longer listens to.
        Library::Python => {}
    }
    found
}

/// First sequence and number of messages, of 20 and one that comes after subscribing.
fn positions(library: Library) -> Value {
    let mut found = json!({
        "new": [21, 1], "first": [1, 21], "raw": [1, 21], "sequence": [11, 11], "last": [20, 2],
        "time": [11, 11], "delta": [11, 11],
    });
    let lacks = match library {
        Library::Go | Library::Node => None,
        Library::Python => Some("delta"),
        Library::Java => Some("raw"),
    };
    if let (Some(option), Some(found)) = (lacks, found.as_object_mut()) {
        found.remove(option);
    }
    found
}

fn lost(library: Library) -> Value {
    let timeout = match library {
        Library::Python => "TimeoutError",
        Library::Go | Library::Node | Library::Java => "stan: publish ack timeout",
    };
    json!({"timeout": timeout, "lost": "stan: connection lost due to PING failure"})
}
