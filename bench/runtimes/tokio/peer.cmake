# tokio, from Debian's packages of crates: nothing is downloaded, and no newer version than the distribution's is used. The
# package is put together in the build directory, so that neither cargo's lock file nor its output gets into the sources.
set(tokio_crates ${STELLANE_BENCH_CRATES} /usr/share/cargo/registry)
find_program(STELLANE_BENCH_CARGO cargo PATHS /usr/bin NO_DEFAULT_PATH)
find_program(STELLANE_BENCH_CARGO cargo)
file(GLOB tokio_versions ${tokio_crates}/tokio-1.*)
if(STELLANE_BENCH_CARGO AND tokio_versions)
    string(REGEX REPLACE ".*/tokio-" "" tokio_version "${tokio_versions}")
    get_filename_component(tokio_tools ${STELLANE_BENCH_CARGO} DIRECTORY)
    set(tokio_build ${CMAKE_CURRENT_BINARY_DIR}/tokio)
    set(tokio_source ${CMAKE_CURRENT_SOURCE_DIR}/runtimes/tokio)
    configure_file(${tokio_source}/Cargo.toml.in ${tokio_build}/Cargo.toml @ONLY)
    configure_file(${tokio_source}/config.toml.in ${tokio_build}/home/config.toml @ONLY)
    file(GLOB tokio_sources CONFIGURE_DEPENDS ${tokio_source}/*.rs)
    # cargo's output is kept apart by the manifest's time stamp only; RUSTFLAGS are the user's no more than GOFLAGS are.
    add_custom_command(
        OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/bench-tokio
        COMMAND ${CMAKE_COMMAND} -E env CARGO_HOME=${tokio_build}/home RUSTC=${tokio_tools}/rustc
                RUSTFLAGS=-Lnative=${CMAKE_CURRENT_BINARY_DIR} ${STELLANE_BENCH_CARGO} build --quiet --offline --release
        COMMAND ${CMAKE_COMMAND} -E copy ${tokio_build}/target/release/bench-tokio ${CMAKE_CURRENT_BINARY_DIR}/bench-tokio
        WORKING_DIRECTORY ${tokio_build}
        DEPENDS ${tokio_sources} ${tokio_build}/Cargo.toml bench-common
        COMMENT "Building the tokio driver" VERBATIM)
    add_custom_target(bench-tokio-driver ALL DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/bench-tokio)
    bench_peer(tokio true "tokio ${tokio_version}")
else()
    bench_peer(tokio false "cargo or the crate tokio not found (Debian: cargo, librust-tokio-dev)")
endif()
