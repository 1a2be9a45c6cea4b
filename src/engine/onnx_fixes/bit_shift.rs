//! BitShift. The library's own overflows when it shifts by as many bits as a number has, or by less than none.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{internal::*, tract_core::broadcast::multi_broadcast},
};

use super::super::operator::{Built, Fact, Known, Operator, need, node};

/// `BitShift`: what is shifted out is lost; a negative number shifted to the right stays negative.
pub(super) fn bit_shift(_: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let direction: String = proto.get_attr("direction")?;
    let left = match direction.as_str() {
        "LEFT" => true,
        "RIGHT" => false,
        other => bail!("attribute 'direction': there is no direction '{other}'"),
    };
    Ok((node(proto, BitShift { left }), vec![]))
}

#[derive(Debug)]
struct BitShift {
    left: bool,
}

/// Numbers whose bits can be moved.
trait Bits: Datum + Copy {
    /// Moved by `by` bits; a distance outside of the number leaves what its sign fills in.
    fn moved(self, by: Self, left: bool) -> Self;
}

macro_rules! bits {
    ($($kind:ty)*) => { $(impl Bits for $kind {
        fn moved(self, by: Self, left: bool) -> Self {
            let by = u32::try_from(by).unwrap_or(u32::MAX);
            // All bits but one, twice: the sign is all that is left.
            let filled = (self >> (<$kind>::BITS - 1)) >> 1;
            if left { self.checked_shl(by).unwrap_or(0) } else { self.checked_shr(by).unwrap_or(filled) }
        }
    })* };
}

bits! { u8 u16 u32 u64 i8 i16 i32 i64 }

impl BitShift {
    fn run_in<T: Bits>(&self, number: &Tensor, by: &Tensor) -> TractResult<Tensor> {
        let shape = multi_broadcast(&[number.shape(), by.shape()])?;
        let (number, by) = (number.to_plain_array_view::<T>()?, by.to_plain_array_view::<T>()?);
        let fit = "shapes that were checked fit";
        let (number, by) = (number.broadcast(&*shape).context(fit)?, by.broadcast(&*shape).context(fit)?);
        let moved: Vec<T> = number.iter().zip(by.iter()).map(|(number, by)| number.moved(*by, self.left)).collect();
        Tensor::from_shape(&shape, &moved)
    }
}

impl Operator for BitShift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (number, by) = (need(inputs, 0)?, need(inputs, 1)?);
        ensure!(number.datum == by.datum, "expected two inputs of one type, got {:?} and {:?}", number.datum, by.datum);
        Ok(vec![(number.datum, multi_broadcast(&[&number.shape, &by.shape])?)])
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let (number, by) = (*need(inputs, 0)?, *need(inputs, 1)?);
        Ok(vec![match number.datum_type() {
            DatumType::U8 => self.run_in::<u8>(number, by)?,
            DatumType::U16 => self.run_in::<u16>(number, by)?,
            DatumType::U32 => self.run_in::<u32>(number, by)?,
            DatumType::U64 => self.run_in::<u64>(number, by)?,
            DatumType::I8 => self.run_in::<i8>(number, by)?,
            DatumType::I16 => self.run_in::<i16>(number, by)?,
            DatumType::I32 => self.run_in::<i32>(number, by)?,
            DatumType::I64 => self.run_in::<i64>(number, by)?,
            other => bail!("expected integers, got {other:?}"),
        }])
    }
}
