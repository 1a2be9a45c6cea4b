//! What a core could do if it did nothing else: rows per second of a model file run in a plain loop in this process, batch size by
//! batch size. What a server answers on the same core is held against the best of them.
//!
//! `cargo bench --bench served -- MODEL.onnx` (pin it with `taskset`); `WEIR_BENCH_MS` is the time for each batch size.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a benchmark")]

use std::{
    collections::BTreeMap,
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use weir::{
    engine::{Artifact, ArtifactKind, Engine, InputBuffer, Limits, Model, TractEngine},
    types::{DType, TensorSpec},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];

fn main() {
    let time = env::var("WEIR_BENCH_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let Some(file) = env::args().skip(1).find(|argument| !argument.starts_with('-')) else {
        println!("which model? cargo bench --bench served -- MODEL.onnx");
        return;
    };
    let artifact =
        Artifact { kind: ArtifactKind::Onnx, bytes: std::fs::read(&file).unwrap().into(), side_files: BTreeMap::new() };
    let model = TractEngine::new().load(&artifact, &Limits { max_output_bytes: 1 << 28 }).unwrap();
    let mut best = (0.0, 0);
    for rows in BATCHES {
        let speed = speed(&*model, rows, Duration::from_millis(time));
        best = if speed > best.0 { (speed, rows) } else { best };
        println!("{rows:>4} rows {speed:>12.1} rows/s");
    }
    println!("best {:>4} {:>12.1} rows/s", best.1, best.0);
}

/// Rows per second in batches of so many rows.
fn speed(model: &dyn Model, rows: usize, time: Duration) -> f64 {
    let plan = model.plan(Some(rows)).unwrap();
    let mut session = plan.session().unwrap();
    let inputs: Vec<(Vec<usize>, Vec<u8>)> = model.signature().inputs.iter().map(|spec| input(spec, rows)).collect();
    let mut once = || {
        for (at, (shape, bytes)) in inputs.iter().enumerate() {
            let InputBuffer::Plain(buffer) = session.input(at, shape).unwrap() else { panic!("texts") };
            buffer.copy_from_slice(bytes);
        }
        session.run().unwrap();
        (0..model.signature().outputs.len()).for_each(|at| _ = black_box(session.output(at).unwrap()));
    };
    (0..3).for_each(|_| once());
    let (start, mut runs) = (Instant::now(), 0);
    while start.elapsed() < time {
        once();
        runs += 1;
    }
    f64::from(runs) * rows as f64 / start.elapsed().as_secs_f64()
}

/// An input of small numbers; free dimensions are 1.
fn input(spec: &TensorSpec, rows: usize) -> (Vec<usize>, Vec<u8>) {
    assert_eq!(spec.dtype, DType::Fp32, "only FP32 inputs");
    let mut shape: Vec<usize> = spec.shape.iter().map(|dim| dim.unwrap_or(1)).collect();
    shape[0] = rows;
    let count = shape.iter().product::<usize>();
    (shape, (0..count).flat_map(|at| ((at % 17) as f32 / 17.0).to_le_bytes()).collect())
}
