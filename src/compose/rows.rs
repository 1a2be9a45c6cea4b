//! Rows of tensors taken out and put together again: how a route sends only some rows of a request on, and how the answers come
//! back in order. Pure; called by the kinds of routes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::types::{Data, Error, Rows, Tensor};

/// Where a row of an answer comes from: which reply, and which row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) part: u32,
    pub(super) row: u32,
}

/// The given rows of a request, in the given order. All rows in order are the request itself, without a copy. Tensors without
/// elements stand for inputs that were not given, and stay as they are.
///
/// # Errors
/// `Internal` when a tensor has no such row.
pub(super) fn pick(rows: &Rows, wanted: &[u32]) -> Result<Rows, Error> {
    if wanted.len() == rows.rows && wanted.iter().enumerate().all(|(i, row)| *row as usize == i) {
        return Ok(rows.clone());
    }
    let origins: Vec<Origin> = wanted.iter().map(|row| Origin { part: 0, row: *row }).collect();
    let picked =
        rows.inputs.iter().map(|tensor| if absent(tensor) { Ok(tensor.clone()) } else { one(&origins, &[tensor]) });
    Ok(Rows { inputs: picked.collect::<Result<_, _>>()?, rows: wanted.len() })
}

/// True for the stand-in of an optional input that was not given.
pub(super) fn absent(tensor: &Tensor) -> bool {
    tensor.shape().first() == Some(&0)
}

/// Puts an answer together: row i comes from `origins[i]`. Every reply has the same number of outputs.
///
/// # Errors
/// `Internal` when the replies differ in datatype or in the shape of their rows.
pub(super) fn merge(origins: &[Origin], mut parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, Error> {
    let whole = |part: usize, count: usize| {
        count == origins.len()
            && origins.iter().enumerate().all(|(i, o)| o.part as usize == part && o.row as usize == i)
    };
    if let Some(first) = origins.first().map(|origin| origin.part as usize) {
        let rows = parts.get(first).and_then(|outputs| outputs.first()).and_then(|t| t.shape().first().copied());
        if rows.is_some_and(|rows| whole(first, rows)) {
            return Ok(parts.swap_remove(first));
        }
    }
    let used = |part: usize| origins.iter().any(|origin| origin.part as usize == part);
    let outputs = parts.iter().map(Vec::len).max().unwrap_or(0);
    let in_use: Vec<bool> = (0..parts.len()).map(used).collect();
    (0..outputs)
        .map(|output| {
            let column: Option<Vec<&Tensor>> = parts.iter().map(|part| part.get(output)).collect();
            let column = column.ok_or_else(|| failed("a part gave too few outputs"))?;
            agree(output, &column, &in_use)?;
            one(origins, &column)
        })
        .collect()
}

fn agree(output: usize, column: &[&Tensor], in_use: &[bool]) -> Result<(), Error> {
    let mut used = column.iter().zip(in_use).filter(|(_, used)| **used).map(|(tensor, _)| tensor);
    let Some(first) = used.next() else { return Ok(()) };
    let row = |tensor: &Tensor| tensor.shape().get(1..).map(<[usize]>::to_vec);
    match used.find(|other| other.dtype() != first.dtype() || row(other) != row(first)) {
        None => Ok(()),
        Some(other) => Err(Error::internal(
            "route: its parts answered in different shapes",
            format!("output {output}: {} {:?} and {} {:?}", first.dtype(), first.shape(), other.dtype(), other.shape()),
        )),
    }
}

/// One tensor out of rows of several, which have been found to fit. Rows that lie together are copied together.
fn one(origins: &[Origin], column: &[&Tensor]) -> Result<Tensor, Error> {
    let model = origins.first().and_then(|origin| column.get(origin.part as usize));
    let Some(model) = model else { return Err(failed("an answer without rows")) };
    let Some(per_row) = model.shape().get(1..).map(|dims| dims.iter().product::<usize>()) else {
        return Err(failed("a tensor without rows"));
    };
    let mut shape = crate::types::Shape::from_slice(model.shape());
    shape[0] = origins.len();
    match model.data() {
        Data::Plain(_) => {
            let width = per_row * model.dtype().size().unwrap_or(0);
            let mut bytes = BytesMut::with_capacity(width * origins.len());
            for (part, from, to) in runs(origins) {
                let source = column.get(part).map(|tensor| tensor.bytes());
                let slice = source.and_then(|bytes| bytes.get(from * width..to * width));
                bytes.extend_from_slice(slice.ok_or_else(|| failed("a row that is not there"))?);
            }
            Tensor::plain(model.dtype(), shape, bytes.freeze())
        }
        Data::Strings(_) => {
            let mut items: Vec<Bytes> = Vec::with_capacity(per_row * origins.len());
            for (part, from, to) in runs(origins) {
                let source = column.get(part).and_then(|tensor| match tensor.data() {
                    Data::Strings(items) => items.get(from * per_row..to * per_row),
                    Data::Plain(_) => None,
                });
                items.extend_from_slice(source.ok_or_else(|| failed("a row that is not there"))?);
            }
            Tensor::strings(shape, Arc::from(items))
        }
    }
}

/// Stretches of consecutive rows of one part: (part, from, to).
fn runs(origins: &[Origin]) -> impl Iterator<Item = (usize, usize, usize)> {
    origins.chunk_by(|a, b| a.part == b.part && a.row + 1 == b.row).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some((first.part as usize, first.row as usize, last.row as usize + 1))
    })
}

fn failed(what: &'static str) -> Error {
    Error::internal("route: failed", what)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
