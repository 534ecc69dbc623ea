//! Turns panics in image decoders into errors: they affect one image and not the whole run.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a decoder on untrusted bytes; a panic becomes an error with the panic's message.
pub(crate) fn catch<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    DECODING.set(true);
    let caught = catch_unwind(AssertUnwindSafe(decode));
    DECODING.set(false);
    caught.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Err(format!("the decoder fails on this file ({text}); convert it with another program"))
    })
}

/// Silences the panic hook for panics in image decoders, which are reported as errors with the name
/// of the image. Meant for programs; call it once at the start.
pub fn keep_decoder_panics_quiet() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !DECODING.get() {
            hook(info);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_what_it_said() {
        assert_eq!(catch(|| Ok(3)), Ok(3));
        assert_eq!(catch::<u8>(|| Err("no".into())), Err("no".into()));
        let said = catch::<u8>(|| panic!("index {} is out of bounds", 7)).unwrap_err();
        assert!(said.contains("index 7 is out of bounds"), "{said}");
        assert!(catch::<u8>(|| panic!("plain")).unwrap_err().contains("plain"));
    }
}
