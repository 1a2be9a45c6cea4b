//! The answer to a prediction, whoever gave it: read from the wire's form, shown as a table or as JSON. Used by `weir infer`.

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    exit::Failure,
    table::{Cell, Paint, Table, clean},
};
use crate::{
    protocol::raw,
    types::{DType, Data, Shape, Tensor},
};

/// Elements of a row that a table shows.
const MAX_SHOWN: usize = 12;
/// Rows that a table shows.
const MAX_ROWS: usize = 50;

/// A prediction.
#[derive(Clone, Debug)]
pub struct Prediction {
    head: Head,
    outputs: Vec<Output>,
}

/// One output; every element is a JSON value, `null` where JSON has no number for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Output {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Vec<Value>,
    /// The elements as a table shows them.
    #[serde(skip)]
    shown: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Head {
    model_name: String,
    #[serde(default)]
    model_version: String,
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
    #[serde(default)]
    outputs: Vec<OutputHead>,
}

#[derive(Clone, Debug, Deserialize)]
struct OutputHead {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    #[serde(default)]
    parameters: OutputParameters,
    data: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct OutputParameters {
    binary_data_size: Option<usize>,
}

impl Prediction {
    /// Reads an answer: JSON, with the outputs' bytes behind its first `header_len` bytes where it has such.
    ///
    /// # Errors
    /// When it is no answer to a prediction.
    pub fn read(body: &Bytes, header_len: Option<usize>) -> Result<Self, Failure> {
        let bad = |what: String| Failure::problem(format!("the answer is not a gateway's: {what}"));
        let json = header_len.unwrap_or(body.len());
        if json > body.len() {
            return Err(bad(format!("{json} bytes of JSON in {}", body.len())));
        }
        let mut head: Head = serde_json::from_slice(&body[..json]).map_err(|error| bad(error.to_string()))?;
        let mut rest = body.slice(json..);
        let mut outputs = Vec::with_capacity(head.outputs.len());
        for output in std::mem::take(&mut head.outputs) {
            let name = output.name.clone();
            outputs.push(read_output(output, &mut rest).map_err(|what| bad(format!("output '{name}': {what}")))?);
        }
        Ok(Self { head, outputs })
    }

    /// The answer as the protocol's JSON, whatever form it came in.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            model_name: &'a str,
            model_version: &'a str,
            #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
            parameters: &'a serde_json::Map<String, Value>,
            outputs: &'a [Output],
        }
        let Head { model_name, model_version, parameters, .. } = &self.head;
        let whole = Whole { model_name, model_version, parameters, outputs: &self.outputs };
        // Texts and numbers always have a JSON form.
        let text = serde_json::to_string(&whole).unwrap_or_default();
        format!("{text}\n")
    }

    /// A line per row with a column per output, where all outputs have the same rows; else a line per output.
    pub fn to_table(&self, paint: Paint) -> String {
        let mut text = format!("{} version {}\n", clean(&self.head.model_name), clean(&self.head.model_version));
        for (name, value) in &self.head.parameters {
            text.push_str(&format!("{} = {}\n", clean(name), clean(&value.to_string())));
        }
        let rows = self.outputs.first().and_then(|output| output.shape.first().copied());
        let same = |rows: &usize| self.outputs.iter().all(|output| output.shape.first() == Some(rows));
        match rows.filter(|rows| *rows > 0 && same(rows)) {
            Some(rows) => text.push_str(&self.by_row(rows, paint)),
            None => text.push_str(&self.by_output(paint)),
        }
        text
    }

    fn by_row(&self, rows: usize, paint: Paint) -> String {
        let names: Vec<String> = self
            .outputs
            .iter()
            .map(|output| format!("{} {}{:?}", output.name, output.datatype, output.shape))
            .collect();
        let columns: Vec<&str> = std::iter::once("ROW").chain(names.iter().map(String::as_str)).collect();
        let mut table = Table::new(&columns);
        for row in 0..rows.min(MAX_ROWS) {
            let cells = self.outputs.iter().map(|output| {
                let width = output.shown.len() / rows;
                Cell::from(few(&output.shown[row * width..(row + 1) * width]))
            });
            table.row(std::iter::once(Cell::from(row)).chain(cells));
        }
        let mut text = table.render(paint);
        if rows > MAX_ROWS {
            text.push_str(&format!("… {} more rows; --output json shows all\n", rows - MAX_ROWS));
        }
        text
    }

    fn by_output(&self, paint: Paint) -> String {
        let mut table = Table::new(&["OUTPUT", "DATATYPE", "SHAPE", "DATA"]);
        for output in &self.outputs {
            let shape = format!("{:?}", output.shape);
            table.row([
                output.name.as_str().into(),
                output.datatype.as_str().into(),
                shape.into(),
                few(&output.shown).into(),
            ]);
        }
        table.render(paint)
    }
}

/// The first elements.
fn few(elements: &[String]) -> String {
    let mut text = elements[..elements.len().min(MAX_SHOWN)].join(" ");
    if elements.len() > MAX_SHOWN {
        text.push_str(&format!(" … {} more", elements.len() - MAX_SHOWN));
    }
    text
}

fn read_output(head: OutputHead, rest: &mut Bytes) -> Result<Output, String> {
    let OutputHead { name, datatype, shape, parameters, data } = head;
    let count = shape.iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim)).ok_or("its shape overflows")?;
    let (data, shown) = match (parameters.binary_data_size, data) {
        (Some(size), _) if size > rest.len() => return Err(format!("expected {size} bytes, got {}", rest.len())),
        (Some(size), _) => {
            let dtype = DType::parse(&datatype).ok_or_else(|| format!("unknown datatype '{datatype}'"))?;
            let tensor = raw::decode(dtype, Shape::from_slice(&shape), rest.split_to(size));
            elements(&tensor.map_err(|error| error.to_string())?)
        }
        (None, Some(data)) => {
            let mut flat = Vec::new();
            flatten(data, &mut flat);
            let shown = flat.iter().map(shown_json).collect();
            (flat, shown)
        }
        (None, None) => return Err("no data".to_owned()),
    };
    if data.len() != count {
        return Err(format!("expected {count} elements, got {}", data.len()));
    }
    Ok(Output { name, datatype, shape, data, shown })
}

/// JSON from elsewhere may be nested.
fn flatten(value: Value, flat: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.into_iter().for_each(|item| flatten(item, flat)),
        value => flat.push(value),
    }
}

fn shown_json(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Every element as JSON and as text.
fn elements(tensor: &Tensor) -> (Vec<Value>, Vec<String>) {
    if let Data::Strings(items) = tensor.data() {
        let texts: Vec<String> = items.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect();
        return (texts.iter().map(|text| json!(text)).collect(), texts);
    }
    match tensor.dtype() {
        DType::Bool => each(tensor, |[byte]| byte != 0),
        DType::Uint8 => each(tensor, u8::from_le_bytes),
        DType::Uint16 => each(tensor, u16::from_le_bytes),
        DType::Uint32 => each(tensor, u32::from_le_bytes),
        DType::Uint64 => each(tensor, u64::from_le_bytes),
        DType::Int8 => each(tensor, i8::from_le_bytes),
        DType::Int16 => each(tensor, i16::from_le_bytes),
        DType::Int32 => each(tensor, i32::from_le_bytes),
        DType::Int64 => each(tensor, i64::from_le_bytes),
        DType::Fp16 => each(tensor, |bytes| f16::from_le_bytes(bytes).to_f32()),
        DType::Bf16 => each(tensor, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        DType::Fp32 => each(tensor, f32::from_le_bytes),
        DType::Fp64 => each(tensor, f64::from_le_bytes),
        DType::Bytes => (Vec::new(), Vec::new()),
    }
}

/// Numbers are shown so that they read back exactly.
fn each<const N: usize, T>(tensor: &Tensor, read: impl Fn([u8; N]) -> T) -> (Vec<Value>, Vec<String>)
where
    T: std::fmt::Debug + serde::Serialize,
{
    let values = || tensor.bytes().as_chunks::<N>().0.iter().map(|chunk| read(*chunk));
    // A single float becomes its own shortest digits, not those of the double that it widens to.
    let number = |value: T| {
        let text = serde_json::to_string(&value).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    };
    (values().map(number).collect(), values().map(|value| format!("{value:?}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(outputs: &str, binary: &[u8]) -> Result<Prediction, Failure> {
        let json = format!(r#"{{"model_name":"m","model_version":"2","outputs":[{outputs}]}}"#);
        let body: Bytes = [json.as_bytes(), binary].concat().into();
        Prediction::read(&body, Some(json.len()))
    }

    #[test]
    fn rows_share_a_line() {
        let floats: Vec<u8> = [0.1_f32, f32::NAN, 1e-20, f32::INFINITY].iter().flat_map(|v| v.to_le_bytes()).collect();
        let outputs = r#"{"name":"label","datatype":"INT64","shape":[2],"data":[5,3]},
            {"name":"p","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}"#;
        let prediction = answer(outputs, &floats).unwrap();
        assert_eq!(
            prediction.to_table(Paint::NONE),
            "m version 2\n\
             ROW  label INT64[2]  p FP32[2, 2]\n\
             0    5               0.1 NaN\n\
             1    3               1e-20 inf\n"
        );
        assert_eq!(
            prediction.to_json(),
            "{\"model_name\":\"m\",\"model_version\":\"2\",\"outputs\":[\
             {\"name\":\"label\",\"datatype\":\"INT64\",\"shape\":[2],\"data\":[5,3]},\
             {\"name\":\"p\",\"datatype\":\"FP32\",\"shape\":[2,2],\"data\":[0.1,null,1e-20,null]}]}\n"
        );
    }

    #[test]
    fn outputs_without_common_rows_have_lines_of_their_own() {
        let outputs = r#"{"name":"a","datatype":"BYTES","shape":[],"data":["x\u001b"]},
            {"name":"b","datatype":"FP16","shape":[1,2],"parameters":{"binary_data_size":4}}"#;
        let halves: Vec<u8> = [1.5_f32, -2.].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(
            answer(outputs, &halves).unwrap().to_table(Paint::NONE),
            "m version 2\n\
             OUTPUT  DATATYPE  SHAPE   DATA\n\
             a       BYTES     []      x\\u{1b}\n\
             b       FP16      [1, 2]  1.5 -2.0\n"
        );
    }

    #[test]
    fn long_answers_are_cut_in_tables_only() {
        let data: Vec<String> = (0..60 * 13).map(|n| n.to_string()).collect();
        let output = format!(r#"{{"name":"y","datatype":"INT32","shape":[60,13],"data":[{}]}}"#, data.join(","));
        let prediction = answer(&output, &[]).unwrap();
        let text = prediction.to_table(Paint::NONE);
        assert!(text.contains("\n0    0 1 2 3 4 5 6 7 8 9 10 11 … 1 more\n"), "{text}");
        assert!(text.ends_with("… 10 more rows; --output json shows all\n"), "{text}");
        assert!(prediction.to_json().contains(",779]"));
    }

    #[test]
    fn answers_that_do_not_add_up_are_refused() {
        for outputs in [
            r#"{"name":"y","datatype":"FP32","shape":[2],"data":[1]}"#,
            r#"{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}"#,
            r#"{"name":"y","datatype":"FP99","shape":[1],"parameters":{"binary_data_size":4}}"#,
            r#"{"name":"y","datatype":"FP32","shape":[1]}"#,
            "3",
        ] {
            let error = answer(outputs, &[0; 4]).unwrap_err();
            assert!(error.text.starts_with("the answer is not a gateway's: "), "{}", error.text);
        }
        assert!(Prediction::read(&Bytes::from_static(b"{}"), Some(3)).is_err());
    }
}
