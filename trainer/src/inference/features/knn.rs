//! k-nearest-neighbor classification.

use rayon::prelude::*;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::inference::features::set::FeatureSet;

/// Accuracy of a k-nearest-neighbor classifier.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Neighbors {
    /// Number of neighbors that vote.
    pub k: usize,
    /// Fraction of images whose label wins the vote, 0 to 1.
    pub top1: f64,
    /// Number of images.
    pub images: usize,
}

/// Classifies each image of `val` by a vote of the `k` images of `train` with the largest cosine
/// similarity, with weights `exp(cosine / temperature)` (Wu et al., 2018). Ties are resolved in
/// favor of the earlier neighbor and the earlier class, so that the outcome is a function of the
/// features.
///
/// # Errors
/// Returns an error if the sets are incompatible, `k` is 0 or above the number of images, or the
/// temperature is not above 0.
pub fn nearest_neighbors(
    train: &FeatureSet,
    val: &FeatureSet,
    k: usize,
    temperature: f64,
) -> Result<Neighbors> {
    train.check_with(val)?;
    if k == 0 || k > train.len() {
        return Err(Error::config("k", format!("expected 1 to {} neighbors, got {k}", train.len())));
    }
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::config("temperature", format!("expected a number above 0, got {temperature}")));
    }
    let (known, asked) = (unit_rows(train), unit_rows(val));
    let vote = |row: &Vec<f32>| {
        let cosine = |(index, other): (usize, &Vec<f32>)| {
            let dot = row.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            (dot, index)
        };
        let mut near: Vec<(f64, usize)> = known.iter().enumerate().map(cosine).collect();
        let nearer = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        near.select_nth_unstable_by(k - 1, nearer);
        near.truncate(k);
        // Weights are summed in a fixed order.
        near.sort_by(nearer);
        let mut votes = vec![0.0; train.classes.len()];
        for (cosine, index) in near {
            votes[train.labels[index] as usize] += ((cosine - 1.0) / temperature).exp();
        }
        (0..votes.len()).fold(0, |best, class| if votes[class] > votes[best] { class } else { best }) as u32
    };
    let won: Vec<u32> = asked.par_iter().map(vote).collect();
    let right = won.iter().zip(&val.labels).filter(|(won, label)| won == label).count();
    Ok(Neighbors { k, top1: right as f64 / val.len() as f64, images: val.len() })
}

/// Returns the rows, normalized to unit length.
fn unit_rows(set: &FeatureSet) -> Vec<Vec<f32>> {
    let unit = |row: &[f32]| {
        let length = row.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt().max(1e-12);
        row.iter().map(|v| (f64::from(*v) / length) as f32).collect()
    };
    set.rows().map(unit).collect()
}
