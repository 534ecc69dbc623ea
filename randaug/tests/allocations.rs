//! No allocation for an image once the buffers have grown: counted by the allocator of this test
//! binary.

use std::alloc::{GlobalAlloc, Layout as Block, System};
use std::cell::Cell;

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage};
use randaug::{
    Adjustment, ColorJitter, EvalTransform, Interpolation, Layout, Normalize, Op, OpConfig, Policy, Purpose,
    RandomCropOrPad, RandomErasing, RandomResizedCrop, ResizeKeepRatio, Scratch, SimpleRandomCrop,
    flip_horizontal, flip_vertical, sample_rng,
};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system's allocator as it came; the counter is a plain cell of
// the thread that neither allocates nor has a destructor.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(block) }
    }

    unsafe fn dealloc(&self, start: *mut u8, block: Block) {
        unsafe { System.dealloc(start, block) }
    }

    unsafe fn realloc(&self, start: *mut u8, block: Block, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(start, block, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `step` for 60 samples twice; the second time must not allocate.
fn assert_steady(what: &str, mut step: impl FnMut(u64)) {
    (0..60).for_each(&mut step);
    let before = COUNT.get();
    (0..60).for_each(&mut step);
    assert_eq!(COUNT.get() - before, 0, "allocations of {what}");
}

fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x * 3 + y) as u8, (x ^ y) as u8, (x * y / 7) as u8]))
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    let made = std::hint::black_box(vec![1u8; 100]);
    assert!(COUNT.get() > before && made.len() == 100);
}

#[test]
fn a_training_image_allocates_nothing() {
    let sources = [photo(120, 90), photo(70, 101)];
    let policy: Policy = "rand-m9-mstd0.5-inc1".parse().unwrap();
    let (mut scratch, normalize) = (Scratch::new(), Normalize::default());
    let (mut image, mut tensor) = (RgbImage::new(48, 48), vec![0.0; 3 * 48 * 48]);
    assert_steady("crop, flip, RandAugment, normalize, erase", |i| {
        let rng = |purpose| sample_rng(1, 0, i, purpose);
        let source = &sources[i as usize % 2];
        let crop = RandomResizedCrop::default();
        crop.apply_into(source, &mut image, &mut rng(Purpose::Crop), &mut scratch).unwrap();
        flip_horizontal(&mut image);
        flip_vertical(&mut image);
        let magnitude = Some(i as f64 / 6.0);
        policy.apply(&mut image, magnitude, &mut rng(Purpose::Augment), &mut scratch).unwrap();
        normalize.apply(&image, Layout::Hwc, &mut tensor).unwrap();
        let erasing = RandomErasing { probability: 0.8, count: (1, 3), ..Default::default() };
        erasing.apply(&mut tensor, (3, 48, 48), Layout::Hwc, &mut rng(Purpose::Erase)).unwrap();
    });
}

#[test]
fn every_policy_and_operation_allocates_nothing() {
    let (source, mut scratch) = (photo(41, 37), Scratch::new());
    let mut image = source.clone();
    for text in ["rand-n3-w0", "rand-t3aw-p1", "augmix", "augmix-b1", "original", "v0r", "3a", "ta_wide"] {
        let policy: Policy = text.parse().unwrap();
        assert_steady(text, |i| {
            image.copy_from_slice(&source);
            policy.apply(&mut image, None, &mut sample_rng(2, 0, i, Purpose::Augment), &mut scratch).unwrap();
        });
    }
    for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
        let config = OpConfig { interpolation, ..Default::default() };
        for &op in Op::ALL {
            assert_steady(op.name(), |i| {
                image.copy_from_slice(&source);
                op.apply_with(&mut image, i as f64 / 6.0, i % 2 == 0, &config, &mut scratch).unwrap();
            });
        }
    }
    let mut gray = DynamicImage::ImageLuma8(GrayImage::from_fn(30, 20, |x, y| Luma([(x * y) as u8])));
    let policy: Policy = "rand-m9-inc1".parse().unwrap();
    assert_steady("a gray image", |i| {
        let mut rng = sample_rng(3, 0, i, Purpose::Augment);
        policy.apply_dynamic(&mut gray, None, &mut rng, &mut scratch).unwrap();
    });
}

#[test]
fn the_other_crops_and_jitter_allocate_nothing() {
    let (source, mut scratch, mut out) = (photo(120, 90), Scratch::new(), RgbImage::new(40, 40));
    let jitter = ColorJitter { hue: Some((-0.1, 0.1)), ..ColorJitter::symmetric(0.4).unwrap() };
    assert_steady("the other crops", |i| {
        let mut rng = sample_rng(4, 0, i, Purpose::Crop);
        SimpleRandomCrop::default().apply_into(&source, &mut out, &mut rng, &mut scratch).unwrap();
        let crop = RandomCropOrPad::default();
        ResizeKeepRatio::training().apply_into(&source, &crop, &mut out, &mut rng, &mut scratch).unwrap();
        EvalTransform::new(40).apply_into(&source, &mut out, &mut scratch).unwrap();
        jitter.apply(&mut out, &mut rng).unwrap();
        Adjustment::Hue.apply(&mut out, 0.2).unwrap();
    });
}
