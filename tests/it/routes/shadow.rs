//! Shadows that get stuck or panic, behind a split that is asked over both protocols: nobody who asks notices, and operators see
//! it in the metrics and in the report.

use std::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use serde_json::Value;
use weir::engine::EngineError;

use super::lab::{Lab, Made};
use crate::{
    array::Array,
    ask::{Ask, Way},
    client::{Client, Http},
    harness::{PATIENCE, until},
    site::Site,
};

/// More than may wait for a shadow.
const REQUESTS: usize = 600;

const SPLIT: &str = r#"kind = "split"
[[variant]]
name = "only"
model = "primary"
weight = 1
[shadow]
model = "next"
sample = 1
"#;

/// What the shadow does when it is asked by more than those who load it.
#[derive(Default)]
struct Trouble {
    armed: AtomicBool,
    stuck: Mutex<bool>,
    freed: Condvar,
}

impl Trouble {
    fn wait(&self) {
        let mut stuck = self.stuck.lock().unwrap();
        while *stuck {
            stuck = self.freed.wait(stuck).unwrap();
        }
    }

    fn stick(&self) {
        *self.stuck.lock().unwrap() = true;
    }

    fn free(&self) {
        *self.stuck.lock().unwrap() = false;
        self.freed.notify_all();
    }
}

/// Frees whoever is stuck when a test ends early, so that it does end.
struct Freed(Arc<Trouble>);

impl Drop for Freed {
    fn drop(&mut self) {
        self.0.free();
    }
}

fn models(trouble: &Arc<Trouble>) -> Vec<Made> {
    let (trouble, columns) = (Arc::clone(trouble), (&[("x", 1)][..], &[("y", 1)][..]));
    let next = Made::new("next", 1, columns, move |inputs, _| {
        trouble.wait();
        if trouble.armed.load(Relaxed) {
            std::panic::resume_unwind(Box::new("as the test says"));
        }
        Ok::<_, EngineError>(vec![inputs[0].iter().map(|x| x * 2.0).collect()])
    });
    vec![Made::new("primary", 1, columns, |inputs, _| Ok(vec![inputs[0].iter().map(|x| x * 2.0).collect()])), next]
}

/// Asks in every encoding; every answer must be right and come without an error.
async fn ask_all(site: &Site, requests: usize) {
    let mut client = Client::new(site.data, site.data);
    for number in 0..requests {
        let x = number as f32;
        let answer =
            client.answer(Way::ALL[number % 4], &Ask::new("split", vec![Array::f32("x", &[1, 1], &[x])])).await;
        assert_eq!(answer.outputs, [Array::f32("y", &[1, 1], &[x * 2.0])]);
        assert!(!answer.params.contains_key("weir_degraded"));
    }
}

/// What the report says of the shadow: agree, differ, failed, dropped.
async fn report(site: &Site) -> [u64; 4] {
    let report: Value = Http::new(site.ops).get("/ops/routes/split/report").await.json();
    ["agree", "differ", "failed", "dropped"]
        .map(|result| report["shadow"][result].as_u64().unwrap_or_else(|| panic!("{report}")))
}

fn counted(lab: &Lab, result: &str) -> u64 {
    let series = format!("weir_shadow_rows_total{{route=\"split\",result=\"{result}\"}}");
    lab.metric(&series).unwrap_or(0.0) as u64
}

/// Waits until every row has come to something, and the metrics say what the report says.
async fn settled(lab: &Lab, site: &Site, rows: usize) -> [u64; 4] {
    until("every row has come to something", PATIENCE, async || {
        let told = report(site).await;
        let same = ["agree", "differ", "failed", "dropped"].map(|result| counted(lab, result)) == told;
        (same && told.iter().sum::<u64>() == rows as u64).then_some(told)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_stuck_keeps_nobody() {
    let trouble = Arc::new(Trouble::default());
    let _freed = Freed(Arc::clone(&trouble));
    let lab = Lab::start(models(&trouble), &[("split", SPLIT)]).await;
    let site = lab.listen();
    trouble.stick();
    ask_all(&site, REQUESTS).await;
    until("what finds no room is dropped", PATIENCE, async || (counted(&lab, "dropped") > 0).then_some(())).await;
    let [agree, differ, _, dropped] = report(&site).await;
    assert_eq!((agree, differ), (0, 0), "nothing has been answered");
    assert!(dropped > 0);
    trouble.free();
    let [agree, differ, _, dropped] = settled(&lab, &site, REQUESTS).await;
    eprintln!("stuck: of {REQUESTS} rows {agree} agreed afterwards, {dropped} were dropped");
    assert_eq!(differ, 0);
    // Free again, it is asked again.
    until("it answers again", PATIENCE, async || {
        ask_all(&site, 1).await;
        (report(&site).await[0] > agree).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_panics_harms_nobody() {
    let trouble = Arc::new(Trouble::default());
    let lab = Lab::start(models(&trouble), &[("split", SPLIT)]).await;
    let site = lab.listen();
    trouble.armed.store(true, Relaxed);
    ask_all(&site, REQUESTS).await;
    let [agree, differ, failed, dropped] = settled(&lab, &site, REQUESTS).await;
    eprintln!("panicking: of {REQUESTS} rows {failed} failed, {dropped} were dropped");
    assert_eq!((agree, differ), (0, 0));
    assert!(failed > 0);
    trouble.armed.store(false, Relaxed);
    until("it answers again", PATIENCE, async || {
        ask_all(&site, 1).await;
        (report(&site).await[0] > 0).then_some(())
    })
    .await;
}
