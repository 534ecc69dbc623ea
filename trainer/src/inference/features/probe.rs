//! Linear classifier on frozen features.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::inference::features::set::FeatureSet;

/// Training options of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeOptions {
    /// L2 regularization: weight of half the squared norm of the weights (not the biases), added to
    /// the mean cross entropy.
    pub l2: f64,
    /// Largest number of steps.
    pub steps: usize,
}

impl Default for ProbeOptions {
    fn default() -> Self {
        Self { l2: 1e-3, steps: 10_000 }
    }
}

/// Result of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// Fraction of the evaluation images whose label is the most probable class, 0 to 1.
    pub top1: f64,
    /// The same fraction of the training images.
    pub train_top1: f64,
    /// Final training loss.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
    /// Largest component of the final gradient; near 0 if it has converged.
    #[serde(with = "crate::util::float_serde")]
    pub slope: f64,
    /// Number of steps taken.
    pub steps: usize,
    /// Number of evaluation images.
    pub images: usize,
}

/// Training stops when no component of the gradient is larger.
const CONVERGED: f64 = 1e-5;
/// Number of rows per partial sum; fixed, so that sums do not depend on the number of threads.
const ROWS: usize = 256;

/// Trains multinomial logistic regression on `train` and evaluates it on `val`.
///
/// Features are centered and divided by their standard deviation over `train`. The loss is convex,
/// and every step uses all images with Nesterov's method and the step size of its smoothness. The
/// outcome depends on no seed, order or learning rate, and is bitwise the same on any number of
/// threads.
///
/// # Errors
/// Returns an error if the sets are incompatible, or an option is out of range.
pub fn linear_probe(train: &FeatureSet, val: &FeatureSet, options: ProbeOptions) -> Result<Probe> {
    train.check_with(val)?;
    if !(options.l2 > 0.0 && options.l2.is_finite()) {
        return Err(Error::config("l2", format!("expected a number above 0, got {}", options.l2)));
    }
    let scale = Scale::of(train);
    let problem = Problem::new(scale.apply(train), &train.labels, train.classes.len(), options.l2);
    let (weights, loss, slope, steps) = problem.solve(options.steps);
    let top1 = |set: &FeatureSet| {
        let rows = scale.apply(set);
        let right = rows.par_chunks(problem.width).zip(&set.labels);
        let right = right.filter(|(row, label)| best(&problem.logits(&weights, row)) == **label as usize);
        right.count() as f64 / set.len() as f64
    };
    Ok(Probe { top1: top1(val), train_top1: top1(train), loss, slope, steps, images: val.len() })
}

/// Mean and inverse standard deviation of each feature.
struct Scale {
    mean: Vec<f64>,
    inverse: Vec<f64>,
}

impl Scale {
    fn of(set: &FeatureSet) -> Self {
        let n = set.len() as f64;
        let mut mean = vec![0.0; set.width];
        set.rows().for_each(|row| mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n));
        let mut variance = vec![0.0; set.width];
        for row in set.rows() {
            for ((variance, mean), v) in variance.iter_mut().zip(&mean).zip(row) {
                *variance += (f64::from(*v) - mean).powi(2) / n;
            }
        }
        // A constant feature contains no information.
        let inverse = variance.iter().map(|v| if *v > 1e-12 { 1.0 / v.sqrt() } else { 0.0 }).collect();
        Self { mean, inverse }
    }

    /// Returns the scaled rows, each followed by a 1 for the bias.
    fn apply(&self, set: &FeatureSet) -> Vec<f64> {
        let row = |row: &[f32]| {
            let scaled = row.iter().zip(self.mean.iter().zip(&self.inverse));
            let scaled = scaled.map(|(v, (mean, inverse))| (f64::from(*v) - mean) * inverse);
            scaled.chain([1.0]).collect::<Vec<f64>>()
        };
        set.rows().flat_map(row).collect()
    }
}

struct Problem<'a> {
    /// Rows `[N, width]`, whose last column is 1.
    rows: Vec<f64>,
    labels: &'a [u32],
    width: usize,
    classes: usize,
    l2: f64,
}

impl<'a> Problem<'a> {
    fn new(rows: Vec<f64>, labels: &'a [u32], classes: usize, l2: f64) -> Self {
        let width = rows.len() / labels.len().max(1);
        Self { rows, labels, width, classes, l2 }
    }

    fn solve(&self, most: usize) -> (Vec<f64>, f64, f64, usize) {
        let step = 1.0 / (0.5 * self.largest_eigenvalue() + self.l2);
        // Nesterov's momentum for a function with curvature of at least `l2`; also used for the
        // bias, which has less.
        let root = (self.l2 * step).sqrt();
        let momentum = (1.0 - root) / (1.0 + root);
        let mut weights = vec![0.0; self.classes * self.width];
        let (mut ahead, mut taken) = (weights.clone(), 0);
        let (mut loss, mut slopes) = self.slopes(&ahead);
        while taken < most && largest(&slopes) > CONVERGED {
            let next: Vec<f64> = ahead.iter().zip(&slopes).map(|(w, slope)| w - step * slope).collect();
            ahead = next.iter().zip(&weights).map(|(new, old)| new + momentum * (new - old)).collect();
            weights = next;
            taken += 1;
            (loss, slopes) = self.slopes(&ahead);
        }
        (ahead, loss, largest(&slopes), taken)
    }

    fn logits(&self, weights: &[f64], row: &[f64]) -> Vec<f64> {
        let dot = |class: &[f64]| class.iter().zip(row).map(|(w, x)| w * x).sum();
        weights.chunks_exact(self.width).map(dot).collect()
    }

    /// Returns the loss and its gradient.
    fn slopes(&self, weights: &[f64]) -> (f64, Vec<f64>) {
        let n = self.labels.len() as f64;
        let part = |(rows, labels): (&[f64], &[u32])| {
            let (mut loss, mut slopes) = (0.0, vec![0.0; weights.len()]);
            for (row, &label) in rows.chunks_exact(self.width).zip(labels) {
                let logits = self.logits(weights, row);
                let max = logits.iter().copied().fold(f64::MIN, f64::max);
                let mass: f64 = logits.iter().map(|x| (x - max).exp()).sum();
                loss += (mass.ln() + max - logits[label as usize]) / n;
                for (class, slopes) in slopes.chunks_exact_mut(self.width).enumerate() {
                    let wanted = f64::from(u8::from(class == label as usize));
                    let error = ((logits[class] - max).exp() / mass - wanted) / n;
                    slopes.iter_mut().zip(row).for_each(|(slope, x)| *slope += error * x);
                }
            }
            (loss, slopes)
        };
        let parts: Vec<_> =
            self.rows.par_chunks(ROWS * self.width).zip(self.labels.par_chunks(ROWS)).map(part).collect();
        let mut loss = 0.0;
        let mut slopes = vec![0.0; weights.len()];
        for (part, theirs) in parts {
            loss += part;
            slopes.iter_mut().zip(theirs).for_each(|(sum, part)| *sum += part);
        }
        for (slopes, weights) in slopes.chunks_exact_mut(self.width).zip(weights.chunks_exact(self.width)) {
            for (slope, w) in slopes.iter_mut().zip(weights).take(self.width - 1) {
                *slope += self.l2 * w;
                loss += 0.5 * self.l2 * w * w;
            }
        }
        (loss, slopes)
    }

    /// Estimates the largest eigenvalue of the rows' second moments by power iteration, and adds a
    /// little, since the estimate comes from below.
    fn largest_eigenvalue(&self) -> f64 {
        let n = self.labels.len() as f64;
        // Any start that is not orthogonal to the eigenvector works; irregular numbers practically
        // never are.
        let uneven = |i: usize| 1.0 + (i as f64 * 0.618_034).fract();
        let mut vector: Vec<f64> = (0..self.width).map(uneven).collect();
        let mut value = 0.0;
        for _ in 0..50 {
            let part = |rows: &[f64]| {
                let mut sum = vec![0.0; self.width];
                for row in rows.chunks_exact(self.width) {
                    let dot: f64 = row.iter().zip(&vector).map(|(x, v)| x * v).sum();
                    sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += dot * x / n);
                }
                sum
            };
            let parts: Vec<Vec<f64>> = self.rows.par_chunks(ROWS * self.width).map(part).collect();
            let mut image = vec![0.0; self.width];
            for part in parts {
                image.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
            value = image.iter().map(|v| v * v).sum::<f64>().sqrt();
            vector = image.iter().map(|v| v / value.max(1e-300)).collect();
        }
        1.1 * value
    }
}

fn largest(slopes: &[f64]) -> f64 {
    slopes.iter().fold(0.0, |most, slope| most.max(slope.abs()))
}

/// Returns the index of the largest logit, and the first of equals.
fn best(logits: &[f64]) -> usize {
    (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best })
}
