//! Subsets of image sets.

use std::sync::Arc;

use image::RgbImage;
use rand::seq::SliceRandom;
use randaug::sample_rng;

use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::Divisor;
use crate::data::source::skipped::Skipped;
use crate::data::source::stratified::stratified;
use crate::data::source::{Source, is_multi_label, labels_of};
use crate::error::DataError;
use crate::util::purposes::{HELD_OUT, SUBSET};

/// Returns the positions of the images of each class.
fn by_class(whole: &dyn Source) -> Vec<Vec<u32>> {
    let mut classes = vec![Vec::new(); whole.classes().len()];
    for index in 0..whole.len() {
        labels_of(whole, index).for_each(|label| classes[label as usize].push(index as u32));
    }
    classes
}

/// Some images of each class of a set, in the order of the set.
#[derive(Clone)]
pub struct Subset {
    whole: Arc<dyn Source>,
    /// Positions in the whole set.
    chosen: Vec<u32>,
}

impl std::fmt::Debug for Subset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Subset({} of {} images)", self.chosen.len(), self.whole.len())
    }
}

impl Subset {
    /// Selects the first `images` images of each class, in an order that depends on the seed and
    /// the number of images of the class: with the same seed, a smaller subset is part of a larger
    /// one.
    ///
    /// # Errors
    /// Returns an error that names the smallest class if a class has fewer images, or if the set is
    /// a multi-label one.
    pub fn per_class(whole: Arc<dyn Source>, images: usize, seed: u64) -> Result<Self, DataError> {
        if is_multi_label(&*whole) {
            let what =
                "an image of a multi-label set counts for several classes, so that there is no such choice";
            return Err(DataError::Setting(what.into()));
        }
        let mut classes = by_class(&*whole);
        let fewest = classes.iter().enumerate().min_by_key(|(_, of_class)| of_class.len());
        if let Some((label, of_class)) = fewest.filter(|(_, of_class)| of_class.len() < images) {
            let (class, there) = (&whole.classes()[label], of_class.len());
            let what = format!("{images} images of each class are required, but class `{class}` has {there}");
            return Err(DataError::Setting(what));
        }
        for (label, of_class) in classes.iter_mut().enumerate() {
            of_class.shuffle(&mut sample_rng(seed, label as u64, 0, SUBSET));
            of_class.truncate(images);
        }
        let mut chosen = classes.concat();
        chosen.sort_unstable();
        Ok(Self { whole, chosen })
    }

    /// Splits a set in two: the second part gets the fraction `share` of the images of each class,
    /// rounded and at least one. The choice depends only on the number of images of each class, so
    /// that it is the same wherever the set is opened. In a multi-label set, images are divided by
    /// iterative stratification (Sechidis et al., 2011), and those without a label are a class of
    /// their own; the only image of a class stays in the first part.
    ///
    /// # Errors
    /// Returns an error if a class has a single image; in a multi-label set, if all have.
    pub fn hold_out(whole: &Arc<dyn Source>, share: f64) -> Result<(Self, Self), DataError> {
        if is_multi_label(&**whole) {
            let (kept, held) = stratified(&**whole, share)?;
            let part = |chosen| Self { whole: whole.clone(), chosen };
            return Ok((part(kept), part(held)));
        }
        let (mut kept, mut held) = (Vec::new(), Vec::new());
        for (label, mut of_class) in by_class(&**whole).into_iter().enumerate() {
            let there = of_class.len();
            if there == 0 {
                continue;
            }
            if there < 2 {
                let class = &whole.classes()[label];
                let what = format!("class `{class}` has {there} images; a split needs two or more");
                return Err(DataError::Setting(what));
            }
            of_class.shuffle(&mut sample_rng(0, label as u64, 0, HELD_OUT));
            let count = ((share * there as f64).round() as usize).clamp(1, there - 1);
            held.extend(of_class.drain(..count));
            kept.extend(of_class);
        }
        let part = |mut chosen: Vec<u32>| {
            chosen.sort_unstable();
            Self { whole: whole.clone(), chosen }
        };
        Ok((part(kept), part(held)))
    }

    fn whole_index(&self, index: usize) -> usize {
        self.chosen[index] as usize
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.chosen.len()
    }

    fn classes(&self) -> &[String] {
        self.whole.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.whole.label(self.whole_index(index))
    }

    fn label_set(&self, index: usize) -> Option<&[u32]> {
        self.whole.label_set(self.whole_index(index))
    }

    fn skipped(&self) -> Skipped {
        self.whole.skipped()
    }

    fn name(&self, index: usize) -> String {
        self.whole.name(self.whole_index(index))
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        self.whole.load(self.whole_index(index))
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        self.whole.load_reduced(self.whole_index(index), divisor)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.whole.encoded(self.whole_index(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::source::synthetic::{Split, Synthetic};

    fn names(images: usize, seed: u64) -> Vec<String> {
        // 43 images in ten classes: the first three have five, the others four.
        let whole = Arc::new(Synthetic::new(1, Split::Train, 43, 48).unwrap());
        let subset = Subset::per_class(whole, images, seed).unwrap();
        let mut counts = vec![0; subset.classes().len()];
        (0..subset.len()).for_each(|i| counts[subset.label(i) as usize] += 1);
        assert_eq!(counts, vec![images; 10]);
        (0..subset.len()).map(|i| subset.name(i)).collect()
    }

    #[test]
    fn each_class_has_as_many_and_the_seed_says_which() {
        assert_eq!(names(2, 5), names(2, 5));
        assert_ne!(names(2, 5), names(2, 6));
        let (few, more) = (names(1, 5), names(3, 5));
        assert!(few.iter().all(|name| more.contains(name)));
        assert_eq!(names(4, 5).len(), 40);
    }

    #[test]
    fn images_are_those_that_they_are_called() {
        let whole: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 20, 48).unwrap());
        let subset = Subset::per_class(whole.clone(), 1, 9).unwrap();
        for i in 0..subset.len() {
            let there = (0..20).find(|&j| whole.name(j) == subset.name(i)).unwrap();
            assert_eq!(subset.label(i), whole.label(there));
            assert_eq!(subset.load(i).unwrap(), whole.load(there).unwrap());
            assert_eq!(subset.encoded(i).unwrap(), whole.encoded(there).unwrap());
        }
    }

    #[test]
    fn what_is_held_out_is_a_share_of_each_class_and_not_trained_on() {
        // 43 images in ten classes: the first three have five, the others four.
        let whole: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 43, 48).unwrap());
        for (share, held_of_class) in [(0.001, 1), (0.25, 1), (0.5, 2), (0.999, 3)] {
            let (kept, held) = Subset::hold_out(&whole, share).unwrap();
            let all: std::collections::BTreeSet<u32> =
                kept.chosen.iter().chain(&held.chosen).copied().collect();
            assert_eq!(
                (all.len(), kept.len() + held.len()),
                (43, 43),
                "{share}: an image is lost or in both"
            );
            let of_last = (0..held.len()).filter(|&i| held.label(i) == 9).count();
            assert_eq!(of_last, held_of_class, "{share}");
        }
        let again = Subset::hold_out(&whole, 0.5).unwrap().1;
        assert_eq!(again.chosen, Subset::hold_out(&whole, 0.5).unwrap().1.chosen);
        // The selection is not just the first images of each class.
        assert!((0..10).any(|index| !again.chosen.contains(&index)));
    }

    #[test]
    fn a_class_of_one_image_cannot_be_parted() {
        let whole: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 13, 48).unwrap());
        let message = Subset::hold_out(&whole, 0.5).unwrap_err().to_string();
        assert!(message.contains(&format!("`{}` has 1", whole.classes()[3])), "{message}");
    }

    #[test]
    fn a_class_with_fewer_is_named() {
        let whole: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 43, 48).unwrap());
        let class = whole.classes()[3].clone();
        let message = Subset::per_class(whole, 5, 0).unwrap_err().to_string();
        assert!(message.contains(&format!("`{class}` has 4")), "{message}");
    }
}
