//! The nearest known key to one that was mistyped, by edit distance. Used wherever an unknown key is reported.

/// A shorter beginning says nothing about the whole.
const MIN_BEGINNING: usize = 4;

/// Names longer than this are not compared: a mistyped key is never that long, and the cost grows with the square.
const MAX_CHARS: usize = 128;

/// The text of an unknown-key problem: with the nearest of `known` (full paths of leaves) or of their tables, or with what
/// the table of `path` may have when none is near.
pub(super) fn unknown_key(path: &str, known: &[&str]) -> String {
    let parents = known.iter().flat_map(|key| key.match_indices('.').map(|(end, _)| &key[..end]));
    let candidates: Vec<&str> = known.iter().copied().chain(parents).collect();
    let table = path.rfind('.').map_or("", |end| &path[..=end]);
    let mut siblings: Vec<_> = known.iter().filter_map(|key| key.strip_prefix(table)?.split('.').next()).collect();
    siblings.dedup();
    unknown_key_among(path, &candidates, &siblings)
}

/// As [`unknown_key`], with the candidates (full paths) and the names to list when none is near.
pub(super) fn unknown_key_among(path: &str, candidates: &[&str], siblings: &[&str]) -> String {
    match nearest(path, candidates) {
        Some(key) => format!("unknown key, did you mean '{key}'?"),
        None => format!("unknown key: expected one of '{}'", siblings.join("', '")),
    }
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
}
