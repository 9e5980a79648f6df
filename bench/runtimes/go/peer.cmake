# Go, of any version since 1.18.
find_program(STELLANE_BENCH_GO go)
if(STELLANE_BENCH_GO)
    execute_process(COMMAND ${STELLANE_BENCH_GO} env GOVERSION OUTPUT_VARIABLE go_version
                    OUTPUT_STRIP_TRAILING_WHITESPACE)
    file(GLOB go_sources CONFIGURE_DEPENDS runtimes/go/*.go runtimes/go/go.mod)
    # Without the network, and without a word of the user's own Go settings.
    add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/bench-go
                       COMMAND ${CMAKE_COMMAND} -E env GOFLAGS=-mod=mod GOPROXY=off GOWORK=off GO111MODULE=on
                               CGO_ENABLED=0 GOCACHE=${CMAKE_CURRENT_BINARY_DIR}/go-cache
                               ${STELLANE_BENCH_GO} build -buildvcs=false -o ${CMAKE_CURRENT_BINARY_DIR}/bench-go .
                       WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/runtimes/go
                       DEPENDS ${go_sources} COMMENT "Building the Go driver" VERBATIM)
    add_custom_target(bench-go-driver ALL DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/bench-go)
    bench_peer(go true "${go_version}")
else()
    bench_peer(go false "go not found (Debian: golang-go)")
endif()
