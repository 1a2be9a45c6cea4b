//! Reads a label file: the names of an output's classes, one a line, the first line being class 0. Called by the registry for
//! every file that a `config.pbtxt` names.

/// The class names. Spaces around a name are not part of it; empty lines at the end are none.
pub fn parse_labels(text: &str) -> Vec<Box<str>> {
    text.trim_start_matches('\u{feff}').trim_end().lines().map(|line| line.trim().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_a_line() {
        assert_eq!(
            parse_labels("\u{feff}cat\r\nbig dog \n\nfish\n\n"),
            ["cat".into(), "big dog".into(), "".into(), "fish".into()] as [Box<str>; 4]
        );
        assert_eq!(parse_labels("\n"), [] as [Box<str>; 0]);
    }
}
