//! Packed weights. The plans of all batch sizes of a model are compiled from one graph and multiply by the same constants: each
//! is packed once, and kept as long as a plan uses it. Owned by the model.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tract_onnx::prelude::{Tensor, TractResult};

use weir_kernels::{ConvWeights, DenseWeights};

/// How a constant is packed: the order of its axes, and how many groups it is split into.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) axes: Vec<usize>,
    pub(super) groups: usize,
}

/// A packed constant, with the constant: as long as it is pointed to, its address is no other's.
struct Entry<W> {
    constant: Weak<Tensor>,
    packed: Weak<W>,
}

/// The packed constants of one model.
#[derive(Default)]
pub(crate) struct Packings {
    dense: Mutex<Kept<DenseWeights>>,
    conv: Mutex<Kept<ConvWeights>>,
}

/// By address, as a number: nobody follows it.
type Kept<W> = HashMap<(usize, Form), Entry<W>>;

impl Packings {
    pub(super) fn dense(
        &self,
        tensor: &Arc<Tensor>,
        form: Form,
        pack: impl FnOnce(&[f32]) -> DenseWeights,
    ) -> TractResult<Arc<DenseWeights>> {
        shared(&self.dense, tensor, form, pack)
    }

    pub(super) fn conv(
        &self,
        tensor: &Arc<Tensor>,
        form: Form,
        pack: impl FnOnce(&[f32]) -> ConvWeights,
    ) -> TractResult<Arc<ConvWeights>> {
        shared(&self.conv, tensor, form, pack)
    }
}

fn shared<W>(
    kept: &Mutex<Kept<W>>,
    tensor: &Arc<Tensor>,
    form: Form,
    pack: impl FnOnce(&[f32]) -> W,
) -> TractResult<Arc<W>> {
    let key = (Arc::as_ptr(tensor).addr(), form);
    if let Some(packed) = kept.lock().get(&key).and_then(|entry| entry.packed.upgrade()) {
        return Ok(packed);
    }
    let moved;
    let ordered = if key.1.axes.is_sorted() {
        &**tensor
    } else {
        moved = Tensor::clone(tensor).permute_axes(&key.1.axes)?;
        &moved
    };
    let packed = Arc::new(pack(ordered.try_as_plain_ram()?.as_slice::<f32>()?));
    let entry = Entry { constant: Arc::downgrade(tensor), packed: Arc::downgrade(&packed) };
    let mut kept = kept.lock();
    kept.retain(|_, entry| entry.packed.strong_count() > 0 && entry.constant.strong_count() > 0);
    kept.insert(key, entry);
    Ok(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_packed_once_and_kept_while_it_is_used() {
        let packings = Packings::default();
        let form = || Form { axes: vec![0, 1], groups: 0 };
        let pack = |matrix: &[f32]| DenseWeights::new(matrix, 2, 3);
        let tensor = Arc::new(Tensor::from_shape(&[2, 3], &[0.0_f32; 6]).unwrap());
        let first = packings.dense(&tensor, form(), pack).unwrap();
        let second = packings.dense(&tensor, form(), |_| unreachable!("it is packed already")).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = Arc::new(Tensor::clone(&tensor));
        assert!(!Arc::ptr_eq(&first, &packings.dense(&other, form(), pack).unwrap()));
        drop((first, second));
        packings.dense(&other, form(), pack).unwrap();
        assert_eq!(packings.dense.lock().len(), 1);
    }
}
