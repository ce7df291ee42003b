//! What a running process tells over HTTP: `/metrics` for Prometheus, `/healthz`, `/readyz`.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use cambium_clickhouse::WriterStatus;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

/// What makes a process ready.
#[derive(Clone, Default)]
pub struct Readiness {
    /// The group was joined, and every partition that it gave is started.
    pub has_partitions: Arc<AtomicBool>,
    pub writer: Arc<WriterStatus>,
}

impl Readiness {
    fn missing(&self) -> Option<&'static str> {
        if self.writer.failing.load(Ordering::Relaxed) > 0 {
            return Some("ClickHouse does not take rows");
        }
        let has_partitions = self.has_partitions.load(Ordering::Relaxed);
        (!has_partitions).then_some("no partition is assigned yet")
    }
}

/// Upper ends of the buckets of histograms, in seconds.
const SECONDS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];

/// Collects metrics from now on, and serves them until the process ends. An address that is taken is said,
/// and is no reason not to count.
pub async fn serve(listen: &str, readiness: Readiness) -> Result<()> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be collected")?;
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!("[http] listen: cannot listen on {listen}: {error}; no metrics are served");
            return Ok(());
        }
    };
    let address = listener.local_addr().context("the address is not known")?;
    tracing::info!("metrics on http://{address}/metrics");
    let ready = move || {
        let missing = readiness.missing();
        async move {
            match missing {
                None => (StatusCode::OK, "ready\n".to_owned()),
                Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
            }
        }
    };
    let router = Router::new()
        .route("/metrics", get(move || async move { recorder.render() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready));
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(())
}
