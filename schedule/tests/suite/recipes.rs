//! Names, presets, and fitting a recipe to another base size.

use efficienttrain_schedule::{
    Curriculum, DropPath, Magnitude, Order, Origin, Plan, PlanOptions, Preset, Recipe, Rounding,
    ScheduleError, ShareUnit,
};

fn sizes(recipe: &Recipe) -> Vec<u32> {
    recipe.curriculum.stages.iter().map(|stage| stage.size).collect()
}

#[test]
fn every_listed_recipe_is_found_and_valid() {
    let names: Vec<String> = Recipe::names().collect();
    assert_eq!(names.len(), 39 * 7 + 4);
    for name in names {
        let recipe = Recipe::named(&name).unwrap();
        recipe.validate().unwrap();
        assert_eq!(recipe.name, name);
        let json = serde_json::to_string_pretty(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        let json = serde_json::to_string(&recipe.curriculum).unwrap();
        assert_eq!(serde_json::from_str::<Curriculum>(&json).unwrap(), recipe.curriculum);
    }
}

#[test]
fn the_recipe_for_short_runs_has_two_sizes_and_no_augmentation_but_crop_and_flip() {
    for (model, sizes) in [("resnet18", [48, 64]), ("deit-tiny", [48, 64]), ("convnext-tiny", [48, 64])] {
        let recipe = Recipe::named(&format!("{model}-short")).unwrap();
        let stages = recipe.at_base_size(64, 16).unwrap().curriculum.stages;
        assert_eq!(stages.iter().map(|stage| stage.size).collect::<Vec<_>>(), sizes, "{model}");
        assert_eq!(stages.iter().map(|stage| stage.share).collect::<Vec<_>>(), [0.6, 0.4]);
        let recipe = Recipe::named(&format!("{model}-short")).unwrap();
        let a = recipe.augmentation;
        assert_eq!((a.ops, a.erasing, a.mixup, a.cutmix, a.flip), (0, 0.0, 0.0, 0.0, 0.5));
        assert_eq!(a.policy(9.0), "none");
    }
}

#[test]
fn spellings() {
    let pairs = [
        ("deit_small_patch16_224", "deit-small-etpp"),
        ("DeiT-S-et++", "deit-small-etpp"),
        ("deit_small_patch16_224_et_pp", "deit-small-etpp"),
        ("CSWin_96_24322_base_224-etpp", "cswin-base-etpp"),
        ("swin_tiny_patch4_window7_224_none", "swin-tiny-baseline"),
        ("ResNet-50_ET", "resnet50-et"),
        ("resnet50-none", "resnet50-baseline"),
        ("convnext_base-efficienttrain++", "convnext-base-etpp"),
        ("res50-etpp-replay", "resnet50-etpp-replay"),
        (" resnet18-etpp ", "resnet18-etpp"),
    ];
    for (spelling, name) in pairs {
        assert_eq!(Recipe::named(spelling).unwrap().name, name, "{spelling}");
    }
}

#[test]
fn unknown_names_suggest_the_nearest() {
    let pairs = [
        ("deit-smal-etpp", "deit-small-etpp"),
        ("resnt50-et", "resnet50-et"),
        ("swin-base-etpp-replay", "swin-base-etpp"),
        ("convnet-tiny-baseline", "convnext-tiny-baseline"),
    ];
    for (typo, nearest) in pairs {
        let expected = ScheduleError::UnknownRecipe { name: typo.to_owned(), nearest: nearest.to_owned() };
        assert_eq!(Recipe::named(typo).unwrap_err(), expected);
    }
    assert!(Recipe::named("").is_err());
    assert!(Recipe::named("-etpp").is_err());
    assert!(Recipe::preset("swin-base", Preset::EtppReplay).is_err());
}

#[test]
fn first_version_is_five_stages_of_epochs() {
    let recipe = Recipe::named("deit-tiny-et").unwrap();
    assert_eq!(
        (sizes(&recipe), recipe.curriculum.share_of),
        (vec![160, 160, 160, 192, 224], ShareUnit::Epochs)
    );
    assert_eq!(recipe.origin, Origin::AuthorsLauncher);
    // 300 epochs: 180 at 160, 60 at 192, 60 at 224, on one cosine.
    let options = PlanOptions::new(300.0, 1_281_167, 8).with_rounding(Rounding::Reference);
    let plan = Plan::new(&recipe, options).unwrap();
    let epochs: Vec<f64> = plan.stages().iter().map(|stage| stage.epochs).collect();
    assert_eq!(epochs, [60.0; 5]);
    let expected = 180.0 * (160.0f64 / 224.0).powi(2) + 60.0 * (192.0f64 / 224.0).powi(2) + 60.0;
    assert!((plan.equivalent_epochs() - expected).abs() < 1e-9);
    let starts: Vec<u64> =
        plan.stages().iter().map(|stage| stage.reference.as_ref().unwrap().start_epoch).collect();
    assert_eq!(starts, [0, 60, 120, 180, 240]);
    // Exact: the same passes for the same compute.
    let exact = Plan::new(&recipe, PlanOptions::new(expected, 1_281_167, 8)).unwrap();
    for stage in exact.stages() {
        assert!((stage.epochs - 60.0).abs() < 2.0 * 4096.0 / 1_281_167.0 * 2.0);
    }
}

#[test]
fn baseline_is_full_size_throughout() {
    let recipe = Recipe::named("swin-small-baseline").unwrap();
    assert_eq!((sizes(&recipe), recipe.curriculum.stages[0].magnitude), (vec![224], Magnitude::Fixed(9.0)));
    assert_eq!(recipe.drop_path, DropPath::Constant(0.3));
    let plan = Plan::new(&recipe, PlanOptions::new(300.0, 1_281_167, 8)).unwrap();
    assert_eq!(plan.total_steps(), (300.0f64 * 1_281_167.0 / 4096.0).round() as u64);
}

#[test]
fn sizes_alone_change_in_the_simpler_curricula() {
    let baseline = Recipe::named("swin-tiny-baseline").unwrap();
    let cases: [(&str, &[u32], Origin); 3] = [
        ("swin-tiny-half-96", &[96, 224], Origin::Paper),
        ("Swin_Tiny-half_128", &[128, 224], Origin::Paper),
        ("swin-tiny-progressive", &[96, 128, 160, 192, 224], Origin::Ours),
    ];
    for (name, expected, origin) in cases {
        let recipe = Recipe::named(name).unwrap();
        assert_eq!((sizes(&recipe).as_slice(), recipe.origin), (expected, origin));
        assert_eq!(recipe.curriculum.share_of, ShareUnit::Epochs);
        assert!(recipe.curriculum.stages.iter().all(|stage| stage.magnitude == Magnitude::Fixed(9.0)));
        assert_eq!((&recipe.optimizer, recipe.drop_path), (&baseline.optimizer, baseline.drop_path));
        // 300 passes: each size has as many.
        let cost: f64 = expected.iter().map(|&s| (f64::from(s) / 224.0).powi(2)).sum();
        let options = PlanOptions::new(300.0 * cost / expected.len() as f64, 1_281_167, 8);
        for stage in Plan::new(&recipe, options).unwrap().stages() {
            assert!((stage.epochs - 300.0 / expected.len() as f64).abs() < 0.03, "{}", stage.epochs);
        }
    }
    assert_eq!(Recipe::named("resnet50-half-96").unwrap().origin, Origin::Ours);
}

#[test]
fn other_base_sizes_keep_the_ratios() {
    let recipe = Recipe::named("resnet18-etpp").unwrap().at_base_size(128, 2).unwrap();
    // 96/224*128 = 54.86, 160/224*128 = 91.43
    assert_eq!(sizes(&recipe), [54, 54, 92, 92, 92, 92, 128, 128, 128, 128]);
    let recipe = Recipe::named("deit-small-etpp").unwrap().at_base_size(64, 16).unwrap();
    // 27.4, 45.7, 54.9, 64
    assert_eq!(sizes(&recipe), [32, 32, 48, 48, 48, 48, 48, 48, 64, 64]);
    let tiny = Recipe::named("resnet18-etpp").unwrap().at_base_size(32, 32).unwrap();
    assert_eq!(sizes(&tiny), [32; 10]);
    let error = Recipe::named("deit-small-etpp").unwrap().at_base_size(100, 16).unwrap_err();
    assert!(error.to_string().starts_with("base_size: expected a multiple of 16, got 100"), "{error}");
}

#[test]
fn other_numbers_of_stages() {
    let recipe = Recipe::named("resnet50-etpp").unwrap().with_stages(5, 0.0, 8.0).unwrap();
    assert_eq!(sizes(&recipe), [96, 160, 160, 224, 224]);
    let magnitudes: Vec<f64> = recipe.curriculum.stages.iter().map(|stage| stage.magnitude.mean()).collect();
    assert_eq!(magnitudes, [0.0, 2.0, 4.0, 6.0, 8.0]);
    let many = Recipe::named("deit-small-etpp").unwrap().with_stages(30, 0.0, 9.0).unwrap();
    assert_eq!(sizes(&many).iter().filter(|&&size| size == 192).count(), 6);
}

#[test]
fn order_is_an_option() {
    let recipe = Recipe::named("resnet50-etpp").unwrap();
    let plan =
        |recipe: &Recipe| Plan::new(recipe, PlanOptions::new(10.0, 50_000, 1)).unwrap().at(0).unwrap().order;
    assert_eq!(plan(&recipe), Order::CropThenAugment);
    assert_eq!(plan(&recipe.with_order(Order::AugmentThenCrop)), Order::AugmentThenCrop);
}

/// A recipe as an earlier version stored it.
fn earlier(recipe: &Recipe) -> String {
    let mut json = serde_json::to_value(recipe).unwrap();
    let fields = json.as_object_mut().unwrap();
    let optimizer = fields.remove("optimizer").unwrap();
    fields.insert("optimiser".into(), optimizer);
    fields.insert("model".into(), recipe.model.replace('_', "-").into());
    fields.insert("amp".into(), true.into());
    fields.insert("layer_scale".into(), 1e-6.into());
    json.to_string()
}

#[test]
fn recipes_of_earlier_versions_are_read() {
    for name in Recipe::names() {
        let recipe = Recipe::named(&name).unwrap();
        assert_eq!(Recipe::from_json(&earlier(&recipe)).unwrap(), recipe);
    }
    // A name that is not in the catalog belongs to a user and is kept.
    let mut own = Recipe::named("resnet18-etpp").unwrap();
    own.model = "my-net_2".into();
    assert_eq!(Recipe::from_json(&own.to_json().unwrap()).unwrap(), own);
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest() {
    let text = Recipe::named("deit-small-etpp").unwrap().to_json().unwrap();
    let cases = [
        ("\"ema_decay\"", "\"ema\"", "unknown field `ema` (did you mean `ema_decay`?)"),
        ("\"batch_per_device\"", "\"batch\"", "unknown field `batch` (did you mean `batch_per_device`?)"),
        ("\"weight_decay\"", "\"wieght_decay\"", "(did you mean `weight_decay`?)"),
        ("\"buffer_batches\"", "\"buffer\"", "(did you mean `buffer_batches`?)"),
        ("\"mixup\"", "\"mix_up\"", "(did you mean `mixup`?)"),
        ("\"share_of\"", "\"shares_of\"", "(did you mean `share_of`?)"),
        // Closest to the spelling of earlier versions, which is accepted but never suggested.
        ("\"optimizer\"", "\"optimisr\"", "unknown field `optimisr` (did you mean `optimizer`?)"),
    ];
    for (key, typo, expected) in cases {
        let error = Recipe::from_json(&text.replacen(key, typo, 1)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("at line "), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }
}
