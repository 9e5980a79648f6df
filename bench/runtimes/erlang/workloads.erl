%% bench-erlang: processes and messages. They share no memory, so there is no mutex; the channel is two mailboxes, where a
%% rendezvous is a message and its answer.
-module(workloads).
-export([run/1]).

run("yield") -> yield();
run("spawn-join") -> spawn_join();
run("spawn-all") -> spawn_all();
run("skynet") -> skynet();
run("fib") -> fib();
run("channel") -> channel();
run("parked") -> parked();
run("timers") -> timers();
run("fairness") -> fairness();
run("echo") -> echo();
run("start") -> ok;
run(Other) -> bench:fail("erlang has no workload '" ++ Other ++ "'").

%% The sum of what N processes send.
gather(N) -> gather(N, 0).
gather(0, Sum) -> Sum;
gather(N, Sum) -> receive Result -> gather(N - 1, Sum + Result) end.

%% ---- yield ----

yield() ->
    N = bench:param("fibers", 2),
    Each = bench:param("ops", 1000000) div N,
    Beside = beside(infinity),
    yield_round(N, Each div 10 + 1),
    bench:start(),
    Checksum = yield_round(N, Each),
    bench:stop(),
    end_beside(Beside),
    bench:result_ns(Checksum, N * Each).

yield_round(N, Each) ->
    Self = self(),
    [spawn(fun() -> Self ! yields(Each, 0) end) || _ <- lists:seq(1, N)],
    gather(N).

yields(0, Done) -> Done;
yields(Left, Done) ->
    erlang:yield(),
    yields(Left - 1, Done + 1).

%% ---- spawn and join ----

spawn_join() ->
    N = bench:param("ops", 1000000),
    Beside = beside(infinity),
    spawn_join_round(N div 10, 0),
    bench:start(),
    Checksum = spawn_join_round(N, 0),
    bench:stop(),
    end_beside(Beside),
    bench:result_ns(Checksum, N).

spawn_join_round(N, Sum) -> spawn_join_round(0, N, Sum).

spawn_join_round(N, N, Sum) -> Sum;
spawn_join_round(I, N, Sum) ->
    Self = self(),
    spawn(fun() -> Self ! I band 1023 end),
    spawn_join_round(I + 1, N, receive Result -> Sum + Result end).

spawn_all() ->
    N = bench:param("fibers", 10000),
    Rounds = bench:param("rounds", 20),
    spawn_all_round(N),
    bench:start(),
    Checksum = lists:sum([spawn_all_round(N) || _ <- lists:seq(1, Rounds)]),
    bench:stop(),
    bench:result_ns(Checksum, N * Rounds).

spawn_all_round(N) ->
    spawn_numbered(N, self()),
    gather(N).

spawn_numbered(0, _) -> ok;
spawn_numbered(N, Parent) ->
    spawn(fun() -> Parent ! (N - 1) band 1023 end),
    spawn_numbered(N - 1, Parent).

%% ---- skynet ----

skynet() ->
    Leaves = bench:param("leaves", 1000000),
    skynet_from(1000),
    bench:start(),
    Checksum = skynet_from(Leaves),
    Wall = bench:stop(),
    bench:result("time", "ms", Wall / 1.0e6, Checksum, Leaves).

skynet_from(Leaves) ->
    Self = self(),
    spawn(fun() -> skynet(Self, 0, Leaves) end),
    gather(1).

skynet(Parent, Number, 1) -> Parent ! Number;
skynet(Parent, Number, Leaves) ->
    Each = Leaves div 10,
    Self = self(),
    [spawn(fun() -> skynet(Self, Number + I * Each, Each) end) || I <- [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]],
    Parent ! gather(10).

%% ---- fib ----

fib() ->
    N = bench:param("n", 30),
    fib_of(N div 2),
    bench:start(),
    Checksum = fib_of(N),
    Wall = bench:stop(),
    bench:result("time", "ms", Wall / 1.0e6, Checksum, N).

fib_of(N) ->
    Self = self(),
    spawn(fun() -> fib(Self, N) end),
    gather(1).

fib(Parent, N) when N < 2 -> Parent ! N;
fib(Parent, N) ->
    Self = self(),
    spawn(fun() -> fib(Self, N - 1) end),
    spawn(fun() -> fib(Self, N - 2) end),
    Parent ! gather(2).

%% ---- channel ----

channel() ->
    N = bench:param("ops", 1000000),
    Partner = spawn_link(fun partner/0),
    Beside = beside(infinity),
    play(Partner, 0, N div 10, 0),
    bench:start(),
    Checksum = play(Partner, 0, N, 0),
    bench:stop(),
    end_beside(Beside),
    bench:result_ns(Checksum, N).

partner() ->
    receive {From, Ball} -> From ! {self(), Ball + 1} end,
    partner().

play(_, N, N, Sum) -> Sum;
play(Partner, I, N, Sum) ->
    Partner ! {self(), I},
    receive {Partner, Ball} -> play(Partner, I + 1, N, Sum + Ball) end.

%% ---- a million parked ----

parked() ->
    N = bench:param("fibers", 1000000),
    {Warm, _} = park_all(1000, infinity),
    wake_all(Warm),
    Before = bench:memory(),
    bench:start(),
    {All, Counts} = park_all(N, infinity),
    Create = bench:stop(),
    Memory = bench:memory() - Before,
    Lines = bench:map_lines(),
    bench:start(),
    wake_all(All),
    Wake = bench:stop(),
    Checksum = atomics:get(Counts, 1),
    bench:result("bytes", "B", Memory / N, Checksum, N),
    bench:result("create", "ns", Create / N, Checksum, N),
    bench:result("wake", "ns", Wake / N, Checksum, N),
    bench:result("map_lines", "lines", Lines, Checksum, N).

%% Patience: how long each waits, in ms, or infinity.
park_all(N, Patience) ->
    Counts = atomics:new(2, []), % woken, parked
    Self = self(),
    Park = fun() ->
        atomics:add(Counts, 2, 1),
        receive go -> ok
        after Patience -> bench:fail("a process that waited was not woken")
        end,
        case atomics:add_get(Counts, 1, 1) of
            N -> Self ! over;
            _ -> ok
        end
    end,
    All = [spawn(Park) || _ <- lists:seq(1, N)],
    wait_for(Counts, N),
    {All, Counts}.

wait_for(Counts, N) ->
    case atomics:get(Counts, 2) of
        N -> ok;
        _ -> erlang:yield(), wait_for(Counts, N)
    end.

wake_all([]) -> ok;
wake_all(All) ->
    [Pid ! go || Pid <- All],
    receive over -> ok end.

%% live=n: as many that wait beside what is measured.
beside(Patience) -> park_all(bench:param("live", 0), Patience).

end_beside({All, Counts}) ->
    case atomics:get(Counts, 1) of
        0 -> wake_all(All);
        _ -> bench:fail("processes that were to wait beside did not")
    end.

%% ---- timers: in whole milliseconds, rounded up ----

timers() ->
    N = bench:param("fibers", 5000),
    Window = bench:param("run_ms", 1500) * 1000000,
    Overshoots = bench:histogram(),
    Bounds = atomics:new(2, []), % the window: set when all have been started
    [atomics:put(Bounds, I, 1 bsl 62) || I <- [1, 2]],
    Beside = beside(3600000),
    Self = self(),
    [spawn_link(fun() -> Self ! sleeper(I, 0, Bounds, Overshoots) end) || I <- lists:seq(0, N - 1)],
    From = bench:now_ns() + 300000000,
    atomics:put(Bounds, 2, From + Window),
    atomics:put(Bounds, 1, From),
    sleep(From - bench:now_ns()),
    bench:start(),
    sleep(From + Window - bench:now_ns()),
    bench:stop(),
    Cpu = get(cpu_ns),
    gather(N),
    end_beside(Beside),
    Count = bench:count(Overshoots),
    bench:result("p50", "us", bench:at(Overshoots, 0.50) / 1.0e3, Count, Count),
    bench:result("p99", "us", bench:at(Overshoots, 0.99) / 1.0e3, Count, Count),
    bench:result("cpu", "us", Cpu / 1.0e3 / Count, Count, Count).

sleep(Ns) ->
    receive after max(0, (Ns + 999999) div 1000000) -> ok end.

sleeper(Number, K, Bounds, Overshoots) ->
    Before = bench:now_ns(),
    case Before >= atomics:get(Bounds, 2) of
        true -> 0;
        false ->
            Length = bench:sleep_length(Number, K),
            sleep(Length),
            Overshoot = bench:now_ns() - Before - Length,
            if
                Overshoot < 0 -> bench:fail("a sleep ended early");
                true -> ok
            end,
            case Before >= atomics:get(Bounds, 1) of
                true -> bench:add(Overshoots, Overshoot);
                false -> ok
            end,
            sleeper(Number, K + 1, Bounds, Overshoots)
    end.

%% ---- fairness ----

-define(WARM_UP, 0).
-define(MEASURED, 1).
-define(OVER, 2).

fairness() ->
    N = bench:param("fibers", 1000),
    Spin = bench:param("spin_us", 0) * 1000,
    Length = bench:param("run_ms", 1000) * 1000000,
    Phase = atomics:new(1, []),
    Lateness = bench:histogram(),
    Self = self(),
    [spawn_link(fun() -> Self ! take_turns(Phase, Spin, 0) end) || _ <- lists:seq(1, N)],
    tick(Length div 10, Phase, Lateness),
    atomics:put(Phase, 1, ?MEASURED),
    bench:start(),
    tick(Length, Phase, Lateness),
    Wall = bench:stop(),
    atomics:put(Phase, 1, ?OVER),
    Turns = gather(N),
    Ticks = bench:count(Lateness),
    bench:result("p50", "us", bench:at(Lateness, 0.50) / 1.0e3, Ticks, Ticks),
    bench:result("p99", "us", bench:at(Lateness, 0.99) / 1.0e3, Ticks, Ticks),
    bench:result("max", "us", bench:at(Lateness, 1) / 1.0e3, Ticks, Ticks),
    bench:result("turns", "/s", Turns * 1.0e9 / Wall, Ticks, Ticks).

take_turns(Phase, Spin, Turns) ->
    case atomics:get(Phase, 1) of
        ?OVER -> Turns;
        Now ->
            spin_until(bench:now_ns() + Spin),
            erlang:yield(),
            take_turns(Phase, Spin, case Now of ?MEASURED -> Turns + 1; ?WARM_UP -> Turns end)
    end.

spin_until(Until) ->
    case bench:now_ns() < Until of
        true -> spin_until(Until);
        false -> ok
    end.

tick(Length, Phase, Lateness) ->
    Now = bench:now_ns(),
    tick(Now, Now + Length, Phase, Lateness).

tick(Now, End, _, _) when Now >= End -> ok;
tick(Now, End, Phase, Lateness) ->
    sleep(1000000),
    case bench:now_ns() of
        Then when Then < Now + 1000000 -> bench:fail("a sleep ended early");
        Then ->
            case atomics:get(Phase, 1) of
                ?MEASURED -> bench:add(Lateness, Then - Now - 1000000);
                _ -> ok
            end,
            tick(Then, End, Phase, Lateness)
    end.

%% ---- echo ----

echo() ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {nodelay, true}, {backlog, 4096}]),
    {ok, Port} = inet:port(Listener),
    spawn_link(fun() -> accept(Listener) end),
    bench:serve(Port).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

%% Messages come by themselves, a hundred at a time before the next hundred is asked for: twice as fast as asking for each,
%% and still nobody can flood the process.
serve(Socket) ->
    case inet:setopts(Socket, [{active, 100}]) of
        ok -> answer(Socket);
        {error, _} -> gen_tcp:close(Socket)
    end.

answer(Socket) ->
    receive
        {tcp, Socket, Data} ->
            ok = gen_tcp:send(Socket, Data),
            answer(Socket);
        {tcp_passive, Socket} -> serve(Socket);
        {tcp_closed, Socket} -> ok;
        {tcp_error, Socket, _} -> gen_tcp:close(Socket)
    end.
