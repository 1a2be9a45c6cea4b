//! Who may operate the gateway: the names and tokens of `--ops-token-file`. Tokens are kept as digests, and digests are what is
//! compared, so neither memory nor timing tells a token. Read by the application, asked by `auth`.

use std::{fmt, sync::Arc};

use sha2::{Digest as _, Sha256};

/// What the bearer of a token without a name is called.
const NAMELESS: &str = "token";
/// Names that the record of changes gives to others than bearers of tokens.
const RESERVED: [&str; 2] = ["local", "file"];
const MAX_NAME_BYTES: usize = 64;

/// The tokens that are accepted. At least one.
#[derive(Clone)]
pub struct Tokens(Arc<[Bearer]>);

#[derive(Debug)]
struct Bearer {
    name: Arc<str>,
    /// Of the token, and of the whole line: clients may send either, so one file serves both sides.
    digests: [[u8; 32]; 2],
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|bearer| &bearer.name)).finish()
    }
}

impl Tokens {
    /// Reads a token file: `name:token` on each line, or a single line with a bare token, whose bearer is called `token`.
    /// Empty lines are skipped.
    ///
    /// # Errors
    /// Every line that is wrong, without what it holds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        let (mut bearers, mut problems): (Vec<Bearer>, Vec<String>) = (Vec::new(), Vec::new());
        for (number, line) in &lines {
            match bearer(line, lines.len() == 1) {
                Err(problem) => problems.push(format!("line {number}: {problem}")),
                Ok(new) if bearers.iter().any(|known| known.name == new.name) => {
                    problems.push(format!("line {number}: the name '{}' is given twice", new.name));
                }
                Ok(new) if bearers.iter().any(|known| known.digests[0] == new.digests[0]) => {
                    problems.push(format!("line {number}: '{}' has the token of another line", new.name));
                }
                Ok(new) => bearers.push(new),
            }
        }
        match (bearers.is_empty(), problems.is_empty()) {
            (false, true) => Ok(Self(bearers.into())),
            (true, true) => Err("expected a token, or name:token on each line".to_owned()),
            (_, false) => Err(problems.join("; ")),
        }
    }

    /// The name of a token's bearer. Every token is looked at, whichever it is.
    pub(super) fn bearer(&self, token: &[u8]) -> Option<&Arc<str>> {
        let digest = digest(token);
        self.0.iter().fold(None, |found, bearer| {
            let same = bearer.digests.iter().fold(false, |same, known| same | (*known == digest));
            if same { Some(&bearer.name) } else { found }
        })
    }
}

fn bearer(line: &str, only: bool) -> Result<Bearer, &'static str> {
    let named = line.split_once(':').map(|(name, token)| (name.trim(), token.trim()));
    let (name, token) = match named {
        Some((name, token)) if is_name(name) => (name, token),
        _ if only => (NAMELESS, line),
        _ => return Err("expected name:token with a name of letters, digits, '.', '_' and '-'"),
    };
    if RESERVED.contains(&name) {
        return Err("expected another name than 'local' and 'file', which stand for changes without token");
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err("expected a token of printable ASCII after the name");
    }
    Ok(Bearer { name: name.into(), digests: [token, line].map(|text| digest(text.as_bytes())) })
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(file: &str, token: &str) -> Option<String> {
        Tokens::parse(file).unwrap().bearer(token.as_bytes()).map(|name| name.as_ref().to_owned())
    }

    #[test]
    fn a_bare_token_has_one_bearer() {
        for file in ["s3cret", "s3cret\n", "\n  s3cret  \r\n\n"] {
            assert_eq!(who(file, "s3cret").as_deref(), Some("token"), "{file:?}");
            for wrong in ["s3cre", "s3cret2", "S3CRET", "", "token:s3cret"] {
                assert_eq!(who(file, wrong), None, "{file:?} {wrong}");
            }
        }
        assert_eq!(who("p@ss:word", "p@ss:word").as_deref(), Some("token"), "no name has an @");
    }

    #[test]
    fn names_and_tokens() {
        let file = "ann: first\n\nci-bot:second:half\r\n";
        assert_eq!(who(file, "first").as_deref(), Some("ann"));
        assert_eq!(who(file, "second:half").as_deref(), Some("ci-bot"));
        assert_eq!(who(file, "ann: first").as_deref(), Some("ann"), "the whole line");
        for wrong in ["ann", "half", "second", "first\n", "ci-bot"] {
            assert_eq!(who(file, wrong), None, "{wrong}");
        }
        assert_eq!(who("ann:first", "first").as_deref(), Some("ann"));
        assert_eq!(who("ann:first", "ann:first").as_deref(), Some("ann"), "a bare token with a colon still works");
    }

    #[test]
    fn what_is_wrong_is_said_without_the_token() {
        for (file, part) in [
            ("", "expected a token"),
            (" \n\n", "expected a token"),
            ("s3cret\ns3cret2", "line 1: expected name:token"),
            ("ann:s3cret\nbob s3cret2", "line 2: expected name:token"),
            ("ann:s3cret\nann:s3cret2", "line 2: the name 'ann' is given twice"),
            ("ann:s3cret\nbob:s3cret", "line 2: 'bob' has the token of another line"),
            ("ann:s3cret\nbob:", "line 2: expected a token"),
            ("local:s3cret", "line 1: expected another name"),
            ("s3crét", "line 1: expected a token of printable ASCII"),
        ] {
            let error = Tokens::parse(file).unwrap_err();
            assert!(error.contains(part), "{file:?}: {error}");
            assert!(!error.contains("s3c"), "{error}");
        }
        assert!(!format!("{:?}", Tokens::parse("ann:s3cret").unwrap()).contains("s3cret"));
    }
}
