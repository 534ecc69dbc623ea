//! Times training steps of a model on random images: `cargo run --release --example train_step --
//! resnet18 64 32`.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model, ops,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let text = |i: usize, default: &str| args.get(i).cloned().unwrap_or_else(|| default.into());
    let (name, size, batch) =
        (text(0, "resnet10"), text(1, "32").parse::<usize>()?, text(2, "8").parse::<usize>()?);
    let steps: usize = text(3, "5").parse()?;
    let model = create_model(
        &name,
        &ModelOptions { num_classes: 1000, input_size: [size; 2], ..ModelOptions::default() },
    )?;
    let params = ParamStore::init(model.specs(), 0, DType::F32, &Device::Cpu)?;
    let zeros = || ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu);
    let (mean, square) = (zeros()?, zeros()?);
    let images = Variable::constant(Tensor::rand(-1f32, 1., (batch, size, size, 3), &Device::Cpu)?);
    let targets = Tensor::full(1e-3f32, (batch, 1000), &Device::Cpu)?;
    let mut gradients = Gradients::new(params.len());
    for step in 1..=steps {
        let start = Instant::now();
        let mut cx = Context::new(&params, Mode::Train { seed: step as u64, drop_path: 0.0 });
        let logits = model.forward(&mut cx, &images)?;
        let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets)?);
        let value: f32 = loss.tensor().to_scalar()?;
        let forward = start.elapsed();
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
        let backward = start.elapsed() - forward;
        let numbers = ops::AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.05,
            step: step as u64,
        };
        for (id, gradient) in gradients.iter() {
            ops::adamw_step(params.get(id), gradient, mean.get(id), square.get(id), &numbers)?;
        }
        gradients.clear();
        let total = start.elapsed();
        println!(
            "step {step}: loss {value:.4}, forward {:.1} ms, backward {:.1} ms, update {:.1} ms, total {:.1} ms",
            forward.as_secs_f64() * 1e3,
            backward.as_secs_f64() * 1e3,
            (total - forward - backward).as_secs_f64() * 1e3,
            total.as_secs_f64() * 1e3
        );
    }
    Ok(())
}
