//! Switches and ensembles of models that are functions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::lab::{Lab, ask, floats, positives, request};
use crate::{engine::EngineError, types::ErrorCode};

const SWITCH: &str = r#"
kind = "switch"
selector = { model = "selector", output = "p", class = 1 }
[[case]]
name = "high"
at_least = 0.5
model = "high"
[[case]]
name = "low"
model = "low"
"#;

#[tokio::test]
async fn a_switch_asks_the_specialist_of_every_row() {
    let mut lab = Lab::new();
    lab.binary("selector", 1, |x| x);
    lab.binary("high", 1, |x| x / 2.0);
    lab.binary("low", 1, |x| x / 4.0);
    lab.route("w", SWITCH);
    let route = lab.get("w");
    let reply = ask(&route, &request(&[0.8, 0.4, 0.5, f32::NAN])).await.unwrap();
    assert_eq!(positives(&reply)[..3], [0.4, 0.1, 0.25]);
    assert_eq!(reply.path, [0, 1, 0, 1], "what is not a number is not at least anything");
}

const ENSEMBLE: &str = r#"
kind = "ensemble"
combine = "mean"
[[member]]
model = "a"
[[member]]
model = "b"
[[member]]
model = "c"
"#;

fn three() -> Lab {
    let mut lab = Lab::new();
    lab.binary("a", 1, |x| x);
    lab.binary("b", 1, |x| x / 2.0);
    lab.binary("c", 1, |_| 0.0);
    lab
}

#[tokio::test]
async fn an_ensemble_combines_what_its_members_say() {
    let mut lab = three();
    lab.route("e", ENSEMBLE);
    let reply = ask(&lab.get("e"), &request(&[0.5, 1.0])).await.unwrap();
    assert_eq!((positives(&reply), reply.path.clone()), (vec![0.25, 0.5], vec![3, 3]));
    assert!(!reply.facts.degraded);
    lab.route("m", &ENSEMBLE.replace("mean", "median"));
    assert_eq!(positives(&ask(&lab.get("m"), &request(&[0.5])).await.unwrap()), [0.25]);
    lab.route("d", &ENSEMBLE.replace("[[member]]\nmodel = \"a\"", "disagreement = true\n[[member]]\nmodel = \"a\""));
    let route = lab.get("d");
    let outputs: Vec<_> = route.signature().outputs.iter().map(|output| &*output.name).collect();
    assert_eq!(outputs, ["p", "weir_disagreement"]);
    let reply = ask(&route, &request(&[0.0, 1.0])).await.unwrap();
    let apart = reply.outputs[1].to_f32().unwrap();
    assert!(apart[0].abs() < 1e-6 && apart[1] > 0.1, "{apart:?}");
}

#[tokio::test]
async fn a_quorum_is_enough() {
    let mut lab = three();
    lab.model("broken", 1, (vec![floats("x", 1)], vec![floats("p", 2)]), |_, _| Err(EngineError::new("broken")));
    let text = ENSEMBLE.replace("\"c\"", "\"broken\"");
    lab.route("all", &text);
    assert_eq!(ask(&lab.get("all"), &request(&[0.5])).await.unwrap_err().code(), ErrorCode::Internal);
    lab.route("two", &text.replace("combine = \"mean\"", "combine = \"mean\"\nquorum = 2"));
    let reply = ask(&lab.get("two"), &request(&[0.5])).await.unwrap();
    assert_eq!((positives(&reply), reply.path), (vec![0.375], vec![2]));
    assert!(reply.facts.degraded);
}

#[tokio::test]
async fn a_slow_member_is_not_waited_for_beyond_the_deadline() {
    let mut lab = three();
    let stuck = Arc::new(AtomicBool::new(false));
    let hold = Arc::clone(&stuck);
    lab.model("slow", 1, (vec![floats("x", 1)], vec![floats("p", 2)]), move |inputs, _| {
        while hold.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect()])
    });
    stuck.store(true, Ordering::Release);
    let _release = Release(Arc::clone(&stuck));
    let text = ENSEMBLE.replace("\"c\"", "\"slow\"");
    lab.route("two", &text.replace("combine = \"mean\"", "combine = \"mean\"\nquorum = 2"));
    lab.route("all", &text);
    let in_time = || {
        let mut request = request(&[0.5]);
        request.context.deadline = Some(Instant::now() + Duration::from_secs(1));
        request
    };
    let reply = ask(&lab.get("two"), &in_time()).await.unwrap();
    assert_eq!((positives(&reply), reply.path), (vec![0.375], vec![2]));
    assert_eq!(ask(&lab.get("all"), &in_time()).await.unwrap_err().code(), ErrorCode::DeadlineExceeded);
}

/// Lets the stuck model go on, however the test ends: the scheduler waits for its workers.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
