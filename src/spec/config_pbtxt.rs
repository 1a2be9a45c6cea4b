//! Reads Triton's `config.pbtxt` as people have it, so that a Triton repository of ONNX models is served as it is. What has a
//! counterpart becomes a key of the model's configuration; what would change answers and has none is a problem; the rest is
//! noted. Called by the registry's scan and by `weir check`.

use std::time::Duration;

use crate::types::{BatchLimit, DType, EngineChoice, Version, VersionPolicy};

use super::{
    declared::{Declared, DeclaredBatch, DeclaredTensor},
    model_toml::{MAX_BATCH_ROWS, MAX_DEADLINE_MS, MAX_DELAY_MICROSECONDS, MAX_PRIORITY_LEVELS, MAX_QUEUE_ROWS},
    partial::{Key, PartialSpec, Placed, SpecFile},
    pbtxt_raw::{self, Config, DynamicBatching, Io},
    pbtxt_scan::Scan,
    problem::{Place, Problem, quoted},
};

/// What a `config.pbtxt` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PbtxtConfig {
    /// The keys it sets.
    pub keys: PartialSpec,
    /// The inputs and outputs it declares; whoever loads the model checks them against it.
    pub declared: Declared,
    /// The label files it names: plain names of files in the model's folder.
    pub label_files: Vec<LabelFile>,
    /// What it says that has no effect here.
    pub notes: Vec<Problem>,
}

/// The file with the class names of an output, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFile {
    /// The output.
    pub output: Box<str>,
    /// The file in the model's folder.
    pub file: Box<str>,
    /// The key, for example `output[0].label_filename`.
    pub key: String,
    /// Where the name stands.
    pub place: Place,
}

/// Fields that cannot be honoured and must not be overlooked.
const REFUSED: [(&str, &str); 5] = [
    ("sequence_batching", "sequence batching is not supported"),
    ("ensemble_scheduling", "ensembles are routes here: write a route.toml"),
    ("batch_input", "ragged batches are not supported"),
    ("batch_output", "ragged batches are not supported"),
    ("model_repository_agents", "repository agents are not run"),
];

/// Fields that change nothing here.
const IGNORED: [(&str, &str); 12] = [
    ("runtime", "ignored: engine in model.toml chooses what runs the model"),
    ("optimization", "ignored: the engine optimises by itself"),
    ("cc_model_filenames", "ignored: models run on the CPU"),
    ("metric_tags", "ignored: metrics carry model and version"),
    ("parameters", "ignored: parameters are for other backends"),
    ("model_warmup", "ignored: every version is warmed up before it serves"),
    ("model_operations", "ignored: operator libraries are not loaded"),
    ("response_cache", "ignored: there is no response cache"),
    ("model_metrics", "ignored: histogram bounds are fixed"),
    ("dynamic_batching.preserve_ordering", "ignored: every request gets its own answer"),
    ("dynamic_batching.priority_queue_policy", "ignored: one queue policy holds for all priority levels"),
    ("dynamic_batching.default_queue_policy.allow_timeout_override", "ignored: a request may always ask for less time"),
];

const KIND_GPU: i32 = 1;
const TIMEOUT_DELAY: i32 = 1;

/// Reads a `config.pbtxt`; `folder` is the name of the model's folder, which its `name` must repeat if it has one.
///
/// # Errors
/// Every problem that was found, in the order of the text.
pub fn parse_config_pbtxt(text: &str, folder: &str) -> Result<PbtxtConfig, Vec<Problem>> {
    let (config, scan) = pbtxt_raw::parse(text)?;
    let mut reader = Reader { scan, problems: Vec::new(), out: PbtxtConfig::default() };
    reader.identity(&config, folder);
    reader.versions(&config);
    reader.batch_size(&config);
    if let Some(batching) = &config.dynamic_batching {
        reader.batching(batching);
    }
    reader.tensors(&config);
    reader.instances(&config);
    reader.presence();
    let Reader { mut problems, mut out, .. } = reader;
    problems.extend(out.keys.contradictions().into_iter().map(|(_, problem)| problem));
    problems.sort_by_key(|problem| (problem.line, problem.column));
    out.notes.sort_by_key(|note| (note.line, note.column));
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

struct Reader<'t> {
    scan: Scan<'t>,
    problems: Vec<Problem>,
    out: PbtxtConfig,
}

impl Reader<'_> {
    fn place(&self, path: &str) -> Place {
        self.scan.value_place(path).unwrap_or_default()
    }

    fn problem(&mut self, path: &str, text: impl Into<String>) {
        let problem = self.place(path).problem(path, text);
        self.problems.push(problem);
    }

    fn note(&mut self, path: &str, text: &str) {
        let note = self.scan.name_place(path).unwrap_or_default().problem(path, text);
        self.out.notes.push(note);
    }

    fn has(&self, path: &str) -> bool {
        self.scan.name_place(path).is_some()
    }

    /// The value with its place; `None` where the text does not set the field.
    fn key<T>(&self, path: &str, value: T) -> Key<T> {
        self.has(path).then(|| Placed { value, file: SpecFile::ConfigPbtxt, place: self.place(path) })
    }

    /// The number if it is in the range, else a problem.
    fn number(&mut self, path: &str, number: impl Into<i128>, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number: i128 = number.into();
        let fits = u64::try_from(number).ok().filter(|number| range.contains(number));
        if fits.is_none() {
            let text = format!("expected an integer from {} to {}, got {number}", range.start(), range.end());
            self.problem(path, text);
        }
        fits
    }

    /// The name if it is one of a file in the folder itself, else a problem.
    fn file_name(&mut self, path: &str, name: &str) -> Option<Box<str>> {
        if !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']) {
            return Some(name.into());
        }
        self.problem(path, format!("expected a plain file name, got {}", quoted(name)));
        None
    }

    fn identity(&mut self, config: &Config, folder: &str) {
        if !config.name.is_empty() && config.name != folder {
            self.problem("name", format!("expected {} as the folder, got {}", quoted(folder), quoted(&config.name)));
        }
        match config.platform.as_str() {
            "" | "onnxruntime_onnx" => {}
            "ensemble" => self.problem("platform", "ensembles are routes here: write a route.toml"),
            other => self.problem("platform", format!("expected 'onnxruntime_onnx', got {}", quoted(other))),
        }
        match config.backend.as_str() {
            "" | "onnxruntime" => {}
            "tract" => self.out.keys.engine = self.key("backend", EngineChoice::Tract),
            other => self.problem("backend", format!("expected 'onnxruntime' or 'tract', got {}", quoted(other))),
        }
        if self.has("default_model_filename") {
            let name = self.file_name("default_model_filename", &config.default_model_filename);
            self.out.keys.model_filename = name.and_then(|name| self.key("default_model_filename", name));
        }
        if config.model_transaction_policy.decoupled {
            self.problem("model_transaction_policy.decoupled", "decoupled models are not supported");
        }
    }

    fn versions(&mut self, config: &Config) {
        let policy = &config.version_policy;
        let value = if let Some(latest) = &policy.latest {
            let path = "version_policy.latest.num_versions";
            let count = if self.has(path) { self.number(path, latest.num_versions, 1..=1_000_000) } else { Some(1) };
            count.and_then(|count| usize::try_from(count).ok()).map(VersionPolicy::Latest)
        } else if let Some(specific) = &policy.specific {
            self.specific_versions(&specific.versions)
        } else {
            policy.all.as_ref().map(|_| VersionPolicy::All)
        };
        self.out.keys.versions = value.and_then(|value| self.key("version_policy", value));
    }

    fn specific_versions(&mut self, numbers: &[i64]) -> Option<VersionPolicy> {
        let path = "version_policy.specific.versions";
        let path = if self.has(path) { path } else { "version_policy.specific" };
        if numbers.is_empty() {
            self.problem(path, "expected at least one version");
            return None;
        }
        let mut versions = Vec::with_capacity(numbers.len());
        for number in numbers {
            match u64::try_from(*number).ok().and_then(Version::new) {
                Some(version) => versions.push(version),
                None => {
                    let text = format!("expected versions: integers from 1 with at most 18 digits, got {number}");
                    self.problem(path, text);
                    return None;
                }
            }
        }
        versions.sort_unstable();
        versions.dedup();
        Some(VersionPolicy::Only(versions))
    }

    /// `max_batch_size` is what a request may have. It is the batch limit too where requests are to be merged; without
    /// `dynamic_batching` Weir decides about merging by itself.
    fn batch_size(&mut self, config: &Config) {
        const PATH: &str = "max_batch_size";
        if !self.has(PATH) {
            return;
        }
        let Some(size) = self.number(PATH, config.max_batch_size, 0..=MAX_BATCH_ROWS) else { return };
        let rows = usize::try_from(size).unwrap_or(usize::MAX);
        if rows == 0 {
            self.out.declared.batch = DeclaredBatch::Absent;
            self.out.keys.max_batch_size = self.key(PATH, BatchLimit::Whole);
            if config.dynamic_batching.is_some() {
                self.note("dynamic_batching", "ignored: max_batch_size is 0, so requests are not merged");
            }
            return;
        }
        self.out.declared.batch = DeclaredBatch::Before;
        self.out.keys.max_request_rows = self.key(PATH, rows);
        if config.dynamic_batching.is_some() {
            self.out.keys.max_batch_size = self.key(PATH, BatchLimit::Rows(rows));
        }
    }

    fn batching(&mut self, batching: &DynamicBatching) {
        const PREFERRED: &str = "dynamic_batching.preferred_batch_size";
        const DELAY: &str = "dynamic_batching.max_queue_delay_microseconds";
        const LEVELS: &str = "dynamic_batching.priority_levels";
        const LEVEL: &str = "dynamic_batching.default_priority_level";
        const TIMEOUT: &str = "dynamic_batching.default_queue_policy.default_timeout_microseconds";
        const QUEUE: &str = "dynamic_batching.default_queue_policy.max_queue_size";
        let sizes = batching.preferred_batch_size.iter().map(|size| self.number(PREFERRED, *size, 1..=MAX_BATCH_ROWS));
        let sizes: Vec<_> = sizes.collect();
        if let Some(mut sizes) = sizes.into_iter().map(|size| usize::try_from(size?).ok()).collect::<Option<Vec<_>>>() {
            sizes.sort_unstable();
            sizes.dedup();
            self.out.keys.preferred_batch_size = self.key(PREFERRED, sizes);
        }
        if let Some(delay) = self.number(DELAY, batching.max_queue_delay_microseconds, 0..=MAX_DELAY_MICROSECONDS) {
            self.out.keys.max_queue_delay = self.key(DELAY, Duration::from_micros(delay));
        }
        let levels = self.number(LEVELS, batching.priority_levels, 0..=MAX_PRIORITY_LEVELS);
        self.out.keys.priority_levels = levels.and_then(|n| self.key(LEVELS, u32::try_from(n).ok()?));
        let level = self.number(LEVEL, batching.default_priority_level, 0..=MAX_PRIORITY_LEVELS);
        self.out.keys.default_priority_level = level.and_then(|n| self.key(LEVEL, u32::try_from(n).ok()?));
        let policy = &batching.default_queue_policy;
        if let Some(timeout @ 1..) =
            self.number(TIMEOUT, policy.default_timeout_microseconds, 0..=MAX_DEADLINE_MS * 1000)
        {
            let deadline = Some(Duration::from_micros(timeout));
            self.out.keys.deadline = self.key(TIMEOUT, deadline);
            self.out.keys.deadline_max = self.key(TIMEOUT, deadline);
        }
        if let Some(rows @ 1..) = self.number(QUEUE, policy.max_queue_size, 0..=MAX_QUEUE_ROWS) {
            self.out.keys.max_queue_rows = self.key(QUEUE, usize::try_from(rows).unwrap_or(usize::MAX));
            self.note(QUEUE, "counted in rows, not in requests");
        }
        if policy.timeout_action == TIMEOUT_DELAY {
            let path = "dynamic_batching.default_queue_policy.timeout_action";
            self.note(path, "ignored: a request whose time is over is refused");
        }
    }

    fn tensors(&mut self, config: &Config) {
        for (side, ios) in [("input", &config.input), ("output", &config.output)] {
            for (i, io) in ios.iter().enumerate() {
                let path = format!("{side}[{i}]");
                if io.name.is_empty() {
                    self.problem(&path, "expected a name");
                } else if ios[..i].iter().any(|other| other.name == io.name) {
                    self.problem(&format!("{path}.name"), format!("{} is declared twice", quoted(&io.name)));
                }
                self.tensor_flags(&path, io);
                let declared = self.tensor(&path, io);
                match side {
                    "input" => self.out.declared.inputs.extend(declared),
                    _ => self.out.declared.outputs.extend(declared),
                }
            }
        }
    }

    fn tensor(&mut self, path: &str, io: &Io) -> Option<DeclaredTensor> {
        if self.has(&format!("{path}.label_filename")) {
            let key = format!("{path}.label_filename");
            let file = self.file_name(&key, &io.label_filename)?;
            let place = self.place(&key);
            self.out.label_files.push(LabelFile { output: io.name.as_str().into(), file, key, place });
        }
        let mut dims = Vec::with_capacity(io.dims.len());
        for dim in &io.dims {
            let size = usize::try_from(*dim).ok().filter(|size| *size > 0);
            if size.is_none() && *dim != -1 {
                self.problem(&format!("{path}.dims"), format!("expected -1 or sizes from 1, got {dim}"));
                return None;
            }
            dims.push(size);
        }
        let dtype = declared_dtype(io.data_type);
        if dtype.is_none() && io.data_type != 0 {
            self.problem(&format!("{path}.data_type"), format!("unknown data type {}", io.data_type));
            return None;
        }
        let place = self.place(path);
        Some(DeclaredTensor { name: io.name.as_str().into(), dtype, dims, key: path.to_owned(), place })
    }

    fn tensor_flags(&mut self, path: &str, io: &Io) {
        let reshape = format!("{path}.reshape");
        if self.has(&reshape) {
            self.problem(&reshape, "reshape is not supported: the model's own shapes are served");
        }
        if io.is_shape_tensor {
            self.problem(&format!("{path}.is_shape_tensor"), "shape tensors are for other backends");
        }
        if io.is_non_linear_format_io {
            self.problem(&format!("{path}.is_non_linear_format_io"), "non-linear formats are for other backends");
        }
        if io.allow_ragged_batch {
            let text = "ignored: only requests of the same shape are merged";
            self.note(&format!("{path}.allow_ragged_batch"), text);
        }
        if io.optional {
            self.note(&format!("{path}.optional"), "ignored: every input of the model is required");
        }
        let format = format!("{path}.format");
        if self.has(&format) {
            self.note(&format, "ignored: the model's own layout is served");
        }
    }

    fn instances(&mut self, config: &Config) {
        for (i, group) in config.instance_group.iter().enumerate() {
            let text = if group.kind == KIND_GPU {
                "ignored: models run on the CPU, on all workers"
            } else {
                "ignored: all workers run the model, see resources.max_parallel_batches in model.toml"
            };
            self.note(&format!("instance_group[{i}]"), text);
        }
    }

    fn presence(&mut self) {
        for (path, text) in REFUSED {
            if self.has(path) {
                self.problem(path, text);
            }
        }
        for (path, text) in IGNORED {
            if self.has(path) {
                self.note(path, text);
            }
        }
    }
}

/// The datatype of a `DataType` number.
fn declared_dtype(number: i32) -> Option<DType> {
    const NUMBERED: [DType; 14] = [
        DType::Bool,
        DType::Uint8,
        DType::Uint16,
        DType::Uint32,
        DType::Uint64,
        DType::Int8,
        DType::Int16,
        DType::Int32,
        DType::Int64,
        DType::Fp16,
        DType::Fp32,
        DType::Fp64,
        DType::Bytes,
        DType::Bf16,
    ];
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    NUMBERED.get(index).copied()
}

#[cfg(test)]
#[path = "config_pbtxt_tests.rs"]
mod tests;
