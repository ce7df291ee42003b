//! What a running process tells over HTTP: `/metrics` for Prometheus, `/healthz`, `/readyz`.

use std::future::IntoFuture;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio::net::TcpListener;

/// Upper ends of the buckets of histograms, in seconds.
const SECONDS: [f64; 12] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0,
];

/// Collects metrics from now on, and serves them until the process ends; it is ready while nothing is missing.
/// An address that is taken is said, and is no reason not to count. Empty: nothing is served.
pub async fn serve<F>(listen: &str, missing: F) -> Result<()>
where
    F: Fn() -> Option<&'static str> + Clone + Send + Sync + 'static,
{
    if listen.is_empty() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics cannot be collected")?;
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(
                "[http] listen: cannot listen on {listen}: {error}; this process serves no metrics"
            );
            return Ok(());
        }
    };
    let address = listener.local_addr().context("the address is not known")?;
    tracing::info!("metrics on http://{address}/metrics");
    let ready = move || {
        let missing = missing();
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
