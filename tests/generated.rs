//! Would catch a committed file that is not what its generator makes now.

use std::path::Path;
use std::process::Command;

/// What is called of the driver, by the exact names that its library exports.
const CALLS: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGetCount",
    "cuDeviceGet",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetStreamPriorityRange",
    "cuCtxSetCurrent",
    "cuMemGetInfo_v2",
    "cuModuleLoadDataEx",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemsetD8Async",
    "cuMemHostAlloc",
    "cuMemFreeHost",
    "cuMemHostGetDevicePointer_v2",
    "cuStreamCreateWithPriority",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamBeginCapture_v2",
    "cuStreamEndCapture",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuEventQuery",
    "cuEventSynchronize",
    "cuEventElapsedTime",
    "cuGraphInstantiateWithFlags",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphLaunch",
    "cuLaunchKernelEx",
];

/// Flags that are macros in cuda.h, or enums that no call names.
const FLAGS: &[&str] =
    &["CUstream_flags_enum", "CUevent_flags_enum", "CU_MEMHOSTALLOC_PORTABLE", "CU_MEMHOSTALLOC_DEVICEMAP"];

/// `LIBCLANG_PATH` and `CUDA_INCLUDE` (the folder of cuda.h) are set by `make bindings`.
fn builder() -> bindgen::Builder {
    let include = std::env::var("CUDA_INCLUDE").expect("CUDA_INCLUDE names the folder of cuda.h");
    // libclang comes without a compiler's own headers; gcc's serve.
    let gcc = Command::new("gcc").arg("-print-file-name=include").output().expect("gcc runs").stdout;
    bindgen::builder()
        .rust_target(bindgen::RustTarget::stable(85, 0).unwrap_or_default())
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Rustfmt)
        .rustfmt_configuration_file(Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("rustfmt.toml")))
        .clang_args(["-isystem", include.as_str(), "-isystem", String::from_utf8_lossy(&gcc).trim()])
        .default_enum_style(bindgen::EnumVariation::NewType { is_bitfield: false, is_global: false })
        .layout_tests(true)
        .generate_comments(false)
        .disable_header_comment()
}

/// Compares with what is committed; with `UPDATE=1` writes it.
fn committed(path: &str, builder: bindgen::Builder) {
    let made = builder.generate().expect("bindgen makes it").to_string();
    let at = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&at, &made).unwrap();
    }
    let same = std::fs::read_to_string(&at).is_ok_and(|committed| committed == made);
    assert!(same, "{path} is not what its header gives: make bindings UPDATE=1");
}

#[test]
#[ignore = "needs libclang and cuda.h: make bindings"]
fn driver_calls_are_those_of_cuda_h() {
    let mut builder = builder()
        .header_contents("driver.h", "#define __CUDA_API_VERSION_INTERNAL 1\n#include <cuda.h>\n")
        .raw_line("//! The CUDA driver's calls and their types, made by bindgen from cuda.h: `make bindings UPDATE=1`.")
        .raw_line("//! The library is opened at run time, so that a machine without a driver loads this one.")
        .raw_line("#![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, unsafe_code)]")
        .raw_line("#![allow(dead_code)] // a header's types come whole")
        .raw_line("#![allow(clippy::all)]")
        .dynamic_library_name("Calls")
        .dynamic_link_require_all(true)
        .wrap_unsafe_ops(true);
    for call in CALLS {
        builder = builder.allowlist_function(format!("^{call}$"));
    }
    for flags in FLAGS {
        builder = builder.allowlist_type(format!("^{flags}$")).allowlist_var(format!("^{flags}$"));
    }
    committed("src/driver/sys.rs", builder);
}

#[test]
#[ignore = "needs libclang: make bindings"]
fn kernel_arguments_are_those_of_args_h() {
    let builder = builder()
        .header(concat!(env!("CARGO_MANIFEST_DIR"), "/cuda/args.h"))
        .raw_line("//! What each kernel is given, made by bindgen from cuda/args.h, which says what it means: `make bindings UPDATE=1`.")
        .raw_line("#![allow(missing_docs, non_camel_case_types, non_upper_case_globals, dead_code)]")
        .raw_line("#![allow(clippy::all)]")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .derive_debug(false)
        .allowlist_file(".*/cuda/args.h")
        .blocklist_item("QWENTTS_ARGS_H");
    committed("src/cuda/args.rs", builder);
}

#[test]
fn the_c_header_is_what_src_ffi_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is read");
    let builder = cbindgen::Builder::new().with_config(config).with_src(root.join("src/ffi/mod.rs"));
    let mut made = Vec::new();
    builder.generate().expect("cbindgen makes it").write(&mut made);
    let at = root.join("include/qwentts.h");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&at, &made).unwrap();
    }
    let same = std::fs::read(&at).is_ok_and(|committed| committed == made);
    assert!(same, "include/qwentts.h is not what src/ffi gives: make header");
}
