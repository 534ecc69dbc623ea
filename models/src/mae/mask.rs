//! Random masks: the patches that an encoder sees.

use rand::RngExt;

use crate::params::generator;
use crate::{Error, Result};

/// The patches of each image of a batch that are seen, and those that are removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masking {
    patches: usize,
    kept: usize,
    order: Vec<u32>,
}

impl Masking {
    /// Removes `ratio` of the patches of each image at random. What is removed depends on the
    /// image's own seed alone, so a batch may be put together in any way.
    ///
    /// # Errors
    /// When nothing would be seen.
    pub fn draw(seeds: &[u64], patches: usize, ratio: f64) -> Result<Self> {
        let one = |&seed: &u64| {
            let mut rng = generator(seed, "mae.mask");
            (0..patches).map(|_| rng.random::<f64>()).collect::<Vec<_>>()
        };
        Self::from_noise(&seeds.iter().flat_map(one).collect::<Vec<_>>(), patches, ratio)
    }

    /// Keeps of each image the `int(patches * (1 - ratio))` patches whose noise is smallest, in the
    /// order of the noise.
    ///
    /// # Errors
    /// When the noise is not `patches` numbers an image, or nothing would be seen.
    pub fn from_noise(noise: &[f64], patches: usize, ratio: f64) -> Result<Self> {
        let kept = (patches as f64 * (1.0 - ratio)) as usize;
        if !(0.0..1.0).contains(&ratio) || kept == 0 {
            let what = format!("a mask_ratio of {ratio} is not in 0..1, or leaves none of {patches} patches");
            return Err(Error::Option { model: "mae".into(), what });
        }
        if noise.is_empty() || !noise.len().is_multiple_of(patches) {
            return Err(Error::shape("mae", format!("noise for {patches} patches an image"), &[noise.len()]));
        }
        let sorted = |noise: &[f64]| {
            let mut order: Vec<u32> = (0..patches as u32).collect();
            order.sort_by(|&a, &b| noise[a as usize].total_cmp(&noise[b as usize]));
            order
        };
        Ok(Self { patches, kept, order: noise.chunks_exact(patches).flat_map(sorted).collect() })
    }

    /// Images.
    pub fn images(&self) -> usize {
        self.order.len() / self.patches
    }

    /// Patches an image.
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// Patches an image that are seen.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// For each image its patches in the order of the noise: the first [`Self::kept`] are seen.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// For each patch of each image whether it is removed.
    pub fn removed(&self) -> Vec<bool> {
        let mut removed = vec![true; self.order.len()];
        for (image, order) in self.order.chunks_exact(self.patches).enumerate() {
            for &seen in &order[..self.kept] {
                removed[image * self.patches + seen as usize] = false;
            }
        }
        removed
    }

    /// Places of the seen tokens in sequences that begin with `first` other tokens, which are seen
    /// too.
    pub fn places(&self, first: u32) -> Vec<u32> {
        let one = |order: &[u32]| {
            let seen = order[..self.kept].iter().map(move |&patch| patch + first);
            (0..first).chain(seen).collect::<Vec<_>>()
        };
        self.order.chunks_exact(self.patches).flat_map(one).collect()
    }
}
