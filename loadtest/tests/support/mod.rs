//! Servers for the tests of the binary: its own echo servers, and a small HTTP server that doubles its input, refuses,
//! mixes up answers or takes its time, as it is told. Used by `e2e` and `scenarios`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_weir-loadtest");

/// An echo server that ends with the test.
pub(crate) struct Echo {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Echo {
    pub(crate) fn start(kind: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args(["echo", kind, "--answer-bytes", "12", "--max-seconds", "120"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening ").unwrap_or_else(|| panic!("{line:?}"));
        Self { url: format!("http://{address}"), child }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the small server does with an infer request besides answering `y = 2 x`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manners {
    /// Every so many requests are refused with 429.
    pub(crate) refuse_every: Option<u64>,
    /// Every so many requests get the answer to the one before.
    pub(crate) swap_every: Option<u64>,
    /// How long each takes, one after the other.
    pub(crate) takes: Duration,
}

/// A small server; its threads end with the test process.
pub(crate) struct Small {
    pub(crate) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    manners: Manners,
    requests: AtomicU64,
    turn: Mutex<Value>,
    /// Heads and bodies of requests, the first few.
    seen: Mutex<Vec<(String, Value)>>,
}

impl Small {
    pub(crate) fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { manners, ..State::default() });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                // A client that leaves in the middle is no failure of the test.
                std::thread::spawn(move || while state.exchange(&socket).is_some() {});
            }
        });
        Self { url, state }
    }

    /// Infer requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(SeqCst)
    }

    /// Head (lower case) and body of the first infer requests.
    pub(crate) fn seen(&self) -> Vec<(String, Value)> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl State {
    /// One request and its answer; nothing when the connection is over.
    fn exchange(&self, socket: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = head.to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let (status, answer) = if head.starts_with("get") {
            (200, json!({"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}))
        } else {
            self.infer(head, &serde_json::from_slice(&body).unwrap_or_default())
        };
        let text = answer.to_string();
        let mut socket = socket;
        let head = format!("HTTP/1.1 {status} Some\r\ncontent-length: {}\r\n\r\n", text.len());
        socket.write_all((head + &text).as_bytes()).ok()
    }

    fn infer(&self, head: String, body: &Value) -> (u16, Value) {
        let mut last = self.turn.lock().unwrap();
        std::thread::sleep(self.manners.takes);
        let number = self.requests.fetch_add(1, SeqCst);
        let mut seen = self.seen.lock().unwrap();
        if seen.len() < 16 {
            seen.push((head, body.clone()));
        }
        let hits = |every: Option<u64>| every.is_some_and(|every| number % every == every - 1);
        if hits(self.manners.refuse_every) {
            return (429, json!({"error": "queue: full"}));
        }
        let input = &body["inputs"][0];
        let data: Vec<f64> = input["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() * 2.0).collect();
        let output = json!({"name": "y", "datatype": "FP32", "shape": input["shape"], "data": data});
        let before = std::mem::replace(&mut *last, output.clone());
        let output = if hits(self.manners.swap_every) { before } else { output };
        (200, json!({"model_name": "m", "outputs": [output]}))
    }
}

/// A file that is gone after the test.
pub(crate) fn file(name: &str, text: &str) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    (directory, path)
}

/// Runs the binary with these arguments.
pub(crate) fn weir_loadtest(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub(crate) fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"))
}
