//! Division of a multi-label set in two parts with the same shares of each class.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;
use randaug::sample_rng;

use crate::data::source::{Source, labels_of};
use crate::error::DataError;
use crate::util::purposes::HELD_OUT;

/// Images that a part still needs.
#[derive(Clone, Debug)]
struct Wanted {
    /// Of each class.
    of_class: Vec<f64>,
    /// In all.
    images: f64,
}

impl Wanted {
    fn take(&mut self, classes: &[u32]) {
        self.images -= 1.0;
        classes.iter().for_each(|&class| self.of_class[class as usize] -= 1.0);
    }
}

/// Divides the images of a multi-label set into a part to keep and a part with the fraction `share`
/// to hold out, both in the order of the set (iterative stratification, Sechidis et al., 2011,
/// algorithm 1): the images of the class with the fewest left are dealt first, each to the part that
/// needs most of this class. A class of two or more images is wanted in both parts. Sets of labels
/// that are frequent enough for both parts, such as no label at all, count as classes, so that the
/// parts have the shares of the whole in size too.
///
/// The outcome depends on the labels alone.
///
/// # Errors
/// Returns an error if no class has two images.
pub(crate) fn stratified(whole: &dyn Source, share: f64) -> Result<(Vec<u32>, Vec<u32>), DataError> {
    let classes = with_sets(whole, share);
    let groups = classes.iter().flatten().max().map_or(0, |last| *last as usize + 1);
    let mut images = vec![Vec::new(); groups];
    for index in shuffled(whole.len()) {
        classes[index as usize].iter().for_each(|&class| images[class as usize].push(index));
    }
    let mut left: Vec<usize> = images.iter().map(Vec::len).collect();
    let (mut kept, mut held) = wanted(&left, whole.len(), share);
    let mut is_held: Vec<Option<bool>> = vec![None; whole.len()];
    let rarest = |left: &[usize]| (0..left.len()).filter(|&c| left[c] > 0).min_by_key(|&c| left[c]);
    while let Some(class) = rarest(&left) {
        for &index in &images[class] {
            if is_held[index as usize].is_some() {
                continue;
            }
            let need = |part: &Wanted| (part.of_class[class], part.images);
            let hold = need(&held) > need(&kept);
            let of_image = &classes[index as usize];
            if hold { &mut held } else { &mut kept }.take(of_image);
            of_image.iter().for_each(|&class| left[class as usize] -= 1);
            is_held[index as usize] = Some(hold);
        }
    }
    let (kept, held): (Vec<u32>, Vec<u32>) =
        (0..whole.len() as u32).partition(|&index| is_held[index as usize] != Some(true));
    if held.is_empty() {
        let what = "no class has two images, so that none can be held out; a split needs some";
        return Err(DataError::Setting(what.into()));
    }
    Ok((kept, held))
}

/// Returns the classes of each image, and its set of labels as one more, if that is of images for
/// both parts.
fn with_sets(whole: &dyn Source, share: f64) -> Vec<Vec<u32>> {
    let mut classes: Vec<Vec<u32>> =
        (0..whole.len()).map(|index| labels_of(whole, index).collect()).collect();
    let mut counts: BTreeMap<Vec<u32>, usize> = BTreeMap::new();
    classes.iter().for_each(|set| *counts.entry(set.clone()).or_default() += 1);
    // No image may be without a class.
    let frequent = counts
        .into_iter()
        .filter(|(set, count)| set.is_empty() || share.min(1.0 - share) * *count as f64 >= 1.0);
    let first = whole.classes().len() as u32;
    let known: BTreeMap<Vec<u32>, u32> = frequent.map(|(set, _)| set).zip(first..).collect();
    for set in &mut classes {
        set.extend(known.get(set).copied());
    }
    classes
}

fn shuffled(images: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..images as u32).collect();
    order.shuffle(&mut sample_rng(0, u64::MAX, 0, HELD_OUT));
    order
}

/// Returns the images that the part to keep and the part to hold out should get.
fn wanted(counts: &[usize], images: usize, share: f64) -> (Wanted, Wanted) {
    let held_of = |&count: &usize| match count {
        0 | 1 => 0.0,
        _ => (share * count as f64).clamp(1.0, count as f64 - 1.0),
    };
    let held: Vec<f64> = counts.iter().map(held_of).collect();
    let kept = counts.iter().zip(&held).map(|(&count, held)| count as f64 - held).collect();
    // A set of a single image has no room for the clamp.
    let of_all = (share * images as f64).max(1.0).min(images as f64 - 1.0);
    (Wanted { of_class: kept, images: images as f64 - of_all }, Wanted { of_class: held, images: of_all })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use image::RgbImage;

    use super::*;

    /// Images with these labels in four classes.
    struct Labeled(Vec<Vec<u32>>, Vec<String>);

    impl Labeled {
        fn new(sets: Vec<Vec<u32>>) -> Self {
            Self(sets, (0..4).map(|class| class.to_string()).collect())
        }
    }

    impl Source for Labeled {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn classes(&self) -> &[String] {
            &self.1
        }

        fn label(&self, _: usize) -> u32 {
            unreachable!("a multi-label set has label sets")
        }

        fn label_set(&self, index: usize) -> Option<&[u32]> {
            Some(&self.0[index])
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn load(&self, _: usize) -> Result<RgbImage, DataError> {
            Ok(RgbImage::new(1, 1))
        }
    }

    /// 120 images: class 0 in half of them, 1 in a third, 2 in a twelfth, 3 in three; 36 without.
    fn mixed() -> Labeled {
        let labels = |i: u32| -> Vec<u32> {
            if i % 10 < 3 {
                return Vec::new();
            }
            let of = [i.is_multiple_of(2), i.is_multiple_of(3), i % 12 == 5, i % 40 == 7];
            (0..4).filter(|&class| of[class as usize]).collect()
        };
        Labeled::new((0..120).map(labels).collect())
    }

    #[test]
    fn each_class_and_the_images_without_one_are_shared_out() {
        let set = mixed();
        for share in [0.1, 0.25, 0.5, 0.8] {
            let (kept, held) = stratified(&set, share).unwrap();
            let all: BTreeSet<u32> = kept.iter().chain(&held).copied().collect();
            assert_eq!((all.len(), kept.len() + held.len()), (120, 120), "{share}: lost or in both");
            assert!(kept.is_sorted() && held.is_sorted());
            assert!((held.len() as f64 - 120.0 * share).abs() <= 4.0, "{share}: {} held", held.len());
            for class in 0..5 {
                let has = |labels: &[u32]| labels.contains(&class) || class == 4 && labels.is_empty();
                let of = |part: &[u32]| part.iter().filter(|&&i| has(&set.0[i as usize])).count();
                let (there, taken) = (of(&kept) + of(&held), of(&held));
                let exact = share * there as f64;
                assert!((taken as f64 - exact).abs() <= 2.0, "{share}: {taken} of {there} of class {class}");
                assert!(taken > 0 && taken < there, "{share}: class {class} is in one part only");
            }
        }
    }

    #[test]
    fn the_choice_depends_on_the_labels_alone_and_is_no_prefix() {
        let held = |set: &Labeled| stratified(set, 0.25).unwrap().1;
        assert_eq!(held(&mixed()), held(&mixed()));
        assert!(held(&mixed()) != (0..held(&mixed()).len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn the_only_image_of_a_class_is_trained_on() {
        for one in 0..6 {
            let sets = (0..6).map(|i| if i == one { vec![0, 3] } else { vec![0] }).collect();
            let (kept, held) = stratified(&Labeled::new(sets), 0.5).unwrap();
            assert!(kept.contains(&one) && held.len() == 3, "{one}: {kept:?} {held:?}");
        }
        for sets in [vec![vec![1]], vec![vec![0], vec![1, 2], vec![]]] {
            let error = stratified(&Labeled::new(sets), 0.5).unwrap_err().to_string();
            assert!(error.contains("no class has two images"), "{error}");
        }
        // Two images are one a part, whatever their labels.
        for sets in [vec![vec![], vec![]], vec![vec![0], vec![0, 1]]] {
            let (kept, held) = stratified(&Labeled::new(sets), 0.1).unwrap();
            assert_eq!((kept.len(), held.len()), (1, 1));
        }
    }
}
