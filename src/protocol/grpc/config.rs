//! The model configuration extension: what was loaded, as the `ModelConfig` that Triton's clients and load generators read.

use std::{collections::HashMap, time::UNIX_EPOCH};

use crate::{
    protocol::pb::{self, model_config::SchedulingChoice, model_version_policy as policy},
    types::{Batch, BatchingSpec, ConfigView, DType, ModelConfigView, RouteConfigView, TensorSpec, VersionPolicy},
};

/// What the configuration calls the format of every model.
const PLATFORM: &str = "onnx_onnxv1";

/// The configuration of a model or route.
pub fn config(view: &ConfigView) -> pb::ModelConfigResponse {
    match view {
        ConfigView::Model(view) => model_config(view),
        ConfigView::Route(view) => route_config(view),
    }
}

/// The configuration of a route: its inputs and outputs, and in `parameters.weir_route` everything else.
fn route_config(view: &RouteConfigView) -> pb::ModelConfigResponse {
    let batched = view.signature.batch == Batch::Rows;
    let entries = [("weir_revision", view.version.to_string()), ("weir_route", view.json.clone())];
    let config = pb::ModelConfig {
        name: view.name.to_string(),
        platform: view.platform.to_owned(),
        max_batch_size: if batched { saturated(view.max_request_rows) } else { 0 },
        input: view.signature.inputs.iter().map(|spec| input(spec, batched)).collect(),
        output: view.signature.outputs.iter().map(|spec| output(spec, batched)).collect(),
        parameters: named(entries.into_iter()),
        ..Default::default()
    };
    pb::ModelConfigResponse { config: Some(config) }
}

/// The configuration of a loaded version. `max_batch_size` is how many rows a request may have (0 without a batch dimension, and
/// then `dims` are complete); the largest batch that is formed is in `parameters.weir_batch_limit`.
pub(in crate::protocol) fn model_config(view: &ModelConfigView) -> pb::ModelConfigResponse {
    let batched = view.signature.batch == Batch::Rows;
    let merges = batched && view.merging_off.is_none();
    let config = pb::ModelConfig {
        name: view.name.to_string(),
        platform: PLATFORM.to_owned(),
        backend: view.engine.to_owned(),
        version_policy: Some(version_policy(&view.versions)),
        max_batch_size: if batched { saturated(view.max_request_rows) } else { 0 },
        input: view.signature.inputs.iter().map(|spec| input(spec, batched)).collect(),
        output: view.signature.outputs.iter().map(|spec| output(spec, batched)).collect(),
        scheduling_choice: merges.then(|| SchedulingChoice::DynamicBatching(dynamic_batching(&view.batching))),
        parameters: parameters(view),
        ..Default::default()
    };
    pb::ModelConfigResponse { config: Some(config) }
}

fn version_policy(wanted: &VersionPolicy) -> pb::ModelVersionPolicy {
    let choice = match wanted {
        VersionPolicy::Latest(count) => {
            policy::PolicyChoice::Latest(policy::Latest { num_versions: u32::try_from(*count).unwrap_or(u32::MAX) })
        }
        VersionPolicy::All => policy::PolicyChoice::All(policy::All {}),
        VersionPolicy::Only(versions) => policy::PolicyChoice::Specific(policy::Specific {
            versions: versions.iter().map(|version| i64::try_from(version.get()).unwrap_or(i64::MAX)).collect(),
        }),
    };
    pb::ModelVersionPolicy { policy_choice: Some(choice) }
}

fn input(spec: &TensorSpec, batched: bool) -> pb::ModelInput {
    let (dims, reshape) = dims(spec, batched);
    pb::ModelInput {
        name: spec.name.to_string(),
        data_type: data_type(spec.dtype),
        dims,
        reshape,
        ..Default::default()
    }
}

fn output(spec: &TensorSpec, batched: bool) -> pb::ModelOutput {
    let (dims, reshape) = dims(spec, batched);
    pb::ModelOutput {
        name: spec.name.to_string(),
        data_type: data_type(spec.dtype),
        dims,
        reshape,
        ..Default::default()
    }
}

/// Sizes without the batch dimension. `dims` may not be empty, so a single value per row is `[1]`, reshaped to nothing.
fn dims(spec: &TensorSpec, batched: bool) -> (Vec<i64>, Option<pb::ModelTensorReshape>) {
    let mut dims = spec.wire_shape();
    if batched && !dims.is_empty() {
        dims.remove(0);
    }
    if dims.is_empty() { (vec![1], Some(pb::ModelTensorReshape { shape: Vec::new() })) } else { (dims, None) }
}

fn dynamic_batching(spec: &BatchingSpec) -> pb::ModelDynamicBatching {
    pb::ModelDynamicBatching {
        preferred_batch_size: spec.preferred_batch_size.iter().map(|rows| saturated(*rows)).collect(),
        max_queue_delay_microseconds: u64::try_from(spec.max_queue_delay.as_micros()).unwrap_or(u64::MAX),
        priority_levels: u64::from(spec.priority_levels),
        default_priority_level: u64::from(spec.default_priority_level),
        default_queue_policy: Some(pb::ModelQueuePolicy {
            allow_timeout_override: true,
            max_queue_size: u32::try_from(spec.max_queue_rows).unwrap_or(u32::MAX),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn parameters(view: &ModelConfigView) -> HashMap<String, pb::ModelParameter> {
    let loaded = view.loaded_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut entries = vec![
        ("weir_version", view.version.to_string()),
        ("weir_batch_limit", view.batch_limit.to_string()),
        ("weir_digest", view.digest.to_string()),
        ("weir_loaded_at_ms", loaded.to_string()),
    ];
    if let Some(reason) = &view.merging_off {
        entries.push(("weir_merging_off", reason.to_string()));
    }
    named(entries.into_iter())
}

fn named(entries: impl Iterator<Item = (&'static str, String)>) -> HashMap<String, pb::ModelParameter> {
    entries.map(|(name, string_value)| (name.to_owned(), pb::ModelParameter { string_value })).collect()
}

fn saturated(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn data_type(dtype: DType) -> i32 {
    let named = match dtype {
        DType::Bool => pb::DataType::TypeBool,
        DType::Uint8 => pb::DataType::TypeUint8,
        DType::Uint16 => pb::DataType::TypeUint16,
        DType::Uint32 => pb::DataType::TypeUint32,
        DType::Uint64 => pb::DataType::TypeUint64,
        DType::Int8 => pb::DataType::TypeInt8,
        DType::Int16 => pb::DataType::TypeInt16,
        DType::Int32 => pb::DataType::TypeInt32,
        DType::Int64 => pb::DataType::TypeInt64,
        DType::Fp16 => pb::DataType::TypeFp16,
        DType::Bf16 => pb::DataType::TypeBf16,
        DType::Fp32 => pb::DataType::TypeFp32,
        DType::Fp64 => pb::DataType::TypeFp64,
        DType::Bytes => pb::DataType::TypeString,
    };
    named.into()
}

#[cfg(test)]
pub(in crate::protocol) mod tests {
    use std::{
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::*;
    use crate::types::{Signature, Version};

    /// A model of one FP32 input [rows, 4] and one INT64 output [rows].
    pub(in crate::protocol) fn view() -> ModelConfigView {
        let spec =
            |name: &str, dtype, shape: &[Option<usize>]| TensorSpec { name: name.into(), dtype, shape: shape.to_vec() };
        let signature = Signature {
            inputs: vec![spec("x", DType::Fp32, &[None, Some(4)])],
            outputs: vec![spec("label", DType::Int64, &[None])],
            batch: Batch::Rows,
        };
        ModelConfigView {
            name: "iris".into(),
            version: "3".into(),
            signature: Arc::new(signature),
            versions: VersionPolicy::Latest(2),
            batching: BatchingSpec { max_queue_delay: Duration::from_micros(250), ..BatchingSpec::default() },
            max_request_rows: 65536,
            batch_limit: 16,
            engine: "tract",
            digest: "abc".into(),
            merging_off: None,
            loaded_at: SystemTime::UNIX_EPOCH + Duration::from_millis(5),
        }
    }

    #[test]
    fn a_batching_model() {
        let config = model_config(&view()).config.unwrap();
        assert_eq!((config.max_batch_size, &*config.platform, &*config.backend), (65536, "onnx_onnxv1", "tract"));
        assert_eq!(config.input[0].dims, [4]);
        assert_eq!((&config.output[0].dims[..], config.output[0].data_type), (&[1][..], 9));
        assert_eq!(config.output[0].reshape.as_ref().unwrap().shape, [0_i64; 0]);
        assert_eq!(config.parameters["weir_batch_limit"].string_value, "16");
        let Some(SchedulingChoice::DynamicBatching(batching)) = config.scheduling_choice else { panic!("batching") };
        assert_eq!(batching.max_queue_delay_microseconds, 250);
        assert_eq!(batching.default_queue_policy.unwrap().max_queue_size, 4096);
    }

    #[test]
    fn a_model_served_whole() {
        let mut whole = view();
        whole.merging_off = Some("row 3 of output y depends on its neighbours".into());
        let config = model_config(&whole).config.unwrap();
        assert_eq!((config.scheduling_choice, config.max_batch_size), (None, 65536));
        assert!(config.parameters["weir_merging_off"].string_value.starts_with("row 3"));
        let mut fixed = view();
        Arc::make_mut(&mut fixed.signature).batch = Batch::None;
        let config = model_config(&fixed).config.unwrap();
        assert_eq!((config.max_batch_size, &config.input[0].dims[..]), (0, &[-1, 4][..]));
    }

    #[test]
    fn a_route() {
        let model = view();
        let view = RouteConfigView {
            name: "checkout".into(),
            version: "12".into(),
            signature: model.signature,
            max_request_rows: 65536,
            platform: "weir_split",
            json: r#"{"kind":"split"}"#.to_owned(),
        };
        let config = config(&ConfigView::Route(view)).config.unwrap();
        assert_eq!((&*config.name, &*config.platform, config.max_batch_size), ("checkout", "weir_split", 65536));
        assert_eq!(config.input[0].dims, [4]);
        assert_eq!(config.parameters["weir_route"].string_value, r#"{"kind":"split"}"#);
        assert_eq!(config.parameters["weir_revision"].string_value, "12");
    }

    #[test]
    fn version_policies() {
        use policy::PolicyChoice;
        let choice = |wanted| version_policy(&wanted).policy_choice.unwrap();
        assert_eq!(choice(VersionPolicy::All), PolicyChoice::All(policy::All {}));
        let one = VersionPolicy::Only(vec![Version::ONE]);
        assert_eq!(choice(one), PolicyChoice::Specific(policy::Specific { versions: vec![1] }));
        assert_eq!(choice(VersionPolicy::Latest(2)), PolicyChoice::Latest(policy::Latest { num_versions: 2 }));
    }

    #[test]
    fn every_datatype_is_named() {
        for dtype in DType::ALL {
            let named = pb::DataType::try_from(data_type(dtype)).unwrap();
            let want = if dtype == DType::Bytes { "TYPE_STRING".to_owned() } else { format!("TYPE_{dtype}") };
            assert_eq!(named.as_str_name(), want);
        }
    }
}
