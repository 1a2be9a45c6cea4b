//! Several processes on one folder: writers that are killed at any moment, and writers that race. A process here is this test
//! binary, run again to do nothing but one part.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Store, StoreError, tests::note};

/// Tells a run of this binary which folder to write to.
const FOLDER: &str = "WEIR_TEST_STORE_FOLDER";
/// Where it reports what it has done.
const REPORT: &str = "WEIR_TEST_STORE_REPORT";
/// Where the other one does.
const OTHER: &str = "WEIR_TEST_STORE_OTHER";

/// Changes that must have been made over all kills.
const CHANGES: usize = 1000;
/// Rounds of the race.
const ROUNDS: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

/// A text that shows whether it is whole: how long it says it is, and whose it is.
fn text(who: u32, round: u64) -> String {
    let fill = "x".repeat((round as usize * 997) % 20_000);
    let body = format!("who = {who}\nround = {round}\nfill = \"{fill}\"\n");
    format!("{body}length = {}\n", body.len())
}

fn is_whole(text: &str) -> bool {
    text.rsplit_once("length = ").is_some_and(|(body, length)| length.trim_end().parse() == Ok(body.len()))
}

fn run(test: &str, folder: &Path, report: &Path, other: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("compose::store::crash_tests::{test}"), "--test-threads=1"]);
    command.env(FOLDER, folder).env(REPORT, report).env(OTHER, other);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The part of a run: its folder and its report.
fn part() -> Option<(Store, File, PathBuf)> {
    let folder = std::env::var_os(FOLDER)?;
    let report = OpenOptions::new().append(true).create(true).open(std::env::var_os(REPORT)?).unwrap();
    Some((Store::new(folder.into()), report, std::env::var_os(OTHER)?.into()))
}

/// Writes until it is killed; deletes now and then. Reports each change when it is done.
#[test]
fn writes_for_ever() {
    let Some((store, mut report, _)) = part() else { return };
    for round in 0.. {
        let seen = store.look(None).unwrap();
        let text = (round % 7 != 6).then(|| text(std::process::id(), round));
        let entry = store.commit(&seen, text.as_deref(), note("writer", seen.number)).unwrap();
        let line = format!("{} {} {}\n", entry.revision.number, std::process::id(), text.map_or(-1, |_| round as i64));
        report.write_all(line.as_bytes()).unwrap();
    }
}

/// What is in the history, by number; every text is whole.
fn pages(folder: &Path) -> BTreeMap<u64, String> {
    let store = Store::new(folder.to_owned());
    let mut pages = BTreeMap::new();
    for revision in store.history().unwrap() {
        let entry = store.read(revision.number).unwrap().unwrap();
        assert!(entry.is_deletion() || is_whole(&entry.text), "revision {}", revision.number);
        pages.insert(revision.number, entry.text.to_string());
    }
    pages
}

fn lines(report: &Path) -> Vec<(u64, u32, i64)> {
    let report = fs::read_to_string(report).unwrap_or_default();
    let whole = report.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let fields = whole.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.map(|f| (f[0].parse().unwrap(), f[1].parse().unwrap(), f[2].parse().unwrap())).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "{what} took too long");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn whoever_is_killed_leaves_a_revision_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, report) = (dir.path().join("r"), dir.path().join("report"));
    let mut known: BTreeMap<u64, String> = BTreeMap::new();
    let (mut kills, mut unfinished) = (0_u64, 0);
    while lines(&report).len() < CHANGES {
        let before = lines(&report).len();
        let mut child = run("writes_for_ever", &folder, &report, &report);
        // Let it do a few dozen changes and kill it somewhere inside the next one.
        let some = 20 + (kills as usize * 13) % 40;
        wait_until("writing", || lines(&report).len() >= before + some);
        std::thread::sleep(Duration::from_micros(kills * 7919 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;

        let file = fs::read_to_string(folder.join("route.toml")).ok();
        assert!(file.as_deref().is_none_or(is_whole), "the file is torn after kill {kills}");
        let pages = pages(&folder);
        unfinished += u64::from(pages.values().next_back().map(String::as_str) != Some(file.as_deref().unwrap_or("")));
        let seen = Store::new(folder.clone()).look(None).unwrap();
        let newest = seen.newest.expect("a revision that had been written");
        assert_eq!(fs::read_to_string(folder.join("route.toml")).unwrap_or_default(), *newest.text);
        assert_eq!(pages.last_key_value(), Some((&newest.revision.number, &newest.text.to_string())));
        for (number, text) in &known {
            assert!(pages.get(number).is_none_or(|now| now == text), "revision {number} has two contents");
        }
        known.extend(pages);
        for (number, who, round) in lines(&report) {
            let said = u64::try_from(round).map_or(String::new(), |round| text(who, round));
            assert!(known[&number] == said, "revision {number} is not what was reported");
        }
    }
    let numbers: Vec<_> = known.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no number is left out");
    let done = lines(&report).len();
    eprintln!("{done} changes, {} revisions, {kills} kills, {unfinished} between the two steps", numbers.len());
}

/// One of two writers that expect the same in every round; reports who won.
#[test]
fn races_the_other() {
    let Some((store, mut report, other)) = part() else { return };
    for round in 0..ROUNDS {
        let seen = store.look(None).unwrap();
        assert_eq!(seen.number, round);
        report.write_all(b"ready\n").unwrap();
        wait_until("the other", || count(&other) > 2 * round);
        let won = match store.commit(&seen, Some(&text(std::process::id(), round)), note("racer", round)) {
            Ok(entry) => {
                assert_eq!(entry.revision.number, round + 1);
                true
            }
            Err(StoreError::Stale) => false,
            Err(error) => panic!("{error}"),
        };
        report.write_all(if won { b"won\n" } else { b"lost\n" }).unwrap();
        wait_until("the other", || count(&other) > 2 * round + 1);
    }
}

/// Lines in a report.
fn count(report: &Path) -> u64 {
    fs::read(report).map_or(0, |report| report.iter().filter(|byte| **byte == b'\n').count() as u64)
}

#[test]
fn of_two_processes_exactly_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, a, b) = (dir.path().join("r"), dir.path().join("a"), dir.path().join("b"));
    let racers = [run("races_the_other", &folder, &a, &b), run("races_the_other", &folder, &b, &a)];
    let [first, second] = racers;
    let reports = [(first, a), (second, b)].map(|(mut racer, report)| {
        assert!(racer.wait().unwrap().success(), "a racer failed");
        (racer.id(), fs::read_to_string(report).unwrap())
    });
    let wins = reports.each_ref().map(|(who, report)| {
        let rounds = report.lines().filter(|line| *line != "ready").map(|line| line == "won").collect::<Vec<_>>();
        assert_eq!(rounds.len() as u64, ROUNDS);
        (*who, rounds)
    });
    let pages = pages(&folder);
    assert_eq!(pages.len() as u64, ROUNDS);
    for round in 0..ROUNDS {
        let winners: Vec<_> = wins.iter().filter(|(_, won)| won[round as usize]).map(|(who, _)| *who).collect();
        assert_eq!(winners.len(), 1, "round {round}");
        assert!(pages[&(round + 1)] == text(winners[0], round), "revision {} is not the winner's", round + 1);
    }
    let share = wins[0].1.iter().filter(|won| **won).count();
    eprintln!("{share} of {ROUNDS} rounds were the first one's");
}
