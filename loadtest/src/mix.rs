//! Which class a request belongs to: classes in proportion to their weights, in a shuffled order that repeats. Used by
//! `bench`.

/// An order of classes that repeats.
#[derive(Debug)]
pub(crate) struct Mix(Vec<u16>);

/// The sum of the weights, at most.
pub(crate) const MAX_WEIGHT: u32 = 10_000;

impl Mix {
    /// Over one round of the order, every class comes as often as its weight says.
    pub(crate) fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut order = Vec::new();
        for (class, weight) in weights.into_iter().enumerate() {
            let class = u16::try_from(class).unwrap_or(u16::MAX);
            order.extend(std::iter::repeat_n(class, weight as usize));
        }
        fastrand::Rng::with_seed(order.len() as u64).shuffle(&mut order);
        Self(order)
    }

    /// The class of request `number`.
    pub(crate) fn class(&self, number: u64) -> usize {
        match self.0.len() {
            0 | 1 => 0,
            length => usize::from(self.0[(number % length as u64) as usize]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_as_often_as_their_weights_say() {
        let mix = Mix::new([7, 2, 1]);
        let mut counts = [0; 3];
        (0..1000).for_each(|number| counts[mix.class(number)] += 1);
        assert_eq!(counts, [700, 200, 100]);
        assert_eq!(Mix::new([5]).class(12), 0);
    }
}
