//! Every metric there is: name, kind, unit, labels, help. One file, so that dashboards, documentation and code can be compared
//! with it; nothing outside `observe` spells a metric's name. Label sets are bounded: names that exist in the registry, fixed
//! words, at most [`MAX_CLASSES`] classes.

/// Classes that are counted under their own name; the rest is counted as [`OTHER_CLASS`].
pub const MAX_CLASSES: usize = 100;

/// The class label of everything beyond [`MAX_CLASSES`].
pub const OTHER_CLASS: &str = "other";

/// What a family's values do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl Kind {
    /// The word of the text format's TYPE line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric with its labels: what a HELP and a TYPE line stand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// The full name as scraped (histograms add `_bucket`, `_sum`, `_count`).
    pub name: &'static str,
    /// What its values do.
    pub kind: Kind,
    /// Base unit of the values.
    pub unit: &'static str,
    /// Label names, in the order in which values are given and rendered.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

macro_rules! families {
    ($( $(#[$doc:meta])* $id:ident = $kind:ident $name:literal [$($label:literal),*] $unit:literal $help:literal; )*) => {
        $(
            $(#[$doc])*
            pub static $id: Family =
                Family { name: $name, kind: Kind::$kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*
        /// Every family, sorted by name.
        pub static ALL: &[&Family] = &[$(&$id),*];
    };
}

families! {
    /// CPU time.
    PROCESS_CPU = Counter "process_cpu_seconds_total" [] "seconds"
        "User and system CPU time spent.";
    /// File descriptors.
    PROCESS_FDS = Gauge "process_open_fds" [] "descriptors"
        "Open file descriptors.";
    /// Memory.
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes" [] "bytes"
        "Resident memory.";
    /// Start time.
    PROCESS_START = Gauge "process_start_time_seconds" [] "seconds since the epoch"
        "When the process started.";
    /// Threads.
    PROCESS_THREADS = Gauge "process_threads" [] "threads"
        "Threads of the process.";
    /// Rows per batch.
    BATCH_ROWS = Histogram "weir_batch_rows" ["model", "version"] "rows"
        "Rows in each batch that was run, without padding.";
    /// Decisions of cascades.
    CASCADE_ROWS = Counter "weir_cascade_rows_total" ["route", "stage", "decision"] "rows"
        "Rows that a stage of a cascade decided on, by decision.";
    /// Thresholds of cascades.
    CASCADE_THRESHOLD = Gauge "weir_cascade_threshold" ["route", "stage"] "1"
        "The threshold in force: rows that measure at least this are accepted.";
    /// Budgets that cannot be held.
    CASCADE_SATURATED = Gauge "weir_cascade_threshold_saturated" ["route"] "1"
        "1 while holding the escalation budget would need a threshold below the floor, else 0.";
    /// Circuits.
    CIRCUIT = Gauge "weir_circuit_state" ["model", "version"] "1"
        "0 while requests pass, 1 while one finds out whether the model works again, 2 while they are refused because it fails.";
    /// Work that was run although its deadline had passed.
    EXECUTED_EXPIRED = Counter "weir_executed_expired_total" [] "requests"
        "Requests that were executed although their deadline had already passed; must stay 0.";
    /// Requests between arrival and answer.
    INFLIGHT = Gauge "weir_inflight_requests" [] "requests"
        "Requests that have arrived and are not answered yet.";
    /// Trials before loads.
    LOAD_PROBES = Counter "weir_load_probes_total" ["result"] "processes"
        "Processes that tried a model before it was loaded, by result: good, refused, died or not_started.";
    /// Log events lost.
    LOG_DROPPED = Counter "weir_log_dropped_total" [] "events"
        "Log events dropped because the log's reader was too slow; logging never blocks a request.";
    /// What is loaded.
    MODEL_INFO = Gauge "weir_model_info" ["model", "version", "engine", "digest"] "1"
        "1 for every loaded version.";
    /// Loads.
    MODEL_LOADS = Counter "weir_model_loads_total" ["model", "result"] "loads"
        "Attempts to load a version, by result: ok or failed.";
    /// Phases of a request.
    PHASE_DURATION = Histogram "weir_phase_duration_seconds" ["model", "version", "phase"] "seconds"
        "Time per request in decode, queue, gather, compute, scatter and encode; the phases of a request sum to its total.";
    /// Classes predicted.
    PREDICTED_CLASS = Counter "weir_predicted_class_total" ["model", "version", "variant", "class"] "rows"
        "Rows per predicted class; classes beyond the first 100 are counted as other.";
    /// Rows that wait.
    QUEUE_ROWS = Gauge "weir_queue_rows" ["model"] "rows"
        "Rows that wait in the queue.";
    /// Tenants that wait.
    QUEUE_TENANTS = Gauge "weir_queue_tenants" ["model", "version"] "tenants"
        "Tenants that have rows waiting in the queue.";
    /// Refused work.
    REJECTED = Counter "weir_rejected_total" ["model", "reason"] "requests"
        "Requests refused or dropped without being executed, by reason.";
    /// Latency as the server sees it.
    REQUEST_DURATION = Histogram "weir_request_duration_seconds" ["model", "version", "variant", "protocol"] "seconds"
        "Time from a request's last byte to its encoded answer, errors included.";
    /// Requests.
    REQUESTS = Counter "weir_requests_total" ["model", "version", "protocol", "code"] "requests"
        "Requests answered, by the name asked for, the version that answered and the result.";
    /// Phases of a route's request.
    ROUTE_PHASE = Histogram "weir_route_phase_duration_seconds" ["route", "phase"] "seconds"
        "Time per request to a route in decode, compose and encode; the phases of a request sum to its total.";
    /// Stages of a route.
    ROUTE_STAGE = Histogram "weir_route_stage_duration_seconds" ["route", "stage"] "seconds"
        "Time per request in a stage of a route, waiting included.";
    /// Pressure.
    SATURATION = Gauge "weir_saturation" [] "ratio"
        "Share of the workers that run a batch at this moment, 0 to 1.";
    /// Scores.
    SCORE = Histogram "weir_score" ["model", "version", "variant", "output", "kind"] "the model's own"
        "Scores per row: confidence (highest class probability), positive (probability of class 1) or value (regression).";
    /// Series that did not fit.
    SERIES_DROPPED = Counter "weir_series_dropped_total" [] "series"
        "Series that are not shown because the limit of 10000 had been reached.";
    /// How far shadows are off.
    SHADOW_ABSOLUTE = Histogram "weir_shadow_absolute_difference" ["route", "output"] "the model's own"
        "Largest absolute difference between the shadow's and the primary's answer, per row.";
    /// Time on both sides.
    SHADOW_DURATION = Histogram "weir_shadow_duration_seconds" ["route", "side"] "seconds"
        "Time of compared requests in the primary, waiting included, and in the shadow, without waiting.";
    /// Shadows given up.
    SHADOW_OFF = Gauge "weir_shadow_off" [] "1"
        "1 when shadows have been switched off because too many of their runs got stuck, else 0.";
    /// How far shadows are off, relatively.
    SHADOW_RELATIVE = Histogram "weir_shadow_relative_difference" ["route", "output"] "ratio"
        "Largest difference relative to the larger of the two values, per row.";
    /// What became of mirrored rows.
    SHADOW_ROWS = Counter "weir_shadow_rows_total" ["route", "result"] "rows"
        "Mirrored rows, by result.";
    /// Runs that do not end.
    SHADOW_STUCK = Counter "weir_shadow_stuck_total" [] "runs"
        "Runs of shadows that were given up because they did not end.";
    /// Another class on top.
    SHADOW_FLIPS = Counter "weir_shadow_top1_flips_total" ["route", "output"] "rows"
        "Rows whose highest score is in another column in the shadow's answer than in the primary's.";
    /// What splits chose.
    SPLIT_REQUESTS = Counter "weir_split_requests_total" ["route", "variant", "revision"] "requests"
        "Requests that a split sent to a variant, by the revision that decided.";
    /// Runs that do not end.
    WORKERS_STUCK = Counter "weir_workers_stuck_total" [] "workers"
        "Workers that were given up because their run did not end.";
}

/// The family of a name, or of a histogram's `_bucket`, `_sum` or `_count` name.
pub fn find(name: &str) -> Option<&'static Family> {
    let exact = |name: &str| ALL.iter().copied().find(|family| family.name == name);
    exact(name).or_else(|| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix))?;
        exact(base).filter(|family| family.kind == Kind::Histogram)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_well_formed() {
        assert!(ALL.is_sorted_by(|a, b| a.name < b.name));
        for family in ALL {
            let word = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            assert!(word(family.name) && family.labels.iter().all(|label| word(label)), "{}", family.name);
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.unit.is_empty(), "{}", family.name);
        }
    }

    #[test]
    fn histogram_parts_are_found() {
        assert_eq!(find("weir_score_bucket"), Some(&SCORE));
        assert_eq!(find("weir_requests_total"), Some(&REQUESTS));
        assert_eq!(find("weir_requests_total_sum"), None);
        assert_eq!(find("weir_nothing"), None);
    }

    /// The documentation has one table row per family, and no other.
    #[test]
    fn the_documentation_says_the_same() {
        let text = include_str!("../../docs/metrics.md");
        let mut rows: Vec<&str> =
            text.lines().filter(|line| line.starts_with("| `weir_") || line.starts_with("| `process_")).collect();
        rows.sort_unstable();
        let mut wanted: Vec<String> = ALL
            .iter()
            .map(|f| {
                let row = [&format!("`{}`", f.name), f.kind.as_str(), f.unit, &f.labels.join(", "), f.help];
                format!("| {} |", row.join(" | ")).replace("|  |", "| |")
            })
            .collect();
        // One name may be the beginning of another, and the quote sorts behind what follows there.
        wanted.sort_unstable();
        assert_eq!(rows, wanted);
    }
}
