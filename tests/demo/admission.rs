//! The pods of the example manifests, as the API server would ask about them, and what the webhook adds.

use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use certs::reload::ClientTls;
use certs::settings::TlsSettings;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use json_patch::Patch;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tests::programs;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

use crate::{screen, stage::Stage};

/// Sends the review of the first workload of each example and shows the difference.
pub(crate) async fn show(stage: &Stage) -> anyhow::Result<()> {
    for (file, what) in [
        (
            "broker.yaml",
            "a broker's pod (StatefulSet labs-nats-cluster in nats-io)",
        ),
        (
            "consumer.yaml",
            "a consumer's pod (Deployment in appnamespace)",
        ),
    ] {
        let (namespace, pod) = pod_of(file)?;
        let patch = review(stage, &namespace, &pod).await?;
        let mut admitted = pod.clone();
        json_patch::patch(&mut admitted, &patch).context("the patch does not apply")?;
        screen::difference(what, &yaml(&pod)?, &yaml(&admitted)?);
        screen::fact("operations", &patch.0.len().to_string());
    }
    Ok(())
}

/// Namespace and pod of the first workload in an example.
fn pod_of(file: &str) -> anyhow::Result<(String, Value)> {
    let path = programs::root().join("deploy/examples").join(file);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let workload = documents
        .iter()
        .find(|document| document["spec"]["template"].is_object());
    let workload = workload.with_context(|| format!("{file} has no workload"))?;
    let template = &workload["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    let name = workload["metadata"]["name"]
        .as_str()
        .context("a workload without name")?;
    // As the controller that makes the pod sets them.
    pod["metadata"]["name"] = format!("{name}-0").into();
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": name,
        "uid": "8f9c6f0e-52b7-4a53-8b1c-6b2b8d3a0001",
        "controller": true,
    }]);
    let namespace = workload["metadata"]["namespace"]
        .as_str()
        .unwrap_or("default");
    Ok((namespace.to_owned(), pod))
}

fn yaml(value: &Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

/// Asks over HTTPS, verifying the webhook's certificate, as the API server does.
async fn review(stage: &Stage, namespace: &str, pod: &Value) -> anyhow::Result<Patch> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "5c3a1fd2-2f6e-4b1c-9c53-0d7f7f1a0001",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": namespace,
            "operation": "CREATE",
            "userInfo": {"username": "system:serviceaccount:kube-system:statefulset-controller"},
            "object": pod,
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    });
    let tls = ClientTls::load(TlsSettings::trusting(stage.ca()))?.current();
    let stream = TcpStream::connect(("127.0.0.1", stage.webhook)).await?;
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = TlsConnector::from(Arc::clone(&tls))
        .connect(name, stream)
        .await
        .context("TLS")?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = hyper::Request::post("/mutate")
        .header("host", "127.0.0.1")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(review.to_string())))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await?;
    ensure!(
        response.status().is_success(),
        "the webhook answered {}",
        response.status()
    );
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).context("the answer is no JSON")?;
    let response = &answer["response"];
    ensure!(
        response["allowed"] == true,
        "refused: {}",
        response["status"]["message"]
    );
    let patch = response["patch"].as_str().context("no patch")?;
    serde_json::from_slice(&STANDARD.decode(patch)?).context("the patch is no JSON Patch")
}
