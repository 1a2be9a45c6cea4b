//! Attention as the standard has it. The library's own knows neither windows, caps, lengths without padding nor the product
//! as an output, and answers wrong where rows attend to nothing; such nodes are run here, row by row.

use tract_onnx::{model::ParsingContext, pb::NodeProto, tract_hir::internal::*};

use super::{
    super::operator::{Fact, Known, Operator, expansion, ints, need, node},
    Built,
    amended::{Rewire, Wired, amended},
    built, original,
};

/// Places of the standard's inputs.
const MASK: usize = 3;
const PAST_KEY: usize = 4;
const PAST_VALUE: usize = 5;
const LENGTHS: usize = 6;

/// `Attention`: the library's own, unless the node needs more.
pub(super) fn attention(context: &ParsingContext<'_>, proto: &NodeProto) -> Built {
    let has = |input: usize| proto.input.get(input).is_some_and(|name| !name.is_empty());
    let window =
        |name: &str| -> TractResult<Option<i64>> { Ok(proto.get_attr_opt::<i64>(name)?.filter(|size| *size >= 0)) };
    let op = Attention {
        heads: proto.get_attr_opt("q_num_heads")?,
        shared_heads: proto.get_attr_opt("kv_num_heads")?,
        causal: proto.get_attr_opt("is_causal")?.unwrap_or(0_i64) != 0,
        scale: proto.get_attr_opt("scale")?,
        cap: proto.get_attr_opt("softcap")?.unwrap_or(0.0),
        product: proto.get_attr_opt("qk_matmul_output_mode")?.unwrap_or(0_i64),
        left: window("left_window_size")?,
        right: window("right_window_size")?,
        shown: proto.output.get(3).is_some_and(|name| !name.is_empty()),
    };
    let past = has(PAST_KEY) || has(PAST_VALUE);
    let windowed = op.left.is_some() || op.right.is_some();
    let more = op.shown || windowed || op.cap != 0.0 || has(LENGTHS) || (op.causal && past);
    if !more && !has(MASK) {
        return built(context, proto);
    }
    ensure!(has(PAST_KEY) == has(PAST_VALUE), "keys and values of the past: expected both or neither");
    ensure!((0..=3).contains(&op.product), "attribute 'qk_matmul_output_mode': there is no mode {}", op.product);
    let own = node(proto, op);
    if more {
        return Ok((own, vec![]));
    }
    let own = expansion(&*own).context("operators are expansions")?;
    Ok((amended(own, ByMask { library: original(context, proto)? }), vec![]))
}

/// With a mask: the library adds numbers to the product, but does not know what to do with true and false.
#[derive(Clone, Debug)]
struct ByMask {
    library: Box<dyn Expansion>,
}

impl Rewire for ByMask {
    fn wire(&self, own: &dyn Expansion, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> Wired {
        let mask = inputs.get(MASK).context("expected a mask, got none")?;
        let boolean = model.outlet_fact(*mask)?.datum_type == DatumType::Bool;
        if boolean { own.wire(prefix, model, inputs) } else { self.library.wire(prefix, model, inputs) }
    }
}

#[derive(Debug)]
struct Attention {
    /// Of the queries, where they are in one dimension with their elements.
    heads: Option<usize>,
    /// Of keys and values.
    shared_heads: Option<usize>,
    causal: bool,
    scale: Option<f32>,
    /// No cap where it is 0.
    cap: f32,
    /// What the last output shows of the product: itself, capped, masked, or as shares.
    product: i64,
    /// Keys before and after its own place that a query may see.
    left: Option<i64>,
    right: Option<i64>,
    /// Somebody reads the last output.
    shown: bool,
}

/// A tensor seen as [batch, heads, steps, size].
struct Parts {
    values: Vec<f32>,
    dims: [usize; 4],
    /// Heads stand behind steps, as in three dimensions.
    steps_first: bool,
}

impl Parts {
    fn of(tensor: &Tensor, heads: Option<usize>) -> TractResult<Self> {
        let values = tensor.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let (dims, steps_first) = match (tensor.shape(), heads) {
            (&[batch, heads, steps, size], _) => ([batch, heads, steps, size], false),
            (&[batch, steps, all], Some(heads)) if heads > 0 && all.is_multiple_of(heads) => {
                ([batch, heads, steps, all / heads], true)
            }
            (shape, _) => bail!("expected 4 dimensions, or 3 and the number of heads, got {shape:?}"),
        };
        Ok(Self { values, dims, steps_first })
    }

    fn row(&self, batch: usize, head: usize, step: usize) -> &[f32] {
        let [_, heads, steps, size] = self.dims;
        let at = if self.steps_first {
            (batch * steps + step) * heads + head
        } else {
            (batch * heads + head) * steps + step
        };
        &self.values[at * size..][..size]
    }

    /// Steps of the past, then these, as [batch, heads, steps, size].
    fn after(self, past: Option<&Tensor>) -> TractResult<Self> {
        let past = past.map(|past| Self::of(past, None)).transpose()?;
        let [batch, heads, steps, size] = self.dims;
        let before = past.as_ref().map_or(0, |past| past.dims[2]);
        if let Some(past) = &past {
            ensure!(
                past.dims == [batch, heads, before, size],
                "past: expected the shape of the present, got {:?}",
                past.dims
            );
        }
        let mut values = Vec::with_capacity(batch * heads * (before + steps) * size);
        for (batch, head) in (0..batch).flat_map(|batch| (0..heads).map(move |head| (batch, head))) {
            let old =
                past.as_ref().into_iter().flat_map(|past| (0..before).map(move |step| past.row(batch, head, step)));
            let new = (0..steps).map(|step| self.row(batch, head, step));
            old.chain(new).for_each(|row| values.extend_from_slice(row));
        }
        Ok(Self { values, dims: [batch, heads, before + steps, size], steps_first: false })
    }

    fn tensor(&self, datum: DatumType) -> TractResult<Tensor> {
        Ok(Tensor::from_shape(&self.dims, &self.values)?.cast_to_dt(datum)?.into_owned())
    }
}

/// What is added to the product before shares are made of it.
struct Bias {
    /// [batch, heads, queries, keys], where a dimension of 1 stands for all.
    values: Vec<f32>,
    dims: [usize; 4],
}

impl Bias {
    fn of(mask: Option<&Tensor>) -> TractResult<Option<Self>> {
        let Some(mask) = mask else { return Ok(None) };
        ensure!(mask.rank() <= 4, "mask: expected at most 4 dimensions, got {}", mask.rank());
        let mut dims = [1; 4];
        dims[4 - mask.rank()..].copy_from_slice(mask.shape());
        let view = mask.try_as_plain_ram()?;
        let values = if mask.datum_type() == DatumType::Bool {
            view.as_slice::<bool>()?.iter().map(|seen| if *seen { 0.0 } else { f32::NEG_INFINITY }).collect()
        } else {
            mask.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.to_vec()
        };
        Ok(Some(Self { values, dims }))
    }

    fn fits(&self, wanted: [usize; 4]) -> bool {
        let mut pairs = self.dims.iter().zip(&wanted).take(3);
        pairs.all(|(own, wanted)| *own == 1 || own == wanted) && self.dims[3] <= wanted[3]
    }

    /// A mask that is shorter than the keys hides the rest.
    fn at(&self, place: [usize; 4]) -> f32 {
        if self.dims[3] > 1 && place[3] >= self.dims[3] {
            return f32::NEG_INFINITY;
        }
        let at =
            place.iter().zip(&self.dims).fold(0, |at, (place, size)| at * size + if *size == 1 { 0 } else { *place });
        self.values[at]
    }
}

/// From the product with the bias to shares; all zero where nothing is seen.
fn shares(row: &mut [f32], unseen: bool) {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if unseen || highest == f32::NEG_INFINITY {
        return row.fill(0.0);
    }
    row.iter_mut().for_each(|value| *value = (*value - highest).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
}

impl Attention {
    /// What hides key `key` from the query at `place`, counted from the first key.
    fn hidden(&self, place: i64, key: i64) -> bool {
        (self.causal && key > place)
            || self.left.is_some_and(|left| place - key > left)
            || self.right.is_some_and(|right| key - place > right)
    }

    /// One query's part of both outputs: `product` comes empty and leaves as it is shown.
    fn attend(&self, query: &[f32], keys: &[&[f32]], bias: &[f32], product: &mut Vec<f32>) -> Vec<f32> {
        let scale = self.scale.unwrap_or(1.0 / (query.len() as f32).sqrt());
        let mut row: Vec<f32> =
            keys.iter().map(|key| query.iter().zip(*key).map(|(q, k)| q * k).sum::<f32>() * scale).collect();
        if self.product == 0 {
            product.clone_from(&row);
        }
        if self.cap > 0.0 {
            row.iter_mut().for_each(|value| *value = self.cap * (*value / self.cap).tanh());
        }
        if self.product == 1 {
            product.clone_from(&row);
        }
        row.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        if self.product == 2 {
            product.clone_from(&row);
        }
        shares(&mut row, bias.iter().all(|bias| *bias == f32::NEG_INFINITY));
        if self.product == 3 {
            product.clone_from(&row);
        }
        row
    }
}

impl Operator for Attention {
    fn name(&self) -> &'static str {
        "Attention"
    }

    fn facts(&self, inputs: &[Option<Known>]) -> TractResult<Vec<Fact>> {
        let (q, k, v) = (need(inputs, 0)?, need(inputs, 1)?, need(inputs, 2)?);
        ensure!(q.datum.is_float(), "expected floats, got {:?}", q.datum);
        let parts = |known: &Known, heads: Option<usize>| -> TractResult<[TDim; 4]> {
            match (&known.shape[..], heads) {
                ([batch, heads, steps, size], _) => Ok([batch.clone(), heads.clone(), steps.clone(), size.clone()]),
                ([batch, steps, all], Some(heads)) if heads > 0 => {
                    Ok([batch.clone(), heads.to_dim(), steps.clone(), all.clone() / heads])
                }
                (shape, _) => bail!("expected 4 dimensions, or 3 and the number of heads, got {shape:?}"),
            }
        };
        let [batch, heads, queries, _] = parts(q, self.heads)?;
        let [_, shared, keys, size] = parts(k, self.shared_heads)?;
        let [_, _, _, value_size] = parts(v, self.shared_heads)?;
        let past = inputs.get(PAST_KEY).and_then(Option::as_ref);
        let keys = keys + past.map_or(0.to_dim(), |past| past.shape.get(2).cloned().unwrap_or_default());
        let y = if q.rank() == 4 {
            tvec![batch.clone(), heads.clone(), queries.clone(), value_size.clone()]
        } else {
            tvec![batch.clone(), queries.clone(), heads.clone() * value_size.clone()]
        };
        let shapes = [
            y,
            tvec![batch.clone(), shared.clone(), keys.clone(), size],
            tvec![batch.clone(), shared, keys.clone(), value_size],
            tvec![batch, heads, queries, keys],
        ];
        Ok(shapes.into_iter().map(|shape| (q.datum, shape)).collect())
    }

    fn run(&self, inputs: &[Option<&Tensor>]) -> TractResult<Vec<Tensor>> {
        let given = |at: usize| inputs.get(at).copied().flatten();
        let first = *need(inputs, 0)?;
        let q = Parts::of(first, self.heads)?;
        let k = Parts::of(need(inputs, 1)?, self.shared_heads)?.after(given(PAST_KEY))?;
        let v = Parts::of(need(inputs, 2)?, self.shared_heads)?.after(given(PAST_VALUE))?;
        let ([batch, heads, queries, size], [_, shared, keys, _]) = (q.dims, k.dims);
        let fits = k.dims[0] == batch
            && v.dims[..3] == k.dims[..3]
            && k.dims[3] == size
            && shared > 0
            && heads.is_multiple_of(shared);
        ensure!(fits, "queries, keys and values do not fit: {:?}, {:?}, {:?}", q.dims, k.dims, v.dims);
        let wanted = [batch, heads, queries, keys];
        let mask = Bias::of(given(MASK))?;
        ensure!(mask.as_ref().is_none_or(|mask| mask.fits(wanted)), "mask: does not fit {wanted:?}");
        let lengths = given(LENGTHS).map(ints).transpose()?;
        ensure!(
            lengths.as_ref().is_none_or(|lengths| lengths.len() == batch),
            "nonpad_kv_seqlen: expected {batch} values"
        );
        let past = given(PAST_KEY).map_or(0, |past| past.shape()[2]) as i64;
        let width = v.dims[3];
        let mut y = vec![0_f32; batch * heads * queries * width];
        let mut products = Vec::new();
        for place in (0..batch * heads * queries).map(|at| [at / queries / heads, at / queries % heads, at % queries]) {
            let [row, head, query] = place;
            let kept = lengths.as_ref().map(|lengths| lengths[row]);
            let own = query as i64 + kept.map_or(past, |kept| kept - queries as i64);
            let bias = |key: usize| {
                let unseen = self.hidden(own, key as i64) || kept.is_some_and(|kept| key as i64 >= kept);
                if unseen {
                    f32::NEG_INFINITY
                } else {
                    mask.as_ref().map_or(0.0, |mask| mask.at([row, head, query, key]))
                }
            };
            let bias: Vec<f32> = (0..keys).map(bias).collect();
            let from = head / (heads / shared);
            let rows: Vec<&[f32]> = (0..keys).map(|key| k.row(row, from, key)).collect();
            let mut product = Vec::new();
            let weights = self.attend(q.row(row, head, query), &rows, &bias, &mut product);
            if self.shown {
                products.extend(product);
            }
            let at = if q.steps_first {
                (row * queries + query) * heads + head
            } else {
                (row * heads + head) * queries + query
            };
            let out = &mut y[at * width..][..width];
            for (key, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                out.iter_mut().zip(v.row(row, from, key)).for_each(|(out, value)| *out += weight * value);
            }
        }
        let datum = first.datum_type();
        let shape: TVec<usize> =
            if q.steps_first { tvec![batch, queries, heads * width] } else { tvec![batch, heads, queries, width] };
        let mut outputs = vec![Tensor::from_shape(&shape, &y)?.cast_to_dt(datum)?.into_owned()];
        outputs.extend([k.tensor(datum)?, v.tensor(datum)?]);
        if self.shown {
            outputs.push(Tensor::from_shape(&wanted, &products)?.cast_to_dt(datum)?.into_owned());
        }
        Ok(outputs)
    }
}
