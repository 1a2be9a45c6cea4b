//! The shadow of a split: a model that sees a sample of the requests after they have been answered, and whose answers are only
//! compared. Compiled into a split; the split says which requests it sees. Everything but the hand-over happens on the thread
//! for what nobody waits for ([`Lane::run_aside`](crate::scheduler::Lane::run_aside)), so that whatever the shadow does costs
//! the request nothing.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::difference::{Comparison, Pair, compare};
use crate::{
    observe::{DifferenceSeries, RouteSeries, ShadowResult, ShadowSeries},
    registry::Servable,
    scheduler::AsideOutcome,
    types::{DType, Error, Rows, ServableId, Signature, Tensor, TensorSpec},
};

/// Outputs up to this size are copied: that takes some microseconds at most. Larger ones are most of their batch.
const MAX_COPY: usize = 64 << 10;

/// A model that answers beside a split.
pub struct Shadow {
    servable: Arc<Servable>,
    /// For each of its inputs, which of the route's it is.
    inputs: Box<[usize]>,
    judge: Arc<Judge>,
}

/// What looks at its answers.
struct Judge {
    id: ServableId,
    outputs: Box<[Compared]>,
    series: Arc<ShadowSeries>,
    failures: AtomicU64,
}

/// An output that the route and the shadow both have.
struct Compared {
    /// Its place among the route's.
    primary: usize,
    /// Its place among the shadow's.
    shadow: usize,
    series: Arc<DifferenceSeries>,
}

/// What the caller got, for the comparison.
struct Answered {
    /// The outputs that are compared, in the judge's order.
    outputs: Vec<Tensor>,
    rows: usize,
    took: Duration,
}

impl Shadow {
    /// The shadow of a route that takes and gives `route`. It takes locks: once per revision.
    ///
    /// # Errors
    /// Everything that does not fit, each `shadow.model: <what>`: an input that the route does not take or takes otherwise, no
    /// output in common, a batch dimension on one side only.
    pub fn new(servable: &Arc<Servable>, route: &Signature, series: &RouteSeries) -> Result<Self, Vec<String>> {
        let own = &servable.signature;
        let name = &servable.id.model;
        let mut problems = Vec::new();
        let mut inputs = Vec::with_capacity(own.inputs.len());
        for input in &own.inputs {
            match route.inputs.iter().position(|taken| taken.name == input.name) {
                Some(place) if alike(input, &route.inputs[place]) => inputs.push(place),
                Some(place) => problems.push(format!(
                    "shadow.model: input '{}': expected {} as the route takes, got {} of '{name}'",
                    input.name,
                    shown(&route.inputs[place]),
                    shown(input)
                )),
                None => problems.push(format!(
                    "shadow.model: '{name}' needs input '{}' {}, which the route does not take",
                    input.name,
                    shown(input)
                )),
            }
        }
        if own.batch != route.batch {
            problems.push(format!("shadow.model: '{name}' and the route do not both have a batch dimension"));
        }
        let shared: Vec<(usize, usize)> = shared(route, own).collect();
        if shared.is_empty() {
            problems.push(format!(
                "shadow.model: no output to compare: '{name}' gives {}, the route {}",
                all_shown(&own.outputs),
                all_shown(&route.outputs)
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let series = series.shadow();
        let outputs = shared.into_iter().map(|(primary, shadow)| Compared {
            primary,
            shadow,
            series: series.output(&route.outputs[primary].name),
        });
        let judge = Judge { id: servable.id.clone(), outputs: outputs.collect(), series, failures: AtomicU64::new(0) };
        Ok(Self { servable: Arc::clone(servable), inputs: inputs.into(), judge: Arc::new(judge) })
    }

    /// What is wrong with naming a route as a shadow.
    pub fn not_a_model(route: impl fmt::Display) -> String {
        format!("shadow.model: '{route}' is a route: expected a model, which nothing else depends on")
    }

    /// Shows the shadow a request that was answered: its inputs in the route's order, the route's outputs, when it began and
    /// when the answer was complete. Never blocks and never fails: what it does not take is counted as dropped.
    pub fn mirror(&self, given: &Rows, outputs: &[Tensor], begun: Instant, answered: Instant) {
        let rows = given.rows;
        if !self.servable.lane.takes_aside(answered) {
            return self.judge.series.rows(ShadowResult::Dropped, rows);
        }
        let most = self.servable.spec.max_request_rows;
        let kept: Option<Vec<Tensor>> =
            self.judge.outputs.iter().map(|output| outputs.get(output.primary).map(apart)).collect();
        let (Some(inputs), Some(outputs), false) = (self.arranged(given), kept, most.is_some_and(|most| rows > most))
        else {
            return self.judge.series.rows(ShadowResult::Dropped, rows);
        };
        if !self.takes(&inputs) {
            let error = Error::invalid("inputs: not of the shape that the shadow takes");
            return self.judge.failed(rows, &error);
        }
        let bytes = inputs.iter().chain(&outputs).map(Tensor::byte_len).sum();
        let answer = Answered { outputs, rows, took: answered.saturating_duration_since(begun) };
        let judge = Arc::clone(&self.judge);
        let given = Rows { inputs, rows };
        self.servable.lane.run_aside(given, bytes, answered, move |outcome| judge.look_at(&answer, outcome));
    }

    /// The shadow's inputs out of the route's.
    fn arranged(&self, given: &Rows) -> Option<Arc<[Tensor]>> {
        if self.inputs.len() == given.inputs.len() && self.inputs.iter().enumerate().all(|(i, from)| i == *from) {
            return Some(Arc::clone(&given.inputs));
        }
        self.inputs.iter().map(|from| given.inputs.get(*from).cloned()).collect()
    }

    /// Whether the inputs have the sizes that the shadow asks for where the route leaves them open.
    fn takes(&self, inputs: &[Tensor]) -> bool {
        self.servable.signature.inputs.iter().zip(inputs).all(|(spec, input)| {
            let fits = |(wanted, got): (&Option<usize>, &usize)| wanted.is_none_or(|wanted| wanted == *got);
            spec.shape.len() == input.shape().len() && spec.shape.iter().zip(input.shape()).all(fits)
        })
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shadow").field(&self.servable.id).finish()
    }
}

impl Judge {
    fn look_at(&self, answered: &Answered, outcome: AsideOutcome) {
        let rows = answered.rows;
        match outcome {
            AsideOutcome::Dropped => self.series.rows(ShadowResult::Dropped, rows),
            AsideOutcome::Failed(error) => self.failed(rows, &error),
            AsideOutcome::Answered { outputs, took } => match self.compare(answered, &outputs) {
                Some(comparison) => self.record(&comparison, (answered.took, took)),
                None => {
                    self.failed(
                        rows,
                        &Error::internal("outputs: not comparable", "another datatype, shape or row count"),
                    );
                }
            },
        }
    }

    fn compare(&self, answered: &Answered, outputs: &[Tensor]) -> Option<Comparison> {
        let pair = |(compared, primary)| {
            let compared: &Compared = compared;
            Some(Pair { primary, shadow: outputs.get(compared.shadow)? })
        };
        let pairs: Option<Vec<Pair<'_>>> = self.outputs.iter().zip(&answered.outputs).map(pair).collect();
        compare(&pairs?, answered.rows)
    }

    fn record(&self, comparison: &Comparison, (primary, shadow): (Duration, Duration)) {
        let agree = comparison.same.iter().filter(|same| **same).count();
        self.series.rows(ShadowResult::Agree, agree);
        self.series.rows(ShadowResult::Differ, comparison.same.len() - agree);
        self.series.took(primary, shadow);
        for (compared, difference) in self.outputs.iter().zip(&comparison.outputs) {
            compared.series.ranked(difference.ranked, difference.flips);
            for (absolute, relative) in &difference.rows {
                compared.series.row(*absolute, *relative);
            }
        }
    }

    fn failed(&self, rows: usize, error: &Error) {
        self.series.rows(ShadowResult::Failed, rows);
        let failures = self.failures.fetch_add(1, Relaxed) + 1;
        // A shadow that always fails would fill the log.
        if failures.is_power_of_two() {
            tracing::warn!(model = %self.id, failures, %error, detail = error.detail(), "a shadow failed");
        }
    }
}

/// An output to keep for later: a small one apart from the batch that it is a slice of, so that the batch can go.
fn apart(output: &Tensor) -> Tensor {
    let copy = || Tensor::plain(output.dtype(), output.shape().into(), Bytes::copy_from_slice(output.bytes())).ok();
    let small = output.dtype() != DType::Bytes && output.byte_len() <= MAX_COPY;
    if small { copy() } else { None }.unwrap_or_else(|| output.clone())
}

/// Places in `route` and in `own` of the outputs that can be compared.
fn shared<'a>(route: &'a Signature, own: &'a Signature) -> impl Iterator<Item = (usize, usize)> + 'a {
    route.outputs.iter().enumerate().filter_map(|(primary, output)| {
        let shadow = own.outputs.iter().position(|other| other.name == output.name && alike(other, output))?;
        Some((primary, shadow))
    })
}

/// True when some tensor fits both.
fn alike(a: &TensorSpec, b: &TensorSpec) -> bool {
    let sizes = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
    a.dtype == b.dtype && a.shape.len() == b.shape.len() && a.shape.iter().zip(&b.shape).all(sizes)
}

fn shown(spec: &TensorSpec) -> String {
    format!("{} {:?}", spec.dtype, spec.wire_shape())
}

fn all_shown(specs: &[TensorSpec]) -> String {
    let each: Vec<_> = specs.iter().map(|spec| format!("'{}' {}", spec.name, shown(spec))).collect();
    each.join(", ")
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
