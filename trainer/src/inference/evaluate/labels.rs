//! Measures of a model on images with any number of labels each.

use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::source::class_names::unique_names;
use crate::error::{DataError, Result};
use crate::inference::evaluate::ImageScore;
use crate::inference::evaluate::classes::write;

/// Measures on a multi-label set. A class is predicted if its probability is above 0.5.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelAccuracy {
    /// Mean average precision: the mean over the classes of which there is an image, 0 to 1.
    pub map: f64,
    /// F1 of all pairs of an image and a class together, 0 to 1.
    pub micro_f1: f64,
    /// Mean F1 over the classes of which there is an image, 0 to 1.
    pub macro_f1: f64,
    /// Number of classes without an image, which the means leave out.
    pub classes_without_positive: usize,
}

/// Results of one class of a multi-label set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelRow {
    /// Name of the class.
    pub class: String,
    /// Number of images with this label.
    pub positives: u64,
    /// Number of images for which the class was predicted, with a probability above 0.5.
    pub predicted: u64,
    /// Number of images with this label for which it was predicted.
    pub correct: u64,
    /// Average precision, 0 to 1: as scikit-learn counts; none without an image of the class.
    pub average_precision: Option<f64>,
    /// Fraction of correct images among those predicted; none if there are none.
    pub precision: Option<f64>,
    /// Fraction of the images with this label that were predicted; none if there are none.
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall; none without an image of the class.
    pub f1: Option<f64>,
}

/// Logits and labels of an image of a multi-label set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LabeledOutput {
    pub(crate) index: usize,
    /// Bits of the logits: processes exchange JSON, which has no NaN.
    logits: Vec<u32>,
    /// In ascending order.
    labels: Vec<u32>,
}

impl LabeledOutput {
    /// Creates the output of image `index` of a source; `labels` are in ascending order.
    pub(crate) fn new(index: usize, logits: &[f32], labels: &[u32]) -> Self {
        Self { index, logits: logits.iter().map(|x| x.to_bits()).collect(), labels: labels.to_vec() }
    }

    fn logit(&self, class: usize) -> f32 {
        f32::from_bits(self.logits[class])
    }

    fn has(&self, class: usize) -> bool {
        self.labels.binary_search(&(class as u32)).is_ok()
    }

    /// Returns the score of the image. Its label is the most probable one that it has; an image
    /// without a label has no rank among the classes.
    pub(crate) fn score(&self) -> ImageScore {
        let classes = 0..self.logits.len();
        let best = |of: &mut dyn Iterator<Item = usize>| {
            of.max_by(|&a, &b| self.logit(a).total_cmp(&self.logit(b)).then(b.cmp(&a)))
        };
        let own = best(&mut classes.clone().filter(|&class| self.has(class)));
        let rival = best(&mut classes.clone().filter(|&class| !self.has(class)));
        // Counts the classes that the label does not beat: a tie or a NaN is no success.
        let beats = |own: usize, class: usize| self.logit(own) > self.logit(class);
        let rank = own.map_or(usize::MAX, |own| {
            classes.clone().filter(|&class| !self.has(class) && !beats(own, class)).count()
        });
        let predicted = if rank == 0 { own.or(rival) } else { rival.or(own) }.unwrap_or_default();
        let loss: f64 = classes.clone().map(|class| self.loss(class)).sum();
        let top = best(&mut classes.clone()).map_or(f64::NAN, |class| f64::from(self.logit(class)));
        ImageScore {
            index: self.index,
            label: own.unwrap_or(predicted),
            predicted,
            rank,
            confidence: sigmoid(top),
            loss: loss / self.logits.len() as f64,
        }
    }

    /// Binary cross entropy of a class.
    fn loss(&self, class: usize) -> f64 {
        let (x, t) = (f64::from(self.logit(class)), f64::from(u8::from(self.has(class))));
        x.max(0.0) - x * t + (-x.abs()).exp().ln_1p()
    }
}

/// Returns the probability of a logit.
pub(crate) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Returns the measures over all images.
///
/// # Errors
/// Returns an error if no image has a label.
pub(crate) fn measure(images: &[LabeledOutput]) -> Result<MultiLabelAccuracy> {
    let rows: Vec<Counts> = counts(images);
    let precisions: Vec<f64> = rows.iter().filter_map(|row| row.average_precision).collect();
    if precisions.is_empty() {
        let what =
            "none of the evaluation images has a label, so that there is no average precision; add some";
        return Err(DataError::Setting(what.into()).into());
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let f1s: Vec<f64> = rows.iter().filter_map(Counts::f1).collect();
    let whole = rows.iter().fold(Counts::default(), |sum, row| Counts {
        positives: sum.positives + row.positives,
        predicted: sum.predicted + row.predicted,
        correct: sum.correct + row.correct,
        average_precision: None,
    });
    Ok(MultiLabelAccuracy {
        map: mean(&precisions),
        micro_f1: whole.f1().unwrap_or_default(),
        macro_f1: mean(&f1s),
        classes_without_positive: rows.len() - precisions.len(),
    })
}

/// Counts of a class.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    positives: u64,
    predicted: u64,
    correct: u64,
    average_precision: Option<f64>,
}

impl Counts {
    fn f1(&self) -> Option<f64> {
        let sum = self.positives + self.predicted;
        (self.positives > 0).then(|| 2.0 * self.correct as f64 / sum as f64)
    }
}

fn counts(images: &[LabeledOutput]) -> Vec<Counts> {
    let classes = images.first().map_or(0, |image| image.logits.len());
    let of_class = |class: usize| {
        let scored: Vec<(f32, bool)> =
            images.iter().map(|image| (image.logit(class), image.has(class))).collect();
        let count = |of: &dyn Fn(&(f32, bool)) -> bool| scored.iter().filter(|pair| of(pair)).count() as u64;
        Counts {
            positives: count(&|pair| pair.1),
            // A logit above 0 is a probability above 0.5.
            predicted: count(&|pair| pair.0 > 0.0),
            correct: count(&|pair| pair.1 && pair.0 > 0.0),
            average_precision: average_precision(scored),
        }
    };
    (0..classes).into_par_iter().map(of_class).collect()
}

/// Returns the average precision of scores and whether each is of a positive: the sum over
/// descending scores of (R_n - R_(n-1)) P_n with recall R and precision P, where equal scores are
/// one step. None without a positive.
fn average_precision(mut scored: Vec<(f32, bool)>) -> Option<f64> {
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    if positives == 0 {
        return None;
    }
    // A NaN is no success.
    scored.iter_mut().filter(|(score, _)| score.is_nan()).for_each(|(score, _)| *score = f32::NEG_INFINITY);
    scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let (mut seen, mut found, mut sum) = (0, 0, 0.0);
    for equal in scored.chunk_by(|a, b| a.0 == b.0) {
        let new = equal.iter().filter(|(_, positive)| *positive).count();
        seen += equal.len();
        found += new;
        sum += new as f64 / positives as f64 * (found as f64 / seen as f64);
    }
    Some(sum)
}

/// Results of the classes of a multi-label set.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelTable {
    rows: Vec<LabelRow>,
}

impl LabelTable {
    pub(crate) fn of(images: &[LabeledOutput], classes: &[String]) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        let row = |(class, c): (String, Counts)| LabelRow {
            class,
            positives: c.positives,
            predicted: c.predicted,
            correct: c.correct,
            average_precision: c.average_precision,
            precision: share(c.correct, c.predicted),
            recall: share(c.correct, c.positives),
            f1: c.f1(),
        };
        Self { rows: unique_names(classes).into_iter().zip(counts(images)).map(row).collect() }
    }

    /// Returns one row per class.
    pub fn rows(&self) -> &[LabelRow] {
        &self.rows
    }

    /// Writes [`Self::rows`] as CSV.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn write_rows(&self, path: &Path) -> Result<()> {
        write(path, |table| self.rows.iter().try_for_each(|row| table.serialize(row)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of eight images in six classes, and their labels: the third class has ties, the fourth
    /// no positive, the fifth a single score, the sixth only positives.
    const IMAGES: [([f32; 6], &[u32]); 8] = [
        ([2.0, -1.0, 0.5, -3.0, 1.0, 0.1], &[0, 2, 4, 5]),
        ([0.5, 1.5, 0.5, -2.0, 1.0, -0.1], &[1, 5]),
        ([-0.5, 1.5, -0.5, -2.5, 1.0, 0.2], &[5]),
        ([1.0, -2.0, 0.5, -1.0, 1.0, 0.2], &[0, 2, 4, 5]),
        ([-1.5, 0.25, 3.0, 0.5, 1.0, -1.0], &[1, 2, 5]),
        ([0.5, 1.5, -0.5, -4.0, 1.0, 3.0], &[0, 1, 4, 5]),
        ([-2.0, -0.75, 0.5, -0.5, 1.0, 0.0], &[2, 5]),
        ([0.75, 2.5, -2.0, 0.75, 1.0, 0.4], &[1, 2, 5]),
    ];

    fn images() -> Vec<LabeledOutput> {
        let output = |(index, (logits, labels)): (usize, &([f32; 6], &[u32]))| {
            LabeledOutput::new(index, logits, labels)
        };
        IMAGES.iter().enumerate().map(output).collect()
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
    }

    /// Values of scikit-learn 1.9.1 for the logits above: `average_precision_score` of each column;
    /// `precision_score`, `recall_score` and `f1_score` with predictions `logits > 0`, the macro F1
    /// with `labels=[0, 1, 2, 4, 5]`; the mean of `log_loss(y, 1 / (1 + exp(-logits)))` over the
    /// columns.
    #[test]
    fn measures_are_those_of_scikit_learn() {
        let accuracy = measure(&images()).unwrap();
        close(accuracy.map, 0.774_333_333_333_333_4);
        close(accuracy.micro_f1, 0.716_981_132_075_471_6);
        close(accuracy.macro_f1, 0.750_714_840_714_840_7);
        assert_eq!(accuracy.classes_without_positive, 1);
        let names: Vec<String> = "abcdef".chars().map(String::from).collect();
        let table = LabelTable::of(&images(), &names);
        let expected = [
            (Some(0.866_666_666_666_666_7), Some(0.6), Some(1.0), Some(0.75)),
            (Some(0.825), Some(0.8), Some(1.0), Some(0.888_888_888_888_888_8)),
            (Some(0.805), Some(0.8), Some(0.8), Some(0.8)),
            (None, Some(0.0), None, None),
            (Some(0.375), Some(0.375), Some(1.0), Some(0.545_454_545_454_545_4)),
            (Some(1.0), Some(1.0), Some(0.625), Some(0.769_230_769_230_769_3)),
        ];
        for (row, (ap, precision, recall, f1)) in table.rows().iter().zip(expected) {
            let got = [row.average_precision, row.precision, row.recall, row.f1];
            for (got, expected) in got.into_iter().zip([ap, precision, recall, f1]) {
                assert_eq!(got.is_some(), expected.is_some(), "{row:?}");
                got.zip(expected).into_iter().for_each(|(got, expected)| close(got, expected));
            }
        }
        let losses: f64 = images().iter().map(|image| image.score().loss).sum();
        // Its logits are rounded to single precision.
        assert!((losses / 8.0 - 0.599_244_950_409_642_8).abs() < 1e-7);
    }

    #[test]
    fn the_order_of_images_changes_nothing() {
        let mut reversed = images();
        reversed.reverse();
        assert_eq!(measure(&images()).unwrap(), measure(&reversed).unwrap());
    }

    #[test]
    fn an_image_is_right_if_its_most_probable_class_is_a_label() {
        let score = |logits: &[f32], labels: &[u32]| LabeledOutput::new(3, logits, labels).score();
        let right = score(&[0.0, 2.0, -1.0, 1.0], &[1, 2]);
        assert_eq!((right.label, right.predicted, right.rank), (1, 1, 0));
        close(right.confidence, 1.0 / (1.0 + (-2f64).exp()));
        // ln 2 of the first, then -ln of the probabilities of a hit, a miss and a false alarm.
        let losses = [2f64.ln(), (-2f64).exp().ln_1p(), 1f64.exp().ln_1p(), 1f64.exp().ln_1p()];
        close(right.loss, losses.iter().sum::<f64>() / 4.0);
        let wrong = score(&[0.0, 2.0, -1.0, 1.0], &[2, 3]);
        assert_eq!((wrong.label, wrong.predicted, wrong.rank), (3, 1, 1));
        // A tie is no success, and neither is an image without a label.
        let tie = score(&[1.0, 1.0], &[0]);
        assert_eq!((tie.predicted, tie.rank), (1, 1));
        let none = score(&[1.0, 3.0, 2.0], &[]);
        assert_eq!((none.predicted, none.rank), (1, usize::MAX));
        // All classes are labels: any is right.
        assert_eq!(score(&[-1.0, -2.0], &[0, 1]).rank, 0);
        assert!(score(&[f32::NAN, 1.0], &[1]).loss.is_nan());
        assert_eq!(score(&[f32::NAN, 1.0], &[1]).rank, 1);
    }

    #[test]
    fn images_without_any_label_have_no_precision() {
        let error = measure(&[LabeledOutput::new(0, &[1.0, 2.0], &[])]).unwrap_err().to_string();
        assert!(error.contains("none of the evaluation images has a label"), "{error}");
        // A diverged network finds nothing.
        let diverged = [([f32::NAN; 2], &[0u32][..]), ([0.0; 2], &[])];
        let outputs = diverged.map(|(logits, labels)| LabeledOutput::new(0, &logits, labels));
        close(measure(&outputs).unwrap().map, 0.5);
    }
}
