//! CUDA graphs: work for a GPU that is recorded once and launched as a whole.
//!
//! The processor takes some microseconds to launch a kernel, to allocate its output and to free it,
//! and as much again for the ops themselves. A recorded pass is launched by one call.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};

use super::memory_stats::{make_room, trim_graphs};
use crate::{Error, Result};

/// Recorded work of a GPU. Its memory stays at the same addresses: tensors that the work reads must
/// be kept, and those that it made are overwritten by each launch.
pub struct Graph {
    graph: Option<CudaGraph>,
    gpu: CudaDevice,
}

// SAFETY: the driver's graphs belong to no thread, but must not be used by two at once; nothing of
// one is reachable through a shared reference but a number.
unsafe impl Send for Graph {}
// SAFETY: as above; to launch one takes an exclusive reference.
unsafe impl Sync for Graph {}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph").finish_non_exhaustive()
    }
}

thread_local! {
    /// Whether the work of this thread is recorded.
    static RECORDING: Cell<bool> = const { Cell::new(false) };
}

/// An error if the work of this thread is recorded: numbers of the host are others at each launch.
pub(super) fn refuse_while_recording(bytes: usize) -> Result<()> {
    match RECORDING.get() {
        true => Err(refused(format!("a copy of {bytes} bytes from the host"))),
        false => Ok(()),
    }
}

impl Graph {
    /// Records the work that `work` queues on `device`, and launches it once. What `work` returns must
    /// be dropped before the graph.
    ///
    /// `work` must have run before, so that kernels are loaded and algorithms chosen, must not wait
    /// for the GPU, and must not free tensors that existed before.
    ///
    /// # Errors
    /// Those of `work`; also if it does what cannot be recorded, such as copying from the host, or if
    /// there is not enough memory. Nothing has changed then.
    pub fn record<T, E: From<Error>>(
        device: &Device,
        work: impl FnOnce() -> std::result::Result<T, E>,
    ) -> std::result::Result<(Self, T), E> {
        let Device::Cuda(gpu) = device else {
            return Err(Error::Device { what: "only the work of a GPU can be recorded".into() }.into());
        };
        // The graph takes as much as the pass before, which is kept for further tensors.
        make_room(device)?;
        let stream = gpu.cuda_stream();
        let driver = |e| E::from(Error::from(e));
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).w().map_err(driver)?;
        RECORDING.set(true);
        let made = work();
        RECORDING.set(false);
        // Tensors that nobody frees within the graph are freed and made again by each launch.
        let flags = sys::CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let ended = stream.end_capture(flags).w().map_err(driver);
        let made = made?;
        let checked = ended.and_then(|graph| {
            let graph = graph.ok_or_else(|| E::from(refused("a pass without any kernel".into())))?;
            check(&graph)?;
            let mut graph = Self { graph: Some(graph), gpu: gpu.clone() };
            graph.launch()?;
            Ok(graph)
        });
        match checked {
            Ok(graph) => Ok((graph, made)),
            Err(error) => {
                // Tensors that were never made cannot be freed either: the driver says so, and it
                // means nothing.
                drop(made);
                let _ = stream.context().check_err();
                Err(error)
            }
        }
    }

    /// Queues the work on its device.
    ///
    /// # Errors
    /// When the device is out of memory or does not work.
    pub fn launch(&mut self) -> Result<()> {
        match &self.graph {
            Some(graph) => Ok(graph.launch().w()?),
            None => Ok(()),
        }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.graph = None;
        // Its memory would be of no use to other tensors. Nothing is to be done about an error here.
        let _ = trim_graphs(&self.gpu);
    }
}

fn refused(what: String) -> Error {
    Error::Unsupported { op: "graph", what, supported: "kernels and copies within the GPU" }
}

/// An error if a graph copies from the memory of the host, which is someone else's by the time of the
/// next launch, or calls the host.
fn check(graph: &CudaGraph) -> Result<()> {
    use sys::CUgraphNodeType_enum::{CU_GRAPH_NODE_TYPE_HOST, CU_GRAPH_NODE_TYPE_MEMCPY};
    use sys::CUmemorytype_enum::CU_MEMORYTYPE_HOST;
    let mut count = 0;
    // SAFETY: without room for nodes the driver writes their number.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), null_mut(), &raw mut count).result().w()? };
    let mut nodes: Vec<sys::CUgraphNode> = vec![null_mut(); count];
    // SAFETY: there is room for as many nodes as `count` says.
    unsafe { sys::cuGraphGetNodes(graph.cu_graph(), nodes.as_mut_ptr(), &raw mut count).result().w()? };
    for &node in &nodes {
        let mut kind = sys::CUgraphNodeType_enum::CU_GRAPH_NODE_TYPE_EMPTY;
        // SAFETY: the node is one of the graph; the driver writes one of the kinds that it has.
        unsafe { sys::cuGraphNodeGetType(node, &raw mut kind).result().w()? };
        if kind == CU_GRAPH_NODE_TYPE_HOST {
            return Err(refused("a function of the host".into()));
        }
        if kind != CU_GRAPH_NODE_TYPE_MEMCPY {
            continue;
        }
        let mut copy = MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
        // SAFETY: the node is a copy, so the driver fills in all that describes one.
        let copy = unsafe {
            sys::cuGraphMemcpyNodeGetParams(node, copy.as_mut_ptr()).result().w()?;
            copy.assume_init()
        };
        if [copy.srcMemoryType, copy.dstMemoryType].contains(&CU_MEMORYTYPE_HOST) {
            return Err(refused(format!("a copy of {} bytes from or to the host", copy.WidthInBytes)));
        }
    }
    Ok(())
}
