//! A model that fails on some values: its requests get 500 and INTERNAL without details, and nobody who shared a batch with
//! them notices. The model looks rows up by index and is made here, because what matters is that an index may lie outside.

use std::sync::Arc;

use tokio::task::JoinSet;
use tract_onnx::pb::tensor_proto::DataType;

use crate::{
    array::Array,
    ask::{Ask, Way},
    errors::{Codes, INVALID, mismatch},
    harness::{PATIENCE, Registry, Weir, until},
    onnx::{file, floats, node, open_rows, tree, value},
};

const INTERNAL: Codes = (500, tonic::Code::Internal);
const TABLE: [f32; 4] = [10.0, 20.0, 30.0, 40.0];

/// `y[n] = TABLE[x[n]]`.
fn lookup() -> Vec<u8> {
    let gather = node("Gather", &["table", "x"], "y", Vec::new());
    let ends = [value("x", DataType::Int64, &[None]), value("y", DataType::Float, &[None])];
    file(vec![gather], vec![floats("table", &TABLE)], ends)
}

/// Rows by which merging can be proved.
const GOLDEN: &str = r#"{"cases":[{"inputs":[{"name":"x","shape":[4],"datatype":"INT64","data":[0,1,2,3]}],
    "outputs":[{"name":"y","shape":[4],"datatype":"FP32","data":[10,20,30,40]}]}]}"#;

fn ask(indices: &[i64]) -> Ask {
    Ask::new("lookup", vec![Array::i64("x", &[i64::try_from(indices.len()).unwrap()], indices)])
}

async fn server() -> Weir {
    let nothing: [(&str, String); 0] = [];
    let registry = Registry::new(&nothing);
    registry.write("lookup/1/model.onnx", lookup());
    registry.write("lookup/1/golden.json", GOLDEN);
    Weir::serve(registry, &[]).await
}

#[tokio::test]
async fn a_model_that_fails_is_an_internal_error_without_details() {
    let weir = server().await;
    let mut client = weir.client();
    for way in Way::ALL {
        let failed = client.refused(way, &ask(&[1, 99])).await;
        assert_eq!(mismatch(&failed, INTERNAL, "model 'lookup': execution failed"), None, "{way:?}");
        assert_eq!(client.answer(way, &ask(&[3, 0])).await.output("y").numbers(), [40.0, 10.0]);
    }
    let reply = client.ask_http(false, &ask(&[99])).await.unwrap();
    let id = reply.header("x-request-id").expect("an id to find the log line by").to_owned();
    // The log is written behind the answers.
    until("the id in the log", PATIENCE, async || weir.logs().contains(&id).then_some(())).await;
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[("model", "lookup"), ("code", "internal")]), 5.0);
}

#[tokio::test]
async fn only_the_guilty_of_a_batch_fail() {
    let weir = Arc::new(server().await);
    for _ in 0..5 {
        let mut callers = JoinSet::new();
        for caller in 0..64 {
            let weir = Arc::clone(&weir);
            callers.spawn(async move {
                let index = if caller % 16 == 7 { 99 } else { caller % 4 };
                (index, weir.client().ask(Way::ALL[usize::try_from(caller).unwrap() % 4], &ask(&[index])).await)
            });
        }
        for (index, outcome) in callers.join_all().await {
            match (index, outcome) {
                (99, Err(failed)) => {
                    assert_eq!(mismatch(&failed, INTERNAL, "model 'lookup': execution failed"), None);
                }
                (99, Ok(answer)) => panic!("an answer out of nothing: {answer:?}"),
                (index, Ok(answer)) => {
                    assert_eq!(answer.output("y").numbers(), [f64::from(TABLE[usize::try_from(index).unwrap()])]);
                }
                (_, Err(failed)) => panic!("failed for another's mistake: {failed:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_decoded_counts_under_the_name_it_asked_for() {
    let weir = Weir::fixtures(&["identity-fp32"], &[]).await;
    let mut http = crate::client::Http::new(weir.http);
    assert_eq!(http.post("/v2/models/identity-fp32/infer", "{}").await.status, 400);
    assert_eq!(http.post("/v2/models/nobody/infer", "{}").await.status, 400);
    let metrics = weir.metrics().await;
    let refused = |model| metrics.sum("weir_requests_total", &[("model", model), ("code", "invalid_argument")]);
    assert_eq!((refused("identity-fp32"), refused(""), refused("nobody")), (1.0, 1.0, 0.0));
}

/// Rows of any width for `engine`, of which the model needs five features.
async fn open_width(engine: &str, options: &[&str]) -> Weir {
    let nothing: [(&str, String); 0] = [];
    let registry = Registry::new(&nothing);
    let ends = [open_rows("x", None), value("y", DataType::Float, &[None, Some(1)])];
    registry.write("forest/1/model.onnx", file(vec![tree("x", 4)], Vec::new(), ends));
    registry.write("forest/model.toml", format!("engine = \"{engine}\"\n"));
    Weir::serve(registry, options).await
}

async fn widths_that_do_not_fit_are_the_callers_mistake(weir: &Weir, text: &str) {
    let mut client = weir.client();
    let ask = |width: usize| {
        let rows = vec![1.0; 2 * width];
        Ask::new("forest", vec![Array::f32("x", &[2, i64::try_from(width).unwrap()], &rows)])
    };
    // More in a row than failures of a model would be let pass.
    for _ in 0..5 {
        for way in Way::ALL {
            assert_eq!(mismatch(&client.refused(way, &ask(3)).await, INVALID, text), None, "{way:?}");
        }
    }
    for width in [5, 8] {
        assert_eq!(client.answer(Way::Raw, &ask(width)).await.output("y").numbers(), [2.0, 2.0]);
    }
    let metrics = weir.metrics().await;
    assert_eq!(metrics.sum("weir_requests_total", &[("model", "forest"), ("code", "invalid_argument")]), 20.0);
    assert!(!weir.logs().contains("the model failed"), "{}", weir.logs());
}

#[tokio::test]
async fn too_few_features_are_the_callers_mistake() {
    let text = "model 'forest': node 'treeensembleregressor': expected at least 5 features, got 3";
    widths_that_do_not_fit_are_the_callers_mistake(&open_width("tract", &[]).await, text).await;
}

#[tokio::test]
async fn what_onnxruntime_says_of_a_width_is_for_the_caller() {
    let Some(library) = crate::choice::library() else { return };
    let weir = open_width("onnxruntime", &["--onnxruntime-lib", &library]).await;
    let text = "model 'forest': node 'treeensembleregressor' (TreeEnsembleRegressor): One path in the graph requests feature 4 \
                but input tensor has 3 features.";
    widths_that_do_not_fit_are_the_callers_mistake(&weir, text).await;
}
