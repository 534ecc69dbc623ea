//! candle-transformers' own models, fed the same weights, agree in evaluation.

use std::collections::HashMap;

use crate::common::{golden_weights, max_difference, model_input, numbers};
use candle_core::{DType, Device, ModuleT, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{convnext, resnet, vit};
use efficienttrain_models::{ModelOptions, create_model, predict, weights};

#[test]
fn resnets_agree_with_candle_transformers() {
    type Build = fn(usize, candle_nn::VarBuilder) -> candle_core::Result<candle_nn::Func<'_>>;
    let cases: [(&str, Build); 4] = [
        ("resnet18", resnet::resnet18),
        ("resnet34", resnet::resnet34),
        ("resnet50", resnet::resnet50),
        ("resnet101", resnet::resnet101),
    ];
    for (name, build) in cases {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 10, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let params = golden_weights(name, model.specs(), DType::F64);
        let other = build(10, params.var_builder(DType::F64, &Device::Cpu)).unwrap();
        let x = model_input(9, 2, 64, 64).to_dtype(DType::F64).unwrap();
        let (ours, theirs) = (predict(&*model, &params, &x).unwrap(), other.forward_t(&x, false).unwrap());
        let off = max_difference(&numbers(&ours), &numbers(&theirs));
        assert!(off < 1e-9, "{name} is off by {off}");
    }
}

/// The spelling of Hugging Face, which candle-transformers' ViT reads.
fn hugging_face(key: &str) -> String {
    let (mut name, mut rest) = ("vit.".to_string(), key.to_string());
    if let Some(block) = key.strip_prefix("blocks.") {
        let (index, inner) = block.split_once('.').unwrap();
        name += &format!("encoder.layer.{index}.");
        rest = inner.to_string();
    }
    for (ours, theirs) in [
        ("cls_token", "embeddings.cls_token"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
        ("norm1", "layernorm_before"),
        ("norm2", "layernorm_after"),
        ("attn.proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
        ("norm.", "layernorm."),
    ] {
        if let Some(tail) = rest.strip_prefix(ours) {
            return name + theirs + tail;
        }
    }
    rest.replace("head.", "classifier.")
}

#[test]
fn vision_transformers_agree_with_candle_transformers() {
    for (name, width, heads) in [("deit_tiny", 192, 3), ("deit_small", 384, 6)] {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 10, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let params = golden_weights(name, model.specs(), DType::F32);
        let mut tensors: HashMap<String, Tensor> = HashMap::new();
        for (key, tensor) in params.iter() {
            let Some((block, kind)) = key.split_once(".attn.qkv.") else {
                tensors.insert(hugging_face(key), tensor.clone());
                continue;
            };
            let index = block.strip_prefix("blocks.").unwrap();
            for (part, tensor) in ["query", "key", "value"].iter().zip(tensor.chunk(3, 0).unwrap()) {
                let name = format!("vit.encoder.layer.{index}.attention.attention.{part}.{kind}");
                tensors.insert(name, tensor);
            }
        }
        let config = vit::Config {
            hidden_size: width,
            num_hidden_layers: 12,
            num_attention_heads: heads,
            intermediate_size: 4 * width,
            hidden_act: candle_nn::Activation::Gelu,
            layer_norm_eps: 1e-6,
            image_size: 64,
            patch_size: 16,
            num_channels: 3,
            qkv_bias: true,
        };
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let other = vit::Model::new(&config, 10, builder).unwrap();
        let x = model_input(9, 2, 64, 64);
        let (ours, theirs) = (predict(&*model, &params, &x).unwrap(), other.forward(&x).unwrap());
        let off = max_difference(&numbers(&ours), &numbers(&theirs));
        assert!(off < 2e-5, "{name} is off by {off}");
    }
}

#[test]
fn convnexts_agree_with_candle_transformers() {
    // It reads timm's names: the export is under test too.
    for (name, config) in
        [("convnext_tiny", convnext::Config::tiny()), ("convnext_small", convnext::Config::small())]
    {
        let model = create_model(
            name,
            &ModelOptions { num_classes: 10, input_size: [64, 64], ..ModelOptions::default() },
        )
        .unwrap();
        let params = golden_weights(name, model.specs(), DType::F32);
        let tensors: HashMap<String, Tensor> =
            weights::export(&*model, &params).unwrap().into_iter().collect();
        let builder = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let other = convnext::convnext(&config, 10, builder).unwrap();
        let x = model_input(9, 2, 64, 64);
        let (ours, theirs) = (predict(&*model, &params, &x).unwrap(), other.forward_t(&x, false).unwrap());
        let off = max_difference(&numbers(&ours), &numbers(&theirs));
        assert!(off < 2e-5, "{name} is off by {off}");
    }
}
