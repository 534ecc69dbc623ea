//! The same numbers, bit for bit, on any number of threads.

use crate::common::model_input;
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{
    Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model, ops,
};

/// Bits of the loss, of all gradients and of the running statistics of one training pass.
fn pass(name: &str, size: usize, batch: usize, threads: usize, checkpoint: bool) -> Vec<u32> {
    pass_in(DType::F32, name, size, batch, threads, checkpoint)
}

/// Runs [`pass`] with activations of a type.
fn pass_in(
    dtype: DType,
    name: &str,
    size: usize,
    batch: usize,
    threads: usize,
    checkpoint: bool,
) -> Vec<u32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 10, input_size: [size; 2], ..ModelOptions::default() },
        )
        .unwrap();
        let params = ParamStore::init(model.specs(), 1, DType::F32, &Device::Cpu).unwrap();
        let x = model_input(5, batch, size, size).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        let targets = Tensor::full(0.1f32, (batch, 10), &Device::Cpu).unwrap();
        let mut cx = Context::new(&params, Mode::Train { seed: 3, drop_path: 0.2 })
            .with_checkpointing(checkpoint)
            .with_compute_type(dtype);
        let logits = model.forward(&mut cx, &Variable::constant(x)).unwrap();
        let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets).unwrap());
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu).unwrap(), &mut gradients).unwrap();
        let tensors =
            gradients.iter().map(|(_, t)| t).chain(params.iter().map(|(_, t)| t)).chain([loss.tensor()]);
        let bits = |t: &Tensor| {
            let values = t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        tensors.flat_map(bits).collect()
    })
}

/// Running statistics among them: they move once.
#[test]
fn checkpointed_blocks_give_the_same_gradients() {
    let models =
        ["resnet10", "resnet50", "deit_tiny", "swin_tiny", "convnext_tiny", "caformer_s18", "pvt_tiny"];
    for name in models {
        assert!(pass(name, 64, 3, 2, true) == pass(name, 64, 3, 2, false), "{name} differs");
    }
    assert!(pass("cswin_tiny", 32, 2, 2, true) == pass("cswin_tiny", 32, 2, 2, false), "cswin_tiny differs");
}

#[test]
fn a_training_pass_does_not_depend_on_the_number_of_threads() {
    // Small products are one task; those of the larger image are many, and parts of sums are
    // joined.
    for (name, size, batch) in [
        ("resnet10", 40, 5),
        ("resnet10", 112, 3),
        ("resnet50", 33, 2),
        ("deit_tiny", 64, 3),
        ("swin_tiny", 64, 3),
        ("convnext_tiny", 64, 3),
        ("caformer_s18", 64, 2),
        ("cswin_tiny", 32, 2),
        ("pvt_tiny", 64, 3),
    ] {
        let one = pass(name, size, batch, 1, false);
        for threads in [2, 3, 8] {
            assert!(
                pass(name, size, batch, threads, false) == one,
                "{name} at {size} differs on {threads} threads"
            );
        }
    }
}

/// Checks the instructions that this machine multiplies `bf16` with.
#[test]
fn nor_does_one_in_bf16() {
    for (name, size, batch) in
        [("resnet10", 112, 3), ("deit_tiny", 96, 5), ("swin_tiny", 64, 3), ("pvt_tiny", 64, 3)]
    {
        let one = pass_in(DType::BF16, name, size, batch, 1, false);
        for threads in [2, 3, 8] {
            assert!(
                one == pass_in(DType::BF16, name, size, batch, threads, false),
                "{name}, {threads} threads"
            );
        }
    }
}
