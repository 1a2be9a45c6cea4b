//! What is kept of a conformance run: the list of cases that are not answered, and the page for readers.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{Form, Outcome, Row, fs, plain, root};

/// Cases with an outcome other than "pass", and those outcomes.
pub(super) const EXPECTED: &str = "tests/conformance/expected.txt";
/// The page for readers.
pub(super) const PAGE: &str = "docs/operators.md";

const UPDATE: &str = "WEIR_CONFORMANCE=update cargo test --test it backend_cases";

const INTRODUCTION: &str = "\
# Operators

What the embedded engine does with every operator of the ONNX standard, measured with the standard's own backend test cases.
A test writes this page and fails when it is out of date; `tests/conformance/README.md` says how.

Each case is run in up to three forms: *given*, every input comes with the request; *constants*, only the first input does
(of `Loop` the last, since the first says how often it runs) and the others are part of the model, as exporters write it; *rows*,
the same, and the first dimension of that input is the batch, as models are served. A cell says how many cases are answered
right of how many have that form. The others are refused when the model is loaded, or, where *failed* says so, when the request
comes. A wrong answer fails the test. *rows* does not count cases in which that dimension is no batch, since the operator leaves none
(`Shape`) or a constant is as long itself (a sum of two tensors); where such a case is answered, each request by itself, it is `whole`
in `tests/conformance/expected.txt`.

The last two columns are how many cases tract answers right by itself, without the operators and repairs of ours
(`tests/conformance/plain.txt`): *given* and *constants*. A test sees to it that none of them is lost.
";

/// One line per case that does not pass in every form that it has.
pub(super) fn expected(rows: &[Row]) -> String {
    let mut text =
        String::from("# Cases that are not answered in every form: given, constants, rows. See README.md.\n");
    for row in rows {
        let passes = |outcome: &Outcome| matches!(outcome, Outcome::Pass | Outcome::Absent);
        if !row.outcomes.iter().all(passes) {
            let [given, constants, rows] = row.outcomes.each_ref().map(Outcome::word);
            let _ = writeln!(text, "{} {given} {constants} {rows}", row.name);
        }
    }
    text
}

/// How many forms of cases ended with `word`; of one form, or of all.
fn count(rows: &[&Row], form: Option<usize>, word: &str) -> usize {
    let outcomes = rows.iter().flat_map(|row| row.outcomes.iter().enumerate());
    outcomes.filter(|(at, outcome)| form.is_none_or(|form| form == *at) && outcome.word() == word).count()
}

/// Whether a case is answered right in some form.
fn answered(row: &Row) -> bool {
    row.outcomes.iter().any(|outcome| matches!(outcome, Outcome::Pass | Outcome::Whole))
}

/// `<pass> of <all>` per form.
fn cells(rows: &[&Row]) -> String {
    let cell = |form| {
        let cases = rows.len() - count(rows, Some(form), "-") - count(rows, Some(form), "whole");
        if cases == 0 { "-".to_owned() } else { format!("{} of {cases}", count(rows, Some(form), "pass")) }
    };
    (0..Form::ALL.len()).map(cell).collect::<Vec<_>>().join(" | ")
}

/// How many cases ended how, given and with constants.
pub(super) fn summary(rows: &[Row]) -> String {
    let all: Vec<&Row> = rows.iter().collect();
    let form = |(at, name): (usize, &str)| {
        let words =
            ["pass", "wrong", "refused", "failed"].map(|word| format!("{} {word}", count(&all, Some(at), word)));
        format!("{name}: {}", words.join(", "))
    };
    [(0, "given"), (1, "constants")].map(form).join("; ")
}

/// The page with a table of operators.
pub(super) fn page(package: &str, rows: &[Row]) -> String {
    let mut operators: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        operators.entry(&row.operator).or_default().push(row);
    }
    let (some, none): (Vec<_>, Vec<_>) = operators.iter().partition(|(_, rows)| rows.iter().any(|row| answered(row)));
    let all: Vec<&Row> = rows.iter().collect();
    let right = rows.iter().filter(|row| answered(row)).count();
    let mut text = String::from(INTRODUCTION);
    let _ = writeln!(
        text,
        "\nCases: {} of package {package}; {right} are answered right in some form, {} answers are wrong.\n",
        rows.len(),
        count(&all, None, "wrong")
    );
    text.push_str("| operator | given | constants | rows | failed | tract alone, given | tract alone, constants |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    let plain = plain::counts(rows);
    let alone =
        |operator: &str| plain.get(operator).copied().unwrap_or_default().map(|count| count.to_string()).join(" | ");
    let _ = writeln!(text, "| all | {} | {} | {} |", cells(&all), count(&all, None, "failed"), alone(""));
    for (operator, rows) in some {
        let failed = count(rows, None, "failed");
        let failed = if failed > 0 { failed.to_string() } else { String::new() };
        let _ = writeln!(text, "| {operator} | {} | {failed} | {} |", cells(rows), alone(operator));
    }
    let names: Vec<&str> = none.iter().map(|(operator, _)| **operator).collect();
    let _ = writeln!(text, "\nNo case is answered of: {}.", names.join(", "));
    text
}

/// Lines that only one of two texts has.
fn differences(before: &str, now: &str) -> Vec<String> {
    let only = |a: &str, b: &str, sign: char| {
        let b: Vec<&str> = b.lines().collect();
        let missing: Vec<String> =
            a.lines().filter(|line| !b.contains(line)).map(|line| format!("{sign} {line}")).collect();
        missing
    };
    let mut lines = [only(before, now, '-'), only(now, before, '+')].concat();
    lines.sort_by(|a, b| a[2..].cmp(&b[2..]));
    lines
}

/// What a reason names, where it does not name the operator.
const NAMED: [&str; 5] = ["node '", "node #", "input '", "output '", "initializer '"];

/// Cases whose reason names nothing: the library panics on the first three; the others have no rows, as which nothing is planned.
const NAMELESS: [&str; 5] = [
    "test_gru_batchwise",
    "test_lstm_batchwise",
    "test_simple_rnn_batchwise",
    "test_string_split_empty_tensor",
    "test_triu_zero",
];

/// The reasons why a case is not loaded that do not say because of what: not even a node, or what is of a type that there is not.
fn nameless(row: &Row) -> Vec<String> {
    let operator = row.operator.rsplit('.').next().unwrap_or_default();
    let refused = row.outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Refused(_))).map(Outcome::text);
    let silent = refused.filter(|text| !text.contains(operator) && !NAMED.iter().any(|named| text.contains(named)));
    let silent = silent.filter(|_| !NAMELESS.contains(&row.name.as_str()));
    silent.map(|text| format!("{}: {text}", row.name)).collect()
}

/// Panics when an answer is wrong, when a refusal does not say of what, or the files in the repository say otherwise than this run.
pub(super) fn check(rows: &[Row], expected: &str, page: &str) {
    let wrong = rows.iter().flat_map(|row| Form::ALL.iter().zip(&row.outcomes).map(move |found| (row, found)));
    let wrong = wrong.filter(|(_, (_, outcome))| matches!(outcome, Outcome::Wrong(_)));
    let wrong: Vec<_> =
        wrong.map(|(row, (form, outcome))| format!("{} {form:?}: {}", row.name, outcome.text())).collect();
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    let nameless: Vec<_> = rows.iter().flat_map(nameless).collect();
    assert!(nameless.is_empty(), "{} reasons name nothing:\n{}", nameless.len(), nameless.join("\n"));
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap_or_default();
    let changed = differences(&read(EXPECTED), expected);
    for line in &changed {
        let name = line.split_whitespace().nth(1);
        let row = rows.iter().find(|row| Some(row.name.as_str()) == name);
        let texts = row.into_iter().flat_map(|row| row.outcomes.iter()).map(Outcome::text);
        println!("{line} {}", texts.collect::<Vec<_>>().join(" / "));
    }
    assert!(
        changed.is_empty(),
        "{} lines differ from {EXPECTED} (- was expected, + is now). If all is for the better, run: {UPDATE}",
        changed.len()
    );
    assert!(read(PAGE) == page, "{PAGE} is out of date. Run: {UPDATE}");
}
