//! Counts metrics for `/metrics`.
//!
//! The types hide the exporter, so that its version is no part of this crate's interface.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper bounds of the buckets for times, in seconds.
const TIME_BUCKETS: [f64; 17] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];

/// A recorder for the metrics of a node. Install it with `metrics::set_global_recorder`, and give its handle
/// to [`serve()`](super::http::serve()).
///
/// Times are counted in buckets, so its memory does not grow with the time that the node runs.
#[derive(Debug)]
pub struct MetricsRecorder(PrometheusRecorder);

impl MetricsRecorder {
    /// A way to read what was recorded.
    #[must_use]
    pub fn handle(&self) -> MetricsHandle {
        MetricsHandle(self.0.handle())
    }
}

/// Reads what a [`MetricsRecorder`] has recorded.
#[derive(Clone, Debug)]
pub struct MetricsHandle(PrometheusHandle);

impl MetricsHandle {
    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Empties what has gathered without a scrape; to be called now and then.
    pub(super) fn run_upkeep(&self) {
        self.0.run_upkeep();
    }
}

/// A recorder for the metrics of a node.
///
/// # Panics
///
/// Never: there are buckets.
#[must_use]
pub fn recorder() -> MetricsRecorder {
    let builder = PrometheusBuilder::new().set_buckets(&TIME_BUCKETS);
    MetricsRecorder(builder.expect("there are buckets").build_recorder())
}

impl Recorder for MetricsRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.0.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(key, metadata)
    }
}
