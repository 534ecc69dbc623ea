//! `efficienttrain crop`.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use efficienttrain::config::CropMethod;
use efficienttrain::observe::preview::{CropTool, PixelImage, crop_image};
use efficienttrain::{DataError, Error};

/// Arguments of `crop`.
#[derive(Args)]
pub(crate) struct CropArgs {
    /// Image to read
    #[arg(value_name = "IN")]
    input: PathBuf,

    /// File to write: an image, or exact values / 255 as f32 [C, H, W] in `.npy` or `.safetensors`
    /// (key `image`)
    #[arg(value_name = "OUT")]
    out: PathBuf,

    /// Size of the result, or of the band with --low-pass: one edge, or HEIGHTxWIDTH
    #[arg(long, value_name = "B or HxW", value_parser = size)]
    size: [usize; 2],

    /// Method: the exact low-frequency crop, or the resize of the authors' code
    #[arg(long, value_enum, default_value_t = CropMethod::Fourier)]
    method: CropMethod,

    /// Keep the image size and clear the frequencies outside the band
    #[arg(long)]
    low_pass: bool,
}

/// Parses `96` or `96x128`.
fn size(text: &str) -> Result<[usize; 2], String> {
    let number = |part: &str| part.trim().parse::<usize>().ok().filter(|&n| n > 0);
    let (height, width) = text.split_once(['x', 'X']).unwrap_or((text, text));
    match (number(height), number(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err("expected an edge such as 96, or HEIGHTxWIDTH such as 96x128".into()),
    }
}

pub(crate) fn run(args: &CropArgs) -> Result<()> {
    let tool = CropTool { size: args.size, method: args.method, low_pass: args.low_pass };
    let cropped = crop_image(&PixelImage::read(&args.input)?, tool).map_err(|error| match error {
        Error::Data(DataError::FrequencyCrop(error)) => anyhow!("--size: {error}"),
        other => other.into(),
    })?;
    Ok(cropped.write(&args.out)?)
}
