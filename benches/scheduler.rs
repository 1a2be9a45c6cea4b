//! What the scheduler's decisions cost by themselves: putting work into a queue and choosing batches from it (without deadlines,
//! with them, under overload, with several tenants), choosing among many servables, and working out the cheapest covers. The
//! files of the program, without threads, locks and models around them.
//!
//! `cargo bench --bench scheduler`

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
// The files below name it through the crate.
use weir::types;

#[path = "../src/scheduler/costs.rs"]
#[expect(dead_code, reason = "only what is measured is called")]
mod costs;
#[path = "../src/scheduler/policy.rs"]
#[expect(dead_code, reason = "only what is measured is called")]
mod policy;
#[path = "../src/scheduler/queue.rs"]
#[expect(dead_code, reason = "only what is measured is called")]
mod queue;

use costs::Costs;
use policy::{Hands, View, pick};
use queue::{Choice, Queue, Waiting};
use types::BatchingSpec;

#[derive(Clone, Debug)]
struct Piece {
    deadline: Option<Instant>,
    queued: Instant,
    tenant: u64,
}

impl Waiting for Piece {
    type Key = ();
    fn rows(&self) -> usize {
        1
    }
    fn key(&self) -> &() {
        &()
    }
    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
    fn queued(&self) -> Instant {
        self.queued
    }
    fn abandoned(&self) -> bool {
        false
    }
    fn level(&self) -> u32 {
        1
    }
    fn tenant(&self) -> u64 {
        self.tenant
    }
}

/// A tenth of a millisecond and a hundredth per row.
fn cost(rows: usize) -> Option<Duration> {
    Some(Duration::from_micros(100 + 10 * rows as u64))
}

fn drain(mut queue: Queue<Piece>, now: Instant) {
    while !queue.is_empty() {
        black_box(queue.take(Choice { limit: 64, now, cost: &cost, doubted: false }));
    }
}

fn queues(c: &mut Criterion) {
    let now = Instant::now();
    let piece = |deadline, tenant| Piece { deadline, queued: now, tenant };
    let far = Some(now + Duration::from_secs(1));
    let near = Some(now + Duration::from_micros(200));
    let mut group = c.benchmark_group("queue, push and take in batches of 64");
    for waiting in [1_u64, 64, 1024] {
        group.throughput(Throughput::Elements(waiting));
        let cases: [(&str, Vec<Piece>); 4] = [
            ("plain", (0..waiting).map(|_| piece(None, 0)).collect()),
            ("deadlines", (0..waiting).map(|_| piece(far, 0)).collect()),
            ("every other hopeless", (0..waiting).map(|i| piece(if i % 2 == 0 { near } else { far }, 0)).collect()),
            ("16 tenants", (0..waiting).map(|i| piece(None, 1 + i % 16)).collect()),
        ];
        for (name, pieces) in cases {
            group.bench_with_input(BenchmarkId::new(name, waiting), &pieces, |bencher, pieces| {
                bencher.iter_batched(
                    || pieces.clone(),
                    |pieces| {
                        let mut queue = Queue::default();
                        pieces.into_iter().for_each(|piece| queue.push(piece));
                        drain(queue, now);
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

fn turns(c: &mut Criterion) {
    let now = Instant::now();
    let view = |i: u64| View {
        rows: 8,
        enough: policy::enough_rows(&BatchingSpec::default(), 64),
        oldest: now,
        delay: Duration::ZERO,
        latest: None,
        running: 0,
        parallel: 2,
        cost: Duration::from_micros(100 + i % 7 * 300),
        deficit: 0,
        others: Some(now),
    };
    let mut group = c.benchmark_group("pick among servables that wait");
    for servables in [1_u64, 10, 1000] {
        group.bench_with_input(BenchmarkId::from_parameter(servables), &servables, |bencher, servables| {
            bencher.iter(|| black_box(pick((0..*servables).map(view), Hands { free: 1, all: 2 }, now)));
        });
    }
    group.finish();
}

fn covers(c: &mut Criterion) {
    let curve: Vec<(usize, u64)> = (0..8).map(|i| (1 << i, 1000 + 900 * (1 << i))).collect();
    let sizes: Vec<usize> = curve.iter().map(|(size, _)| *size).collect();
    c.bench_function("work out covers of up to 128 rows", |bencher| {
        bencher.iter(|| black_box(Costs::of_sizes(&sizes, curve.clone(), 128, None)));
    });
    let costs = Costs::of_sizes(&sizes, curve.clone(), 128, None);
    c.bench_function("look up a cover and its cost", |bencher| {
        bencher.iter(|| (black_box(costs.runs(black_box(37))), black_box(costs.cost(black_box(37)))));
    });
}

criterion_group!(benches, queues, turns, covers);
criterion_main!(benches);
