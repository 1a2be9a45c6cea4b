//! What can be asked about models, as gRPC messages: metadata, readiness, statistics, index, settings. The JSON of the same
//! questions is made from these messages, so both protocols tell the same.

use std::collections::HashMap;

use prost_types::{ListValue, Value, value::Kind};

use crate::{
    protocol::{
        pb::{self, model_metadata_response::TensorMetadata, repository_index_response::ModelIndex},
        settings::{LogSettings, LogValue, TRACE},
    },
    types::{IndexEntry, ModelMetadata, ModelStatistics, Readiness, ServerMetadata, Tally, TensorSpec},
};

pub use super::config::config;

/// Name, version and extensions of the server.
pub fn server_metadata(view: &ServerMetadata) -> pb::ServerMetadataResponse {
    pb::ServerMetadataResponse {
        name: view.name.to_owned(),
        version: view.version.to_owned(),
        extensions: view.extensions.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// A model's versions, inputs and outputs; -1 stands for any size.
pub fn model_metadata(view: &ModelMetadata) -> pb::ModelMetadataResponse {
    let tensor = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.to_string(),
        datatype: spec.dtype.as_str().to_owned(),
        shape: spec.wire_shape(),
        class_names: None,
    };
    let output = |spec: &TensorSpec| TensorMetadata {
        class_names: view.class_names.get(&*spec.name).map(|names| list(names)),
        ..tensor(spec)
    };
    pb::ModelMetadataResponse {
        name: view.name.to_string(),
        versions: view.versions.iter().map(ToString::to_string).collect(),
        platform: view.platform.to_owned(),
        inputs: view.signature.inputs.iter().map(tensor).collect(),
        outputs: view.signature.outputs.iter().map(output).collect(),
    }
}

fn list(names: &[Box<str>]) -> ListValue {
    let values = names.iter().map(|name| Value { kind: Some(Kind::StringValue(name.to_string())) });
    ListValue { values: values.collect() }
}

/// Whether a model answers; a name that nothing has is not ready either.
pub fn model_ready(view: &Readiness) -> pb::ModelReadyResponse {
    pb::ModelReadyResponse { ready: *view == Readiness::Ready }
}

/// The repository index.
pub fn index(entries: &[IndexEntry]) -> pb::RepositoryIndexResponse {
    let model = |entry: &IndexEntry| ModelIndex {
        name: entry.name.to_string(),
        version: entry.version.to_string(),
        state: entry.state.as_str().to_owned(),
        reason: entry.reason.clone(),
    };
    pb::RepositoryIndexResponse { models: entries.iter().map(model).collect() }
}

/// Statistics of servables. There is no response cache, so its counters are zero.
pub fn statistics(views: &[ModelStatistics]) -> pb::ModelStatisticsResponse {
    pb::ModelStatisticsResponse { model_stats: views.iter().map(model_statistics).collect() }
}

fn model_statistics(view: &ModelStatistics) -> pb::ModelStatistics {
    pb::ModelStatistics {
        name: view.name.to_string(),
        version: view.version.to_string(),
        last_inference: view.last_inference,
        inference_count: view.inference_count,
        execution_count: view.execution_count,
        inference_stats: Some(pb::InferStatistics {
            success: duration(view.success),
            fail: duration(view.fail),
            queue: duration(view.queue),
            compute_input: duration(view.compute_input),
            compute_infer: duration(view.compute_infer),
            compute_output: duration(view.compute_output),
            cache_hit: duration(Tally::default()),
            cache_miss: duration(Tally::default()),
        }),
        batch_stats: view
            .batches
            .iter()
            .map(|batch| pb::InferBatchStatistics {
                batch_size: batch.rows,
                compute_input: duration(batch.compute_input),
                compute_infer: duration(batch.compute_infer),
                compute_output: duration(batch.compute_output),
            })
            .collect(),
        memory_usage: Vec::new(),
        response_stats: HashMap::new(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "message fields are optional in the generated code")]
fn duration(tally: Tally) -> Option<pb::StatisticDuration> {
    Some(pb::StatisticDuration { count: tally.count, ns: tally.ns })
}

/// The trace settings in force.
pub fn trace_settings() -> pb::TraceSettingResponse {
    use pb::trace_setting_response::SettingValue;
    let settings = TRACE.iter().map(|(name, value)| {
        let value = if value.is_empty() { Vec::new() } else { vec![(*value).to_owned()] };
        ((*name).to_owned(), SettingValue { value })
    });
    pb::TraceSettingResponse { settings: settings.collect() }
}

/// The log settings in force.
pub fn log_settings(view: &LogSettings) -> pb::LogSettingsResponse {
    use pb::log_settings_response::{SettingValue, setting_value::ParameterChoice};
    let value = |value: LogValue| match value {
        LogValue::Bool(on) => ParameterChoice::BoolParam(on),
        LogValue::Number(number) => ParameterChoice::Uint32Param(number),
        LogValue::Text(text) => ParameterChoice::StringParam(text.to_owned()),
    };
    let settings =
        view.entries().map(|(name, entry)| (name.to_owned(), SettingValue { parameter_choice: Some(value(entry)) }));
    pb::LogSettingsResponse { settings: settings.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{BatchStatistics, ModelState};

    #[test]
    fn statistics_carry_every_number() {
        let tally = |count| Tally { count, ns: count * 1000 };
        let view = ModelStatistics {
            name: "m".into(),
            version: "2".into(),
            last_inference: 1,
            inference_count: 2,
            execution_count: 3,
            success: tally(4),
            fail: tally(5),
            queue: tally(6),
            compute_input: tally(7),
            compute_infer: tally(8),
            compute_output: tally(9),
            batches: vec![BatchStatistics {
                rows: 16,
                compute_input: tally(10),
                compute_infer: tally(11),
                compute_output: tally(12),
            }],
        };
        let message = statistics(&[view]).model_stats.remove(0);
        let stats = message.inference_stats.unwrap();
        let counts = [
            stats.success,
            stats.fail,
            stats.queue,
            stats.compute_input,
            stats.compute_infer,
            stats.compute_output,
            message.batch_stats[0].compute_input,
            message.batch_stats[0].compute_infer,
            message.batch_stats[0].compute_output,
        ]
        .map(|duration| (duration.unwrap().count, duration.unwrap().ns));
        assert_eq!(counts, [4, 5, 6, 7, 8, 9, 10, 11, 12].map(|count| (count, count * 1000)));
        let numbers = (message.last_inference, message.inference_count, message.execution_count);
        assert_eq!((numbers, message.batch_stats[0].batch_size), ((1, 2, 3), 16));
    }

    #[test]
    fn index_and_readiness() {
        let entry = IndexEntry {
            name: "m".into(),
            version: "3".into(),
            state: ModelState::Unavailable,
            reason: "no such operator".to_owned(),
        };
        let line = index(&[entry]).models.remove(0);
        assert_eq!(
            (&*line.name, &*line.version, &*line.state, &*line.reason),
            ("m", "3", "UNAVAILABLE", "no such operator")
        );
        assert!(model_ready(&Readiness::Ready).ready);
        assert!(!model_ready(&Readiness::Unknown("not found".to_owned())).ready);
        assert!(!model_ready(&Readiness::NotReady("loading".to_owned())).ready);
    }

    #[test]
    fn metadata_shows_minus_one() {
        use crate::types::{Batch, DType, Signature};
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::Bytes, shape: vec![None, Some(4)] };
        let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batch: Batch::Rows };
        let view = ModelMetadata {
            name: "m".into(),
            versions: vec!["1".into(), "2".into()],
            platform: "onnx_onnxv1",
            signature: Arc::new(signature),
            class_names: Arc::new([("y".into(), vec!["no".into(), "yes".into()])].into()),
        };
        let message = model_metadata(&view);
        assert_eq!((&*message.platform, message.versions.join(",")), ("onnx_onnxv1", "1,2".to_owned()));
        assert_eq!((&*message.inputs[0].datatype, &message.inputs[0].shape[..]), ("BYTES", &[-1, 4][..]));
        assert_eq!((&*message.outputs[0].name, &message.inputs[0].class_names), ("y", &None));
        assert_eq!(message.outputs[0].class_names, Some(list(&["no".into(), "yes".into()])));
    }
}
