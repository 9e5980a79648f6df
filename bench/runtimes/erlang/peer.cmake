# Erlang/OTP, compiled to byte code; its emulator compiles that once more where it can. bench-erlang is a script that starts it
# with as many schedulers as there are workers.
find_program(STELLANE_BENCH_ERL erl)
find_program(STELLANE_BENCH_ERLC erlc)
if(STELLANE_BENCH_ERL AND STELLANE_BENCH_ERLC)
    set(erlang_build ${CMAKE_CURRENT_BINARY_DIR}/erlang)
    set(erlang_source ${CMAKE_CURRENT_SOURCE_DIR}/runtimes/erlang)
    file(MAKE_DIRECTORY ${erlang_build})
    set(erlang_modules)
    foreach(module bench workloads)
        add_custom_command(OUTPUT ${erlang_build}/${module}.beam
                           COMMAND ${STELLANE_BENCH_ERLC} -Werror -o ${erlang_build} ${erlang_source}/${module}.erl
                           DEPENDS ${erlang_source}/${module}.erl COMMENT "Building ${module}.beam" VERBATIM)
        list(APPEND erlang_modules ${erlang_build}/${module}.beam)
    endforeach()
    add_custom_target(bench-erlang-driver ALL DEPENDS ${erlang_modules})
    configure_file(${erlang_source}/bench-erlang.in ${CMAKE_CURRENT_BINARY_DIR}/bench-erlang @ONLY
                   FILE_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
    execute_process(COMMAND ${STELLANE_BENCH_ERL} -noshell -noinput -eval
                            "io:format(\"~s, ~p\", [erlang:system_info(otp_release), erlang:system_info(emu_flavor)]), halt()."
                    OUTPUT_VARIABLE erlang_version)
    bench_peer(erlang true "Erlang/OTP ${erlang_version}")
else()
    bench_peer(erlang false "erl not found (Debian: erlang-base)")
endif()
