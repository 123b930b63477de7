//! Stand-in for the subset of the driver that a bundle uses: device memory is host memory, and launches go to kernels
//! that were compiled for the host.

pub mod runtime {
    pub mod sys {
        #[allow(non_camel_case_types, non_snake_case)]
        #[derive(Clone, Copy, Debug)]
        pub struct cudaDeviceProp {
            pub multiProcessorCount: std::os::raw::c_int,
        }
    }
}

pub mod driver {
    use std::ffi::{c_char, c_int, c_void, CString};
    use std::fmt;
    use std::sync::{Arc, Mutex};

    /// Runs kernel `name` over the grid; `n` pointers to the arguments and their widths. 0 where all is well.
    pub type Launcher = extern "C" fn(
        name: *const c_char, grid: u32, threads: u32, arguments: *const *const c_void, widths: *const c_int, n: c_int,
    ) -> c_int;

    static LAUNCHER: Mutex<Option<Launcher>> = Mutex::new(None);

    /// Where launches go from now on.
    pub fn set_launcher(launcher: Launcher) {
        *LAUNCHER.lock().unwrap() = Some(launcher);
    }

    pub struct DriverError(String);

    impl fmt::Debug for DriverError {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl fmt::Display for DriverError {
        fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::error::Error for DriverError {}

    pub struct CudaEvent;

    /// Memory of the device: an address to pass to kernels, behind which the numbers lie.
    pub struct CudaSlice<T> {
        numbers: Vec<T>,
        address: *const c_void,
    }

    unsafe impl<T: Send> Send for CudaSlice<T> {}
    unsafe impl<T: Sync> Sync for CudaSlice<T> {}

    impl<T> CudaSlice<T> {
        fn new(numbers: Vec<T>) -> Self {
            assert!(!numbers.is_empty(), "the driver allocates no empty memory");
            let address = numbers.as_ptr() as *const c_void;
            CudaSlice { numbers, address }
        }

        pub fn len(&self) -> usize {
            self.numbers.len()
        }

        pub fn is_empty(&self) -> bool {
            self.numbers.is_empty()
        }
    }

    impl<T: Clone> Clone for CudaSlice<T> {
        fn clone(&self) -> Self {
            CudaSlice::new(self.numbers.clone())
        }
    }

    pub unsafe trait DeviceRepr: Copy {}
    unsafe impl DeviceRepr for i32 {}
    unsafe impl DeviceRepr for u32 {}
    unsafe impl DeviceRepr for i64 {}
    unsafe impl DeviceRepr for u64 {}
    unsafe impl DeviceRepr for usize {}
    unsafe impl DeviceRepr for f32 {}
    unsafe impl DeviceRepr for f64 {}

    pub struct CudaModule;

    pub struct CudaFunction {
        name: CString,
    }

    impl CudaModule {
        pub fn load_function(self: &Arc<Self>, name: &str) -> Result<CudaFunction, DriverError> {
            CString::new(name).map(|name| CudaFunction { name }).map_err(|error| DriverError(error.to_string()))
        }
    }

    pub struct CudaStream;

    impl CudaStream {
        pub fn alloc_zeros<T: DeviceRepr + Default>(self: &Arc<Self>, n: usize) -> Result<CudaSlice<T>, DriverError> {
            Ok(CudaSlice::new(vec![T::default(); n]))
        }

        pub fn memcpy_stod<T: DeviceRepr>(self: &Arc<Self>, host: &(impl AsRef<[T]> + ?Sized)) -> Result<CudaSlice<T>, DriverError> {
            Ok(CudaSlice::new(host.as_ref().to_vec()))
        }

        pub fn memcpy_htod<T: DeviceRepr>(
            self: &Arc<Self>, host: &(impl AsRef<[T]> + ?Sized), slice: &mut CudaSlice<T>,
        ) -> Result<(), DriverError> {
            assert!(host.as_ref().len() <= slice.len());
            slice.numbers[..host.as_ref().len()].copy_from_slice(host.as_ref());
            Ok(())
        }

        pub fn memcpy_dtov<T: DeviceRepr>(self: &Arc<Self>, slice: &CudaSlice<T>) -> Result<Vec<T>, DriverError> {
            Ok(slice.numbers.clone())
        }

        pub fn memcpy_dtod<T: DeviceRepr>(
            self: &Arc<Self>, from: &CudaSlice<T>, to: &mut CudaSlice<T>,
        ) -> Result<(), DriverError> {
            to.numbers[..from.len()].copy_from_slice(&from.numbers);
            Ok(())
        }

        pub fn synchronize(&self) -> Result<(), DriverError> {
            Ok(())
        }

        pub fn launch_builder<'a>(&'a self, function: &'a CudaFunction) -> LaunchArgs<'a> {
            LaunchArgs { function, arguments: Vec::new(), widths: Vec::new() }
        }
    }

    #[derive(Clone, Copy, Debug)]
    pub struct LaunchConfig {
        pub grid_dim: (u32, u32, u32),
        pub block_dim: (u32, u32, u32),
        pub shared_mem_bytes: u32,
    }

    pub struct LaunchArgs<'a> {
        function: &'a CudaFunction,
        arguments: Vec<*const c_void>,
        widths: Vec<c_int>,
    }

    pub unsafe trait PushKernelArg<T> {
        fn arg(&mut self, arg: T) -> &mut Self;
    }

    unsafe impl<'a, 'b: 'a, T: DeviceRepr> PushKernelArg<&'b T> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b T) -> &mut Self {
            self.arguments.push(arg as *const T as *const c_void);
            self.widths.push(size_of::<T>() as c_int);
            self
        }
    }

    unsafe impl<'a, 'b: 'a, T> PushKernelArg<&'b CudaSlice<T>> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b CudaSlice<T>) -> &mut Self {
            self.arguments.push(&arg.address as *const *const c_void as *const c_void);
            self.widths.push(size_of::<*const c_void>() as c_int);
            self
        }
    }

    unsafe impl<'a, 'b: 'a, T> PushKernelArg<&'b mut CudaSlice<T>> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b mut CudaSlice<T>) -> &mut Self {
            self.arguments.push(&arg.address as *const *const c_void as *const c_void);
            self.widths.push(size_of::<*const c_void>() as c_int);
            self
        }
    }

    impl LaunchArgs<'_> {
        /// # Safety
        /// The arguments must be those of the kernel.
        pub unsafe fn launch(&mut self, config: LaunchConfig) -> Result<Option<(CudaEvent, CudaEvent)>, DriverError> {
            let launcher = LAUNCHER.lock().unwrap().expect("a launcher");
            let name = &self.function.name;
            let blocks = config.grid_dim.0 * config.grid_dim.1 * config.grid_dim.2;
            let n = self.arguments.len() as c_int;
            let status = launcher(
                name.as_ptr(), blocks, config.block_dim.0, self.arguments.as_ptr(), self.widths.as_ptr(), n,
            );
            match status {
                0 => Ok(None),
                1 => Err(DriverError(format!("no kernel {name:?}"))),
                _ => Err(DriverError(format!("{name:?} does not take these {n} arguments"))),
            }
        }
    }
}
