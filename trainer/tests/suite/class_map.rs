//! Evaluation on a data set with other classes than the model's.

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use efficienttrain::config::TrainConfig;

fn evaluated(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&accepted(&[&["eval", "--json"], args].concat())).unwrap()
}

#[test]
fn a_map_names_the_model_s_classes_for_those_of_the_data_set() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 8);
    let config = TrainConfig { data: Some(data.clone()), epochs: 0.5, ..config("resnet10") };
    run(&config, options(&dir.path().join("run"), 2)).train(&mut ()).unwrap();
    let weights = dir.path().join("run/model.safetensors");
    let own = ["--weights", text(&weights)];
    // The same images under other names, by name and by number.
    let other = dir.path().join("other");
    for (class, name) in ["zebra", "yak", "ant"].into_iter().enumerate() {
        let to = other.join("val").join(name);
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(data.join(format!("val/class{class}"))).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    let map = dir.path().join("map.csv");
    std::fs::write(&map, "yak,class1\nzebra,class0\nant,2\nunused,7\n").unwrap();
    let mapped = [&own[..], &["--data", text(&other), "--map", text(&map)]].concat();
    let (plain, found) = (evaluated(&own), evaluated(&mapped));
    let note = efficienttrain(&[&["eval"][..], &mapped].concat()).stderr;
    assert!(
        String::from_utf8_lossy(&note)
            .contains("1 rows whose name is no class of the data set, such as `unused`")
    );
    assert_eq!((&plain["top1"], &plain["images"]), (&found["top1"], &found["images"]));
    let loss = |of: &serde_json::Value| of["loss"].as_f64().unwrap();
    assert!((loss(&plain) - loss(&found)).abs() < 1e-6, "{plain} {found}");
    // Two of the model's classes are one: every image of the third is told from them or not.
    std::fs::remove_dir_all(other.join("val/yak")).unwrap();
    std::fs::write(&map, "zebra,class0\nzebra,class1\nant,class2\n").unwrap();
    let classes = dir.path().join("classes.csv");
    let found = evaluated(&[&mapped[..], &["--per-class", text(&classes)]].concat());
    assert_eq!((found["images"].as_u64(), found["top5"].as_f64()), (Some(16), Some(1.0)));
    let table = std::fs::read_to_string(&classes).unwrap();
    assert!(table.contains("ant,8,") && table.contains("zebra,8,"), "{table}");

    std::fs::write(&map, "zebra,class0\n").unwrap();
    let said = efficienttrain(&[&["eval"][..], &mapped].concat());
    let message = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && message.contains("--map") && message.contains("`ant`"), "{message}");
    let said = efficienttrain(&["eval", "--weights", text(&weights), "--map", text(&map)]);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("--data"));
}
