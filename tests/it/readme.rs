//! The README is run: its start-up text is what a gateway prints on the demo registry, its curl line is answered as printed, its
//! calibration gives what the demo cascade has, its links exist.

use serde_json::Value;

use crate::{
    client::Http,
    harness::{PATIENCE, Registry, Weir, repository, until, weir},
};

fn readme() -> String {
    std::fs::read_to_string(repository("README.md")).unwrap()
}

/// The content of the first fenced block of a language that contains `part`.
fn block(text: &str, language: &str, part: &str) -> String {
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next());
    blocks.filter(|block| block.contains(part)).map(str::to_owned).next().unwrap()
}

#[tokio::test]
async fn the_sample_digit_is_answered_as_printed() {
    let text = readme();
    let command = block(&text, "sh", "curl");
    let (path, body) = command.split_once(" -d @").unwrap();
    let path = path.split_once(":8000").unwrap().1;
    let digits = repository("models/digits-cnn").to_string_lossy().into_owned();
    let server = Weir::start(&[("digits-cnn", digits)], &[]).await;
    let body = std::fs::read(repository(body.trim())).unwrap();
    let got = Http::new(server.http).post(path, body).await.json();
    let want: Value = serde_json::from_str(&block(&text, "json", "model_name")).unwrap();
    let (got, want) = (&got["outputs"], &want["outputs"]);
    assert_eq!(got[0], want[0], "the label");
    let numbers =
        |value: &Value| -> Vec<f64> { value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
    let close =
        numbers(&got[1]["data"]).iter().zip(numbers(&want[1]["data"])).all(|(a, b)| (a - b).abs() <= 1e-4 + 1e-4 * b);
    assert!(close, "{got} {want}");
    assert!(server.stop().await.success());
}

/// The command for calibrating chooses what the demo cascade has, from the digits that are here.
#[test]
fn the_calibration_is_the_commands() {
    let command = block(&readme(), "sh", "weir calibrate");
    let words: Vec<&str> = command.split_whitespace().skip(1).collect();
    let route = "digits-cascade/route.toml";
    let text = std::fs::read_to_string(repository("models").join(route)).unwrap();
    let registry = Registry::demo();
    // As it was before: without versions, with a threshold of somebody's own, and without the promise.
    let (before, _) = text.split_once("[calibration]").unwrap();
    let before: Vec<&str> = before.lines().filter(|line| !line.starts_with("version")).collect();
    let mut before = before.join("\n").trim_end().to_owned() + "\n";
    let at_least = before.find("at_least = ").unwrap() + "at_least = ".len();
    let end = at_least + before[at_least..].find(' ').unwrap();
    before.replace_range(at_least..end, "0.9");
    registry.write(route, before);
    let run = weir().args(&words).arg("--registry").arg(registry.path()).current_dir(repository("")).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let chosen = std::fs::read_to_string(registry.path().join(route)).unwrap();
    let undated = |text: &str| text.lines().filter(|line| !line.starts_with("date = ")).collect::<Vec<_>>().join("\n");
    assert_eq!(undated(&chosen), undated(&text));
}

/// Lines up to the empty line before `listening:`, without how long something took.
fn start_up(text: &str) -> Vec<String> {
    let start = text.find("MODEL ").unwrap();
    let end = start + text[start..].find("\n\nlistening:").unwrap();
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let line = |line| {
        let mut words = words(line);
        while let Some(unit) = words.iter().position(|word| word == "ms") {
            words.drain(unit - 1..=unit);
        }
        words.join(" ")
    };
    text[start..end].lines().map(line).collect()
}

#[tokio::test]
async fn start_up_prints_what_the_pages_show() {
    let server = Weir::serve(Registry::demo(), &[]).await;
    // The ready file comes a moment before the text.
    let printed = async || {
        let logs = server.logs();
        logs.contains("\nlistening:").then_some(logs)
    };
    let printed = start_up(&until("start-up is printed", PATIENCE, printed).await);
    assert!(printed.iter().any(|line| line.starts_with("digits-cascade 1 READY cascade")), "{printed:#?}");
    for page in ["README.md", "docs/cli.md"] {
        assert_eq!(start_up(&std::fs::read_to_string(repository(page)).unwrap()), printed, "{page}");
    }
    assert!(server.stop().await.success());
}

#[test]
fn links_lead_to_files() {
    for page in [
        "README.md",
        "ARCHITECTURE.md",
        "docs/adr/README.md",
        "docs/engines.md",
        "docs/ops-api.md",
        "docs/performance.md",
        "models/README.md",
        "deploy/README.md",
        "loadtest/README.md",
    ] {
        let text = std::fs::read_to_string(repository(page)).unwrap();
        let folder = repository(page).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or("");
            let local = !file.is_empty() && !file.contains("://");
            assert!(!local || folder.join(file).exists(), "{page} links to {file}");
        }
    }
}
