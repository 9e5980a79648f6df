# may, from its repository, with the crates that cargo has got for it before (`cargo fetch` there): nothing is downloaded. The
# package is put together in the build directory, as tokio's.
bench_root(MAY may src/coroutine_impl.rs)
find_program(STELLANE_BENCH_CARGO cargo)
if(MAY_FOUND AND STELLANE_BENCH_CARGO)
    file(STRINGS ${MAY_INCLUDE}/Cargo.toml may_version LIMIT_COUNT 1 REGEX "^version = ")
    string(REGEX REPLACE ".*\"(.*)\".*" "\\1" may_version "${may_version}")
    get_filename_component(may_tools ${STELLANE_BENCH_CARGO} DIRECTORY)
    set(may_build ${CMAKE_CURRENT_BINARY_DIR}/may)
    set(may_source ${CMAKE_CURRENT_SOURCE_DIR}/runtimes/may)
    configure_file(${may_source}/Cargo.toml.in ${may_build}/Cargo.toml @ONLY)
    file(GLOB may_sources CONFIGURE_DEPENDS ${may_source}/*.rs ${may_source}/../tokio/bench.rs)
    add_custom_command(
        OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/bench-may
        COMMAND ${CMAKE_COMMAND} -E env RUSTC=${may_tools}/rustc RUSTFLAGS=-Lnative=${CMAKE_CURRENT_BINARY_DIR}
                ${STELLANE_BENCH_CARGO} build --quiet --offline --release
        COMMAND ${CMAKE_COMMAND} -E copy ${may_build}/target/release/bench-may ${CMAKE_CURRENT_BINARY_DIR}/bench-may
        WORKING_DIRECTORY ${may_build}
        DEPENDS ${may_sources} ${may_build}/Cargo.toml bench-common
        COMMENT "Building the may driver" VERBATIM)
    add_custom_target(bench-may-driver ALL DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/bench-may)
    bench_peer(may true "may ${may_version}")
elseif(MAY_FOUND)
    bench_peer(may false "cargo not found (Debian: cargo)")
else()
    bench_peer(may false "no -DMAY_ROOT=DIR")
endif()
