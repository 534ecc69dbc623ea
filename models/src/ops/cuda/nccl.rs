//! Sums over the GPUs of several processes, by NCCL.
//!
//! The library is loaded when it is first needed, so a program starts without it. NCCL has no time
//! limits and does not say which process is missing, so nothing here blocks: every wait is a loop
//! around a function of the caller, which gives up when it knows better. After a failure nothing is
//! torn down, since NCCL may wait forever for a process that is gone: memory that a sum may still
//! write to is never freed, and the process should end by [`exit_now`].
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::{ManuallyDrop, size_of};
use std::ptr::null_mut;
use std::sync::{Arc, LazyLock};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream};
use candle_core::{DType, Device, Tensor};
use libloading::Library;

use super::memory::{address, unsupported};
use crate::{Error, Result};

const OP: &str = "all_reduce";
/// Name of the library, which the system looks for.
const LIBRARY: &str = "libnccl.so.2";
/// First version whose communicators need not block.
const OLDEST: c_int = 21_400;
/// Marks a configuration of a communicator.
const MAGIC: u32 = 0xcafe_beef;

/// Result of a function of NCCL.
type Status = c_int;
const SUCCESS: Status = 0;
/// The work of a communicator that does not block is not done yet.
const IN_PROGRESS: Status = 7;

/// `ncclSum`.
const SUM: c_int = 0;
/// `ncclFloat32` and `ncclBfloat16`.
const F32: c_int = 7;
const BF16: c_int = 9;

/// `ncclUniqueId`.
#[derive(Clone, Copy)]
#[repr(C)]
struct UniqueId([c_char; 128]);

/// `ncclConfig_t` as of version 2.14, which later versions take as well.
#[repr(C)]
struct Config {
    size: usize,
    magic: u32,
    version: u32,
    blocking: c_int,
}

/// `ncclComm_t`.
type Comm = *mut c_void;

/// The functions of the library that are used here.
struct Api {
    unique_id: unsafe extern "C" fn(*mut UniqueId) -> Status,
    init: unsafe extern "C" fn(*mut Comm, c_int, UniqueId, c_int, *mut Config) -> Status,
    async_error: unsafe extern "C" fn(Comm, *mut Status) -> Status,
    all_reduce:
        unsafe extern "C" fn(*const c_void, *mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    last_error: unsafe extern "C" fn(Comm) -> *const c_char,
    version: c_int,
}

/// The library, or why it cannot be used.
static API: LazyLock<std::result::Result<Api, String>> = LazyLock::new(Api::load);

impl Api {
    fn load() -> std::result::Result<Self, String> {
        let missing = |e: libloading::Error| {
            let why = std::error::Error::source(&e).map_or(e.to_string(), ToString::to_string);
            format!(
                "NCCL cannot be used ({LIBRARY}: {why}); install it (package libnccl2 of the system, or nvidia-nccl-cu12 \
                 or nvidia-nccl-cu13 of Python) and add its folder to LD_LIBRARY_PATH"
            )
        };
        // SAFETY: what the library does when it is loaded is as safe as what CUDA's libraries do,
        // which this program is linked to. It is never unloaded.
        let library: &'static Library =
            Box::leak(Box::new(unsafe { Library::new(LIBRARY) }.map_err(missing)?));
        // SAFETY: `nccl.h` declares the functions with these types, the same in all versions 2.
        let api = unsafe {
            let version: unsafe extern "C" fn(*mut c_int) -> Status =
                *library.get(b"ncclGetVersion\0").map_err(missing)?;
            let mut number = 0;
            if version(&raw mut number) != SUCCESS || number < OLDEST {
                return Err(format!("NCCL {} is older than 2.14, which is needed", version_text(number)));
            }
            Self {
                unique_id: *library.get(b"ncclGetUniqueId\0").map_err(missing)?,
                init: *library.get(b"ncclCommInitRankConfig\0").map_err(missing)?,
                async_error: *library.get(b"ncclCommGetAsyncError\0").map_err(missing)?,
                all_reduce: *library.get(b"ncclAllReduce\0").map_err(missing)?,
                error_string: *library.get(b"ncclGetErrorString\0").map_err(missing)?,
                last_error: *library.get(b"ncclGetLastError\0").map_err(missing)?,
                version: number,
            }
        };
        Ok(api)
    }

    fn get() -> Result<&'static Self> {
        API.as_ref().map_err(|what| Error::Device { what: what.clone() })
    }

    /// Describes a failure of `doing`.
    fn failed(&self, doing: &str, status: Status) -> Error {
        // SAFETY: both functions return texts that stay, or null; the last error is that of all
        // communicators.
        let texts = unsafe { [(self.error_string)(status), (self.last_error)(null_mut())] };
        let text = |at: *const c_char| {
            // SAFETY: a text of the library, which ends with a zero.
            (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned())
        };
        let [what, detail] = texts.map(|at| text(at).unwrap_or_default());
        let detail = if detail.is_empty() { detail } else { format!(" ({})", detail.trim()) };
        let what = format!("NCCL: {doing}: {what}{detail}; with NCCL_DEBUG=WARN it says more");
        Error::Device { what }
    }
}

fn version_text(number: c_int) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

/// This process among those whose GPUs add up tensors. Each has a GPU of its own.
///
/// All processes must ask for the same sums in the same order.
#[derive(Debug)]
pub struct Nccl {
    comm: Comm,
    /// Stream of the tensors.
    compute: Arc<CudaStream>,
    /// Stream of the sums, so that they and the computations go on at the same time.
    stream: Arc<CudaStream>,
}

// SAFETY: a communicator may be used on any thread, by one at a time: all methods borrow it
// mutably.
unsafe impl Send for Nccl {}
// SAFETY: as above; there is nothing to do with a shared reference.
unsafe impl Sync for Nccl {}

/// Sum that is being computed. Dropped without a wait, it never gives its memory back.
#[derive(Debug)]
pub struct PendingReduction {
    flat: ManuallyDrop<Tensor>,
    /// Reached when the sum is there.
    done: CudaEvent,
}

impl Nccl {
    /// Returns the version of the library.
    ///
    /// # Errors
    /// Returns an error if it is not installed or too old.
    pub fn version() -> Result<String> {
        Ok(version_text(Api::get()?.version))
    }

    /// Creates the name of a new group of processes. One of them makes it and gives it to the
    /// others.
    ///
    /// # Errors
    /// Returns an error if the library is not installed, or finds no network interface.
    pub fn unique_id() -> Result<Vec<u8>> {
        let api = Api::get()?;
        let mut id = UniqueId([0; 128]);
        // SAFETY: writes 128 bytes.
        let status = unsafe { (api.unique_id)(&raw mut id) };
        match status {
            SUCCESS => Ok(id.0.map(|byte| byte as u8).to_vec()),
            other => Err(api.failed("no name for the group of processes", other)),
        }
    }

    /// Joins the group `id` of `size` processes as number `rank` with a GPU. While others are
    /// missing it calls `pause` again and again, and gives up when that fails.
    ///
    /// # Errors
    /// Returns an error if the device is no GPU or NCCL cannot connect it with the others; also
    /// that of `pause`.
    pub fn join<E: From<Error>>(
        device: &Device,
        id: &[u8],
        rank: usize,
        size: usize,
        pause: &mut dyn FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<Self, E> {
        let mut joined = Self::begin(device, id, rank, size)?;
        joined.settle("cannot connect the GPUs", IN_PROGRESS, pause)?;
        joined.check_sum(device, size, pause)?;
        Ok(joined)
    }

    /// Starts to join: the communicator is of use once its work has settled.
    fn begin(device: &Device, id: &[u8], rank: usize, size: usize) -> Result<Self> {
        let invalid = |what: &str| Error::Device { what: what.into() };
        let api = Api::get()?;
        let Device::Cuda(gpu) = device else { return Err(invalid("NCCL adds up on GPUs only")) };
        let id: [u8; 128] = id.try_into().map_err(|_| invalid("the name of an NCCL group has 128 bytes"))?;
        let number = |n: usize| c_int::try_from(n).map_err(|_| invalid("too many processes for NCCL"));
        let (rank, size) = (number(rank)?, number(size)?);
        let compute = gpu.cuda_stream();
        // NCCL takes the GPU of this thread.
        compute.context().bind_to_thread().w()?;
        let stream = compute.context().new_stream().w()?;
        let mut config =
            Config { size: size_of::<Config>(), magic: MAGIC, version: OLDEST as u32, blocking: 0 };
        let mut comm: Comm = null_mut();
        let id = UniqueId(id.map(|byte| byte as c_char));
        // SAFETY: the library writes a handle to `comm` and reads the configuration, whose size is
        // given in it.
        let status = unsafe { (api.init)(&raw mut comm, size, id, rank, &raw mut config) };
        match status {
            SUCCESS | IN_PROGRESS if !comm.is_null() => Ok(Self { comm, compute, stream }),
            other => Err(api.failed("cannot connect the GPUs", other)),
        }
    }

    /// Adds up ones, so that connections are there before they are needed, and known to be right.
    fn check_sum<E: From<Error>>(
        &mut self,
        device: &Device,
        size: usize,
        pause: &mut dyn FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let ones = Tensor::from_vec(vec![1f32; 64], 64, &Device::Cpu).and_then(|ones| ones.to_device(device));
        let sum = self.all_reduce(ones.map_err(Error::from)?, pause)?;
        let sum = self.wait(sum, pause)?.to_vec1::<f32>().map_err(Error::from)?;
        match sum.iter().find(|&&sum| sum != size as f32) {
            None => Ok(()),
            Some(wrong) => {
                let what = format!("NCCL adds up {size} ones to {wrong}; update driver and NCCL");
                Err(Error::Device { what }.into())
            }
        }
    }

    /// Starts to add up `flat` over all processes, in place and in its own type, `f32` or `bf16`. It
    /// begins after the work that was queued before, and goes on beside what is queued later. Its
    /// memory must be neither read nor written before [`Self::wait`] returns it.
    ///
    /// Calls `pause` while NCCL connects the GPUs in a new way, and gives up when that fails.
    ///
    /// # Errors
    /// Returns an error if the tensor is not contiguous or of another type, or NCCL fails; also
    /// that of `pause`.
    pub fn all_reduce<E: From<Error>>(
        &mut self,
        flat: Tensor,
        pause: &mut dyn FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<PendingReduction, E> {
        // From here on the library may write to it, whatever happens.
        let flat = ManuallyDrop::new(flat);
        let status = self.launch(&flat)?;
        // What has not been launched would not be waited for.
        self.settle("cannot add up", status, pause)?;
        let done = self.stream.record_event(None).w().map_err(Error::from)?;
        Ok(PendingReduction { flat, done })
    }

    fn launch(&mut self, flat: &Tensor) -> Result<Status> {
        let dtype = match flat.dtype() {
            DType::F32 => F32,
            DType::BF16 => BF16,
            other => return Err(unsupported(OP, other)),
        };
        let at = address(OP, flat)?;
        let filled = self.compute.record_event(None).w()?;
        self.stream.wait(&filled).w()?;
        let (from, to) = (at as *const c_void, at as *mut c_void);
        let (count, stream) = (flat.elem_count(), self.stream.cu_stream().cast());
        // SAFETY: the address is that of so many numbers of this type on the GPU of the
        // communicator, which stay until the sum has been waited for, or for good. The stream is of
        // the same GPU, and passes what fills them before.
        Ok(unsafe { (Api::get()?.all_reduce)(from, to, count, dtype, SUM, self.comm, stream) })
    }

    /// Waits for a sum and returns it. While it is not there, `pause` is called again and again; the
    /// wait ends when that fails.
    ///
    /// # Errors
    /// Returns an error if NCCL fails; also that of `pause`.
    pub fn wait<E: From<Error>>(
        &mut self,
        sum: PendingReduction,
        pause: &mut dyn FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<Tensor, E> {
        while !sum.done.try_is_complete().w().map_err(Error::from)? {
            self.state("cannot add up")?;
            pause()?;
        }
        // The stream has passed a sum that failed, too.
        self.state("cannot add up")?;
        Ok(ManuallyDrop::into_inner(sum.flat))
    }

    /// Waits until the communicator has done what it was asked for, with this first answer.
    fn settle<E: From<Error>>(
        &mut self,
        doing: &str,
        first: Status,
        pause: &mut dyn FnMut() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        match first {
            SUCCESS => return Ok(()),
            IN_PROGRESS => {}
            other => return Err(Api::get()?.failed(doing, other).into()),
        }
        while self.state(doing)? == IN_PROGRESS {
            pause()?;
        }
        Ok(())
    }

    /// Returns `SUCCESS` or `IN_PROGRESS`; anything else is an error.
    fn state(&mut self, doing: &str) -> Result<Status> {
        let (api, mut state) = (Api::get()?, SUCCESS);
        // SAFETY: the communicator lives as long as this, and a number is written.
        let asked = unsafe { (api.async_error)(self.comm, &raw mut state) };
        match (asked, state) {
            (SUCCESS, SUCCESS | IN_PROGRESS) => Ok(state),
            (SUCCESS, other) | (other, _) => Err(api.failed(doing, other)),
        }
    }
}

/// Ends the process at once, without anything that libraries do at its end: they may wait forever
/// for work of a GPU that another process should have taken part in.
pub fn exit_now(code: i32) -> ! {
    unsafe extern "C" {
        safe fn _exit(code: c_int) -> !;
    }
    _exit(code)
}
