//! Graphs with replaced operators against the same graphs as the library runs them.

use proptest::prelude::*;
use tract_onnx::{
    tract_core::ops::{
        cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec},
        einsum::EinSum,
        math, nn,
    },
    tract_hir::internal::*,
};

use super::{Packings, rewrite};
use weir_kernels as kernels;

pub(super) fn tensor(shape: &[usize], seed: usize) -> Tensor {
    let len = shape.iter().product();
    let numbers: Vec<f32> = (0..len).map(|at: usize| ((at * 7919 + seed) % 2003) as f32 / 1001.5 - 1.0).collect();
    Tensor::from_shape(shape, &numbers).unwrap()
}

/// Runs a graph of one input as it is and replaced; returns the names of the operators that were put in.
pub(super) fn agree(graph: TypedModel) -> Vec<String> {
    let shape = graph.input_fact(0).unwrap().shape.as_concrete().unwrap().to_vec();
    let input = tensor(&shape, 17).into_tvalue();
    let plain = graph.clone().into_optimized().unwrap().into_runnable().unwrap();
    let mut replaced = graph;
    rewrite(&mut replaced, &Packings::default()).unwrap();
    let names = replaced.nodes.iter().map(|node| node.op.name().into_owned());
    let names = names.filter(|name| name.starts_with("Weir")).collect();
    let replaced = replaced.into_optimized().unwrap().into_runnable().unwrap();
    let expected = plain.run(tvec![input.clone()]).unwrap();
    let ours = replaced.run(tvec![input]).unwrap();
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().zip(&expected) {
        ours.close_enough(expected, Approximation::Approximate).unwrap();
    }
    names
}

#[derive(Clone, Debug)]
struct Case {
    images: usize,
    groups: usize,
    inputs: usize,
    outputs: usize,
    size: usize,
    kernel: usize,
    stride: usize,
    same: bool,
    residual: bool,
    after: usize,
}

/// A convolution with a bias, what may follow it, and a second output that reads the middle when `after` says so.
fn convolution(case: &Case) -> TypedModel {
    let Case { images, groups, inputs, outputs, size, kernel, stride, .. } = *case;
    let mut graph = TypedModel::default();
    let source = graph.add_source("x", f32::fact([images, groups * inputs, size, size])).unwrap();
    let weights = graph.add_const("w", tensor(&[groups * outputs, inputs, kernel, kernel], 3)).unwrap();
    let bias = graph.add_const("b", tensor(&[groups * outputs], 5)).unwrap();
    let pool_spec = PoolSpec {
        data_format: nn::DataFormat::NCHW,
        kernel_shape: tvec![kernel, kernel],
        padding: if case.same { PaddingSpec::SameUpper } else { PaddingSpec::Valid },
        dilations: None,
        strides: Some(tvec![stride, stride]),
        input_channels: groups * inputs,
        output_channels: groups * outputs,
    };
    let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: groups, q_params: None };
    let again = conv.clone();
    let mut end = graph.wire_node("conv", conv, &[source, weights, bias]).unwrap()[0];
    let middle = end;
    let shape = graph.outlet_fact(end).unwrap().shape.as_concrete().unwrap().to_vec();
    if case.residual {
        let again = graph.wire_node("again", again, &[source, weights, bias]).unwrap()[0];
        let other = graph.wire_node("other", nn::hard_swish(), &[again]).unwrap()[0];
        end = graph.wire_node("sum", math::add(), &[end, other]).unwrap()[0];
    }
    let constant = |graph: &mut TypedModel, name: &str, number: f32| {
        graph.add_const(name, Tensor::from_shape(&[1, 1, 1, 1], &[number]).unwrap()).unwrap()
    };
    let (zero, one) = (constant(&mut graph, "zero", 0.0), constant(&mut graph, "one", 1.0));
    let per_channel = graph.add_const("c", tensor(&[1, shape[1], 1, 1], 11)).unwrap();
    end = graph.wire_node("plus", math::add(), &[per_channel, end]).unwrap()[0];
    end = match case.after {
        0 => end,
        1 => graph.wire_node("relu", math::max(), &[end, zero]).unwrap()[0],
        2 => {
            let low = graph.wire_node("low", math::max(), &[zero, end]).unwrap()[0];
            graph.wire_node("high", math::min(), &[low, one]).unwrap()[0]
        }
        _ => graph.wire_node("swish", nn::hard_swish(), &[end]).unwrap()[0],
    };
    let outputs = if case.after == 1 { vec![end, middle] } else { vec![end] };
    graph.select_output_outlets(&outputs).unwrap();
    graph.into_decluttered().unwrap()
}

fn case() -> impl Strategy<Value = Case> {
    let channels = prop_oneof![
        (Just(1_usize), 1..10_usize, 4..20_usize),
        (2..30_usize, Just(1_usize), Just(1_usize)),
        (2..4_usize, 2..5_usize, 4..9_usize),
    ];
    (1..4_usize, channels, 1..14_usize, 1..4_usize, 1..3_usize, any::<bool>(), any::<bool>(), 0..4_usize)
        .prop_filter_map(
            "the filter fits",
            |(images, (groups, inputs, outputs), size, kernel, stride, same, residual, after)| {
                let case = Case { images, groups, inputs, outputs, size, kernel, stride, same, residual, after };
                (size >= kernel).then_some(case)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree(case in case()) {
        let names = agree(convolution(&case));
        // One number times one number is no product.
        let something = case.groups > 1 || case.inputs * case.kernel > 1;
        prop_assert!(!kernels::has_wide_vectors() || !something || !names.is_empty());
    }
}

fn product(axes: &str, input: &[usize], matrix: &[usize], bias: &[usize]) -> TypedModel {
    let mut graph = TypedModel::default();
    let source = graph.add_source("x", f32::fact(input)).unwrap();
    let matrix = graph.add_const("w", tensor(matrix, 3)).unwrap();
    let op = EinSum::new(axes.parse().unwrap(), f32::datum_type());
    let product = graph.wire_node("product", op, &[source, matrix]).unwrap()[0];
    let bias = graph.add_const("b", tensor(bias, 7)).unwrap();
    let sum = graph.wire_node("sum", math::add(), &[product, bias]).unwrap()[0];
    let zero =
        graph.add_const("zero", Tensor::from_shape(&vec![1; bias_rank(&graph, sum)], &[0_f32]).unwrap()).unwrap();
    let relu = graph.wire_node("relu", math::max(), &[sum, zero]).unwrap()[0];
    graph.select_output_outlets(&[relu]).unwrap();
    graph
}

fn bias_rank(graph: &TypedModel, outlet: OutletId) -> usize {
    graph.outlet_fact(outlet).unwrap().rank()
}

/// How exporters' products come out of the library's simplification, with what becomes of them.
#[test]
fn products_agree() {
    let wide = kernels::has_wide_vectors();
    let cases: [(&str, [&[usize]; 3], &str); 11] = [
        ("mk,nk->mn", [&[5, 30], &[64, 30], &[1, 64]], "WeirDense"),
        ("mk,kn->mn", [&[1, 30], &[30, 7], &[1, 7]], "WeirDense"),
        ("amk,kn->amn", [&[2, 9, 16], &[16, 33], &[1, 1, 33]], "WeirDense"),
        ("ambk,bkn->amn", [&[2, 9, 3, 4], &[3, 4, 10], &[1, 1, 10]], "WeirDense"),
        ("mbak,nbak->mn", [&[3, 4, 2, 5], &[6, 4, 2, 5], &[1, 6]], "WeirDense"),
        ("nihw,oi->nohw", [&[2, 6, 5, 4], &[9, 6], &[1, 9, 1, 1]], "WeirConv"),
        ("nihw,oi->no", [&[2, 6, 1, 1], &[9, 6], &[1, 9]], "WeirDense"),
        ("ni,oi->nohw", [&[2, 6], &[9, 6], &[1, 9, 1, 1]], "WeirDense"),
        // A bias per row is left to the library, as are products that end in another order.
        ("mk,kn->mn", [&[5, 30], &[30, 5], &[5, 1]], "WeirDense"),
        ("mk,kn->nm", [&[5, 30], &[30, 7], &[1, 5]], ""),
        ("amk,akn->amn", [&[2, 5, 3], &[2, 3, 4], &[1, 1, 4]], ""),
    ];
    for (axes, [input, matrix, bias], expected) in cases {
        let names = agree(product(axes, input, matrix, bias));
        let expected: Vec<_> = [expected].into_iter().filter(|name| wide && !name.is_empty()).collect();
        assert_eq!(names, expected, "{axes}");
    }
}

#[test]
fn sizes_that_are_not_known_are_left_alone() {
    let mut graph = TypedModel::default();
    let rows = graph.symbols.sym("N");
    let source = graph.add_source("x", f32::fact([rows.to_dim(), 4.to_dim()])).unwrap();
    let matrix = graph.add_const("w", tensor(&[4, 3], 3)).unwrap();
    let op = EinSum::new("mk,kn->mn".parse().unwrap(), f32::datum_type());
    let product = graph.wire_node("product", op, &[source, matrix]).unwrap();
    graph.select_output_outlets(&product).unwrap();
    rewrite(&mut graph, &Packings::default()).unwrap();
    assert!(graph.nodes.iter().any(|node| node.op_is::<EinSum>()));
}
