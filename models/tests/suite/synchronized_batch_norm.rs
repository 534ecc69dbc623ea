//! Batch norms of several processes, which are threads here, are one batch norm over all their
//! batches.

use std::sync::{Arc, Barrier, Mutex};

use candle_core::{Device, Tensor};
use efficienttrain_models::ops::{self, BatchStatistics, Processes, Traced};
use efficienttrain_models::{
    Backbone, Context, Gradients, Mode, ModelOptions, ParamStore, Variable, create_model,
};

/// One of several threads.
#[derive(Debug)]
struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    barrier: Barrier,
    given: Mutex<Vec<Vec<f64>>>,
}

impl Processes for Threads {
    fn gather(&self, numbers: Vec<f64>) -> efficienttrain_models::Result<Vec<Vec<f64>>> {
        self.meeting.given.lock().unwrap()[self.rank] = numbers;
        self.meeting.barrier.wait();
        let all = self.meeting.given.lock().unwrap().clone();
        // Before anyone gives the next.
        self.meeting.barrier.wait();
        Ok(all)
    }
}

/// Runs `work` on `ranks` threads, each with a thread pool of its own: one that waits for the others
/// must not keep them from working.
fn on_threads<T: Send>(ranks: usize, work: impl Fn(usize, Arc<dyn Processes>) -> T + Sync) -> Vec<T> {
    let given = Mutex::new(vec![Vec::new(); ranks]);
    let meeting = Arc::new(Meeting { barrier: Barrier::new(ranks), given });
    std::thread::scope(|scope| {
        let start = |rank: usize| {
            let (meeting, work) = (meeting.clone(), &work);
            scope.spawn(move || {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                pool.install(|| work(rank, Arc::new(Threads { rank, meeting })))
            })
        };
        let threads: Vec<_> = (0..ranks).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn numbers(t: &Tensor) -> Vec<f64> {
    t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A value, and the gradients of the input, the weight and the bias.
type Outcome = (Vec<f64>, Vec<Vec<f64>>);

fn filled(seed: usize, shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    let values: Vec<f64> = (0..n).map(|i| ((i * 37 + seed * 11) % 101) as f64 / 40.0 - 0.7).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn close(name: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{name}");
    let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off <= tolerance, "{name}: off by {off}");
}

/// Batches of other sizes, in double precision: value, running statistics and all gradients.
#[test]
fn batches_of_all_are_one_batch() {
    const C: usize = 5;
    let sizes = [1, 3, 2];
    let (all, dy) = (filled(1, &[6, 2, 2, C]), filled(2, &[6, 2, 2, C]));
    let (weight, bias) = (filled(3, &[C]), filled(4, &[C]));
    let run = |x: &Tensor, statistics: &BatchStatistics, dy: &Tensor| {
        let Traced { value, pullback, .. } =
            ops::batch_norm(x, &weight, &bias, None, true, statistics, true, 1e-5).unwrap();
        let grads = pullback(dy, &[true; 3]).unwrap();
        let grads: Vec<Vec<f64>> = grads.iter().map(|g| numbers(g.as_ref().unwrap())).collect();
        (numbers(&value), grads)
    };
    let whole_statistics = BatchStatistics::of(&all).unwrap();
    let whole = run(&all, &whole_statistics, &dy);
    let parts = on_threads(sizes.len(), |rank, processes| {
        let part = |t: &Tensor| {
            t.narrow(0, sizes[..rank].iter().sum(), sizes[rank]).unwrap().force_contiguous().unwrap()
        };
        let statistics = BatchStatistics::of_all(&part(&all), &processes).unwrap();
        close("mean", &numbers(&statistics.mean), &numbers(&whole_statistics.mean), 1e-12);
        close("variance", &numbers(&statistics.variance), &numbers(&whole_statistics.variance), 1e-12);
        assert_eq!(statistics.count, whole_statistics.count);
        run(&part(&all), &statistics, &part(&dy))
    });
    let joined = |of: &dyn Fn(&Outcome) -> Vec<f64>| parts.iter().flat_map(of).collect::<Vec<_>>();
    close("value", &joined(&|part| part.0.clone()), &whole.0, 1e-12);
    close("gradient of the input", &joined(&|part| part.1[0].clone()), &whole.1[0], 1e-12);
    for (i, name) in [(1, "weight"), (2, "bias")] {
        let mut sum = vec![0.0; C];
        parts.iter().for_each(|part| sum.iter_mut().zip(&part.1[i]).for_each(|(sum, g)| *sum += g));
        close(name, &sum, &whole.1[i], 1e-12);
    }
}

/// A whole network, with and without activation checkpointing, which takes the statistics twice.
#[test]
fn a_network_on_two_threads_is_that_on_all_images() {
    let options = ModelOptions { num_classes: 3, input_size: [32, 32], ..ModelOptions::default() };
    let model = create_model("resnet10", &options).unwrap();
    let images = filled(5, &[4, 32, 32, 3]).to_dtype(candle_core::DType::F32).unwrap();
    let targets =
        Tensor::new(&[[1f32, 0., 0.], [0., 1., 0.], [0., 0., 1.], [1., 0., 0.]], &Device::Cpu).unwrap();
    let gradients = |processes: Option<Arc<dyn Processes>>, first: usize, count: usize, checkpoint: bool| {
        let params = ParamStore::init(model.specs(), 3, candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut cx = Context::new(&params, Mode::Train { seed: 1, drop_path: 0.0 })
            .with_checkpointing(checkpoint)
            .with_processes(processes);
        let part = |t: &Tensor| t.narrow(0, first, count).unwrap().force_contiguous().unwrap();
        let logits = forward(&*model, &mut cx, &part(&images));
        let loss = ops::soft_cross_entropy(logits.tensor(), &part(&targets)).unwrap();
        let loss = cx.record(&[&logits], loss);
        let mut gradients = Gradients::new(params.len());
        let share = Tensor::new(count as f32 / 4.0, &Device::Cpu).unwrap();
        cx.backward(&loss, share, &mut gradients).unwrap();
        let all: Vec<f64> = gradients.iter().flat_map(|(_, g)| numbers(g)).collect();
        // Running statistics are those of all images, too.
        let running: Vec<f64> = params
            .iter()
            .filter(|(name, _)| name.contains("running"))
            .flat_map(|(_, t)| numbers(t))
            .collect();
        (all, running)
    };
    let (whole, running) = gradients(None, 0, 4, false);
    for checkpoint in [false, true] {
        let parts = on_threads(2, |rank, processes| gradients(Some(processes), 2 * rank, 2, checkpoint));
        let sum: Vec<f64> = parts[0].0.iter().zip(&parts[1].0).map(|(a, b)| a + b).collect();
        close("gradients", &sum, &whole, 2e-5);
        parts.iter().for_each(|part| close("running statistics", &part.1, &running, 1e-6));
        let alone = on_threads(1, |_, _| gradients(None, 0, 2, checkpoint)).remove(0);
        assert!(alone.1.iter().zip(&running).any(|(a, b)| (a - b).abs() > 1e-4), "half of the images differ");
    }
}

fn forward(model: &dyn Backbone, cx: &mut Context, images: &Tensor) -> Variable {
    model.forward(cx, &Variable::constant(images.clone())).unwrap()
}
