//! Random erasing of boxes (timm's `RandomErasing`).

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::crop::{check_range, uniform};
use crate::error::{Error, Result, check};
use crate::resample::CropBox;
use crate::tensor::Layout;

/// Boxes drawn before giving up.
const ATTEMPTS: usize = 10;

/// Values that overwrite a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EraseMode {
    /// 0, the mean of normalized images.
    Const,
    /// One value from N(0, 1) for each channel of a box.
    Rand,
    /// A value from N(0, 1) for each pixel and channel. Default.
    #[default]
    Pixel,
}

/// Overwrites random boxes of a normalized image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomErasing {
    /// Probability that an image is erased at all. Default 0.25.
    pub probability: f64,
    /// Smallest and largest total area of all boxes, as a share of the image's. Default 0.02 to
    /// 1/3.
    pub area: (f64, f64),
    /// Height over width, smallest and largest; the logarithm is uniform. Default 0.3 to 1/0.3.
    pub aspect: (f64, f64),
    /// Values that overwrite the boxes. Default [`EraseMode::Pixel`].
    pub mode: EraseMode,
    /// Smallest and largest number of boxes of an image; the number is uniform. Default 1 to 1.
    pub count: (u32, u32),
}

/// A box of an image and the values that overwrite it.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    /// Position and size.
    pub area: CropBox,
    /// Its values, channels-last: `[height, width, channels]`.
    pub values: Vec<f32>,
}

impl Default for RandomErasing {
    fn default() -> Self {
        Self {
            probability: 0.25,
            area: (0.02, 1.0 / 3.0),
            aspect: (0.3, 1.0 / 0.3),
            mode: EraseMode::Pixel,
            count: (1, 1),
        }
    }
}

impl RandomErasing {
    /// Checks all parameters.
    ///
    /// # Errors
    /// Returns an error if the probability is not in 0..=1, a range is not 0 < low <= high, or the
    /// counts are not 1 <= low <= high.
    pub fn validate(&self) -> Result<()> {
        let valid = (0.0..=1.0).contains(&self.probability);
        check(valid, "probability", self.probability, "in 0..=1")?;
        check_range("area", self.area)?;
        check_range("aspect", self.aspect)?;
        let (low, high) = self.count;
        check(low >= 1, "count", f64::from(low), "at least 1")?;
        check(high >= low, "count", f64::from(high), "not below the lower end of its range")
    }

    /// Draws the number of boxes of an image: 0 if it is not erased.
    ///
    /// # Errors
    /// Returns the errors of [`RandomErasing::validate`].
    pub fn sample_count(&self, rng: &mut impl Rng) -> Result<u32> {
        self.validate()?;
        let (low, high) = self.count;
        Ok(match rng.random_bool(self.probability) {
            false => 0,
            true if low == high => low,
            true => rng.random_range(low..=high),
        })
    }

    /// Draws one of `count` boxes in an image of `width` x `height` pixels; `None` if none of ten
    /// drawn boxes is smaller than the image.
    ///
    /// # Errors
    /// Returns the errors of [`RandomErasing::validate`].
    pub fn sample_box(
        &self,
        (width, height): (u32, u32),
        count: u32,
        rng: &mut impl Rng,
    ) -> Result<Option<CropBox>> {
        self.validate()?;
        let log_aspect = (self.aspect.0.ln(), self.aspect.1.ln());
        for _ in 0..ATTEMPTS {
            let area_fraction = uniform(self.area, rng);
            let (w, h) = Self::edges(width, height, area_fraction, uniform(log_aspect, rng), count);
            if Self::fits(width, height, (w, h)) {
                let top = rng.random_range(0..=height - h);
                let left = rng.random_range(0..=width - w);
                return Ok(Some(CropBox { top, left, height: h, width: w }));
            }
        }
        Ok(None)
    }

    /// Width and height of one of `count` boxes that have this share of the area together, with
    /// this logarithm of height/width.
    #[must_use]
    pub fn edges(width: u32, height: u32, area_fraction: f64, log_aspect: f64, count: u32) -> (u32, u32) {
        let area = area_fraction * (f64::from(width) * f64::from(height)) / f64::from(count.max(1));
        let aspect = log_aspect.exp();
        let edge = |square: f64| square.sqrt().round_ties_even() as u32;
        (edge(area / aspect), edge(area * aspect))
    }

    /// Returns true if a box of these edges (width, height) is smaller than the image in both
    /// directions.
    #[must_use]
    pub fn fits(width: u32, height: u32, (w, h): (u32, u32)) -> bool {
        w < width && h < height
    }

    /// Draws the boxes and values with which [`RandomErasing::apply`] overwrites a channels-last
    /// image of `width` x `height` pixels, from the same generator, so that a device can overwrite
    /// them instead.
    ///
    /// # Errors
    /// Returns the errors of [`RandomErasing::validate`].
    pub fn sample(
        &self,
        (width, height): (u32, u32),
        channels: u32,
        rng: &mut impl Rng,
    ) -> Result<Vec<Erasure>> {
        let count = self.sample_count(rng)?;
        let mut erasures = Vec::new();
        for _ in 0..count {
            if let Some(area) = self.sample_box((width, height), count, rng)? {
                let shape = (channels as usize, area.height as usize, area.width as usize);
                let mut values = vec![0.0; shape.0 * shape.1 * shape.2];
                let whole = CropBox { top: 0, left: 0, ..area };
                fill(&mut values, shape, whole, Layout::Hwc, self.mode, rng);
                erasures.push(Erasure { area, values });
            }
        }
        Ok(erasures)
    }

    /// Erases boxes of one normalized image of `channels` x `height` x `width` values in place, or
    /// none, at random. Returns the number of boxes that were overwritten.
    ///
    /// # Errors
    /// Returns the errors of [`RandomErasing::validate`], or an error if the slice does not have
    /// the length of its shape.
    pub fn apply(
        &self,
        image: &mut [f32],
        (channels, height, width): (u32, u32, u32),
        layout: Layout,
        rng: &mut impl Rng,
    ) -> Result<u32> {
        let expected = [channels, height, width].iter().try_fold(1usize, |n, &d| n.checked_mul(d as usize));
        if expected != Some(image.len()) {
            let expected = expected.unwrap_or(usize::MAX);
            return Err(Error::Length { what: "image", expected, got: image.len() });
        }
        let count = self.sample_count(rng)?;
        let mut erased = 0;
        for _ in 0..count {
            if let Some(area) = self.sample_box((width, height), count, rng)? {
                let shape = (channels as usize, height as usize, width as usize);
                fill(image, shape, area, layout, self.mode, rng);
                erased += 1;
            }
        }
        Ok(erased)
    }
}

fn fill(
    image: &mut [f32],
    (channels, height, width): (usize, usize, usize),
    area: CropBox,
    layout: Layout,
    mode: EraseMode,
    rng: &mut impl Rng,
) {
    if mode == EraseMode::Rand {
        fill_channels(image, (channels, height, width), area, layout, rng);
        return;
    }
    // An image of channels first is `channels` images of one channel.
    let (planes, depth) = match layout {
        Layout::Chw => (channels, 1),
        Layout::Hwc => (1, channels),
    };
    let stride = width * depth;
    let (left, len) = (area.left as usize * depth, area.width as usize * depth);
    for plane in 0..planes {
        for y in 0..area.height as usize {
            let row = plane * height * stride + (area.top as usize + y) * stride;
            for value in &mut image[row + left..][..len] {
                *value = if mode == EraseMode::Pixel { rng.sample(StandardNormal) } else { 0.0 };
            }
        }
    }
}

/// Fills the box with one color. The channels are drawn in their order in both layouts, so that
/// both get the same color.
fn fill_channels(
    image: &mut [f32],
    (channels, height, width): (usize, usize, usize),
    area: CropBox,
    layout: Layout,
    rng: &mut impl Rng,
) {
    for channel in 0..channels {
        let color = rng.sample(StandardNormal);
        for y in area.top as usize..(area.top + area.height) as usize {
            let (start, step) = match layout {
                Layout::Chw => ((channel * height + y) * width + area.left as usize, 1),
                Layout::Hwc => ((y * width + area.left as usize) * channels + channel, channels),
            };
            for x in 0..area.width as usize {
                image[start + x * step] = color;
            }
        }
    }
}
