//! Trains with this crate and infers with candle's own model: the exported file has the names that
//! `candle-transformers` reads. `cargo run --release -p efficienttrain-models --example
//! candle_transformers`

use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::resnet;
use efficienttrain_models::{
    Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model, ops, predict, weights,
};

const CLASSES: usize = 2;
const SIZE: usize = 32;
const BATCH: usize = 16;
const STEPS: u64 = 12;

/// Images `[N, 3, H, W]` with vertical stripes (class 0) or horizontal ones (class 1), and one-hot
/// targets.
fn batch(seed: u64) -> candle_core::Result<(Tensor, Tensor, Vec<u32>)> {
    let labels: Vec<u32> = (0..BATCH as u64).map(|i| ((i * 7 + seed) % 5 % 2) as u32).collect();
    let mut pixels = Vec::with_capacity(BATCH * 3 * SIZE * SIZE);
    for (i, &label) in labels.iter().enumerate() {
        for (channel, y, x) in
            (0..3).flat_map(|c| (0..SIZE).flat_map(move |y| (0..SIZE).map(move |x| (c, y, x))))
        {
            let along = if label == 0 { x } else { y };
            let phase = (i + channel) as f32 + seed as f32;
            pixels.push((along as f32 * 0.8 + phase).sin());
        }
    }
    let images = Tensor::from_vec(pixels, (BATCH, 3, SIZE, SIZE), &Device::Cpu)?;
    let hot = labels
        .iter()
        .flat_map(|&label| (0..CLASSES as u32).map(move |class| f32::from(u8::from(class == label))));
    Ok((images, Tensor::from_vec(hot.collect(), (BATCH, CLASSES), &Device::Cpu)?, labels))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = ModelOptions { num_classes: CLASSES, input_size: [SIZE; 2], ..ModelOptions::default() };
    let model = create_model("resnet18", &options)?;
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu)?;
    let zeros = || ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu);
    let (mean, square) = (zeros()?, zeros()?);
    let mut gradients = Gradients::new(params.len());
    for step in 1..=STEPS {
        let (images, targets, _) = batch(step)?;
        let images = Variable::constant(images.permute((0, 2, 3, 1))?.contiguous()?);
        let mut cx = Context::new(&params, Mode::Train { seed: step, drop_path: 0.0 });
        let logits = model.forward(&mut cx, &images)?;
        let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets)?);
        println!("step {step}: loss {:.3}", loss.tensor().to_scalar::<f32>()?);
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
        let rule = ops::AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step };
        for (id, gradient) in gradients.iter() {
            ops::adamw_step(params.get(id), gradient, mean.get(id), square.get(id), &rule)?;
        }
        gradients.clear();
    }

    let file = std::env::temp_dir().join(format!("resnet18-{}.safetensors", std::process::id()));
    let exported: std::collections::HashMap<String, Tensor> =
        weights::export(&*model, &params)?.into_iter().collect();
    candle_core::safetensors::save(&exported, &file)?;
    let data = std::fs::read(&file)?;
    std::fs::remove_file(&file)?;
    let theirs =
        resnet::resnet18(CLASSES, VarBuilder::from_buffered_safetensors(data, DType::F32, &Device::Cpu)?)?;

    let (images, _, labels) = batch(1000)?;
    let (ours, theirs) = (predict(&*model, &params, &images)?, theirs.forward_t(&images, false)?);
    let off: f32 = (&ours - &theirs)?.abs()?.max_all()?.to_scalar()?;
    let right = theirs.argmax(1)?.to_vec1::<u32>()?.iter().zip(&labels).filter(|(a, b)| a == b).count();
    println!("candle's model: {right} of {BATCH} right, logits differ from ours by at most {off:.1e}");
    if off > 1e-3 {
        return Err(format!("the two models differ by {off}").into());
    }
    Ok(())
}
