//! LinearClassifier and LinearRegressor: one matrix product, for which the graph library's own is used, and what follows it.

use tract_onnx::{
    model::ParsingContext,
    pb::NodeProto,
    tract_hir::{internal::*, tract_core::ops::einsum::EinSum},
};

use super::{
    Built, Fact,
    kernel::{Kernel, KernelOp, rows_and_features, table},
    post::{Label, Labels, PostTransform, logistic, probit},
};

/// `ai.onnx.ml.LinearClassifier`: labels [rows] and scores [rows, classes].
pub(super) fn classifier(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let labels = Labels::of(node, "classlabels_ints")?;
    let intercepts: Vec<f32> = node.get_attr_opt_vec("intercepts")?.unwrap_or_default();
    // Without intercepts there is one product per class.
    let products = if intercepts.is_empty() { labels.len() } else { intercepts.len() };
    let fits = products == labels.len() || (products == 1 && labels.len() == 2);
    ensure!(fits, "attribute 'intercepts': expected {} values, got {products}", labels.len());
    let product = Product::new(node, products, intercepts)?;
    let scores = LinearScores { labels, post: PostTransform::of(node)? };
    Ok((expand(Linear { product, after: Arc::new(scores) }), vec![]))
}

/// `ai.onnx.ml.LinearRegressor`: values [rows, targets].
pub(super) fn regressor(_: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let targets: usize = node.get_attr_opt("targets")?.unwrap_or(1);
    ensure!(targets > 0, "attribute 'targets': expected at least 1, got 0");
    let intercepts: Vec<f32> = node.get_attr_opt_vec("intercepts")?.unwrap_or_default();
    ensure!(
        intercepts.is_empty() || intercepts.len() == targets,
        "attribute 'intercepts': expected {targets} values, got {}",
        intercepts.len()
    );
    let product = Product::new(node, targets, intercepts)?;
    let values = LinearValues { targets, post: PostTransform::of(node)? };
    Ok((expand(Linear { product, after: Arc::new(values) }), vec![]))
}

/// `x * coefficients + intercepts`.
#[derive(Clone, Debug)]
struct Product {
    /// [features, products]
    coefficients: Arc<Tensor>,
    /// [1, products]
    intercepts: Option<Arc<Tensor>>,
}

impl Product {
    fn new(node: &NodeProto, products: usize, intercepts: Vec<f32>) -> TractResult<Self> {
        let coefficients: Vec<f32> = node.get_attr_vec("coefficients")?;
        ensure!(
            !coefficients.is_empty() && coefficients.len().is_multiple_of(products),
            "attribute 'coefficients': expected a multiple of {products} values, got {}",
            coefficients.len()
        );
        let features = coefficients.len() / products;
        let by_product = tensor1(&coefficients).into_shape(&[products, features])?;
        let intercepts = match intercepts.len() {
            0 => None,
            count => Some(tensor1(&intercepts).into_shape(&[1, count])?.into_arc_tensor()),
        };
        Ok(Self { coefficients: by_product.permute_axes(&[1, 0])?.into_arc_tensor(), intercepts })
    }

    fn features(&self) -> usize {
        self.coefficients.shape()[0]
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, input: OutletId) -> TractResult<OutletId> {
        let mut x = input;
        if model.outlet_fact(x)?.rank() == 1 {
            x = model.wire_node(format!("{prefix}.row"), AxisOp::Add(0), &[x])?[0];
        }
        if model.outlet_fact(x)?.datum_type != DatumType::F32 {
            let to_f32 = tract_core::ops::cast::cast(DatumType::F32);
            x = model.wire_node(format!("{prefix}.float"), to_f32, &[x])?[0];
        }
        let coefficients = model.add_const(format!("{prefix}.coefficients"), Arc::clone(&self.coefficients))?;
        let axes = AxesMapping::for_numpy_matmul(2, false, false, false)?;
        let product = EinSum::new(axes, DatumType::F32);
        x = model.wire_node(format!("{prefix}.product"), product, &[x, coefficients])?[0];
        if let Some(intercepts) = &self.intercepts {
            let intercepts = model.add_const(format!("{prefix}.intercepts"), Arc::clone(intercepts))?;
            x = model.wire_node(format!("{prefix}.sum"), tract_core::ops::math::add(), &[x, intercepts])?[0];
        }
        Ok(x)
    }
}

/// A product and what comes after it.
#[derive(Clone, Debug)]
struct Linear {
    product: Product,
    after: Arc<dyn Kernel>,
}

impl Expansion for Linear {
    fn name(&self) -> StaticName {
        self.after.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.after.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, self.after.outputs())?;
        s.given(&inputs[0].shape, move |s, shape| {
            let (rows, features) = rows_and_features(&shape)?;
            let fits = features.as_i64().is_none_or(|features| features == self.product.features() as i64);
            ensure!(fits, "expected {} features, got {features}", self.product.features());
            let products = self.product.coefficients.shape()[1].to_dim();
            for (output, (datum, shape)) in outputs.iter().zip(self.after.facts(DatumType::F32, &[rows, products])?) {
                s.equals(&output.datum_type, datum)?;
                s.equals(&output.shape, ShapeFactoid::from(shape))?;
            }
            Ok(())
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let product = self.product.wire(prefix, model, inputs[0])?;
        model.wire_node(prefix, KernelOp(Arc::clone(&self.after)), &[product])
    }
}

/// From products [rows, classes], or one for two classes, to labels and scores.
#[derive(Debug)]
struct LinearScores {
    labels: Labels,
    post: PostTransform,
}

impl LinearScores {
    fn label(&self, scores: &[f32]) -> Label<'_> {
        if let [score] = scores {
            return self.labels.pick(usize::from(*score > 0.0));
        }
        let mut best = 0;
        for (class, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = class;
            }
        }
        self.labels.pick(best)
    }

    fn write(&self, scores: &[f32], out: &mut [f32]) {
        match (scores, out) {
            ([score], [first, second]) => {
                (*first, *second) = match self.post {
                    PostTransform::Probit => (probit(*score), 0.0),
                    PostTransform::Logistic => (logistic(-*score), logistic(*score)),
                    _ => (1.0 - *score, *score),
                };
            }
            (scores, out) => {
                out.copy_from_slice(scores);
                if scores.len() > 1 || self.post == PostTransform::Probit {
                    self.post.apply(out);
                }
            }
        }
    }
}

impl Kernel for LinearScores {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        let (rows, _) = rows_and_features(shape)?;
        let scores = tvec![rows.clone(), self.labels.len().to_dim()];
        Ok(vec![(self.labels.datum(), tvec![rows]), (DatumType::F32, scores)])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let (rows, products) = table(input)?;
        let columns = self.labels.len();
        let mut labels = Vec::with_capacity(rows);
        let mut out = vec![0_f32; rows * columns];
        let input = input.try_as_plain_ram()?;
        let scores = input.as_slice::<f32>()?.chunks_exact(products);
        for (scores, out) in scores.zip(out.chunks_exact_mut(columns)) {
            labels.push(self.label(scores));
            self.write(scores, out);
        }
        Ok(tvec![self.labels.tensor(&labels), tensor1(&out).into_shape(&[rows, columns])?])
    }
}

/// The post transform of a regressor.
#[derive(Debug)]
struct LinearValues {
    targets: usize,
    post: PostTransform,
}

impl Kernel for LinearValues {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn outputs(&self) -> usize {
        1
    }

    fn facts(&self, _: DatumType, shape: &[TDim]) -> TractResult<Vec<Fact>> {
        Ok(vec![(DatumType::F32, shape.into())])
    }

    fn run(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let mut values = input.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        // ONNX Runtime leaves a single target as it is, whatever the transform, except for this one.
        if self.targets > 1 || self.post == PostTransform::Probit {
            values.chunks_exact_mut(self.targets).for_each(|row| self.post.apply(row));
        }
        Ok(tvec![tensor1(&values).into_shape(input.shape())?])
    }
}
