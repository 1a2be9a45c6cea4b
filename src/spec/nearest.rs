//! The nearest known key to one that was mistyped, by edit distance. Used wherever an unknown key or name is reported.

use super::problem::quoted;

/// A shorter beginning says nothing about the whole.
const MIN_BEGINNING: usize = 4;

/// Names longer than this are not compared: a mistyped key is never that long, and the cost grows with the square.
const MAX_CHARS: usize = 128;

/// The text of an unknown-key problem: with the nearest of `known` (full paths of leaves, `name[]` for an array of tables) or
/// of their tables, or with what the table of `path` may have when none is near. A key of the same table is named with the
/// indices of `path`.
pub(super) fn unknown_key(path: &str, known: &[&str]) -> String {
    // A quoted key may have dots of its own; no known table has quotes.
    let leaf = path.find('\'').or_else(|| path.rfind('.').map(|dot| dot + 1));
    let table = &path[..leaf.unwrap_or(0)];
    let (pattern, table_pattern) = (without_indices(path), without_indices(table));
    let parents = known.iter().flat_map(|key| key.match_indices('.').map(|(end, _)| without_array(&key[..end])));
    let candidates: Vec<&str> = known.iter().copied().chain(parents).collect();
    if let Some(key) = nearest(&pattern, &candidates) {
        return match key.strip_prefix(table_pattern.as_str()) {
            Some(leaf) => did_you_mean(&format!("{table}{leaf}")),
            None => did_you_mean(key),
        };
    }
    let siblings = known.iter().filter_map(|key| key.strip_prefix(table_pattern.as_str())?.split('.').next());
    let mut siblings: Vec<_> = siblings.map(without_array).collect();
    siblings.dedup();
    expected_one_of(&siblings)
}

/// The path with `[]` for every index: `a[3].b` becomes `a[].b`.
pub(super) fn without_indices(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    let mut parts = path.split('[');
    pattern.push_str(parts.next().unwrap_or(""));
    for part in parts {
        pattern.push('[');
        pattern.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    pattern
}

fn without_array(key: &str) -> &str {
    key.strip_suffix("[]").unwrap_or(key)
}

fn did_you_mean(key: &str) -> String {
    format!("unknown key, did you mean '{key}'?")
}

fn expected_one_of(siblings: &[&str]) -> String {
    format!("unknown key: expected one of '{}'", siblings.join("', '"))
}

/// The text of an unknown-name problem: with the nearest of the names there are, or all of them.
pub(super) fn unknown_name(what: &str, name: &str, known: &[&str]) -> String {
    let allowed = name.chars().count().max(3) / 3;
    let near = known.iter().map(|known| (distance(name, known), *known)).filter(|(edits, _)| *edits <= allowed).min();
    match near {
        Some((_, near)) => format!("unknown {what} {}, did you mean '{near}'?", quoted(name)),
        None => format!("unknown {what} {}: expected one of '{}'", quoted(name), known.join("', '")),
    }
}

/// As [`unknown_key`], with the candidates (full paths) and the names to list when none is near.
pub(super) fn unknown_key_among(path: &str, candidates: &[&str], siblings: &[&str]) -> String {
    match nearest(path, candidates) {
        Some(key) => did_you_mean(key),
        None => expected_one_of(siblings),
    }
}

/// The known name that a mistyped one most probably stands for.
pub fn nearest_name<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let allowed = name.chars().count().max(3) / 3;
    known
        .map(|other| (distance(name, other), other))
        .filter(|(edits, _)| *edits <= allowed)
        .min()
        .map(|(_, other)| other)
}

/// The candidate that `path` most probably stands for: the one whose last part is nearest, and among those the one whose whole
/// path is, so that a key in the wrong table finds its place. `None` when more than a third of the last part's characters
/// would have to change and neither is the beginning of the other.
pub(super) fn nearest<'k>(path: &str, candidates: &[&'k str]) -> Option<&'k str> {
    let leaf = last(path).to_ascii_lowercase();
    let allowed = leaf.chars().count().max(3) / 3;
    candidates
        .iter()
        .filter_map(|key| {
            let other = last(key);
            let beginning =
                leaf.len().min(other.len()) >= MIN_BEGINNING && (leaf.starts_with(other) || other.starts_with(&leaf));
            let edits = distance(&leaf, other);
            (edits <= allowed || beginning).then(|| (edits, distance(path, key), *key))
        })
        .min()
        .map(|(_, _, key)| key)
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`; upper and lower case count as equal.
fn distance(a: &str, b: &str) -> usize {
    let chars = |text: &str| text.chars().take(MAX_CHARS).map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (a, b) = (chars(a), chars(b));
    let mut before_last = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(previous[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let swap: usize = before_last[j - 2];
                row[j] = row[j].min(swap + 1);
            }
        }
        before_last = std::mem::replace(&mut previous, row);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] =
        ["versions", "engine", "batching.max_batch_size", "batching.max_queue_rows", "score.output"];

    #[test]
    fn distances() {
        for (a, b, expected) in [("", "", 0), ("", "abc", 3), ("ab", "ba", 1), ("kitten", "sitting", 3), ("A", "a", 0)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn finds_slips_of_the_finger_and_wrong_tables() {
        assert_eq!(nearest("batching.max_batch_sise", &KNOWN), Some("batching.max_batch_size"));
        assert_eq!(nearest("max_batch_size", &KNOWN), Some("batching.max_batch_size"));
        assert_eq!(nearest("resources.max_queue_rows", &KNOWN), Some("batching.max_queue_rows"));
        assert_eq!(nearest("version", &KNOWN), Some("versions"));
        assert_eq!(nearest("Engine", &KNOWN), Some("engine"));
        assert_eq!(nearest("batching.max_batch", &KNOWN), Some("batching.max_batch_size"));
        assert_eq!(nearest("score.outputs_name", &KNOWN), Some("score.output"));
        assert_eq!(nearest("batching.colour", &KNOWN), None);
        assert_eq!(nearest("colour", &KNOWN), None);
        assert_eq!(nearest("", &KNOWN), None);
    }

    #[test]
    fn lists_what_is_known_when_nothing_is_near() {
        let known = ["ab", "cd.x", "cd.y"];
        assert_eq!(unknown_key("zzz", &known), "unknown key: expected one of 'ab', 'cd'");
        assert_eq!(unknown_key("cd.zzz", &known), "unknown key: expected one of 'x', 'y'");
        assert_eq!(unknown_key("batch", &["batching.x"]), "unknown key, did you mean 'batching'?");
        assert_eq!(unknown_key("ce", &known), "unknown key, did you mean 'cd'?");
    }

    #[test]
    fn tables_in_arrays_keep_their_index() {
        let known = ["kind", "variant[].name", "variant[].weight", "rule[].when.equals"];
        assert_eq!(unknown_key("variant[3].wieght", &known), "unknown key, did you mean 'variant[3].weight'?");
        assert_eq!(unknown_key("rule[12].when.equal", &known), "unknown key, did you mean 'rule[12].when.equals'?");
        assert_eq!(unknown_key("weight", &known), "unknown key, did you mean 'variant[].weight'?");
        assert_eq!(unknown_key("varient", &known), "unknown key, did you mean 'variant'?");
        assert_eq!(unknown_key("variant[0].zzz", &known), "unknown key: expected one of 'name', 'weight'");
        assert_eq!(unknown_key("zzz", &known), "unknown key: expected one of 'kind', 'variant', 'rule'");
        assert_eq!(unknown_key("variant[0].'a.b'", &known), "unknown key: expected one of 'name', 'weight'");
        assert_eq!(without_indices("a[3].b[12][x].c[]"), "a[].b[][x].c[]");
    }

    #[test]
    fn unknown_names() {
        assert_eq!(
            unknown_name("variant", "controll", &["control", "b"]),
            "unknown variant 'controll', did you mean 'control'?"
        );
        assert_eq!(unknown_name("variant", "v1.9", &["v1.2", "v1.3"]), "unknown variant 'v1.9', did you mean 'v1.2'?");
        assert_eq!(
            unknown_name("variant", "zzzz", &["control", "b"]),
            "unknown variant 'zzzz': expected one of 'control', 'b'"
        );
    }
}
