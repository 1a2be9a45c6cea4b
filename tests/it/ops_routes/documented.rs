//! `docs/ops-api.md` is run: every curl line is sent, in its order, to a gateway as the page describes it, and must be answered
//! as printed. `"…"` in a printed answer stands for anything.

use serde_json::Value;

use super::gateway;
use crate::{
    client::{Http, Reply},
    harness::repository,
};

/// A curl line, and what is printed below it.
struct Example {
    command: String,
    answer: Option<String>,
}

/// The shell blocks with one curl each; the block of JSON, HTTP or text that follows is the answer.
fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in page.split("\n```").collect::<Vec<_>>().chunks(2) {
        let [_, block] = block else { continue };
        let (language, content) = block.split_once('\n').unwrap();
        match language {
            "sh" if content.starts_with("curl ") => {
                examples.push(Example { command: content.replace("\\\n", " "), answer: None });
            }
            "json" | "http" | "text" => {
                if let Some(last) = examples.last_mut().filter(|last| last.answer.is_none()) {
                    last.answer = Some(content.to_owned());
                }
            }
            _ => {}
        }
    }
    examples
}

/// Words as a shell reads them, with single and double quotes.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in command.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "an open quote: {command}");
    words.extend(word);
    words
}

async fn send(http: &mut Http, command: &str) -> Reply {
    let (mut method, mut headers, mut body, mut path) = (None, Vec::new(), String::new(), None);
    let mut words = words(command).into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" | "-si" => {}
            "-X" => method = words.next(),
            "-d" => body = words.next().unwrap(),
            "-H" => {
                let header = words.next().unwrap();
                let (name, value) = header.split_once(": ").unwrap();
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
            url => {
                let rest = url.strip_prefix("http://127.0.0.1:8002").unwrap_or_else(|| panic!("{url} in {command}"));
                path = Some(rest.to_owned());
            }
        }
    }
    let method = method.unwrap_or_else(|| if body.is_empty() { "GET" } else { "POST" }.to_owned());
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    http.send(&method, &path.unwrap(), &headers, body).await.unwrap()
}

/// Whether an answer is what is printed.
fn same(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::String(text), _) if text == "…" => true,
        (Value::Object(want), Value::Object(got)) => {
            want.len() == got.len() && want.iter().all(|(key, want)| got.get(key).is_some_and(|got| same(want, got)))
        }
        (Value::Array(want), Value::Array(got)) => {
            want.len() == got.len() && want.iter().zip(got).all(|(want, got)| same(want, got))
        }
        (Value::Number(want), Value::Number(got)) => want.as_f64() == got.as_f64(),
        _ => want == got,
    }
}

fn check(command: &str, want: &str, reply: &Reply) {
    let (head, body) = match want.strip_prefix("HTTP/1.1 ") {
        Some(text) => text.split_once("\n\n").unwrap_or((text, "")),
        None => ("200 OK", want),
    };
    let mut lines = head.lines();
    assert_eq!(lines.next().unwrap(), reply.status.to_string(), "{command}: {reply:?}");
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        assert_eq!(reply.header(&name.to_ascii_lowercase()), Some(value), "{command}: {reply:?}");
    }
    if reply.header("content-type") == Some("application/json") {
        let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{command}: {error}: {body}"));
        assert!(same(&body, &reply.json()), "{command}\nprinted: {body}\nanswered: {}", reply.json());
    } else {
        assert_eq!(body, std::str::from_utf8(&reply.body).unwrap().trim_end(), "{command}");
    }
}

#[tokio::test]
async fn every_curl_line_is_answered_as_printed() {
    let page = std::fs::read_to_string(repository("docs/ops-api.md")).unwrap();
    let examples = examples(&page);
    assert!(examples.len() >= 20, "{} examples", examples.len());
    let server = gateway(None, &[]).await;
    let mut http = Http::new(server.ops);
    for Example { command, answer } in &examples {
        let reply = send(&mut http, command).await;
        match answer {
            Some(want) => check(command, want, &reply),
            None => assert!(reply.status.is_success(), "{command}: {reply:?}"),
        }
    }
    assert!(server.stop().await.success());
}

#[test]
fn every_path_is_on_the_page() {
    let page = std::fs::read_to_string(repository("docs/ops-api.md")).unwrap();
    let document = std::fs::read_to_string(repository("src/transport/ops/openapi.json")).unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let row = format!("`{} {path}", method.to_uppercase());
            assert!(page.contains(&row), "{row} is not on the page");
        }
    }
}
