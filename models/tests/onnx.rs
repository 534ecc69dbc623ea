//! Exported models against ONNX's checker and ONNX Runtime, by their Python packages.
//!
//! Ignored by default, for it needs Python with `onnx` and `onnxruntime`:
//!
//! ```sh
//! EFFICIENTTRAIN_PYTHON=python3 cargo test -p efficienttrain-models --test onnx -- --ignored
//! ```

#[path = "common/mod.rs"]
mod common;

use std::path::Path;
use std::process::Command;

use candle_core::{DType, Tensor};
use common::{golden_weights, model_input};
use efficienttrain_models::onnx::{OnnxOptions, OnnxOutput, export};
use efficienttrain_models::{ModelOptions, create_model, predict};

/// Of each family one model, and those with an op of their own; at two sizes.
const MODELS: [(&str, [[usize; 2]; 2]); 9] = [
    ("resnet18", [[64, 64], [72, 56]]),
    ("resnet50", [[64, 64], [96, 96]]),
    ("deit_tiny", [[64, 64], [96, 96]]),
    ("deit_tiny_distilled", [[64, 64], [96, 96]]),
    ("swin_tiny", [[64, 64], [96, 128]]),
    ("convnext_tiny", [[64, 64], [72, 72]]),
    ("caformer_s18", [[64, 64], [96, 96]]),
    ("cswin_tiny", [[64, 64], [96, 128]]),
    ("pvt_tiny", [[64, 64], [96, 96]]),
];
const CLASSES: usize = 10;
/// Images at once: the batch of the file is free.
const BATCHES: [usize; 2] = [1, 3];

fn write(folder: &Path, name: &str, size: [usize; 2], output: OnnxOutput) {
    let options = ModelOptions { num_classes: CLASSES, input_size: size, ..ModelOptions::default() };
    let model = create_model(name, &options).unwrap();
    let params = golden_weights(name, model.specs(), DType::F32);
    let metadata = vec![("model".to_string(), name.to_string())];
    let bytes = export(&*model, &params, &OnnxOptions { output, metadata }).unwrap();
    let stem = folder.join(format!("{name}-{}x{}-{output:?}", size[0], size[1]));
    std::fs::write(stem.with_extension("onnx"), bytes).unwrap();
    for batch in BATCHES {
        let images = model_input(5, batch, size[0], size[1]);
        let mut logits = predict(&*model, &params, &images).unwrap();
        if output == OnnxOutput::Sigmoid {
            let powers = logits.neg().unwrap().exp().unwrap();
            logits = powers.affine(1.0, 1.0).unwrap().recip().unwrap();
        }
        if output == OnnxOutput::Softmax {
            let powers = logits.broadcast_sub(&logits.max_keepdim(1).unwrap()).unwrap().exp().unwrap();
            logits = powers.broadcast_div(&powers.sum_keepdim(1).unwrap()).unwrap();
        }
        numbers(&stem.with_extension(format!("{batch}.input")), &images);
        numbers(&stem.with_extension(format!("{batch}.output")), &logits);
    }
}

fn numbers(path: &Path, tensor: &Tensor) {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    std::fs::write(path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

#[test]
#[ignore = "needs Python with onnx and onnxruntime"]
fn onnx_runtime_gives_our_logits() {
    let folder = std::env::temp_dir().join(format!("efficienttrain-onnx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, sizes) in MODELS {
        for size in sizes {
            write(&folder, name, size, OnnxOutput::Logits);
        }
    }
    for output in [OnnxOutput::Softmax, OnnxOutput::Sigmoid] {
        write(&folder, "resnet18", [64, 64], output);
    }
    let python = std::env::var("EFFICIENTTRAIN_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/check_onnx.py");
    let output = Command::new(python).arg(script).arg(&folder).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{text}");
}
