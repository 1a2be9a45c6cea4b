//! One batch, from waiting rows to answers: gather rows into a session's own buffers, run, copy the outputs out once, and give
//! every job its slice. Called by workers, by the local lane's drain task, and by the proof that rows may be merged.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    engine::{EngineError, InputBuffer, Model, OutputData, Plan, Session},
    types::{Batch, Data, Shape, Signature, Tensor},
};

/// Timed runs of a plan, at most.
const TIMED_RUNS: usize = 9;
/// Timed runs of a plan, at least.
const FEWEST_TIMED_RUNS: usize = 2;
/// A plan is not timed for longer, once it has run often enough.
const TIMED_FOR: Duration = Duration::from_millis(20);

/// Rows of one request that take part in a batch.
pub(crate) trait Member {
    /// The request's inputs in the model's order.
    fn inputs(&self) -> &[Tensor];
    /// Which of their rows.
    fn range(&self) -> Range<usize>;
}

/// How long the parts of a batch took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    pub(crate) gather: Duration,
    pub(crate) compute: Duration,
    pub(crate) scatter: Duration,
}

impl Timing {
    /// Adds what another part took.
    pub(crate) fn add(&mut self, part: Self) {
        self.gather += part.gather;
        self.compute += part.compute;
        self.scatter += part.scatter;
    }
}

/// The outputs of a batch that is being run, filled chunk by chunk.
pub(crate) struct Outputs {
    parts: Vec<Part>,
    rows: usize,
}

enum Part {
    Empty,
    Plain { shape: Shape, dtype: crate::types::DType, bytes: Vec<u8> },
    Strings { shape: Shape, items: Vec<Bytes> },
}

impl Outputs {
    /// Room for the outputs of `rows` rows.
    pub(crate) fn new(signature: &Signature, rows: usize) -> Self {
        Self { parts: signature.outputs.iter().map(|_| Part::Empty).collect(), rows }
    }

    /// There will be so many rows only.
    pub(crate) fn shrink(&mut self, rows: usize) {
        self.rows = rows;
        for part in &mut self.parts {
            if let Part::Plain { shape, .. } | Part::Strings { shape, .. } = part
                && let Some(first) = shape.first_mut()
            {
                *first = rows;
            }
        }
    }

    /// The outputs as tensors of all rows.
    ///
    /// # Errors
    /// When a chunk is missing, which is a defect of the engine.
    pub(crate) fn finish(self) -> Result<Vec<Tensor>, EngineError> {
        self.parts
            .into_iter()
            .map(|part| match part {
                Part::Empty => Err(EngineError::new("an output was not produced")),
                Part::Plain { shape, dtype, bytes } => {
                    Tensor::plain(dtype, shape, bytes.into()).map_err(EngineError::new)
                }
                Part::Strings { shape, items } => Tensor::strings(shape, items.into()).map_err(EngineError::new),
            })
            .collect()
    }
}

/// The part of a batch that one run answers.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Its rows, counted over all members.
    pub(crate) rows: Range<usize>,
    /// Rows of the run; those beyond the chunk's are copies of its last one, and their answers are left out.
    pub(crate) size: usize,
}

impl Chunk {
    /// All of `rows` rows in one run of their size.
    pub(crate) fn whole(rows: usize) -> Self {
        Self { rows: 0..rows, size: rows }
    }
}

/// A chunk whose rows are in its session's buffers.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    pub(crate) chunk: Chunk,
    start: Instant,
    /// When it was done: right before the engine is called.
    pub(crate) at: Instant,
}

impl Gathered {
    pub(crate) fn took(&self) -> Duration {
        self.at - self.start
    }
}

/// Puts the rows of a chunk into the buffers of a session, compiled for its size.
///
/// # Errors
/// When the engine refuses them, or members do not have those rows.
pub(crate) fn gather_chunk<M: Member>(
    session: &mut dyn Session,
    signature: &Signature,
    members: &[M],
    chunk: Chunk,
) -> Result<Gathered, EngineError> {
    let start = Instant::now();
    for index in 0..signature.inputs.len() {
        gather(session, signature.batch, members, index, &chunk)?;
    }
    Ok(Gathered { chunk, start, at: Instant::now() })
}

/// Runs a chunk that has been gathered in this session, and appends the outputs.
///
/// # Errors
/// When the engine fails, or answers another number of rows than it was given.
pub(crate) fn run_gathered(
    session: &mut dyn Session,
    signature: &Signature,
    gathered: &Gathered,
    outputs: &mut Outputs,
) -> Result<Timing, EngineError> {
    session.run()?;
    let computed = Instant::now();
    for (index, part) in outputs.parts.iter_mut().enumerate() {
        append(session, signature, index, part, (&gathered.chunk, outputs.rows))?;
    }
    Ok(Timing { gather: gathered.took(), compute: computed - gathered.at, scatter: computed.elapsed() })
}

/// Both, with the errors of both.
pub(crate) fn run_chunk<M: Member>(
    session: &mut dyn Session,
    signature: &Signature,
    members: &[M],
    chunk: &Chunk,
    outputs: &mut Outputs,
) -> Result<Timing, EngineError> {
    let gathered = gather_chunk(session, signature, members, chunk.clone())?;
    run_gathered(session, signature, &gathered, outputs)
}

fn gather<M: Member>(
    session: &mut dyn Session,
    batch: Batch,
    members: &[M],
    index: usize,
    Chunk { rows: chunk, size }: &Chunk,
) -> Result<(), EngineError> {
    let Some(first) = members.first().and_then(|member| member.inputs().get(index)) else {
        return Err(EngineError::new("a batch without members"));
    };
    let mut shape: Shape = first.shape().into();
    let per_row: usize = match batch {
        Batch::Rows => {
            shape[0] = *size;
            shape[1..].iter().product()
        }
        Batch::None => shape.iter().product(),
    };
    let width = per_row * first.dtype().size().unwrap_or(0);
    let mut buffer = session.input(index, &shape)?;
    let mut at = 0;
    let mut seen = 0;
    for member in members {
        let rows = member.range();
        let overlap = seen.max(chunk.start)..(seen + rows.len()).min(chunk.end);
        if !overlap.is_empty() {
            let from = rows.start + (overlap.start - seen);
            let Some(tensor) = member.inputs().get(index) else { return Err(EngineError::new("an input is missing")) };
            copy_rows(&mut buffer, at, tensor.data(), (from, overlap.len(), per_row, width))?;
            at += overlap.len();
        }
        seen += rows.len();
    }
    if at != chunk.len() {
        return Err(EngineError::new("a batch with too few rows"));
    }
    if *size > at {
        pad(&mut buffer, at, (*size, per_row, width))?;
    }
    Ok(())
}

/// Fills rows `at` to `size` with copies of the row before them.
fn pad(
    buffer: &mut InputBuffer<'_>,
    at: usize,
    (size, per_row, width): (usize, usize, usize),
) -> Result<(), EngineError> {
    let short = || EngineError::new("rows out of range");
    match buffer {
        InputBuffer::Plain(target) => {
            let (filled, rest) = target.split_at_mut_checked(at * width).ok_or_else(short)?;
            let last = filled.len().checked_sub(width).and_then(|from| filled.get(from..)).ok_or_else(short)?;
            let rest = rest.get_mut(..(size - at) * width).ok_or_else(short)?;
            rest.chunks_exact_mut(width.max(1)).for_each(|row| row.copy_from_slice(last));
        }
        InputBuffer::Strings(target) => {
            let (filled, rest) = target.split_at_mut_checked(at * per_row).ok_or_else(short)?;
            let last = filled.len().checked_sub(per_row).and_then(|from| filled.get(from..)).ok_or_else(short)?;
            for row in rest.chunks_exact_mut(per_row.max(1)).take(size - at) {
                row.clone_from_slice(last);
            }
        }
    }
    Ok(())
}

/// Copies `(from, rows, elements per row, bytes per row)` of a tensor to row `at` of the buffer.
fn copy_rows(
    buffer: &mut InputBuffer<'_>,
    at: usize,
    data: &Data,
    (from, rows, per_row, width): (usize, usize, usize, usize),
) -> Result<(), EngineError> {
    match (buffer, data) {
        (InputBuffer::Plain(target), Data::Plain(source)) => {
            let target = target.get_mut(at * width..(at + rows) * width);
            let source = source.get(from * width..(from + rows) * width);
            let (Some(target), Some(source)) = (target, source) else {
                return Err(EngineError::new("rows out of range"));
            };
            target.copy_from_slice(source);
            Ok(())
        }
        (InputBuffer::Strings(target), Data::Strings(source)) => {
            let target = target.get_mut(at * per_row..(at + rows) * per_row);
            let source = source.get(from * per_row..(from + rows) * per_row);
            let (Some(target), Some(source)) = (target, source) else {
                return Err(EngineError::new("rows out of range"));
            };
            for (to, item) in target.iter_mut().zip(source) {
                to.clear();
                to.push_str(std::str::from_utf8(item).map_err(EngineError::new)?);
            }
            Ok(())
        }
        _ => Err(EngineError::new("an input buffer of another kind than the input")),
    }
}

/// Appends output `index` of a chunk's run to its part, without the rows of padding; a part has room for `total_rows`.
fn append(
    session: &dyn Session,
    signature: &Signature,
    index: usize,
    part: &mut Part,
    (chunk, total_rows): (&Chunk, usize),
) -> Result<(), EngineError> {
    let view = session.output(index)?;
    let (rows, size) = (chunk.rows.len(), chunk.size);
    let mut shape: Shape = view.shape.into();
    if signature.batch == Batch::Rows {
        if shape.first() != Some(&size) {
            let name = signature.outputs.get(index).map_or("?", |spec| &*spec.name);
            return Err(EngineError::new(format_args!("output '{name}': expected {size} rows, got shape {shape:?}")));
        }
        shape[0] = total_rows;
    }
    let data = match view.data {
        OutputData::Plain(data) => OutputData::Plain(unpadded(data, rows, size)),
        OutputData::Strings(data) => OutputData::Strings(unpadded(data, rows, size)),
    };
    match (data, part) {
        (OutputData::Plain(data), part @ Part::Empty) => {
            let mut bytes = Vec::with_capacity(data.len() / rows.max(1) * total_rows.max(rows));
            bytes.extend_from_slice(data);
            *part = Part::Plain { shape, dtype: view.dtype, bytes };
        }
        (OutputData::Strings(data), part @ Part::Empty) => {
            *part = Part::Strings {
                shape,
                items: data.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect(),
            };
        }
        (OutputData::Plain(data), Part::Plain { shape: known, bytes, .. }) if *known == shape => {
            bytes.extend_from_slice(data);
        }
        (OutputData::Strings(data), Part::Strings { shape: known, items }) if *known == shape => {
            items.extend(data.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())));
        }
        _ => return Err(EngineError::new("an output changed its shape or kind within a batch")),
    }
    Ok(())
}

/// The part of an output that belongs to the first `rows` of `size` rows.
fn unpadded<T>(data: &[T], rows: usize, size: usize) -> &[T] {
    if rows == size { data } else { data.get(..data.len() / size.max(1) * rows).unwrap_or(data) }
}

/// The slice of a batch's outputs that belongs to rows `range`; the whole outputs for models without batch dimension.
///
/// # Errors
/// When the outputs do not have those rows.
pub(crate) fn slice(outputs: &[Tensor], batch: Batch, range: &Range<usize>) -> Result<Vec<Tensor>, EngineError> {
    match batch {
        Batch::None => Ok(outputs.to_vec()),
        Batch::Rows => {
            outputs.iter().map(|tensor| tensor.slice_rows(range.start, range.len()).map_err(EngineError::new)).collect()
        }
    }
}

/// A request that is run alone: its inputs and rows.
pub(crate) struct Whole<'a>(pub(crate) &'a [Tensor], pub(crate) usize);

impl Member for Whole<'_> {
    fn inputs(&self) -> &[Tensor] {
        self.0
    }
    fn range(&self) -> Range<usize> {
        0..self.1
    }
}

/// Runs one request alone in a fresh session: for golden answers, the proof that rows may be merged, and warming up.
///
/// # Errors
/// When the engine fails. `plan` must be compiled for exactly the rows that `inputs` have.
pub fn run_once(model: &dyn Model, plan: &Arc<dyn Plan>, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
    let signature = model.signature();
    let rows = rows_of(signature, inputs);
    let mut session = plan.session()?;
    let mut outputs = Outputs::new(signature, rows);
    run_chunk(session.as_mut(), signature, &[Whole(inputs, rows)], &Chunk::whole(rows), &mut outputs)?;
    outputs.finish()
}

/// What a run of `inputs` takes: the median of several after a first one that does not count. `plan` must be compiled for
/// exactly the rows that `inputs` have.
///
/// # Errors
/// When the engine fails.
pub(crate) fn time(signature: &Signature, plan: &Arc<dyn Plan>, inputs: &[Tensor]) -> Result<Duration, EngineError> {
    let rows = rows_of(signature, inputs);
    let mut session = plan.session()?;
    let mut times: SmallVec<[Duration; TIMED_RUNS]> = SmallVec::new();
    let begin = Instant::now();
    for run in 0..=TIMED_RUNS {
        let start = Instant::now();
        let mut outputs = Outputs::new(signature, rows);
        run_chunk(session.as_mut(), signature, &[Whole(inputs, rows)], &Chunk::whole(rows), &mut outputs)?;
        outputs.finish()?;
        if run > 0 {
            times.push(start.elapsed());
        }
        if times.len() >= FEWEST_TIMED_RUNS && begin.elapsed() > TIMED_FOR {
            break;
        }
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().ok_or_else(|| EngineError::new("nothing was timed"))
}

fn rows_of(signature: &Signature, inputs: &[Tensor]) -> usize {
    match signature.batch {
        Batch::Rows => inputs.first().and_then(|tensor| tensor.shape().first().copied()).unwrap_or(1),
        Batch::None => 1,
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
