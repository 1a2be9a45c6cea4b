//! Numbers that look random and are the same for the same seed, everywhere and forever. Used by the mutations.

/// A SplitMix64 generator.
pub(in super::super) struct Random(u64);

impl Random {
    pub(in super::super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    pub(in super::super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `limit`; 0 for 0.
    pub(in super::super) fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    pub(in super::super) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(in super::super) fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())].clone()
    }

    /// An index of a list; `None` for an empty one.
    pub(in super::super) fn at<T>(&mut self, list: &[T]) -> Option<usize> {
        (!list.is_empty()).then(|| self.below(list.len()))
    }

    /// A number as a file should not have it, or a small one.
    pub(in super::super) fn int(&mut self) -> i64 {
        const ODD: [i64; 16] = [
            0,
            1,
            -1,
            2,
            3,
            -2,
            5,
            64,
            1000,
            1 << 20,
            1 << 31,
            1 << 40,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            (1 << 32) + 1,
        ];
        if self.one_in(3) { self.below(8) as i64 } else { self.pick(&ODD) }
    }

    pub(in super::super) fn float(&mut self) -> f32 {
        const ODD: [f32; 10] =
            [0.0, -0.0, 1.0, -1.0, 1e30, -1e30, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE];
        if self.one_in(2) { (self.below(2001) as f32 - 1000.0) / 100.0 } else { self.pick(&ODD) }
    }
}
