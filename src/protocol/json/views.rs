//! What can be asked about models, as JSON. It is made from the gRPC messages, so both protocols tell the same: proto field names,
//! numbers as numbers, and fields with default values included.

use std::sync::OnceLock;

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::{
    protocol::{
        grpc::views as messages,
        pb,
        settings::{LogSettings, LogValue, TRACE},
    },
    types::{ConfigView, Error, IndexEntry, ModelMetadata, ModelStatistics, ServerMetadata},
};

/// Name, version and extensions of the server.
///
/// # Errors
/// `Internal` when the message does not fit its descriptor, which the tests rule out; so for all of these.
pub fn server_metadata(view: &ServerMetadata) -> Result<Bytes, Error> {
    write("ServerMetadataResponse", &messages::server_metadata(view))
}

/// A model's versions, inputs and outputs.
///
/// # Errors
/// As [`server_metadata`].
pub fn model_metadata(view: &ModelMetadata) -> Result<Bytes, Error> {
    write("ModelMetadataResponse", &messages::model_metadata(view))
}

/// The configuration of a model or route.
///
/// # Errors
/// As [`server_metadata`].
pub fn config(view: &ConfigView) -> Result<Bytes, Error> {
    write("ModelConfig", &messages::config(view).config.unwrap_or_default())
}

/// Statistics of servables.
///
/// # Errors
/// As [`server_metadata`].
pub fn statistics(views: &[ModelStatistics]) -> Result<Bytes, Error> {
    write("ModelStatisticsResponse", &messages::statistics(views))
}

/// The repository index: in HTTP a bare list.
///
/// # Errors
/// As [`server_metadata`].
pub fn index(entries: &[IndexEntry]) -> Result<Bytes, Error> {
    #[derive(Serialize)]
    struct Line<'e> {
        name: &'e str,
        version: &'e str,
        state: &'e str,
        #[serde(skip_serializing_if = "str::is_empty")]
        reason: &'e str,
    }
    let mut lines = Vec::with_capacity(entries.len());
    for IndexEntry { name, version, state, reason } in entries {
        lines.push(Line { name, version, state: state.as_str(), reason });
    }
    json(&lines)
}

/// The names of the models that answer, for `GET /v2/models`.
///
/// # Errors
/// As [`server_metadata`].
pub fn model_names(names: &[&str]) -> Result<Bytes, Error> {
    json(&serde_json::json!({ "models": names }))
}

/// The body of a liveness check.
pub fn live(live: bool) -> Bytes {
    Bytes::from_static(if live { b"{\"live\":true}" } else { b"{\"live\":false}" })
}

/// The body of the server's readiness check.
pub fn ready(ready: bool) -> Bytes {
    Bytes::from_static(if ready { b"{\"ready\":true}" } else { b"{\"ready\":false}" })
}

/// The body of a model's readiness check.
///
/// # Errors
/// As [`server_metadata`].
pub fn model_ready(name: &str, ready: bool) -> Result<Bytes, Error> {
    json(&serde_json::json!({ "name": name, "ready": ready }))
}

/// The trace settings in force.
///
/// # Errors
/// As [`server_metadata`].
pub fn trace_settings() -> Result<Bytes, Error> {
    json(&Entries(TRACE.map(|(name, value)| {
        let value = if name == "trace_level" { serde_json::json!([value]) } else { value.into() };
        (name, value)
    })))
}

/// The log settings in force.
///
/// # Errors
/// As [`server_metadata`].
pub fn log_settings(view: &LogSettings) -> Result<Bytes, Error> {
    json(&Entries(view.entries().map(|(name, value)| {
        let value: serde_json::Value = match value {
            LogValue::Bool(on) => on.into(),
            LogValue::Number(number) => number.into(),
            LogValue::Text(text) => text.into(),
        };
        (name, value)
    })))
}

/// An object whose keys keep their order.
struct Entries<const N: usize>([(&'static str, serde_json::Value); N]);

impl<const N: usize> Serialize for Entries<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(N))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn json(value: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(value).map(Bytes::from).map_err(unwritable)
}

fn unwritable(error: impl std::fmt::Display) -> Error {
    Error::internal("answer: cannot be written as JSON", error)
}

/// Writes a message of package `inference`.
fn write(name: &str, message: &impl Message) -> Result<Bytes, Error> {
    static POOL: OnceLock<Result<DescriptorPool, String>> = OnceLock::new();
    let pool = POOL
        .get_or_init(|| DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string()))
        .as_ref()
        .map_err(unwritable)?;
    let descriptor =
        pool.get_message_by_name(&format!("inference.{name}")).ok_or_else(|| unwritable("unknown message"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(unwritable)?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false).skip_default_fields(false);
    let mut out = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut out);
    dynamic.serialize_with_options(&mut serializer, &options).map_err(unwritable)?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        protocol::grpc::tests::view,
        types::{ModelState, Tally},
    };

    fn parsed(body: Result<Bytes, Error>) -> Value {
        serde_json::from_slice(&body.unwrap()).unwrap()
    }

    #[test]
    fn config_has_proto_names_and_plain_numbers() {
        let config = parsed(config(&ConfigView::Model(view())));
        assert_eq!(config["max_batch_size"], 65536);
        assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 250);
        assert_eq!(config["version_policy"], json!({ "latest": { "num_versions": 2 } }));
        assert_eq!(config["input"][0]["data_type"], "TYPE_FP32");
        assert_eq!(config["input"][0]["dims"], json!([4]));
        assert_eq!(config["input"][0]["is_shape_tensor"], false);
        assert_eq!(config["output"][0]["reshape"], json!({ "shape": [] }));
        assert_eq!(config["parameters"]["weir_batch_limit"], json!({ "string_value": "16" }));
        // Load generators take the mere presence of these for their being in use.
        for absent in ["sequence_batching", "ensemble_scheduling", "model_transaction_policy", "response_cache"] {
            assert!(config.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn statistics_are_numbers() {
        let success = Tally { count: 3, ns: u64::MAX };
        let view = ModelStatistics { name: "m".into(), version: "1".into(), success, ..ModelStatistics::default() };
        let stats = &parsed(statistics(&[view]))["model_stats"][0];
        assert_eq!((&stats["name"], &stats["inference_count"]), (&json!("m"), &json!(0)));
        assert_eq!(stats["inference_stats"]["success"], json!({ "count": 3, "ns": u64::MAX }));
        assert_eq!(stats["inference_stats"]["cache_hit"], json!({ "count": 0, "ns": 0 }));
        assert_eq!(stats["batch_stats"], json!([]));
    }

    #[test]
    fn the_other_answers() {
        let metadata = ServerMetadata { name: "weir", version: "1.2.3", extensions: &["statistics"] };
        assert_eq!(
            parsed(server_metadata(&metadata)),
            json!({ "name": "weir", "version": "1.2.3", "extensions": ["statistics"] })
        );
        let view = view();
        let model = ModelMetadata {
            name: view.name.clone(),
            versions: vec!["3".into()],
            platform: "onnx_onnxv1",
            signature: view.signature,
            class_names: std::sync::Arc::new([("label".into(), vec!["no".into(), "yes".into()])].into()),
        };
        let want = json!({
            "name": "iris", "versions": ["3"], "platform": "onnx_onnxv1",
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 4] }],
            "outputs": [{ "name": "label", "datatype": "INT64", "shape": [-1], "class_names": ["no", "yes"] }],
        });
        assert_eq!(parsed(model_metadata(&model)), want);
        let line = |state, reason: &str| IndexEntry {
            name: "m".into(),
            version: "1".into(),
            state,
            reason: reason.to_owned(),
        };
        let want = json!([
            { "name": "m", "version": "1", "state": "READY" },
            { "name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "empty" },
        ]);
        assert_eq!(parsed(index(&[line(ModelState::Ready, ""), line(ModelState::Unavailable, "empty")])), want);
        assert_eq!(parsed(model_names(&["a"])), json!({ "models": ["a"] }));
        assert_eq!(parsed(model_ready("a", true)), json!({ "name": "a", "ready": true }));
        assert_eq!((&live(true)[..], &ready(false)[..]), (&b"{\"live\":true}"[..], &b"{\"ready\":false}"[..]));
        assert_eq!(parsed(trace_settings())["trace_level"], json!(["OFF"]));
        let settings = LogSettings { info: true, warning: true, error: true, verbose_level: 1 };
        let want = r#"{"log_file":"","log_info":true,"log_warning":true,"log_error":true,"log_verbose_level":1,"log_format":"ISO8601"}"#;
        assert_eq!(log_settings(&settings).unwrap(), want);
    }
}
