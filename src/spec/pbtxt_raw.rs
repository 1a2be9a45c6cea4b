//! The fields of Triton's model configuration that `config_pbtxt` reads, as plain structs. Names are those of
//! `proto/model_config.proto`; what is not here is at most noted.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Deserialize;

use super::{pbtxt_scan::Scan, problem::Problem};

static MODEL_CONFIG: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let set: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/inference.fds"));
    DescriptorPool::decode(set).ok()?.get_message_by_name("inference.ModelConfig")
});

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) platform: String,
    pub(super) backend: String,
    pub(super) version_policy: VersionPolicy,
    pub(super) max_batch_size: i32,
    pub(super) input: Vec<Io>,
    pub(super) output: Vec<Io>,
    pub(super) dynamic_batching: Option<DynamicBatching>,
    pub(super) instance_group: Vec<InstanceGroup>,
    pub(super) default_model_filename: String,
    pub(super) model_transaction_policy: Transactions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionPolicy {
    pub(super) latest: Option<Latest>,
    pub(super) all: Option<All>,
    pub(super) specific: Option<Specific>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latest {
    pub(super) num_versions: u32,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct All {}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Specific {
    pub(super) versions: Vec<i64>,
}

/// An input or an output; enums are numbers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Io {
    pub(super) name: String,
    pub(super) data_type: i32,
    pub(super) dims: Vec<i64>,
    pub(super) label_filename: String,
    pub(super) is_shape_tensor: bool,
    pub(super) is_non_linear_format_io: bool,
    pub(super) allow_ragged_batch: bool,
    pub(super) optional: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DynamicBatching {
    pub(super) preferred_batch_size: Vec<i32>,
    pub(super) max_queue_delay_microseconds: u64,
    pub(super) priority_levels: u64,
    pub(super) default_priority_level: u64,
    pub(super) default_queue_policy: QueuePolicy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct QueuePolicy {
    pub(super) timeout_action: i32,
    pub(super) default_timeout_microseconds: u64,
    pub(super) max_queue_size: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InstanceGroup {
    pub(super) kind: i32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transactions {
    pub(super) decoupled: bool,
}

/// The names of the fields of a model configuration.
#[cfg(test)]
pub(super) fn field_names() -> Vec<String> {
    MODEL_CONFIG.iter().flat_map(MessageDescriptor::fields).map(|field| field.name().to_owned()).collect()
}

/// Parses the text; the scan knows where its fields stand.
///
/// # Errors
/// All unknown fields and enum values, or else the first thing that the parser does not accept.
pub(super) fn parse(text: &str) -> Result<(Config, Scan<'_>), Vec<Problem>> {
    let Some(descriptor) = MODEL_CONFIG.as_ref() else {
        return Err(vec![Problem::general("this build has no description of inference.ModelConfig")]);
    };
    let scan = Scan::new(text, descriptor);
    if !scan.problems.is_empty() {
        return Err(scan.problems);
    }
    let message = DynamicMessage::parse_text_format(descriptor.clone(), &scan.text).map_err(|error| {
        let offset = miette::Diagnostic::labels(&error).and_then(|mut labels| labels.next()).map(|span| span.offset());
        vec![scan.problem_at(offset, error.to_string())]
    })?;
    let options =
        SerializeOptions::new().stringify_64_bit_integers(false).use_enum_numbers(true).use_proto_field_name(true);
    let config = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .and_then(serde_json::from_value)
        .map_err(|error| vec![Problem::general(error.to_string())])?;
    Ok((config, scan))
}
