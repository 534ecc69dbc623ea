//! Weights between programs, for comparing this crate with others (see
//! `bench/scripts/timm_agreement.py`).
//!
//! ```text
//! weights init MODEL OUT                        write seeded weights, no tensor of them even, as timm has them
//! weights logits MODEL FILE PICTURES OUT [COPY] read FILE, write the logits of the images (and FILE as timm has it)
//! ```
//!
//! `PICTURES` is a safetensors file with one tensor `images` `[N, 3, H, W]`; `OUT` gets one called
//! `logits`.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{self, LoadOptions, ReadOptions};
use efficienttrain_models::{Backbone, Init, ModelOptions, ParamKind, ParamStore, create_model, predict};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["init", model, out] => init(model, out.as_ref()),
        ["logits", model, file, images, out] => logits(model, file, images, out, None),
        ["logits", model, file, images, out, copy] => logits(model, file, images, out, Some(copy)),
        _ => Err("usage: weights init MODEL OUT | weights logits MODEL FILE PICTURES OUT [COPY]".into()),
    }
}

fn init(model: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    let model = create_model(model, &ModelOptions::default())?;
    let mut params = ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu)?;
    let ids: Vec<_> = params.ids().collect();
    for (id, spec) in ids.into_iter().zip(model.specs()).filter(|(_, spec)| spec.kind != ParamKind::Counter) {
        // Tensors that start even (zeros, ones, layer scales) would hide that two of them are
        // swapped.
        let std = if spec.shape.len() > 1 { 0.01 } else { 0.1 };
        let noise = Init::Normal { std }.draw(2, &spec.name, spec.shape.iter().product());
        let noise = Tensor::from_vec(noise, spec.shape.as_slice(), &Device::Cpu)?;
        params.set(id, (params.get(id) + noise)?);
    }
    Ok(weights::save(out, &*model, &params)?)
}

fn logits(
    model: &str,
    file: &str,
    images: &str,
    out: &str,
    copy: Option<&str>,
) -> Result<(), Box<dyn Error>> {
    let images = candle_core::safetensors::load(images, &Device::Cpu)?;
    let images = images.get("pictures").ok_or("the file of images has no tensor `pictures`")?;
    let (_, _, height, width) = images.dims4()?;
    let model =
        create_model(model, &ModelOptions { input_size: [height, width], ..ModelOptions::default() })?;
    let params = load(&*model, file)?;
    let logits = predict(&*model, &params, images)?;
    candle_core::safetensors::save(&HashMap::from([("logits", logits)]), out)?;
    if let Some(copy) = copy {
        weights::save(copy.as_ref(), &*model, &params)?;
    }
    Ok(())
}

fn load(model: &dyn Backbone, file: &str) -> Result<ParamStore, Box<dyn Error>> {
    let found = weights::read(file.as_ref(), &ReadOptions::default())?;
    let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
    let report = weights::load_into(model, &mut params, &found.tensors, &LoadOptions::default())?;
    println!("{report}");
    Ok(params)
}
