//! Every tensor of a file: its dimensions, its type, and that its data are as many bytes as those say. Data in side files are
//! brought in, so that the graph library never opens a file.

use std::collections::BTreeMap;

use bytes::Bytes;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, tensor_proto::DataLocation, tensor_proto::DataType};

use super::{super::LoadError, label, operators::is_sparse, quoted};

/// Bytes of one tensor at most; a file of 2 GiB cannot hold more, a side file might.
const MAX_TENSOR_BYTES: u64 = 1 << 36;

/// Elements of a tensor that are looked at as numbers: shapes, repeats, limits.
const MAX_NUMBERS: usize = 64;

/// Checks all tensors of a graph, those of inner graphs included, and makes their data plain.
///
/// # Errors
/// `initializer 'w': …` or `node 'x' (Op): attribute 'value': …`.
pub(super) fn settle(graph: &mut GraphProto, side_files: &BTreeMap<String, Bytes>) -> Result<(), LoadError> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |values| values.name.as_str());
        return Err(LoadError::new(format!("initializer {}: sparse tensors are not supported", quoted(name))));
    }
    for tensor in &mut graph.initializer {
        settle_tensor(tensor, side_files)
            .map_err(|text| LoadError::new(format!("initializer {}: {text}", quoted(&tensor.name))))?;
    }
    graph.node.iter_mut().try_for_each(|node| settle_node(node, side_files))
}

fn settle_node(node: &mut NodeProto, side_files: &BTreeMap<String, Bytes>) -> Result<(), LoadError> {
    let label = label(node);
    for attribute in &mut node.attribute {
        let fail = |text: String| LoadError::new(format!("{label}: attribute {}: {text}", quoted(&attribute.name)));
        if is_sparse(attribute) {
            return Err(fail("sparse tensors are not supported".to_owned()));
        }
        let mut tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
        tensors.try_for_each(|tensor| settle_tensor(tensor, side_files)).map_err(fail)?;
        let mut graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
        graphs.try_for_each(|graph| settle(graph, side_files))?;
    }
    Ok(())
}

fn settle_tensor(tensor: &mut TensorProto, side_files: &BTreeMap<String, Bytes>) -> Result<(), String> {
    if tensor.segment.is_some() {
        return Err("is given in segments, which are not supported".to_owned());
    }
    let (kind, size) = supported(tensor.data_type)?;
    let elements = elements(&tensor.dims)?;
    let bytes = elements.checked_mul(size).filter(|bytes| *bytes <= MAX_TENSOR_BYTES);
    let Some(bytes) = bytes else { return Err(format!("dimensions {:?} are too many bytes", tensor.dims)) };
    if tensor.data_location == Some(DataLocation::External as i32) {
        if kind == DataType::String {
            return Err("texts cannot be in a side file".to_owned());
        }
        tensor.raw_data = external(tensor, bytes, side_files)?.to_vec();
        tensor.data_location = None;
        tensor.external_data.clear();
    }
    if kind == DataType::String && !tensor.raw_data.is_empty() {
        return Err("texts cannot be raw data".to_owned());
    }
    if tensor.raw_data.is_empty() {
        settle_typed(tensor, kind, elements)
    } else if tensor.raw_data.len() as u64 == bytes {
        Ok(())
    } else {
        let (dims, got) = (&tensor.dims, tensor.raw_data.len());
        Err(format!("expected {bytes} bytes for {dims:?} {}, got {got}", kind.as_str_name()))
    }
}

/// Data in the fields by type: as many as the dimensions say.
fn settle_typed(tensor: &mut TensorProto, kind: DataType, elements: u64) -> Result<(), String> {
    let got = match kind {
        DataType::Float => tensor.float_data.len(),
        DataType::Double => tensor.double_data.len(),
        DataType::Int64 => tensor.int64_data.len(),
        DataType::Uint32 | DataType::Uint64 => tensor.uint64_data.len(),
        DataType::String => tensor.string_data.len(),
        _ => tensor.int32_data.len(),
    };
    if got as u64 != elements {
        let dims = &tensor.dims;
        return Err(format!("expected {elements} values for {dims:?} {}, got {got}", kind.as_str_name()));
    }
    // The graph library looks for unsigned numbers in the fields of the signed ones.
    match kind {
        DataType::Uint32 => {
            let narrow = tensor.uint64_data.iter().map(|value| u32::try_from(*value));
            let values: Result<Vec<_>, _> = narrow.collect();
            let values = values.map_err(|_| "has values that are not UINT32".to_owned())?;
            tensor.raw_data = values.into_iter().flat_map(u32::to_le_bytes).collect();
        }
        DataType::Uint64 => tensor.raw_data = tensor.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => {}
    }
    Ok(())
}

/// Product of dimensions.
pub(super) fn elements(dims: &[i64]) -> Result<u64, String> {
    let mut count = 1_u64;
    for dim in dims {
        let dim = u64::try_from(*dim).map_err(|_| format!("dimensions {dims:?}: {dim} is negative"))?;
        count = count.checked_mul(dim).ok_or_else(|| format!("dimensions {dims:?}: their product overflows"))?;
    }
    Ok(count)
}

/// # Errors
/// `datatype BFLOAT16 is not supported`.
pub(super) fn is_supported(data_type: i32) -> Result<(), String> {
    supported(data_type).map(drop)
}

fn supported(data_type: i32) -> Result<(DataType, u64), String> {
    let kind = DataType::try_from(data_type).map_err(|_| format!("data type {data_type} is not known"))?;
    let size = element_size(kind).ok_or_else(|| format!("datatype {} is not supported", kind.as_str_name()))?;
    Ok((kind, size))
}

/// Bytes of an element; for texts those of a pointer, since they count only for their number.
fn element_size(kind: DataType) -> Option<u64> {
    Some(match kind {
        DataType::Bool | DataType::Uint8 | DataType::Int8 => 1,
        DataType::Uint16 | DataType::Int16 | DataType::Float16 => 2,
        DataType::Uint32 | DataType::Int32 | DataType::Float => 4,
        DataType::Uint64 | DataType::Int64 | DataType::Double | DataType::String => 8,
        _ => return None,
    })
}

fn external(tensor: &TensorProto, bytes: u64, side_files: &BTreeMap<String, Bytes>) -> Result<Bytes, String> {
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let number = |key: &str| -> Result<Option<u64>, String> {
        let parse = |text: &String| text.parse().map_err(|_| format!("external data: {key}: not a number"));
        entry(key).map(parse).transpose()
    };
    let location = entry("location").ok_or("external data: has no location")?;
    let plain = location.strip_prefix("./").unwrap_or(location);
    if plain.is_empty() || plain == ".." || plain.contains(['/', '\\', '\0']) {
        let name = quoted(location);
        return Err(format!("external data: expected the name of a file beside the model, got {name}"));
    }
    let file = side_files.get(plain).ok_or_else(|| format!("external data: there is no file {}", quoted(plain)))?;
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or(bytes);
    if length != bytes {
        return Err(format!("external data: expected {bytes} bytes, got a length of {length}"));
    }
    let end = offset.checked_add(length).filter(|end| *end <= file.len() as u64);
    let Some(end) = end else {
        let size = file.len();
        return Err(format!(
            "external data: expected {length} bytes at {offset} in {}, got {size} in all",
            quoted(plain)
        ));
    };
    // Both fit: they are not beyond the length of something in memory.
    Ok(file.slice(offset as usize..end as usize))
}

/// The values of a small numeric tensor that has been settled.
pub(in super::super) fn numbers(tensor: &TensorProto) -> Option<Vec<f64>> {
    let count = usize::try_from(elements(&tensor.dims).ok()?).ok().filter(|count| *count <= MAX_NUMBERS)?;
    let raw = &tensor.raw_data;
    let values: Vec<f64> = match DataType::try_from(tensor.data_type).ok()? {
        DataType::Bool if raw.is_empty() => tensor.int32_data.iter().map(|value| f64::from(*value)).collect(),
        DataType::Bool => raw.iter().map(|byte| f64::from(*byte)).collect(),
        DataType::Int64 if raw.is_empty() => tensor.int64_data.iter().map(|value| *value as f64).collect(),
        DataType::Int64 => raw.as_chunks().0.iter().map(|chunk| i64::from_le_bytes(*chunk) as f64).collect(),
        DataType::Int32 if raw.is_empty() => tensor.int32_data.iter().map(|value| f64::from(*value)).collect(),
        DataType::Int32 => raw.as_chunks().0.iter().map(|chunk| f64::from(i32::from_le_bytes(*chunk))).collect(),
        DataType::Float if raw.is_empty() => tensor.float_data.iter().map(|value| f64::from(*value)).collect(),
        DataType::Float => raw.as_chunks().0.iter().map(|chunk| f64::from(f32::from_le_bytes(*chunk))).collect(),
        DataType::Double if raw.is_empty() => tensor.double_data.clone(),
        DataType::Double => raw.as_chunks().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect(),
        _ => return None,
    };
    (values.len() == count).then_some(values)
}
