// CUDA's driver, as far as bundles and their users need it: device memory is host memory, a module has all kernels, and
// a launch runs one of them on the CPU.
struct Kernel { Go* go; std::vector<size_t> widths; bool alone; };  // alone: it has barriers
static const std::map<std::string, Kernel> KERNELS = {
    // kernels
};
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500 };
static char context;

extern "C" {

int cuInit(unsigned) { return SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = 0, SUCCESS; }
int cuDeviceGet(int* device, int) { return *device = 0, SUCCESS; }
int cuDeviceGetName(char* name, int size, int) { return strncpy(name, "the CPU", size), SUCCESS; }
int cuDeviceGetAttribute(int* value, int, int) { return *value = 2, SUCCESS; }
int cuDevicePrimaryCtxRetain(void** found, int) { return *found = &context, SUCCESS; }
int cuCtxSetCurrent(void* current) { return current == &context ? SUCCESS : INVALID_VALUE; }
int cuCtxSynchronize() { return SUCCESS; }

int cuGetErrorName(int status, const char** name) {
    *name = status == OUT_OF_MEMORY ? "OUT_OF_MEMORY" : status == NOT_FOUND ? "NOT_FOUND" : "INVALID_VALUE";
    return SUCCESS;
}

int cuMemAlloc_v2(void** address, size_t bytes) {
    *address = bytes ? malloc(bytes) : nullptr;
    if (!*address) return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
    memset(*address, 0xff, bytes);  // NaN, for those who forget to fill it
    return SUCCESS;
}

int cuMemFree_v2(void* address) { return free(address), SUCCESS; }
int cuMemsetD8_v2(void* address, unsigned char value, size_t bytes) { return memset(address, value, bytes), SUCCESS; }
int cuMemcpyHtoD_v2(void* to, const void* from, size_t bytes) { return memcpy(to, from, bytes), SUCCESS; }
int cuMemcpyDtoH_v2(void* to, const void* from, size_t bytes) { return memcpy(to, from, bytes), SUCCESS; }
int cuMemcpyDtoD_v2(void* to, const void* from, size_t bytes) { return memcpy(to, from, bytes), SUCCESS; }

int cuModuleLoadDataEx(void** module, const void*, unsigned, const int*, void**) { return *module = &context, SUCCESS; }

int cuModuleGetFunction(const Kernel** function, void*, const char* name) {
    const auto found = KERNELS.find(name);
    if (found == KERNELS.end()) return NOT_FOUND;
    *function = &found->second;
    return SUCCESS;
}

int cuFuncGetParamInfo(const Kernel* function, size_t number, size_t* offset, size_t* bytes) {
    if (number >= function->widths.size()) return INVALID_VALUE;
    *offset = 0;
    *bytes = function->widths[number];
    return SUCCESS;
}

int cuLaunchKernel(const Kernel* function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                   unsigned, void*, const void* const* arguments, void**) {
    function->go(arguments, blocks, function->alone ? 1 : threads);
    return SUCCESS;
}

}
