%% common/bench.h for Erlang: parameters, clocks, memory figures, percentiles and the form of a result line.
-module(bench).
-export([main/0, param/2, now_ns/0, start/0, stop/0, memory/0, map_lines/0, result/5, result_ns/2, fail/1, serve/1]).
-export([histogram/0, add/2, at/2, count/1, sleep_length/2]).

main() ->
    case init:get_plain_arguments() of
        [Workload | Parameters] ->
            persistent_term:put(workload, Workload),
            persistent_term:put(parameters, [string:split(P, "=") || P <- Parameters]),
            %% In a process of its own: this one is a part of the start-up, and waited for.
            spawn(fun() -> run(Workload) end);
        [] ->
            io:format(standard_error, "usage: bench-erlang workload [name=value ...]~n", []),
            halt(64)
    end.

run(Workload) ->
    try workloads:run(Workload) of
        _ -> halt(0)
    catch
        Class:Reason:Stack -> fail(io_lib:format("~p: ~p ~p", [Class, Reason, hd(Stack)]))
    end.

param(Name, Otherwise) ->
    case [Value || [N, Value] <- persistent_term:get(parameters), N =:= Name] of
        [Value | _] -> list_to_integer(Value);
        [] -> Otherwise
    end.

%% ---- clocks ----

now_ns() -> erlang:monotonic_time(nanosecond).

%% CPU time of all threads; those of the emulator do not end.
cpu_ns() ->
    {ok, Threads} = file:list_dir("/proc/self/task"),
    lists:sum([first_number("/proc/self/task/" ++ T ++ "/schedstat") || T <- Threads]).

first_number(Path) ->
    {ok, Text} = file:read_file(Path),
    {N, _} = string:to_integer(binary_to_list(Text)),
    N.

start() ->
    put(cpu, cpu_ns()),
    put(wall, now_ns()).

stop() ->
    Wall = now_ns() - get(wall),
    put(wall_ns, Wall),
    put(cpu_ns, cpu_ns() - get(cpu)),
    Wall.

%% ---- memory ----

status_bytes(Key) ->
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [N]} = re:run(Text, Key ++ ":\\s*([0-9]+) kB", [{capture, all_but_first, list}]),
    1024 * list_to_integer(N).

memory() -> status_bytes("VmRSS") + status_bytes("VmPTE").

map_lines() ->
    {ok, Text} = file:read_file("/proc/self/maps"),
    length(binary:matches(Text, <<"\n">>)).

%% ---- results ----

result(Metric, Unit, Value, Checksum, Operations) ->
    io:format("{\"workload\":\"~s\",\"runtime\":\"erlang\",\"metric\":\"~s\",\"value\":~.4f,\"unit\":\"~s\",\"checksum\":~b,"
              "\"operations\":~b,\"wall_ns\":~b,\"cpu_ns\":~b,\"peak_rss_bytes\":~b}~n",
              [persistent_term:get(workload), Metric, float(Value), Unit, Checksum, Operations, get(wall_ns), get(cpu_ns),
               status_bytes("VmHWM")]).

result_ns(Checksum, Operations) ->
    result("time", "ns", get(wall_ns) / Operations, Checksum, Operations).

fail(Reason) ->
    io:format("{\"error\":\"~s\"}~n", [[case lists:member(C, "\"\\\n") of true -> $'; false -> C end
                                         || C <- lists:flatten(Reason)]]),
    halt(1).

%% Says where the server listens, and ends the process as soon as stdin is closed.
serve(Port) ->
    start(),
    io:format("{\"port\":~b}~n", [Port]),
    eof = io:get_line(""),
    result("server", "s", stop() / 1.0e9, 0, 0),
    halt(0).

%% ---- percentiles: as in bench.c ----

histogram() -> counters:new(64 * 40, [write_concurrency]).

bits(V) when V < 2 -> V;
bits(V) -> 1 + bits(V bsr 1).

add(Histogram, Ns) when Ns < 128 -> counters:add(Histogram, 1 + Ns, 1);
add(Histogram, Ns) ->
    Shift = bits(Ns) - 7,
    counters:add(Histogram, 1 + Shift * 64 + (Ns bsr Shift), 1).

count(Histogram) -> lists:sum([counters:get(Histogram, B) || B <- lists:seq(1, 64 * 40)]).

%% Share 0.5: the median; 1: the greatest.
at(Histogram, Share) ->
    Count = count(Histogram),
    at(Histogram, min(Share * Count, Count - 1), 0, 0).

at(Histogram, Wanted, Bucket, Seen) ->
    case Seen + counters:get(Histogram, Bucket + 1) of
        More when More > Wanted, Bucket < 128 -> Bucket;
        More when More > Wanted ->
            Shift = Bucket div 64 - 1,
            ((64 + Bucket rem 64) bsl Shift) + (1 bsl Shift) div 2;
        More -> at(Histogram, Wanted, Bucket + 1, More)
    end.

%% How long process number I sleeps the K-th time, in ns.
sleep_length(I, K) ->
    Mask = 16#FFFFFFFFFFFFFFFF,
    A = ((I bsl 32) bor K) * 16#9E3779B97F4A7C15 band Mask,
    B = (A bxor (A bsr 29)) * 16#BF58476D1CE4E5B9 band Mask,
    1000000 + (B bxor (B bsr 32)) rem 98000001.
