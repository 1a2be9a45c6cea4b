//! Tree ensembles by shape and batch: rows per second of processor time through the engine's sessions, and of the plainest walk
//! there is, on one thread. With `WEIR_FORESTS=<folder>` the models are written there, for other engines to be timed on.
//!
//! `cargo bench --bench trees [filter]`

#![expect(clippy::unwrap_used, reason = "a benchmark")]

use std::{
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use weir::engine::{Artifact, ArtifactKind, Engine as _, InputBuffer, Limits, Model, Session, TractEngine};

#[path = "support/forests.rs"]
mod forests;

use forests::{Node, SHAPES, Shape};

const BATCHES: [usize; 4] = [1, 8, 32, 256];
/// Different batches that take turns, so that branches are not learned by heart.
const ROWS: usize = 4096;
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(60);

fn main() {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let folder = std::env::var_os("WEIR_FORESTS").map(std::path::PathBuf::from);
    println!("{:22} {:>6} {:>14} {:>14} {:>7}", "shape", "batch", "naive rows/s", "engine rows/s", "ratio");
    for shape in SHAPES.iter().filter(|shape| shape.name.contains(&filter)) {
        let bytes = shape.model();
        if let Some(folder) = &folder {
            std::fs::write(folder.join(format!("{}.onnx", shape.name)), &bytes).unwrap();
        }
        let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: bytes.into(), side_files: BTreeMap::new() };
        let model = TractEngine::new().load(&artifact, &Limits { max_output_bytes: 1 << 28 }).unwrap();
        let (trees, rows) = (shape.trees(), shape.rows(ROWS));
        for batch in BATCHES {
            let mut naive = || naive(shape, &trees, &rows, batch);
            let mut session = session(&*model, batch);
            let mut engine = || run(shape, &mut *session, &rows, batch);
            let (naive, engine) = medians(&mut naive, &mut engine);
            println!("{:22} {batch:6} {naive:14.0} {engine:14.0} {:7.2}", shape.name, engine / naive);
        }
    }
}

/// Rows per second of both, measured in turns.
fn medians<'a>(a: &'a mut dyn FnMut() -> usize, b: &'a mut dyn FnMut() -> usize) -> (f64, f64) {
    let mut works = [a, b];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (times, work) in times.iter_mut().zip(&mut works) {
            let (start, began) = (Instant::now(), on_cpu());
            let mut rows = 0;
            while start.elapsed() < ROUND {
                rows += work();
            }
            let took = on_cpu().zip(began).map_or(start.elapsed(), |(now, began)| now.saturating_sub(began));
            times.push(rows as f64 / took.as_secs_f64());
        }
    }
    let [a, b] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    (a, b)
}

/// How long this thread has had a processor, where the system says so: other programs do not count then.
fn on_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

fn session(model: &dyn Model, batch: usize) -> Box<dyn Session> {
    model.plan(Some(batch)).unwrap().session().unwrap()
}

/// Some runs of the session on rows that differ.
fn run(shape: &Shape, session: &mut dyn Session, rows: &[f32], batch: usize) -> usize {
    for rows in rows.chunks_exact(batch * shape.features).take(256) {
        match session.input(0, &[batch, shape.features]).unwrap() {
            InputBuffer::Plain(bytes) => bytes.copy_from_slice(bytemuck::cast_slice(rows)),
            InputBuffer::Strings(_) => unreachable!(),
        }
        session.run().unwrap();
        let outputs = usize::from(shape.is_classifier()) + 1;
        for output in 0..outputs {
            black_box(session.output(output).unwrap());
        }
    }
    (ROWS / batch).min(256) * batch
}

/// The same rows by following every tree from its root.
fn naive(shape: &Shape, trees: &[Vec<Node>], rows: &[f32], batch: usize) -> usize {
    let most = (ROWS / batch).min(256) * batch;
    for row in rows.chunks_exact(shape.features).take(most) {
        let mut scores = vec![0.0_f32; shape.width()];
        for tree in trees {
            let mut node = &tree[0];
            while let Some((yes, no)) = node.children {
                let x = row[node.feature];
                let passed = x <= node.threshold || (node.missing_yes && x.is_nan());
                node = &tree[if passed { yes } else { no }];
            }
            for (target, weight) in &node.weights {
                scores[*target] += weight;
            }
        }
        black_box(scores);
    }
    most
}
