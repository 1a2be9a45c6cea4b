//! Cascades of models that are functions: what goes on, what comes back, what happens under overload.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::lab::{Lab, ask, floats, positives, request};
use crate::{engine::EngineError, types::ErrorCode};

const CASCADE: &str = r#"
kind = "cascade"
[[stage]]
model = "small"
accept = { output = "p", measure = "max_prob", at_least = 0.8 }
[[stage]]
model = "large"
"#;

/// A small model that is sure of everything but 0.3 to 0.7, and a large one that answers x and notes what it was asked.
fn lab() -> (Lab, Arc<Mutex<Vec<f32>>>) {
    let mut lab = Lab::new();
    lab.binary("small", 1, |x| if (0.3..0.7).contains(&x) { 0.5 } else { x.round() });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    lab.model("large", 1, (vec![floats("x", 1)], vec![floats("p", 2)]), move |inputs, _| {
        noted.lock().unwrap().extend_from_slice(&inputs[0]);
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect()])
    });
    // What the scheduler asked while it measured the model.
    seen.lock().unwrap().clear();
    (lab, seen)
}

#[tokio::test]
async fn only_doubtful_rows_go_on_and_come_back_in_order() {
    let (mut lab, seen) = lab();
    lab.route("c", CASCADE);
    let route = lab.get("c");
    let reply = ask(&route, &request(&[0.1, 0.4, 0.9, 0.6, 0.2])).await.unwrap();
    assert_eq!(positives(&reply), [0.0, 0.4, 1.0, 0.6, 0.0]);
    assert_eq!(reply.path, [0, 1, 0, 1, 0]);
    assert_eq!(reply.facts.stage_rows, [3, 2]);
    assert!(!reply.facts.degraded);
    assert_eq!(*seen.lock().unwrap(), [0.4, 0.6]);
}

#[tokio::test]
async fn an_early_exit_asks_nobody_else() {
    let (mut lab, seen) = lab();
    lab.route("c", CASCADE);
    let reply = ask(&lab.get("c"), &request(&[0.1, 0.9])).await.unwrap();
    assert_eq!((positives(&reply), reply.facts.stage_rows), (vec![0.0, 1.0], vec![2, 0]));
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_a_number_is_never_accepted() {
    let (mut lab, seen) = lab();
    lab.binary("unsure", 1, |_| f32::NAN);
    lab.route("c", &CASCADE.replace("small", "unsure"));
    let reply = ask(&lab.get("c"), &request(&[0.25])).await.unwrap();
    assert_eq!((positives(&reply), reply.path), (vec![0.25], vec![1]));
    assert_eq!(*seen.lock().unwrap(), [0.25]);
}

#[tokio::test]
async fn three_stages() {
    let (mut lab, _) = lab();
    lab.binary("middle", 1, |x| if x < 0.5 { 0.1 } else { 0.5 });
    let middle = r#"
[[stage]]
model = "middle"
accept = { output = "p", measure = "margin", at_least = 0.5 }
[[stage]]
model = "large"
"#;
    lab.route("c", &CASCADE.replace("[[stage]]\nmodel = \"large\"\n", middle));
    let reply = ask(&lab.get("c"), &request(&[0.6, 0.1, 0.4])).await.unwrap();
    assert_eq!((reply.path.clone(), reply.facts.stage_rows.clone()), (vec![2, 0, 1], vec![1, 1, 1]));
    assert_eq!(positives(&reply), [0.6, 0.0, 0.1]);
}

#[tokio::test]
async fn a_broken_last_stage_fails_the_request() {
    let (mut lab, _) = lab();
    lab.model("broken", 1, (vec![floats("x", 1)], vec![floats("p", 2)]), |_, _| Err(EngineError::new("broken")));
    lab.route("c", &CASCADE.replace("large", "broken"));
    let route = lab.get("c");
    assert_eq!(ask(&route, &request(&[0.5])).await.unwrap_err().code(), ErrorCode::Internal);
    assert!(ask(&route, &request(&[0.1])).await.is_ok(), "rows that do not need it are answered");
}

#[tokio::test]
async fn a_brown_out_gives_the_best_answer_so_far() {
    let (mut lab, _) = lab();
    let stuck = Arc::new(AtomicBool::new(false));
    let hold = Arc::clone(&stuck);
    lab.model("stuck", 1, (vec![floats("x", 1)], vec![floats("p", 2)]), move |inputs, _| {
        while hold.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Ok(vec![inputs[0].iter().flat_map(|x| [1.0 - x, *x]).collect()])
    });
    stuck.store(true, Ordering::Release);
    let _release = Release(Arc::clone(&stuck));
    let text = CASCADE.replace("large", "stuck");
    lab.route("fails", &text);
    lab.route("c", &format!("{text}[budget]\non_overload = \"best_so_far\"\n"));
    let in_time = || {
        let mut request = request(&[0.1, 0.5]);
        request.context.deadline = Some(Instant::now() + Duration::from_secs(1));
        request
    };
    let (route, fails) = (lab.get("c"), lab.get("fails"));
    let reply = ask(&route, &in_time()).await.unwrap();
    assert_eq!(positives(&reply), [0.0, 0.5]);
    assert!(reply.facts.degraded);
    assert_eq!((reply.path, reply.facts.stage_rows), (vec![0, 0], vec![2, 0]));
    assert_eq!(ask(&fails, &in_time()).await.unwrap_err().code(), ErrorCode::DeadlineExceeded);
    let text: Vec<String> =
        lab.metrics.render().lines().filter(|line| line.starts_with("weir_cascade_rows")).map(str::to_owned).collect();
    assert!(
        text.iter().any(|line| line == r#"weir_cascade_rows_total{route="c",stage="1",decision="best_so_far"} 1"#),
        "{text:#?}"
    );
    assert!(
        text.iter().any(|line| line == r#"weir_cascade_rows_total{route="fails",stage="1",decision="expired"} 1"#),
        "{text:#?}"
    );
}

/// Lets the stuck model go on, however the test ends: the scheduler waits for its workers.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
