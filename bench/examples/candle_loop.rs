//! The curriculum in a training loop of candle alone: `freqcrop`, `randaug` and
//! `efficienttrain-schedule` prepare the images and say what to do at each step; model, gradients and
//! optimizer are candle's. `cargo run --release -p efficienttrain-bench --example candle_loop`

use candle_core::{DType, Device, Tensor};
use candle_nn::{
    AdamW, Conv2dConfig, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, conv2d, linear, loss,
};
use efficienttrain_schedule::{Plan, PlanOptions, Recipe};
use freqcrop::FrequencyCrop;
use image::{Rgb, RgbImage};
use randaug::{Layout, Normalize, Purpose, RandAugment, Scratch, sample_rng};

const IMAGES: usize = 128;
const BATCH: u32 = 16;
const BASE: u32 = 32;

/// Stripes along x (class 0) or y (class 1), of another color and phase in each image.
fn image(index: usize) -> (RgbImage, u32) {
    let label = (index % 2) as u32;
    let level = |at: u32| (127.0 + 90.0 * (f64::from(at) * 0.9 + index as f64).sin()) as u8;
    let picture = RgbImage::from_fn(BASE, BASE, |x, y| {
        let value = level(if label == 0 { x } else { y });
        Rgb([value, value.wrapping_add((index * 5) as u8), 255 - value])
    });
    (picture, label)
}

/// Two convolutions and a linear layer, for images of any size.
struct Net {
    first: candle_nn::Conv2d,
    second: candle_nn::Conv2d,
    head: Linear,
}

impl Net {
    fn new(vb: &VarBuilder) -> candle_core::Result<Self> {
        let config = Conv2dConfig { stride: 2, padding: 1, ..Conv2dConfig::default() };
        Ok(Self {
            first: conv2d(3, 16, 3, config, vb.pp("first"))?,
            second: conv2d(16, 32, 3, config, vb.pp("second"))?,
            head: linear(32, 2, vb.pp("head"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.second.forward(&self.first.forward(x)?.relu()?)?.relu()?;
        self.head.forward(&x.mean((2, 3))?)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let recipe = Recipe::named("resnet18-etpp")?.at_base_size(BASE, 8)?.with_batch(BATCH, 1)?;
    let plan = Plan::new(&recipe, PlanOptions::new(6.0, IMAGES as u64, 1))?;
    println!("{}\n", plan.summary()?);

    let device = Device::Cpu;
    let varmap = VarMap::new();
    let net = Net::new(&VarBuilder::from_varmap(&varmap, DType::F32, &device))?;
    let mut optimizer = AdamW::new(varmap.all_vars(), ParamsAdamW::default())?;
    let (mut scratch, normalize) = (Scratch::new(), Normalize::default());
    let (mut crop, mut right, mut seen) = (None, 0, 0);
    for step in 0..plan.total_steps() {
        // The plan says size, magnitude and learning rate of every step.
        let settings = plan.at(step)?;
        let size = settings.size as usize;
        let fits = |crop: &FrequencyCrop| crop.output_size() == (size, size);
        let plan_of_size = match crop.take().filter(fits) {
            Some(crop) => crop,
            None => FrequencyCrop::new((BASE as usize, BASE as usize), (size, size))?,
        };
        let policy = RandAugment::default();
        let mut values = vec![0.0; BATCH as usize * 3 * size * size];
        let mut labels = Vec::new();
        for (place, out) in values.chunks_exact_mut(3 * size * size).enumerate() {
            let count = settings.samples_before as usize + place;
            let (picture, label) = image(count % IMAGES);
            let small = plan_of_size.apply_rgb8(&picture)?;
            let mut small = RgbImage::from_raw(size as u32, size as u32, small).ok_or("a wrong size")?;
            let mut rng = sample_rng(0, (count / IMAGES) as u64, (count % IMAGES) as u64, Purpose::Augment);
            policy.apply(&mut small, settings.magnitude, &mut rng, &mut scratch)?;
            normalize.apply(&small, Layout::Chw, out)?;
            labels.push(label);
        }
        crop = Some(plan_of_size);
        let images = Tensor::from_vec(values, (BATCH as usize, 3, size, size), &device)?;
        let targets = Tensor::from_vec(labels, BATCH as usize, &device)?;
        let logits = net.forward(&images)?;
        optimizer.set_learning_rate(settings.lr.max(1e-6) * 10.0);
        let value = loss::cross_entropy(&logits, &targets)?;
        optimizer.backward_step(&value)?;
        if step + 20 >= plan.total_steps() {
            let hits = logits.argmax(1)?.eq(&targets)?.to_dtype(DType::U32)?.sum_all()?.to_scalar::<u32>()?;
            (right, seen) = (right + hits, seen + BATCH);
        }
        if step % 20 == 0 {
            println!(
                "step {step}: {size} pixels, m {:.0}, loss {:.3}",
                settings.magnitude,
                value.to_scalar::<f32>()?
            );
        }
    }
    println!("the last steps: {right} of {seen} images right");
    Ok(())
}
