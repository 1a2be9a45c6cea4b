//! What comes of changes that operators ask for: every edit under every expectation, dry runs, waiting, edits by hand that come
//! in between, read-only folders.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use super::lab::{Lab, alone, change, put, puts, split, weighs};
use crate::compose::{Change, ChangeError, Edit, Expect};

fn code(result: &Result<crate::compose::Changed, ChangeError>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(ChangeError::NotFound(_)) => "not found",
        Err(ChangeError::Refused(_)) => "refused",
        Err(ChangeError::Stale { .. }) => "stale",
        Err(ChangeError::Conflict(_)) => "conflict",
        Err(ChangeError::Failed(_)) => "failed",
    }
}

#[test]
fn every_edit_under_every_expectation() {
    let edits: [fn() -> Edit; 4] =
        [|| puts(&split("m", [1, 1])), || weighs(&[("a", 50.0)]), || Edit::Rollback(1), || Edit::Delete];
    let expects = [Expect::Any, Expect::Absent, Expect::Revision(2), Expect::Revision(1)];
    // Rows are edits, columns are expectations.
    let there = [
        ["ok", "stale", "ok", "stale"],
        ["ok", "stale", "ok", "stale"],
        ["ok", "stale", "ok", "stale"],
        ["ok", "stale", "ok", "stale"],
    ];
    let never = [
        ["ok", "ok", "stale", "stale"],
        ["not found"; 4],
        ["not found", "not found", "stale", "stale"],
        ["not found"; 4],
    ];
    let deleted = [["ok", "ok", "stale", "stale"], ["not found"; 4], ["ok", "ok", "stale", "stale"], ["not found"; 4]];
    for (row, edit) in edits.iter().enumerate() {
        for (column, expect) in expects.into_iter().enumerate() {
            for dry_run in [true, false] {
                let case = format!("{:?} {expect:?} {dry_run}", edit());
                let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
                lab.put("r", &split("m", [80, 20])).unwrap();
                let ask = |lab: &mut Lab, route: &str| {
                    let change = Change { dry_run, ..change(route, edit(), expect) };
                    lab.ask(change).0.unwrap()
                };
                let result = ask(&mut lab, "never");
                assert_eq!(code(&result), never[row][column], "never: {case}: {result:?}");
                let result = ask(&mut lab, "r");
                assert_eq!(code(&result), there[row][column], "there: {case}: {result:?}");
                match &result {
                    Ok(changed) => assert_eq!(changed.revision, 3, "{case}"),
                    Err(ChangeError::Stale { live, .. }) => assert_eq!(*live, Some(2), "{case}"),
                    Err(_) => {}
                }
                let changed = result.is_ok() && !dry_run;
                let gone = changed && row == 3;
                assert_eq!(lab.at("r"), if gone { None } else { Some(if changed { 3 } else { 2 }) }, "{case}");
                assert_eq!(lab.file("r"), lab.serves("r"), "{case}");
                drop(lab.change("r", Edit::Delete, Expect::Any));
                let result = ask(&mut lab, "r");
                assert_eq!(code(&result), deleted[row][column], "deleted: {case}: {result:?}");
            }
        }
    }
}

#[test]
fn a_change_says_what_it_came_to() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    let changed = lab.change("r", weighs(&[("a", 80.0), ("b", 20.0)]), Expect::Revision(1)).unwrap();
    assert_eq!((changed.revision, changed.moved), (2, 0.1));
    assert_eq!(changed.weights, [("a".into(), 80.0), ("b".into(), 20.0)]);
    assert_eq!((changed.loads.len(), changed.unloads.len(), changed.problems.len()), (0, 0, 0));
    // The text keeps what was written by hand.
    assert_eq!(lab.file("r").unwrap(), split("m", [80, 20]));
    let state = lab.state("r").unwrap();
    let revision = &state.live.as_ref().unwrap().revision;
    assert_eq!((&*revision.author.who, &*revision.author.why, revision.from), ("anna", "a reason", 1));
    // Back to the first.
    let changed = lab.change("r", Edit::Rollback(1), Expect::Any).unwrap();
    assert_eq!((changed.revision, changed.moved, lab.file("r").unwrap()), (3, 0.1, split("m", [90, 10])));
    assert_eq!(lab.state("r").unwrap().live.as_ref().unwrap().revision.from, 1);
    // Another salt deals all keys anew.
    let salted = split("m", [90, 10]).replace("key =", "salt = \"x\"\nkey =");
    let moved = lab.put("r", &salted).unwrap().moved;
    assert!((moved - 0.18).abs() < 1e-9, "{moved}");
    // A route by itself is no split.
    let cascade = "kind = \"cascade\"\n[[stage]]\nmodel = \"m\"\naccept = { output = \"y\", measure = \"max_prob\", \
                   at_least = 0.9 }\n[[stage]]\nmodel = \"m\"\nversion = \"2\"\n";
    let changed = lab.put("r", cascade).unwrap();
    assert_eq!((changed.moved, changed.weights.len(), changed.unloads), (0.0, 0, vec!["m/1".to_owned()]));
    assert_eq!(lab.world.pinned(), ["m/2"]);
    let result = lab.change("r", weighs(&[("a", 1.0)]), Expect::Any);
    assert_eq!(code(&result), "refused");
    let changed = lab.change("r", Edit::Delete, Expect::Any).unwrap();
    assert_eq!((changed.revision, changed.unloads), (6, vec!["m/2".to_owned()]));
    assert_eq!((lab.file("r"), lab.serves("r")), (None, None));
    let result = lab.change("r", Edit::Rollback(6), Expect::Any);
    assert!(matches!(&result, Err(ChangeError::Refused(why)) if why[0].contains("deleted it")), "{result:?}");
    assert_eq!(lab.change("r", Edit::Rollback(4), Expect::Any).unwrap().revision, 7);
    let result = lab.change("r", Edit::Rollback(99), Expect::Any);
    assert_eq!(result, Err(ChangeError::NotFound("route 'r': revision 99: not found".to_owned())));
}

#[test]
fn what_is_not_in_order_is_refused_with_everything_that_is_wrong() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10])), ("outer", &alone("r"))]);
    let result = lab.put("r", &split("gone", [1, 1]));
    let no = |arm| format!("route.toml: variant[{arm}].model: no model or route 'gone'");
    assert_eq!(result, Err(ChangeError::Refused(vec![no(0), no(1)])));
    let result = lab.change("r", weighs(&[("c", 1.0)]), Expect::Any);
    assert!(matches!(&result, Err(ChangeError::Refused(why)) if why[0].contains('c')), "{result:?}");
    assert_eq!(code(&lab.change("r", weighs(&[("a", 0.0), ("b", 0.0)]), Expect::Any)), "refused");
    let result = lab.change("r", Edit::Delete, Expect::Any);
    assert_eq!(result, Err(ChangeError::Conflict("route 'r': is named by 'outer'".to_owned())));
    // A dry run says it and does nothing.
    let mut dry = |edit| {
        let change = Change { dry_run: true, ..change("r", edit, Expect::Any) };
        lab.ask(change).0.unwrap().unwrap()
    };
    assert_eq!(dry(puts(&split("gone", [1, 1]))).problems, [no(0), no(1)]);
    assert_eq!(dry(Edit::Delete).problems, ["route 'r': is named by 'outer'"]);
    assert_eq!(dry(weighs(&[("c", 1.0)])).problems.len(), 1);
    assert_eq!((lab.at("r"), lab.file("r").unwrap()), (Some(1), split("m", [90, 10])));
    let audit = fs::read_to_string(lab.path(".audit.jsonl")).unwrap();
    let count = |what: &str| audit.lines().filter(|line| line.contains(what)).count();
    assert_eq!((count(r#""outcome":"refused: "#), count(r#""outcome":"conflict: "#)), (3, 1), "{audit}");
}

#[test]
fn a_change_waits_for_versions_to_be_loaded() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    lab.world.offer("m", &[3]);
    let next = split("m", [90, 10]).replace("\"2\"", "\"3\"");
    // A dry run loads nothing.
    let dry = Change { dry_run: true, ..change("r", puts(&next), Expect::Any) };
    let foreseen = lab.ask(dry).0.unwrap().unwrap();
    assert_eq!((foreseen.loads, foreseen.unloads), (vec!["m/3".to_owned()], vec!["m/2".to_owned()]));
    assert_eq!((foreseen.revision, lab.world.pinned().len()), (2, 2));
    let (now, mut answer) = lab.ask(change("r", puts(&next), Expect::Revision(1)));
    assert!(now.is_none());
    assert_eq!((lab.at("r"), lab.world.pinned().len()), (Some(1), 3));
    lab.models_change();
    assert!(answer.try_recv().is_err());
    lab.world.load("m", &[3]);
    lab.models_change();
    let changed = answer.try_recv().unwrap().unwrap();
    assert_eq!((changed.revision, changed.loads), (2, vec!["m/3".to_owned()]));
    assert_eq!((lab.at("r"), lab.world.pinned()), (Some(2), vec!["m/1".into(), "m/3".into()]));
    // Who was overtaken while waiting is told.
    lab.world.offer("m", &[4]);
    let next = split("m", [90, 10]).replace("\"2\"", "\"4\"");
    let (_, mut late) = lab.ask(change("r", puts(&next), Expect::Revision(2)));
    lab.change("r", weighs(&[("a", 1.0)]), Expect::Any).unwrap();
    lab.models_change();
    assert!(matches!(late.try_recv(), Ok(Err(ChangeError::Stale { live: Some(3), .. }))));
    // Who has left does not want it any more.
    let (_, gone) = lab.ask(change("r", puts(&next), Expect::Any));
    drop(gone);
    lab.world.load("m", &[4]);
    lab.models_change();
    assert_eq!((lab.at("r"), lab.world.pinned()), (Some(3), vec!["m/1".into(), "m/3".into()]));
}

#[test]
fn a_change_does_not_wait_for_ever() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    lab.world.offer("m", &[3]);
    lab.manager.rules.patience = Duration::ZERO;
    let next = split("m", [90, 10]).replace("\"2\"", "\"3\"");
    let (now, _) = lab.ask(change("r", puts(&next), Expect::Any));
    let why = "route.toml: 'm/3' was not loaded within 0 s".to_owned();
    assert_eq!(now.unwrap(), Err(ChangeError::Refused(vec![why])));
    assert_eq!((lab.at("r"), lab.world.pinned()), (Some(1), vec!["m/1".into(), "m/2".into()]));
}

#[test]
fn an_edit_by_hand_wins() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    // It was there before the change was asked for: it is the next revision.
    lab.write("r", &split("m", [70, 30]));
    let result = lab.change("r", weighs(&[("a", 1.0)]), Expect::Revision(1));
    assert!(matches!(result, Err(ChangeError::Stale { live: Some(2), .. })), "{result:?}");
    assert_eq!((lab.at("r"), lab.serves("r").unwrap()), (Some(2), split("m", [70, 30])));
    // It comes while the change is being made.
    let (dir, text) = (lab.dir.path().to_owned(), split("m", [60, 40]));
    let edit = text.clone();
    *lab.world.meanwhile.lock() = Some(Box::new(move || put(&dir, "r", &edit)));
    let result = lab.change("r", weighs(&[("a", 1.0)]), Expect::Revision(2));
    assert!(matches!(result, Err(ChangeError::Stale { live: Some(3), .. })), "{result:?}");
    assert_eq!((lab.at("r"), lab.serves("r").unwrap(), lab.file("r").unwrap()), (Some(3), text.clone(), text));
    // Without an expectation the change is made to what was written by hand.
    lab.write("r", &split("m", [50, 50]));
    lab.change("r", weighs(&[("a", 1.0)]), Expect::Any).unwrap();
    assert_eq!((lab.at("r"), lab.file("r").unwrap()), (Some(5), split("m", [1, 50])));
}

#[test]
fn a_refused_edit_is_replaced_only_by_who_says_everything_anew() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    lab.write("r", "kind = \"spilt\"");
    let result = lab.change("r", weighs(&[("a", 1.0)]), Expect::Revision(1));
    assert!(matches!(&result, Err(ChangeError::Conflict(why)) if why.contains("route.toml: line 1")), "{result:?}");
    assert_eq!(lab.file("r").unwrap(), "kind = \"spilt\"");
    let result = lab.put("r", &split("gone", [1, 1]));
    assert_eq!((code(&result), lab.file("r").unwrap()), ("refused", "kind = \"spilt\"".to_owned()));
    assert_eq!(lab.change("r", Edit::Rollback(1), Expect::Revision(1)).unwrap().revision, 2);
    assert_eq!((lab.problems("r"), lab.file("r").unwrap()), (vec![], split("m", [90, 10])));
    lab.write("r", "rubbish");
    assert_eq!(lab.change("r", Edit::Delete, Expect::Revision(2)).unwrap().revision, 3);
    assert_eq!((lab.at("r"), lab.file("r")), (None, None));
    // One that was never in order is there; who does not expect it must say so.
    lab.write("new", "rubbish");
    assert_eq!(code(&lab.change("new", puts(&alone("m")), Expect::Absent)), "stale");
    assert_eq!(lab.put("new", &alone("m")).unwrap().revision, 1);
}

#[test]
fn a_half_written_file_stops_changes_for_the_moment() {
    let lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    let mut lab = Lab::over(lab.dir, lab.world, Duration::from_secs(3600));
    lab.write("r", &split("m", [70, 30]));
    for edit in [weighs(&[("a", 1.0)]), puts(&alone("m")), Edit::Rollback(1), Edit::Delete] {
        let result = lab.change("r", edit, Expect::Any);
        assert!(matches!(result, Err(ChangeError::Stale { live: Some(1), .. })), "{result:?}");
    }
    assert_eq!((lab.at("r"), lab.file("r").unwrap()), (Some(1), split("m", [70, 30])));
}

#[test]
fn nothing_new_is_accepted_before_the_models_are_known() {
    let mut lab = Lab::new(&[("r", &split("m", [90, 10]))]);
    lab.world.starting.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(code(&lab.put("new", &alone("m"))), "ok", "what fits already is no matter");
    assert_eq!(code(&lab.put("new", &alone("later"))), "failed");
    lab.write("r", &alone("later"));
    assert_eq!(code(&lab.put("r", &alone("m"))), "failed");
}

/// A folder in which the super-user too can make nothing: a file stands where the folder of revisions would be made.
#[test]
fn where_nothing_can_be_written_revisions_count_in_memory() {
    let mut lab = Lab::new(&[]);
    lab.write("r", &split("m", [90, 10]));
    let path = lab.path("r");
    let frozen = freeze(&path, true);
    if !frozen {
        freeze(&path, false);
        return eprintln!("this machine cannot make a folder read-only for this user");
    }
    lab.look();
    let state = lab.state("r").unwrap();
    assert_eq!((lab.at("r"), state.writable, state.problems.len()), (Some(1), false, 0));
    fs::write(path.join("route.toml"), split("m", [80, 20])).unwrap();
    lab.look();
    assert_eq!((lab.at("r"), lab.serves("r").unwrap()), (Some(2), split("m", [80, 20])));
    for edit in [weighs(&[("a", 1.0)]), puts(&alone("m")), Edit::Rollback(1), Edit::Delete] {
        let result = lab.change("r", edit, Expect::Revision(2));
        let said = "route 'r': the folder 'r' cannot be written to: give --routes DIR with a directory that can";
        assert_eq!(result, Err(ChangeError::Conflict(said.to_owned())));
    }
    let memory = lab.manager.tools.board.load().memory["r"].clone();
    assert_eq!(memory.iter().map(|entry| entry.revision.number).collect::<Vec<_>>(), [1, 2]);
    assert!(Arc::ptr_eq(&lab.state("r").unwrap().live.as_ref().unwrap().text, &memory[1].text));
    freeze(&path, false);
    // From now on they are written.
    fs::write(path.join("route.toml"), split("m", [70, 30])).unwrap();
    lab.look();
    assert_eq!((lab.at("r"), lab.state("r").unwrap().writable), (Some(1), true));
    assert_eq!(lab.change("r", weighs(&[("a", 1.0)]), Expect::Any).unwrap().revision, 2);
}

/// Makes a folder read-only: by its permissions and, for the super-user, as an immutable file. False when that is not enough.
fn freeze(path: &std::path::Path, on: bool) -> bool {
    let folder = fs::File::open(path).unwrap();
    if let Ok(mut flags) = rustix::fs::ioctl_getflags(&folder) {
        flags.set(rustix::fs::IFlags::IMMUTABLE, on);
        let _ = rustix::fs::ioctl_setflags(&folder, flags);
    }
    // Of an immutable folder they cannot be changed either.
    drop(fs::set_permissions(path, fs::Permissions::from_mode(if on { 0o555 } else { 0o755 })));
    on && fs::write(path.join(".probe"), "").is_err()
}
