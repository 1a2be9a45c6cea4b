//! Tables and colours for terminals: what every command shows its results with. Colours only where somebody sees them.

use std::{fmt::Write as _, io::IsTerminal as _};

/// Whether to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Never.
    pub const NONE: Paint = Paint { colours: false };

    /// Colours if standard output is a terminal that can show them and `NO_COLOR` is not set.
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let refused = set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb");
        Self { colours: !refused && std::io::stdout().is_terminal() }
    }

    /// The text in a tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Busy => "33",
        };
        if self.colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// To be put right.
    Bad,
    /// On its way.
    Busy,
}

impl Tone {
    /// The tone of a model state by its wire name.
    pub fn of_state(state: &str) -> Self {
        match state {
            "READY" => Tone::Good,
            "UNAVAILABLE" => Tone::Bad,
            _ => Tone::Busy,
        }
    }
}

/// What an empty cell shows.
const EMPTY: &str = "-";

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A text in a tone. Control characters, which would move the cursor, are escaped; an empty text becomes a dash.
    pub fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = clean(text.as_ref());
        Self { text: if text.is_empty() { EMPTY.to_owned() } else { text }, tone }
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::new(text.to_string(), Tone::Plain)
    }
}

/// A text that cannot move the cursor or change colours: it may come from files and other machines.
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    clean
}

/// Rows under a heading.
#[derive(Clone, Debug)]
pub struct Table {
    heading: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self { heading: columns.iter().map(|name| Cell::new(name, Tone::Strong)).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Without the columns that are empty in every row.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Self {
        let empty: Vec<bool> = (0..self.heading.len())
            .map(|at| self.rows.iter().all(|row| row.get(at).is_none_or(|cell| cell.text == EMPTY)))
            .collect();
        for row in std::iter::once(&mut self.heading).chain(&mut self.rows) {
            let mut column = empty.iter();
            row.retain(|_| column.next().is_some_and(|empty| !empty));
        }
        self
    }

    /// The table as text, a line each row. Columns are as wide as their widest cell, the last one is not padded.
    pub fn render(&self, paint: Paint) -> String {
        let width = |cell: &Cell| cell.text.chars().count();
        let lines = || std::iter::once(&self.heading).chain(&self.rows);
        let columns = lines().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> =
            (0..columns).map(|at| lines().filter_map(|row| row.get(at)).map(width).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for row in lines() {
            for (at, cell) in row.iter().enumerate() {
                text.push_str(&paint.paint(cell.tone, &cell.text));
                if at + 1 < row.len() {
                    let padding = widths[at] - width(cell) + 2;
                    // Writing into a string cannot fail.
                    let _ = write!(text, "{:padding$}", "");
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["MODEL", "STATE", "REASON"]);
        table.row(["a-long-name".into(), Cell::new("READY", Tone::Good), "".into()]);
        table.row(["é".into(), Cell::new("UNAVAILABLE", Tone::Bad), "line\none\u{1b}[2J".into()]);
        assert_eq!(
            table.render(Paint::NONE),
            "MODEL        STATE        REASON\n\
             a-long-name  READY        -\n\
             é            UNAVAILABLE  line\\none\\u{1b}[2J\n"
        );
        let mut sparse = Table::new(&["A", "B", "C"]);
        sparse.row(["1".into(), "".into(), "".into()]);
        sparse.row(["".into(), "".into(), "3".into()]);
        assert_eq!(sparse.without_empty_columns().render(Paint::NONE), "A  C\n1  -\n-  3\n");
        let coloured = table.render(Paint { colours: true });
        assert!(coloured.contains("a-long-name  \u{1b}[32mREADY\u{1b}[0m        -\n"), "{coloured}");
    }
}
