//! Models that leave the width of their rows open. The weights know it: what does not fit them is refused, never read beyond its
//! end.

use tract_onnx::pb::{NodeProto, ValueInfoProto, tensor_proto::DataType};

use super::{
    manners::{fill, plain},
    *,
};
use crate::onnx::{file, floats, node, reals, value};

/// Weights of one.
const WIDTH: usize = 64;

/// `x`, whose rows have a width that is not said or has a name.
fn rows(width: Option<&str>) -> ValueInfoProto {
    use tract_onnx::pb::{tensor_shape_proto::dimension::Value, type_proto};
    let mut x = value("x", DataType::Float, &[None, Some(1)]);
    let Some(type_proto::Value::TensorType(tensor)) = x.r#type.as_mut().and_then(|kind| kind.value.as_mut()) else {
        panic!("a tensor")
    };
    tensor.shape.as_mut().unwrap().dim[1].value = width.map(|name| Value::DimParam(name.to_owned()));
    x
}

fn made(nodes: Vec<NodeProto>, width: Option<&str>) -> Box<dyn Model> {
    let output = value("y", DataType::Float, &[]);
    let bytes = file(nodes, vec![floats("w", &[1.0; WIDTH])], [rows(width), output]);
    let artifact = Artifact { kind: ArtifactKind::Onnx, bytes: bytes.into(), side_files: BTreeMap::new() };
    TractEngine::new().load(&artifact, &LIMITS).unwrap()
}

fn learned(operator: &str, attributes: &[(&str, f32)]) -> NodeProto {
    let attributes = attributes.iter().map(|(name, value)| reals(name, &[*value; WIDTH])).collect();
    let mut node = node(operator, &["x"], "y", attributes);
    node.domain = "ai.onnx.ml".to_owned();
    node
}

#[test]
fn the_width_that_weights_know_is_the_models() {
    let product = || vec![node("MatMul", &["x", "w"], "y", vec![])];
    let regressor = || vec![learned("LinearRegressor", &[("coefficients", 1.0)])];
    let scaler = || vec![learned("Scaler", &[("offset", 0.0), ("scale", 1.0)])];
    for (nodes, sums) in [(product(), true), (regressor(), true), (scaler(), false)] {
        for width in [None, Some("K")] {
            let model = made(nodes.clone(), width);
            assert_eq!(model.signature().inputs[0].shape, [None, Some(WIDTH)], "{nodes:?} {width:?}");
            let mut session = model.plan(Some(5)).unwrap().session().unwrap();
            for width in [1, 3, WIDTH + 1] {
                assert!(session.input(0, &[5, width]).is_err(), "{nodes:?} {width}");
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
        let text = session.run().unwrap_err().to_string();
        assert!(text.contains("sizes that have to agree"), "{width}: {text}");
    }
    fill(&mut *session, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    session.run().unwrap();
    assert_eq!(plain(&*session), bytemuck::cast_slice::<f32, u8>(&[7.0, 10.0, 15.0, 22.0]));
}
