//! Graphs with attention, normalization, pooling and the like, replaced, against the same graphs as the library runs them.

use tract_onnx::{
    tract_core::ops::{
        array::TypedConcat,
        cnn::{MaxPool, PaddingSpec, PoolSpec},
        downsample::Downsample,
        einsum::EinSum,
        math,
        nn::{self, DataFormat, Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind},
    },
    tract_hir::internal::*,
};
use weir_kernels as kernels;

use super::tests::{agree, tensor};

fn graph(shape: &[usize]) -> (TypedModel, OutletId) {
    let mut graph = TypedModel::default();
    let source = graph.add_source("x", f32::fact(shape)).unwrap();
    (graph, source)
}

/// The names of what was put in, in order.
fn put_in(mut graph: TypedModel, outputs: &[OutletId]) -> Vec<String> {
    graph.select_output_outlets(outputs).unwrap();
    let mut names = agree(graph);
    names.sort();
    names
}

fn constant(graph: &mut TypedModel, name: &str, shape: &[usize], number: f32) -> OutletId {
    let numbers = vec![number; shape.iter().product()];
    graph.add_const(name, Tensor::from_shape(shape, &numbers).unwrap()).unwrap()
}

/// Queries, keys and values are the same tensor; the mask has a row for each image, or for each row of scores.
#[test]
fn attention_is_replaced() {
    for mask in [[2, 1, 1, 5], [1, 1, 5, 5], [2, 3, 5, 5]] {
        let (mut graph, x) = graph(&[2, 5, 3, 8]);
        let float = f32::datum_type();
        let crossed = EinSum::new("ambk,anbk->abmn".parse().unwrap(), float);
        let scores = graph.wire_node("scores", crossed, &[x, x]).unwrap()[0];
        let factor = constant(&mut graph, "factor", &[1, 1, 1, 1], 0.3);
        let scaled = graph.wire_node("scaled", math::mul(), &[scores, factor]).unwrap()[0];
        let mask = graph.add_const("mask", tensor(&mask, 5)).unwrap();
        let masked = graph.wire_node("masked", math::add(), &[mask, scaled]).unwrap()[0];
        let op = Softmax { axes: tvec![3], quant_output_dt: None, kind: SoftmaxKind::Softmax };
        let shares = graph.wire_node("shares", op, &[masked]).unwrap()[0];
        let mixed = EinSum::new("abmk,akbn->ambn".parse().unwrap(), float);
        let mixed = graph.wire_node("mixed", mixed, &[shares, x]).unwrap()[0];
        let names = put_in(graph, &[mixed]);
        let softmax = ["WeirProducts", "WeirProducts", "WeirSoftmax"];
        assert_eq!(names, if kernels::has_wide_vectors() { &softmax[..] } else { &softmax[2..] });
    }
}

/// A score that somebody else reads is not overwritten by the softmax of it.
#[test]
fn what_is_read_twice_is_left_as_it_is() {
    let (mut graph, x) = graph(&[4, 6]);
    let mask = graph.add_const("mask", tensor(&[1, 6], 5)).unwrap();
    let masked = graph.wire_node("masked", math::add(), &[x, mask]).unwrap()[0];
    let op = Softmax { axes: tvec![1], quant_output_dt: None, kind: SoftmaxKind::Softmax };
    let shares = graph.wire_node("shares", op, &[masked]).unwrap()[0];
    let both = graph.wire_node("both", math::add(), &[masked, shares]).unwrap()[0];
    let gelu = graph.wire_node("gelu", nn::gelu_exact::gelu_exact(), &[masked]).unwrap()[0];
    assert_eq!(put_in(graph, &[both, gelu, x]), ["WeirMap", "WeirSoftmax"]);
}

#[test]
fn normalization_is_one_operator() {
    for (centered, then) in [(true, true), (true, false), (false, true)] {
        let (mut graph, x) = graph(&[3, 4, 7]);
        let mut end = x;
        if centered {
            let sum = Reduce { axes: tvec![2], reducer: Reducer::Sum };
            let sum = graph.wire_node("sum", sum, &[x]).unwrap()[0];
            let share = constant(&mut graph, "share", &[1, 1, 1], 1.0 / 7.0);
            let mean = graph.wire_node("mean", math::mul(), &[sum, share]).unwrap()[0];
            end = graph.wire_node("centered", math::sub(), &[x, mean]).unwrap()[0];
        }
        let norm = RmsNorm { axis: 2, eps: rctensor0(1e-3_f32) };
        end = graph.wire_node("norm", norm, &[end]).unwrap()[0];
        if then {
            let factors = graph.add_const("factors", tensor(&[1, 1, 7], 3)).unwrap();
            end = graph.wire_node("times", math::mul(), &[end, factors]).unwrap()[0];
            let addends = graph.add_const("addends", tensor(&[1, 1, 7], 5)).unwrap();
            end = graph.wire_node("plus", math::add(), &[addends, end]).unwrap()[0];
        }
        assert_eq!(put_in(graph, &[end]), ["WeirNorm"], "{centered} {then}");
    }
}

#[test]
fn images_are_pooled_and_summed() {
    for (kernel, stride, pad) in [(2, 2, 0), (3, 2, 1), (3, 1, 1), (1, 3, 0)] {
        let (mut graph, x) = graph(&[2, 3, 9, 8]);
        let padding = tvec![pad, pad];
        let pool_spec = PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec![kernel, kernel],
            padding: PaddingSpec::Explicit(padding.clone(), padding),
            dilations: None,
            strides: Some(tvec![stride, stride]),
            input_channels: 3,
            output_channels: 3,
        };
        let pool = MaxPool { pool_spec, with_index_outputs: None };
        let pooled = graph.wire_node("pool", pool, &[x]).unwrap()[0];
        let sum = Reduce { axes: tvec![2, 3], reducer: Reducer::Sum };
        let sum = graph.wire_node("sum", sum, &[pooled]).unwrap()[0];
        let share = constant(&mut graph, "share", &[1, 1, 1, 1], 0.125);
        let mean = graph.wire_node("mean", math::mul(), &[sum, share]).unwrap()[0];
        assert_eq!(put_in(graph, &[mean]), ["WeirMaxPool", "WeirSums"]);
    }
}

#[test]
fn sums_are_over_neighbouring_axes() {
    for (axes, expected) in [(&[1][..], &["WeirSums"][..]), (&[0, 1], &["WeirSums"]), (&[0, 2], &[])] {
        let (mut graph, x) = graph(&[2, 3, 4]);
        let sum = Reduce { axes: axes.into(), reducer: Reducer::Sum };
        let sum = graph.wire_node("sum", sum, &[x]).unwrap();
        assert_eq!(put_in(graph, &sum), expected, "{axes:?}");
    }
}

#[test]
fn planes_are_thinned_out_and_scaled() {
    let (mut graph, x) = graph(&[2, 3, 7, 8]);
    let mut end = x;
    for axis in [2, 3] {
        let op = Downsample { axis, stride: 2, modulo: 0 };
        end = graph.wire_node(format!("every-{axis}"), op, &[end]).unwrap()[0];
    }
    let sum = Reduce { axes: tvec![2, 3], reducer: Reducer::Sum };
    let sum = graph.wire_node("sum", sum, &[end]).unwrap()[0];
    let gate = graph.wire_node("gate", nn::sigmoid(), &[sum]).unwrap()[0];
    let scaled = graph.wire_node("scaled", math::mul(), &[gate, end]).unwrap()[0];
    let both = graph.wire_node("both", math::sub(), &[scaled, end]).unwrap();
    assert_eq!(put_in(graph, &both), ["WeirMap", "WeirScale", "WeirSums", "WeirThinned", "WeirThinned"]);
}

#[test]
fn tensors_are_put_together() {
    for axis in 0..3 {
        let (mut graph, x) = graph(&[2, 3, 4]);
        let half = Reduce { axes: tvec![axis], reducer: Reducer::Max };
        let half = graph.wire_node("half", half, &[x]).unwrap()[0];
        let all = graph.wire_node("all", TypedConcat { axis }, &[x, half, x]).unwrap()[0];
        assert_eq!(put_in(graph, &[all]), ["WeirConcat"]);
    }
}
