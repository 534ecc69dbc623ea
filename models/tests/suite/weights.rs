//! Weights of a file and of a model: names and shapes are brought together, and what differs is
//! named or adapted.

use crate::common::{golden_weights, model_input, numbers};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{
    LoadOptions, ReadOptions, Report, Tensors, export, load_into, num_classes, read, save,
};
use efficienttrain_models::{Backbone, Error, ModelOptions, ParamStore, create_model, ops, predict};

fn model(name: &str, classes: usize, edge: usize) -> Box<dyn Backbone> {
    create_model(
        name,
        &ModelOptions { num_classes: classes, input_size: [edge, edge], ..ModelOptions::default() },
    )
    .unwrap()
}

fn init(model: &dyn Backbone, seed: u64) -> ParamStore {
    ParamStore::init(model.specs(), seed, DType::F32, &Device::Cpu).unwrap()
}

fn named(params: &ParamStore) -> Tensors {
    params.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
}

fn load(
    model: &dyn Backbone,
    tensors: &Tensors,
    options: LoadOptions,
) -> Result<(Report, ParamStore), Error> {
    let mut params = init(model, 7);
    let report = load_into(model, &mut params, tensors, &options)?;
    Ok((report, params))
}

const STRICT: LoadOptions = LoadOptions {
    strict: true,
    ignore_unexpected: false,
    adapt_head: false,
    adapt_input_channels: false,
    adapt_size: false,
};

const ADAPT_ALL: LoadOptions =
    LoadOptions { adapt_head: true, adapt_input_channels: true, adapt_size: true, ..STRICT };

/// One model of each structure, and a key as timm (or, for the last two, the authors) spells it.
const MODELS: [(&str, &str); 9] = [
    ("resnet10", "layer1.0.conv1.weight"),
    ("deit_tiny", "blocks.0.attn.qkv.weight"),
    ("deit_tiny_distilled", "head_dist.weight"),
    ("swin_tiny", "layers.3.downsample.reduction.weight"),
    ("convnext_tiny", "stages.1.blocks.0.conv_dw.weight"),
    ("caformer_s18", "stages.2.blocks.0.token_mixer.qkv.weight"),
    ("convformer_s18", "stages.2.blocks.0.token_mixer.pwconv1.weight"),
    ("cswin_tiny", "stage1.0.attns.0.get_v.weight"),
    ("pvt_tiny", "block1.0.attn.sr.weight"),
];

#[test]
fn exported_weights_come_back_bitwise() {
    for (name, key) in MODELS {
        let model = model(name, 5, 32);
        let params = golden_weights(name, model.specs(), DType::F32);
        let path =
            std::env::temp_dir().join(format!("efficienttrain-{name}-{}.safetensors", std::process::id()));
        save(&path, &*model, &params).unwrap();
        let found = read(&path, &ReadOptions::default()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.tensors.len(), params.len());
        assert!(found.tensors.contains_key(key), "{name}: {key}");
        let probe = create_model(name, &ModelOptions { num_classes: 1, ..ModelOptions::default() }).unwrap();
        assert_eq!(num_classes(&*probe, &found.tensors), Some(5), "{name}");
        // This crate's own names are those of the authors.
        for tensors in [found.tensors, named(&params)] {
            let (report, back) = load(&*model, &tensors, STRICT).unwrap();
            assert_eq!(report.loaded.len(), params.len());
            for ((key, a), (_, b)) in params.iter().zip(back.iter()) {
                assert_eq!(a.dims(), b.dims(), "{name}: {key}");
                assert_eq!(numbers(a), numbers(b), "{name}: {key}");
            }
        }
    }
    let (small, large) = (model("resnet10", 5, 32), model("resnet18", 5, 32));
    let message = export(&*large, &init(&*small, 0)).unwrap_err().to_string();
    assert!(message.contains("resnet18") && message.contains("`layer1.1.conv1.weight`"), "{message}");
}

#[test]
fn the_spelling_and_the_shapes_of_a_file_are_recognized() {
    for (name, other, reshaped) in [
        ("swin_tiny", "timm's", 0),
        ("convnext_tiny", "timm's", 0),
        // Twelve blocks with two linear layers, which are 1x1 convolutions in timm.
        ("convnext_atto", "timm's", 24),
        ("caformer_s18", "timm's", 24),
    ] {
        let model = model(name, 5, 32);
        let params = init(&*model, 3);
        let exported = export(&*model, &params).unwrap().into_iter().collect();
        let (report, _) = load(&*model, &exported, STRICT).unwrap();
        assert_eq!((report.spelling, report.reshaped.len()), (other, reshaped), "{name}");
        let (report, _) = load(&*model, &named(&params), STRICT).unwrap();
        assert_eq!((report.spelling, report.reshaped.len()), ("the authors'", 0), "{name}");
    }
}

#[test]
fn torchvision_names_are_recognized() {
    let model = model("deit_tiny", 5, 32);
    let params = golden_weights("deit_tiny", model.specs(), DType::F32);
    let rename = |name: &str| {
        let name = name.replace("patch_embed.proj", "conv_proj").replace("cls_token", "class_token");
        let name = name
            .replace("pos_embed", "encoder.pos_embedding")
            .replace("attn.qkv.", "self_attention.in_proj_");
        let name =
            name.replace("attn.proj", "self_attention.out_proj").replace("fc1", "0").replace("fc2", "3");
        let name = name.replace("norm1", "ln_1").replace("norm2", "ln_2").replace("head", "heads.head");
        let name = name.replace("blocks.", "encoder.layers.encoder_layer_");
        if name.starts_with("norm.") { name.replace("norm.", "encoder.ln.") } else { name }
    };
    let renamed = named(&params).into_iter().map(|(name, t)| (rename(&name), t)).collect();
    let (report, back) = load(&*model, &renamed, STRICT).unwrap();
    assert_eq!(report.spelling, "torchvision's");
    assert_eq!(report.loaded[4], "encoder.layers.encoder_layer_0.ln_1.weight");
    for ((key, a), (_, b)) in params.iter().zip(back.iter()) {
        assert_eq!(numbers(a), numbers(b), "{key}");
    }
}

#[test]
fn every_difference_is_named_and_nothing_is_changed() {
    let model = model("deit_tiny", 5, 32);
    let params = init(&*model, 1);
    let mut tensors = named(&params);
    tensors.insert(
        "blocks.0.attn.relative_position_index".into(),
        Tensor::zeros(4, DType::I64, &Device::Cpu).unwrap(),
    );
    let (report, _) = load(&*model, &tensors, STRICT).unwrap();
    assert_eq!(report.computed, ["blocks.0.attn.relative_position_index"]);
    assert_eq!((report.missing.len(), report.unexpected.len(), report.reshaped.len()), (0, 0, 0));

    tensors.insert("extra.bias".into(), Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap());
    tensors.shift_remove("norm.bias");
    let class = tensors["cls_token"].reshape((192,)).unwrap();
    tensors.insert("cls_token".into(), class);
    let message = load(&*model, &tensors, STRICT).unwrap_err().to_string();
    for part in ["deit_tiny", "missing `norm.bias`", "unexpected `extra.bias`"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("cls_token"), "{message}");
    let (report, loaded) = load(&*model, &tensors, LoadOptions { strict: false, ..STRICT }).unwrap();
    assert_eq!(report.missing, ["norm.bias"]);
    assert_eq!(report.unexpected, ["extra.bias"]);
    assert_eq!(report.reshaped, ["cls_token"]);
    assert_eq!(loaded.by_name("cls_token").unwrap().dims(), [1, 1, 192]);
    let line = report.to_string();
    assert!(line.contains("1 missing: norm.bias") && line.contains("1 unexpected: extra.bias"), "{line}");

    // A wrong shape is an error in any case, and leaves everything as it was.
    tensors.insert("norm.weight".into(), Tensor::zeros(191, DType::F32, &Device::Cpu).unwrap());
    let mut untouched = init(&*model, 9);
    let lax = LoadOptions { strict: false, ..STRICT };
    let message = load_into(&*model, &mut untouched, &tensors, &lax).unwrap_err().to_string();
    assert!(message.contains("`norm.weight` has shape [191], expected [192]"), "{message}");
    let fresh = init(&*model, 9);
    for ((key, a), (_, b)) in untouched.iter().zip(fresh.iter()) {
        assert_eq!(numbers(a), numbers(b), "{key}");
    }
}

/// Files come with keys of profilers, decoders and the like; keys of further blocks are those of a
/// deeper model.
#[test]
fn keys_that_the_model_does_not_need_can_be_left_out() {
    let lenient = LoadOptions { ignore_unexpected: true, ..STRICT };
    let shallow = model("resnet10", 4, 32);
    let mut tensors = named(&init(&*shallow, 1));
    for key in ["total_ops", "layer1.0.total_params", "decoder.0.weight"] {
        tensors.insert(key.into(), Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap());
    }
    let (report, loaded) = load(&*shallow, &tensors, lenient).unwrap();
    assert_eq!(report.unexpected, ["total_ops", "layer1.0.total_params", "decoder.0.weight"]);
    let (ours, theirs) = (loaded.by_name("conv1.weight").unwrap(), &tensors["conv1.weight"]);
    assert_eq!(numbers(ours), numbers(theirs));

    let deep = named(&init(&*model("resnet18", 4, 32), 1));
    let message = load(&*shallow, &deep, lenient).unwrap_err().to_string();
    assert!(message.contains("unexpected `layer1.1.conv1.weight`"), "{message}");
}

#[test]
fn what_is_loaded_has_memory_of_its_own() {
    let model = model("resnet10", 5, 32);
    let tensors = named(&init(&*model, 1));
    let (_, params) = load(&*model, &tensors, STRICT).unwrap();
    let weight = params.by_name("conv1.weight").unwrap();
    let before = numbers(weight);
    ops::blend(weight, &weight.zeros_like().unwrap(), 0.5).unwrap();
    assert_ne!(numbers(weight), before);
    assert_eq!(numbers(&tensors["conv1.weight"]), before);
}

#[test]
fn a_head_for_other_classes_is_kept_on_request() {
    let (from, to) = (model("resnet10", 5, 32), model("resnet10", 3, 32));
    let mut tensors = named(&init(&*from, 1));
    let message = load(&*to, &tensors, STRICT).unwrap_err().to_string();
    assert!(message.contains("`fc.weight` has shape [5, 512], expected [3, 512]"), "{message}");
    assert!(message.contains("`fc.bias` has shape [5], expected [3]"), "{message}");
    let adapt = LoadOptions { adapt_head: true, ..STRICT };
    for _ in 0..2 {
        let (report, params) = load(&*to, &tensors, adapt).unwrap();
        assert_eq!(report.reinitialized, ["fc.weight", "fc.bias"]);
        let (conv, head) = (params.by_name("conv1.weight").unwrap(), params.by_name("fc.weight").unwrap());
        assert_eq!(numbers(conv), numbers(&tensors["conv1.weight"]));
        assert_eq!(numbers(head), numbers(init(&*to, 7).by_name("fc.weight").unwrap()));
        // The same if the file has features alone.
        tensors.retain(|name, _| !name.starts_with("fc."));
        assert_eq!(num_classes(&*to, &tensors), None);
    }
    let (report, _) = load(&*from, &named(&init(&*from, 1)), adapt).unwrap();
    assert!(report.reinitialized.is_empty(), "a head that fits is loaded");
}

#[test]
fn other_image_channels_are_adapted_on_request() {
    let model = model("resnet10", 3, 32);
    let mut tensors = named(&init(&*model, 1));
    let gray = tensors["conv1.weight"].sum_keepdim(1).unwrap();
    tensors.insert("conv1.weight".into(), gray.clone());
    let message = load(&*model, &tensors, STRICT).unwrap_err().to_string();
    assert!(message.contains("`conv1.weight` has shape [64, 1, 7, 7], expected [64, 3, 7, 7]"), "{message}");
    let (report, params) =
        load(&*model, &tensors, LoadOptions { adapt_input_channels: true, ..STRICT }).unwrap();
    assert_eq!(report.adapted, ["conv1.weight"]);
    let sum = params.by_name("conv1.weight").unwrap().sum_keepdim(1).unwrap();
    assert!(
        crate::common::max_difference(&numbers(&sum), &numbers(&gray)) < 1e-6,
        "a gray image gives what it gave"
    );
}

#[test]
fn positions_of_another_size_are_resampled_on_request() {
    for (name, key, shapes) in [
        ("deit_tiny", "pos_embed", ["[1, 17, 192]", "[1, 37, 192]"]),
        ("deit_tiny_distilled", "pos_embed", ["[1, 18, 192]", "[1, 38, 192]"]),
        ("swin_tiny", "layers.0.blocks.0.attn.relative_position_bias_table", ["[9, 3]", "[25, 3]"]),
        ("pvt_tiny", "pos_embed1", ["[1, 256, 64]", "[1, 576, 64]"]),
    ] {
        let (from, to) = (model(name, 3, 64), model(name, 3, 96));
        let mut params = golden_weights(name, from.specs(), DType::F32);
        let tensors = named(&params);
        let message = load(&*to, &tensors, STRICT).unwrap_err().to_string();
        let part = format!("`{key}` has shape {}, expected {}", shapes[0], shapes[1]);
        assert!(message.contains(&part) && message.contains("`adapt_size`"), "{message}");

        let (report, loaded) = load(&*to, &tensors, LoadOptions { adapt_size: true, ..STRICT }).unwrap();
        let (_, changes) = from.at_size([96, 96]).unwrap();
        assert_eq!(report.adapted.len(), changes.len(), "{name}");
        for change in changes {
            change.apply_in(&mut params).unwrap();
        }
        for ((key, a), (_, b)) in params.iter().zip(loaded.iter()) {
            assert_eq!(numbers(a), numbers(b), "{name}: {key}");
        }
    }
}

#[test]
fn positions_of_no_size_are_an_error_that_names_them() {
    let model = model("deit_tiny", 3, 96);
    let mut tensors = named(&init(&*model, 1));
    tensors.insert("pos_embed".into(), Tensor::zeros((1, 18, 192), DType::F32, &Device::Cpu).unwrap());
    let all = LoadOptions { strict: false, ..ADAPT_ALL };
    let message = load(&*model, &tensors, all).unwrap_err().to_string();
    assert!(message.contains("`pos_embed` has shape [1, 18, 192], expected [1, 37, 192]"), "{message}");
}

#[test]
fn size_channels_and_classes_adapt_together() {
    let (from, to) = (model("swin_tiny", 4, 64), model("swin_tiny", 3, 96));
    let mut tensors = named(&init(&*from, 1));
    let four = Tensor::cat(
        &[&tensors["patch_embed.proj.weight"], &tensors["patch_embed.proj.weight"].narrow(1, 0, 1).unwrap()],
        1,
    )
    .unwrap();
    tensors.insert("patch_embed.proj.weight".into(), four);
    let all = ADAPT_ALL;
    let (report, params) = load(&*to, &tensors, all).unwrap();
    assert_eq!(report.reinitialized, ["head.weight", "head.bias"]);
    assert_eq!(report.adapted.len(), 1 + 12);
    assert_eq!(predict(&*to, &params, &model_input(1, 1, 96, 96)).unwrap().dims(), [1, 3]);
}

#[test]
fn both_heads_of_a_distilled_model_are_kept_or_loaded_together() {
    let (from, to) = (model("deit_tiny_distilled", 5, 32), model("deit_tiny_distilled", 3, 32));
    let (report, _) =
        load(&*to, &named(&init(&*from, 1)), LoadOptions { adapt_head: true, ..STRICT }).unwrap();
    assert_eq!(report.reinitialized, ["head.weight", "head.bias", "head_dist.weight", "head_dist.bias"]);
}
