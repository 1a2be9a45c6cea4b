//! Two engines on one model: whether they agree, and which is faster. Called when `engine = "auto"` finds both.

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use super::{
    answers::{Difference, difference},
    candidate::Candidate,
    rows::{made_up, repeated, zeros},
};
use crate::{
    engine::{EngineError, InputBuffer, Model, OutputData, Session},
    scheduler::run_once,
    types::{Batch, Data, Signature, Tensor},
};

/// Batch sizes that are timed.
const SIZES: [usize; 3] = [1, 8, 32];

/// Rows that answers are compared on; fewer where a model does not take as many.
const ROWS: [usize; 2] = [3, 1];

/// Golden cases that engines are compared on.
const MAX_CASES: usize = 8;

/// Runs of one size, after the first, and how long they may take together when they are cheap.
const MAX_RUNS: usize = 50;
const ENOUGH: Duration = Duration::from_millis(20);

/// What came of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// All answers are the same.
    Agree,
    /// One is not: which and where.
    Differ(String),
    /// Only the second engine can run what was tried.
    FirstFails(String),
    /// Only the first engine can run what was tried.
    SecondFails(String),
    /// Nothing could be compared.
    Unknown(String),
}

/// Compares two engines: on the golden rows, what the golden answers, which both have given, leave open; on made-up rows where there
/// is nothing golden.
pub(super) fn compare(first: &Candidate, second: &Candidate) -> Compared {
    let signature = first.model.signature();
    if let Some(text) = signatures_differ(signature, second.model.signature()) {
        return Compared::Differ(text);
    }
    if let Some(operator) = first.model.order_dependent().first() {
        return Compared::Unknown(format!("operator {operator} answers differently each time"));
    }
    let golden = first.golden_inputs();
    if !golden.is_empty() {
        if (0..signature.outputs.len()).all(|output| first.is_golden(output)) {
            return Compared::Agree;
        }
        let results = golden.iter().take(MAX_CASES).map(|inputs| compare_on(first, second, inputs));
        return results
            .reduce(|one, other| if one == Compared::Agree { other } else { one })
            .unwrap_or(Compared::Agree);
    }
    let mut last = Compared::Unknown("no rows could be made up".to_owned());
    for make in [made_up, zeros] {
        for rows in ROWS {
            let Some(inputs) = make(signature, rows) else { continue };
            match compare_on(first, second, &inputs) {
                // Values may lie outside of what the model takes: others are tried.
                Compared::Unknown(text) => last = Compared::Unknown(text),
                // A model that takes one row at a time says nothing against the engine.
                Compared::FirstFails(text) if rows > 1 => last = Compared::FirstFails(text),
                Compared::SecondFails(text) if rows > 1 => last = Compared::SecondFails(text),
                known => return known,
            }
        }
    }
    last
}

fn compare_on(first: &Candidate, second: &Candidate, inputs: &[Tensor]) -> Compared {
    let rows = rows_of(first.model.signature(), inputs);
    match (answer(first, inputs, rows), answer(second, inputs, rows)) {
        (Ok(ours), Ok(theirs)) => {
            differs((first, &ours), (second, &theirs), rows).map_or(Compared::Agree, Compared::Differ)
        }
        (Err(error), Ok(_)) => Compared::FirstFails(error),
        (Ok(_), Err(error)) => Compared::SecondFails(error),
        (Err(error), Err(_)) => Compared::Unknown(format!("what was tried cannot be run: {error}")),
    }
}

fn answer(candidate: &Candidate, inputs: &[Tensor], rows: usize) -> Result<Vec<Tensor>, String> {
    let model = &candidate.model;
    let plan =
        model.plan((model.signature().batch == Batch::Rows).then_some(rows)).map_err(|error| error.to_string())?;
    run_once(model, &plan, inputs).map_err(|error| format!("run: {error}"))
}

/// The first output and row in which two answers differ.
fn differs(first: (&Candidate, &[Tensor]), second: (&Candidate, &[Tensor]), rows: usize) -> Option<String> {
    let scores: Vec<&Tensor> = first.1.iter().collect();
    let outputs = first.0.model.signature().outputs.iter().zip(first.1.iter().zip(second.1)).enumerate();
    outputs.filter(|(index, _)| !first.0.is_golden(*index)).find_map(|(_, (spec, (ours, theirs)))| {
        let Difference { place, row, want, got } = difference(theirs, ours, rows, &scores)?;
        let row = row.map(|row| format!(", row {row}")).unwrap_or_default();
        let (ours, theirs) = (first.0.engine, second.0.engine);
        Some(format!("output '{}'{row}, {place}: {ours} says {want}, {theirs} says {got}", spec.name))
    })
}

/// What two engines see differently in one file. Sizes that only one of them knows are no difference.
fn signatures_differ(first: &Signature, second: &Signature) -> Option<String> {
    if first.batch != second.batch {
        let is = |batch| if batch == Batch::Rows { "is" } else { "is not" };
        return Some(format!("dimension 0 {} a batch for one, {} for the other", is(first.batch), is(second.batch)));
    }
    let sides = [("input", &first.inputs, &second.inputs), ("output", &first.outputs, &second.outputs)];
    sides.into_iter().find_map(|(kind, first, second)| {
        if first.len() != second.len() {
            return Some(format!("{} {kind}s for one, {} for the other", first.len(), second.len()));
        }
        let differs = first.iter().zip(second).find(|(a, b)| {
            let fits = |(a, b): (&Option<usize>, &Option<usize>)| a.is_none() || b.is_none() || a == b;
            (&a.name, a.dtype, a.shape.len()) != (&b.name, b.dtype, b.shape.len())
                || !a.shape.iter().zip(&b.shape).all(fits)
        });
        differs.map(|(a, b)| {
            let shown = |spec: &crate::types::TensorSpec| format!("{} {:?}", spec.dtype, spec.wire_shape());
            format!("{kind} '{}': {} for one, {} for the other", a.name, shown(a), shown(b))
        })
    })
}

/// Shortest run times by batch size, of both engines.
pub(super) type Costs = BTreeMap<usize, [Duration; 2]>;

/// How much may be timed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// Rows of the largest batch.
    pub(super) limit: usize,
    /// Time for all of it.
    pub(super) budget: Duration,
}

/// Times both engines in turn, size by size, as long as there is time. The smallest size is always run once in each: nothing tells
/// beforehand how long that takes. Everything else is only begun when what has been measured says that it will end in time.
///
/// # Errors
/// Why an engine could not be timed even with the smallest batch; 0 or 1 says which.
pub(super) fn time(candidates: [&Candidate; 2], trial: Trial) -> Result<Costs, (usize, String)> {
    let Trial { limit, budget } = trial;
    let began = Instant::now();
    let signature = candidates[0].model.signature();
    let sizes = match signature.batch {
        Batch::Rows => SIZES.into_iter().filter(|size| *size <= limit.max(1)).collect(),
        Batch::None => vec![1],
    };
    let left = || budget.saturating_sub(began.elapsed());
    let mut costs = Costs::new();
    let mut last: Option<(usize, Sample)> = None;
    for rows in sizes {
        // Plans take as long again, runs longer in proportion; the first ones and one more of each.
        let expected = last.as_ref().map(|(known, Sample { costs: [ours, theirs], plans })| {
            let times = u32::try_from(rows / known).unwrap_or(u32::MAX);
            plans.saturating_add((*ours + *theirs).saturating_mul(times).saturating_mul(2))
        });
        if expected.is_some_and(|expected| expected > left()) {
            break;
        }
        let Some(inputs) = timing_inputs(candidates[0], rows) else { break };
        match time_size(candidates, rows, &inputs, &left) {
            Ok(sample) => {
                costs.insert(rows, sample.costs);
                last = Some((rows, sample));
            }
            // A larger size that cannot be run says nothing about which engine is faster.
            Err(_) if !costs.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(costs)
}

fn timing_inputs(candidate: &Candidate, rows: usize) -> Option<Vec<Tensor>> {
    let signature = candidate.model.signature();
    let known = candidate.golden_inputs().into_iter().next();
    match (known, signature.batch) {
        (Some(inputs), Batch::Rows) => repeated(&inputs, rows),
        (Some(inputs), Batch::None) => Some(inputs),
        (None, _) => {
            let runs = |inputs: &Vec<Tensor>| answer(candidate, inputs, rows).is_ok();
            made_up(signature, rows).filter(runs).or_else(|| zeros(signature, rows))
        }
    }
}

/// What came of timing one size.
struct Sample {
    /// Shortest run times.
    costs: [Duration; 2],
    /// How long plans and sessions took to make.
    plans: Duration,
}

fn time_size(
    candidates: [&Candidate; 2],
    rows: usize,
    inputs: &[Tensor],
    left: &dyn Fn() -> Duration,
) -> Result<Sample, (usize, String)> {
    let (mut timers, mut plans) = (Vec::with_capacity(2), Duration::ZERO);
    let mut first = [Duration::ZERO; 2];
    for (which, candidate) in candidates.into_iter().enumerate() {
        let start = Instant::now();
        let mut timer = Timer::new(candidate, rows).map_err(|error| (which, error))?;
        plans += start.elapsed();
        first[which] = timer.once(inputs).map_err(|error| (which, error.to_string()))?;
        timers.push(timer);
    }
    let run = |which: usize| timers[which].once(inputs).map_err(|error| (which, error.to_string()));
    Ok(Sample { costs: in_turn(first, left, run)?, plans })
}

/// Runs both in turn and gives the shortest time of each. No run is begun that is expected to end after there is no time left, and
/// a round that was not finished does not count. The `first` runs fill caches and buffers: they count where there was time for
/// nothing else. Pure, but for what `left` and `run` do.
pub(super) fn in_turn<E>(
    first: [Duration; 2],
    left: &dyn Fn() -> Duration,
    mut run: impl FnMut(usize) -> Result<Duration, E>,
) -> Result<[Duration; 2], E> {
    let (mut best, mut spent): (Option<[Duration; 2]>, _) = (None, Duration::ZERO);
    for round in 0..MAX_RUNS {
        let mut took = [Duration::ZERO; 2];
        for (which, took) in took.iter_mut().enumerate() {
            if left() < best.unwrap_or(first)[which] {
                return Ok(best.unwrap_or(first));
            }
            *took = run(which)?;
            spent += *took;
        }
        best = Some(best.map_or(took, |best| [best[0].min(took[0]), best[1].min(took[1])]));
        if round >= 2 && spent > ENOUGH {
            break;
        }
    }
    Ok(best.unwrap_or(first))
}

/// A session that is run with the same inputs again and again.
struct Timer {
    session: Box<dyn Session>,
    outputs: usize,
}

impl Timer {
    fn new(candidate: &Candidate, rows: usize) -> Result<Self, String> {
        let model: &dyn Model = &candidate.model;
        let plan =
            model.plan((model.signature().batch == Batch::Rows).then_some(rows)).map_err(|error| error.to_string())?;
        let session = plan.session().map_err(|error| error.to_string())?;
        Ok(Self { session, outputs: model.signature().outputs.len() })
    }

    /// One run, with what the gateway does around it: rows are copied in, and read out.
    fn once(&mut self, inputs: &[Tensor]) -> Result<Duration, EngineError> {
        let start = Instant::now();
        for (index, input) in inputs.iter().enumerate() {
            match (self.session.input(index, input.shape())?, input.data()) {
                (InputBuffer::Plain(buffer), Data::Plain(bytes)) if buffer.len() == bytes.len() => {
                    buffer.copy_from_slice(bytes);
                }
                (InputBuffer::Strings(buffer), Data::Strings(items)) => {
                    for (slot, item) in buffer.iter_mut().zip(items.iter()) {
                        slot.clear();
                        slot.push_str(std::str::from_utf8(item).map_err(EngineError::new)?);
                    }
                }
                _ => return Err(EngineError::new("an input buffer of another kind than the input")),
            }
        }
        self.session.run()?;
        for index in 0..self.outputs {
            match self.session.output(index)?.data {
                OutputData::Plain(bytes) => drop(black_box(bytes.to_vec())),
                OutputData::Strings(items) => drop(black_box(items.to_vec())),
            }
        }
        Ok(start.elapsed())
    }
}

fn rows_of(signature: &Signature, inputs: &[Tensor]) -> usize {
    match signature.batch {
        Batch::Rows => inputs.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1),
        Batch::None => 1,
    }
}

/// How many times as long the first engine takes as the second: the geometric mean over the sizes, where a batch is run as several
/// smaller ones if that is faster, as the scheduler does. `None` without any sizes.
pub(super) fn ratio(costs: &Costs) -> Option<f64> {
    let mut per_row = [f64::INFINITY; 2];
    let logs = costs.iter().map(|(rows, costs)| {
        for (least, cost) in per_row.iter_mut().zip(costs) {
            *least = least.min(cost.as_secs_f64().max(1e-9) / *rows as f64);
        }
        (per_row[0] / per_row[1]).ln()
    });
    let logs: Vec<f64> = logs.collect();
    (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
}
