//! A sample's augmentation depends on (seed, epoch, index, purpose) alone.

use crate::common::synth_image;
use image::RgbImage;
use rand::Rng;
use randaug::{Purpose, RandAugment, RandomResizedCrop, Scratch, flip_horizontal, sample_rng};

fn augment(epoch: u64, index: u64, scratch: &mut Scratch) -> RgbImage {
    let rng = |purpose| sample_rng(9, epoch, index, purpose);
    let source = synth_image(11, 60 + index as i64, 72);
    let mut image =
        RandomResizedCrop::default().apply(&source, 40, &mut rng(Purpose::Crop), scratch).unwrap();
    if rng(Purpose::Flip).next_u32() & 1 == 1 {
        flip_horizontal(&mut image);
    }
    let policy = RandAugment { prob: 1.0, ..Default::default() };
    policy.apply(&mut image, 7.0, &mut rng(Purpose::Augment), scratch).unwrap();
    image
}

#[test]
fn order_and_scratch_do_not_matter() {
    let jobs: Vec<(u64, u64)> = (0..3).flat_map(|epoch| (0..40).map(move |index| (epoch, index))).collect();
    let mut shared = Scratch::new();
    let forward: Vec<_> = jobs.iter().map(|&(e, i)| augment(e, i, &mut shared)).collect();
    let mut backward: Vec<_> = jobs.iter().rev().map(|&(e, i)| augment(e, i, &mut shared)).collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let fresh: Vec<_> = jobs.iter().map(|&(e, i)| augment(e, i, &mut Scratch::new())).collect();
    assert_eq!(forward, fresh);
    // The same samples look different in the next epoch.
    let differing = (0..40).filter(|&i| forward[i] != forward[40 + i]).count();
    assert!(differing >= 38, "only {differing} of 40 samples changed");
}

#[test]
fn every_part_of_the_key_counts() {
    let first = |seed, epoch, index, purpose: Purpose| sample_rng(seed, epoch, index, purpose).next_u64();
    let base = first(1, 2, 3, Purpose::Crop);
    assert_eq!(base, first(1, 2, 3, Purpose::Crop));
    let others = [
        first(2, 2, 3, Purpose::Crop),
        first(1, 3, 3, Purpose::Crop),
        first(1, 2, 4, Purpose::Crop),
        first(1, 2, 3, Purpose::Flip),
        first(1, 2, 3, Purpose::Custom(0)),
        first(2, 1, 3, Purpose::Crop),
        first(1, 2, 3 + (1 << 40), Purpose::Crop),
    ];
    assert!(!others.contains(&base), "{others:?}");
}

#[test]
fn purposes_have_distinct_numbers() {
    use Purpose::{Augment, Crop, Custom, Erase, Flip, Jitter, Mix, Order};
    let all = [Crop, Flip, Augment, Erase, Mix, Order, Jitter, Custom(0), Custom(u32::MAX)];
    let numbers: std::collections::HashSet<u64> = all.into_iter().map(u64::from).collect();
    assert_eq!(numbers.len(), all.len());
}
