//! `efficienttrain augment`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use efficienttrain::observe::preview::PixelImage;
use image::{DynamicImage, GrayImage, RgbImage};
use randaug::{Interpolation, Op, OpConfig, Scratch, to_rgb8};

/// Arguments of `augment`.
#[derive(Args)]
pub(crate) struct AugmentArgs {
    /// Image to read
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// Image to write
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Operation by its name in timm, such as `Rotate` or `PosterizeIncreasing`
    #[arg(long, value_name = "NAME")]
    op: Op,

    /// Strength, 0 to 10; values outside are clipped
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    magnitude: f64,

    /// Apply the operation in the opposite direction, if it has one
    #[arg(long)]
    negate: bool,

    /// Interpolation of rotations, shears and translations
    #[arg(long, value_enum, default_value_t = InterpolationName::Bicubic)]
    interpolation: InterpolationName,
}

#[derive(Clone, Copy, ValueEnum)]
enum InterpolationName {
    Nearest,
    Bilinear,
    Bicubic,
}

impl From<InterpolationName> for Interpolation {
    fn from(name: InterpolationName) -> Self {
        match name {
            InterpolationName::Nearest => Self::Nearest,
            InterpolationName::Bilinear => Self::Bilinear,
            InterpolationName::Bicubic => Self::Bicubic,
        }
    }
}

pub(crate) fn run(args: &AugmentArgs) -> Result<()> {
    let image = PixelImage::read(&args.input)?;
    let mut rgb = rgb(image).with_context(|| format!("{}", args.input.display()))?;
    let config = OpConfig { interpolation: args.interpolation.into(), ..OpConfig::default() };
    args.op.apply_with(&mut rgb, args.magnitude, args.negate, &config, &mut Scratch::new())?;
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    Ok(PixelImage { pixels: rgb.into_raw(), height, width, channels: 3 }.write(&args.out)?)
}

/// Converts an image to RGB: gray becomes three equal channels, an alpha channel is an error.
fn rgb(image: PixelImage) -> Result<RgbImage> {
    let (width, height) = (image.width as u32, image.height as u32);
    let fits = "the pixels have the image's size";
    Ok(match image.channels {
        1 => to_rgb8(&DynamicImage::from(GrayImage::from_raw(width, height, image.pixels).context(fits)?))?,
        3 => RgbImage::from_raw(width, height, image.pixels).context(fits)?,
        n => anyhow::bail!(
            "has {n} channels, the last of them transparency; expected gray or RGB, flatten it first"
        ),
    })
}
