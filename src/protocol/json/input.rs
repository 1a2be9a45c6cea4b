//! One entry of a request's `inputs`. Its keys may come in any order: `data` is read where it stands if datatype and shape are
//! known by then, else it is passed over and read at the end.

use std::borrow::Cow;

use super::{
    binary::{Content, Input},
    data::Reader,
    number::Number,
    scan::Scanner,
    value::{self, Fault, kind, once},
};
use crate::{
    protocol::params,
    types::{DType, Error, ParamValue, Shape, Tensor, element_count},
};

/// Reads the array of inputs.
///
/// # Errors
/// `InvalidArgument` naming the input, or its place when it has no name yet.
pub(super) fn inputs<'t>(scanner: &mut Scanner<'t>, reader: &mut Reader<'_>) -> Result<Vec<Input<'t>>, Fault> {
    value::expect_array(scanner, "inputs")?;
    // Most requests have one.
    let mut inputs = Vec::with_capacity(1);
    scanner.array(|scanner| {
        let mut fields = Fields::default();
        match fields.read(scanner, reader).and_then(|()| fields.finish(reader)) {
            Ok(input) => {
                inputs.push(input);
                Ok(())
            }
            Err(fault) => {
                let place = match &fields.name {
                    Some(name) => format!("input '{name}': "),
                    None => format!("inputs[{}]: ", inputs.len()),
                };
                // The place is in the text now, so nothing further goes in front.
                Err(Fault::Body(fault.at(&place)))
            }
        }
    })?;
    Ok(inputs)
}

/// The keys of one input.
#[derive(Default)]
struct Fields<'t> {
    name: Option<Cow<'t, str>>,
    dtype: Option<DType>,
    shape: Option<Shape>,
    binary: Option<Option<usize>>,
    data: Option<Data<'t>>,
}

/// Data that was read, or that waits for its datatype and shape.
enum Data<'t> {
    Tensor(Tensor),
    Later(Scanner<'t>),
}

impl<'t> Fields<'t> {
    fn read(&mut self, scanner: &mut Scanner<'t>, reader: &mut Reader<'_>) -> Result<(), Fault> {
        value::expect_object(scanner, "an input")?;
        scanner.object(&mut |scanner, key| self.field(scanner, key, reader))
    }

    fn field(&mut self, scanner: &mut Scanner<'t>, key: &str, reader: &mut Reader<'_>) -> Result<(), Fault> {
        match key {
            "name" => once(&mut self.name, scanner, key, |scanner| value::borrowed(scanner, key)),
            "datatype" => once(&mut self.dtype, scanner, key, |scanner| {
                params::datatype(&value::borrowed(scanner, key)?).map_err(Fault::Value)
            }),
            "shape" => once(&mut self.shape, scanner, key, shape),
            "parameters" => once(&mut self.binary, scanner, key, binary_size),
            "data" => {
                let known = self.dtype.zip(self.shape.as_ref());
                once(&mut self.data, scanner, key, |scanner| match known {
                    Some((dtype, shape)) => reader.tensor(scanner, dtype, shape).map(Data::Tensor),
                    None => {
                        let start = scanner.clone();
                        scanner.skip()?;
                        Ok(Data::Later(start))
                    }
                })
            }
            _ => Ok(scanner.skip()?),
        }
    }

    fn finish(&mut self, reader: &mut Reader<'_>) -> Result<Input<'t>, Fault> {
        let missing = |key: &str| Fault::value(format!("no '{key}'"));
        // It stays: an error names it.
        let name = self.name.clone().ok_or_else(|| missing("name"))?;
        let shape = self.shape.take().ok_or_else(|| missing("shape"))?;
        let dtype = self.dtype.ok_or_else(|| missing("datatype"))?;
        let content = match (self.data.take(), self.binary.flatten()) {
            (Some(_), Some(_)) => return Err(Fault::value("both 'data' and binary_data_size")),
            (None, None) => return Err(missing("data")),
            (None, Some(size)) => Content::Binary { dtype, shape, size },
            (Some(Data::Tensor(tensor)), None) => Content::Json(tensor),
            (Some(Data::Later(mut scanner)), None) => Content::Json(reader.tensor(&mut scanner, dtype, &shape)?),
        };
        Ok(Input { name, content })
    }
}

fn shape(scanner: &mut Scanner<'_>) -> Result<Shape, Fault> {
    value::expect_array(scanner, "shape")?;
    let mut shape = Shape::new();
    scanner.array(|scanner| {
        params::check_rank(shape.len() + 1).map_err(Fault::Value)?;
        let mut before = scanner.clone();
        let Some(size) = scanner.number().and_then(Number::to_integer) else {
            return Err(kind(&mut before, "shape", "integers"));
        };
        shape.push(params::dimension(size).map_err(Fault::Value)?);
        Ok(())
    })?;
    element_count(&shape).map_err(Fault::Value)?;
    Ok(shape)
}

/// The size of an input's binary data, if its parameters name one.
fn binary_size(scanner: &mut Scanner<'_>) -> Result<Option<usize>, Fault> {
    let mut size = None;
    value::params(scanner, &mut |name, value| {
        params::check_tensor_param("", name)?;
        if name == "binary_data_size" {
            size = match value {
                ParamValue::Int(bytes) => usize::try_from(bytes).ok(),
                _ => None,
            };
            if size.is_none() {
                return Err(Error::expected("binary_data_size", "a number of bytes", value.shown()));
            }
        }
        Ok(())
    })?;
    Ok(size)
}
