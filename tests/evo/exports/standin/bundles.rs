//! All bundles of a build, and a C interface to call them.

use std::ffi::{c_char, c_void, CStr};

use tig_challenges::neuralnet_optimizer::{run, Entry};

// modules

/// Use the CUDA driver, or what stands in for it, of an open library from now on.
///
/// # Safety
/// See `cudarc::driver::open`.
#[no_mangle]
pub unsafe extern "C" fn standin_open_cuda(handle: *mut c_void) {
    cudarc::driver::open(handle);
}

/// Solve a challenge of a depth with bundle `number`, whose kernels are in the driver's module `module`.
/// `n`: of hyperparameters; -1: none are given.
///
/// # Safety
/// `keys` and `values` hold n entries.
#[no_mangle]
pub unsafe extern "C" fn standin_run(
    number: i32, depth: usize, keys: *const *const c_char, values: *const f64, n: i32, driver: extern "C" fn(),
    module: usize, processors: i32,
) -> i32 {
    let entry: Entry = match number {
        // entries
        _ => return 2,
    };
    let given = (n >= 0).then(|| {
        let mut map = serde_json::Map::new();
        for k in 0..n as usize {
            let key = CStr::from_ptr(*keys.add(k)).to_string_lossy().into_owned();
            map.insert(key, serde_json::Value::Number(*values.add(k)));
        }
        map
    });
    run(entry, depth, given, driver, module, processors)
}

#[no_mangle]
pub extern "C" fn standin_help(number: i32) {
    match number {
        // helps
        _ => {}
    }
}
