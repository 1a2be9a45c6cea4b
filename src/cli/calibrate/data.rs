//! The labelled rows of `weir calibrate`: a file of columns with one named `label`. Knows `.csv` and `.npz`; every error names the
//! file and the column.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{csv::Csv, npz::Npz};
use crate::{
    cli::exit::Failure,
    types::{Tensor, TensorSpec},
};

/// The column of right answers.
pub(super) const LABEL: &str = "label";

/// A file of labelled rows.
#[derive(Debug)]
pub(super) struct Data {
    path: PathBuf,
    columns: Columns,
    labels: Labels,
    rows: usize,
}

#[derive(Debug)]
enum Columns {
    Csv(Csv),
    Npz(Npz),
}

/// The right answer of every row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    Numbers(Vec<i128>),
    Texts(Vec<String>),
}

/// What a stage answered for every row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Classes {
    /// `None`: it has no opinion.
    Numbers(Vec<Option<i128>>),
    Texts(Vec<String>),
}

impl Data {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with the file or with its labels.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::usage(format!("{}: {text}", path.display()));
        let kind = path.extension().map(|extension| extension.to_ascii_lowercase());
        let bytes = || fs::read(path).map_err(|error| wrong(error.to_string()));
        let columns = match kind.as_ref().and_then(|kind| kind.to_str()) {
            Some("csv") => Csv::read(&bytes()?).map(Columns::Csv),
            Some("npz") => Npz::read(&bytes()?).map(Columns::Npz),
            _ => Err("expected a file that ends in .csv or .npz".to_owned()),
        };
        let columns = columns.map_err(wrong)?;
        let labels = match &columns {
            Columns::Csv(csv) => csv.labels(),
            Columns::Npz(npz) => npz.labels(),
        };
        let labels = labels.map_err(wrong)?;
        let rows = match &labels {
            Labels::Numbers(labels) => labels.len(),
            Labels::Texts(labels) => labels.len(),
        };
        if rows == 0 {
            return Err(wrong("expected labelled rows, got none".to_owned()));
        }
        Ok(Self { path: path.to_owned(), columns, labels, rows })
    }

    /// How many rows there are, at least one.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// A model's input, as it wants it; dimension 0 is the rows.
    ///
    /// # Errors
    /// The column that is missing, or what about it does not fit.
    pub(super) fn input(&self, spec: &TensorSpec) -> Result<Tensor, Failure> {
        let tensor = match &self.columns {
            Columns::Csv(csv) => csv.input(spec),
            Columns::Npz(npz) => npz.input(spec, self.rows),
        };
        tensor.map_err(|text| self.wrong(&text))
    }

    /// For every row, whether a stage's answer is the label.
    ///
    /// # Errors
    /// A label that cannot be an answer of the stage.
    pub(super) fn right(&self, classes: &Classes) -> Result<Vec<bool>, Failure> {
        Ok(match (&self.labels, classes) {
            (Labels::Numbers(labels), Classes::Numbers(classes)) => {
                labels.iter().zip(classes).map(|(label, class)| Some(*label) == *class).collect()
            }
            (Labels::Texts(labels), Classes::Texts(classes)) => {
                labels.iter().zip(classes).map(|(label, class)| label == class).collect()
            }
            (Labels::Numbers(labels), Classes::Texts(classes)) => {
                labels.iter().zip(classes).map(|(label, class)| label.to_string() == *class).collect()
            }
            (Labels::Texts(labels), Classes::Numbers(classes)) => {
                let right = |(row, (label, class)): (usize, (&String, &Option<i128>))| {
                    let label = integer(label).ok_or_else(|| {
                        let place = self.place(row);
                        self.wrong(&format!(
                            "column '{LABEL}': {place}: expected an integer, which is what the stages answer, got '{label}'"
                        ))
                    });
                    label.map(|label| Some(label) == *class)
                };
                labels.iter().zip(classes).enumerate().map(right).collect::<Result<_, _>>()?
            }
        })
    }

    fn place(&self, row: usize) -> String {
        match &self.columns {
            Columns::Csv(csv) => csv.place(row),
            Columns::Npz(_) => format!("row {row}"),
        }
    }

    fn wrong(&self, text: &str) -> Failure {
        Failure::usage(format!("{}: {text}", self.path.display()))
    }
}

/// An integer, also as spreadsheets and data frames write it (`3.0`).
fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    text.parse().ok().or_else(|| whole(text.parse().ok()?))
}

/// The integer that a number is.
pub(super) fn whole(number: f64) -> Option<i128> {
    // Beyond 2^53 doubles do not tell integers apart.
    let fits = number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0;
    fits.then_some(number as i128)
}

/// The sizes of a row, as an error shows them.
pub(super) fn row_shape(spec: &TensorSpec) -> String {
    format!("{:?}", spec.wire_shape())
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
