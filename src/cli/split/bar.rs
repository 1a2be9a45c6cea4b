//! A share as a bar of a fixed width: eighths of blocks on a terminal that can show them, number signs anywhere else. Pure but
//! for finding out which.

use std::io::IsTerminal as _;

/// What bars are drawn with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bars {
    /// `█▌`
    Blocks,
    /// `##`
    Ascii,
}

impl Bars {
    /// Blocks if standard output is a terminal and the locale says UTF-8.
    pub(super) fn of_stdout() -> Self {
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
        let locale = locale.map(|value| value.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        if utf8 && !dumb && std::io::stdout().is_terminal() { Bars::Blocks } else { Bars::Ascii }
    }

    /// A bar for `share` (0 to 1) of `width` cells. What is more than nothing is seen; nothing is empty.
    pub(super) fn draw(self, share: f64, width: usize) -> String {
        const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
        let (unit, width) = match self {
            Bars::Blocks => (8, width * 8),
            Bars::Ascii => (1, width),
        };
        if share.is_nan() || share <= 0.0 {
            return String::new();
        }
        // A share that rounds to more than the width is drawn as all of it.
        let steps = ((share * width as f64).round() as usize).clamp(1, width);
        match self {
            Bars::Blocks => format!("{}{}", "█".repeat(steps / unit), EIGHTHS[steps % unit]),
            Bars::Ascii => "#".repeat(steps),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bars() {
        for (share, blocks, ascii) in [
            (0.0, "", ""),
            (1e-9, "▏", "#"),
            (0.1, "▊", "#"),
            (0.25, "██", "##"),
            (0.5, "████", "####"),
            (0.99, "███████▉", "########"),
            (1.0, "████████", "########"),
            (7.0, "████████", "########"),
            (f64::NAN, "", ""),
            (-1.0, "", ""),
        ] {
            assert_eq!((&*Bars::Blocks.draw(share, 8), &*Bars::Ascii.draw(share, 8)), (blocks, ascii), "{share}");
        }
    }

    proptest! {
        #[test]
        fn more_is_never_shorter(a in 0.0..=1.0, b in 0.0..=1.0, width in 1_usize..40) {
            let (low, high) = if a <= b { (a, b) } else { (b, a) };
            for bars in [Bars::Blocks, Bars::Ascii] {
                let (low, high) = (bars.draw(low, width), bars.draw(high, width));
                prop_assert!(low.chars().count() <= high.chars().count());
                prop_assert!(high.chars().count() <= width);
            }
        }
    }
}
