//! Models that leave the width of their rows open. The weights know it: what does not fit them is refused, never read beyond its
//! end.

use tract_onnx::pb::{NodeProto, tensor_proto::DataType};

use super::{
    manners::{fill, plain},
    *,
};
use crate::onnx::{file, floats, int, learned, node, open_rows, reals, tree, value};

/// Weights of one.
const WIDTH: usize = 64;

fn made(nodes: Vec<NodeProto>, width: Option<&str>) -> Box<dyn Model> {
    made_in(&TractEngine::new(), nodes, width)
}

fn made_in(engine: &dyn weir::engine::Engine, nodes: Vec<NodeProto>, width: Option<&str>) -> Box<dyn Model> {
    let output = value("y", DataType::Float, &[]);
    let bytes = file(nodes, vec![floats("w", &[1.0; WIDTH])], [open_rows("x", width), output]);
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: bytes.into(), side_files: BTreeMap::new() };
    engine.load(&artifact, &LIMITS).unwrap()
}

fn weighted(operator: &str, weights: &[(&str, f32)]) -> NodeProto {
    learned(operator, "x", weights.iter().map(|(name, value)| reals(name, &[*value; WIDTH])).collect())
}

#[test]
fn the_width_that_weights_know_is_the_models() {
    let product = || vec![node("MatMul", &["x", "w"], "y", vec![])];
    let regressor = || vec![weighted("LinearRegressor", &[("coefficients", 1.0)])];
    let machine = || {
        let more = vec![reals("coefficients", &[1.0]), int("n_supports", 1), reals("rho", &[0.0])];
        let mut machine = weighted("SVMRegressor", &[("support_vectors", 1.0)]);
        machine.attribute.extend(more);
        vec![machine]
    };
    let scaler = || vec![weighted("Scaler", &[("offset", 0.0), ("scale", 1.0)])];
    let imputer = || vec![weighted("Imputer", &[("imputed_value_floats", 7.0)])];
    let all = [(product(), true), (regressor(), true), (machine(), true), (scaler(), false), (imputer(), false)];
    for (nodes, sums) in all {
        for width in [None, Some("K")] {
            let model = made(nodes.clone(), width);
            assert_eq!(model.signature().inputs[0].shape, [None, Some(WIDTH)], "{nodes:?} {width:?}");
            let mut session = model.plan(Some(5)).unwrap().session().unwrap();
            for width in [1, 3, WIDTH + 1] {
                let refused = session.input(0, &[5, width]).unwrap_err();
                // The signature says so: whoever asks all the same is not a caller with sizes that happen not to fit.
                assert!(!refused.is_unfit(), "{nodes:?} {width}: {refused}");
            }
            fill(&mut *session, &[5, WIDTH], &[1.0; 5 * WIDTH]);
            session.run().unwrap();
            let want = if sums { vec![WIDTH as f32; 5] } else { vec![1.0; 5 * WIDTH] };
            assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&want), "{nodes:?}");
        }
    }
}

#[test]
fn sizes_that_only_a_request_tells_are_compared_before_the_run() {
    // Its own rows are summed over with its columns: there have to be as many.
    let model = made(vec![node("MatMul", &["x", "x"], "y", vec![])], Some("K"));
    let mut session = model.plan(Some(2)).unwrap().session().unwrap();
    for width in [1, 3, 4000] {
        fill(&mut *session, &[2, width], &vec![1.0; 2 * width]);
        let refused = session.run().unwrap_err();
        assert!(refused.is_unfit() && refused.to_string().contains("sizes that have to agree"), "{width}: {refused}");
    }
    fill(&mut *session, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    session.run().unwrap();
    assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[7.0, 10.0, 15.0, 22.0]));
}

/// What a session that takes any width says to rows of ones: of these widths refusals of the caller, of those the answer.
fn narrow_ones_are_refused(model: &dyn Model, (narrow, enough): (&[usize], &[usize]), says: &str, answer: f32) {
    assert_eq!(model.signature().inputs[0].shape, [None, None]);
    let mut session = model.plan(Some(3)).unwrap().session().unwrap();
    for _ in 0..2 {
        for width in narrow {
            fill(&mut *session, &[3, *width], &vec![1.0; 3 * width]);
            let refused = session.run().unwrap_err();
            assert!(refused.is_unfit() && refused.to_string().contains(says), "{width}: {refused}");
        }
        for width in enough {
            fill(&mut *session, &[3, *width], &vec![1.0; 3 * width]);
            session.run().unwrap();
            assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[answer; 3]), "{width}");
        }
    }
}

#[test]
fn trees_need_the_features_that_they_ask_for() {
    let says = "node 'treeensembleregressor': expected at least 5 features, got ";
    for width in [None, Some("K")] {
        let model = made(vec![tree("x", 4)], width);
        narrow_ones_are_refused(&*model, (&[1, 3, 4], &[5, 6, 40]), says, 2.0);
        let twice = || node("Concat", &["x", "x"], "xx", vec![int("axis", 1)]);
        let model = made(vec![twice(), tree("xx", 4)], width);
        narrow_ones_are_refused(&*model, (&[1, 2], &[3, 4, 40]), says, 2.0);
    }
}

#[cfg(feature = "onnxruntime")]
#[test]
fn what_only_onnxruntime_finds_is_the_callers_too() {
    let Some(opened) = super::onnxruntime::opened() else { return };
    let made = |nodes| made_in(&*opened.engine, nodes, None);
    let trees = made(vec![tree("x", 4)]);
    let says = "node 'treeensembleregressor' (TreeEnsembleRegressor): One path in the graph requests feature 4 but";
    narrow_ones_are_refused(&*trees, (&[1, 4], &[5, 40]), says, 2.0);
    let product = made(vec![node("MatMul", &["x", "w"], "y", vec![])]);
    narrow_ones_are_refused(&*product, (&[1, 63, 65], &[64]), "(MatMul): MatMul dimension mismatch", 64.0);
}
