//! A model that remembers its plans while it is being loaded: golden answers, the proof and the lane all want the same sizes,
//! and compiling is the dearest part of loading. Afterwards it forgets, and the lane decides what is kept.

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::Mutex;

use crate::{
    engine::{LoadError, Model, Plan},
    types::{ClassNames, Signature},
};

type Plans = BTreeMap<Option<usize>, Arc<dyn Plan>>;

/// A model with a memory.
pub(super) struct Remembering {
    model: Box<dyn Model>,
    signature: Signature,
    /// `None` once it forgets.
    plans: Mutex<Option<Plans>>,
}

impl Remembering {
    pub(super) fn new(model: Box<dyn Model>) -> Self {
        let signature = model.signature().clone();
        Self { model, signature, plans: Mutex::new(Some(BTreeMap::new())) }
    }

    /// Takes over the sizes of inputs that another engine knows of the same file and this one leaves open: requests that do not
    /// fit them are refused, whatever this engine would make of them.
    pub(super) fn narrow(&mut self, other: &Signature) {
        for (spec, known) in self.signature.inputs.iter_mut().zip(&other.inputs) {
            for (size, known) in spec.shape.iter_mut().zip(&known.shape) {
                *size = size.or(*known);
            }
        }
    }

    /// Lets go of the plans and remembers nothing from now on.
    pub(super) fn forget(&self) {
        *self.plans.lock() = None;
    }
}

// Every method is passed on, those with a default as well.
impl Model for Remembering {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn order_dependent(&self) -> Vec<String> {
        self.model.order_dependent()
    }

    fn class_names(&self) -> ClassNames {
        self.model.class_names()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        let known = self.plans.lock().as_ref().and_then(|plans| plans.get(&rows).cloned());
        if let Some(plan) = known {
            return Ok(plan);
        }
        let plan = self.model.plan(rows)?;
        if let Some(plans) = &mut *self.plans.lock() {
            plans.insert(rows, Arc::clone(&plan));
        }
        Ok(plan)
    }
}

impl fmt::Debug for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remembering").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};

    #[test]
    fn sizes_that_another_engine_knows_are_taken_over() {
        let mut model = Remembering::new(FakeEngine::new(Script::default(), 1).model());
        let own = model.signature().clone();
        let mut other = own.clone();
        other.inputs[0].shape.fill(Some(7));
        model.narrow(&other);
        let narrowed: Vec<_> = own.inputs[0].shape.iter().map(|size| size.or(Some(7))).collect();
        assert_eq!(model.signature().inputs[0].shape, narrowed);
        assert_ne!(narrowed, own.inputs[0].shape, "something was open");
        model.narrow(&own);
        assert_eq!(model.signature().inputs[0].shape, narrowed, "nothing is opened again");
    }

    #[test]
    fn sizes_are_compiled_once_until_it_forgets() {
        let model = Remembering::new(FakeEngine::new(Script::default(), 1).model());
        let plan = |rows| model.plan(Some(rows)).unwrap();
        assert!(Arc::ptr_eq(&plan(1), &plan(1)));
        assert!(!Arc::ptr_eq(&plan(1), &plan(2)));
        let kept = plan(1);
        model.forget();
        assert!(!Arc::ptr_eq(&kept, &plan(1)));
        assert!(!Arc::ptr_eq(&plan(1), &plan(1)));
    }
}
