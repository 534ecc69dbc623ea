//! Parses an augmentation policy, prints it, parses it again, and applies it to a small image.

use randaug::{Policy, Purpose, Scratch, sample_rng};

pub(super) fn run(data: &[u8]) {
    let Ok(Ok(policy)) = std::str::from_utf8(data).map(str::parse::<Policy>) else { return };
    let again: Policy = policy.to_string().parse().expect("its own text is read");
    assert_eq!(policy, again);
    let mut picture = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 28, y as u8 * 36, 90]));
    let mut scratch = Scratch::new();
    for sample in 0..4 {
        let mut rng = sample_rng(1, 0, sample, Purpose::Augment);
        let _ = policy.apply(&mut picture, None, &mut rng, &mut scratch);
        assert_eq!(picture.dimensions(), (9, 7));
    }
}
