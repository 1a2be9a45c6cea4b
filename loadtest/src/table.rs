//! Aligned columns of text for the reports.

use std::fmt::Write as _;

use serde::Serialize;

/// Something that `main` can print both ways.
pub(crate) trait Shown: Serialize {
    /// The table, for people.
    fn table(&self) -> String;
}

/// Rows of a label and one or more columns.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<(String, Vec<String>)>);

impl Table {
    /// Adds a row.
    pub(crate) fn row(&mut self, label: &str, columns: impl IntoIterator<Item = String>) {
        self.0.push((label.to_owned(), columns.into_iter().collect()));
    }

    /// The rows as text: labels to the left, columns to the right, each as wide as its widest cell.
    pub(crate) fn render(&self) -> String {
        let count = self.0.iter().map(|(_, columns)| columns.len()).max().unwrap_or(0);
        let width =
            |cells: &mut dyn Iterator<Item = &String>| cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        let label_width = width(&mut self.0.iter().map(|(label, _)| label));
        let widths: Vec<usize> =
            (0..count).map(|at| width(&mut self.0.iter().filter_map(|(_, columns)| columns.get(at)))).collect();
        let mut text = String::new();
        for (label, columns) in &self.0 {
            let mut line = format!("{label:<label_width$}");
            for (cell, width) in columns.iter().zip(&widths) {
                // Writing to a string cannot fail.
                let _ = write!(line, "  {cell:>width$}");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::default();
        table.row("a", ["1".to_owned(), "22".to_owned()]);
        table.row("long", ["333".to_owned()]);
        assert_eq!(table.render(), "a       1  22\nlong  333\n");
    }
}
