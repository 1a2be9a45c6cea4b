//! Element types of the graph library and of the gateway, and the conversion of outputs whose type differs from the one that
//! is reported. Called by the rest of this folder.

use tract_onnx::prelude::{DatumType, SymbolValues, TDim, TValue, Tensor, TractResult};
use tract_onnx::tract_hir::internal::IntoTValue as _;

use crate::types::DType;

/// The wire type of a datum type; `None` for those that have none (complex, block-quantised).
pub(super) fn dtype_of(datum: DatumType) -> Option<DType> {
    Some(match datum.unquantized() {
        DatumType::Bool => DType::Bool,
        DatumType::U8 => DType::Uint8,
        DatumType::U16 => DType::Uint16,
        DatumType::U32 => DType::Uint32,
        DatumType::U64 => DType::Uint64,
        DatumType::I8 => DType::Int8,
        DatumType::I16 => DType::Int16,
        DatumType::I32 => DType::Int32,
        // Dimension expressions: what the graph library makes of INT64 values that may be shapes.
        DatumType::I64 | DatumType::TDim => DType::Int64,
        DatumType::F16 => DType::Fp16,
        DatumType::F32 => DType::Fp32,
        DatumType::F64 => DType::Fp64,
        DatumType::String => DType::Bytes,
        _ => return None,
    })
}

/// The datum type that holds a wire type; `None` for BF16.
pub(super) fn datum_of(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::Bool => DatumType::Bool,
        DType::Uint8 => DatumType::U8,
        DType::Uint16 => DatumType::U16,
        DType::Uint32 => DatumType::U32,
        DType::Uint64 => DatumType::U64,
        DType::Int8 => DatumType::I8,
        DType::Int16 => DatumType::I16,
        DType::Int32 => DatumType::I32,
        DType::Int64 => DatumType::I64,
        DType::Fp16 => DatumType::F16,
        DType::Fp32 => DatumType::F32,
        DType::Fp64 => DatumType::F64,
        DType::Bytes => DatumType::String,
        DType::Bf16 => return None,
    })
}

/// The value in the datum type that is reported; unchanged when it has it already, or is the same bits under a quantised type.
/// Expressions of `symbols` become numbers.
pub(super) fn reported(value: TValue, wanted: DatumType, symbols: &SymbolValues) -> TractResult<TValue> {
    if value.datum_type().unquantized() == wanted {
        return Ok(value);
    }
    if value.datum_type() == DatumType::TDim {
        let sizes = value.try_as_plain_ram()?;
        let sizes = sizes.as_slice::<TDim>()?.iter().map(|size| size.eval_to_i64(symbols));
        let sizes = sizes.collect::<TractResult<Vec<i64>>>()?;
        let sizes = Tensor::from_shape(value.shape(), &sizes)?;
        return Ok(sizes.cast_to_dt(wanted)?.into_owned().into_tvalue());
    }
    Ok(value.cast_to_dt(wanted)?.into_owned().into_tvalue())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip() {
        for dtype in DType::ALL {
            if let Some(datum) = datum_of(dtype) {
                assert_eq!(dtype_of(datum), Some(dtype));
            } else {
                assert_eq!(dtype, DType::Bf16);
            }
        }
        assert_eq!(dtype_of(DatumType::TDim), Some(DType::Int64));
    }
}
