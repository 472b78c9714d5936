//! A page as a scraper gets it.

use super::*;
use crate::monitor::{
    Facts,
    facts::ClusterFacts,
    tests::{get as fetch, sample_monitor},
};

/// One scrape of a listener of its own.
async fn scrape(monitor: Arc<Monitor>) -> String {
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
    token.cancel();
    server.await.unwrap();
    answer.body
}

#[tokio::test]
async fn every_name_has_one_type_line_and_its_samples_follow_it() {
    let page = scrape(sample_monitor()).await;
    let mut seen = std::collections::HashSet::new();
    let mut current = "";
    for line in page.lines() {
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
}

#[tokio::test]
async fn values_are_under_the_names_that_dashboards_know() {
    let page = scrape(sample_monitor()).await;
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
        "stanchion_store_corrupt_rows_total 2\n",
        "gnatsd_varz_start{server_id=\"n1\"} 1",
        "gnatsd_varz_slow_consumer_stats_clients{server_id=\"n1\"} 0\n",
        "gnatsd_connz_num_connections{server_id=\"n1\"} 3\n",
        "gnatsd_connz_total{server_id=\"n1\"} 3\n",
        "gnatsd_connz_offset{server_id=\"n1\"} 0\n",
        "gnatsd_connz_limit{server_id=\"n1\"} 1024\n",
        "gnatsd_connz_pending_bytes{server_id=\"n1\"} 11\n",
        "gnatsd_connz_subscriptions{server_id=\"n1\"} 3\n",
        "gnatsd_connz_in_msgs{server_id=\"n1\"} 62\n",
        "gnatsd_connz_in_bytes{server_id=\"n1\"} 14\n",
        "gnatsd_connz_out_msgs{server_id=\"n1\"} 15\n",
        "gnatsd_connz_out_bytes{server_id=\"n1\"} 65\n",
        "gnatsd_routez_num_routes{server_id=\"n1\"} 2\n",
        "gnatsd_routez_route_rtt_seconds{server_id=\"n1\",rid=\"8\"} 0.000434\n",
        "gnatsd_routez_route_in_bytes{server_id=\"n1\",rid=\"9\"} 33\n",
        "gnatsd_subsz_num_subscriptions{server_id=\"n1\"} 21\n",
        "gnatsd_subsz_cache_hit_rate{server_id=\"n1\"} 0.75\n",
        "gnatsd_healthz_status{server_id=\"n1\"} 0\n",
        "gnatsd_healthz_status_value{server_id=\"n1\",value=\"ok\"} 1\n",
        "gnatsd_accstatz_current_connections{server_id=\"n1\",account=\"A\",account_id=\"A\",account_name=\"A\"} 3\n",
        "gnatsd_accstatz_sent_bytes{server_id=\"n1\",account=\"B\",account_id=\"B\",account_name=\"B\"} 42\n",
        "gnatsd_accstatz_slow_consumers{server_id=\"n1\",account=\"$SYS\",account_id=\"$SYS\",account_name=\"$SYS\"} 49\n",
    ] {
        assert!(page.contains(expected), "{expected} in\n{page}");
    }
}

#[tokio::test]
async fn the_prefix_is_that_of_the_facts_and_what_is_off_has_no_names() {
    let monitor = sample_monitor();
    let mut facts = Facts::clone(&monitor.facts());
    facts.metrics_prefix = "nats".to_owned();
    facts.streaming = None;
    facts.cluster = Some(ClusterFacts::default());
    monitor.reloaded(facts);
    let page = scrape(monitor).await;
    assert!(page.contains("nats_varz_cpu{") && page.contains("nats_connz_total{"));
    for unknown in [
        "gnatsd_",
        "nss_",
        "stanchion_store_",
        "cluster_port",
        "cluster_tls",
    ] {
        assert!(!page.contains(unknown), "{unknown} in\n{page}");
    }
    assert!(page.contains("stanchion_build_info{"));
    assert!(page.contains("nats_varz_cluster_pool_size{"), "{page}");
}
