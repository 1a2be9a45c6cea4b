//! What `weir serve` prints when start-up has ended: the models, the addresses, and a curl line that works. Pure: the
//! application hands it plain data.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use super::table::{Cell, Paint, Table, Tone};
use crate::{
    app::Addresses,
    types::{DType, ModelState, Signature, TensorSpec},
};

/// More elements than these make a line that nobody pastes.
const MAX_ELEMENTS: usize = 1024;
/// An example with at most this many elements is small enough, so the first model that has one is shown.
const FEW_ELEMENTS: usize = 128;

/// A version that was wanted at start-up.
#[derive(Clone, Debug)]
pub struct Started<'a> {
    /// Its model.
    pub model: &'a str,
    /// Its number; empty for a model without one.
    pub version: String,
    /// Whether it answers.
    pub state: ModelState,
    /// Why it does not.
    pub reason: &'a str,
    /// What is known of it when it answers.
    pub loaded: Option<Loaded<'a>>,
}

/// What is known of a version that answers.
#[derive(Clone, Debug)]
pub struct Loaded<'a> {
    /// What runs it.
    pub engine: &'a str,
    /// The largest batch in rows; `None` while it is being measured.
    pub batch_limit: Option<usize>,
    /// Why requests do not share batches, if they do not.
    pub merging_off: Option<String>,
    /// How long loading took, where that is known.
    pub load_time: Option<Duration>,
    /// What it takes and gives.
    pub signature: &'a Signature,
}

/// A route that was there at start-up.
#[derive(Clone, Debug)]
pub struct StartedRoute {
    /// Its name.
    pub name: String,
    /// The revision that answers; empty when none does.
    pub revision: String,
    /// Whether it answers.
    pub state: ModelState,
    /// `split`, `cascade`, `switch` or `ensemble`; empty when its text is not in order.
    pub kind: &'static str,
    /// The models and routes that it names.
    pub parts: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The start-up text: a table of models and one of routes, the addresses on one line, a curl line.
pub fn banner(addresses: Addresses, models: &[Started<'_>], routes: &[StartedRoute], paint: Paint) -> String {
    let mut text = String::new();
    if models.is_empty() {
        text.push_str("no models in the registry yet\n");
    } else {
        text.push_str(&table(models).without_empty_columns().render(paint));
    }
    if !routes.is_empty() {
        text.push('\n');
        text.push_str(&route_table(routes).without_empty_columns().render(paint));
    }
    let Addresses { http, grpc, ops } = addresses;
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\nlistening: http {http}  grpc {grpc}  ops {ops}");
    if let Some(curl) = curl(http, models) {
        let _ = writeln!(text, "try: {curl}");
    }
    text
}

fn table(models: &[Started<'_>]) -> Table {
    let mut table = Table::new(&["MODEL", "VERSION", "STATE", "ENGINE", "BATCHING", "LOAD", "REASON"]);
    for model in models {
        let loaded = model.loaded.as_ref();
        let load_time = loaded.and_then(|loaded| loaded.load_time).map(|took| format!("{} ms", took.as_millis()));
        table.row([
            model.model.into(),
            Cell::new(&model.version, Tone::Plain),
            Cell::new(model.state.as_str(), Tone::of_state(model.state.as_str())),
            loaded.map_or("", |loaded| loaded.engine).into(),
            loaded.map_or_else(String::new, planned).into(),
            load_time.unwrap_or_default().into(),
            loaded.and_then(|loaded| loaded.merging_off.as_deref()).unwrap_or(model.reason).into(),
        ]);
    }
    table
}

fn route_table(routes: &[StartedRoute]) -> Table {
    let mut table = Table::new(&["ROUTE", "REVISION", "STATE", "KIND", "PARTS", "REASON"]);
    for route in routes {
        table.row([
            route.name.as_str().into(),
            Cell::new(&route.revision, Tone::Plain),
            Cell::new(route.state.as_str(), Tone::of_state(route.state.as_str())),
            route.kind.into(),
            route.parts.as_str().into(),
            route.reason.as_str().into(),
        ]);
    }
    table
}

/// Batching at start-up, where what `auto` stands for is being measured yet.
fn planned(loaded: &Loaded<'_>) -> String {
    match (loaded.batch_limit, loaded.merging_off.is_some()) {
        (None, false) => "auto".to_owned(),
        (limit, off) => batching(limit.unwrap_or(1), off),
    }
}

/// How batching is shown in a few characters.
pub(super) fn batching(limit: usize, off: bool) -> String {
    if off { "off".to_owned() } else { format!("up to {limit}") }
}

/// A curl line that works: a prediction of zeros for the first model with a small input, else for the smallest; metadata where
/// no input can be written as JSON of bearable length. `None` when nothing answers.
fn curl(http: SocketAddr, models: &[Started<'_>]) -> Option<String> {
    let answering: Vec<_> =
        models.iter().filter_map(|model| Some((model.model, model.loaded.as_ref()?.signature))).collect();
    let sized = answering.iter().filter_map(|(name, signature)| Some((*name, *signature, elements(signature)?)));
    let few = sized.clone().find(|(.., count)| *count <= FEW_ELEMENTS);
    let example = few.or_else(|| sized.filter(|(.., count)| *count <= MAX_ELEMENTS).min_by_key(|(.., count)| *count));
    let url = |name: &str| format!("http://{}/v2/models/{name}", reachable(http));
    match example {
        Some((name, signature, _)) => {
            let body = example_body(signature).replace('\'', r"'\''");
            Some(format!("curl -s {}/infer -d '{body}'", url(name)))
        }
        None => answering.first().map(|(name, _)| format!("curl -s {}", url(name))),
    }
}

/// Where a program on this machine reaches a listener: an unspecified address is bound, but no destination.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The sizes of an example: one row, and one wherever any size will do.
fn example_shape(shape: &[Option<usize>]) -> Vec<usize> {
    shape.iter().map(|dim| dim.unwrap_or(1)).collect()
}

/// How many elements an example has; `None` when it cannot be written as JSON, or is too large to count.
fn elements(signature: &Signature) -> Option<usize> {
    let mut count: usize = 0;
    for input in &signature.inputs {
        let has_json = !matches!(input.dtype, DType::Fp16 | DType::Bf16);
        let size = example_shape(&input.shape).iter().try_fold(1_usize, |size, dim| size.checked_mul(*dim));
        count = count.checked_add(size.filter(|size| has_json && *size > 0)?)?;
    }
    Some(count)
}

/// A request body of the right names, datatypes and shapes.
fn example_body(signature: &Signature) -> String {
    let inputs: Vec<String> = signature.inputs.iter().map(example_input).collect();
    format!(r#"{{"inputs":[{}]}}"#, inputs.join(","))
}

fn example_input(input: &TensorSpec) -> String {
    let shape = example_shape(&input.shape);
    let element = match input.dtype {
        DType::Bool => "false",
        DType::Bytes => r#""a""#,
        _ => "0",
    };
    let data = vec![element; shape.iter().product()].join(",");
    let name = serde_json::Value::from(&*input.name);
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!(r#"{{"name":{name},"shape":[{}],"datatype":"{}","data":[{data}]}}"#, shape.join(","), input.dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Batch;

    fn signature(inputs: &[(&str, DType, &[Option<usize>])]) -> Signature {
        let spec = |(name, dtype, shape): &(&str, DType, &[Option<usize>])| TensorSpec {
            name: (*name).into(),
            dtype: *dtype,
            shape: shape.to_vec(),
        };
        Signature { inputs: inputs.iter().map(spec).collect(), outputs: Vec::new(), batch: Batch::Rows }
    }

    fn ready<'a>(model: &'a str, signature: &'a Signature) -> Started<'a> {
        let loaded = Loaded {
            engine: "tract",
            batch_limit: Some(16),
            merging_off: None,
            load_time: Some(Duration::from_millis(12)),
            signature,
        };
        let state = ModelState::Ready;
        Started { model, version: "2".to_owned(), state, reason: "", loaded: Some(loaded) }
    }

    fn addresses(host: &str) -> Addresses {
        let at = |port| SocketAddr::new(host.parse().unwrap(), port);
        Addresses { http: at(8000), grpc: at(8001), ops: at(8002) }
    }

    #[test]
    fn shows_models_addresses_and_an_example() {
        let small = signature(&[("x", DType::Fp32, &[None, Some(2)]), ("who's", DType::Bytes, &[None])]);
        let mut whole = ready("whole", &small);
        whole.loaded.as_mut().unwrap().merging_off = Some("rows depend on each other".to_owned());
        let broken = Started {
            model: "broken",
            version: "1".to_owned(),
            state: ModelState::Unavailable,
            reason: "model.onnx: empty",
            loaded: None,
        };
        let route = StartedRoute {
            name: "cascade".to_owned(),
            revision: "12".to_owned(),
            state: ModelState::Ready,
            kind: "cascade",
            parts: "small, whole".to_owned(),
            reason: String::new(),
        };
        let models = [broken, ready("small", &small), whole];
        let text = banner(addresses("0.0.0.0"), &models, &[route], Paint::NONE);
        assert_eq!(
            text,
            "MODEL   VERSION  STATE        ENGINE  BATCHING  LOAD   REASON\n\
             broken  1        UNAVAILABLE  -       -         -      model.onnx: empty\n\
             small   2        READY        tract   up to 16  12 ms  -\n\
             whole   2        READY        tract   off       12 ms  rows depend on each other\n\
             \n\
             ROUTE    REVISION  STATE  KIND     PARTS\n\
             cascade  12        READY  cascade  small, whole\n\
             \n\
             listening: http 0.0.0.0:8000  grpc 0.0.0.0:8001  ops 0.0.0.0:8002\n\
             try: curl -s http://127.0.0.1:8000/v2/models/small/infer -d '{\"inputs\":[\
             {\"name\":\"x\",\"shape\":[1,2],\"datatype\":\"FP32\",\"data\":[0,0]},\
             {\"name\":\"who'\\''s\",\"shape\":[1],\"datatype\":\"BYTES\",\"data\":[\"a\"]}]}'\n"
        );
    }

    #[test]
    fn an_empty_registry_still_says_where_it_listens() {
        let text = banner(addresses("::"), &[], &[], Paint::NONE);
        assert_eq!(text, "no models in the registry yet\n\nlistening: http [::]:8000  grpc [::]:8001  ops [::]:8002\n");
    }

    #[test]
    fn the_example_is_one_that_can_be_pasted() {
        let at = |models: &[Started<'_>]| curl(addresses("::").http, models);
        let image = signature(&[("x", DType::Fp32, &[None, Some(3), Some(224), Some(224)])]);
        let half = signature(&[("x", DType::Fp16, &[None])]);
        let overflowing = signature(&[("x", DType::Fp32, &[Some(usize::MAX), Some(2)])]);
        let middling = signature(&[("x", DType::Fp32, &[None, Some(300)])]);
        let smaller = signature(&[("x", DType::Bool, &[None, Some(200)])]);
        let large = [ready("image", &image), ready("half", &half), ready("overflowing", &overflowing)];
        assert_eq!(at(&large).unwrap(), "curl -s http://[::1]:8000/v2/models/image");
        let mixed = [ready("image", &image), ready("middling", &middling), ready("smaller", &smaller)];
        assert!(at(&mixed).unwrap().starts_with("curl -s http://[::1]:8000/v2/models/smaller/infer"));
        assert_eq!(at(&[]), None);
    }

    #[test]
    fn the_example_is_accepted() {
        use crate::protocol::json::decode;
        use crate::types::{Protocol, RequestContext, VersionRef};
        let all: Vec<_> = DType::ALL.into_iter().filter(|d| !matches!(d, DType::Fp16 | DType::Bf16)).collect();
        const SHAPE: &[Option<usize>] = &[None, Some(3)];
        let names: Vec<String> = all.iter().map(ToString::to_string).collect();
        let inputs: Vec<(&str, DType, &[Option<usize>])> =
            all.iter().zip(&names).map(|(d, n)| (n.as_str(), *d, SHAPE)).collect();
        let signature = signature(&inputs);
        let context = RequestContext::new(Protocol::Http, std::time::Instant::now());
        let body = example_body(&signature).into_bytes().into();
        let body = decode("m", VersionRef::Policy, &body, None).unwrap();
        let (request, _) = body.request(context, || panic!("not a request")).unwrap();
        assert_eq!(signature.accept(&request.inputs, 1).unwrap().rows, 1);
    }
}
