//! Stand-in for the challenge's types. Its training loop hands the three functions to a driver in another language, by
//! a C interface: the driver trains the network, and asks for states, queries and steps.

pub mod neuralnet_optimizer {
    use std::any::Any;
    use std::cell::RefCell;
    use std::panic::{catch_unwind, AssertUnwindSafe};
    use std::sync::Arc;

    use anyhow::Result;
    use cudarc::driver::{CudaModule, CudaSlice, CudaStream};
    use cudarc::runtime::sys::cudaDeviceProp;

    /// With the feature `double`, bundles that use all of this module's names compute in double precision.
    #[cfg(feature = "double")]
    #[allow(non_camel_case_types)]
    pub type f32 = f64;
    #[cfg(not(feature = "double"))]
    use std::primitive::f32;

    pub struct Challenge {
        pub num_hidden_layers: usize,
    }

    pub struct Solution;

    pub trait OptimizerStateTrait: Any + Send + Sync {
        fn as_any(&self) -> &dyn Any;
        fn as_any_mut(&mut self) -> &mut dyn Any;
        fn box_clone(&self) -> Box<dyn OptimizerStateTrait>;
    }

    pub type Init = fn(
        [u8; 32], &[usize], Arc<CudaStream>, Arc<CudaModule>, &cudaDeviceProp,
    ) -> Result<Box<dyn OptimizerStateTrait>>;
    pub type Query = fn(
        &dyn OptimizerStateTrait, &[CudaSlice<f32>], usize, Option<f32>, Option<f32>, Arc<CudaStream>, Arc<CudaModule>,
        &cudaDeviceProp,
    ) -> Result<Option<Vec<CudaSlice<f32>>>>;
    pub type Step = fn(
        &mut dyn OptimizerStateTrait, &[CudaSlice<f32>], &[CudaSlice<f32>], usize, Option<f32>, Option<f32>,
        Arc<CudaStream>, Arc<CudaModule>, &cudaDeviceProp,
    ) -> Result<Vec<CudaSlice<f32>>>;

    struct Loop {
        state: Option<Box<dyn OptimizerStateTrait>>,
        functions: Option<(Init, Query, Step)>,
        stream: Arc<CudaStream>,
        module: Arc<CudaModule>,
        prop: cudaDeviceProp,
        sizes: Vec<usize>,
        returned: Vec<CudaSlice<f32>>,
        message: String,
    }

    thread_local! {
        static DRIVER: RefCell<Option<extern "C" fn()>> = const { RefCell::new(None) };
        static LOOP: RefCell<Loop> = RefCell::new(Loop {
            state: None, functions: None, stream: Arc::new(CudaStream), module: Arc::new(CudaModule::new(0)),
            prop: cudaDeviceProp { multiProcessorCount: 2 }, sizes: Vec::new(), returned: Vec::new(),
            message: String::new(),
        });
    }

    /// The real one trains; this one lets the driver do it.
    #[allow(clippy::too_many_arguments)]
    pub fn training_loop(
        _challenge: &Challenge, _save_solution: &dyn Fn(&Solution) -> Result<()>, module: Arc<CudaModule>,
        stream: Arc<CudaStream>, prop: &cudaDeviceProp, init: Init, query: Query, step: Step,
    ) -> Result<()> {
        LOOP.with(|kept| {
            let mut kept = kept.borrow_mut();
            kept.functions = Some((init, query, step));
            (kept.module, kept.stream, kept.prop) = (module, stream, *prop);
        });
        DRIVER.with(|driver| driver.borrow().expect("a driver")());
        Ok(())
    }

    pub type Entry = fn(
        &Challenge, &dyn Fn(&Solution) -> Result<()>, &Option<serde_json::Map<String, serde_json::Value>>,
        Arc<CudaModule>, Arc<CudaStream>, &cudaDeviceProp,
    ) -> Result<()>;

    /// Call a bundle's entry, whose training loop calls `driver`. 0 where all is well.
    pub fn run(
        entry: Entry, depth: usize, given: Option<serde_json::Map<String, serde_json::Value>>, driver: extern "C" fn(),
        module: usize, processors: i32,
    ) -> i32 {
        DRIVER.with(|kept| *kept.borrow_mut() = Some(driver));
        guarded(|| {
            entry(
                &Challenge { num_hidden_layers: depth }, &|_| Ok(()), &given, Arc::new(CudaModule::new(module)),
                Arc::new(CudaStream), &cudaDeviceProp { multiProcessorCount: processors },
            )
        })
    }

    fn guarded(work: impl FnOnce() -> Result<()>) -> i32 {
        let message = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return 0,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_string(),
        };
        LOOP.with(|kept| kept.borrow_mut().message = message);
        1
    }

    /// The last error, into `text` of `size` bytes, ended by 0.
    #[no_mangle]
    pub unsafe extern "C" fn standin_message(text: *mut u8, size: usize) {
        LOOP.with(|kept| {
            let message = kept.borrow().message.clone();
            let n = message.len().min(size - 1);
            std::ptr::copy_nonoverlapping(message.as_ptr(), text, n);
            *text.add(n) = 0;
        })
    }

    #[no_mangle]
    pub unsafe extern "C" fn standin_init(seed: *const u8, sizes: *const usize, n: usize) -> i32 {
        let (mut own, sizes) = ([0u8; 32], std::slice::from_raw_parts(sizes, n).to_vec());
        own.copy_from_slice(std::slice::from_raw_parts(seed, 32));
        guarded(|| {
            let (functions, stream, module, prop) = parts();
            let state = functions.0(own, &sizes, stream, module, &prop)?;
            LOOP.with(|kept| {
                let mut kept = kept.borrow_mut();
                kept.state = Some(state);
                kept.sizes = sizes;
            });
            Ok(())
        })
    }

    fn parts() -> ((Init, Query, Step), Arc<CudaStream>, Arc<CudaModule>, cudaDeviceProp) {
        LOOP.with(|kept| {
            let kept = kept.borrow();
            (kept.functions.expect("functions"), kept.stream.clone(), kept.module.clone(), kept.prop)
        })
    }

    unsafe fn tensors(addresses: *const *const f32, sizes: &[usize], stream: &Arc<CudaStream>) -> Result<Vec<CudaSlice<f32>>> {
        let mut found = Vec::new();
        for (k, &size) in sizes.iter().enumerate() {
            found.push(stream.memcpy_stod(std::slice::from_raw_parts(*addresses.add(k), size))?);
        }
        Ok(found)
    }

    fn loss(value: f64) -> Option<f32> {
        if value.is_nan() { None } else { Some(value as f32) }
    }

    /// `clones`: whether the state is replaced by its clone first. `asks`: 1 where the query returned something.
    #[no_mangle]
    pub unsafe extern "C" fn standin_query(
        params: *const *const f32, epoch: usize, train_loss: f64, val_loss: f64, asks: *mut i32,
    ) -> i32 {
        guarded(|| {
            let (functions, stream, module, prop) = parts();
            let (state, sizes) = taken();
            let params = tensors(params, &sizes, &stream)?;
            let found = functions.1(&*state, &params, epoch, loss(train_loss), loss(val_loss), stream, module, &prop);
            let found = given_back(state, found)?;
            *asks = i32::from(found.is_some());
            LOOP.with(|kept| kept.borrow_mut().returned = found.unwrap_or_default());
            Ok(())
        })
    }

    #[no_mangle]
    pub unsafe extern "C" fn standin_step(
        params: *const *const f32, gradients: *const *const f32, epoch: usize, train_loss: f64, val_loss: f64,
    ) -> i32 {
        guarded(|| {
            let (functions, stream, module, prop) = parts();
            let (mut state, sizes) = taken();
            let (params, gradients) = (tensors(params, &sizes, &stream)?, tensors(gradients, &sizes, &stream)?);
            let found = functions.2(
                &mut *state, &params, &gradients, epoch, loss(train_loss), loss(val_loss), stream, module, &prop,
            );
            let found = given_back(state, found)?;
            LOOP.with(|kept| kept.borrow_mut().returned = found);
            Ok(())
        })
    }

    fn taken() -> (Box<dyn OptimizerStateTrait>, Vec<usize>) {
        LOOP.with(|kept| {
            let mut kept = kept.borrow_mut();
            (kept.state.take().expect("a state"), kept.sizes.clone())
        })
    }

    /// Keeps a clone of the state, as the real loop may.
    fn given_back<T>(state: Box<dyn OptimizerStateTrait>, found: Result<T>) -> Result<T> {
        LOOP.with(|kept| kept.borrow_mut().state = Some(state.box_clone()));
        found
    }

    /// How many tensors the last query or step returned, -1 where one has another size than it should.
    #[no_mangle]
    pub extern "C" fn standin_returned() -> i32 {
        LOOP.with(|kept| {
            let kept = kept.borrow();
            let fits = kept.returned.iter().zip(&kept.sizes).all(|(slice, &size)| slice.len() == size);
            if fits { kept.returned.len() as i32 } else { -1 }
        })
    }

    /// Copy the numbers of a returned tensor.
    #[no_mangle]
    pub unsafe extern "C" fn standin_copy(index: usize, numbers: *mut f32) -> i32 {
        guarded(|| {
            LOOP.with(|kept| {
                let kept = kept.borrow();
                let found = kept.stream.memcpy_dtov(&kept.returned[index])?;
                std::ptr::copy_nonoverlapping(found.as_ptr(), numbers, found.len());
                Ok(())
            })
        })
    }
}
