//! Soft targets of a mixed batch.

use super::Mix;
use crate::error::{Error, Result, check};

/// Targets `[N, num_classes]`, row-major: lam times the smoothed label of sample i plus 1 - lam
/// times that of its partner N-1-i.
///
/// A smoothed label holds `smoothing / num_classes` everywhere and `1 - smoothing` more at its
/// class.
///
/// # Errors
/// Returns an error if a label is not below `num_classes`, or `lam` or `smoothing` not in 0..=1.
pub fn soft_targets(labels: &[u32], num_classes: usize, lam: f64, smoothing: f64) -> Result<Vec<f32>> {
    check((0.0..=1.0).contains(&lam), "lam", lam, "in 0..=1")?;
    let mix = Mix::Mixup { lam };
    fill(labels, num_classes, labels.len(), |_| mix, smoothing)
}

/// Computes the targets `[M, num_classes]` of the first M samples, each with the lam of its own
/// entry of `mixes`.
///
/// # Errors
/// Returns the errors of [`soft_targets`], or an error if there are more mixes than labels.
pub fn soft_targets_each(
    labels: &[u32],
    num_classes: usize,
    mixes: &[Mix],
    smoothing: f64,
) -> Result<Vec<f32>> {
    if mixes.len() > labels.len() {
        return Err(Error::Length { what: "mixes", expected: labels.len(), got: mixes.len() });
    }
    fill(labels, num_classes, mixes.len(), |i| mixes[i], smoothing)
}

fn fill(
    labels: &[u32],
    num_classes: usize,
    rows: usize,
    mix: impl Fn(usize) -> Mix,
    smoothing: f64,
) -> Result<Vec<f32>> {
    check((0.0..=1.0).contains(&smoothing), "label_smoothing", smoothing, "in 0..=1")?;
    let bad = labels.iter().position(|&label| label as usize >= num_classes);
    if let Some(sample) = bad {
        return Err(Error::Label { sample, label: labels[sample], num_classes });
    }
    let off = smoothing / num_classes.max(1) as f64;
    let on = 1.0 - smoothing;
    let mut targets = vec![off as f32; rows * num_classes];
    let pairs = labels.iter().zip(labels.iter().rev());
    for (i, (row, (&own, &partner))) in targets.chunks_exact_mut(num_classes.max(1)).zip(pairs).enumerate() {
        let lam = mix(i).lam();
        check((0.0..=1.0).contains(&lam), "lam", lam, "in 0..=1")?;
        if own == partner {
            row[own as usize] = (off + on) as f32;
        } else {
            row[own as usize] = (off + lam * on) as f32;
            row[partner as usize] = (off + (1.0 - lam) * on) as f32;
        }
    }
    Ok(targets)
}
