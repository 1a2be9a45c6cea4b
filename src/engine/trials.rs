//! What a graph's outputs look like, learnt from a few trials with different sizes: for graphs whose shapes nobody can infer with
//! symbols. Pure; an engine says what comes out for given sizes. Called by `tract::probing` and `onnxruntime::probing`.

/// The sizes of an output; `None` where one is not known, or varies.
pub(super) type Sizes = Vec<Option<usize>>;

/// Rows that are tried.
const ROWS: [usize; 2] = [2, 3];

/// Sizes that are tried for all other free dimensions: two and two, until the graph takes both.
const OTHERS: [[usize; 2]; 3] = [[8, 16], [64, 96], [224, 256]];

/// What came of the trials.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Learnt {
    /// By output; `None` where a size varies.
    pub(super) shapes: Vec<Sizes>,
    /// Every output has as many rows as the inputs, and nothing else follows them.
    pub(super) row_wise: bool,
}

/// Tries a graph: `outputs` says what comes out for so many rows and this size of every other free dimension. `None` when it takes
/// none of the sizes. `batched`: dimension 0 of every input is one number of rows.
pub(super) fn learn<E>(
    batched: bool,
    mut outputs: impl FnMut(usize, usize) -> Result<Vec<Sizes>, E>,
) -> Option<Learnt> {
    OTHERS.iter().find_map(|[short, long]| {
        let few = outputs(ROWS[0], *short).ok()?;
        let more = outputs(ROWS[1], *short).ok()?;
        let longer = outputs(ROWS[0], *long).ok()?;
        Some(Learnt { row_wise: batched && is_row_wise(&few, &more, &longer), shapes: merged(&few, &more, &longer) })
    })
}

fn is_row_wise(few: &[Sizes], more: &[Sizes], longer: &[Sizes]) -> bool {
    let has_rows = |shapes: &[Sizes], rows| shapes.iter().all(|shape| shape.first() == Some(&Some(rows)));
    let same_rest = few.iter().zip(more).all(|(few, more)| few.get(1..) == more.get(1..));
    has_rows(few, ROWS[0]) && has_rows(more, ROWS[1]) && has_rows(longer, ROWS[0]) && same_rest
}

/// Sizes that are the same in every trial.
fn merged(few: &[Sizes], more: &[Sizes], longer: &[Sizes]) -> Vec<Sizes> {
    let others = more.iter().zip(longer);
    let one = |(few, (more, longer)): (&Sizes, (&Sizes, &Sizes))| {
        let fixed = |(axis, size): (usize, &Option<usize>)| {
            size.filter(|_| more.get(axis) == Some(size) && longer.get(axis) == Some(size))
        };
        few.iter().enumerate().map(fixed).collect()
    };
    few.iter().zip(others).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outputs = fn(usize, usize) -> Vec<Sizes>;

    fn learnt(batched: bool, outputs: Outputs) -> Learnt {
        learn(batched, |rows, other| Ok::<_, ()>(outputs(rows, other))).unwrap()
    }

    #[test]
    fn sizes_that_stay_are_known() {
        let seen = learnt(true, |rows, other| vec![vec![Some(rows), Some(5), Some(other)], vec![Some(rows), None]]);
        let shapes = vec![vec![None, Some(5), None], vec![None, None]];
        assert_eq!(seen, Learnt { shapes, row_wise: true });
    }

    #[test]
    fn rows_are_those_of_the_inputs_and_of_nothing_else() {
        let cases: [(Outputs, bool); 7] = [
            (|rows, _| vec![vec![Some(rows)]], true),
            (|_, _| vec![vec![Some(2)]], false),
            (|_, _| vec![vec![]], false),
            (|_, _| vec![vec![None, Some(4)]], false),
            (|rows, _| vec![vec![Some(rows), Some(rows)]], false),
            (|rows, other| vec![vec![Some(if other > 8 { 4 } else { rows })]], false),
            (|rows, _| vec![vec![Some(rows)], vec![Some(1)]], false),
        ];
        for (number, (outputs, row_wise)) in cases.into_iter().enumerate() {
            assert_eq!(learnt(true, outputs).row_wise, row_wise, "case {number}");
            assert!(!learnt(false, outputs).row_wise, "case {number}: no batch");
        }
    }

    #[test]
    fn dimensions_that_come_and_go_are_not_known() {
        let seen = learnt(true, |rows, _| vec![if rows == 2 { vec![Some(2), Some(7)] } else { vec![Some(3)] }]);
        assert_eq!(seen, Learnt { shapes: vec![vec![None, None]], row_wise: false });
    }

    #[test]
    fn sizes_are_tried_until_both_are_taken() {
        let mut tried = Vec::new();
        let mut outputs = |rows, other| {
            tried.push((rows, other));
            if other < 90 { Err(()) } else { Ok(vec![vec![Some(rows)]]) }
        };
        assert!(learn(true, &mut outputs).is_some());
        assert_eq!(tried, [(2, 8), (2, 64), (2, 224), (3, 224), (2, 256)]);
        assert_eq!(learn(true, |_, _| Err(())), None);
    }
}
