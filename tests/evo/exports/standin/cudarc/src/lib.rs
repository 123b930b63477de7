//! Stand-in for the subset of cudarc that a bundle uses, over CUDA's driver or a library with its functions.

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
    use std::ffi::{c_char, c_int, c_uchar, c_uint, c_void, CStr, CString};
    use std::fmt;
    use std::marker::PhantomData;
    use std::mem::size_of;
    use std::ptr::{null, null_mut};
    use std::sync::{Arc, OnceLock};

    type Dims = c_uint;

    /// The driver's functions. Each returns a status, 0 where all is well.
    struct Library {
        error_name: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
        allocate: unsafe extern "C" fn(*mut u64, usize) -> c_int,
        free: unsafe extern "C" fn(u64) -> c_int,
        fill: unsafe extern "C" fn(u64, c_uchar, usize) -> c_int,
        to_device: unsafe extern "C" fn(u64, *const c_void, usize) -> c_int,
        to_host: unsafe extern "C" fn(*mut c_void, u64, usize) -> c_int,
        on_device: unsafe extern "C" fn(u64, u64, usize) -> c_int,
        function: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, *const c_char) -> c_int,
        parameter: unsafe extern "C" fn(*mut c_void, usize, *mut usize, *mut usize) -> c_int,
        launch: unsafe extern "C" fn(
            *mut c_void, Dims, Dims, Dims, Dims, Dims, Dims, c_uint, *mut c_void, *const *const c_void,
            *const *const c_void,
        ) -> c_int,
        synchronize: unsafe extern "C" fn() -> c_int,
    }

    static LIBRARY: OnceLock<Library> = OnceLock::new();

    extern "C" {
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }

    /// Take the driver's functions from a library that is open. The first one stays.
    ///
    /// # Safety
    /// `handle` is of a library whose functions of these names are the driver's.
    pub unsafe fn open(handle: *mut c_void) {
        LIBRARY.get_or_init(|| Library {
            error_name: symbol(handle, c"cuGetErrorName"),
            allocate: symbol(handle, c"cuMemAlloc_v2"),
            free: symbol(handle, c"cuMemFree_v2"),
            fill: symbol(handle, c"cuMemsetD8_v2"),
            to_device: symbol(handle, c"cuMemcpyHtoD_v2"),
            to_host: symbol(handle, c"cuMemcpyDtoH_v2"),
            on_device: symbol(handle, c"cuMemcpyDtoD_v2"),
            function: symbol(handle, c"cuModuleGetFunction"),
            parameter: symbol(handle, c"cuFuncGetParamInfo"),
            launch: symbol(handle, c"cuLaunchKernel"),
            synchronize: symbol(handle, c"cuCtxSynchronize"),
        });
    }

    unsafe fn symbol<F>(handle: *mut c_void, name: &CStr) -> F {
        let address = dlsym(handle, name.as_ptr());
        assert!(!address.is_null(), "the driver has no {name:?}");
        std::mem::transmute_copy(&address)
    }

    fn library() -> &'static Library {
        LIBRARY.get().expect("a driver")
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

    fn checked(status: c_int, what: impl fmt::Display) -> Result<(), DriverError> {
        if status == 0 {
            return Ok(());
        }
        let mut name = null();
        let known = unsafe { (library().error_name)(status, &mut name) } == 0 && !name.is_null();
        let name = if known { unsafe { CStr::from_ptr(name) }.to_string_lossy() } else { "unknown".into() };
        Err(DriverError(format!("{what}: error {status} of the driver, {name}")))
    }

    pub struct CudaEvent;

    /// Memory of the device.
    pub struct CudaSlice<T> {
        address: u64,
        length: usize,
        numbers: PhantomData<T>,
    }

    impl<T> CudaSlice<T> {
        fn new(length: usize) -> Result<Self, DriverError> {
            assert!(length > 0, "the driver allocates no empty memory");
            let mut address = 0;
            checked(unsafe { (library().allocate)(&mut address, length * size_of::<T>()) }, "to allocate memory")?;
            Ok(CudaSlice { address, length, numbers: PhantomData })
        }

        pub fn len(&self) -> usize {
            self.length
        }

        pub fn is_empty(&self) -> bool {
            self.length == 0
        }

        fn bytes(&self) -> usize {
            self.length * size_of::<T>()
        }
    }

    impl<T> Clone for CudaSlice<T> {
        fn clone(&self) -> Self {
            let copy = CudaSlice::new(self.length).unwrap();
            checked(unsafe { (library().on_device)(copy.address, self.address, self.bytes()) }, "to clone").unwrap();
            copy
        }
    }

    impl<T> Drop for CudaSlice<T> {
        fn drop(&mut self) {
            unsafe { (library().free)(self.address) };
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

    /// Kernels that the driver has loaded.
    pub struct CudaModule {
        handle: usize,
    }

    pub struct CudaFunction {
        handle: *mut c_void,
        name: CString,
    }

    impl CudaModule {
        pub fn new(handle: usize) -> Self {
            CudaModule { handle }
        }

        pub fn load_function(self: &Arc<Self>, name: &str) -> Result<CudaFunction, DriverError> {
            let name = CString::new(name).map_err(|error| DriverError(error.to_string()))?;
            let mut handle = null_mut();
            let status = unsafe { (library().function)(&mut handle, self.handle as *mut c_void, name.as_ptr()) };
            checked(status, format_args!("to find the kernel {name:?}"))?;
            Ok(CudaFunction { handle, name })
        }
    }

    pub struct CudaStream;

    impl CudaStream {
        pub fn alloc_zeros<T: DeviceRepr>(self: &Arc<Self>, n: usize) -> Result<CudaSlice<T>, DriverError> {
            let slice = CudaSlice::new(n)?;
            checked(unsafe { (library().fill)(slice.address, 0, slice.bytes()) }, "to fill memory")?;
            Ok(slice)
        }

        pub fn memcpy_stod<T: DeviceRepr>(self: &Arc<Self>, host: &(impl AsRef<[T]> + ?Sized)) -> Result<CudaSlice<T>, DriverError> {
            let mut slice = CudaSlice::new(host.as_ref().len())?;
            self.memcpy_htod(host, &mut slice)?;
            Ok(slice)
        }

        pub fn memcpy_htod<T: DeviceRepr>(
            self: &Arc<Self>, host: &(impl AsRef<[T]> + ?Sized), slice: &mut CudaSlice<T>,
        ) -> Result<(), DriverError> {
            let host = host.as_ref();
            assert!(host.len() <= slice.len());
            let bytes = std::mem::size_of_val(host);
            checked(unsafe { (library().to_device)(slice.address, host.as_ptr() as *const c_void, bytes) }, "to copy")
        }

        pub fn memcpy_dtov<T: DeviceRepr + Default>(self: &Arc<Self>, slice: &CudaSlice<T>) -> Result<Vec<T>, DriverError> {
            let mut host = vec![T::default(); slice.len()];
            let to = host.as_mut_ptr() as *mut c_void;
            checked(unsafe { (library().to_host)(to, slice.address, slice.bytes()) }, "to copy back")?;
            Ok(host)
        }

        pub fn memcpy_dtod<T: DeviceRepr>(
            self: &Arc<Self>, from: &CudaSlice<T>, to: &mut CudaSlice<T>,
        ) -> Result<(), DriverError> {
            assert!(from.len() <= to.len());
            checked(unsafe { (library().on_device)(to.address, from.address, from.bytes()) }, "to copy on the device")
        }

        pub fn synchronize(&self) -> Result<(), DriverError> {
            checked(unsafe { (library().synchronize)() }, "to synchronize")
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
        widths: Vec<usize>,
    }

    pub unsafe trait PushKernelArg<T> {
        fn arg(&mut self, arg: T) -> &mut Self;
    }

    unsafe impl<'a, 'b: 'a, T: DeviceRepr> PushKernelArg<&'b T> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b T) -> &mut Self {
            self.push(arg)
        }
    }

    unsafe impl<'a, 'b: 'a, T> PushKernelArg<&'b CudaSlice<T>> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b CudaSlice<T>) -> &mut Self {
            self.push(&arg.address)
        }
    }

    unsafe impl<'a, 'b: 'a, T> PushKernelArg<&'b mut CudaSlice<T>> for LaunchArgs<'a> {
        fn arg(&mut self, arg: &'b mut CudaSlice<T>) -> &mut Self {
            self.push(&arg.address)
        }
    }

    impl LaunchArgs<'_> {
        fn push<T>(&mut self, arg: &T) -> &mut Self {
            self.arguments.push(arg as *const T as *const c_void);
            self.widths.push(size_of::<T>());
            self
        }

        /// Launch and wait, so that what a kernel does wrong is told with its name.
        ///
        /// # Safety
        /// The arguments must be those of the kernel.
        pub unsafe fn launch(&mut self, config: LaunchConfig) -> Result<Option<(CudaEvent, CudaEvent)>, DriverError> {
            let CudaFunction { handle, name } = self.function;
            let expected = widths(*handle);
            if self.widths != expected {
                return Err(DriverError(format!("{name:?} takes arguments of {expected:?} bytes, not {:?}", self.widths)));
            }
            let ((x, y, z), (threads_x, threads_y, threads_z)) = (config.grid_dim, config.block_dim);
            let status = (library().launch)(
                *handle, x, y, z, threads_x, threads_y, threads_z, config.shared_mem_bytes, null_mut(),
                self.arguments.as_ptr(), null(),
            );
            checked(status, format_args!("to launch {name:?}"))?;
            checked((library().synchronize)(), format_args!("in {name:?}"))?;
            Ok(None)
        }
    }

    /// Bytes of each parameter of a kernel.
    unsafe fn widths(function: *mut c_void) -> Vec<usize> {
        let (mut found, mut offset, mut size) = (Vec::new(), 0, 0);
        while (library().parameter)(function, found.len(), &mut offset, &mut size) == 0 {
            found.push(size);
        }
        found
    }
}
