//! The keeper without its thread: from folders to what is live, what is wrong, and what must stay loaded.

use std::{fs, sync::atomic::Ordering, time::Duration};

use crate::compose::{ChangeError, Expect};

use super::lab::{Lab, World, alone, put, split};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_is_written_by_hand_becomes_revisions() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(1), vec![]));
    let state = lab.state("r").unwrap();
    let live = state.live.as_ref().unwrap();
    assert_eq!((&*live.revision.author.who, live.revision.from, state.writable), ("file", 0, true));
    assert_eq!(lab.serves("r").unwrap(), split("m", [90, 10]));
    assert_eq!(lab.world.pinned(), ["m/1", "m/2"]);
    lab.look();
    assert_eq!(lab.at("r"), Some(1), "nothing has changed");
    lab.write("r", &split("m", [80, 20]));
    lab.look();
    assert_eq!((lab.at("r"), lab.serves("r").unwrap()), (Some(2), split("m", [80, 20])));
    // Nothing of it is lost.
    let mut lab = lab.again();
    assert_eq!((lab.at("r"), lab.serves("r").unwrap()), (Some(2), split("m", [80, 20])));
    lab.remove("r");
    lab.look();
    assert_eq!((lab.at("r"), lab.serves("r"), lab.world.pinned().len()), (None, None, 0));
    lab.write("r", &split("m", [1, 1]));
    lab.look();
    assert_eq!(lab.at("r"), Some(4), "the removal was the third");
    let audit = fs::read_to_string(lab.path(".audit.jsonl")).unwrap();
    let made = |line: &str| line.contains(r#""who":"file","route":"r""#) && line.contains(r#""outcome":"ok""#);
    assert_eq!(audit.lines().filter(|line| made(line)).count(), 4, "{audit}");
}

#[test]
fn a_broken_file_changes_nothing_and_everything_wrong_with_it_is_said() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    let broken = split("m", [90, 10]).replace("weight = 90", "weight = -1").replace("key =", "kez =");
    lab.write("r", &broken);
    lab.look();
    assert_eq!((lab.at("r"), lab.serves("r").unwrap()), (Some(1), split("m", [90, 10])));
    let problems = lab.problems("r");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.starts_with("route.toml: line ")), "{problems:?}");
    assert!(problems[0].contains("kez") && problems[1].contains("variant[0].weight"), "{problems:?}");
    // A restart beside a broken file serves what served before.
    let mut lab = lab.again();
    assert_eq!((lab.at("r"), lab.problems("r").len()), (Some(1), 2));
    // What names something that is not there.
    lab.write("r", &split("gone", [1, 1]));
    lab.look();
    let no = |arm| format!("route.toml: variant[{arm}].model: no model or route 'gone'");
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(1), vec![no(0), no(1)]));
    fs::write(lab.path("r").join("route.toml"), [0xff]).unwrap();
    lab.look();
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(1), vec!["route.toml: is not UTF-8".to_owned()]));
    lab.write("r", &split("m", [1, 1]));
    lab.look();
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(2), vec![]));
    // One that was never in order is there and does not serve.
    lab.write("new", "kind = \"spilt\"");
    lab.look();
    assert_eq!((lab.at("new"), lab.serves("new"), lab.problems("new").len()), (Some(0), None, 1));
    fs::remove_dir_all(lab.path("new")).unwrap();
    lab.look();
    lab.look();
    assert_eq!(lab.at("new"), None);
}

#[test]
fn versions_are_loaded_before_a_route_is_live() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    lab.world.offer("m", &[3]);
    let next = split("m", [90, 10]).replace("\"2\"", "\"3\"");
    lab.write("r", &next);
    lab.look();
    assert_eq!((lab.at("r"), lab.world.pinned()), (Some(1), vec!["m/1".into(), "m/2".into(), "m/3".into()]));
    assert_eq!(lab.problems("r"), ["route.toml: waits for 'm/3', which is not loaded yet"]);
    lab.models_change();
    assert_eq!(lab.at("r"), Some(1));
    lab.world.load("m", &[3]);
    lab.models_change();
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(2), vec![]));
    assert_eq!(lab.world.pinned(), ["m/1", "m/3"], "what nothing names any more may go");
    // What goes wrong with models later is said, and what served goes on serving.
    lab.world.present.lock().remove(&("m".to_owned(), 3));
    lab.models_change();
    assert_eq!(lab.problems("r"), ["revision 2: variant[1].version: model 'm' has no version 3"]);
    assert_eq!((lab.at("r"), lab.world.pinned()), (Some(2), vec!["m/1".into(), "m/3".into()]));
}

#[test]
fn start_up_waits_for_what_routes_need() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "known", &split("m", [90, 10]));
    drop(Lab::over(dir, World::new(), Duration::ZERO).manager);
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "known", &split("m", [90, 10]));
    let lab = Lab::over(dir, World::new(), Duration::ZERO);
    let Lab { dir, .. } = lab;
    put(dir.path(), "new", &split("n", [1, 1]));

    let world = std::sync::Arc::new(World::default());
    world.starting.store(true, Ordering::SeqCst);
    world.offer("m", &[1, 2]);
    let mut lab = Lab::over(dir, std::sync::Arc::clone(&world), Duration::ZERO);
    let complete = |lab: &Lab| lab.world.published.lock().last().is_some_and(|(_, complete)| *complete);
    // What was accepted before is the route, though it cannot answer yet; what is new is not known to fit.
    assert_eq!((lab.at("known"), lab.at("new")), (Some(1), Some(0)));
    assert_eq!((lab.problems("known"), lab.problems("new")), (vec![], vec![]), "nothing is wrong yet");
    assert_eq!(world.pinned(), ["m/1", "m/2"]);
    assert!(!complete(&lab));
    world.load("m", &[1, 2]);
    world.offer("n", &[1, 2]);
    lab.models_change();
    assert_eq!(world.pinned(), ["m/1", "m/2", "n/1", "n/2"]);
    world.starting.store(false, Ordering::SeqCst);
    lab.models_change();
    assert!(!complete(&lab), "what it waits for is being loaded");
    assert_eq!(lab.problems("new").len(), 2);
    world.load("n", &[1, 2]);
    lab.models_change();
    assert_eq!((lab.at("new"), complete(&lab), lab.manager.tools.board.load().complete), (Some(1), true, true));
}

#[test]
fn start_up_does_not_wait_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "r", &split("n", [1, 1]));
    let world = World::new();
    world.offer("n", &[1, 2]);
    let mut manager = super::lab::manager(dir.path(), &world, Duration::ZERO);
    manager.rules.patience = Duration::ZERO;
    manager.begin().unwrap();
    super::lab::hear(&mut manager);
    assert!(world.published.lock().last().is_some_and(|(_, complete)| *complete));
    // Nor for what cannot be.
    put(dir.path(), "r", &split("none", [1, 1]));
    let lab = Lab::over(dir, World::new(), Duration::ZERO);
    assert!(lab.manager.complete);
}

#[test]
fn start_up_waits_for_what_another_process_has_just_recorded() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "r", &alone("m"));
    let (world, folder) = (World::new(), dir.path().to_owned());
    // Between the look at the folder and its first revision, the other one makes that revision.
    let other = move || super::lab::manager(&folder, &World::new(), Duration::ZERO).begin().unwrap();
    *world.meanwhile.lock() = Some(Box::new(other));
    let mut manager = super::lab::manager(dir.path(), &world, Duration::ZERO);
    manager.begin().unwrap();
    assert_eq!((manager.live.len(), manager.complete), (0, false), "start-up has ended without the route");
    super::lab::look(&mut manager);
    assert_eq!((manager.live["r"].revision.number, manager.complete), (1, true));
}

#[test]
fn routes_that_name_each_other_change_together() {
    let mut lab = Lab::new(&[("outer", &alone("inner")), ("inner", &alone("m"))]);
    assert_eq!((lab.at("outer"), lab.at("inner")), (Some(1), Some(1)));
    // Gone by hand, but still named.
    lab.remove("inner");
    lab.look();
    assert_eq!((lab.at("inner"), lab.serves("inner").is_some()), (Some(1), true));
    let problem = "route.toml: is gone, but then route 'outer' would not be in order: variant[0].model: no model or \
                   route 'inner'";
    assert_eq!(lab.problems("inner"), [problem]);
    lab.write("outer", &alone("m"));
    lab.look();
    assert_eq!((lab.at("outer"), lab.at("inner")), (Some(2), None));
    // A folder that is removed as a whole.
    fs::remove_dir_all(lab.path("outer")).unwrap();
    lab.look();
    lab.look();
    assert_eq!((lab.at("outer"), lab.serves("outer")), (None, None));
}

#[test]
fn an_edit_counts_when_it_has_stopped_changing() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "r", &alone("m"));
    let settle = Duration::from_millis(40);
    let mut lab = Lab::over(dir, World::new(), settle);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while lab.at("r") != Some(1) {
        assert!(std::time::Instant::now() < deadline, "the file is settled by now");
        lab.manager.turn(super::inbox::Mail::default());
    }
    // As long as it changes it is half written.
    lab.manager.rules.settle = HOUR;
    let mut lab = Lab::over(lab.dir, World::new(), HOUR);
    lab.write("r", &alone("gone"));
    lab.look();
    lab.look();
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(1), vec![]));
    // Removed and made again, as some editors do, is not removed.
    lab.remove("r");
    lab.look();
    assert_eq!(lab.at("r"), Some(1));
    lab.write("r", &alone("m"));
    lab.look();
    assert_eq!((lab.at("r"), lab.problems("r")), (Some(1), vec![]));
}

#[test]
fn another_process_s_revisions_are_followed() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    let (dir, world) = (lab.dir.path().to_owned(), World::new());
    let mut other = super::lab::manager(&dir, &world, Duration::ZERO);
    other.begin().unwrap();
    super::lab::hear(&mut other);
    let at = |manager: &super::manager::Manager| manager.live["r"].revision.clone();
    assert_eq!(at(&other), at(&lab.manager));
    lab.put("r", &split("m", [50, 50])).unwrap();
    super::lab::look(&mut other);
    assert_eq!((at(&other).number, at(&other)), (2, at(&lab.manager)));
    assert_eq!(&*at(&other).author.who, "anna");
    // What does not fit here is refused here; what served goes on.
    world.loaded.lock().clear();
    world.present.lock().clear();
    world.load("m", &[1]);
    lab.put("r", &split("m", [1, 2])).unwrap();
    super::lab::look(&mut other);
    assert_eq!((at(&other).number, at(&lab.manager).number), (2, 3));
    assert!(!other.tools.board.load().states["r"].problems.is_empty());
    // Who changes it here without knowing would undo what was done there.
    let mut ask = |edit, expect| super::lab::ask(&mut other, super::lab::change("r", edit, expect)).0.unwrap();
    let weights = || super::lab::weighs(&[("a", 1.0)]);
    let result = ask(weights(), Expect::Revision(2));
    assert!(matches!(&result, Err(ChangeError::Stale { live: Some(2), .. })), "{result:?}");
    let result = ask(weights(), Expect::Any);
    let why = "route 'r': revision 3 does not serve here: route.toml: variant[1].version: model 'm' has no version 2";
    assert_eq!(result, Err(ChangeError::Conflict(why.to_owned())));
    world.load("m", &[2]);
    other.turn(super::inbox::Mail { models: true, ..Default::default() });
    assert_eq!(at(&other), at(&lab.manager));
    // Both see an edit; it has one number.
    lab.write("r", &split("m", [7, 3]));
    super::lab::look(&mut other);
    lab.look();
    assert_eq!((at(&other).number, at(&other)), (4, at(&lab.manager)));
}

#[test]
fn a_directory_that_cannot_be_read_changes_nothing() {
    let mut lab = Lab::new(&[("r", &alone("m"))]);
    let (dir, away) = (lab.dir.path().to_owned(), lab.dir.path().with_extension("away"));
    fs::rename(&dir, &away).unwrap();
    lab.look();
    assert_eq!(lab.at("r"), Some(1));
    fs::create_dir(&dir).unwrap();
    lab.look();
    assert_eq!(lab.at("r"), Some(1), "something else is mounted there");
    fs::remove_dir(&dir).unwrap();
    fs::rename(&away, &dir).unwrap();
    lab.write("r", "kind = 1");
    lab.look();
    assert_eq!((lab.at("r"), lab.problems("r").len()), (Some(1), 1));
}
