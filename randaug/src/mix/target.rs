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
    fill(one_each(labels), num_classes, labels.len(), |_| mix, smoothing)
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
    fill(one_each(labels), num_classes, mixes.len(), |i| mixes[i], smoothing)
}

/// Computes targets like [`soft_targets_each`] for samples with any number of labels each: a class
/// counts as a label of its own.
///
/// Each smoothed row holds `smoothing / num_classes` everywhere and `1 - smoothing` more at each of
/// the sample's classes, and rows are mixed like those of single labels. For samples with one label
/// each, the result is that of [`soft_targets_each`].
///
/// # Errors
/// Same as [`soft_targets_each`].
pub fn multi_hot_targets_each<L: AsRef<[u32]>>(
    labels: &[L],
    num_classes: usize,
    mixes: &[Mix],
    smoothing: f64,
) -> Result<Vec<f32>> {
    if mixes.len() > labels.len() {
        return Err(Error::Length { what: "mixes", expected: labels.len(), got: mixes.len() });
    }
    let labels = labels.iter().map(AsRef::as_ref);
    fill(labels, num_classes, mixes.len(), |i| mixes[i], smoothing)
}

/// Returns the label of each sample as a set.
fn one_each(labels: &[u32]) -> impl DoubleEndedIterator<Item = &[u32]> + Clone {
    labels.iter().map(std::slice::from_ref)
}

fn fill<'a>(
    labels: impl DoubleEndedIterator<Item = &'a [u32]> + Clone,
    num_classes: usize,
    rows: usize,
    mix: impl Fn(usize) -> Mix,
    smoothing: f64,
) -> Result<Vec<f32>> {
    check((0.0..=1.0).contains(&smoothing), "label_smoothing", smoothing, "in 0..=1")?;
    let bad = |labels: &[u32]| labels.iter().copied().find(|&label| label as usize >= num_classes);
    if let Some((sample, label)) = labels.clone().enumerate().find_map(|(i, l)| Some((i, bad(l)?))) {
        return Err(Error::Label { sample, label, num_classes });
    }
    let off = smoothing / num_classes.max(1) as f64;
    let on = 1.0 - smoothing;
    let mut targets = vec![off as f32; rows * num_classes];
    let pairs = labels.clone().zip(labels.rev());
    for (i, (row, (own, partner))) in targets.chunks_exact_mut(num_classes.max(1)).zip(pairs).enumerate() {
        let lam = mix(i).lam();
        check((0.0..=1.0).contains(&lam), "lam", lam, "in 0..=1")?;
        for &label in own {
            row[label as usize] = (off + lam * on) as f32;
        }
        for &label in partner {
            let shared = own.contains(&label);
            row[label as usize] = (off + if shared { on } else { (1.0 - lam) * on }) as f32;
        }
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_several_labels_by_hand() {
        // Smoothing 0.2 over 4 classes: 0.05 off, 0.8 more for a label; partners share class 1.
        let labels: [&[u32]; 2] = [&[0, 1], &[1, 3]];
        let mix = Mix::Mixup { lam: 0.75 };
        let targets = multi_hot_targets_each(&labels, 4, &[mix; 2], 0.2).unwrap();
        let expected = [0.65, 0.85, 0.05, 0.25, 0.25, 0.85, 0.05, 0.65];
        for (got, expected) in targets.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{targets:?}");
        }
    }

    #[test]
    fn samples_without_a_label_are_zeros_that_mix() {
        let labels: [&[u32]; 3] = [&[], &[], &[2]];
        let targets = multi_hot_targets_each(&labels, 3, &[Mix::Mixup { lam: 0.75 }; 3], 0.0).unwrap();
        assert_eq!(targets, [0.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75]);
    }

    #[test]
    fn single_labels_are_the_special_case() {
        let (labels, sets) = ([3u32, 0, 3, 1, 2], [[3u32], [0], [3], [1], [2]]);
        for (lam, smoothing) in [(0.3, 0.1), (1.0, 0.0), (0.123_456, 0.05)] {
            let mixes = [Mix::Mixup { lam }; 5];
            let one = soft_targets_each(&labels, 4, &mixes, smoothing).unwrap();
            assert_eq!(multi_hot_targets_each(&sets, 4, &mixes, smoothing).unwrap(), one);
        }
        let sets: [&[u32]; 2] = [&[1], &[0, 4]];
        let error = multi_hot_targets_each(&sets, 4, &[Mix::None; 2], 0.0).unwrap_err();
        assert_eq!(error, Error::Label { sample: 1, label: 4, num_classes: 4 });
    }
}
