//! Devices by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::util::string_serde::stored_as_text;

/// Device of a run: `cpu`, or a GPU as `cuda` or `cuda:1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The CPU.
    #[default]
    Cpu,
    /// The NVIDIA GPU with this index, counted from 0. Without one, the first GPU; of several
    /// processes on a machine, each has another one.
    Cuda(Option<usize>),
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let number = |digits: &str| digits.parse().ok();
        match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            None if text == "cuda" => Some(Self::Cuda(None)),
            Some(("cuda", digits)) => number(digits).map(|number| Self::Cuda(Some(number))),
            _ => None,
        }
        .ok_or_else(|| format!("expected `cpu`, `cuda` or `cuda:1`, got `{text}`"))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

stored_as_text!(DeviceName);

impl DeviceName {
    /// Returns the names of the CPU and all usable GPUs, or why there is none.
    pub fn found() -> Vec<String> {
        let mut devices = vec![Self::Cpu.to_string()];
        if cfg!(feature = "cuda") {
            let gpus = (0..).map(|number| (Self::Cuda(Some(number)), Self::Cuda(Some(number)).open()));
            for (name, opened) in gpus {
                match opened {
                    Ok(_) => devices.push(name.to_string()),
                    Err(e) if name == Self::Cuda(Some(0)) => {
                        devices.push(e.to_string());
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        devices
    }

    /// Returns the name of this kind of device.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda(_) => "cuda",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// Returns an error if it does not exist, or this build supports only the CPU.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => cuda(number.unwrap_or_else(crate::util::share::gpu)),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device> {
    efficienttrain_models::ops::cuda::device(number).map_err(|e| Error::config("device", e.to_string()))
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Device> {
    let what = format!(
        "this build of efficienttrain has no CUDA, so it cannot use cuda:{number}; build it with `cargo build --release \
         --features cuda` where NVIDIA's compiler is installed, or use `cpu`"
    );
    Err(Error::config("device", what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for (text, device) in [
            ("cpu", DeviceName::Cpu),
            ("cuda", DeviceName::Cuda(None)),
            ("cuda:3", DeviceName::Cuda(Some(3))),
        ] {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CUDA"] {
            assert!(text.parse::<DeviceName>().unwrap_err().contains("`cuda:1`"), "{text}");
        }
    }
}
