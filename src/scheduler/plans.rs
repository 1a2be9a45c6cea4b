//! The compiled sizes of a model. They are compiled one by one, the first before the model
//! serves and the others off the path; a batch uses what there is. Called by the lane core.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::engine::{LoadError, Model, Plan};

/// Sizes compiled on demand for models that must run whole; the least recently used is dropped beyond this many.
const EXACT_PLANS: usize = 16;

/// Plans by batch size.
pub(crate) struct Plans {
    model: Arc<dyn Model>,
    batched: bool,
    /// Bytes that all plans together may have; the first is kept in any case.
    most_bytes: usize,
    sizes: ArcSwap<Vec<(usize, Arc<dyn Plan>)>>,
    exact: Mutex<VecDeque<(usize, Arc<dyn Plan>)>>,
}

impl Plans {
    /// Compiles the first size: one row, or the only one for models without batch dimension. `max_bytes` is what all sizes together
    /// may take, 0 for no limit.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn new(model: Arc<dyn Model>, batched: bool, max_bytes: usize) -> Result<Self, LoadError> {
        let first = model.plan(batched.then_some(1))?;
        let sizes = ArcSwap::from_pointee(vec![(1, first)]);
        let most_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Ok(Self { model, batched, most_bytes, sizes, exact: Mutex::default() })
    }

    /// Compiles a size and adds it; `None` when there is no room for it.
    ///
    /// # Errors
    /// When the engine refuses; the other sizes go on serving.
    pub(crate) fn add(&self, rows: usize) -> Result<Option<Arc<dyn Plan>>, LoadError> {
        let plan = self.model.plan(Some(rows))?;
        if self.are_too_large(&[(rows, Arc::clone(&plan))]) {
            return Ok(None);
        }
        self.sizes.rcu(|known| {
            let mut sizes: Vec<_> = known.iter().filter(|(size, _)| *size != rows).cloned().collect();
            sizes.push((rows, Arc::clone(&plan)));
            sizes.sort_by_key(|(size, _)| *size);
            sizes
        });
        Ok(Some(plan))
    }

    /// Whether these plans, with those of [`Plans::sizes`], have more bytes than there may be.
    fn are_too_large<'a>(&self, more: impl IntoIterator<Item = &'a (usize, Arc<dyn Plan>)>) -> bool {
        if self.most_bytes == usize::MAX {
            return false;
        }
        let mut parts: BTreeMap<usize, usize> = more.into_iter().flat_map(|(_, plan)| plan.parts()).collect();
        parts.extend(self.sizes.load().iter().flat_map(|(_, plan)| plan.parts()));
        parts.values().fold(0_usize, |sum, bytes| sum.saturating_add(*bytes)) > self.most_bytes
    }

    /// The sizes compiled so far, ascending.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.sizes.load().iter().map(|(size, _)| *size).collect()
    }

    /// The plan of one row, or of the whole model.
    pub(crate) fn first(&self) -> Option<Arc<dyn Plan>> {
        self.sizes.load().first().map(|(_, plan)| Arc::clone(plan))
    }

    /// Drops the sizes above `limit`.
    pub(crate) fn keep_up_to(&self, limit: usize) {
        self.sizes.rcu(|known| known.iter().filter(|(size, _)| *size <= limit).cloned().collect::<Vec<_>>());
    }

    /// The plan of exactly `rows` rows, compiled now if need be.
    ///
    /// # Errors
    /// When the engine refuses the size.
    pub(crate) fn exact(&self, rows: usize) -> Result<Arc<dyn Plan>, LoadError> {
        if let Some((_, plan)) = self.sizes.load().iter().find(|(size, _)| *size == rows) {
            return Ok(Arc::clone(plan));
        }
        if !self.batched {
            return self.first().ok_or_else(|| LoadError::new("nothing is compiled"));
        }
        if let Some(plan) = self.recall(rows) {
            return Ok(plan);
        }
        // Compiled outside the lock: two workers may do it twice, none waits for another.
        let plan = self.model.plan(Some(rows))?;
        let mut exact = self.exact.lock();
        exact.push_front((rows, Arc::clone(&plan)));
        exact.truncate(EXACT_PLANS);
        // The last one stays: it would be compiled again for every request.
        while exact.len() > 1 && self.are_too_large(&*exact) {
            exact.pop_back();
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fake::{FakeEngine, Script};

    #[test]
    fn sizes_come_and_go() {
        let model: Arc<dyn Model> = FakeEngine::new(Script::default(), 1).model().into();
        let plans = Plans::new(model, true, 0).unwrap();
        for size in [4, 2, 12, 8, 4] {
            plans.add(size).unwrap().unwrap();
        }
        assert_eq!(plans.sizes(), [1, 2, 4, 8, 12]);
        plans.keep_up_to(4);
        assert_eq!(plans.sizes(), [1, 2, 4]);
    }

    #[test]
    fn exact_plans_are_bounded() {
        let model: Arc<dyn Model> = FakeEngine::new(Script::default(), 1).model().into();
        let plans = Plans::new(model, true, 0).unwrap();
        for rows in 2..100 {
            plans.exact(rows).unwrap();
        }
        assert_eq!(plans.exact.lock().len(), EXACT_PLANS);
        assert!(plans.recall(99).is_some());
        assert!(plans.recall(2).is_none());
    }

    /// Fake plans share 1,000 bytes and have 10 for each row.
    #[test]
    fn sizes_stay_within_their_bytes() {
        let model = || -> Arc<dyn Model> { FakeEngine::new(Script::default(), 1).model().into() };
        let plans = Plans::new(model(), true, 1070).unwrap();
        assert!(plans.add(2).unwrap().is_some());
        assert!(plans.add(4).unwrap().is_some(), "exactly as much");
        assert!(plans.add(8).unwrap().is_none());
        assert_eq!(plans.sizes(), [1, 2, 4]);
        let small = Plans::new(model(), true, 1).unwrap();
        assert!(small.add(2).unwrap().is_none());
        assert_eq!(small.sizes(), [1], "what serves stays");

        let whole = Plans::new(model(), true, 1070).unwrap();
        for rows in [2, 3, 4] {
            whole.exact(rows).unwrap();
        }
        assert!(whole.recall(2).is_none(), "the least recently used has gone");
        assert!(whole.recall(3).is_none() && whole.recall(4).is_some());
        whole.exact(50).unwrap();
        assert!(whole.recall(50).is_some() && whole.recall(4).is_none(), "the last one is kept");
    }
}
