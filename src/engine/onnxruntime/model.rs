//! A graph that the library has taken as a [`Model`]. All plans of it run on the same sessions: the library adapts to the shapes
//! that come, and a session per size would hold the weights once more. Made by `OnnxRuntimeEngine::load`.

use std::sync::Arc;

use ort::{
    environment::Environment,
    value::{Outlet, ValueType},
};

use super::{
    super::{Artifact, ArtifactKind, Engine, EngineError, Limits, LoadError, Model, Plan, Session, guard},
    NAME,
    answers::known_shape,
    graph::{Claim, prepare},
    pool::{Pool, Source},
    probing::{self, Seen},
    session::{OnnxRuntimeSession, Shared},
    values::dtype_of,
};
use crate::types::{Batch, ClassNames, Signature, TensorSpec};

/// The engine over the library that is open.
pub(super) struct OnnxRuntimeEngine {
    environment: Environment,
}

impl OnnxRuntimeEngine {
    pub(super) fn new(environment: Environment) -> Self {
        Self { environment }
    }
}

impl Engine for OnnxRuntimeEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn load(&self, artifact: &Artifact, limits: &Limits) -> Result<Box<dyn Model>, LoadError> {
        let ArtifactKind::Onnx = artifact.kind;
        let prepared = guard::on_big_stack("model", || prepare(artifact))?;
        let source = Source::new(self.environment.clone(), prepared.bytes);
        let native = source.session()?;
        let inputs = native.inputs().iter().map(|input| spec("input", input)).collect::<Result<Vec<_>, _>>()?;
        let rows = prepared.rows.as_deref();
        let names: Vec<&str> = native.inputs().iter().flat_map(symbols).collect();
        let outputs = native.outputs().iter().map(|output| seen(output, rows, &names));
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        let pool = Pool::new(source, native);
        let (outputs, row_wise) = settle(&pool, (&inputs, rows), outputs, &prepared.claimed)?;
        let batch = if row_wise { Batch::Rows } else { Batch::None };
        let signature = Arc::new(Signature { inputs, outputs, batch });
        let shared = Shared { pool, signature, limits: *limits, straight: prepared.straight };
        let (order_dependent, class_names) = (prepared.order_dependent, prepared.class_names);
        Ok(Box::new(OnnxRuntimeModel { shared, order_dependent, class_names }))
    }
}

struct OnnxRuntimeModel {
    shared: Shared,
    order_dependent: Vec<String>,
    class_names: ClassNames,
}

impl Model for OnnxRuntimeModel {
    fn signature(&self) -> &Signature {
        &self.shared.signature
    }

    fn order_dependent(&self) -> Vec<String> {
        self.order_dependent.clone()
    }

    fn class_names(&self) -> ClassNames {
        self.class_names.clone()
    }

    fn plan(&self, rows: Option<usize>) -> Result<Arc<dyn Plan>, LoadError> {
        let signature = &self.shared.signature;
        let subject = match (rows, signature.batch) {
            (Some(0), _) => return Err(LoadError::new("plan: expected at least 1 row, got 0")),
            (Some(rows), Batch::Rows) => format!("plan for {rows} rows"),
            (None, Batch::None) => "plan".to_owned(),
            (Some(_), Batch::None) => return Err(LoadError::new("plan: the model has no batch dimension")),
            (None, Batch::Rows) => return Err(LoadError::new("plan: expected a number of rows, got none")),
        };
        let (limit, bytes) = (self.shared.limits.max_output_bytes, known_bytes(signature, rows));
        if bytes > limit {
            return Err(LoadError::new(format!("{subject}: outputs: expected at most {limit} bytes, got {bytes}")));
        }
        Ok(Arc::new(OnnxRuntimePlan { shared: self.shared.clone(), rows }))
    }
}

struct OnnxRuntimePlan {
    shared: Shared,
    rows: Option<usize>,
}

impl Plan for OnnxRuntimePlan {
    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(OnnxRuntimeSession::new(self.shared.clone(), self.rows)))
    }
}

/// Bytes of the outputs whose sizes are known before a run.
fn known_bytes(signature: &Signature, rows: Option<usize>) -> usize {
    let rows = rows.filter(|_| signature.batch == Batch::Rows);
    let bytes = |spec: &TensorSpec| {
        let size = spec.dtype.size().unwrap_or(size_of::<String>());
        Some(known_shape(spec, rows)?.into_iter().fold(size, usize::saturating_mul))
    };
    signature.outputs.iter().filter_map(bytes).fold(0, usize::saturating_add)
}

fn spec(kind: &str, outlet: &Outlet) -> Result<TensorSpec, LoadError> {
    let name = outlet.name();
    let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
        return Err(LoadError::new(format!("{kind} '{name}': expected a tensor, got {}", outlet.dtype())));
    };
    let dtype = dtype_of(*ty).ok_or_else(|| LoadError::new(format!("{kind} '{name}': has the type {ty}")))?;
    let shape = shape.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    Ok(TensorSpec { name: name.into(), dtype, shape })
}

/// The names of a tensor's free dimensions, empty for one without a name and for one of a fixed size.
fn symbols(outlet: &Outlet) -> impl Iterator<Item = &str> {
    let symbols = match outlet.dtype() {
        ValueType::Tensor { dimension_symbols, .. } => Some(dimension_symbols),
        _ => None,
    };
    symbols.into_iter().flat_map(|symbols| symbols.iter()).map(String::as_str)
}

/// What the library has inferred of an output; `names` are those of the inputs' dimensions.
fn seen(outlet: &Outlet, rows: Option<&str>, names: &[&str]) -> Result<Inferred, LoadError> {
    let spec = spec("output", outlet)?;
    let symbols: Vec<&str> = symbols(outlet).collect();
    let is_rows = |symbol: &str| rows == Some(symbol);
    let seen = match (&spec.shape[..], &symbols[..]) {
        // A scalar, or a tensor of which nothing is known: they look the same.
        ([], _) => Seen::Unknown,
        ([Some(_), ..], _) => Seen::Fixed,
        (_, [first, rest @ ..]) if is_rows(first) => {
            if rest.iter().any(|symbol| is_rows(symbol)) {
                Seen::Fixed
            } else {
                Seen::Rows
            }
        }
        // Names that no input has are made up on the way.
        (_, [first, ..]) if !first.is_empty() && names.contains(first) => Seen::Fixed,
        _ => Seen::Unknown,
    };
    Ok(Inferred { spec, seen })
}

struct Inferred {
    spec: TensorSpec,
    seen: Seen,
}

/// The outputs, and whether dimension 0 of all of them is the rows. Where the library cannot tell, the graph is run; where it
/// cannot be run either, the file is believed.
fn settle(
    pool: &Arc<Pool>,
    (inputs, rows): (&[TensorSpec], Option<&str>),
    outputs: Vec<Inferred>,
    claimed: &[Option<Vec<Claim>>],
) -> Result<(Vec<TensorSpec>, bool), LoadError> {
    let all_rows = rows.is_some() && outputs.iter().all(|output| output.seen == Seen::Rows);
    let unclear = outputs.iter().any(|output| output.seen == Seen::Unknown);
    let mut specs: Vec<TensorSpec> = outputs.iter().map(|output| output.spec.clone()).collect();
    if !unclear {
        return Ok((specs, all_rows));
    }
    if let Some(probed) = probing::probe(pool, inputs, rows.is_some()) {
        for (at, (spec, shape)) in specs.iter_mut().zip(probed.shapes).enumerate() {
            let claims = claimed.get(at).and_then(Option::as_deref).unwrap_or_default();
            let size = |(axis, size): (usize, Option<usize>)| {
                let inferred = spec.shape.get(axis).copied().flatten();
                // Sizes may follow from values, so that a few runs prove nothing alone.
                inferred.or_else(|| size.filter(|size| claims.get(axis) == Some(&Claim::Size(*size))))
            };
            spec.shape = shape.into_iter().enumerate().map(size).collect();
            if let (Some(first), true) = (spec.shape.first_mut(), probed.row_wise) {
                *first = None;
            }
        }
        return Ok((specs, probed.row_wise));
    }
    let mut row_wise = rows.is_some();
    for (at, (spec, output)) in specs.iter_mut().zip(&outputs).enumerate() {
        if output.seen == Seen::Unknown {
            let Some(Some(claims)) = claimed.get(at) else {
                return Err(LoadError::new(format!("output '{}': its shape is not known", spec.name)));
            };
            row_wise &= matches!(claims.first(), Some(Claim::Named(name)) if rows == Some(name) || name.is_empty());
            spec.shape =
                claims.iter().map(|claim| if let Claim::Size(size) = claim { Some(*size) } else { None }).collect();
        } else {
            row_wise &= output.seen == Seen::Rows;
        }
    }
    Ok((specs, row_wise))
}
