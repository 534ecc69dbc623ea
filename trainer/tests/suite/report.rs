//! Report of a run: it is self-contained, shows the log, and lists problems.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, options, run};
use efficienttrain::observe::log;
use efficienttrain::observe::report::{RunLog, Shown, StageImages, write};
use efficienttrain::{Run, Sources};

fn trained(out: &Path, change: impl FnOnce(&mut efficienttrain::config::TrainConfig)) -> Run {
    let mut config = config("resnet10");
    change(&mut config);
    let mut run = run(&config, options(out, 2));
    let mut logs = log::open(run.config(), run.options(), 0).unwrap();
    run.train(&mut logs).unwrap();
    run
}

/// Checks that nothing is loaded from elsewhere, and that all elements are closed.
fn stands_alone(page: &str) {
    let namespace = "http://www.w3.org/2000/svg";
    for other in ["http", "<script", "<link", "@import", "url(", "src=\"/"] {
        assert!(!page.replace(namespace, "").contains(other), "the page has {other}");
    }
    for tag in ["section", "table", "figure", "svg", "details", "div", "p", "tr", "td", "body"] {
        let count = |text: &str| page.matches(text).count();
        let open = count(&format!("<{tag}>")) + count(&format!("<{tag} ")) + count(&format!("<{tag}\n"));
        assert_eq!(open, count(&format!("</{tag}>")), "{tag}");
    }
}

#[test]
fn a_run_and_a_comparison_as_pages() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two & <more>"));
    let run = trained(&one, |_| ());
    trained(&two, |config| (config.recipe, config.seed) = ("baseline".into(), 8));
    let page = |name: &str, runs: &[&Path]| {
        let out = dir.path().join(name);
        let runs: Vec<&str> = runs.iter().map(|path| text(path)).collect();
        accepted(&[&["report"], &runs[..], &["--out", text(&out)]].concat());
        std::fs::read_to_string(out).unwrap()
    };
    let single = page("one.html", &[&one]);
    stands_alone(&single);
    let last = run.history.last().unwrap();
    assert!(single.contains(&format!("<td class=n>{:.1}%</td>", 100.0 * last.top1)));
    // Six charts over three axes, each with its axis labels.
    assert_eq!(single.matches("<svg").count(), 18);
    for axis in ["compute, in compute epochs", "passes over the data", "wall time, in minutes"] {
        assert!(single.matches(axis).count() >= 6, "{axis}");
    }
    // Three images for each stage.
    assert_eq!(single.matches("data:image/png;base64,").count(), 3 * run.plan().stages().len());
    assert!(single.contains("stage 1: B = ") && single.contains("B = 32, m = 9.0"));
    assert!(single.contains("model = &quot;resnet10&quot;"));

    let both = page("both.html", &[&one, &two]);
    stands_alone(&both);
    assert!(both.contains("two &amp; &lt;more&gt;") && !both.contains("<more>"));
    for (key, ours, theirs) in [("recipe", "etpp", "baseline"), ("seed", "7", "8")] {
        let quoted =
            |value: &str| if key == "seed" { value.to_string() } else { format!("&quot;{value}&quot;") };
        let row = format!("<tr><td>{key}</td><td>{}</td><td>{}</td></tr>", quoted(ours), quoted(theirs));
        assert!(both.contains(&row), "{key}");
    }
    // The first evaluation at or above the baseline's final accuracy.
    assert!(!single.contains("Time to accuracy"));
    assert!(both.contains("Time to accuracy") && both.contains("the final accuracy of resnet10-baseline"));
    let (ours, theirs) = (RunLog::read(&one).unwrap(), RunLog::read(&two).unwrap());
    let target = theirs.evals.last().unwrap().score();
    for log in [&ours, &theirs] {
        let reached = log.evals.iter().find(|eval| eval.score() >= target);
        let minutes = reached.map_or("not reached".into(), |eval| format!("{:.2}", eval.seconds / 60.0));
        let row = format!("<td class=n>{:.1}%</td><td class=n>{minutes}</td>", 100.0 * target);
        assert!(both.contains(&row), "{row}");
    }
    let given = dir.path().join("given.html");
    accepted(&["report", text(&one), "--target", "0", "--out", text(&given)]);
    let given = std::fs::read_to_string(given).unwrap();
    let first = format!("<td class=n>0.0%</td><td class=n>{:.2}</td>", ours.evals[0].seconds / 60.0);
    assert!(given.contains("the given accuracy") && given.contains(&first));
    assert!(!both.contains("<td>batch</td>"), "a key with one value stands among the differing ones");
}

#[test]
fn images_are_those_of_the_stages() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path(), |_| ());
    let log = RunLog::read(dir.path()).unwrap();
    let source = Sources::open(&log.config).unwrap().train;
    let stages = StageImages::draw(&log, &*source, 2).unwrap();
    assert_eq!(stages.len(), run.plan().stages().len());
    for (stage, planned) in stages.iter().zip(run.plan().stages()) {
        assert_eq!((stage.size, stage.png.len()), (planned.size, 2));
        for png in &stage.png {
            let image = image::load_from_memory(png).unwrap();
            assert_eq!((image.width(), image.height()), (planned.size, planned.size));
        }
    }
}

#[test]
fn what_cannot_be_shown_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let data = crate::common::image_folder(&dir.path().join("data"), 2, 8);
    trained(&out, |config| config.data = Some(data.clone()));
    let moved = dir.path().join("moved");
    std::fs::rename(&data, &moved).unwrap();
    let page = dir.path().join("page.html");
    let report =
        |more: &[&str]| efficienttrain(&[&["report", text(&out), "--out", text(&page)], more].concat());
    let said = report(&[]);
    assert!(said.status.success() && String::from_utf8_lossy(&said.stderr).contains("no such folder"));
    assert!(std::fs::read_to_string(&page).unwrap().contains("No images: "));
    assert!(report(&["--data", text(&moved)]).stderr.is_empty());
    assert!(std::fs::read_to_string(&page).unwrap().contains("data:image/png"));
    // An incomplete last line is still being written; another invalid one is an error.
    let file = out.join("log.jsonl");
    let whole = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{whole}{{\"event\":\"st")).unwrap();
    assert!(report(&["--images", "0"]).status.success());
    std::fs::write(&file, format!("{{\"event\":\"new\"}}\n{whole}")).unwrap();
    let said = report(&[]);
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("log.jsonl: line 1"));
    let said = efficienttrain(&["report", text(dir.path()), "--out", text(&page)]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("log.jsonl"));
}

/// Writes a report of a real run's log with changed numbers.
fn changed(out: &Path, change: impl Fn(&mut RunLog)) -> String {
    let mut log = RunLog::read(out).unwrap();
    let template = log.steps[0];
    let total = log.start.plan.total_steps;
    let ends: Vec<u64> = log
        .start
        .plan
        .stages
        .iter()
        .scan(0, |n, s| {
            *n += s.steps;
            Some(*n)
        })
        .collect();
    let stage = |step: u64| ends.iter().filter(|&&end| step >= end).count();
    let sizes: Vec<u32> = log.start.plan.stages.iter().map(|s| s.size).collect();
    // A healthy run: every step logged, decreasing loss, increasing accuracy.
    let quiet = |step: u64| efficienttrain::events::StepRecord {
        step,
        stage: stage(step),
        size: sizes[stage(step)],
        loss: 2.0 - step as f64 / total as f64,
        seconds: 1.0,
        data_seconds: 0.1,
        ..template
    };
    log.steps = (0..total).map(quiet).collect();
    let eval = log.evals[0].clone();
    log.evals = (1..=total)
        .map(|step| efficienttrain::events::EvalRecord {
            step,
            top1: 0.5 * step as f64 / total as f64,
            ema_top1: None,
            ..eval.clone()
        })
        .collect();
    log.bad_steps.clear();
    change(&mut log);
    let page = out.join("page.html");
    write(&page, &[Shown { log, images: Err("none".into()) }], None).unwrap();
    std::fs::read_to_string(page).unwrap()
}

#[test]
fn signs_of_trouble_are_named_with_their_stage() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), |config| config.epochs = 4.0);
    let out = dir.path();
    let quiet = changed(out, |_| ());
    assert!(quiet.contains("No problems found") && !quiet.contains("class=sign>"));
    let flat = changed(out, |log| {
        let small: u64 = log.start.plan.stages.iter().filter(|s| s.size == 16).map(|s| s.steps).sum();
        let top1 = 0.5 * (small / 2) as f64 / log.start.plan.total_steps as f64;
        log.evals.iter_mut().for_each(|eval| eval.top1 = eval.top1.min(top1));
    });
    assert!(
        flat.contains("<b>B = 16 (stages 1 to 2)</b>: top-1 went from")
            && flat.contains("too small for too long")
    );
    let with = |size: u32, change: fn(&mut efficienttrain::events::StepRecord)| {
        changed(out, |log| log.steps.iter_mut().filter(|s| s.size == size).for_each(change))
    };
    let rising = with(24, |s| s.loss = s.step as f64);
    assert!(
        rising.contains("<b>B = 24 (stages 3 to 6)</b>: the mean loss rose")
            && rising.contains("--lr-scaling sqrt")
    );
    let spike = changed(out, |log| log.steps[3].loss = 9.0);
    assert!(spike.contains("<b>B = 16 (stages 1 to 2)</b>: the loss went up to 9.000"));
    // Right after a change of size, the loss is that of weights trained at another size: this is no
    // problem, unless the loss exceeds that of the untrained network, or the peak recurs.
    let after_change = |losses: &'static [f64], later: Option<f64>| {
        changed(out, move |log| {
            let first = log.steps.iter().position(|s| s.size == 24).unwrap();
            log.steps[first..].iter_mut().for_each(|s| s.loss *= 0.4);
            log.steps[first..].iter_mut().zip(losses).for_each(|(s, &loss)| s.loss = loss);
            let last = log.steps.iter().rposition(|s| s.size == 24).unwrap();
            log.steps[last - 2].loss = later.unwrap_or(log.steps[last - 2].loss);
        })
    };
    assert!(!after_change(&[1.9, 1.5, 1.1], None).contains("class=sign>"));
    assert!(after_change(&[4.5, 1.5, 1.1], None).contains("the loss went up to 4.500"));
    assert!(after_change(&[1.9, 4.5, 1.1], None).contains("the loss went up to 4.500"));
    assert!(after_change(&[1.9, 1.5, 1.1], Some(1.8)).contains("the loss went up to 1.900"));
    let waiting = with(32, |s| s.data_seconds = 0.25);
    assert!(
        waiting.contains("<b>B = 32 (stages 7 to 10)</b>: 25% of the time in steps")
            && waiting.contains("--replay")
    );
    // At full size, an unstable loss is not specific to the method.
    assert!(!with(32, |s| s.loss = s.step as f64).contains("class=sign>"));
}
