//! Errors and likely mistakes in a plan are reported before the first step.

use crate::common::Rendered;
use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use efficienttrain::checkpoint::{Checkpoint, LAST};
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::experiments::compare::{Comparison, Contestant};
use efficienttrain::{Run, Sources};

fn small(change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
    let mut config = TrainConfig { recipe: "baseline".into(), synthetic_images: 40, ..config("resnet10") };
    change(&mut config);
    config
}

fn begun(config: &TrainConfig) -> efficienttrain::Result<Run> {
    Run::new(config.clone(), options(std::path::Path::new("unused"), 1), Sources::open(config).unwrap())
}

fn remarks(config: &TrainConfig) -> String {
    begun(config).unwrap().remarks().collect::<Vec<_>>().join("\n").rendered()
}

#[test]
fn a_batch_of_one_image_is_refused_where_a_batch_norm_sees_one_value() {
    let refused = |config: &TrainConfig| begun(config).unwrap_err().rendered();
    let one = |c: &mut TrainConfig| (c.batch, c.mixup, c.cutmix) = (1.into(), Some(0.0), Some(0.0));
    // The last feature map of ResNet has a 32nd of the image size: one pixel at 32, four at 64.
    for accumulation in [1, 4] {
        let said = refused(&small(|c| (one(c), c.accumulation = accumulation).0));
        for part in ["--batch", "32 x 32", "stage 1", "batch norm", "--accumulation"] {
            assert!(said.contains(part), "no `{part}` in {said}");
        }
    }
    let each = small(|c| (c.recipe, c.batch) = ("half-96".into(), "1,2".parse().unwrap()));
    assert!(refused(&each).contains("in stage 1"), "{}", refused(&each));
    let each = small(|c| (c.recipe, c.batch) = ("half-96".into(), "2,1".parse().unwrap()));
    assert!(refused(&each).contains("in stage 2"), "{}", refused(&each));
    // Batches with enough values for a variance, or models that need none, can be trained.
    let dir = tempfile::tempdir().unwrap();
    for config in [
        small(|c| (one(c), c.base_size = 64, c.epochs = 0.1).0),
        small(|c| (one(c), c.freeze = vec!["*bn?.*".into(), "*downsample.1.*".into()], c.epochs = 0.1).0),
        small(|c| (one(c), c.model = Some("deit_tiny".into()), c.epochs = 0.1).0),
    ] {
        let stopped = RunOptions { stop_after: Some(1), ..options(dir.path(), 1) };
        run(&config, stopped).train(&mut ()).unwrap();
    }
    // A comparison reports it before it trains the first of its runs.
    let contestants = [small(|_| ()), small(one)];
    let contestants =
        contestants.into_iter().enumerate().map(|(i, config)| Contestant { name: format!("run{i}"), config });
    let sources = Sources::open(&small(|_| ())).unwrap();
    let comparison = Comparison::new(contestants.collect(), vec![0], options(dir.path(), 1), sources);
    assert!(comparison.unwrap_err().rendered().contains("--batch"));
}

#[test]
fn a_warm_up_without_an_end_is_said_at_the_start_and_in_a_dry_run() {
    let warm = |epochs: f64, warmup: &str| {
        remarks(&small(|c| (c.epochs, c.warmup) = (epochs, Some(warmup.parse().unwrap()))))
    };
    // 40 images in batches of 8: five steps per epoch.
    let said = warm(0.2, "5%");
    assert!(said.contains("warning: the run has a single step") && said.contains("--warmup"), "{said}");
    let said = warm(2.0, "500st");
    assert!(said.contains("warning: the warm-up takes all 10 steps") && said.contains("1.00e-3"), "{said}");
    assert!(warm(2.0, "20ep").contains("takes all 10 steps"));
    assert!(warm(2.0, "100%").contains("takes all 10 steps"));
    for (epochs, warmup) in [(0.2, "0st"), (2.0, "5%"), (2.0, "9st"), (2.0, "1ep")] {
        assert_eq!(warm(epochs, warmup), "", "{epochs} {warmup}");
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let args = ["train", "--model", "resnet10", "--recipe", "baseline", "--base-size", "32", "--batch", "8"];
    let more = ["--synthetic-images", "8", "--epochs", "1", "--workers", "1", "--out", text(&out)];
    let args = [&args[..], &more].concat();
    let dry = accepted(&[&args[..], &["--dry-run"]].concat());
    assert!(dry.contains("warning: the run has a single step"), "{dry}");
    let said = String::from_utf8(efficienttrain(&args).stderr).unwrap();
    assert!(said.contains("warning: the run has a single step"), "{said}");
    let page = dir.path().join("page.html");
    accepted(&["report", text(&out), "--out", text(&page)]);
    assert!(std::fs::read_to_string(page).unwrap().contains("the run has a single step"));
}

#[test]
fn mixing_of_images_without_a_partner_is_said() {
    let mixed = |batch: &str, mixup: f64, cutmix: f64| {
        let model = Some("deit_tiny".into());
        let (mixup, cutmix, batch) = (Some(mixup), Some(cutmix), batch.parse().unwrap());
        remarks(&TrainConfig { model, mixup, cutmix, batch, recipe: "half-96".into(), ..small(|_| ()) })
    };
    for (mixup, cutmix) in [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)] {
        let said = mixed("1", mixup, cutmix);
        assert!(
            said.contains("in stages 1, 2 a micro-batch has one image") && said.contains("--batch"),
            "{said}"
        );
        let said = mixed("8,1", mixup, cutmix);
        assert!(said.contains("in stages 2 a micro-batch has one image"), "{said}");
        let said = mixed("3,8", mixup, cutmix);
        assert!(said.contains("in stages 1 their number is odd"), "{said}");
        assert_eq!(mixed("8", mixup, cutmix), "");
    }
    assert_eq!(mixed("1", 0.0, 0.0), "");
}

#[test]
fn images_that_moved_under_a_run_are_said_when_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 6);
    let config = small(|c| (c.data, c.batch) = (Some(data.clone()), 4.into()));
    let out = dir.path().join("run");
    run(&config, RunOptions { stop_after: Some(1), ..options(&out, 1) }).train(&mut ()).unwrap();
    let resumed = |data: &std::path::Path| {
        let saved = Checkpoint::open(&out.join(LAST)).unwrap();
        let config = TrainConfig { data: Some(data.into()), ..config.clone() };
        let sources = Sources::open(&config).unwrap();
        let run = Run::resume_as(&saved, config, options(&out, 1), sources).unwrap();
        run.remarks().collect::<Vec<_>>().join("\n")
    };
    assert_eq!(resumed(&data), "");
    // The whole folder may be moved.
    let moved = dir.path().join("moved/to here");
    std::fs::create_dir_all(moved.parent().unwrap()).unwrap();
    std::fs::rename(&data, &moved).unwrap();
    assert_eq!(resumed(&moved), "");
    // Two classes exchange an image, so the counts are as before.
    let path = |class: &str, name: &str| moved.join("train").join(class).join(name);
    std::fs::rename(path("class0", "000.jpg"), path("class1", "aaa.jpg")).unwrap();
    std::fs::rename(path("class1", "000.jpg"), path("class0", "bbb.jpg")).unwrap();
    let said = resumed(&moved);
    assert!(said.contains("warning: the training images are not those"), "{said}");
    assert!(said.contains("`class0` has 6 images with other names") && said.contains("`class1`"), "{said}");
    assert!(!said.contains("class2"), "{said}");
    // One class gives an image to another.
    std::fs::rename(path("class2", "000.jpg"), path("class1", "ccc.jpg")).unwrap();
    let said = resumed(&moved);
    assert!(said.contains("`class2` had 6 images and now has 5"), "{said}");
    assert!(said.contains("`class1` had 6 images and now has 7"), "{said}");
}
