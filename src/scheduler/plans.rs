//! The compiled sizes of a model and how a batch is covered by them. Sizes are compiled one by one, the first before the model
//! serves and the others off the path; a batch uses what there is. Called by the lane core.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::{LoadError, Model, Plan};

/// Sizes compiled on demand for models that must run whole; the least recently used is dropped beyond this many.
const EXACT_PLANS: usize = 16;

/// Plans by batch size.
pub(crate) struct Plans {
    model: Arc<dyn Model>,
    sizes: ArcSwap<Vec<(usize, Arc<dyn Plan>)>>,
    exact: Mutex<VecDeque<(usize, Arc<dyn Plan>)>>,
}

impl Plans {
    /// Compiles the first size: one row, or the only one for models without batch dimension.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn new(model: Arc<dyn Model>, batched: bool) -> Result<Self, LoadError> {
        let first = model.plan(batched.then_some(1))?;
        let sizes = ArcSwap::from_pointee(vec![(1, first)]);
        Ok(Self { model, sizes, exact: Mutex::default() })
    }

    /// Compiles a size and adds it.
    ///
    /// # Errors
    /// When the engine refuses; the other sizes go on serving.
    pub(crate) fn add(&self, rows: usize) -> Result<Arc<dyn Plan>, LoadError> {
        let plan = self.model.plan(Some(rows))?;
        self.sizes.rcu(|known| {
            let mut sizes: Vec<_> = known.iter().filter(|(size, _)| *size != rows).cloned().collect();
            sizes.push((rows, Arc::clone(&plan)));
            sizes.sort_by_key(|(size, _)| *size);
            sizes
        });
        Ok(plan)
    }

    /// The sizes compiled so far, ascending.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.sizes.load().iter().map(|(size, _)| *size).collect()
    }

    /// The plan of one row, or of the whole model.
    pub(crate) fn first(&self) -> Option<Arc<dyn Plan>> {
        self.sizes.load().first().map(|(_, plan)| Arc::clone(plan))
    }

    /// Plans whose sizes add up to `rows`, largest first.
    pub(crate) fn cover(&self, rows: usize) -> Vec<(usize, Arc<dyn Plan>)> {
        let sizes = self.sizes.load();
        let mut left = rows;
        let mut cover = Vec::new();
        for (size, plan) in sizes.iter().rev() {
            while left >= *size {
                cover.push((*size, Arc::clone(plan)));
                left -= size;
            }
        }
        cover
    }

    /// The plan of exactly `rows` rows, compiled now if need be: for models that run whole.
    ///
    /// # Errors
    /// When the engine refuses the size.
    pub(crate) fn exact(&self, rows: usize) -> Result<Arc<dyn Plan>, LoadError> {
        if let Some((_, plan)) = self.sizes.load().iter().find(|(size, _)| *size == rows) {
            return Ok(Arc::clone(plan));
        }
        if let Some(plan) = self.recall(rows) {
            return Ok(plan);
        }
        // Compiled outside the lock: two workers may do it twice, none waits for another.
        let plan = self.model.plan(Some(rows))?;
        let mut exact = self.exact.lock();
        exact.push_front((rows, Arc::clone(&plan)));
        exact.truncate(EXACT_PLANS);
        Ok(plan)
    }

    /// The plan of exactly `rows` rows, compiled now if need be, without a lock and without being remembered.
    ///
    /// # Errors
    /// When the engine refuses the size.
    pub(crate) fn unshared(&self, rows: usize) -> Result<Arc<dyn Plan>, LoadError> {
        let known = self.sizes.load().iter().find(|(size, _)| *size == rows).map(|(_, plan)| Arc::clone(plan));
        known.map_or_else(|| self.model.plan(Some(rows)), Ok)
    }

    fn recall(&self, rows: usize) -> Option<Arc<dyn Plan>> {
        let mut exact = self.exact.lock();
        let at = exact.iter().position(|(size, _)| *size == rows)?;
        let entry = exact.remove(at)?;
        let plan = Arc::clone(&entry.1);
        exact.push_front(entry);
        Some(plan)
    }
}

/// The sizes worth compiling for a batch limit: powers of two, and the limit itself.
pub(crate) fn sizes_up_to(limit: usize) -> Vec<usize> {
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(1_usize), |size| size.checked_mul(2)).take_while(|size| *size < limit).collect();
    sizes.push(limit.max(1));
    sizes.dedup();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};

    #[test]
    fn covers_add_up_with_whatever_is_compiled() {
        let model: Arc<dyn Model> = FakeEngine::new(Script::default(), 1).model().into();
        let plans = Plans::new(model, true).unwrap();
        let sizes = |rows| plans.cover(rows).iter().map(|(size, _)| *size).collect::<Vec<_>>();
        assert_eq!(sizes(3), [1, 1, 1]);
        for size in sizes_up_to(12) {
            plans.add(size).unwrap();
        }
        assert_eq!(plans.sizes(), [1, 2, 4, 8, 12]);
        assert_eq!(sizes(11), [8, 2, 1]);
        assert_eq!(sizes(12), [12]);
        assert_eq!(sizes(31), [12, 12, 4, 2, 1]);
    }

    #[test]
    fn sizes_are_powers_of_two_and_the_limit() {
        assert_eq!(sizes_up_to(1), [1]);
        assert_eq!(sizes_up_to(16), [1, 2, 4, 8, 16]);
        assert_eq!(sizes_up_to(20), [1, 2, 4, 8, 16, 20]);
        assert_eq!(sizes_up_to(0), [1]);
    }

    #[test]
    fn exact_plans_are_bounded() {
        let model: Arc<dyn Model> = FakeEngine::new(Script::default(), 1).model().into();
        let plans = Plans::new(model, true).unwrap();
        for rows in 2..100 {
            plans.exact(rows).unwrap();
        }
        assert_eq!(plans.exact.lock().len(), EXACT_PLANS);
        assert!(plans.recall(99).is_some());
        assert!(plans.recall(2).is_none());
    }
}
