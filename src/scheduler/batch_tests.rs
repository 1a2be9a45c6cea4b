//! What gathering and scattering promise: every row comes back where it came from, however a batch is cut.

use super::*;
use crate::{
    engine::fake::{FakeEngine, Script},
    types::DType,
};
use proptest::prelude::*;
use smallvec::smallvec;

proptest! {
    #[test]
    fn gather_then_scatter_is_the_identity(
        sizes in proptest::collection::vec(1_usize..6, 1..8), cut in 1_usize..8, padding in 0_usize..4,
    ) {
        let model = FakeEngine::new(Script::default(), 3).model();
        let mut next = 0_f32;
        let requests: Vec<Vec<Tensor>> = sizes.iter().map(|rows| {
            let values: Vec<f32> = (0..rows * 3).map(|_| { next += 1.0; next }).collect();
            vec![Tensor::from_vec(DType::Fp32, smallvec![*rows, 3], values).unwrap()]
        }).collect();
        let members: Vec<_> = requests.iter().zip(&sizes).map(|(inputs, rows)| Whole(inputs, *rows)).collect();
        let total: usize = sizes.iter().sum();
        let mut session = model.plan(None).unwrap().session().unwrap();
        let mut outputs = Outputs::new(model.signature(), total);
        let mut from = 0;
        while from < total {
            let to = (from + cut).min(total);
            let chunk = Chunk { rows: from..to, size: to - from + padding };
            run_chunk(session.as_mut(), model.signature(), &members, &chunk, &mut outputs).unwrap();
            from = to;
        }
        let outputs = outputs.finish().unwrap();
        let mut at = 0;
        for (inputs, rows) in requests.iter().zip(&sizes) {
            let got = slice(&outputs, Batch::Rows, &(at..at + rows)).unwrap();
            let want: Vec<f32> = inputs[0].to_f32().unwrap().iter().map(|x| x * 2.0 + 1.0).collect();
            prop_assert_eq!(got[0].to_f32().unwrap(), want);
            prop_assert_eq!(got[0].shape(), [*rows, 3]);
            at += rows;
        }
    }
}
