//! Exact tails of the distributions that calibration needs: the binomial, and the difference of two counts of one multinomial.
//! Pure. Sums of probabilities rather than approximations: each term follows from its neighbour, and terms fall so fast that a
//! sum has a few standard deviations of them.

/// Terms below this share of the sum so far add nothing to a double.
const NEGLIGIBLE: f64 = 1e-18;
/// Halvings of an interval of [0, 1] until it is as narrow as a double can say.
const HALVINGS: usize = 60;

/// What Stirling's formula lacks of ln n!, n at least 1.
fn stirling_error(n: u64) -> f64 {
    let x = n as f64;
    if n < 32 {
        let factorial: f64 = (2..=n).map(|factor| factor as f64).product();
        return factorial.ln() - (x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln());
    }
    // From 32 on the next term is below 1e-13.
    1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5))
}

/// P(X = k) for X binomial of n trials with probability p, 0 < p < 1, k <= n. Computed from how far k is from the mean, so that
/// no large logarithms cancel (Loader, "Fast and accurate computation of binomial probabilities", 2000).
pub(super) fn binomial_term(k: u64, n: u64, p: f64) -> f64 {
    let (trials, hits, misses) = (n as f64, k as f64, (n - k) as f64);
    if k == 0 {
        return (trials * (-p).ln_1p()).exp();
    }
    if k == n {
        return (trials * p.ln()).exp();
    }
    // x ln(x / expected), exact also where the two are close.
    let part = |x: f64, expected: f64| x * ((x - expected) / expected).ln_1p();
    let deviance = part(hits, trials * p) + part(misses, trials * (1.0 - p));
    let errors = stirling_error(n) - stirling_error(k) - stirling_error(n - k);
    (errors - deviance).exp() * (trials / (std::f64::consts::TAU * hits * misses)).sqrt()
}

/// P(X <= k) for X binomial of `n` trials with probability `p`.
pub(super) fn binomial_at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    // The side without the mean is the one whose terms fall.
    if (k as f64) < n as f64 * p { lower(k, n, p) } else { 1.0 - upper(k + 1, n, p) }
}

/// P(X >= k) likewise.
fn binomial_at_least(k: u64, n: u64, p: f64) -> f64 {
    if k == 0 {
        return 1.0;
    }
    if k > n || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    if (k as f64) > n as f64 * p { upper(k, n, p) } else { 1.0 - lower(k - 1, n, p) }
}

/// The sum of terms from k down.
fn lower(k: u64, n: u64, p: f64) -> f64 {
    let mut term = binomial_term(k, n, p);
    let mut sum = term;
    for i in (1..=k).rev() {
        term *= i as f64 / (n - i + 1) as f64 * ((1.0 - p) / p);
        sum += term;
        if term < sum * NEGLIGIBLE {
            break;
        }
    }
    sum.min(1.0)
}

/// The sum of terms from k up.
fn upper(k: u64, n: u64, p: f64) -> f64 {
    let mut term = binomial_term(k, n, p);
    let mut sum = term;
    for i in k..n {
        term *= (n - i) as f64 / (i + 1) as f64 * (p / (1.0 - p));
        sum += term;
        if term < sum * NEGLIGIBLE {
            break;
        }
    }
    sum.min(1.0)
}

/// The exact upper confidence bound of a probability after `k` of `n` (Clopper and Pearson, 1934): the p at which so few would
/// have had the probability `delta`. 1 when k = n.
pub fn upper_bound(k: u64, n: u64, delta: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let (mut low, mut high) = (k as f64 / n as f64, 1.0);
    for _ in 0..HALVINGS {
        let middle = low.midpoint(high);
        if binomial_at_most(k, n, middle) > delta { low = middle } else { high = middle }
    }
    high
}

/// The exact lower confidence bound of a probability after `k` of `n`. 0 when k = 0.
pub fn lower_bound(k: u64, n: u64, delta: f64) -> f64 {
    1.0 - upper_bound(n - k, n, delta)
}

/// P(A - B <= t) where of `n` trials each counts for A with probability `a`, for B with probability `b`, else for neither.
pub(super) fn difference_at_most(t: i64, n: u64, a: f64, b: f64) -> f64 {
    if b <= 0.0 {
        return if t < 0 { 0.0 } else { binomial_at_most(t.unsigned_abs(), n, a) };
    }
    let mean = n as f64 * a;
    // Terms beyond ten standard deviations and the tail of small means are below 1e-20 together.
    let reach = 10.0 * (mean * (1.0 - a)).sqrt() + 30.0;
    let first = (mean - reach).max(0.0) as u64;
    let last = ((mean + reach) as u64).min(n);
    let mut term = binomial_term(first, n, a);
    let mut sum = 0.0;
    for i in first..=last {
        // Given A = i, B is binomial among the rest.
        let least = u64::try_from(i64::try_from(i).unwrap_or(i64::MAX) - t).unwrap_or(0);
        sum += term * binomial_at_least(least, n - i, b / (1.0 - a));
        term *= (n - i) as f64 / (i + 1) as f64 * (a / (1.0 - a));
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-9 * want.abs() + 1e-14, "got {got:e}, expected {want:e}");
    }

    // scipy.stats.binom.cdf
    #[test]
    fn binomial() {
        for (k, n, p, want) in [
            (0, 10, 0.1, 0.34867844009999993),
            (3, 10, 0.5, 0.171875),
            (9, 10, 0.5, 0.9990234375),
            (2, 300, 0.01, 0.42206391753974304),
            (0, 299, 0.01, 0.049536256637662465),
            (40, 2000, 0.01, 0.9999772380198402),
            (5, 2000, 0.01, 6.787349452355955e-05),
            (1000, 2000, 0.5, 0.5089195055729272),
            (900, 2000, 0.5, 4.228544767751905e-06),
            (10120, 1000000, 0.01, 0.8869206271104253),
            (9700, 1000000, 0.01, 0.0012493412682678662),
            (31, 33, 0.9, 0.8557852795477143),
            (33, 70, 0.3, 0.9991618081851533),
        ] {
            near(binomial_at_most(k, n, p), want);
            near(1.0 - binomial_at_least(k + 1, n, p), want);
        }
        assert_eq!(
            (binomial_at_most(3, 3, 0.5), binomial_at_most(0, 9, 0.0), binomial_at_most(8, 9, 1.0)),
            (1.0, 1.0, 0.0)
        );
        assert_eq!(
            (binomial_at_least(0, 9, 0.5), binomial_at_least(10, 9, 0.5), binomial_at_least(1, 9, 0.0)),
            (1.0, 0.0, 0.0)
        );
    }

    // scipy.stats.beta.ppf(1 - delta, k + 1, n - k)
    #[test]
    fn clopper_pearson() {
        for (k, n, delta, want) in [
            (0, 299, 0.05, 0.009969146792899269),
            (0, 298, 0.05, 0.010002432437677691),
            (1, 300, 0.05, 0.01571455489158395),
            (12, 2000, 0.05, 0.009703194529571085),
            (3, 500, 0.025, 0.017433673725913514),
            (150, 20000, 0.05, 0.00858355266857836),
            (9, 10, 0.1, 0.9895192582062144),
            (999, 2000, 0.01, 0.5257390186399029),
            (50, 1000000, 0.05, 6.328665364259592e-05),
        ] {
            near(upper_bound(k, n, delta), want);
            near(lower_bound(n - k, n, delta), 1.0 - want);
        }
        assert_eq!((upper_bound(7, 7, 0.05), lower_bound(0, 7, 0.05)), (1.0, 0.0));
    }

    // Sums of scipy.stats.multinomial.pmf
    #[test]
    fn differences() {
        for (t, n, a, b, want) in [
            (0, 20, 0.1, 0.05, 0.3891783600761708),
            (-2, 20, 0.1, 0.05, 0.06510278686874243),
            (3, 20, 0.3, 0.3, 0.8433182927972886),
            (0, 299, 0.01, 0.0, 0.0495362566376625),
            (1, 299, 0.01, 0.0, 0.19914575900797646),
            (-1, 299, 0.01, 0.0, 0.0),
            (5, 2000, 0.015, 0.005, 0.009290566532214455),
            (-3, 2000, 0.015, 0.005, 0.00010868060494809884),
            (150, 20000, 0.02, 0.01, 0.021141967952126663),
            (60, 20000, 0.005, 0.001, 0.03546806799250782),
        ] {
            near(difference_at_most(t, n, a, b), want);
        }
    }
}
