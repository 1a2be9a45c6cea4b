//! `weir calibrate` on digits that no demo model was trained on: what it chooses and writes, that a gateway then does what it
//! said, and every refusal.

use std::{fs, io::Cursor, path::Path};

use npyz::npz::NpzArchive;
use serde_json::Value;

use super::{run, weir};
use crate::{
    array::Array,
    ask::{Ask, Way},
    harness::{Registry, Weir, repository, until},
};

const CASCADE: &str = r#"kind = "cascade"
# cheap first
outputs = ["label", "probabilities"]

[[stage]]
model = "digits-linear"
version = 1
accept = { output = "probabilities", measure = "max_prob", at_least = 0.95 }   # a guess

[[stage]]
model = "digits-cnn"
"#;

fn samples() -> String {
    repository("docs/samples/digits-calibration.npz").display().to_string()
}

/// The two digits models and a route over them.
fn registry(route: &str) -> Registry {
    let registry = Registry::new(&[("digits-linear", "models/digits-linear"), ("digits-cnn", "models/digits-cnn")]);
    registry.write("r/route.toml", route);
    registry
}

fn text(registry: &Registry) -> String {
    fs::read_to_string(registry.path().join("r/route.toml")).unwrap()
}

/// Runs the command on route `r`; exit code, standard output, standard error.
fn calibrate(registry: &Registry, data: &str, more: &[&str]) -> (i32, String, String) {
    let root = registry.path().display().to_string();
    run(registry.path(), &[&["calibrate", "r", "--data", data, "--registry", &root], more].concat())
}

fn json(registry: &Registry, data: &str, more: &[&str]) -> Value {
    let (code, out, err) = calibrate(registry, data, &[more, &["--output", "json"]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).unwrap()
}

/// The labelled digits: 64 pixels a row, and the label of each.
fn digits() -> (Vec<u8>, Vec<i64>) {
    let file = fs::read(samples()).unwrap();
    let mut archive = NpzArchive::new(Cursor::new(file)).unwrap();
    let pixels = archive.by_name("pixels").unwrap().unwrap().into_vec().unwrap();
    (pixels, archive.by_name("label").unwrap().unwrap().into_vec().unwrap())
}

fn csv(rows: usize) -> String {
    let (pixels, labels) = digits();
    let header: Vec<String> = (0..64).map(|at| format!("pixels[{at}]")).collect();
    let line = |row: usize| {
        let pixels: Vec<String> = pixels[row * 64..(row + 1) * 64].iter().map(u8::to_string).collect();
        format!("{},{}\n", pixels.join(","), labels[row])
    };
    format!("{},label\n{}", header.join(","), (0..rows).map(line).collect::<String>())
}

#[test]
fn what_is_chosen_is_written_and_history_says_why() {
    let registry = registry(CASCADE);
    let (code, out, err) = calibrate(&registry, &samples(), &["--max-loss", "0.02", "--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("dry run: nothing was written") && out.contains(" chosen\n"), "{out}");
    assert!(out.contains("With probability 0.95 over the choice of these 497 rows"), "{out}");
    assert_eq!(text(&registry), CASCADE);
    assert!(!registry.path().join("r/.history").exists());

    let report = json(&registry, &samples(), &["--max-loss", "0.02", "--why", "first try"]);
    assert_eq!((&report["revision"], &report["rows"]), (&2.into(), &497.into()), "by hand, then calibrated");
    let stage = |at: usize, key: &str| report["stages"][at][key].clone();
    let accuracy = |at: usize| stage(at, "accuracy").as_f64().unwrap();
    assert!(accuracy(0) > 0.85 && accuracy(1) > 0.97 && accuracy(1) > accuracy(0), "{report:#}");
    let (kept, threshold) = (stage(0, "answers").as_f64().unwrap(), report["thresholds"][0].as_f64().unwrap());
    assert!(kept > 0.6 && kept < 0.9 && report["harm_bound"].as_f64().unwrap() <= 0.02, "{report:#}");
    assert!(
        report["accuracy"].as_f64().unwrap() > accuracy(1) - 0.02 && report["curve"].as_array().unwrap().len() > 40
    );

    let written = text(&registry);
    assert!(written.contains("# cheap first") && written.contains("# a guess"), "comments stay: {written}");
    assert!(written.contains(&format!("at_least = {threshold} }}")) && written.contains("[calibration]"), "{written}");
    assert!(written.contains(&format!("thresholds = [{threshold}]")) && written.contains("method = \"harm\""));
    for at in 0..2 {
        assert!(written.contains(stage(at, "digest").as_str().unwrap()), "{written}");
    }
    let made = fs::read_to_string(registry.path().join("r/.history/000002.toml")).unwrap();
    assert!(made.contains("first try") && made.ends_with(&written), "{made}");

    // Once more, over a threshold that was changed by hand and no longer matches: net, with a reason of its own.
    let edited = written.replace(&format!("at_least = {threshold}"), "at_least = 0.5");
    registry.write("r/route.toml", &edited);
    let report = json(&registry, &samples(), &["--max-loss", "0.02", "--method", "net"]);
    assert_eq!(report["revision"], 4);
    assert!(text(&registry).contains("method = \"net\""));
    let made = fs::read_to_string(registry.path().join("r/.history/000004.toml")).unwrap();
    assert!(made.contains("calibrated on 497 rows: max loss 0.02, delta 0.05, net"), "{made}");
}

/// The demo's cascade says what the command finds: whoever trains its models anew has to calibrate it anew.
#[test]
fn the_demo_is_calibrated() {
    let registry = Registry::new(&[("digits-linear", "models/digits-linear"), ("digits-cnn", "models/digits-cnn")]);
    registry.model("r", "models/digits-cascade");
    let report = json(&registry, &samples(), &["--dry-run"]);
    let route = text(&registry);
    assert!(route.contains(&format!("thresholds = [{}]", report["thresholds"][0])), "{route}");
    for at in 0..2 {
        let stage = &report["stages"][at];
        assert!(route.contains(&format!("version = \"{}\"", stage["version"])), "{route}");
        assert!(route.contains(stage["digest"].as_str().unwrap()), "{route}");
    }
}

#[test]
fn rows_as_text_give_the_same() {
    let registry = registry(CASCADE);
    registry.write("rows.csv", csv(497));
    let from_text = json(&registry, "rows.csv", &["--max-loss", "0.02", "--dry-run"]);
    let from_arrays = json(&registry, &samples(), &["--max-loss", "0.02", "--dry-run"]);
    assert_eq!(from_text, from_arrays);
}

#[test]
fn a_share_instead_of_a_loss() {
    let registry = registry(CASCADE);
    let report = json(&registry, &samples(), &["--cost", "0.2"]);
    let goes_on = report["escalated"].as_f64().unwrap();
    assert!(goes_on <= 0.2 && goes_on > 0.19, "{goes_on}");
    let written = text(&registry);
    assert!(
        written.contains("method = \"cost\"") && written.contains(&format!("alpha = {}", report["harm_bound"])),
        "{written}"
    );
}

#[test]
fn three_stages() {
    let three = CASCADE.replace(
        "[[stage]]\nmodel = \"digits-cnn\"",
        "[[stage]]\nmodel = \"digits-linear\"\nversion = \"canary\"\n\
         accept = { output = \"probabilities\", measure = \"margin\", at_least = 0.9 }\n\n[[stage]]\nmodel = \"digits-cnn\"",
    );
    for method in ["harm", "net"] {
        let registry = registry(&three);
        let report = json(&registry, &samples(), &["--max-loss", "0.06", "--method", method]);
        assert_eq!(report["thresholds"].as_array().unwrap().len(), 2);
        assert_eq!(report["stages"][1]["version"], 2, "the label's");
        let written = text(&registry);
        assert!(written.contains("version = \"2\"") || written.contains("version = 2"), "{written}");
        assert!(report["accuracy"].as_f64().unwrap() > 0.93, "{report:#}");
        let shares = (0..3).map(|at| report["stages"][at]["answers"].as_f64().unwrap());
        assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[tokio::test]
async fn a_gateway_does_what_was_said() {
    let registry = registry(CASCADE);
    let report = json(&registry, &samples(), &["--max-loss", "0.02"]);
    let server = Weir::serve(registry, &[]).await;
    let (pixels, labels) = digits();
    let values: Vec<f32> = pixels.iter().map(|pixel| f32::from(*pixel)).collect();
    let mut client = server.client();
    let mut right = 0;
    let mut kept = 0;
    for (values, labels) in values.chunks(100 * 64).zip(labels.chunks(100)) {
        let shape = [i64::try_from(labels.len()).unwrap(), 64];
        let ask = Ask::new("r", vec![Array::f32("pixels", &shape, values)]);
        let answer = client.answer(Way::Binary, &ask).await;
        let predicted = answer.output("label").raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b));
        right += predicted.zip(labels).filter(|(predicted, label)| predicted == *label).count();
        let rows = answer.params["weir_stage_rows"].as_str().unwrap().split(',').next().unwrap();
        kept += rows.parse::<usize>().unwrap();
        assert_eq!(answer.params["weir_revision"], 2);
    }
    // A row at the very threshold may go either way.
    let (said, accuracy) = (report["stages"][0]["answers"].as_f64().unwrap(), report["accuracy"].as_f64().unwrap());
    assert!((kept as f64 / 497.0 - said).abs() <= 0.0021, "kept {kept}, said {said}");
    assert!((right as f64 / 497.0 - accuracy).abs() <= 0.0021, "right {right}, said {accuracy}");

    // The running gateway follows the next calibration.
    let again = json(&server.registry, &samples(), &["--cost", "0.5"]);
    assert_eq!(again["revision"], 3);
    until("the gateway follows", crate::harness::PATIENCE, async || {
        let ask = Ask::new("r", vec![Array::f32("pixels", &[497, 64], &values)]);
        let answer = server.client().answer(Way::Raw, &ask).await;
        (answer.params["weir_revision"] == 3).then_some(())
    })
    .await;
    server.stop().await;
}

#[test]
fn what_cannot_be_calibrated_names_file_and_key() {
    let file = |registry: &Registry| registry.path().join("r/route.toml").display().to_string();
    let swap = |from: &str, to: &str| CASCADE.replace(from, to);
    let split = "kind = \"split\"\n[[variant]]\nname = \"a\"\nmodel = \"digits-cnn\"\nweight = 1\n";
    let band = swap("measure = \"max_prob\", at_least = 0.95", "measure = \"band\", below = 0.1, above = 0.9");
    for (route, what) in [
        (split.to_owned(), "kind: expected \"cascade\", got \"split\""),
        (
            band,
            "stage[0].accept.measure: expected max_prob, margin or certainty, got band: two bounds are not calibrated",
        ),
        (swap("digits-cnn", "r2"), "stage[1].model: expected a model, got the route 'r2', which has no version to pin"),
        (swap("digits-cnn", "absent"), "stage[1]: model 'absent': not found"),
        (swap("version = 1", "version = 9"), "stage[0]: model 'digits-linear'"),
        (
            swap("\"probabilities\", measure", "\"scores\", measure"),
            "stage[0]: outputs: expected 'label', 'probabilities', got",
        ),
        (
            swap("output = \"probabilities\"", "output = \"label\""),
            "stage[0]: accept.output 'label': expected a floating-point",
        ),
        (swap("at_least = 0.95", "at_leest = 0.95"), "line 8"),
        (CASCADE.to_owned() + "[budget]\nescalate_at_most = 0.1\nfloor = 0.9\n", "budget.floor"),
    ] {
        let registry = registry(&route);
        registry.write("r2/route.toml", split);
        let (code, out, err) = calibrate(&registry, &samples(), &["--max-loss", "0.02"]);
        assert_eq!((code, out.as_str()), (1, ""), "{what}");
        assert!(err.starts_with(&format!("error: {}: ", file(&registry))) && err.contains(what), "{what}: {err}");
        assert_eq!(text(&registry), route, "nothing is written");
    }
    let registry = registry(CASCADE);
    fs::remove_file(registry.path().join("r/route.toml")).unwrap();
    let (code, _, err) = calibrate(&registry, &samples(), &[]);
    assert_eq!((code, err), (1, format!("error: {}: not found\n", file(&registry))));
}

#[test]
fn data_that_do_not_fit_name_file_and_column() {
    let registry = registry(CASCADE);
    let lines = csv(3);
    let broken = lines.replacen("pixels[63]", "pixels[64]", 1);
    for (content, code, what) in [
        (lines.replace("label", "truth"), 2, "column 'label': not found: expected the right class of every row"),
        (broken, 2, "column 'pixels[63]': not found, although there are later ones"),
        (lines.replace("pixels[63]", "other"), 2, "column 'pixels': shape: expected [-1, 64], got 63 a row"),
        (lines.replace("pixels[", "image["), 2, "column 'pixels': not found"),
        (lines.replacen("\n0,", "\nx,", 1), 2, "column 'pixels[0]': line 2: expected FP32, got 'x'"),
        (lines.clone(), 1, "rows: expected at least 299, got 3: with fewer, even no error at all"),
    ] {
        registry.write("rows.csv", &content);
        let (got, out, err) = calibrate(&registry, "rows.csv", &[]);
        assert_eq!((got, out.as_str()), (code, ""), "{what}: {err}");
        assert!(err.starts_with("error: rows.csv: ") && err.contains(what), "{what}: {err}");
    }
    assert_eq!(text(&registry), CASCADE);
    let (code, _, err) = calibrate(&registry, "absent.csv", &[]);
    assert_eq!(code, 2);
    assert!(err.starts_with("error: absent.csv: "), "{err}");
}

#[test]
fn wrong_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = weir(folder.path(), &[&["calibrate", "r", "--data", "x.csv"], arguments].concat(), &[]);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, part) in [
        (&["--max-loss", "0"] as &[&str], "expected a number above 0 and below 1"),
        (&["--max-loss", "nan"], "expected a number above 0 and below 1"),
        (&["--cost", "1.5"], "expected a number from 0 to 1"),
        (&["--delta", "0.5"], "expected a number above 0 and at most 0.25"),
        (&["--cost", "0.1", "--max-loss", "0.1"], "cannot be used with"),
        (&["--cost", "0.1", "--method", "net"], "cannot be used with"),
        (&["--method", "guess"], "[possible values: auto, harm, net]"),
    ] {
        let (code, err) = refused(arguments);
        assert_eq!(code, 2);
        assert!(err.contains(part), "{arguments:?}: {err}");
    }
    assert!(Path::new(&samples()).exists());
}
