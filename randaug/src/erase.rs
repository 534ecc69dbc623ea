//! Random erasing of a box (timm's `RandomErasing`, mode `pixel`).

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::crop::{check_range, uniform};
use crate::error::{Error, Result, check};
use crate::resample::CropBox;
use crate::tensor::Layout;

/// Boxes drawn before giving up.
const ATTEMPTS: usize = 10;

/// Overwrites a random box of a normalised picture with noise: every value is drawn from N(0, 1) on its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomErasing {
    /// Chance that a picture is erased at all. Default 0.25.
    pub probability: f64,
    /// Share of the picture's area, smallest and largest. Default 0.02 to 1/3.
    pub area: (f64, f64),
    /// Height over width, smallest and largest; the logarithm is uniform. Default 0.3 to 1/0.3.
    pub aspect: (f64, f64),
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self { probability: 0.25, area: (0.02, 1.0 / 3.0), aspect: (0.3, 1.0 / 0.3) }
    }
}

impl RandomErasing {
    /// Draws whether, and where, a picture of `width` x `height` pixels is erased.
    ///
    /// `None` if the coin says no, or if none of ten boxes is smaller than the picture.
    ///
    /// # Errors
    /// If the probability is not in 0..=1 or a range is not 0 < low <= high.
    pub fn sample(&self, width: u32, height: u32, rng: &mut impl Rng) -> Result<Option<CropBox>> {
        let valid = (0.0..=1.0).contains(&self.probability);
        check(valid, "probability", self.probability, "in 0..=1")?;
        check_range("area", self.area)?;
        check_range("aspect", self.aspect)?;
        if !rng.random_bool(self.probability) {
            return Ok(None);
        }
        let log_aspect = (self.aspect.0.ln(), self.aspect.1.ln());
        for _ in 0..ATTEMPTS {
            let area_fraction = uniform(self.area, rng);
            let (w, h) = Self::edges(width, height, area_fraction, uniform(log_aspect, rng));
            if Self::fits(width, height, (w, h)) {
                let top = rng.random_range(0..=height - h);
                let left = rng.random_range(0..=width - w);
                return Ok(Some(CropBox { top, left, height: h, width: w }));
            }
        }
        Ok(None)
    }

    /// Width and height of the box that has this share of the area and this logarithm of height/width.
    #[must_use]
    pub fn edges(width: u32, height: u32, area_fraction: f64, log_aspect: f64) -> (u32, u32) {
        let area = area_fraction * (f64::from(width) * f64::from(height));
        let aspect = log_aspect.exp();
        let edge = |square: f64| square.sqrt().round_ties_even() as u32;
        (edge(area / aspect), edge(area * aspect))
    }

    /// Whether a box of these edges (width, height) is used: it must be smaller than the picture both ways.
    #[must_use]
    pub fn fits(width: u32, height: u32, (w, h): (u32, u32)) -> bool {
        w < width && h < height
    }

    /// Erases, or does not, one normalised picture of `channels` x `height` x `width` values in place. Returns the
    /// box.
    ///
    /// # Errors
    /// As [`RandomErasing::sample`], or if the slice does not have the length of its shape.
    pub fn apply(
        &self,
        picture: &mut [f32],
        (channels, height, width): (u32, u32, u32),
        layout: Layout,
        rng: &mut impl Rng,
    ) -> Result<Option<CropBox>> {
        let expected = [channels, height, width].iter().try_fold(1usize, |n, &d| n.checked_mul(d as usize));
        if expected != Some(picture.len()) {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::Length { what: "picture", expected, got: picture.len() });
        }
        let erased = self.sample(width, height, rng)?;
        if let Some(area) = erased {
            fill_noise(picture, (channels as usize, height as usize, width as usize), area, layout, rng);
        }
        Ok(erased)
    }
}

fn fill_noise(
    picture: &mut [f32],
    (channels, height, width): (usize, usize, usize),
    area: CropBox,
    layout: Layout,
    rng: &mut impl Rng,
) {
    // A picture of channels first is `channels` pictures of one channel.
    let (planes, depth) = match layout {
        Layout::Chw => (channels, 1),
        Layout::Hwc => (1, channels),
    };
    let stride = width * depth;
    let (left, len) = (area.left as usize * depth, area.width as usize * depth);
    for plane in 0..planes {
        for y in 0..area.height as usize {
            let row = plane * height * stride + (area.top as usize + y) * stride;
            for value in &mut picture[row + left..][..len] {
                *value = rng.sample(StandardNormal);
            }
        }
    }
}
