//! Counts metrics for `/metrics`.
//!
//! The types hide the exporter, so that its version is no part of this crate's interface.

use std::collections::BTreeMap;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use paxos_core::NodeId;

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
pub struct MetricsRecorder {
    recorder: PrometheusRecorder,
    node: NodeId,
}

impl MetricsRecorder {
    /// A way to read what was recorded.
    #[must_use]
    pub fn handle(&self) -> MetricsHandle {
        MetricsHandle { handle: self.recorder.handle(), node: self.node }
    }
}

/// Reads what a [`MetricsRecorder`] has recorded.
#[derive(Clone, Debug)]
pub struct MetricsHandle {
    handle: PrometheusHandle,
    node: NodeId,
}

impl MetricsHandle {
    /// All metrics in the text format of Prometheus.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// The values of all samples whose names begin like this, by name and labels; without the label `node`,
    /// as that is the same in all.
    pub(super) fn samples(&self, beginnings: &[&str]) -> BTreeMap<String, f64> {
        let (alone, first) = (format!("{{node=\"{}\"}}", self.node), format!("{{node=\"{}\",", self.node));
        let text = self.render();
        let lines = text.lines().filter(|line| beginnings.iter().any(|name| line.starts_with(name)));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.replacen(&alone, "", 1).replacen(&first, "{", 1), value.parse().ok()?))
        };
        lines.filter_map(sample).collect()
    }

    /// Empties what has gathered without a scrape; to be called now and then.
    pub(super) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// A recorder for the metrics of the one node of this process: all that it records carries the label
/// `node="<id>"`, also what other parts of the process count.
///
/// There is no label for the [group](paxos_core::GroupId): a process has one. Where there are several, those
/// other than [`GroupId::ONLY`](paxos_core::GroupId::ONLY) will have a label `group`, and that one will have
/// none: to Prometheus, a label that is missing is an empty one, so what is asked today goes on as it is.
///
/// # Panics
///
/// Never: there are buckets.
#[must_use]
pub fn recorder(node: NodeId) -> MetricsRecorder {
    let builder = PrometheusBuilder::new().add_global_label("node", node.to_string());
    let builder = builder.set_buckets(&TIME_BUCKETS).expect("there are buckets");
    MetricsRecorder { recorder: builder.build_recorder(), node }
}

impl Recorder for MetricsRecorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.recorder.describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.recorder.register_histogram(key, metadata)
    }
}
