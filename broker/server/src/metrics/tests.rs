//! A page as a scraper gets it.

use super::*;
use crate::monitor::tests::{get as fetch, sample_monitor};

#[tokio::test]
async fn every_name_has_one_type_line_and_its_samples_follow_it() {
    let monitor = sample_monitor();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = CancellationToken::new();
    let server = tokio::spawn(serve(monitor, listener, token.clone()));
    let answer = fetch(address, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{}",
        answer.head
    );

    let mut seen = std::collections::HashSet::new();
    let mut current = "";
    for line in answer.body.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            current = typed.split(' ').next().unwrap();
            assert!(seen.insert(current), "{current} twice");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(
                name == current
                    || name.trim_end_matches("_sum").trim_end_matches("_count") == current,
                "{line}"
            );
        }
    }
    for expected in [
        "gnatsd_varz_connections{server_id=\"n1\"} 2\n",
        "gnatsd_varz_server_name{server_id=\"n1\",value=\"n1\"} 1\n",
        "gnatsd_varz_in_msgs{server_id=\"n1\"} 10\n",
        "nss_server_msgs_total{server=\"n1\",server_id=\"n1\"} 30\n",
        "nss_server_active{server=\"n1\",server_id=\"n1\"} 1\n",
        "nss_chan_last_seq{server=\"n1\",server_id=\"n1\",server_role=\"active\",channel=\"a\\\"b\"} 9\n",
        "nss_chan_subs_pending_count{server=\"n1\",server_id=\"n1\",server_role=\"active\",channel=\"foo\",client_id=\"me\",inbox=\"_INBOX.1\",queue_name=\"dur:grp\",is_durable=\"true\",is_offline=\"false\",durable_name=\"\"} 3\n",
        "stanchion_store_lock{state=\"active\"} 1\n",
        "stanchion_store_lock{state=\"standby\"} 0\n",
        "stanchion_store_flush_seconds_sum 0.5\n",
        "stanchion_store_flush_seconds_count 4\n",
        "stanchion_store_rows_flushed_total 7\n",
    ] {
        assert!(
            answer.body.contains(expected),
            "{expected} in\n{}",
            answer.body
        );
    }
    assert!(
        answer
            .body
            .contains("gnatsd_varz_start{server_id=\"n1\"} 1"),
        "{}",
        answer.body
    );
    token.cancel();
    server.await.unwrap();
}
