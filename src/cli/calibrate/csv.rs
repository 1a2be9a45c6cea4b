//! Labelled rows as CSV: a header, then a line a row. An input of one number a row is a column of its name; one of more is
//! columns `name[0]`, `name[1]`, … (or `name.0`, …), in row-major order.

use bytes::Bytes;
use csv::{ReaderBuilder, StringRecord, Trim};
use half::{bf16, f16};

use super::data::{LABEL, Labels, row_shape};
use crate::types::{DType, Shape, Tensor, TensorSpec};

/// A table of texts.
#[derive(Debug)]
pub(super) struct Csv {
    header: Vec<String>,
    rows: Vec<StringRecord>,
}

impl Csv {
    /// Reads a whole file.
    pub(super) fn read(file: &[u8]) -> Result<Self, String> {
        // Spreadsheets put a byte order mark in front.
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(file);
        let header: Vec<String> =
            reader.headers().map_err(|error| error.to_string())?.iter().map(ToOwned::to_owned).collect();
        for (at, name) in header.iter().enumerate() {
            if header[..at].contains(name) {
                return Err(format!("column '{name}': given twice"));
            }
        }
        let rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        Ok(Self { header, rows })
    }

    /// Where a row is, for people.
    pub(super) fn place(&self, row: usize) -> String {
        let line = self.rows.get(row).and_then(StringRecord::position).map_or(0, csv::Position::line);
        format!("line {line}")
    }

    /// The right answers, as texts.
    pub(super) fn labels(&self) -> Result<Labels, String> {
        let column = self.column(LABEL).ok_or_else(|| {
            format!("column '{LABEL}': not found: expected the right class of every row, got {}", self.names())
        })?;
        let text = |(at, row): (usize, &StringRecord)| match row.get(column) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("column '{LABEL}': {}: expected a class, got nothing", self.place(at))),
        };
        Ok(Labels::Texts(self.rows.iter().enumerate().map(text).collect::<Result<_, _>>()?))
    }

    /// A model's input.
    pub(super) fn input(&self, spec: &TensorSpec) -> Result<Tensor, String> {
        let columns = self.columns(spec)?;
        let mut shape = Shape::from_slice(&[self.rows.len()]);
        let known: usize = spec.shape.iter().skip(1).flatten().product();
        let open = spec.shape.iter().skip(1).filter(|size| size.is_none()).count();
        let left = columns.len().checked_div(known).filter(|left| left * known == columns.len());
        let fits = match open {
            0 => known == columns.len(),
            1 => left.is_some(),
            _ => false,
        };
        if !fits {
            let (name, count) = (&spec.name, columns.len());
            return Err(format!("column '{name}': shape: expected {}, got {count} a row", row_shape(spec)));
        }
        shape.extend(spec.shape.iter().skip(1).map(|size| size.or(left).unwrap_or(1)));
        let cells =
            || self.rows.iter().enumerate().flat_map(|(row, record)| columns.iter().map(move |at| (row, *at, record)));
        if spec.dtype == DType::Bytes {
            let items: Vec<Bytes> = cells().map(|(_, at, row)| Bytes::copy_from_slice(row[at].as_bytes())).collect();
            return Tensor::strings(shape, items.into()).map_err(|error| error.to_string());
        }
        let mut bytes = Vec::with_capacity(self.rows.len() * columns.len() * spec.dtype.size().unwrap_or(1));
        for (row, at, record) in cells() {
            let text = &record[at];
            push(spec.dtype, text, &mut bytes).ok_or_else(|| {
                format!("column '{}': {}: expected {}, got '{text}'", self.header[at], self.place(row), spec.dtype)
            })?;
        }
        Tensor::plain(spec.dtype, shape, bytes.into()).map_err(|error| error.to_string())
    }

    fn column(&self, name: &str) -> Option<usize> {
        self.header.iter().position(|column| column == name)
    }

    /// The columns of an input in their order.
    fn columns(&self, spec: &TensorSpec) -> Result<Vec<usize>, String> {
        let name = &*spec.name;
        if let Some(column) = self.column(name) {
            return Ok(vec![column]);
        }
        let numbered = |column: &str| -> Option<usize> {
            let rest = column.strip_prefix(name)?;
            rest.strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .or_else(|| rest.strip_prefix('.'))?
                .parse()
                .ok()
        };
        let mut found: Vec<(usize, usize)> =
            self.header.iter().enumerate().filter_map(|(at, column)| Some((numbered(column)?, at))).collect();
        found.sort_unstable();
        if found.is_empty() {
            let wanted = row_shape(spec);
            return Err(format!(
                "column '{name}': not found: expected '{name}', or '{name}[0]', '{name}[1]', … for shape {wanted}, got {}",
                self.names()
            ));
        }
        match found.iter().enumerate().find(|(at, (number, _))| at != number) {
            Some((at, (number, _))) if *number < at => Err(format!("column '{name}[{number}]': given twice")),
            Some((at, _)) => Err(format!("column '{name}[{at}]': not found, although there are later ones")),
            None => Ok(found.into_iter().map(|(_, at)| at).collect()),
        }
    }

    fn names(&self) -> String {
        let shown: Vec<&str> = self.header.iter().map(String::as_str).take(8).collect();
        let more = if self.header.len() > shown.len() { ", …" } else { "" };
        format!("'{}'{more}", shown.join("', '"))
    }
}

/// Appends a number as its datatype has it; `None` when the text is none of it.
fn push(dtype: DType, text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    fn parsed<T: std::str::FromStr>(text: &str) -> Option<T> {
        text.parse().ok()
    }
    match dtype {
        DType::Bool => bytes.push(match text {
            "true" | "True" | "TRUE" | "1" => 1,
            "false" | "False" | "FALSE" | "0" => 0,
            _ => return None,
        }),
        DType::Uint8 => bytes.extend(parsed::<u8>(text)?.to_le_bytes()),
        DType::Uint16 => bytes.extend(parsed::<u16>(text)?.to_le_bytes()),
        DType::Uint32 => bytes.extend(parsed::<u32>(text)?.to_le_bytes()),
        DType::Uint64 => bytes.extend(parsed::<u64>(text)?.to_le_bytes()),
        DType::Int8 => bytes.extend(parsed::<i8>(text)?.to_le_bytes()),
        DType::Int16 => bytes.extend(parsed::<i16>(text)?.to_le_bytes()),
        DType::Int32 => bytes.extend(parsed::<i32>(text)?.to_le_bytes()),
        DType::Int64 => bytes.extend(parsed::<i64>(text)?.to_le_bytes()),
        DType::Fp16 => bytes.extend(f16::from_f64(parsed(text)?).to_le_bytes()),
        DType::Bf16 => bytes.extend(bf16::from_f64(parsed(text)?).to_le_bytes()),
        DType::Fp32 => bytes.extend(parsed::<f32>(text)?.to_le_bytes()),
        DType::Fp64 => bytes.extend(parsed::<f64>(text)?.to_le_bytes()),
        DType::Bytes => return None,
    }
    Some(())
}
