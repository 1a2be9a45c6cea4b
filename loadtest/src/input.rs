//! `--input` specs: `name=@file.npy` reads a NumPy file, `name:FP32:1x30` makes seeded random values. Used by `case`.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use npyz::{DType, NpyHeader, Order};

use crate::error::{Fault, Result};
use crate::json::{push_float, push_integer};
use crate::tensor::{DataType, Tensor, element_count, push_string};

/// More elements than this in one random tensor is a typing error, not a test.
const MAX_ELEMENTS: usize = 1 << 28;

/// One `--input`, parsed but not yet read or generated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InputSpec {
    /// `name=@path`: the array in a `.npy` file.
    File { name: String, path: PathBuf },
    /// `name:DATATYPE:2x3`: random values of that shape; `name:DATATYPE:` is a scalar.
    Random { name: String, datatype: DataType, shape: Vec<i64> },
}

impl InputSpec {
    /// Reads a spec; used as clap's parser.
    ///
    /// # Errors
    /// Anything that is neither of the two forms, with what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let subject = || format!("input {text:?}");
        if let Some((name, path)) = text.split_once("=@") {
            if name.is_empty() || path.is_empty() {
                return Err(Fault::new(subject(), "expected NAME=@FILE.npy"));
            }
            return Ok(Self::File { name: name.to_owned(), path: path.into() });
        }
        // From the right: tensor names may hold colons (`input:0`), types and shapes do not.
        let mut parts = text.rsplitn(3, ':');
        let (Some(shape), Some(datatype), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::new(subject(), "expected NAME=@FILE.npy or NAME:DATATYPE:SHAPE such as x:FP32:1x30"));
        };
        if name.is_empty() {
            return Err(Fault::new(subject(), "no name"));
        }
        let datatype = DataType::parse(datatype)?;
        let shape = parse_shape(shape).ok_or_else(|| Fault::new(subject(), "expected a shape such as 1x30"))?;
        match element_count(&shape) {
            Some(count) if count <= MAX_ELEMENTS => Ok(Self::Random { name: name.to_owned(), datatype, shape }),
            _ => Err(Fault::new(subject(), format_args!("shape has more than {MAX_ELEMENTS} elements"))),
        }
    }

    /// The tensor; `rng` is advanced by random specs only.
    ///
    /// # Errors
    /// A file that cannot be read or holds something the protocol cannot carry.
    pub(crate) fn tensor(&self, rng: &mut fastrand::Rng) -> Result<Tensor> {
        match self {
            Self::File { name, path } => read_npy(name, path),
            Self::Random { name, datatype, shape } => random(name, *datatype, shape, rng),
        }
    }
}

fn parse_shape(text: &str) -> Option<Vec<i64>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    text.split('x').map(|dimension| dimension.parse().ok().filter(|d| *d >= 0)).collect()
}

fn random(name: &str, datatype: DataType, shape: &[i64], rng: &mut fastrand::Rng) -> Result<Tensor> {
    let count = element_count(shape).unwrap_or(0);
    let mut raw = Vec::with_capacity(count * datatype.size().unwrap_or(12));
    for _ in 0..count {
        match datatype {
            DataType::Bytes => push_string(&mut raw, format!("{:08x}", rng.u32(..)).as_bytes())?,
            DataType::Bool => raw.push(rng.bool().into()),
            _ if datatype.is_float() => push_float(datatype, rng.f64(), &mut raw),
            // Small enough for every integer type, and valid as an index into most vocabularies.
            _ => push_integer(datatype, rng.i128(0..100), &mut raw)
                .ok_or_else(|| Fault::new(format_args!("input {name}"), "no random values for this type"))?,
        }
    }
    Tensor::new(name.to_owned(), datatype, shape.to_vec(), raw.into())
}

fn read_npy(name: &str, path: &Path) -> Result<Tensor> {
    let subject = || format!("input {name}: {}", path.display());
    let mut reader = BufReader::new(File::open(path).map_err(|e| Fault::new(subject(), e))?);
    let header = NpyHeader::from_reader(&mut reader).map_err(|e| Fault::new(subject(), e))?;
    if header.order() != Order::C && header.shape().len() > 1 {
        return Err(Fault::new(subject(), "column-major order: save it with numpy.ascontiguousarray"));
    }
    let DType::Plain(kind) = header.dtype() else {
        return Err(Fault::new(subject(), "structured arrays are not tensors"));
    };
    let kind = kind.to_string();
    let datatype = match kind.trim_start_matches(['<', '|', '=']) {
        "b1" => DataType::Bool,
        "u1" => DataType::Uint8,
        "u2" => DataType::Uint16,
        "u4" => DataType::Uint32,
        "u8" => DataType::Uint64,
        "i1" => DataType::Int8,
        "i2" => DataType::Int16,
        "i4" => DataType::Int32,
        "i8" => DataType::Int64,
        "f2" => DataType::Fp16,
        "f4" => DataType::Fp32,
        "f8" => DataType::Fp64,
        _ => return Err(Fault::new(subject(), format_args!("array type {kind} has no place in the protocol"))),
    };
    let shape: Result<Vec<i64>, _> = header.shape().iter().map(|&d| i64::try_from(d)).collect();
    let mut raw = Vec::new();
    reader.read_to_end(&mut raw).map_err(|e| Fault::new(subject(), e))?;
    Tensor::new(name.to_owned(), datatype, shape.map_err(|e| Fault::new(subject(), e))?, raw.into())
}

#[cfg(test)]
mod tests {
    use npyz::WriterBuilder as _;

    use super::*;

    fn random_spec(text: &str) -> InputSpec {
        InputSpec::parse(text).unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        let file = InputSpec::File { name: "x".into(), path: "a/b.npy".into() };
        assert_eq!(random_spec("x=@a/b.npy"), file);
        let random = |name: &str, datatype, shape: &[i64]| InputSpec::Random {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
        };
        assert_eq!(random_spec("x:FP32:1x30"), random("x", DataType::Fp32, &[1, 30]));
        assert_eq!(random_spec("input:0:INT64:2"), random("input:0", DataType::Int64, &[2]));
        assert_eq!(random_spec("x:BOOL:"), random("x", DataType::Bool, &[]));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "x=@", "=@f.npy", "x:FP32", ":FP32:1", "x:FP31:1", "x:FP32:1x", "x:FP32:-1", "x:FP32:1,2"]
        {
            assert!(InputSpec::parse(text).is_err(), "{text:?}");
        }
        assert!(InputSpec::parse("x:FP32:100000x100000").is_err());
    }

    #[test]
    fn random_values_follow_the_seed() {
        for text in ["x:FP32:1x30", "x:FP16:3", "x:INT8:4", "x:UINT64:4", "x:BOOL:9", "x:BYTES:2x2"] {
            let make = |seed| random_spec(text).tensor(&mut fastrand::Rng::with_seed(seed)).unwrap();
            assert_eq!(make(1), make(1), "{text}");
            assert_ne!(make(1), make(2), "{text}");
        }
    }

    #[test]
    fn npy_files_are_read_as_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.npy");
        let write = |order| {
            let file = File::create(&path).unwrap();
            let options = npyz::WriteOptions::new().default_dtype().shape(&[2, 2]).order(order);
            let mut writer = options.writer(file).begin_nd().unwrap();
            writer.extend([1.0_f32, 2.0, 3.0, 4.0]).unwrap();
            writer.finish().unwrap();
        };
        let spec = random_spec(&format!("x=@{}", path.display()));
        write(Order::C);
        let tensor = spec.tensor(&mut fastrand::Rng::with_seed(0)).unwrap();
        assert_eq!((tensor.datatype, &tensor.shape[..]), (DataType::Fp32, &[2, 2][..]));
        assert_eq!(tensor.floats(), [1.0, 2.0, 3.0, 4.0]);
        write(Order::Fortran);
        assert!(spec.tensor(&mut fastrand::Rng::with_seed(0)).is_err());
    }
}
