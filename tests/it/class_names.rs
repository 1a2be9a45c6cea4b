//! Classes have names without a label file: those that the model file itself has, in the metadata of both protocols, in the
//! classification extension and in the metrics; with every engine that is there, and a label file wins.

use serde_json::{Value, json};
use weir::protocol::pb;

use crate::{
    ask::{Ask, Way},
    choice::library,
    client::grpc,
    golden::cases,
    harness::{PATIENCE, Registry, Weir, until},
};

/// Folder of the model, its output of scores, and what its classes are called.
const MODELS: [(&str, &str, &str, &[&str]); 5] = [
    ("zip", "tests/exporters/logistic-zipmap", "output_probability", &["0", "1", "2"]),
    ("light", "tests/exporters/lightgbm-zipmap", "probabilities", &["0", "1"]),
    ("texts", "tests/fixtures/string-labels", "probabilities", &["setosa", "versicolor", "virginica"]),
    ("linear", "tests/fixtures/logreg-string-labels", "probabilities", &["setosa", "versicolor", "virginica"]),
    // Its classes are 0, 1 and so on, which the index says as well.
    ("counted", "tests/exporters/lda", "probabilities", &[]),
];

fn registry(engine: &str) -> Registry {
    let registry = Registry::new(&MODELS.map(|(name, source, _, _)| (name, source)));
    for (name, ..) in MODELS {
        registry.write(&format!("{name}/model.toml"), format!("engine = \"{engine}\"\n"));
    }
    registry.model("filed", "tests/exporters/logistic-zipmap");
    registry.write("filed/model.toml", format!("engine = \"{engine}\"\n"));
    let output =
        "output [ { name: \"output_probability\" data_type: TYPE_FP32 dims: [ 3 ] label_filename: \"names.txt\" } ]";
    registry.write("filed/config.pbtxt", format!("max_batch_size: 8\n{output}\n"));
    registry.write("filed/names.txt", "no\nperhaps\nyes\n");
    registry
}

/// What the best two classes of every row are called, by the classification extension.
async fn best(weir: &Weir, model: &str, source: &str, output: &str, names: &[&str]) {
    let case = &cases(&format!("{source}/1/expected.json"))[1];
    let mut client = weir.client();
    for way in Way::ALL {
        let answer = client.answer(way, &Ask::new(model, case.inputs.clone()).wants(&[(output, 2)])).await;
        for item in answer.outputs[0].items() {
            let item = String::from_utf8(item.to_vec()).unwrap();
            let parts: Vec<&str> = item.splitn(3, ':').collect();
            let class: usize = parts[1].parse().unwrap();
            assert_eq!(parts.get(2), names.get(class), "{model}: {way:?}: {item}");
        }
    }
}

async fn check(weir: &Weir, (model, source, output, names): (&str, &str, &str, &[&str])) {
    let metadata = weir.client().http.get(&format!("/v2/models/{model}")).await.json();
    let named = |list: &str, name: &str| -> Value {
        let list = metadata[list].as_array().unwrap().iter();
        list.clone().find(|tensor| tensor["name"] == name).unwrap_or_else(|| panic!("{metadata}"))["class_names"]
            .clone()
    };
    let want = if names.is_empty() { Value::Null } else { json!(names) };
    assert_eq!(named("outputs", output), want, "{model}");
    for other in metadata["outputs"].as_array().unwrap().iter().filter(|other| other["name"] != output) {
        assert!(other.get("class_names").is_none(), "{model}: {other}");
    }
    let request = pb::ModelMetadataRequest { name: model.to_owned(), version: String::new() };
    let answer = grpc(weir.grpc).model_metadata(request).await.unwrap().into_inner();
    let tensor = answer.outputs.into_iter().find(|tensor| tensor.name == output).unwrap();
    let list =
        tensor.class_names.map(|list| list.values.into_iter().map(|value| value.kind.unwrap()).collect::<Vec<_>>());
    let text = |name: &&str| prost_types::value::Kind::StringValue((*name).to_owned());
    assert_eq!(list, (!names.is_empty()).then(|| names.iter().map(text).collect()), "{model}");
    best(weir, model, source, output, names).await;
}

async fn check_all(weir: &Weir) {
    for model in MODELS {
        check(weir, model).await;
    }
    let filed = ("filed", "tests/exporters/logistic-zipmap", "output_probability", &["no", "perhaps", "yes"][..]);
    check(weir, filed).await;
    for (model, class) in [("texts", "virginica"), ("filed", "yes"), ("counted", "2")] {
        let labels = [("model", model), ("class", class)];
        let counted =
            async || Some(weir.metrics().await.sum("weir_predicted_class_total", &labels)).filter(|rows| *rows >= 4.0);
        until(&format!("rows of {model} in class {class}"), PATIENCE, counted).await;
    }
}

#[tokio::test]
async fn classes_are_called_what_the_model_calls_them() {
    let weir = Weir::serve(registry("tract"), &["--onnxruntime-lib", "off"]).await;
    check_all(&weir).await;
}

#[tokio::test]
async fn onnx_runtime_does_not_lose_the_names() {
    let Some(library) = library() else { return };
    let weir = Weir::serve(registry("onnxruntime"), &["--onnxruntime-lib", &library]).await;
    check_all(&weir).await;
}
