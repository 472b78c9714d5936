//! The lock watch, with rows of our own and a broker's claim over real HTTP.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use axum::{Router, routing::get};
use broker_store::watch::Row;
use deploy_runtime::admin::AdminServer;
use prometheus::Registry;
use sidecar::{
    lock::{LockWatch, Rows},
    metrics::Metrics,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::shows;

/// A row that ticks with every look, as long as it has an owner.
#[derive(Clone, Debug)]
struct Ticking(Arc<Mutex<Row>>);

impl Rows for Ticking {
    async fn look(&mut self) -> Result<Row, String> {
        let mut row = self.0.lock().unwrap();
        if !row.owner_id.is_empty() {
            row.tick += 1;
        }
        Ok(row.clone())
    }
}

impl Ticking {
    fn set(&self, owner: &str) {
        *self.0.lock().unwrap() = Row {
            owner_id: owner.to_owned(),
            tick: 0,
        };
    }
}

#[tokio::test]
async fn readiness_and_metric_follow_row_and_claim() {
    let stop = CancellationToken::new();
    let claim = Arc::new(Mutex::new(r#"{"state":"active","owner_id":"mine"}"#));
    let mut broker = AdminServer::new(Registry::new());
    let says = Arc::clone(&claim);
    broker.merge(Router::new().route("/lockz", get(move || ready(*says.lock().unwrap()))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let monitor = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    tokio::spawn(broker.serve(listener, stop.clone()));

    let registry = Registry::new();
    let metrics = Metrics::register(&registry).unwrap();
    let admin = AdminServer::new(registry);
    let rows = Ticking(Arc::new(Mutex::new(Row {
        owner_id: "mine".to_owned(),
        tick: 0,
    })));
    let watch = LockWatch {
        rows: rows.clone(),
        monitor,
        metrics,
        ready: admin.readiness("store lock"),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(admin.serve(listener, stop.clone()));
    tokio::spawn(watch.run(stop.clone()));

    shows(
        address,
        "/metrics",
        "stanchion_sidecar_store_lock{state=\"held\"} 1\n",
    )
    .await;
    shows(address, "/readyz", "\r\n\r\nok").await;

    rows.set("");
    *claim.lock().unwrap() = r#"{"state":"standby","owner_id":""}"#;
    shows(address, "/readyz", "store lock: free").await;
    shows(
        address,
        "/metrics",
        "stanchion_sidecar_store_lock{state=\"held\"} 0\n",
    )
    .await;

    rows.set("other");
    shows(
        address,
        "/metrics",
        "stanchion_sidecar_store_lock{state=\"standby\"} 1\n",
    )
    .await;
    shows(address, "/readyz", "\r\n\r\nok").await;
    stop.cancel();
}
