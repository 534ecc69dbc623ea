//! Brightness, contrast, saturation and hue, as torchvision changes them on Pillow images.

use image::RgbImage;
use rand::{Rng, RngExt};

use crate::crop::uniform;
use crate::error::{Result, check};
use crate::{enhance, hue};

/// An adjustment of color. Factor 1 changes nothing; for the hue it is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adjustment {
    /// Factor 0 is black.
    Brightness,
    /// Factor 0 is the mean gray.
    Contrast,
    /// Factor 0 is the gray image.
    Saturation,
    /// Shifts the hue by -0.5 to 0.5 of the color circle.
    Hue,
}

impl Adjustment {
    /// Adjusts an image in place.
    ///
    /// # Errors
    /// Returns an error if the factor is negative or not finite; for the hue, if it is not in
    /// -0.5..=0.5.
    pub fn apply(self, img: &mut RgbImage, factor: f64) -> Result<()> {
        if self == Adjustment::Hue {
            check((-0.5..=0.5).contains(&factor), "hue", factor, "in -0.5..=0.5")?;
            // As in the reference, the cast to a signed number truncates, and that to a byte wraps.
            hue::shift(img, (factor * 255.0) as i32 as u8);
            return Ok(());
        }
        check(factor.is_finite() && factor >= 0.0, "factor", factor, "finite and not below 0")?;
        match self {
            Adjustment::Brightness => enhance::brightness(img, factor),
            Adjustment::Contrast => enhance::contrast(img, factor),
            Adjustment::Saturation => enhance::color(img, factor),
            Adjustment::Hue => {}
        }
        Ok(())
    }
}

/// Lowest and highest factor, if any.
type Range = Option<(f64, f64)>;

/// Converts an image to gray, in three equal channels.
pub fn grayscale(img: &mut RgbImage) {
    enhance::color(img, 0.0);
}

/// Draws factors for brightness, contrast, saturation and hue and applies them in a random order
/// (torchvision's `ColorJitter`). `None` disables an adjustment.
///
/// ```
/// use randaug::{ColorJitter, Purpose, sample_rng};
/// let mut image = image::RgbImage::from_pixel(4, 4, image::Rgb([200, 100, 50]));
/// let jitter = ColorJitter { hue: Some((-0.1, 0.1)), ..ColorJitter::symmetric(0.4)? };
/// jitter.apply(&mut image, &mut sample_rng(0, 0, 0, Purpose::Jitter))?;
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ColorJitter {
    /// Smallest and largest factor of brightness.
    pub brightness: Option<(f64, f64)>,
    /// Smallest and largest factor of contrast.
    pub contrast: Option<(f64, f64)>,
    /// Smallest and largest factor of saturation.
    pub saturation: Option<(f64, f64)>,
    /// Smallest and largest shift of the hue.
    pub hue: Option<(f64, f64)>,
}

impl ColorJitter {
    /// Brightness, contrast and saturation between 1 - `strength` (at least 0) and 1 + `strength`,
    /// no hue: timm's `color_jitter` given as one number.
    ///
    /// # Errors
    /// Returns an error if the strength is negative or not finite.
    pub fn symmetric(strength: f64) -> Result<Self> {
        check(strength.is_finite() && strength >= 0.0, "color_jitter", strength, "finite and not below 0")?;
        let range = (strength > 0.0).then_some(((1.0 - strength).max(0.0), 1.0 + strength));
        Ok(Self { brightness: range, contrast: range, saturation: range, hue: None })
    }

    fn ranges(&self) -> [(Adjustment, &'static str, Range); 4] {
        [
            (Adjustment::Brightness, "brightness", self.brightness),
            (Adjustment::Contrast, "contrast", self.contrast),
            (Adjustment::Saturation, "saturation", self.saturation),
            (Adjustment::Hue, "hue", self.hue),
        ]
    }

    /// Checks all ranges.
    ///
    /// # Errors
    /// Returns an error if a range is not low <= high with both ends allowed for its adjustment.
    pub fn validate(&self) -> Result<()> {
        for (adjustment, name, range) in self.ranges() {
            let Some((low, high)) = range else { continue };
            let (floor, ceiling) = if adjustment == Adjustment::Hue { (-0.5, 0.5) } else { (0.0, f64::MAX) };
            let expected = if adjustment == Adjustment::Hue { "in -0.5..=0.5" } else { "finite, 0 or more" };
            check((floor..=ceiling).contains(&low), name, low, expected)?;
            check((floor..=ceiling).contains(&high), name, high, expected)?;
            check(low <= high, name, high, "not below the lower end of its range")?;
        }
        Ok(())
    }

    /// Draws the adjustments with their factors, in the order in which they apply; `None` for a
    /// disabled one.
    ///
    /// # Errors
    /// Returns the errors of [`ColorJitter::validate`].
    pub fn sample(&self, rng: &mut impl Rng) -> Result<[Option<(Adjustment, f64)>; 4]> {
        self.validate()?;
        let mut drawn =
            self.ranges().map(|(adjustment, _, range)| range.map(|r| (adjustment, uniform(r, rng))));
        for last in (1..drawn.len()).rev() {
            drawn.swap(last, rng.random_range(0..=last as u32) as usize);
        }
        Ok(drawn)
    }

    /// Jitters an image in place.
    ///
    /// # Errors
    /// Returns the errors of [`ColorJitter::validate`].
    pub fn apply(&self, img: &mut RgbImage, rng: &mut impl Rng) -> Result<()> {
        for (adjustment, factor) in self.sample(rng)?.into_iter().flatten() {
            adjustment.apply(img, factor)?;
        }
        Ok(())
    }
}
