//! Confusion matrix of a model.

use std::path::Path;

use serde::Serialize;

use crate::data::source::class_names::unique_names;
use crate::error::{Error, Result};
use crate::inference::evaluate::ImageScore;
use crate::util::atomic_file::replace;

/// Confusion matrix: number of images of each class by predicted class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: Vec<String>,
    /// Row after row: images of a class, by predicted class.
    counts: Vec<u64>,
    /// Number of images of each class whose class was among the five most probable.
    top5: Vec<u64>,
}

/// Results of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassRow {
    /// Name of the class.
    pub class: String,
    /// Number of its images.
    pub images: u64,
    /// Number of its images that were classified correctly.
    pub correct: u64,
    /// Fraction of its images that were classified correctly, 0 to 1; none if it has no image.
    pub recall: Option<f64>,
    /// Fraction of correct images among those predicted as this class; none if there are none.
    pub precision: Option<f64>,
    /// Fraction of its images for which it was among the five most probable classes.
    pub top5: Option<f64>,
    /// Most frequent wrong prediction for its images.
    pub taken_for: Option<String>,
    /// Number of images with that prediction.
    pub taken_for_images: u64,
}

impl Confusion {
    /// Creates an empty matrix.
    pub fn new(classes: &[String]) -> Self {
        let n = classes.len();
        Self { classes: unique_names(classes), counts: vec![0; n * n], top5: vec![0; n] }
    }

    /// Counts an image.
    pub fn add(&mut self, score: &ImageScore) {
        self.counts[score.label * self.classes.len() + score.predicted] += 1;
        self.top5[score.label] += u64::from(score.rank < 5);
    }

    /// Returns the number of images of class `label` that were predicted as class `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.counts[label * self.classes.len() + predicted]
    }

    /// Returns one row per class.
    pub fn rows(&self) -> Vec<ClassRow> {
        let n = self.classes.len();
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let row = |label: usize| {
            let images = (0..n).map(|class| self.count(label, class)).sum();
            let taken = (0..n).map(|other| self.count(other, label)).sum();
            let correct = self.count(label, label);
            // Takes the first of equals.
            let rival =
                (0..n).rev().filter(|&class| class != label).max_by_key(|&class| self.count(label, class));
            let rival = rival.filter(|&class| self.count(label, class) > 0);
            ClassRow {
                class: self.classes[label].clone(),
                images,
                correct,
                recall: share(correct, images),
                precision: share(correct, taken),
                top5: share(self.top5[label], images),
                taken_for: rival.map(|class| self.classes[class].clone()),
                taken_for_images: rival.map_or(0, |class| self.count(label, class)),
            }
        };
        (0..n).map(row).collect()
    }

    /// Writes [`Self::rows`] as CSV.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn write_rows(&self, path: &Path) -> Result<()> {
        write(path, |table| self.rows().iter().try_for_each(|row| table.serialize(row)))
    }

    /// Writes the matrix as CSV, with true classes as rows and predicted classes as columns.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn write_matrix(&self, path: &Path) -> Result<()> {
        write(path, |table| {
            let heading = std::iter::once("class").chain(self.classes.iter().map(String::as_str));
            table.write_record(heading)?;
            for (class, counts) in self.classes.iter().zip(self.counts.chunks_exact(self.classes.len())) {
                let counts = counts.iter().map(u64::to_string);
                table.write_record(std::iter::once(class.clone()).chain(counts))?;
            }
            Ok(())
        })
    }
}

pub(super) fn write(
    path: &Path,
    fill: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>,
) -> Result<()> {
    let mut table = csv::Writer::from_writer(Vec::new());
    fill(&mut table).map_err(|e| Error::io(path)(e.into()))?;
    let bytes = table.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
    replace(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_hand() {
        let classes = ["a", "b,c", "d", "never"].map(String::from);
        let mut confusion = Confusion::new(&classes);
        // Three images of a, one predicted as d; two of b,c, both predicted as a, one with six
        // better classes; one of d.
        for (label, predicted, rank) in [(0, 0, 0), (0, 0, 0), (0, 2, 1), (1, 0, 1), (1, 0, 6), (2, 2, 0)] {
            confusion.add(&ImageScore { index: 0, label, predicted, rank, confidence: 1.0, loss: 0.0 });
        }
        let rows = confusion.rows();
        let row =
            |i: usize| (rows[i].images, rows[i].correct, rows[i].recall, rows[i].precision, rows[i].top5);
        assert_eq!(row(0), (3, 2, Some(2.0 / 3.0), Some(0.5), Some(1.0)));
        assert_eq!(row(1), (2, 0, Some(0.0), None, Some(0.5)));
        assert_eq!(row(2), (1, 1, Some(1.0), Some(0.5), Some(1.0)));
        assert_eq!(row(3), (0, 0, None, None, None));
        let taken = |i: usize| (rows[i].taken_for.as_deref(), rows[i].taken_for_images);
        assert_eq!([taken(0), taken(1), taken(2)], [(Some("d"), 1), (Some("a"), 2), (None, 0)]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("matrix.csv");
        confusion.write_matrix(&path).unwrap();
        let expected = "class,a,\"b,c\",d,never\na,2,0,1,0\n\"b,c\",2,0,0,0\nd,0,0,1,0\nnever,0,0,0,0\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}
