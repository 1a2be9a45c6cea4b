//! A switch: a first model says for every row which specialist answers it. Called by `route` for a compiled route.

use std::{sync::Arc, time::Instant};

use super::{
    call::{Call, Facts, Part, Reply, span},
    scatter::scatter,
};
use crate::{
    observe::StageSeries,
    types::{CaseTest, DType, Data, Error, Rows, Tensor},
};

/// A compiled switch.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) selector: Part,
    /// Which of the selector's outputs decides.
    pub(super) output: usize,
    /// The column of that output; `None` = one value per row.
    pub(super) class: Option<usize>,
    /// First match in this order.
    pub(super) cases: Vec<Branch>,
    /// How long the selector takes.
    pub(super) series: Arc<StageSeries>,
}

/// A compiled case.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) when: Option<CaseTest>,
    pub(super) part: Part,
    pub(super) series: Arc<StageSeries>,
}

impl Switch {
    pub(super) async fn run(&self, rows: Rows, call: Call<'_>) -> Result<Reply, Error> {
        let begun = Instant::now();
        let selected = self.selector.ask(&rows, call).await?;
        let deciding = selected.outputs.get(self.output);
        let deciding = deciding.ok_or_else(|| Error::internal("route: failed", "the selector gave no such output"))?;
        let choice = self.choose(deciding, rows.rows)?;
        self.series.ran(begun.elapsed());
        let gathered = scatter(|case| self.cases.get(case).map(|case| &case.part), &choice, &rows, call).await?;
        for (case, took) in gathered.took {
            if let Some(case) = self.cases.get(case) {
                case.series.ran(took);
            }
        }
        let mut reply = gathered.reply;
        reply.stamps = span(selected.stamps, reply.stamps);
        let mut facts = Facts { stage_rows: Vec::new(), ..selected.facts };
        std::mem::swap(&mut facts, &mut reply.facts);
        // What the specialists tell comes first.
        reply.facts.absorb(facts);
        Ok(reply)
    }

    fn choose(&self, deciding: &Tensor, rows: usize) -> Result<Vec<u32>, Error> {
        let values = Values::of(deciding, self.class, rows)?;
        let case = |row| {
            let matches = |case: &Branch| case.when.as_ref().is_none_or(|test| values.passes(row, test));
            let index = self.cases.iter().position(matches);
            index.and_then(|index| u32::try_from(index).ok())
        };
        let chosen: Option<Vec<u32>> = (0..rows).map(case).collect();
        chosen.ok_or_else(|| Error::internal("route: failed", "no case takes a row"))
    }
}

/// The deciding values, one per row.
enum Values<'t> {
    Numbers(Vec<f64>),
    Integers(Vec<i64>),
    Texts(&'t [bytes::Bytes]),
}

impl<'t> Values<'t> {
    fn of(tensor: &'t Tensor, class: Option<usize>, rows: usize) -> Result<Self, Error> {
        let wrong = || {
            let detail = format!("the selector answered {} {:?} for {rows} rows", tensor.dtype(), tensor.shape());
            Error::internal("route: failed", detail)
        };
        let width = tensor.elements().checked_div(rows).filter(|width| width * rows == tensor.elements());
        let width = width.filter(|width| class.map_or(*width == 1, |class| class < *width)).ok_or_else(wrong)?;
        let column = class.unwrap_or(0);
        Ok(match (tensor.data(), tensor.dtype()) {
            (Data::Strings(items), _) => Values::Texts(items),
            (Data::Plain(bytes), DType::Int64) => {
                let all = bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk));
                Values::Integers(all.skip(column).step_by(width).collect())
            }
            (Data::Plain(bytes), DType::Fp64) => {
                let all = bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk));
                Values::Numbers(all.skip(column).step_by(width).collect())
            }
            (Data::Plain(_), dtype) => {
                let all = tensor.to_f32().ok_or_else(wrong)?;
                let mine = all.into_iter().skip(column).step_by(width);
                if dtype.is_float() {
                    Values::Numbers(mine.map(f64::from).collect())
                } else {
                    // Integers of up to 16 bits are exact in FP32; 32 bits beyond 2^24 are no class numbers.
                    Values::Integers(mine.map(|value| value as i64).collect())
                }
            }
        })
    }

    fn passes(&self, row: usize, test: &CaseTest) -> bool {
        match (self, test) {
            (Values::Numbers(values), CaseTest::AtLeast(bound)) => values.get(row).is_some_and(|value| value >= bound),
            (Values::Integers(values), CaseTest::AtLeast(bound)) => {
                values.get(row).is_some_and(|value| *value as f64 >= *bound)
            }
            (Values::Integers(values), CaseTest::Integers(wanted)) => {
                values.get(row).is_some_and(|value| wanted.contains(value))
            }
            (Values::Texts(values), CaseTest::Texts(wanted)) => {
                values.get(row).is_some_and(|value| wanted.iter().any(|wanted| wanted.as_bytes() == &value[..]))
            }
            _ => false,
        }
    }
}
